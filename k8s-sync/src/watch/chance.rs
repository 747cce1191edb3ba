//! Chance for jitter. Nothing secret hangs on it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// xorshift64* (Vigna 2016), seeded by what the standard library seeds its maps with.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    #[must_use]
    pub fn new() -> Chance {
        Chance::seeded(RandomState::new().build_hasher().finish())
    }

    #[must_use]
    pub fn seeded(seed: u64) -> Chance {
        Chance(seed | 1)
    }

    /// In [0, 1).
    pub fn draw(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

impl Default for Chance {
    fn default() -> Chance {
        Chance::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_over_their_range() {
        let mut chance = Chance::seeded(0);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            tenths[(chance.draw() * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (800..1_200).contains(n)), "{tenths:?}");
    }

    #[test]
    fn two_agents_draw_differently() {
        assert_ne!(Chance::new().draw().to_bits(), Chance::new().draw().to_bits());
    }
}
