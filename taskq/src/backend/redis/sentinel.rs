//! Sentinels: they know the address of the primary, and announce a new one.
//!
//! The address is asked for at each connect, from a Sentinel at random, then from the others. A lookout subscribes to
//! the announcements of one Sentinel, so that an old primary is left at once: it may take writes for ten seconds more,
//! which are thrown away when it becomes a replica.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::dial::Dialer;
use super::refusal::{self, DialError};
use super::timing::{PING_INTERVAL, in_time};
use crate::io;
use crate::tls::TlsOptions;

/// The time for the answer of one Sentinel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The time for which a Sentinel that still names the old primary after a switch is not believed: they learn of it one
/// after another.
const STALE_FOR: Duration = Duration::from_secs(15);

/// The pause of a lookout that found no Sentinel.
const LOOKOUT_PAUSE: Duration = Duration::from_secs(1);

/// The port of Sentinels that name none.
const PORT: u16 = 26379;

const FORM: &str = "write redis+sentinel://user:password@h1:26379,h2:26379,h3:26379/NAME/0, and behind it \
                    ?sentinel_password=… if the Sentinels want one";

/// A server, as Sentinels name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedServer {
    host: String,
    port: u16,
}

/// The switch from one primary to another.
struct Switch {
    from: NamedServer,
    to: NamedServer,
    at: Instant,
    /// Whether nobody has tried the new primary yet.
    is_new: bool,
}

/// The Sentinels of one primary.
pub(super) struct Sentinels {
    /// The way to each, with the form in which it is shown.
    each: Vec<(String, Dialer)>,
    name: String,
    /// The user and the database of the primary.
    login: Dialer,
    latest: Mutex<Option<Switch>>,
}

impl NamedServer {
    /// Whether this is the server that the dialer leads to.
    pub(super) fn is_of(&self, dialer: &Dialer) -> bool {
        dialer.leads_to(&self.host, self.port)
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels").field("each", &self.each).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Understands a URL of Sentinels; `None` if it is another URL.
pub(super) fn parse(url: &str) -> Option<Result<Sentinels, DialError>> {
    let (scheme, rest) = url.split_once(':')?;
    match scheme {
        "redis+sentinel" => Some(rest.strip_prefix("//").ok_or_else(|| unusable("it has no //")).and_then(parse_rest)),
        "sentinel" => Some(Err(unusable("Celery's form of it is not understood"))),
        _ => None,
    }
}

fn unusable(why: &str) -> DialError {
    DialError::Unfit(format!("{why}; {FORM}"))
}

fn parse_rest(rest: &str) -> Result<Sentinels, DialError> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let (name, database) = path.split_once('/').unwrap_or((path, "0"));
    // The names that Sentinel takes.
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(unusable("it does not name the primary, as `sentinel monitor NAME …` does"));
    }
    let (mut username, mut password) = ("", "");
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sentinel_username", value)) => username = value,
            Some(("sentinel_password", value)) => password = value,
            _ => return Err(unusable("it has a parameter that is neither sentinel_username nor sentinel_password")),
        }
    }
    // Each would end the user or the password in the URLs below.
    if [user, username, password].iter().any(|secret| secret.contains(['@', '/', '#', '?', ',', ' '])) {
        return Err(unusable("a user or password has a character that must be percent-encoded"));
    }
    let database = if database.is_empty() { "0" } else { database };
    let at = if user.is_empty() { "" } else { "@" };
    let login = Dialer::new(&format!("redis://{user}{at}primary/{database}"))
        .map_err(|_| unusable("its user, password or database is wrong"))?;
    let own_login = if password.is_empty() { String::new() } else { format!("{username}:{password}@") };
    let mut each = Vec::new();
    for host in hosts.split(',').map(str::trim) {
        let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let shown = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
        // The parser would take an absent host for this machine.
        let dialer = if host.is_empty() || host.starts_with(':') {
            None
        } else {
            Dialer::new(&format!("redis://{own_login}{shown}/0")).ok()
        };
        each.push((
            shown,
            dialer.ok_or_else(|| unusable("one of its hosts, or the login of the Sentinels, is wrong"))?,
        ));
    }
    Ok(Sentinels { each, name: name.to_owned(), login, latest: Mutex::new(None) })
}

