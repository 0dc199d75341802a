//! Everything a report speaks of, in the order it is told: the steps of the plan, each group followed by its members.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::phrase::{is_idle_undo, node_state};
use crate::base::StepId;
use crate::plan::render::NodeState;
use crate::plan::{BoundPlan, PlannedStep, Section, StepKind};
use crate::state::{RunState, StepState, StepStatus};

/// A step of the plan, or an instance of one that fans out.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    /// Its id.
    pub(super) id: Cow<'a, StepId>,
    /// What was planned for it; for an instance, its fan-out.
    pub(super) planned: &'a PlannedStep,
    /// The key of an instance.
    pub(super) key: Option<&'a str>,
    /// What is known of it.
    pub(super) known: Option<&'a StepState>,
    /// Where it stands.
    pub(super) state: NodeState,
    /// The group it is a member of.
    pub(super) group: Option<StepId>,
    /// How many groups it lies in.
    pub(super) depth: usize,
    /// What its members came to, those of groups in it included; all zero for what is no group.
    pub(super) members: Counts,
}

/// How many steps stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, schemars::JsonSchema)]
pub(super) struct Counts {
    /// All of them.
    pub(super) all: usize,
    /// Did what they are for.
    pub(super) done: usize,
    /// Are under way.
    pub(super) running: usize,
    /// Wait for a person.
    pub(super) asking: usize,
    /// Failed, or may have.
    pub(super) failed: usize,
    /// Did not run.
    pub(super) skipped: usize,
}

impl Counts {
    fn add(&mut self, state: NodeState) {
        self.all += 1;
        match state {
            NodeState::Succeeded => self.done += 1,
            NodeState::Running => self.running += 1,
            NodeState::Asking => self.asking += 1,
            NodeState::Failed | NodeState::Unknown | NodeState::Cancelled => self.failed += 1,
            NodeState::Skipped => self.skipped += 1,
            NodeState::Pending => {}
        }
    }

    fn absorb(&mut self, other: Self) {
        self.all += other.all;
        self.done += other.done;
        self.running += other.running;
        self.asking += other.asking;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Says it in words: `3/5 done, 1 running`.
    pub(super) fn words(self) -> String {
        let rest =
            [(self.running, "running"), (self.asking, "waiting"), (self.failed, "failed"), (self.skipped, "skipped")];
        let rest = rest.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!(", {count} {word}"));
        format!("{}/{} done{}", self.done, self.all, rest.collect::<String>())
    }
}

impl Entry<'_> {
    /// What people call it.
    pub(super) fn name(&self) -> String {
        match self.key {
            Some(key) => format!("{} [{key}]", self.planned.name),
            None => self.planned.name.clone(),
        }
    }

    /// Whether it stands for others.
    pub(super) fn is_group(&self) -> bool {
        self.key.is_none() && (self.planned.kind == StepKind::Runbook || self.planned.for_each.is_some())
    }

    /// Whether it makes something itself, and is counted.
    pub(super) fn is_leaf(&self) -> bool {
        !self.is_group() || self.members.all == 0
    }
}

/// Lists all entries: body, undo, finally; of the undo only what there was to undo.
pub(super) fn roster<'a>(plan: &'a BoundPlan, state: &'a RunState) -> Vec<Entry<'a>> {
    let mut children: BTreeMap<&StepId, Vec<&PlannedStep>> = BTreeMap::new();
    let inside = |step: &&PlannedStep| step.section != Section::Undo;
    for step in plan.steps.iter().filter(inside) {
        if let Some(group) = &step.group {
            children.entry(group).or_default().push(step);
        }
    }
    let mut lister = Lister { state, children, entries: Vec::with_capacity(plan.steps.len()) };
    for section in [Section::Body, Section::Undo, Section::Finally] {
        for step in plan.section(section).filter(|step| step.group.is_none() || section == Section::Undo) {
            lister.list(step, 0);
        }
    }
    lister.entries
}

/// What is counted of a list: groups are not, their members are.
pub(super) fn totals(entries: &[Entry<'_>]) -> Counts {
    let mut counts = Counts::default();
    entries.iter().filter(|entry| entry.is_leaf()).for_each(|entry| counts.add(entry.state));
    counts
}

struct Lister<'a> {
    state: &'a RunState,
    children: BTreeMap<&'a StepId, Vec<&'a PlannedStep>>,
    entries: Vec<Entry<'a>>,
}

impl<'a> Lister<'a> {
    /// Lists a step and its members; gives what it counts for.
    fn list(&mut self, step: &'a PlannedStep, depth: usize) -> Counts {
        let instances = self.instances(step);
        if instances.is_empty() && is_idle_undo(step, self.state) {
            return Counts::default();
        }
        let place = self.entries.len();
        self.push((Cow::Borrowed(&step.id), None), step, depth);
        let mut counts = Counts::default();
        for (id, key) in instances {
            self.push((Cow::Owned(id), Some(key)), step, depth + 1);
            counts.add(self.entries[self.entries.len() - 1].state);
        }
        for child in self.children.get(&step.id).cloned().unwrap_or_default() {
            counts.absorb(self.list(child, depth + 1));
        }
        self.entries[place].members = counts;
        if counts.all == 0 {
            counts.add(self.entries[place].state);
        }
        counts
    }

    /// The instances of a fan-out, or what reverses them as far as that was made.
    fn instances(&self, step: &'a PlannedStep) -> Vec<(StepId, &'a str)> {
        let of = step.id.undone().filter(|_| step.section == Section::Undo);
        let fan_out = of.as_ref().unwrap_or(&step.id);
        let opened = self.state.steps.get(fan_out).map_or(&[][..], |opened| &opened.instances);
        let mut found: Vec<(StepId, &'a str)> =
            opened.iter().map(|instance| (instance.step.clone(), instance.key.as_str())).collect();
        if found.is_empty() && step.for_each.is_some() {
            // Those of an earlier run: the fan-out itself was not opened in this one.
            let seeded = self.state.steps.keys().filter(|id| id.of_instance().as_ref() == Some(fan_out));
            found.extend(seeded.map(|id| (id.clone(), key_of(id))));
        }
        if of.is_some() {
            let made = |id: &StepId| self.state.steps.get(id).is_some_and(|known| known.skipped.is_none());
            found = found.into_iter().map(|(id, key)| (id.undo(), key)).filter(|(id, _)| made(id)).collect();
        }
        found
    }

    fn push(&mut self, (id, key): (Cow<'a, StepId>, Option<&'a str>), planned: &'a PlannedStep, depth: usize) {
        let known = self.state.steps.get(&*id);
        let state = node_state(known.map_or(StepStatus::Pending, |known| known.status));
        let group = match key {
            Some(_) => Some(planned.id.clone()),
            None => planned.group.clone().filter(|_| planned.section != Section::Undo),
        };
        self.entries.push(Entry { id, planned, key, known, state, group, depth, members: Counts::default() });
    }
}

fn key_of(id: &StepId) -> &str {
    let text = id.as_str();
    text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or(text)
}
