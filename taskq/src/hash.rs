//! Hashes that are equal in every process, whatever its version, platform or seed.
//!
//! Copies of a message derive the same retry delay from these, and every beat the same jitter, so the functions must
//! not change: two releases that run side by side would disagree.

/// Computes the 64-bit FNV-1a hash of `bytes`.
///
/// Source: <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Draws a number in `[0, 1)` evenly from `bytes`: FNV-1a, finished as in splitmix64.
pub fn unit_interval(bytes: impl IntoIterator<Item = u8>) -> f64 {
    let mut hash = fnv1a(bytes);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors_of_fnv1a() {
        for (text, expected) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(text.bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn draws_stay_in_the_interval_and_spread() {
        let draws: Vec<f64> = (0..1000_u32).map(|n| unit_interval(n.to_le_bytes())).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
