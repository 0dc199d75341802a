//! Which run came after which, by the ledger: its lines follow one another whatever the clock was set to meanwhile.

use std::collections::BTreeMap;

use super::{Anchor, Ledger, LedgerError, read_line};
use crate::base::RunId;

/// The order in which runs began and ended. The time in a run's id is what the clock said, which may have been set since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunOrder {
    started: BTreeMap<RunId, usize>,
    finished: BTreeMap<RunId, usize>,
    /// By their ids: the newest line among those of runs whose ids are not greater.
    reached: BTreeMap<RunId, usize>,
}

impl Ledger {
    /// Reads the order of the runs, without verifying the chain. Of a line that cannot be read only that line is lost.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn order(&self) -> Result<RunOrder, LedgerError> {
        Ok(RunOrder::scan(&self.bytes()?))
    }
}

impl RunOrder {
    fn scan(bytes: &[u8]) -> Self {
        let mut order = Self::default();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            match read_line(line).map(|(line, _)| line.anchor) {
                Some(Anchor::Started { run, .. }) => {
                    order.started.entry(run).or_insert(at + 1);
                }
                Some(Anchor::Finished { run, .. }) => {
                    order.finished.entry(run).or_insert(at + 1);
                }
                Some(Anchor::Unknown) | None => {}
            }
        }
        let mut newest = 0;
        for (run, at) in &order.started {
            newest = newest.max(*at);
            order.reached.insert(run.clone(), newest);
        }
        order
    }

    /// Sorts runs, newest first. One without a line, which was cut off while it was created or comes from elsewhere, stands
    /// after all whose ids are smaller.
    pub fn sort_newest_first(&self, ids: &mut [RunId]) {
        ids.sort_by_cached_key(|id| std::cmp::Reverse(self.place(id)));
    }

    /// Tells whether a run began after another one.
    #[must_use]
    pub fn is_later(&self, run: &RunId, other: &RunId) -> bool {
        self.place(run) > self.place(other)
    }

    /// Tells whether a run began when another one was over. Of runs without a line that is not known.
    #[must_use]
    pub fn began_after_end(&self, run: &RunId, other: &RunId) -> bool {
        self.started.get(run).zip(self.finished.get(other)).is_some_and(|(began, ended)| began > ended)
    }

    fn place(&self, id: &RunId) -> (usize, bool, RunId) {
        match self.started.get(id) {
            Some(at) => (*at, false, id.clone()),
            None => {
                let reached = self.reached.range(..id.clone()).next_back().map_or(0, |(_, at)| *at);
                (reached, true, id.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Anchor, Ledger, RunOrder};
    use crate::base::{Digest, EventSeq, RunId};
    use crate::event::Outcome;

    fn id(text: &str) -> RunId {
        text.parse().expect("a run id")
    }

    #[test]
    fn runs_follow_one_another_as_they_began_whatever_the_clock_said() {
        let root = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::below(root.path());
        assert_eq!(ledger.order().expect("reads"), RunOrder::default(), "there is none yet");
        let (ahead, right) = (id("20260101-130000-aaaaaa"), id("20260101-120500-bbbbbb"));
        for run in [&ahead, &right] {
            ledger.start(run, Digest::default()).expect("anchors");
        }
        let order = ledger.order().expect("reads");
        assert!(order.is_later(&right, &ahead) && !order.is_later(&ahead, &right));
        assert!(!order.began_after_end(&right, &ahead), "it has not ended");
        let (next, outcome) = (id("20260101-120700-ffffff"), Outcome::Succeeded);
        let end = Anchor::Finished { run: ahead.clone(), seq: EventSeq(3), head: Digest::default(), outcome };
        ledger.append(end).expect("anchors");
        ledger.start(&next, Digest::default()).expect("anchors");
        let order = ledger.order().expect("reads");
        assert!(order.began_after_end(&next, &ahead) && !order.began_after_end(&right, &ahead));
        // Without lines the ids are all there is.
        let (before, between, after) =
            (id("20260101-110000-cccccc"), id("20260101-121000-dddddd"), id("20260101-140000-eeeeee"));
        let mut ids = [&after, &ahead, &before, &next, &between, &right].map(Clone::clone);
        order.sort_newest_first(&mut ids);
        assert_eq!(ids, [after, between, next, right, ahead, before]);
    }
}
