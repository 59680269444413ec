//! The broker's greeting, with its product and version. lapin does not expose it, so the
//! [transport](super::transport) keeps it as it passes.

use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;

use crate::broker::BrokerInfo;

/// The size of the fields before the table of properties: class, method, protocol version.
const BEFORE_TABLE: usize = 6;

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
pub(super) fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// The capabilities of a version, as far as they matter here.
fn capabilities(product: &str, version: &str) -> Vec<String> {
    let Some(release) = release(version) else {
        return vec![format!("unknown version {version:?}; made for RabbitMQ 3.10 to 4.x")];
    };
    if product != "RabbitMQ" {
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
        since(3, 12, "consumer timeout can be set per queue", "consumer timeout only for the whole broker"),
        since(4, 0, "quorum queues know two priorities", "priorities on classic queues only"),
    ];
    if release >= (4, 0) {
        lines.push("delivery limit of 20 where a queue sets none; taskq's queues set 1000".to_owned());
    }
    if release >= (4, 3) {
        lines.push("delayed retry in quorum queues (not used), strict priorities 0 to 31".to_owned());
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
            ("3.10.8", "only for the whole broker"),
            ("3.13.7", "per queue"),
            ("4.0.2", "two priorities"),
            ("4.3.0-beta.1", "delayed retry"),
            ("nightly", "unknown version"),
        ] {
            assert!(capabilities("RabbitMQ", version).join("\n").contains(expected), "{version}");
        }
        assert!(capabilities("LavinMQ", "2.0.0")[0].contains("not RabbitMQ"));
    }
}
