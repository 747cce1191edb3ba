//! Random numbers that spread attempts over time. Nothing secret hangs on them.

use std::hash::{BuildHasher, Hasher, RandomState};

/// xorshift64* (Vigna 2016), seeded by what the standard library seeds its maps with.
#[derive(Debug)]
pub struct Jitter(u64);

impl Jitter {
    #[must_use]
    pub fn new() -> Jitter {
        Jitter::seeded(RandomState::new().build_hasher().finish())
    }

    #[must_use]
    pub fn seeded(seed: u64) -> Jitter {
        Jitter(seed | 1)
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

impl Default for Jitter {
    fn default() -> Jitter {
        Jitter::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_over_their_range() {
        let mut jitter = Jitter::seeded(0);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            tenths[(jitter.draw() * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (800..1_200).contains(n)), "{tenths:?}");
    }

    #[test]
    fn two_agents_draw_differently() {
        assert_ne!(Jitter::new().draw().to_bits(), Jitter::new().draw().to_bits());
    }
}
