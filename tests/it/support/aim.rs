//! Kills at random moments of a program whose length is not the same twice: what else runs on the machine slows it down at times.

use std::time::Duration;

use super::cli::Live;
use super::dice::Dice;

/// When the next kill comes.
pub struct Aim {
    dice: Dice,
    longest: Duration,
    span: Duration,
}

impl Aim {
    /// For a program that took so long once.
    pub fn new(seed: u64, longest: Duration) -> Self {
        Self { dice: Dice(seed), longest, span: longest }
    }

    /// Kills a program at a random moment; tells whether it still ran. After a miss the next kill comes sooner, after a hit later.
    pub fn kill(&mut self, program: Live) -> bool {
        const STEPS: u64 = 1 << 20;
        std::thread::sleep(self.span.mul_f64(self.dice.below(STEPS) as f64 / STEPS as f64));
        let hit = program.kill();
        self.span = self.span.mul_f64(if hit { 1.25 } else { 0.8 }).min(self.longest);
        hit
    }
}
