//! The steps of one file, each with what is known of it when a run is bound: arguments, targets, effects, fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::bind::{BindError, BindRequest};
use super::build::Plan;
use super::expand::Expanded;
use super::graph::StepGraph;
use super::model::{Edge, PlannedStep, Section, StepKind};
use super::{fanout, lock, process, undo};
use crate::action::{Access, EffectClass, Effects, Idempotency, Late, Mode, PlanContext, Registry, Target};
use crate::base::{Digest, StepId};
use crate::language::inventory::Inventory;
use crate::language::runbook::{DeclaredTarget, OnFailure, OnUnknown, Phase, Precondition, Retry, Runbook, Step};
use crate::language::template::{self, Scope, TextKind};

/// How long a write or destroy step that reports progress may be silent, when the file does not say.
const DEFAULT_STALL_MS: u64 = 600_000;

/// Binds the steps of one file.
pub(super) struct Binder<'a> {
    pub(super) plan: &'a Plan,
    pub(super) inventory: &'a Inventory,
    pub(super) registry: &'a Registry,
    pub(super) request: &'a BindRequest,
    /// What its templates can see.
    pub(super) scope: &'a Scope,
    /// The values of its parameters.
    pub(super) params: &'a BTreeMap<String, Value>,
    pub(super) shared: Shared<'a>,
}

/// What all files of a run share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    /// What templates can see as `run`.
    pub(super) run: &'a Value,
    /// Locks that are held for the whole run.
    pub(super) held: &'a BTreeSet<String>,
    /// The phases of the run.
    pub(super) phases: &'a [Phase],
}