impl Sentinels {
    /// These Sentinels, over encrypted connections if there are options for them.
    pub(super) fn encrypted(self, tls: Option<&TlsOptions>) -> Self {
        let each = self.each.into_iter().map(|(shown, dialer)| (shown, dialer.encrypted(tls.cloned()))).collect();
        Self { each, login: self.login.encrypted(tls.cloned()), ..self }
    }

    /// The address of the primary at this moment.
    pub(super) async fn primary(&self) -> Result<Dialer, DialError> {
        let announced = self.latest().as_mut().and_then(|switch| {
            let is_new = std::mem::replace(&mut switch.is_new, false);
            is_new.then(|| switch.to.clone())
        });
        if let Some(NamedServer { host, port }) = announced {
            return Ok(self.login.to(&host, port));
        }
        let mut fault = None;
        for (shown, sentinel) in self.all_from_any() {
            match self.ask(sentinel).await {
                Ok(Some(place)) if self.was_left(&place) => {
                    fault
                        .get_or_insert(DialError::Nowhere(format!("the Sentinel {shown} still names the old primary")));
                }
                Ok(Some(NamedServer { host, port })) => return Ok(self.login.to(&host, port)),
                Ok(None) => fault = Some(self.unknown(shown)),
                Err(error) => {
                    fault.get_or_insert_with(|| refusal::of_sentinel(shown, &error));
                }
            }
        }
        Err(fault.expect("there is at least one Sentinel"))
    }

    fn unknown(&self, shown: &str) -> DialError {
        let name = &self.name;
        DialError::Unfit(format!(
            "the Sentinel {shown} knows no primary {name:?}; write the name that its configuration has behind \
             `sentinel monitor`"
        ))
    }

