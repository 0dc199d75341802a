//! How long a copy inside a provider is waited for: Azure answers that it has begun one, and the name has no bytes until it
//! is done. To remove what is copied from would end it for good.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What any copy may take.
const PATIENCE: Duration = Duration::from_secs(2 * 60);
/// What a copy does in a second, at the least.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// The looks at a name that has no bytes yet.
pub(super) struct Looks {
    pause: Duration,
    left: Duration,
}

impl Looks {
    /// For a copy of so many bytes.
    pub(super) fn at(size_bytes: u64) -> Self {
        Self { pause: FIRST_PAUSE, left: PATIENCE + Duration::from_secs(size_bytes / BYTES_PER_SECOND) }
    }

    /// How long to wait for the next look; `None` when there is none any more.
    pub(super) fn next_in(&mut self) -> Option<Duration> {
        if self.left.is_zero() {
            return None;
        }
        let pause = self.pause.min(self.left);
        self.left -= pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_waited_for_by_its_size_and_not_for_ever() {
        for (size_bytes, most) in [(0, PATIENCE), (64 << 30, PATIENCE + Duration::from_secs(1024))] {
            let mut looks = Looks::at(size_bytes);
            let pauses: Vec<Duration> = std::iter::from_fn(|| looks.next_in()).collect();
            assert_eq!(pauses.iter().sum::<Duration>(), most);
            assert_eq!(pauses[0], FIRST_PAUSE);
            assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE && !pause.is_zero()));
        }
    }
}