impl Binder<'_> {
    /// Binds every step that takes part, and puts the steps of each sub-runbook behind the one that stands for it.
    pub(super) fn steps(&self) -> Result<Expanded, Vec<BindError>> {
        let graph = StepGraph::new(&self.plan.runbook);
        let edges = self.plan.edges_in(&graph, self.request.mode);
        let order = graph.order();
        let (mut expanded, mut faults) = (Expanded::default(), Vec::new());
        for section in [Section::Body, Section::Finally] {
            let mut undos = Vec::new();
            for index in &order {
                let (its_section, step) = graph.step(*index);
                if its_section != section || !graph.takes_part(*index, self.request.mode) {
                    continue;
                }
                let needs = edges[*index].iter().filter_map(|(from, strictness)| {
                    let from = graph.step(*from).1.id.value.parse().ok()?;
                    Some(Edge { from, strictness: *strictness })
                });
                let planned = self.step(step, section, needs.collect());
                match planned.and_then(|planned| self.expand(planned)) {
                    Ok(more) => expanded.extend(more),
                    Err(mut errors) => faults.append(&mut errors),
                }
                if let Some(undo) = undo::of(step).filter(|_| section == Section::Body) {
                    match self.step(&undo, Section::Undo, Vec::new()) {
                        Ok(undo) => undos.push(undo),
                        Err(mut errors) => faults.append(&mut errors),
                    }
                }
            }
            expanded.steps.append(&mut undos);
        }
        // Those that reverse steps of sub-runbooks stand with all others that reverse something.
        expanded.steps.sort_by_key(|step| step.section);
        if faults.is_empty() { Ok(expanded) } else { Err(faults) }
    }

    fn step(&self, step: &Step, section: Section, needs: Vec<Edge>) -> Result<PlannedStep, Vec<BindError>> {
        let fault = |pointer: &str, message: String, help: Option<String>| BindError::Step {
            step: step.id.value.clone(),
            pointer: pointer.to_owned(),
            message,
            help,
        };
        let id: StepId = step.id.value.parse().map_err(|_| vec![fault("", "it has no legal id".to_owned(), None)])?;
        let uses = &step.uses.value;
        let action =
            self.registry.get(uses).ok_or_else(|| vec![fault("", format!("there is no action `{uses}`"), None)])?;
        let written = process::arguments(step, &self.plan.runbook);
        let (with, secrets) = self.known(uses, &written).map_err(|message| vec![fault("", message, None)])?;
        let for_each = fanout::bound(step, self.scope).map_err(|message| vec![fault("/for_each", message, None)])?;
        let locks = lock::of_step(step, self.shared.held, self.scope);
        let locks = locks.map_err(|message| vec![fault("/locks", message, None)])?;
        let context = PlanContext {
            inventory: self.inventory,
            mode: self.request.mode,
            scratch: &self.request.scratch,
            host: "local",
        };
        let effects = action
            .effects(&with, &context)
            .map_err(|faults| faults.into_iter().map(|f| fault(&f.path, f.message, f.help)).collect::<Vec<_>>())?;
        super::people::refuse(self.protected(), uses, &with).map_err(|f| vec![fault(&f.path, f.message, f.help)])?;
        let effects = self.declared(step, effects).map_err(|message| vec![fault("/targets", message, None)])?;
        let spec = action.spec();
        let idempotent = spec.idempotency == Idempotency::Idempotent;
        let defaults = &self.plan.runbook.defaults;
        let default_stall = (spec.reports_progress && effects.class >= EffectClass::Write).then_some(DEFAULT_STALL_MS);
        let preconditions =
            step.preconditions.iter().map(|asked| frozen_precondition(asked, &self.plan.runbook)).collect();
        let mut planned = PlannedStep {
            id,
            name: if step.name.is_empty() { step.id.value.clone() } else { step.name.clone() },
            description: step.description.clone(),
            section,
            phase: step.phase.as_ref().map(|phase| phase.value.clone()),
            uses: uses.clone(),
            with: written,
            needs,
            when: step.when.as_ref().map(|when| when.value.clone()),
            preconditions,
            timeout_ms: step.timeout.or(defaults.timeout).map(|span| millis(span.0)),
            stall_ms: step.stall.map(|span| millis(span.0)).or(default_stall),
            retry: retry(step, idempotent, defaults.retry.as_ref()),
            on_failure: on_failure(step.on_failure, self.request.mode),
            on_unknown: step.on_unknown.clone().unwrap_or(if effects.class <= EffectClass::Read {
                OnUnknown::Rerun
            } else {
                OnUnknown::Ask
            }),
            effects,
            host: "local".to_owned(),
            secrets,
            has_check: spec.has_check,
            declares_drill: step.modes.as_ref().is_some_and(|modes| modes.contains(&Mode::Drill)),
            kind: StepKind::of(uses),
            group: None,
            for_each,
            item: None,
            always: false,
            locks,
            creates: step.creates.iter().map(|creation| creation.value.clone()).collect(),
            fingerprint: Digest::default(),
        };
        planned.fingerprint = fingerprint(&planned, spec.version, &with);
        Ok(planned)
    }

    fn protected(&self) -> bool {
        self.inventory.environments.get(&self.request.environment).is_some_and(|environment| environment.protected)
    }

    /// Renders what is known now; a late value becomes its marker.
    pub(super) fn known(&self, uses: &str, with: &Value) -> Result<(Value, Vec<String>), String> {
        let mut secrets = BTreeSet::new();
        let value = self.known_value(uses, "", with, &mut secrets)?;
        Ok((value.unwrap_or_else(|| json!({})), secrets.into_iter().collect()))
    }

    fn known_value(
        &self,
        uses: &str,
        pointer: &str,
        value: &Value,
        secrets: &mut BTreeSet<String>,
    ) -> Result<Option<Value>, String> {
        match value {
            Value::String(text) if !super::text::is_literal(uses, pointer) && text.contains("{{") => {
                let references = template::references(text, TextKind::Template).map_err(|error| error.message)?;
                let named =
                    references.iter().filter(|reference| reference.path.first().is_some_and(|root| root == "secrets"));
                secrets.extend(named.filter_map(|reference| reference.path.get(1).cloned()));
                if references.iter().any(|reference| is_late(&reference.path)) {
                    return Ok(Some(Late::<()>::marker(text)));
                }
                let rendered = template::render(value, self.scope).map_err(|error| error.message)?;
                secrets.extend(rendered.secrets);
                Ok((!rendered.value.is_null()).then_some(rendered.value))
            }
            Value::Array(items) => {
                let mut known = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    known.extend(self.known_value(uses, &format!("{pointer}/{index}"), item, secrets)?);
                }
                Ok(Some(Value::Array(known)))
            }
            Value::Object(members) => {
                let mut known = serde_json::Map::new();
                for (key, member) in members {
                    if let Some(member) = self.known_value(uses, &format!("{pointer}/{key}"), member, secrets)? {
                        known.insert(key.clone(), member);
                    }
                }
                Ok(Some(Value::Object(known)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Some(value.clone())),
        }
    }

    /// What the author of an `exec` or `shell` step declares replaces the action's default.
    fn declared(&self, step: &Step, mut effects: Effects) -> Result<Effects, String> {
        if !matches!(step.uses.value.as_str(), "exec" | "shell") {
            return Ok(effects);
        }
        if let Some(class) = &step.effect {
            effects.class = class.value;
        }
        let access = match effects.class {
            EffectClass::None | EffectClass::Read => Access::Read,
            EffectClass::Write => Access::Write,
            EffectClass::Destroy => Access::Destroy,
        };
        for target in &step.targets {
            effects.targets.push((access, self.target(&target.value)?));
        }
        Ok(effects)
    }

    fn target(&self, declared: &DeclaredTarget) -> Result<Target, String> {
        let text = |text: &String| {
            let rendered = template::render(&Value::String(text.clone()), self.scope).map_err(|error| error.message)?;
            rendered.value.as_str().map(str::to_owned).ok_or_else(|| format!("`{text}` does not give a text"))
        };
        let known = |kind: &str, name: String, is_known: bool| {
            if is_known { Ok(name) } else { Err(format!("there is no {kind} `{name}` in the inventory")) }
        };
        let inventory = self.inventory;
        Ok(match declared {
            DeclaredTarget::Database(name) => {
                let name = text(name)?;
                let is_known = inventory.databases.contains_key(&name);
                Target::Database { name: known("database", name, is_known)? }
            }
            DeclaredTarget::Service(name) => {
                let name = text(name)?;
                let is_known = inventory.services.contains_key(&name);
                Target::Service { name: known("service", name, is_known)? }
            }
            DeclaredTarget::Store(name) => {
                let name = text(name)?;
                let is_known = inventory.stores.contains_key(&name);
                Target::Store { name: known("store", name, is_known)?, prefix: String::new() }
            }
            DeclaredTarget::Path(path) => Target::Path { host: "local".to_owned(), path: text(path)?.into() },
            DeclaredTarget::Url(prefix) => Target::Url { prefix: text(prefix)? },
        })
    }
}

