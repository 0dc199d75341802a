//! What ends around a step: a cancel, and a failure in its group, in one around that, or in the body.
//!
//! The rule of a run, applied again inside every group: after a failure that is not tolerated nothing new begins
//! there, except what runs in any case.

use super::decide::{Decision, Picture};
use super::frontier::slot;
use crate::event::{CancelLevel, SkipReason};
use crate::plan::Section;
use crate::state::StepStatus;

impl Picture<'_> {
    /// A cancel ends the body; what was begun to be undone ends only at the second one, and `finally` runs all the same.
    pub(super) fn stopping(&self, section: Section) -> Option<CancelLevel> {
        let asked = self.state.cancel.as_ref().map(|(level, ..)| *level);
        match section {
            Section::Body => asked,
            Section::Undo => asked.filter(|level| *level == CancelLevel::Now),
            Section::Finally => None,
        }
    }

    /// How hard the step at a position is told to end. What runs in any case is not.
    pub(super) fn told_to_end(&self, at: usize) -> Option<CancelLevel> {
        self.stopping(self.index.step(at).section).filter(|_| !self.around(at).any(|here| self.spared(here)))
    }

    /// Why the step at a position will not begin, although nothing it needs is in its way.
    pub(super) fn ending(&self, at: usize) -> Option<SkipReason> {
        let mut outermost = at;
        for here in self.around(at) {
            if self.spared(here) {
                return None;
            }
            let group = self.index.group(here).and_then(|group| self.frontier.groups.get(&group));
            if group.is_some_and(|members| members.aborted) {
                return Some(self.told_to_end(at).map_or(SkipReason::Aborted, |_| SkipReason::Cancelled));
            }
            outermost = here;
        }
        if self.index.step(outermost).section != Section::Body {
            return None;
        }
        match &self.state.cancel {
            Some(_) => Some(SkipReason::Cancelled),
            None => self.frontier.aborted.then_some(SkipReason::Aborted),
        }
    }

    /// A step, the group it is a member of, the group around that, and so on.
    fn around(&self, at: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(at), |here| self.index.group(*here))
    }

    /// Whether a step runs also when what is around it ends: one that runs in any case, where its group began.
    fn spared(&self, at: usize) -> bool {
        let group = self.index.group(at).and_then(|group| self.frontier.groups.get(&group));
        self.index.step(at).always && group.is_some_and(|members| members.begun)
    }

    /// Leaves out what will not begin because something ended around it.
    pub(super) fn leave_out(&self, section: Section, decisions: &mut Vec<Decision>) {
        let pending = &self.frontier.pending[slot(section)];
        let body_ends = section == Section::Body && (self.state.cancel.is_some() || self.frontier.aborted);
        let leave = |at: usize, decisions: &mut Vec<Decision>| {
            let open = self.index.group(at).is_none_or(|group| self.is_open(group));
            if open && !self.is_ordered(at) && !self.frontier.doomed[slot(section)].contains_key(&at) {
                let step = || self.index.step(at).id.clone();
                decisions.extend(self.ending(at).map(|why| Decision::Skip { step: step(), why }));
            }
        };
        if body_ends {
            pending.iter().for_each(|at| leave(*at, decisions));
            return;
        }
        for group in self.frontier.active.iter().filter(|at| self.is_open(**at) && self.ends_inside(**at)) {
            if self.index.is_fan_out(*group) {
                pending.range(self.index.instances(*group)).for_each(|at| leave(*at, decisions));
            } else {
                let members = self.index.members(*group).into_iter();
                members.filter(|at| pending.contains(at)).for_each(|at| leave(at, decisions));
            }
        }
    }

    fn is_open(&self, group: usize) -> bool {
        self.state.status(&self.index.step(group).id) == StepStatus::Open
    }

    fn ends_inside(&self, group: usize) -> bool {
        let aborted = |here: usize| self.frontier.groups.get(&here).is_some_and(|members| members.aborted);
        self.around(group).any(aborted)
    }
}
