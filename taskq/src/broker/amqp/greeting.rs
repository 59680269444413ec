//! The broker's greeting, with its product and version. lapin does not expose it, so it is requested once more.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;

use super::address::Address;
use super::screen;
use crate::broker::BrokerInfo;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The size of a frame header: type, channel, size.
const FRAME_HEADER: usize = 7;
/// The size of the fields before the table of properties: class, method, protocol version.
const BEFORE_TABLE: usize = 6;

/// The maximum size of a greeting; typical ones have some hundred bytes.
const SIZE_MAX: usize = 64 << 10;

/// Requests the greeting and disconnects. Blocks for at most some seconds. The broker's log will have a line about it.
pub(super) fn ask(address: &Address) -> std::io::Result<BrokerInfo> {
    let authority = &address.uri.authority;
    let place = (authority.host.as_str(), authority.port).to_socket_addrs()?.next();
    let place = place.ok_or_else(|| std::io::Error::other("the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&place, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header)?;
    let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
    if header[0] != 1 || !(BEFORE_TABLE..SIZE_MAX).contains(&size) {
        return Err(std::io::Error::other("this is no AMQP 0-9-1"));
    }
    let mut greeting = vec![0; size];
    stream.read_exact(&mut greeting)?;
    screen::check_first_table(&greeting[BEFORE_TABLE..])
        .map_err(|fault| std::io::Error::other(format!("the greeting has a property that is {fault}")))?;
    let (_, table) = parse_field_table(&greeting[BEFORE_TABLE..])
        .map_err(|error| std::io::Error::other(format!("the greeting cannot be read: {error:?}")))?;
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
    use super::capabilities;

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
