//! Sub-runbooks become steps: those of the file a step uses stand behind it, renamed `parent/child`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::bind::{BindError, BindRequest};
use super::binder::Binder;
use super::model::{Edge, GroupScope, PlannedStep, Section, StepKind, Strictness};
use super::param::{self, INCIDENT_AT};
use super::sub::SubPlan;
use crate::base::{Digest, StepId};
use crate::language::inventory::Inventory;

/// The steps of one file with those of the runbooks it uses.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    /// Each step that stands for a sub-runbook comes right before the steps of it.
    pub(super) steps: Vec<PlannedStep>,
    /// What names mean in each sub-runbook.
    pub(super) groups: BTreeMap<StepId, GroupScope>,
}

impl Expanded {
    pub(super) fn extend(&mut self, more: Self) {
        self.steps.extend(more.steps);
        self.groups.extend(more.groups);
    }
}

impl Binder<'_> {
    /// Puts the steps of a sub-runbook behind the step that stands for it; any other step stands for itself.
    pub(super) fn expand(&self, parent: PlannedStep) -> Result<Expanded, Vec<BindError>> {
        let Some(sub) = self.plan.subs.get(parent.id.as_str()) else {
            return Ok(Expanded { steps: vec![parent], groups: BTreeMap::new() });
        };
        let of_parent = |error: BindError| in_group(error, &parent.id);
        let scope = self.scope_of(&parent, sub)?;
        let names = self.scope.clone().with("params", &json!(scope.params)).with("vars", &json!(scope.vars));
        let binder = Binder { plan: &sub.plan, scope: &names, params: &scope.params, ..*self };
        let inner = binder.steps().map_err(|errors| errors.into_iter().map(of_parent).collect::<Vec<_>>())?;
        Ok(self.join(parent, scope, inner))
    }

    /// Evaluates the parameters and variables of a sub-runbook.
    fn scope_of(&self, parent: &PlannedStep, sub: &SubPlan) -> Result<GroupScope, Vec<BindError>> {
        let fault = |message: String, help: Option<String>| {
            let (step, pointer) = (parent.id.to_string(), "/params".to_owned());
            BindError::Step { step, pointer, message, help }
        };
        let told = |error: BindError| match error {
            BindError::Usage { message, help } => fault(format!("`{}`: {message}", sub.file), Some(help)),
            other @ (BindError::Step { .. } | BindError::Rule { .. }) => other,
        };
        let (with, _) = self.known(&parent.uses, &parent.with).map_err(|message| vec![fault(message, None)])?;
        let given = self.given(with.get("params").and_then(Value::as_object), sub);
        let missing: Vec<BindError> = missing(sub, &given)
            .map(|name| {
                let message = format!("the parameter `{name}` of `{}` has no value", sub.file);
                fault(message, Some("what is given for it is null: give a value, or a default in that file".to_owned()))
            })
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let known = self.request.vars.iter().filter(|(name, _)| sub.inherited.contains(*name));
        let vars = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        let request = BindRequest { params: given.into_iter().collect(), vars, ..self.request.clone() };
        let inventory = Inventory { vars: self.vars_of(sub), ..self.inventory.clone() };
        let vars = param::vars(self.shared.run, &inventory, &request).map_err(|error| vec![told(error)])?;
        let params = param::params(&sub.plan.runbook, &inventory, (self.shared.run, &vars), &request)
            .map_err(|errors| errors.into_iter().map(told).collect::<Vec<_>>())?;
        param::incident_at(&sub.plan.runbook, &params, &request).map_err(|error| vec![told(error)])?;
        let outputs = &sub.plan.runbook.outputs;
        Ok(GroupScope {
            name: sub.plan.runbook.name.clone(),
            file: sub.file.clone(),
            params,
            vars,
            outputs: outputs.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect(),
        })
    }

    /// What the step gives, and the incident of the run where both declare it.
    fn given(&self, with: Option<&Map<String, Value>>, sub: &SubPlan) -> Map<String, Value> {
        let mut given = with.cloned().unwrap_or_default();
        let declares = sub.plan.runbook.params.iter().any(|(name, _)| name.value == INCIDENT_AT);
        if let Some(incident) = self.params.get(INCIDENT_AT).filter(|at| declares && !at.is_null()) {
            given.entry(INCIDENT_AT).or_insert_with(|| incident.clone());
        }
        given
    }

    fn vars_of(&self, sub: &SubPlan) -> BTreeMap<String, Value> {
        let shared = self.inventory.vars.iter().filter(|(name, _)| sub.inherited.contains(*name));
        shared.chain(&sub.vars).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn join(&self, mut parent: PlannedStep, scope: GroupScope, inner: Expanded) -> Expanded {
        let body: BTreeSet<StepId> = inner
            .steps
            .iter()
            .filter(|step| step.group.is_none() && step.section == Section::Body)
            .map(|step| step.id.clone())
            .collect();
        // As in any `finally`, nothing of a sub-runbook that stands there is undone.
        let kept = |step: &PlannedStep| step.section != Section::Undo || parent.section == Section::Body;
        let members: Vec<PlannedStep> =
            inner.steps.into_iter().filter(kept).map(|step| self.member(step, &parent, &body)).collect();
        parent.kind = StepKind::Runbook;
        // `defaults` are those of attempts, and it has none.
        parent.timeout_ms = None;
        let forward = |step: &&PlannedStep| step.section != Section::Undo;
        parent.effects.class =
            members.iter().filter(forward).map(|step| step.effects.class).max().unwrap_or(parent.effects.class);
        parent.fingerprint = fingerprint(&parent, &scope, &members);
        let mut groups: BTreeMap<StepId, GroupScope> =
            inner.groups.into_iter().map(|(id, scope)| (parent.id.child(id.as_str()), scope)).collect();
        groups.insert(parent.id.clone(), scope);
        Expanded { steps: std::iter::once(parent).chain(members).collect(), groups }
    }

    /// Makes a step of the sub-runbook a member of the group. Its `finally` waits for all of its body. One that
    /// reverses another stays in the section `undo` and has the group for the meaning of names only.
    fn member(&self, mut step: PlannedStep, parent: &PlannedStep, body: &BTreeSet<StepId>) -> PlannedStep {
        if step.group.is_none() && step.section == Section::Finally {
            step.always = true;
            let written: BTreeSet<StepId> = step.needs.iter().map(|edge| edge.from.clone()).collect();
            let unwritten = body.difference(&written);
            step.needs.extend(unwritten.map(|from| Edge { from: from.clone(), strictness: Strictness::Any }));
        }
        for edge in &mut step.needs {
            edge.from = parent.id.child(edge.from.as_str());
        }
        step.group = Some(match step.group {
            Some(inner) => parent.id.child(inner.as_str()),
            None => parent.id.clone(),
        });
        step.id = parent.id.child(step.id.as_str());
        if step.section != Section::Undo {
            step.section = parent.section;
        }
        let own = step.phase.filter(|phase| self.shared.phases.iter().any(|known| known.id == *phase));
        step.phase = parent.phase.clone().or(own);
        step
    }
}

/// Required parameters without a value.
fn missing<'a>(sub: &'a SubPlan, given: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let required =
        sub.plan.runbook.params.iter().filter(|(_, param)| param.required.unwrap_or(true) && param.default.is_none());
    required.map(|(name, _)| name.value.as_str()).filter(|name| !given.contains_key(*name))
}

/// Names a step of a sub-runbook as the run names it.
fn in_group(error: BindError, parent: &StepId) -> BindError {
    match error {
        BindError::Step { step, pointer, message, help } => {
            BindError::Step { step: format!("{parent}/{step}"), pointer, message, help }
        }
        other @ (BindError::Usage { .. } | BindError::Rule { .. }) => other,
    }
}

/// A group is what its steps are.
fn fingerprint(parent: &PlannedStep, scope: &GroupScope, members: &[PlannedStep]) -> Digest {
    let steps: Vec<_> = members.iter().map(|step| (step.id.as_str(), &step.fingerprint)).collect();
    Digest::of(json!({ "step": parent.fingerprint, "outputs": scope.outputs, "steps": steps }).to_string().as_bytes())
}
