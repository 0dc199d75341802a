//! A journal in memory, for rehearsals and for tests of the engine: the same chain, and faults on demand.
//!
//! It models a disk that survives and an engine that does not: what was synced stays, what was only
//! appended is gone. After a crash every call fails; [`MemoryJournal::reopen`] is what the next engine
//! finds. It is not a store of real runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chain::Chain;
use crate::base::{Digest, EventSeq, RunId, Timestamp};
use crate::event::{Event, EventKind};
use crate::port::{Journal, JournalError};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The nth call of `append` fails, counted from 1, and every call after it.
    FailAppend(u64),
    /// The nth call of `sync` fails, counted from 1, with nothing of its round durable, and every call after it.
    FailSync(u64),
    /// The machine dies when this event is about to become durable: it and all later ones are lost.
    ///
    /// Where the event opens its round, the effects that led to it have happened.
    CrashBefore(EventSeq),
    /// The machine dies when this event has just become durable: later ones of its round are lost, and the
    /// engine does not learn that its sync succeeded.
    CrashAfter(EventSeq),
}

/// A journal in memory; clones share it, so that a test can look while an engine writes.
#[derive(Debug, Clone)]
pub struct MemoryJournal {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    chain: Chain,
    pending: Vec<Event>,
    durable: Vec<Event>,
    fault: Option<Fault>,
    dead: bool,
    appends: u64,
    syncs: u64,
}

impl MemoryJournal {
    /// An empty journal for a plan of this digest.
    #[must_use]
    pub fn new(run: RunId, plan: Digest) -> Self {
        Self::over(Chain::start(run, plan), Vec::new())
    }

    fn over(chain: Chain, durable: Vec<Event>) -> Self {
        let shared = Shared { chain, pending: Vec::new(), durable, fault: None, dead: false, appends: 0, syncs: 0 };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Arms a fault. Counts of calls begin at the journal's creation.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        self.lock().fault = Some(fault);
        self
    }

    /// The durable events in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().durable.clone()
    }

    /// Events appended and not yet durable.
    #[must_use]
    pub fn pending(&self) -> Vec<Event> {
        self.lock().pending.clone()
    }

    /// Number of syncs that had something to write and succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Whether a fault has struck.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// What the next engine finds: the durable events, verified again, and a journal that continues them without a
    /// fault. The old handle is dead from here on.
    ///
    /// # Errors
    /// Fails when the durable events do not hold together, which would be a bug here.
    pub fn reopen(&self) -> Result<(Vec<Event>, Self), JournalError> {
        let mut old = self.lock();
        old.dead = true;
        let (run, plan) = (old.chain.run().clone(), old.chain.plan());
        let mut chain = Chain::start(run.clone(), plan);
        for event in &old.durable {
            let linked = chain.link(event.at, event.kind.clone()).map_err(|error| failed(&run, error.into()))?;
            if linked.event != *event {
                return Err(JournalError::Corrupt { run, seq: event.seq, what: "the chain differs".to_owned() });
            }
        }
        Ok((old.durable.clone(), Self::over(chain, old.durable.clone())))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, at: Timestamp, kinds: Vec<EventKind>) -> Result<Vec<Event>, JournalError> {
        let mut shared = self.lock();
        shared.appends += 1;
        if shared.fault == Some(Fault::FailAppend(shared.appends)) {
            shared.dead = true;
        }
        shared.alive()?;
        let mut events = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let linked = shared.chain.link(at, kind);
            events.push(linked.map_err(|error| failed(shared.chain.run(), error.into()))?.event);
        }
        shared.pending.extend_from_slice(&events);
        Ok(events)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        let mut shared = self.lock();
        shared.alive()?;
        if shared.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut shared.pending);
        let kept = match shared.fault {
            Some(Fault::FailSync(nth)) if nth == shared.syncs + 1 => Some(0),
            Some(Fault::CrashBefore(seq)) => pending.iter().position(|event| event.seq >= seq),
            Some(Fault::CrashAfter(seq)) => pending.iter().position(|event| event.seq >= seq).map(|at| at + 1),
            Some(Fault::FailAppend(_) | Fault::FailSync(_)) | None => None,
        };
        shared.dead = kept.is_some();
        shared.durable.extend(pending.into_iter().take(kept.unwrap_or(usize::MAX)));
        shared.alive()?;
        shared.syncs += 1;
        Ok(())
    }
}

impl Shared {
    fn alive(&self) -> Result<(), JournalError> {
        if self.dead {
            return Err(failed(self.chain.run(), std::io::Error::other("the journal is dead")));
        }
        Ok(())
    }
}

fn failed(run: &RunId, source: std::io::Error) -> JournalError {
    JournalError::Write { run: run.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::{Fault, MemoryJournal};
    use crate::base::{EventSeq, Timestamp};
    use crate::event::EventKind;
    use crate::journal::sample;
    use crate::port::Journal;

    fn cut(bytes: u64) -> EventKind {
        EventKind::TailCut { bytes }
    }

    fn journal(fault: Fault) -> MemoryJournal {
        MemoryJournal::new(sample::run(), sample::plan_digest()).with_fault(fault)
    }

    fn seqs(journal: &MemoryJournal) -> Vec<u64> {
        journal.events().iter().map(|event| event.seq.0).collect()
    }

    #[test]
    fn a_crash_before_an_event_keeps_the_rounds_and_the_part_before_it() {
        let mut journal = journal(Fault::CrashBefore(EventSeq(3)));
        journal.append(Timestamp::UNIX_EPOCH, vec![sample::started()]).expect("appends");
        journal.sync().expect("syncs");
        journal.append(Timestamp::UNIX_EPOCH, vec![cut(2), cut(3), cut(4)]).expect("appends");
        assert!(journal.sync().is_err());
        assert!(journal.append(Timestamp::UNIX_EPOCH, vec![cut(5)]).is_err());
        assert_eq!(seqs(&journal), [1, 2]);
    }

    #[test]
    fn a_crash_after_an_event_keeps_it() {
        let mut journal = journal(Fault::CrashAfter(EventSeq(2)));
        journal.append(Timestamp::UNIX_EPOCH, vec![sample::started(), cut(2), cut(3)]).expect("appends");
        assert!(journal.sync().is_err());
        assert_eq!((seqs(&journal), journal.is_dead()), (vec![1, 2], true));
    }

    #[test]
    fn what_was_not_synced_is_gone_and_the_next_engine_continues_the_chain() {
        let mut journal = journal(Fault::FailSync(2));
        journal.append(Timestamp::UNIX_EPOCH, vec![sample::started()]).expect("appends");
        journal.sync().expect("syncs");
        journal.append(Timestamp::UNIX_EPOCH, vec![cut(2)]).expect("appends");
        assert!(journal.sync().is_err());
        let (events, mut next) = journal.reopen().expect("holds together");
        assert_eq!(events.len(), 1);
        let more = next.append(Timestamp::UNIX_EPOCH, vec![cut(7)]).expect("appends");
        next.sync().expect("syncs");
        assert_eq!((more[0].seq, more[0].prev), (EventSeq(2), events[0].hash));
        assert_eq!(next.events().len(), 2);
    }

    #[test]
    fn an_append_fails_on_demand() {
        let mut journal = journal(Fault::FailAppend(2));
        journal.append(Timestamp::UNIX_EPOCH, vec![sample::started()]).expect("appends");
        assert!(journal.append(Timestamp::UNIX_EPOCH, vec![cut(1)]).is_err());
        assert!(journal.sync().is_err(), "a failed journal stays failed");
    }
}
