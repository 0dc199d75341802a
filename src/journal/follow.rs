//! Follows the journal of a live run: each new event once, in order, verified.
//!
//! Reads what the engine has written, a moment before or after its `fdatasync`: only a power cut could take
//! back what was shown. Works on a finished run too, and from another process.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::file::JOURNAL_FILE;
use super::guard;
use super::reader;
use crate::base::clock;
use crate::event::{Event, EventKind};
use crate::port::JournalError;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// For how long damage of a live journal is doubted: a resume may mend a torn line while we read it.
const DOUBT: Duration = Duration::from_millis(300);

/// A reader that waits for more.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    chain: Chain,
    offset: u64,
    state: State,
    /// Since when there is damage; kept across dropped calls.
    damaged_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Finished,
}

/// Follows the run in `dir` from its first event.
///
/// # Errors
/// Fails when `plan.json` cannot be read.
pub fn follow(dir: &Path) -> Result<Follow, JournalError> {
    Ok(Follow {
        dir: dir.to_owned(),
        chain: reader::chain_of(dir)?,
        offset: 0,
        state: State::Running,
        damaged_since: None,
    })
}

impl Follow {
    /// Gives the next events, at least one; `None` when the run is over or nobody drives it any more. Cancel-safe.
    ///
    /// # Errors
    /// Fails when the journal cannot be read or does not hold together.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, JournalError> {
        while self.state == State::Running {
            // Asked before reading: what an engine wrote before it ended is then read in any case.
            let driven = guard::is_driven(&self.dir).unwrap_or(true);
            match self.poll() {
                Ok(events) if !events.is_empty() => return Ok(Some(events)),
                Ok(_) if !driven => return Ok(None),
                Ok(_) => self.damaged_since = None,
                Err(error) => {
                    let since = *self.damaged_since.get_or_insert_with(clock::monotonic);
                    if !driven || since.elapsed() >= DOUBT {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
        Ok(None)
    }

    /// Gives the events written since the last call, without waiting; none is no end.
    ///
    /// # Errors
    /// Fails when the journal cannot be read or does not hold together; the next call starts at the same line.
    pub fn poll(&mut self) -> Result<Vec<Event>, JournalError> {
        let bytes = self.new_bytes()?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let history = reader::scan(&bytes[..complete], self.chain.clone())?;
        self.offset += complete as u64;
        self.chain = history.chain;
        if let Some(Event { kind: EventKind::RunFinished { .. }, .. }) = history.events.last() {
            self.state = State::Finished;
        }
        Ok(history.events)
    }

    fn new_bytes(&self) -> Result<Vec<u8>, JournalError> {
        let path = self.dir.join(JOURNAL_FILE);
        let read = || {
            let mut file = std::fs::File::open(&path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| JournalError::Read { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::follow;
    use crate::base::Timestamp;
    use crate::event::{EventKind, Figures, Outcome};
    use crate::journal::{Runs, sample};
    use crate::port::Journal as _;

    fn finished() -> EventKind {
        EventKind::RunFinished { outcome: Outcome::Succeeded, exit_code: 0, figures: Box::new(Figures::default()) }
    }

    #[tokio::test]
    async fn events_are_followed_in_order_until_the_run_is_over() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let mut run = runs.create(&sample::plan()).expect("creates");
        let mut follower = follow(run.dir.path()).expect("opens");
        assert_eq!(follower.poll().expect("reads"), []);
        let mut write = |kind| {
            run.journal.append(Timestamp::UNIX_EPOCH, vec![kind]).expect("appends");
            run.journal.sync().expect("syncs");
        };
        write(sample::started_with(run.plan));
        let first = follower.next().await.expect("reads").expect("an event");
        write(EventKind::TailCut { bytes: 1 });
        write(finished());
        let rest = follower.next().await.expect("reads").expect("events");
        let seqs: Vec<u64> = first.iter().chain(&rest).map(|event| event.seq.0).collect();
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!(follower.next().await.expect("reads"), None);
    }

    #[tokio::test]
    async fn following_ends_when_the_engine_died() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let mut run = runs.create(&sample::plan()).expect("creates");
        run.journal.append(Timestamp::UNIX_EPOCH, vec![sample::started_with(run.plan)]).expect("appends");
        run.journal.sync().expect("syncs");
        let dir = run.dir.clone();
        drop(run);
        let mut follower = follow(dir.path()).expect("opens");
        assert_eq!(follower.next().await.expect("reads").map(|events| events.len()), Some(1));
        assert_eq!(follower.next().await.expect("reads"), None);
    }

    #[tokio::test]
    async fn following_goes_on_over_a_torn_line_that_a_resume_cuts() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let mut run = runs.create(&sample::plan()).expect("creates");
        run.journal.append(Timestamp::UNIX_EPOCH, vec![sample::started_with(run.plan)]).expect("appends");
        run.journal.sync().expect("syncs");
        let mut follower = follow(run.dir.path()).expect("opens");
        let path = run.dir.path().join("journal.jsonl");
        let mut torn = std::fs::OpenOptions::new().append(true).open(path).expect("opens");
        std::io::Write::write_all(&mut torn, br#"{"seq":2,"at":"2026"#).expect("writes");
        assert_eq!(follower.next().await.expect("reads").map(|events| events.len()), Some(1));
        assert_eq!(follower.poll().expect("a torn line is no event yet"), []);
        let mut opened = run.dir.resume_journal(&run.lock).expect("opens");
        opened.journal.append(Timestamp::UNIX_EPOCH, vec![finished()]).expect("appends");
        opened.journal.sync().expect("syncs");
        let rest = follower.next().await.expect("reads").expect("events");
        assert_eq!(rest[0].kind, EventKind::TailCut { bytes: 19 });
        assert_eq!((rest.len(), follower.next().await.expect("reads")), (2, None));
    }

    #[tokio::test]
    async fn damage_of_a_live_journal_is_told_also_to_one_who_asks_in_short_turns() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let run = runs.create(&sample::plan()).expect("creates");
        let path = run.dir.path().join("journal.jsonl");
        let mut meddler = std::fs::OpenOptions::new().append(true).open(path).expect("opens");
        std::io::Write::write_all(&mut meddler, b"{}\n").expect("writes");
        let mut follower = follow(run.dir.path()).expect("opens");
        let mut told = None;
        let mut turns = tokio::time::interval(super::EVERY / 3);
        for _ in 0..100 {
            tokio::select! {
                next = follower.next() => { told = Some(next); break }
                _ = turns.tick() => {}
            }
        }
        assert!(matches!(told, Some(Err(_))), "{told:?}");
    }
}
