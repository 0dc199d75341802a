//! How long a copy inside a provider is waited for: Azure answers that it has begun one, and the name has no bytes until it
//! is done. To remove what is copied from would end it for good.

use std::time::Duration;

use crate::action::ObjectFacts;
use crate::base::Digest;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What any copy may take.
const PATIENCE: Duration = Duration::from_secs(2 * 60);
/// What a copy does in a second, at the least.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// Whether an object is what a copy leaves that is not done, or never will be: it has no bytes, and what is noted with it is
/// of some. An empty one that somebody stored is none.
pub(super) fn is_unfilled(facts: &ObjectFacts) -> bool {
    facts.size_bytes == 0 && facts.sha256().is_some_and(|noted| noted != Digest::of(b""))
}

/// Who began the copy that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// We: the provider gave us the name.
    Us,
    /// Perhaps another one, perhaps an earlier attempt.
    Another,
}

impl By {
    /// Who it was, by whether the name was free for us.
    pub(super) fn of(new: bool) -> Self {
        if new { Self::Us } else { Self::Another }
    }

    /// Whether what has the name lacks its bytes.
    pub(super) fn left_unfilled(self, facts: &ObjectFacts) -> bool {
        facts.size_bytes == 0 && (self == Self::Us || is_unfilled(facts))
    }
}

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
    use crate::base::Timestamp;

    #[test]
    fn an_empty_object_that_was_stored_is_no_copy_that_came_to_no_end() {
        let object = |size_bytes, noted: Option<&[u8]>| {
            let key = "wal/segment".parse().expect("a key");
            let metadata =
                noted.map(|bytes| ("sha256".to_owned(), Digest::of(bytes).to_string())).into_iter().collect();
            ObjectFacts { metadata, ..ObjectFacts::new(key, size_bytes, Timestamp::UNIX_EPOCH) }
        };
        assert!(is_unfilled(&object(0, Some(b"a segment"))));
        for other in [object(0, Some(b"")), object(0, None), object(9, Some(b"a segment"))] {
            assert!(!is_unfilled(&other) && !By::Another.left_unfilled(&other));
        }
        assert!(By::Us.left_unfilled(&object(0, None)), "its copy is not done");
    }

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
