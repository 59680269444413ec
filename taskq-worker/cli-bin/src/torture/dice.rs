//! Random numbers that a seed determines, so that a run can be repeated.

/// A random number generator (`SplitMix64`) with the same numbers for the same seed, on every machine and in every
/// version.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Creates the generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number from `low` up to, but not including, `high`; returns `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % high.saturating_sub(low).max(1)
    }

    /// Draws one of `things`; returns `None` if there are none.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        (!things.is_empty()).then(|| &things[self.between(0, things.len() as u64) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_those_of_the_textbook() {
        // The first numbers of `SplitMix64` from 1234567: a seed must mean the same for ever.
        let mut dice = Dice::new(1_234_567);
        assert_eq!([dice.roll(), dice.roll()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert_eq!(dice.between(5, 5), 5);
        assert!((0..100).all(|_| (3..9).contains(&dice.between(3, 9))));
    }
}
