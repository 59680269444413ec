//! Bodies that are small on their way and large once they are decompressed.

use std::iter::repeat_n;

/// The longest copy in a zlib stream, in bytes.
const COPY: usize = 258;

/// Returns a zlib stream of `head`, then `copies` times 258 bytes of `pair` again and again, then `tail`.
pub(super) fn bomb(head: &[u8], pair: [u8; 2], copies: usize, tail: &[u8]) -> Vec<u8> {
    let mut stream = Bits::default();
    // A zlib header; then one block, the last, with the fixed codes of RFC 1951.
    stream.bytes.extend([0x78, 0x01]);
    stream.put(0b011, 3);
    for byte in head.iter().chain(&pair) {
        stream.literal(*byte);
    }
    for _ in 0..copies {
        // The code of a copy of 258 bytes, and that of the distance 2. The bits of a code come the first one first.
        stream.code(0b1100_0101, 8);
        stream.code(1, 5);
    }
    for byte in tail {
        stream.literal(*byte);
    }
    stream.code(0, 7);
    let mut bytes = stream.finish();
    let pairs = repeat_n(pair, 1 + copies * COPY / 2).flatten();
    bytes.extend(adler32(head.iter().copied().chain(pairs).chain(tail.iter().copied())).to_be_bytes());
    bytes
}

/// The checksum of a zlib stream.
fn adler32(bytes: impl Iterator<Item = u8>) -> u32 {
    const BASE: u32 = 65_521;
    let (a, b) = bytes.fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(byte)) % BASE;
        (a, (a + b) % BASE)
    });
    b << 16 | a
}

/// A stream of bits, the lowest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    rest: u32,
    count: u32,
}

impl Bits {
    /// Appends the lowest `count` bits, the lowest first.
    fn put(&mut self, bits: u32, count: u32) {
        self.rest |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.rest as u8);
            self.rest >>= 8;
            self.count -= 8;
        }
    }

    /// Appends a code of `count` bits, the highest first.
    fn code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    fn literal(&mut self, byte: u8) {
        let byte = u32::from(byte);
        if byte < 144 { self.code(0x30 + byte, 8) } else { self.code(0x190 + byte - 144, 9) }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.rest as u8);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use taskq::internal::codec::MessageBody;
    use taskq::message::Payload;

    use super::*;

    #[test]
    fn a_bomb_is_what_it_stands_for() {
        let body = bomb("[[\"ä\",".as_bytes(), *b"0,", 3, b"0], {}, null]");
        assert!(body.len() < 50, "{} bytes", body.len());
        let payload = Payload {
            content_type: "application/json".into(),
            content_encoding: "utf-8".into(),
            compression: Some("application/x-gzip".into()),
            body: body.into(),
        };
        let text = MessageBody::read(&payload, 10_000).expect("it is a zlib stream");
        let expected = format!("[[\"ä\",{}0], {{}}, null]", "0,".repeat(1 + 3 * COPY / 2));
        assert_eq!(String::from_utf8_lossy(text.text()), expected);
    }
}
