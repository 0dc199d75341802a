//! Which of several stores is asked first: one that is down would cost its patience with every segment.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::{Timestamp, clock};

/// How long the store that gave a file stays the first to be asked, at least.
const LASTS: Duration = Duration::from_secs(60);
/// As many times as long as the stores before it kept it waiting: to try them anew costs a twentieth of the time then.
const TIMES: u32 = 20;

/// The store that gave a file when those before it did not, by its place among the stores. It says nothing of what is
/// absent: that is asked of all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct PreferredStore {
    /// Where it is kept for the next call; without it the stores are asked as they stand.
    path: Option<PathBuf>,
}

impl PreferredStore {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path: Some(path) }
    }

    /// The stores as they are asked: each by its place and once.
    pub(super) fn order(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.first().filter(|first| *first < count).unwrap_or(0);
        std::iter::once(first).chain((0..count).filter(move |place| *place != first)).take(count)
    }

    /// Takes note of the store that gave a file after the others had been waited for. One that is kept lasts from when it was
    /// found: then the first is tried anew.
    pub(super) fn gave(&self, place: usize, waited: Duration) {
        let Some(path) = self.path.as_ref().filter(|_| self.first().unwrap_or(0) != place) else { return };
        // What cannot be noted costs time only.
        let _ = match place {
            0 => std::fs::remove_file(path),
            place => {
                let new = path.with_extension("new");
                let text = format!("{place} {}", (waited * TIMES).max(LASTS).as_secs());
                super::spool::write(&new, text.as_bytes()).and_then(|()| std::fs::rename(&new, path))
            }
        };
    }

    fn first(&self) -> Option<usize> {
        let path = self.path.as_ref()?;
        let noted_at = Timestamp::try_from(std::fs::metadata(path).ok()?.modified().ok()?).ok()?;
        let text = std::fs::read_to_string(path).ok()?;
        let (place, lasts) = text.split_once(' ')?;
        let is_fresh = clock::between(noted_at, clock::now()) < Duration::from_secs(lasts.parse().ok()?);
        is_fresh.then(|| place.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_store_that_gave_a_file_is_asked_first_for_a_minute_and_the_others_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("first");
        let preferred = PreferredStore::at(path.clone());
        let order = |count| preferred.order(count).collect::<Vec<_>>();
        assert_eq!(order(3), [0, 1, 2]);
        preferred.gave(0, Duration::ZERO);
        assert!(!path.exists(), "nothing is to be remembered of the first");
        preferred.gave(2, Duration::ZERO);
        assert_eq!((order(3), order(2), order(0)), (vec![2, 0, 1], vec![0, 1], vec![]));
        let old = std::fs::File::options().write(true).open(&path).unwrap();
        let hour_ago = std::fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(3600);
        old.set_modified(hour_ago).unwrap();
        assert_eq!(order(3), [0, 1, 2], "the first may be back");
        preferred.gave(1, Duration::ZERO);
        preferred.gave(0, Duration::ZERO);
        assert_eq!((order(3), path.exists()), (vec![0, 1, 2], false));
        // What hung for a minute is not waited for every other minute.
        preferred.gave(1, Duration::from_secs(60));
        let aged = |seconds| {
            let noted = std::fs::File::options().write(true).open(&path).unwrap();
            let now = noted.metadata().unwrap().modified().unwrap();
            noted.set_modified(now - Duration::from_secs(seconds)).unwrap();
        };
        aged(19 * 60);
        assert_eq!(order(2), [1, 0]);
        aged(2 * 60);
        assert_eq!(order(2), [0, 1]);
        assert_eq!(PreferredStore::default().order(2).collect::<Vec<_>>(), [0, 1]);
    }
}
