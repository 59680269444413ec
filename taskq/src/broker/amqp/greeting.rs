//! The broker's greeting, with its product and version. lapin does not expose it, so the
//! [transport](super::transport) keeps it as it passes.

use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;

use crate::broker::BrokerInfo;

/// The size of the fields before the table of properties: class, method, protocol version.
const BEFORE_TABLE: usize = 6;

/// The product that this was made for.
const PRODUCT: &str = "RabbitMQ";

/// The abilities of a broker that decide what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Abilities {
    /// The consumer of a quorum queue says for how long it may hold a delivery, and that of a classic queue may hold it
    /// for as long as it likes: RabbitMQ since 4.3. Earlier, the broker sets the time for all deliveries of a channel.
    pub(super) consumer_timeouts: bool,
    /// The consumer of a deleted queue is attached to the next one of its name: RabbitMQ before 4.0.
    pub(super) reattaches: bool,
}

impl Abilities {
    /// The abilities of this broker; none if its product or version is not known.
    pub(super) fn of(info: &BrokerInfo) -> Self {
        match release(&info.version).filter(|_| info.product == PRODUCT) {
            Some(release) => Self { consumer_timeouts: release >= (4, 3), reattaches: release < (4, 0) },
            None => Self::default(),
        }
    }
}

/// The broker that sent this greeting, `connection.start`. lapin has read it by then, so its table is sound.
pub(super) fn read(payload: &[u8]) -> Result<BrokerInfo, String> {
    let table = payload.get(BEFORE_TABLE..).ok_or("the greeting is too short")?;
    let (_, table) = parse_field_table(table).map_err(|error| format!("the greeting cannot be read: {error:?}"))?;
    let text = |key: &str| match table.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "unknown".to_owned(),
    };
    let (product, version) = (text("product"), text("version"));
    let capabilities = capabilities(&product, &version);
    Ok(BrokerInfo { product, version, capabilities })
}

/// The major and the minor number of a version; `None` if it does not begin with them.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// The capabilities of a version, as far as they matter here.
fn capabilities(product: &str, version: &str) -> Vec<String> {
    let Some(release) = release(version) else {
        return vec![format!("unknown version {version:?}; made for RabbitMQ 3.10 to 4.x")];
    };
    if product != PRODUCT {
        return vec![format!("{product} is not RabbitMQ, for which this was made")];
    }
    let since = |major_since, minor_since, yes: &str, no: &str| {
        if release >= (major_since, minor_since) { yes } else { no }.to_owned()
    };
    let mut lines = vec![
        since(
            3,
            10,
            "quorum queues with at-least-once dead-lettering and delays",
            "too old: quorum queues need 3.10 to dead-letter safely",
        ),
        if release >= (4, 3) {
            "consumers set their own timeout: taskq asks for a day, and classic queues have none".to_owned()
        } else {
            since(
                3,
                12,
                "consumer timeout of the broker, unless a policy or an argument of the queue has another",
                "consumer timeout of the broker",
            )
        },
        match release {
            (4, 3..) | (5.., _) => "priorities on quorum queues are strict, 0 to 31; a call without one has 0",
            (4, _) => "priorities on quorum queues are two: 5 and more, and less; a call without one has 0",
            _ => "priorities on classic queues with `max_priority` only; a call without one has 0",
        }
        .to_owned(),
    ];
    if release >= (4, 0) {
        lines.push("delivery limit of 20 where a queue sets none; taskq's queues set 1000".to_owned());
        lines.push("messages of more than 16 MiB only if its `max_message_size` allows them".to_owned());
    }
    if release >= (4, 3) {
        lines.push(
            "deliveries of a node that died are held for 60 s, on queues that taskq has made for 5 s \
             (policy `consumer-disconnected-timeout`)"
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;
    use lapin::types::generation::gen_field_table;

    use super::*;

    #[test]
    fn a_greeting_names_the_broker() {
        let mut table = FieldTable::default();
        for (name, value) in [("product", "RabbitMQ"), ("version", "4.3.6")] {
            table.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let mut payload = b"\0\x0a\0\x0a\0\x09".to_vec();
        payload.extend(gen_field_table(&table)(Vec::new().into()).expect("it can be written").into_inner().0);
        payload.extend(b"\0\0\0\x05PLAIN\0\0\0\x05en_US");
        let info = read(&payload).expect("it is sound");
        assert_eq!((&*info.product, &*info.version), ("RabbitMQ", "4.3.6"));
        assert!(read(&payload[..3]).is_err() && read(&payload[..9]).is_err(), "cut off");
        assert_eq!(read(b"\0\x0a\0\x0a\0\x09\0\0\0\0").expect("an empty table").version, "unknown");
    }

    #[test]
    fn versions_tell_what_can_be_done() {
        for (version, expected) in [
            ("3.9.1", "too old"),
            ("3.10.8", "classic queues with `max_priority` only"),
            ("3.13.7", "unless a policy"),
            ("4.0.2", "are two: 5 and more"),
            ("4.2.9", "are two: 5 and more"),
            ("4.3.0-beta.1", "strict, 0 to 31"),
            ("4.3.6", "taskq asks for a day"),
            ("5.0.0", "held for 60 s"),
            ("nightly", "unknown version"),
        ] {
            assert!(capabilities("RabbitMQ", version).join("\n").contains(expected), "{version}");
        }
        assert!(capabilities("LavinMQ", "2.0.0")[0].contains("not RabbitMQ"));
        for version in ["3.10.8", "4.0.5", "4.3.6"] {
            let lines = capabilities("RabbitMQ", version);
            assert_eq!(lines.iter().filter(|line| line.contains("priorities")).count(), 1, "{lines:?}");
        }
    }

    #[test]
    fn versions_have_their_abilities() {
        for (product, version, consumer_timeouts, reattaches) in [
            ("RabbitMQ", "3.10.8", false, true),
            ("RabbitMQ", "3.13.7", false, true),
            ("RabbitMQ", "4.0.9", false, false),
            ("RabbitMQ", "4.2.1", false, false),
            ("RabbitMQ", "4.3.0", true, false),
            ("RabbitMQ", "5.0.0", true, false),
            ("RabbitMQ", "unknown", false, false),
            ("LavinMQ", "5.0.0", false, false),
        ] {
            let abilities = Abilities::of(&BrokerInfo::new(product, version));
            assert_eq!(abilities, Abilities { consumer_timeouts, reattaches }, "{product} {version}");
        }
    }
}
