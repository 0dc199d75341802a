//! What a plan says about its graph, looked up once, and the instances that its fan-outs come to in a run.
//!
//! A position names a step. Those of a fan-out's instances lie between that of the step and that of the next one,
//! so they stand in the order of the plan, and no position depends on when a fan-out was opened.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::base::StepId;
use crate::event::Instance;
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, PlannedStep, Section, StepKind, Strictness};
use crate::state::RunState;

/// How many positions a step of the plan takes: its own, and one for each instance it may have.
const SPAN: usize = 1 << 14;

/// A plan with its edges resolved to positions.
#[derive(Debug, Clone)]
pub struct PlanIndex {
    plan: Arc<BoundPlan>,
    positions: BTreeMap<StepId, usize>,
    rows: Vec<Row>,
    body: usize,
}

/// What is known of one step of the plan.
#[derive(Debug, Clone, Default)]
struct Row {
    needs: Vec<(usize, Strictness)>,
    dependents: Vec<usize>,
    /// The step that stands for the sub-runbook it belongs to.
    group: Option<usize>,
    /// The steps of the sub-runbook that it stands for.
    children: Vec<usize>,
    /// What a fan-out came to, or what reverses that.
    instances: Vec<PlannedStep>,
}

impl PlanIndex {
    /// Looks the plan over, before anything happened. An edge from a step that the plan does not hold is ignored:
    /// `plan` never makes one.
    #[must_use]
    pub fn new(plan: Arc<BoundPlan>) -> Self {
        let steps = plan.steps.iter().enumerate();
        let positions: BTreeMap<StepId, usize> = steps.map(|(row, step)| (step.id.clone(), row * SPAN)).collect();
        let mut rows = vec![Row::default(); plan.steps.len()];
        for (row, step) in plan.steps.iter().enumerate() {
            let edges = step.needs.iter();
            let edges = edges.filter_map(|edge| Some((*positions.get(&edge.from)?, edge.strictness)));
            rows[row].needs = edges.collect();
            for (from, _) in rows[row].needs.clone() {
                rows[from / SPAN].dependents.push(row * SPAN);
            }
            // What reverses a step reads the names of its file, and is no member: its group ended long before.
            let group = step.group.as_ref().filter(|_| step.section != Section::Undo);
            rows[row].group = group.and_then(|group| positions.get(group)).copied();
            if let Some(group) = rows[row].group {
                rows[group / SPAN].children.push(row * SPAN);
            }
        }
        let body = plan.steps.iter().filter(|step| step.section == Section::Body).count();
        Self { plan, positions, rows, body }
    }

    /// Looks the plan over with the instances that its fan-outs came to so far.
    #[must_use]
    pub fn of(plan: Arc<BoundPlan>, state: &RunState) -> Self {
        let mut index = Self::new(plan);
        let fanned = index.plan.steps.iter().filter(|step| step.for_each.is_some());
        let opened = fanned.filter_map(|step| Some((index.position(&step.id)?, &state.steps.get(&step.id)?.instances)));
        for (at, instances) in opened.collect::<Vec<_>>() {
            index.fan_out(at, instances);
        }
        index
    }

    /// Makes the instances of the fan-out at a position, and the steps that reverse them; gives their positions.
    pub fn fan_out(&mut self, at: usize, instances: &[Instance]) -> Vec<usize> {
        if !self.is_fan_out(at) {
            return Vec::new();
        }
        let undo = self.position(&self.step(at).id.undo());
        let mut made = Vec::with_capacity(instances.len());
        for instance in instances.iter().take(SPAN - 1) {
            made.push(self.instantiate(at, instance.step.clone(), instance));
            if let Some(undo) = undo {
                made.push(self.instantiate(undo, instance.step.undo(), instance));
            }
        }
        made
    }

    fn instantiate(&mut self, template: usize, id: StepId, instance: &Instance) -> usize {
        let planned = self.step(template);
        let step = PlannedStep {
            name: format!("{} [{}]", planned.name, instance.key),
            id: id.clone(),
            item: Some(instance.item.clone()),
            needs: Vec::new(),
            when: None,
            preconditions: Vec::new(),
            for_each: None,
            ..planned.clone()
        };
        let row = &mut self.rows[template / SPAN];
        row.instances.push(step);
        let at = template / SPAN * SPAN + row.instances.len();
        self.positions.insert(id, at);
        at
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<BoundPlan> {
        &self.plan
    }

    /// Every position in order: the steps of the plan, each followed by its instances.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().enumerate().flat_map(|(row, known)| row * SPAN..=row * SPAN + known.instances.len())
    }

    /// The step at a position.
    #[must_use]
    pub fn step(&self, at: usize) -> &PlannedStep {
        match (at % SPAN).checked_sub(1) {
            Some(number) => &self.rows[at / SPAN].instances[number],
            None => &self.plan.steps[at / SPAN],
        }
    }

    /// The position of a step.
    #[must_use]
    pub fn position(&self, step: &StepId) -> Option<usize> {
        self.positions.get(step).copied()
    }

    /// What the step at a position waits for.
    #[must_use]
    pub fn needs(&self, at: usize) -> &[(usize, Strictness)] {
        if is_instance(at) { &[] } else { &self.rows[at / SPAN].needs }
    }

    /// Who waits for the step at a position.
    #[must_use]
    pub fn dependents(&self, at: usize) -> &[usize] {
        if is_instance(at) { &[] } else { &self.rows[at / SPAN].dependents }
    }

    /// The open step that the one at a position is a member of: the fan-out of an instance, the sub-runbook of a step.
    #[must_use]
    pub fn group(&self, at: usize) -> Option<usize> {
        let head = at / SPAN * SPAN;
        if is_instance(at) { self.is_fan_out(head).then_some(head) } else { self.rows[at / SPAN].group }
    }

    /// The fan-out that made the step at a position, with its number there; for what reverses an instance, that of
    /// the instance.
    #[must_use]
    pub fn instance(&self, at: usize) -> Option<(usize, usize)> {
        let number = (at % SPAN).checked_sub(1)?;
        let head = at / SPAN * SPAN;
        let of = if self.is_fan_out(head) { head } else { self.position(&self.step(head).id.undone()?)? };
        Some((of, number))
    }

    /// The members of the step at a position.
    #[must_use]
    pub fn members(&self, at: usize) -> Vec<usize> {
        match self.is_fan_out(at) {
            true => self.instances(at).take(self.rows[at / SPAN].instances.len()).collect(),
            false if is_instance(at) => Vec::new(),
            false => self.rows[at / SPAN].children.clone(),
        }
    }

    /// The positions that the instances of a fan-out may have.
    #[must_use]
    pub fn instances(&self, at: usize) -> Range<usize> {
        at + 1..(at / SPAN + 1) * SPAN
    }

    /// Whether the step at a position stands for instances.
    #[must_use]
    pub fn is_fan_out(&self, at: usize) -> bool {
        !is_instance(at) && self.step(at).for_each.is_some() && self.step(at).section != Section::Undo
    }

    /// Whether the step at a position stands for others and makes nothing itself.
    #[must_use]
    pub fn is_group(&self, at: usize) -> bool {
        self.is_fan_out(at) || self.step(at).kind == StepKind::Runbook
    }

    /// How many of the plan's steps are body steps.
    #[must_use]
    pub fn body(&self) -> usize {
        self.body
    }

    /// Whether the failure of the step at a position is tolerated.
    #[must_use]
    pub fn tolerates(&self, at: usize) -> bool {
        self.step(at).on_failure == OnFailure::Continue
    }
}

fn is_instance(at: usize) -> bool {
    !at.is_multiple_of(SPAN)
}
