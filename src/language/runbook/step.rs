//! One step: from its node to the typed form, with every fault of its own.

use std::collections::BTreeMap;

use super::arguments::{Arguments, Judges, arguments, shell};
use super::spec::{PreconditionSpec, StepMode, StepSpec};
use super::{
    DeclaredTarget, Located, Need, OnFailure, Precondition, Retry, SUB_RUNBOOK, Step, declared, fanout, lock, output,
    undo,
};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::base::id::is_identifier;
use crate::language::document::{Checked, Node};
use crate::language::sub::check_keys;

/// A step's node, and where it stands in the checked file.
pub(super) struct Source<'a> {
    pub(super) node: &'a Node,
    pub(super) checked: &'a Checked,
    pub(super) pointer: String,
}

/// Lowers a step. Faults of the schema are already reported and only poison it.
pub(super) fn lower(source: &Source<'_>, judges: Judges<'_>, faults: &mut Diagnostics) -> Step {
    let node = source.node;
    let before = errors(faults);
    let spec = source.checked.read::<StepSpec>(&source.pointer);
    let mut step = blank(node);
    check_id(&step.id, node, faults);
    step.phase = located(node, "phase");
    step.when = expression(node.get("when"), faults);
    step.needs = needs(node, faults);
    let env = spec.as_ref().map(|spec| spec.env.clone()).unwrap_or_default();
    action(&mut step, (node, &env), judges, faults);
    fanout::lower(&mut step, node, faults);
    check_retry(source, faults);
    step.outputs = output::lower(&step, source, faults);
    step.creates = declared::creations(source, faults);
    step.locks = lock::of_step(node, faults);
    let poisoned = spec.is_none();
    if let Some(spec) = spec {
        check_modes(&spec, node, faults);
        step.preconditions = preconditions(&spec.preconditions, node, judges, faults);
        fill(&mut step, spec, node);
    }
    step.undo = undo::lower(&step, source, judges, faults).map(Box::new);
    step.poisoned = poisoned || errors(faults) > before;
    step
}

fn errors(faults: &Diagnostics) -> usize {
    faults.len()
}

/// A step of which only the place and the texts of its names are known.
pub(super) fn blank(node: &Node) -> Step {
    let text = |value: &str| Located { value: value.to_owned(), at: node.at };
    let id = located(node, "id").unwrap_or_else(|| text(""));
    Step {
        name: id.value.clone(),
        id,
        at: node.at,
        poisoned: false,
        description: String::new(),
        phase: None,
        uses: located(node, "uses").unwrap_or_else(|| text("")),
        with: serde_json::Value::Object(serde_json::Map::new()),
        with_places: BTreeMap::new(),
        needs: None,
        when: None,
        preconditions: Vec::new(),
        timeout: None,
        stall: None,
        retry: None,
        on_failure: OnFailure::default(),
        modes: None,
        effect: None,
        targets: Vec::new(),
        on_unknown: None,
        for_each: None,
        item_places: BTreeMap::new(),
        max_parallel: None,
        undo: None,
        locks: Vec::new(),
        creates: Vec::new(),
        outputs: Vec::new(),
        sub: None,
    }
}

fn fill(step: &mut Step, spec: StepSpec, node: &Node) {
    let place = |key: &str| node.get(key).map_or(node.at, |value| value.at);
    step.name = spec.name.unwrap_or_else(|| step.id.value.clone());
    step.description = spec.description;
    step.timeout = spec.timeout;
    step.stall = spec.stall;
    step.retry = spec.retry;
    step.on_failure = spec.on_failure;
    step.modes = spec.modes.map(|modes| modes.into_iter().map(StepMode::into).collect());
    step.effect = spec.effect.map(|value| Located { value, at: place("effect") });
    step.targets = targets(spec.targets, node);
    step.on_unknown = spec.on_unknown;
    step.max_parallel = spec.max_parallel;
}

/// Declared targets with their places.
pub(super) fn targets(declared: Vec<DeclaredTarget>, node: &Node) -> Vec<Located<DeclaredTarget>> {
    let items = node.get("targets").map(Node::items).unwrap_or_default();
    let places = items.iter().map(|item| item.entries().first().map_or(item.at, |entry| entry.value.at));
    declared.into_iter().zip(places).map(|(value, at)| Located { value, at }).collect()
}

/// A text with its place; numbers keep what was written.
pub(super) fn located(node: &Node, key: &str) -> Option<Located<String>> {
    let value = node.get(key)?;
    let text = value.as_str().map(str::to_owned).or_else(|| value.lexeme.clone())?;
    Some(Located { value: text, at: value.at })
}

fn check_id(id: &Located<String>, node: &Node, faults: &mut Diagnostics) {
    if node.get("id").is_some_and(|value| value.as_str().is_some()) && !is_identifier(&id.value) {
        let fault = Diagnostic::new(Code::BadName, format!("`{}` cannot name a step", id.value)).at(id.at);
        let near: String = id.value.to_lowercase().replace(['-', ' ', '.'], "_");
        faults.push(match is_identifier(&near) {
            true => fault.help(format!("write `{near}`: a hyphen would read as minus in a template")),
            false => fault.help("lower-case letters, digits and `_`, beginning with a letter"),
        });
    }
}

