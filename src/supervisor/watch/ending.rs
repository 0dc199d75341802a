//! Ends a tree: TERM, a grace, KILL, and again until nothing is left.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::base::clock::monotonic;
use crate::supervisor::identity::ProcessId;
use crate::supervisor::outcome::End;
use crate::supervisor::request::{EndLevel, Life};
use crate::supervisor::tree;

/// How often the tree is looked at for processes that came in between.
const RESCAN: Duration = Duration::from_millis(100);
/// How long after the first KILL something may still be there before it is reported as not ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the ending goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something is left; wait until [`Ending::wake_at`].
    Wait,
    /// Something is left that KILL did not end in time.
    GivenUp,
}

/// The state of an ending.
pub(super) struct Ending {
    why: End,
    kill_at: Instant,
    give_up_at: Option<Instant>,
    wake_at: Instant,
    told: BTreeSet<ProcessId>,
}

impl Ending {
    pub(super) fn new(why: End, grace: Duration) -> Self {
        let now = monotonic();
        Self { why, kill_at: now + grace, give_up_at: None, wake_at: now, told: BTreeSet::new() }
    }

    pub(super) fn why(&self) -> End {
        self.why
    }

    pub(super) fn wake_at(&self) -> Instant {
        self.wake_at
    }

    /// Leaves no grace when the level says so.
    pub(super) fn harden(&mut self, level: EndLevel) {
        if level == EndLevel::Kill && self.give_up_at.is_none() {
            self.kill_at = monotonic();
            self.wake_at = self.kill_at;
        }
    }

    /// Signals what is there and was not told yet; once the grace is over, kills what is there.
    pub(super) fn go_on(&mut self, life: &Life, main: u32) -> io::Result<Step> {
        let now = monotonic();
        if now < self.wake_at {
            return Ok(Step::Wait);
        }
        let mut left = tree::descendants(std::process::id())?;
        if *life == Life::Daemon {
            left.retain(|process| process.pid == main);
        }
        if now < self.kill_at {
            left.retain(|process| !self.told.contains(process));
            tree::signal_all(&left, Signal::TERM);
            self.told.extend(left);
            self.wake_at = (now + RESCAN).min(self.kill_at);
            return Ok(Step::Wait);
        }
        let give_up_at = *self.give_up_at.get_or_insert(now + PATIENCE);
        if now >= give_up_at {
            return Ok(Step::GivenUp);
        }
        tree::signal_all(&left, Signal::KILL);
        self.wake_at = now + RESCAN / 10;
        Ok(Step::Wait)
    }
}
