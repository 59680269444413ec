//! The service of one node: listens, decides whether it is meant and may obey, and answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use taskq::broker::{Broadcast, Heard};
use taskq::internal::reach::Reach;
use taskq::internal::{codec, revocations};
use taskq::message::WireMessage;
use taskq::remote::{Authority, Event, NodeReply, RemoteControl, Request, Ruling};
use taskq::{Client, TaskId};

use super::answers::{self, NodeFacts};
use super::events::signed;
use super::node::{Node, NodeAnswer, NodeQuestion};
use super::state::ProcessState;

/// The pause before it listens again, if it could not.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The pause between two heartbeats, as Celery's workers have it. Those who watch take a worker for gone after twice as
/// long.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);

/// The service of one node.
struct Service<N> {
    client: Client,
    name: String,
    node: N,
    authority: Authority,
    /// The logical clock, which orders what nodes tell each other.
    clock: AtomicU64,
    /// Whether somebody has asked for events.
    events_wanted: AtomicBool,
}

/// Answers for the node `name` until it is dropped. With `remote_control = "off"`, or where workers cannot be reached,
/// it does nothing.
pub(crate) async fn serve(client: Client, name: String, node: impl Node + 'static) {
    let settings = client.settings();
    let (extent, allowed) = (settings.remote_control, settings.remote_commands.clone());
    if extent == RemoteControl::Off {
        return;
    }
    let authority = Authority::new(extent, allowed);
    let service = Arc::new(Service {
        client,
        name,
        node,
        authority,
        clock: AtomicU64::new(0),
        events_wanted: AtomicBool::new(false),
    });
    let listening = async {
        while let Some(reach) = service.client.reach() {
            service.listen(reach.means()).await;
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    };
    tokio::join!(listening, service.beat());
}

impl<N: Node + 'static> Service<N> {
    /// Listens until the stream ends, or cannot begin.
    async fn listen(self: &Arc<Self>, broadcast: &dyn Broadcast) {
        let mut listening = match broadcast.listen(&self.name).await {
            Ok(listening) => listening,
            Err(error) => return tracing::warn!(%error, "remote control is not heard"),
        };
        while let Some(heard) = listening.next().await {
            match heard {
                // Others have a second for their answers, and questions to this node do not wait for them.
                Heard::Since => drop(taskq::internal::io::spawn(Arc::clone(self).catch_up())),
                Heard::Message(message) => self.hear(broadcast, &message).await,
                _ => {}
            }
        }
    }

    /// Learns of the tasks that were revoked while nobody listened here: from Kv, and from other workers, of which
    /// Celery's keep them in no other place.
    async fn catch_up(self: Arc<Self>) {
        let mut missed = BTreeSet::new();
        if let Some(kv) = self.client.kv() {
            match revocations::kept(&**kv).await {
                Ok(kept) => {
                    let (hard, mild): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(_, kept)| kept.terminate);
                    for (some, terminate) in [(hard, true), (mild, false)] {
                        self.revoke(some.into_iter().map(|(id, _)| id).collect(), terminate).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "the revoked tasks are not known; some may run"),
            }
        }
        let mut arguments = Map::new();
        arguments.insert("from_node".to_owned(), json!(self.name));
        arguments.insert("revoked".to_owned(), json!({}));
        match self.client.control().ask("hello", arguments).await {
            Ok(others) => {
                for NodeReply { value, .. } in others {
                    missed.extend(ids_of(value.get("revoked")));
                    self.saw(value.get("clock").and_then(Value::as_u64).unwrap_or_default());
                }
            }
            Err(error) => tracing::debug!(%error, "other workers could not be asked for revoked tasks"),
        }
        self.revoke_told(missed.into_iter().collect()).await;
    }

    async fn hear(&self, broadcast: &dyn Broadcast, message: &WireMessage) {
        let request = match codec::pidbox::decode_request(message) {
            Ok(request) => request,
            Err(why) => return tracing::warn!(why, "a request that cannot be read is passed over"),
        };
        self.saw(request.clock);
        let is_late = request.expires.is_some_and(|expires| expires < self.client.clock().now());
        if is_late || !request.destination.includes(&self.name) {
            return;
        }
        let value = match self.authority.rule(&request.method) {
            Ruling::Silent => return,
            Ruling::Refused(why) => {
                tracing::warn!(command = request.method, why, "a command is refused");
                json!({ "error": why })
            }
            Ruling::Allowed => self.obey(&request).await,
        };
        let Some(address) = &request.reply_to else { return };
        let answer = NodeReply::new(&self.name, value, request.ticket.clone());
        let message = codec::pidbox::encode_answer(&answer, self.tick());
        if let Err(error) = broadcast.answer(address, message).await {
            tracing::warn!(%error, command = request.method, "an answer could not be sent");
        }
    }

    async fn obey(&self, request: &Request) -> Value {
        let arguments = &request.arguments;
        match request.method.as_str() {
            "revoke" => self.revoke_wanted(arguments, answers::is_yes(arguments.get("terminate"))).await,
            "terminate" => self.revoke_wanted(arguments, true).await,
            "hello" => self.greet(arguments).await,
            "enable_events" => self.want_events(true).await,
            "disable_events" => self.want_events(false).await,
            "heartbeat" => {
                self.tell_vitals("worker-heartbeat").await;
                Value::Null
            }
            question => {
                // Asking the processes takes a moment that this answer need not.
                let processes = if question == "ping" { Vec::new() } else { self.states().await };
                let facts = self.facts(question).await;
                answers::answer(question, arguments, &facts, &processes)
                    .unwrap_or_else(|| json!({ "error": format!("KeyError('{question}')") }))
            }
        }
    }

    /// Tells that the worker is there, again and again. On an embedded store, where each would be a write, only those
    /// who have asked for events are told.
    async fn beat(&self) {
        let is_cheap = matches!(self.client.reach(), Some(Reach::Broker(_)));
        let mut kind = "worker-online";
        loop {
            if is_cheap || self.events_wanted.load(Ordering::Relaxed) {
                self.tell_vitals(kind).await;
                kind = "worker-heartbeat";
            }
            tokio::time::sleep(HEARTBEAT_EVERY).await;
        }
    }

    /// Tells an event of the worker itself.
    async fn tell_vitals(&self, kind: &str) {
        let (mut active, mut processed) = (0, 0);
        for answer in self.node.ask(NodeQuestion::Figures).await {
            if let NodeAnswer::Figures { done, running } = answer {
                active += running;
                processed += done;
            }
        }
        tell(&self.client, &self.name, vitals(kind, active, processed).with("clock", self.tick())).await;
    }

    async fn want_events(&self, wanted: bool) -> Value {
        self.events_wanted.store(wanted, Ordering::Relaxed);
        let answers = self.node.ask(NodeQuestion::WantEvents { wanted }).await;
        let known = answers.iter().all(|answer| matches!(answer, NodeAnswer::WantEvents { known: true }));
        let word = if wanted { "enabled" } else { "disabled" };
        let already = if known { "already " } else { "" };
        json!({ "ok": format!("task events {already}{word}") })
    }

    /// Revokes the tasks that a command names.
    async fn revoke_wanted(&self, arguments: &Map<String, Value>, terminate: bool) -> Value {
        let named = answers::wanted_ids(arguments.get("task_id"));
        let ids: Vec<TaskId> = named.iter().filter_map(|id| TaskId::parse(id).ok()).collect();
        if ids.is_empty() {
            return json!({ "error": "`task_id` names no task; it is an id or a list of ids" });
        }
        // A client of taskq has done so, and Celery's have not.
        if !answers::is_yes(arguments.get("kept"))
            && let Err(error) = revocations::keep(&self.client, &ids, terminate).await
        {
            tracing::warn!(%error, "revoked tasks could not be kept: a worker that is away will run them");
        }
        let met = self.revoke(ids.clone(), terminate).await;
        let list = |separator: &str, quote: &str| {
            let quoted = ids.iter().map(|id| format!("{quote}{id}{quote}"));
            quoted.collect::<Vec<_>>().join(separator)
        };
        tracing::info!(tasks = list(", ", ""), terminate, running = met, "revoked by remote control");
        match (terminate, met) {
            (false, _) => json!({ "ok": format!("tasks {{{}}} flagged as revoked", list(", ", "'")) }),
            (true, 0) => json!({ "ok": "terminate: tasks unknown" }),
            (true, _) => json!({ "ok": format!("terminate: {}", list(", ", "")) }),
        }
    }

    /// Exchanges revoked tasks with a worker that begins.
    async fn greet(&self, arguments: &Map<String, Value>) -> Value {
        if arguments.get("from_node").and_then(Value::as_str) == Some(&self.name) {
            return Value::Null;
        }
        self.revoke_told(ids_of(arguments.get("revoked")).collect()).await;
        let processes = self.states().await;
        // Celery's workers expect the moment at which each was revoked, by their own clock, and take what they get.
        let revoked: Map<String, Value> =
            answers::revoked(&processes).into_iter().map(|id| (id.to_owned(), json!([0.0, id]))).collect();
        json!({ "revoked": revoked, "clock": self.tick() })
    }

    /// Revokes tasks of which other workers have told, if everybody may revoke tasks here.
    async fn revoke_told(&self, ids: Vec<TaskId>) {
        if self.authority.rule("revoke") == Ruling::Allowed {
            self.revoke(ids, false).await;
        }
    }

    /// Revokes tasks in all processes, and returns the number of runs that this meets.
    async fn revoke(&self, ids: Vec<TaskId>, terminate: bool) -> usize {
        if ids.is_empty() {
            return 0;
        }
        let answers = self.node.ask(NodeQuestion::Revoke { ids, terminate }).await;
        let met = answers.into_iter().map(|answer| match answer {
            NodeAnswer::Revoked { runs } => runs,
            _ => 0,
        });
        met.sum()
    }

    async fn states(&self) -> Vec<ProcessState> {
        let answers = self.node.ask(NodeQuestion::State).await;
        let state = |answer| match answer {
            NodeAnswer::State(state) => Some(*state),
            _ => None,
        };
        answers.into_iter().filter_map(state).collect()
    }

    async fn facts(&self, question: &str) -> NodeFacts {
        let settings = self.client.settings().report();
        let broker = match question {
            "stats" | "report" => self.client.broker().info().await.ok(),
            _ => None,
        };
        NodeFacts {
            node: self.name.clone(),
            settings: settings.into_iter().map(|setting| (setting.key.to_owned(), setting.value)).collect(),
            broker: broker.map(|info| format!("{} {}", info.product, info.version)).unwrap_or_default(),
            clock: self.clock.load(Ordering::Relaxed),
        }
    }

    /// Moves the logical clock past that of another node.
    fn saw(&self, clock: u64) {
        // Nobody's clock is near the end; one that is must not make ours begin anew.
        self.clock.fetch_max(clock.min(u64::MAX / 2), Ordering::Relaxed);
        self.tick();
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The ids that are the keys of an object.
fn ids_of(revoked: Option<&Value>) -> impl Iterator<Item = TaskId> {
    let ids = revoked.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    ids.filter_map(|id| TaskId::parse(id).ok())
}

/// Tells that a worker has ended. A broker that does not take it in a second is not waited for: those who watch miss
/// the heartbeats soon after.
pub(crate) async fn tell_offline(client: &Client, node: &str, processed: u64) {
    let is_told =
        client.settings().remote_control != RemoteControl::Off && matches!(client.reach(), Some(Reach::Broker(_)));
    if is_told {
        let telling = tell(client, node, vitals("worker-offline", 0, processed));
        drop(tokio::time::timeout(Duration::from_secs(1), telling).await);
    }
}

/// An event of a worker itself.
fn vitals(kind: &str, active: u64, processed: u64) -> Event {
    Event::new(kind)
        .with("freq", HEARTBEAT_EVERY.as_secs_f64())
        .with("active", active)
        .with("processed", processed)
        .with("loadavg", load_average())
        .with("sw_ident", "rs-taskq")
        .with("sw_ver", env!("CARGO_PKG_VERSION"))
        .with("sw_sys", system())
}

async fn tell(client: &Client, node: &str, event: Event) {
    let key = event.routing_key();
    let message = codec::event::encode_events(node, vec![signed(event, node, client.clock().now())]);
    let Some(reach) = client.reach() else { return };
    if let Err(error) = reach.means().announce(&key, message).await {
        tracing::debug!(%error, "an event of the worker could not be told");
    }
}

/// The load of the machine over 1, 5 and 15 minutes, where the system tells it.
fn load_average() -> Value {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let loads: Vec<f64> = told.split(' ').take(3).filter_map(|load| load.parse().ok()).collect();
    if loads.len() == 3 { json!(loads) } else { json!([0.0, 0.0, 0.0]) }
}

/// The system's name, as Python has it: `Linux`.
fn system() -> String {
    let name = std::env::consts::OS;
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