/// Checks that a text is a bare expression.
fn expression(node: Option<&Node>, faults: &mut Diagnostics) -> Option<Located<String>> {
    let node = node?;
    let text = node.as_str().map(str::to_owned).or_else(|| node.lexeme.clone())?;
    if text.contains("{{") || text.contains("{%") {
        let bare = text.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
        let fault = Diagnostic::new(Code::TemplateSyntax, "an expression stands here without braces").at(node.at);
        faults.push(fault.help(format!("write `{bare}`")));
    }
    Some(Located { value: text, at: node.at })
}

fn needs(node: &Node, faults: &mut Diagnostics) -> Option<Vec<Located<Need>>> {
    let list = node.get("needs")?;
    let mut needs: Vec<Located<Need>> = Vec::new();
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    for item in list.items() {
        let Some(text) = item.as_str() else { continue };
        let (step, any_end) = text.strip_suffix('?').map_or((text, false), |step| (step, true));
        if let Some(first) = seen.insert(step, item.at) {
            let fault = Diagnostic::new(Code::DuplicateName, format!("`{step}` stands twice in `needs`"))
                .label(item.at, "given again here")
                .label(first, "first given here");
            faults.push(fault.help("remove one of them"));
            continue;
        }
        needs.push(Located { value: Need { step: step.to_owned(), any_end }, at: item.at });
    }
    Some(needs)
}

/// Decides between `uses` + `with` and `run` + `env`.
pub(super) fn action(
    step: &mut Step,
    (node, env): (&Node, &BTreeMap<String, String>),
    judges: Judges<'_>,
    faults: &mut Diagnostics,
) {
    let exclude = |faults: &mut Diagnostics, one: &str, other: &str, help: &str| {
        if let (Some(one_entry), Some(other_entry)) = (node.entry(one), node.entry(other)) {
            let fault = Diagnostic::new(Code::BadCombination, format!("`{one}` and `{other}` exclude each other"))
                .label(one_entry.key_at, format!("not together with `{other}`"))
                .label(other_entry.key_at, "given here");
            faults.push(fault.help(help));
        }
    };
    exclude(faults, "run", "uses", "`run` is short for `uses: shell`: keep one of them");
    exclude(faults, "with", "run", "pass values to a script through `env`");
    exclude(faults, "env", "uses", "`env` belongs to `run`; give an action its arguments in `with`");
    declared::refuse(step, node, faults);
    if step.uses.value == SUB_RUNBOOK {
        check_keys(node, faults);
    }
    let arguments = match (node.get("uses"), node.get("run")) {
        (Some(_), _) if !step.uses.value.is_empty() => arguments(&step.uses, node.get("with"), judges, faults),
        (None, Some(script)) => {
            step.uses = Located { value: "shell".to_owned(), at: node.entry("run").map_or(node.at, |run| run.key_at) };
            shell(script, node.get("env"), env)
        }
        (Some(_), _) => Arguments::default(),
        (None, None) => {
            let fault = Diagnostic::new(Code::MissingKey, "the step does nothing: `uses` or `run` is missing")
                .label(node.at, "needs `uses` or `run`")
                .help(
                    "`uses: ACTION` with `with:`, or `run: |` with a bash script; `runbook actions` lists the actions",
                );
            faults.push(fault);
            Arguments::default()
        }
    };
    step.with = arguments.value;
    step.with_places = arguments.places;
}

/// Holds the numbers of `retry` against what they can be.
pub(super) fn check_retry(source: &Source<'_>, faults: &mut Diagnostics) {
    let node = source.node;
    let Some(retry) = source.checked.read::<Retry>(&format!("{}/retry", source.pointer)) else { return };
    let place = |key: &str| node.get("retry").and_then(|retry| retry.get(key)).map_or(node.at, |value| value.at);
    let mut refuse = |message: &str, at: Place| {
        faults.push(Diagnostic::new(Code::UnknownValue, message.to_owned()).at(at));
    };
    if retry.max_attempts == 0 {
        refuse("`max_attempts` must be at least 1: the first attempt counts", place("max_attempts"));
    }
    if retry.backoff < 1.0 {
        refuse("`backoff` must be at least 1", place("backoff"));
    }
    if !(0.0..=1.0).contains(&retry.jitter) {
        refuse("`jitter` is a share from 0 to 1", place("jitter"));
    }
}

fn check_modes(spec: &StepSpec, node: &Node, faults: &mut Diagnostics) {
    if spec.modes.as_ref().is_some_and(Vec::is_empty) {
        let at = node.get("modes").map_or(node.at, |value| value.at);
        faults.push(Diagnostic::new(Code::UnknownValue, "`modes` is empty: the step would never run").at(at));
    }
}

fn preconditions(
    specs: &[PreconditionSpec],
    node: &Node,
    judges: Judges<'_>,
    faults: &mut Diagnostics,
) -> Vec<Precondition> {
    let nodes = node.get("preconditions").map(Node::items).unwrap_or_default();
    let mut out = Vec::with_capacity(specs.len());
    for (spec, node) in specs.iter().zip(nodes) {
        match (&spec.that, located(node, "uses")) {
            (Some(_), None) if node.get("with").is_none() => {
                out.extend(expression(node.get("that"), faults).map(Precondition::That));
            }
            (None, Some(uses)) => {
                let Arguments { value, places } = arguments(&uses, node.get("with"), judges, faults);
                out.push(Precondition::Action { uses, with: value, with_places: places });
            }
            (Some(_), _) | (None, None) => {
                let message = "a precondition is either `that`, or `uses` with `with`";
                faults.push(Diagnostic::new(Code::BadCombination, message).at(node.at));
            }
        }
    }
    out
}
