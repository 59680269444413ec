//! A client of RabbitMQ that writes any bytes as a message's properties, which no library does.
//!
//! Of AMQP 0-9-1 there is as much here as that needs: one channel, publishing, confirms.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The channel.
const CHANNEL: u16 = 1;

/// Types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// The largest frame, which is the largest that RabbitMQ takes unless it is configured otherwise.
pub const FRAME_MAX: usize = 128 << 10;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// An open connection.
#[derive(Debug)]
pub struct Stranger {
    stream: TcpStream,
    published: u64,
}

/// The properties of a message, as bytes.
///
/// Exhaustive: AMQP writes flags first and then what they announce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawProperties {
    /// A bit for each property, by AMQP's order; the first is the highest.
    pub flags: u16,
    /// The properties, one after the other.
    pub bytes: Vec<u8>,
}

impl RawProperties {
    /// The flag of the content type.
    pub const CONTENT_TYPE: u16 = 1 << 15;
    /// The flag of the header table.
    pub const HEADERS: u16 = 1 << 13;
    /// The flag of the expiration.
    pub const EXPIRATION: u16 = 1 << 8;

    /// A content type and a header table with these entries.
    pub fn of(content_type: &[u8], entries: &[Vec<u8>]) -> Self {
        let table = long(&entries.concat());
        Self { flags: Self::CONTENT_TYPE | Self::HEADERS, bytes: [short(content_type), table].concat() }
    }

    /// Has the broker drop the message after this many milliseconds.
    #[must_use]
    pub fn expiring_after(mut self, ms: u32) -> Self {
        self.flags |= Self::EXPIRATION;
        self.bytes.extend(short(ms.to_string().as_bytes()));
        self
    }
}

/// Returns an entry of a header table: its name, the type of its value, and the value.
pub fn entry(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name.as_bytes()), &[kind][..], value].concat()
}

/// Returns an entry whose value is this text.
pub fn text(name: &str, value: &str) -> Vec<u8> {
    entry(name, b'S', &long(value.as_bytes()))
}

/// Returns an entry whose value is a list within lists, `levels` of them.
pub fn nested(name: &str, levels: usize) -> Vec<u8> {
    // The innermost list is empty; each around it has a type and a size more.
    let mut value = Vec::with_capacity(levels * 5);
    for inner in (0..levels).rev() {
        value.extend_from_slice(&u32::try_from(inner * 5).expect("it fits a frame").to_be_bytes());
        if inner > 0 {
            value.push(b'A');
        }
    }
    entry(name, b'A', &value)
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("it is short")], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("it fits a frame").to_be_bytes(), bytes].concat()
}

impl Stranger {
    /// Connects to `amqp://USER:PASSWORD@HOST:PORT/VHOST`; the path is the name of the virtual host, or `%2f`. Blocks.
    pub fn connect(url: &str) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "write amqp://USER:PASSWORD@HOST:PORT/VHOST");
        let (user, rest) = url.strip_prefix("amqp://").and_then(|rest| rest.split_once(':')).ok_or_else(wrong)?;
        let (password, rest) = rest.split_once('@').ok_or_else(wrong)?;
        let (address, vhost) = rest.split_once('/').ok_or_else(wrong)?;
        let vhost = if vhost == "%2f" { "/" } else { vhost };
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_nodelay(true)?;
        let mut stranger = Self { stream, published: 0 };
        stranger.stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        stranger.expect(0, (10, 10))?;
        let secret = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
        stranger.method(0, (10, 11), &[long(&[]), short(b"PLAIN"), long(&secret), short(b"en_US")].concat())?;
        stranger.expect(0, (10, 30))?;
        let frame_max = u32::try_from(FRAME_MAX).expect("it is small").to_be_bytes();
        stranger.method(0, (10, 31), &[&[0, 1][..], &frame_max, &[0, 0]].concat())?;
        stranger.method(0, (10, 40), &[short(vhost.as_bytes()), vec![0, 0]].concat())?;
        stranger.expect(0, (10, 41))?;
        stranger.method(CHANNEL, (20, 10), &short(&[]))?;
        stranger.expect(CHANNEL, (20, 11))?;
        stranger.method(CHANNEL, (85, 10), &[0])?;
        stranger.expect(CHANNEL, (85, 11))?;
        Ok(stranger)
    }

    /// Publishes to an exchange, and waits for the broker's confirm. Blocks.
    pub fn publish(&mut self, exchange: &str, key: &[u8], properties: &RawProperties, body: &[u8]) -> io::Result<()> {
        let names = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        self.method(CHANNEL, (60, 40), &names)?;
        let size = (body.len() as u64).to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &properties.flags.to_be_bytes(), &properties.bytes].concat();
        self.frame(HEADER, CHANNEL, &header)?;
        for part in body.chunks(FRAME_MAX - 8) {
            self.frame(BODY, CHANNEL, part)?;
        }
        self.published += 1;
        let ack = self.expect(CHANNEL, (60, 80))?;
        let tag = ack.get(4..12).and_then(|tag| tag.try_into().ok()).map(u64::from_be_bytes);
        if tag == Some(self.published) { Ok(()) } else { Err(io::Error::other(format!("a confirm of {tag:?}"))) }
    }

    fn method(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) -> io::Result<()> {
        self.frame(METHOD, channel, &[&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat())
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        let size = u32::try_from(payload.len()).expect("it fits a frame").to_be_bytes();
        let frame = [&[kind][..], &channel.to_be_bytes(), &size, payload, &[FRAME_END]].concat();
        self.stream.write_all(&frame)
    }

    /// Reads the next frame, which must be this method.
    fn expect(&mut self, channel: u16, (class, method): (u16, u16)) -> io::Result<Vec<u8>> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload)?;
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        if head[0] == METHOD && [head[1], head[2]] == channel.to_be_bytes() && payload.starts_with(&wanted) {
            return Ok(payload);
        }
        let got = String::from_utf8_lossy(&payload).into_owned();
        Err(io::Error::other(format!("{got:?} in place of method {class}.{method}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_nested_as_deep_as_asked() {
        assert_eq!(nested("x", 1), entry("x", b'A', &[0, 0, 0, 0]));
        assert_eq!(nested("x", 2), entry("x", b'A', &[0, 0, 0, 5, b'A', 0, 0, 0, 0]));
        assert_eq!(nested("x", 3), entry("x", b'A', &[0, 0, 0, 10, b'A', 0, 0, 0, 5, b'A', 0, 0, 0, 0]));
    }
}