    /// All Sentinels, from one at random on.
    fn all_from_any(&self) -> impl Iterator<Item = &(String, Dialer)> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a small index")]
        let first = (io::jitter() * self.each.len() as f64) as usize;
        self.each.iter().cycle().skip(first).take(self.each.len())
    }

    /// Asks one Sentinel for the primary; `None` if it knows none of this name.
    async fn ask(&self, sentinel: &Dialer) -> Result<Option<NamedServer>, DialError> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.name);
        let asked = async {
            let mut line = sentinel.commands().await?;
            question.query_async::<Option<(String, u16)>>(&mut line.connection).await
        };
        let named = in_time(ANSWER_TIMEOUT, asked).await?;
        Ok(named.map(|(host, port)| NamedServer { host, port }))
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, Option<Switch>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to one Sentinel after another, and tells of each primary that is announced.
    pub(super) async fn look_out(self: Arc<Self>, news: watch::Sender<Option<NamedServer>>) {
        loop {
            for (shown, sentinel) in self.all_from_any() {
                if let Err(error) = self.listen(sentinel, &news).await {
                    tracing::debug!(sentinel = shown, %error, "a Sentinel does not tell of new primaries");
                }
            }
            sleep(LOOKOUT_PAUSE).await;
        }
    }

    /// Listens to one Sentinel until it goes away.
    async fn listen(&self, sentinel: &Dialer, news: &watch::Sender<Option<NamedServer>>) -> Result<(), DialError> {
        let subscribed = async {
            let mut pubsub = sentinel.pubsub().await?;
            pubsub.subscribe("+switch-master").await?;
            Ok(pubsub)
        };
        let (mut sink, mut messages) = in_time(ANSWER_TIMEOUT, subscribed).await?.split();
        // A switch before this is not announced any more.
        if let Some(place) = self.ask(sentinel).await? {
            self.note(None, place, news);
        }
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return Ok(()) };
                    if let Some((from, to)) = self.switch_in(&String::from_utf8_lossy(message.get_payload_bytes())) {
                        self.note(Some(from), to, news);
                    }
                }
                () = sleep(PING_INTERVAL) => drop(in_time(ANSWER_TIMEOUT, sink.ping::<Value>()).await?),
            }
        }
    }

    /// Notes the primary that an announcement or an answer names, if it is another one than before.
    fn note(&self, from: Option<NamedServer>, to: NamedServer, news: &watch::Sender<Option<NamedServer>>) {
        let is_known = news.borrow().as_ref() == Some(&to);
        match from {
            _ if is_known => return,
            Some(from) => *self.latest() = Some(Switch { from, to: to.clone(), at: Instant::now(), is_new: true }),
            None if self.was_left(&to) => return,
            None => {}
        }
        news.send_replace(Some(to));
    }

    /// Whether this was the primary before a switch of late.
    fn was_left(&self, place: &NamedServer) -> bool {
        self.latest().as_ref().is_some_and(|switch| switch.at.elapsed() < STALE_FOR && switch.from == *place)
    }

    /// The switch in an announcement: `NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT`.
    fn switch_in(&self, announcement: &str) -> Option<(NamedServer, NamedServer)> {
        let words: Vec<&str> = announcement.split_whitespace().collect();
        let [name, old_host, old_port, new_host, new_port] = words[..] else { return None };
        let place = |host: &str, port: &str| Some(NamedServer { host: host.to_owned(), port: port.parse().ok()? });
        let is_ours = name == self.name;
        is_ours.then(|| Some((place(old_host, old_port)?, place(new_host, new_port)?))).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Sentinels, DialError> {
        parse(url).expect("it is a URL of Sentinels")
    }

    #[test]
    fn a_url_names_sentinels_and_primary() {
        let url = "redis+sentinel://anna:s%2Fecret@h1:1,h2,[::1]/mymaster/3?sentinel_username=bob&sentinel_password=pw";
        let sentinels = parsed(url).expect("it is right");
        let shown: Vec<&str> = sentinels.each.iter().map(|(shown, _)| shown.as_str()).collect();
        assert_eq!(shown, ["h1:1", "h2:26379", "[::1]:26379"]);
        assert_eq!(sentinels.name, "mymaster");
        assert_eq!(sentinels.login.login(), (Some("anna"), Some("s/ecret"), 3));
        assert_eq!(sentinels.each[0].1.login(), (Some("bob"), Some("pw"), 0));
        let sentinels = parsed("redis+sentinel://h1/main").expect("it is right");
        assert_eq!(sentinels.login.login(), (None, None, 0));
        assert_eq!(sentinels.each[0].1.login(), (None, None, 0));
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_form_and_without_secrets() {
        for url in [
            "redis+sentinel:h1/mymaster",
            "redis+sentinel://:secret@h1",
            "redis+sentinel://:secret@h1/my master/0",
            "redis+sentinel://:secret@/mymaster/0",
            "redis+sentinel://:secret@h1,,h2/mymaster/0",
            "redis+sentinel://:secret@h1:99999/mymaster/0",
            "redis+sentinel://:secret@h1/mymaster/one",
            "redis+sentinel://:secret@h1/mymaster/0?password=secret",
            "redis+sentinel://h1/mymaster/0?sentinel_password=sec@ret/x",
            "redis+sentinel://u:secret@h1,u:secret@h2/mymaster/0",
            "redis+sentinel://:sec/ret@h1/mymaster/0",
            "redis+sentinel://h1,/mymaster",
            "sentinel://:secret@h1:26379;sentinel://h2:26379",
        ] {
            let text = parsed(url).err().unwrap_or_else(|| panic!("{url} is wrong")).to_string();
            assert!(text.contains("write redis+sentinel://") && !text.contains(":secret"), "{url}: {text}");
        }
        assert!(parse("redis://h1").is_none());
    }

    #[test]
    fn announcements_of_other_primaries_are_not_ours() {
        let sentinels = parsed("redis+sentinel://h1/main").expect("it is right");
        let place = |host: &str, port| NamedServer { host: host.to_owned(), port };
        for (announcement, expected) in [
            ("main 10.0.0.1 6379 10.0.0.2 6380", Some((place("10.0.0.1", 6379), place("10.0.0.2", 6380)))),
            ("other 10.0.0.1 6379 10.0.0.2 6380", None),
            ("main 10.0.0.1 6379 10.0.0.2 port", None),
            ("main", None),
        ] {
            assert_eq!(sentinels.switch_in(announcement), expected, "{announcement}");
        }
    }
}
