//! Repeatable randomness.

/// A sequence of numbers that its seed decides (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    /// Those of a seed, or of the one in `RUNBOOK_TEST_SEED`; the seed is printed.
    pub fn seeded(seed: u64) -> Self {
        let seed = std::env::var("RUNBOOK_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
        println!("RUNBOOK_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
