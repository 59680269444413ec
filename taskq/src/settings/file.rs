//! Reading `taskq.toml`.

#[cfg(feature = "toml")]
use super::QueueSettings;
#[cfg(feature = "toml")]
use super::keys::{KEYS, unknown};
use super::{ConfigError, Origin, Settings};
#[cfg(feature = "toml")]
use crate::broker::{QueueKind, QueueSpec};
#[cfg(feature = "toml")]
use crate::redact;

impl Settings {
    /// Reads the text of a file.
    #[cfg(fuzzing)]
    pub(crate) fn of_toml(text: &str) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        settings.apply_toml(text, &Origin::File(super::FILE_NAME.into()))?;
        Ok(settings)
    }

    #[cfg(not(feature = "toml"))]
    #[allow(clippy::unused_self, reason = "the same signature with and without the feature")]
    pub(super) fn apply_toml(&mut self, _text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let text = "this program was built without the feature `toml` of taskq and cannot read it; add the feature, or \
                    configure it by TASKQ_BROKER_URL and the like from a folder without this file";
        Err(ConfigError::new(origin.clone(), text.to_owned()))
    }

    #[cfg(feature = "toml")]
    pub(super) fn apply_toml(&mut self, text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let wrong = |text: String| ConfigError::new(origin.clone(), text);
        let table: toml::Table = text.parse().map_err(|error| wrong(not_toml(text, &error)))?;
        for (key, value) in table {
            match (key.as_str(), value) {
                ("queues", toml::Value::Table(queues)) => {
                    for (name, queue) in queues {
                        let queue = queue_settings(&name, &queue).map_err(wrong)?;
                        self.queues.insert(name, queue);
                    }
                }
                ("interop", toml::Value::Table(interop)) => self.interop = interop_queues(&interop).map_err(wrong)?,
                ("schedule", toml::Value::Table(entries)) => {
                    for (name, entry) in entries {
                        self.schedule.insert(name, json(entry).map_err(wrong)?);
                    }
                    self.origins.insert("schedule", origin.clone());
                }
                ("schedule", _) => {
                    return Err(wrong("`schedule` is a table of tables: write [schedule.NAME]".to_owned()));
                }
                (key @ ("queues" | "interop"), _) => return Err(wrong(format!("`{key}` is a table: write [{key}]"))),
                (key, value) => match plain_text(&value) {
                    Some(text) if KEYS.iter().any(|known| known.name == key) => self.set(key, &text, origin.clone())?,
                    _ => {
                        let known = KEYS.iter().map(|known| known.name).chain(["queues", "interop", "schedule"]);
                        return Err(wrong(match KEYS.iter().find(|known| known.name == key) {
                            Some(known) => format!("`{key}` takes {}", known.takes),
                            None => unknown("setting", key, known),
                        }));
                    }
                },
            }
        }
        Ok(())
    }
}

/// Returns the parser's message with its place, and the remedy where that is not plain from it. The line itself is not
/// repeated: it may hold a password.
#[cfg(feature = "toml")]
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, of_line) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
    let remedy = if error.message().contains("duplicate key") {
        "; there is a key or an entry of this name above: give one of them another, or remove it"
    } else {
        ""
    };
    let column = of_line.chars().count() + 1;
    format!("TOML parse error at line {line}, column {column}: {}{remedy}", error.message())
}

#[cfg(feature = "toml")]
fn queue_settings(name: &str, value: &toml::Value) -> Result<QueueSettings, String> {
    QueueSpec::check_named(name).map_err(|error| format!("`queues`: {error}"))?;
    let table = value.as_table().ok_or_else(|| format!("`queues.{name}` is a table: write [queues.{name}]"))?;
    let mut settings = QueueSettings::default();
    for (key, value) in table {
        match key.as_str() {
            "kind" => {
                settings.kind = match value.as_str() {
                    Some("quorum") => QueueKind::Quorum,
                    Some("classic") => QueueKind::Classic,
                    _ => {
                        return Err(format!(
                            "`queues.{name}.kind` takes \"quorum\" or \"classic\", not {}",
                            shown(value)
                        ));
                    }
                }
            }
            "max_priority" => {
                let priority = value.as_integer().and_then(|number| u8::try_from(number).ok());
                settings.max_priority = Some(
                    priority
                        .ok_or_else(|| format!("`queues.{name}.max_priority` takes 0 to 255, not {}", shown(value)))?,
                );
            }
            other => return Err(unknown(&format!("setting of queue {name}"), other, ["kind", "max_priority"])),
        }
    }
    if settings.max_priority.is_some() && settings.kind == QueueKind::Quorum {
        return Err(format!("`queues.{name}.max_priority` needs a classic queue: write kind = \"classic\" beside it"));
    }
    Ok(settings)
}

#[cfg(feature = "toml")]
fn interop_queues(table: &toml::Table) -> Result<Vec<String>, String> {
    if let Some(other) = table.keys().find(|key| *key != "queues") {
        return Err(unknown("setting of [interop]", other, ["queues"]));
    }
    let names = table
        .get("queues")
        .and_then(toml::Value::as_array)
        .and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
    let names = names.ok_or_else(|| "`interop.queues` takes a list of queue names, such as [\"celery\"]".to_owned())?;
    for name in &names {
        QueueSpec::check_named(name).map_err(|error| format!("`interop.queues`: {error}"))?;
    }
    Ok(names)
}

/// Converts a value to JSON; moments become texts.
#[cfg(feature = "toml")]
fn json(value: toml::Value) -> Result<serde_json::Value, String> {
    use serde_json::Value;
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| format!("`schedule` holds a number that JSON does not have: {number}"))?,
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(moment) => Value::String(moment.to_string()),
        toml::Value::Array(values) => Value::Array(values.into_iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| Ok((key, json(value)?)));
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(feature = "toml")]
fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        // A list is written as in the environment, which has no other form for it.
        toml::Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().filter(|text| !text.contains(',')));
            texts.collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// A value, for people.
#[cfg(feature = "toml")]
fn shown(value: &toml::Value) -> String {
    plain_text(value).map_or_else(|| format!("a {}", value.type_str()), |text| redact::given(&text))
}