/// Whether a name is known only during the run.
pub(super) fn is_late(path: &[String]) -> bool {
    let second = path.get(1).map(String::as_str);
    match path.first().map(String::as_str) {
        Some("steps" | "item" | "item_key") => true,
        Some("run") => matches!(second, Some("outcome" | "elapsed")),
        _ => false,
    }
}

fn frozen_precondition(precondition: &Precondition, runbook: &Runbook) -> Value {
    match precondition {
        Precondition::That(that) => Value::String(that.value.clone()),
        Precondition::Action { uses, with, .. } => {
            json!({ "uses": uses.value, "with": process::with_env(&uses.value, with, runbook) })
        }
    }
}

/// Nothing is held in a drill: a failure is what it was made to find, and a throw-away instance must not wait for people.
fn on_failure(written: OnFailure, mode: Mode) -> OnFailure {
    match (written, mode) {
        (OnFailure::Pause, Mode::Drill) => OnFailure::Abort,
        (written, Mode::Real | Mode::Drill | Mode::DryRun) => written,
    }
}

/// `defaults.retry` reaches only actions that are idempotent.
fn retry(step: &Step, idempotent: bool, default: Option<&Retry>) -> Option<Retry> {
    step.retry.clone().or_else(|| default.filter(|_| idempotent).cloned())
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Identifies what was decided about a step: its lowered form with templates unrendered, the given
/// values it names, and its action's version.
fn fingerprint(step: &PlannedStep, version: u32, known: &Value) -> Digest {
    let mut decided = json!({
        "uses": step.uses,
        "version": version,
        "with": step.with,
        "known": known,
        "when": step.when,
        "preconditions": step.preconditions,
        "needs": step.needs,
        "effects": step.effects,
    });
    // What came later counts only where it is used: what older plans decided keeps its fingerprint.
    if let Some(fan_out) = &step.for_each {
        decided["for_each"] = json!(fan_out);
    }
    if !step.locks.is_empty() {
        decided["locks"] = json!(step.locks);
    }
    if !step.creates.is_empty() {
        decided["creates"] = json!(step.creates);
    }
    Digest::of(decided.to_string().as_bytes())
}
