//! From a bound plan to a checklist.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::item::item;
use super::model::{Checklist, Expected, Item, Part, Resource, SecretNeed};
use crate::action::{ActionError, Registry, Target};
use crate::base::StepId;
use crate::language::inventory::{Database, SecretEntry};
use crate::plan::{BoundPlan, Forecast, PlannedStep, Section};

/// What a checklist is made of.
pub struct Material<'a> {
    /// The plan.
    pub plan: &'a BoundPlan,
    /// The actions.
    pub registry: &'a Registry,
    /// The arguments of each step of the plan, as far as they are known.
    pub arguments: &'a [Result<Value, ActionError>],
    /// From past runs.
    pub forecast: &'a Forecast,
    /// Parameters that are given only when it is carried out.
    pub open: &'a BTreeSet<String>,
}

impl Material<'_> {
    /// How long a step took before.
    pub(super) fn expected(&self, step: &StepId) -> Option<Expected> {
        let known = self.forecast.steps.iter().find(|known| known.id == *step)?;
        Some(Expected { median_ms: known.median_ms, p95_ms: known.p95_ms, samples: known.samples })
    }
}

/// Makes a checklist.
#[must_use]
pub fn checklist(material: &Material<'_>) -> Checklist {
    let plan = material.plan;
    let value = |(name, value): (&String, &Value)| {
        (name.clone(), if material.open.contains(name) { Value::Null } else { value.clone() })
    };
    let forecast = material.forecast;
    let expected = (forecast.runs > 0).then_some(Expected {
        median_ms: forecast.median_ms,
        p95_ms: forecast.p95_ms,
        samples: forecast.runs,
    });
    Checklist {
        name: plan.name.clone(),
        description: plan.description.clone(),
        owner: plan.owner.clone(),
        controls: plan.controls.clone(),
        environment: plan.environment.clone(),
        protected: plan.protected,
        mode: plan.mode.as_str(),
        made_at: plan.started_at.strftime("%F %T UTC").to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        objectives: objectives(plan),
        params: plan
            .params
            .iter()
            .filter(|(name, value)| !value.is_null() || material.open.contains(*name))
            .map(value)
            .collect(),
        vars: plan.vars.clone(),
        secrets: secrets(plan),
        programs: programs(plan),
        resources: resources(plan),
        locks: plan.locks.clone(),
        expected,
        parts: parts(material),
        sources: plan.sources.iter().map(|source| (source.name.clone(), source.digest)).collect(),
    }
}

fn objectives(plan: &BoundPlan) -> Vec<String> {
    let rto = plan.objectives.rto.map(|rto| format!("RTO {rto}: back in service within that time"));
    let rpo = plan.objectives.rpo.map(|rpo| format!("RPO {rpo}: no more data than that may be lost"));
    rto.into_iter().chain(rpo).collect()
}

/// The secrets a plan needs, and where they come from.
#[must_use]
pub fn secrets(plan: &BoundPlan) -> Vec<SecretNeed> {
    let names: BTreeSet<&String> = plan.steps.iter().flat_map(|step| &step.secrets).collect();
    let need = |name: &String| SecretNeed {
        name: name.clone(),
        from: plan.inventory.secrets.get(name).map_or_else(|| "nowhere: it is not declared".to_owned(), provider),
    };
    names.into_iter().map(need).collect()
}

/// Where a secret comes from, as the inventory says it: the providers hold references, never values.
fn provider(spec: &SecretEntry) -> String {
    let told = serde_json::to_value(spec).unwrap_or_default();
    let one = |value: &Value| match value {
        Value::Object(members) => members
            .iter()
            .map(|(kind, of)| match of {
                Value::String(text) => format!("{kind} {text}"),
                Value::Bool(_) => kind.clone(),
                other => format!("{kind} {other}"),
            })
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    match &told {
        Value::Array(all) => all.iter().map(one).collect::<Vec<_>>().join(", else "),
        other => one(other),
    }
}

fn programs(plan: &BoundPlan) -> Vec<(String, String)> {
    let all = plan
        .steps
        .iter()
        .flat_map(|step| step.effects.programs.iter().map(|program| (program.clone(), step.host.clone())));
    let all: BTreeSet<(String, String)> = all.filter(|(program, _)| !program.is_empty()).collect();
    all.into_iter().collect()
}

fn resources(plan: &BoundPlan) -> Vec<Resource> {
    let inventory = &plan.inventory;
    let mut found = BTreeSet::new();
    for (_, target) in plan.steps.iter().flat_map(|step| &step.effects.targets) {
        let place = match target {
            Target::Database { name } => inventory.databases.get(name).map(Database::place),
            Target::Service { name } => inventory.services.get(name).map(|service| {
                let unit = service.systemd.as_ref().map(|unit| format!("systemd unit {unit} ")).unwrap_or_default();
                let url = service.url.as_ref().map(|url| format!(", {url}")).unwrap_or_default();
                format!("{unit}on host {}{url}", host(&service.host))
            }),
            Target::Store { name, .. } => inventory.stores.get(name).map(|store| store.url.clone()),
            Target::Path { .. } | Target::Port { .. } | Target::Url { .. } => None,
        };
        let name = match target {
            Target::Database { name } => format!("database {name}"),
            Target::Service { name } => format!("service {name}"),
            Target::Store { name, .. } => format!("store {name}"),
            Target::Path { .. } | Target::Port { .. } | Target::Url { .. } => continue,
        };
        found.extend(place.map(|place| Resource { name, place }));
    }
    found.into_iter().collect()
}

fn host(name: &str) -> &str {
    if name.is_empty() { "local" } else { name }
}

/// Steps of one phase that follow each other are one part; a phase that is come back to is a part again.
fn parts(material: &Material<'_>) -> Vec<Part> {
    let plan = material.plan;
    let titles: BTreeMap<&str, (String, String)> = plan
        .phases
        .iter()
        .map(|phase| {
            let title = if phase.name.is_empty() { phase.id.clone() } else { phase.name.clone() };
            let budget = phase.budget.map(|budget| format!("Budget: {budget}")).unwrap_or_default();
            (phase.id.as_str(), (title, budget))
        })
        .collect();
    let mut parts: Vec<Part> = Vec::new();
    let mut number = 0;
    for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.section != Section::Undo) {
        number += 1;
        let made: Item = item(at, number, material);
        let (title, remark) = heading(step, &titles);
        match parts.last_mut().filter(|part| part.title == title) {
            Some(part) => part.items.push(made),
            None => parts.push(Part { title, remark, items: vec![made] }),
        }
    }
    parts
}

fn heading(step: &PlannedStep, titles: &BTreeMap<&str, (String, String)>) -> (String, String) {
    match (step.section, &step.phase) {
        (Section::Finally, _) => ("Finally".to_owned(), "In any case, also when a step above failed".to_owned()),
        (Section::Body | Section::Undo, Some(phase)) => {
            titles.get(phase.as_str()).cloned().unwrap_or_else(|| (phase.clone(), String::new()))
        }
        (Section::Body | Section::Undo, None) => ("Steps".to_owned(), String::new()),
    }
}
