//! A whole runbook file: from its tree to the typed form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::arguments::Judges;
use super::step::{Source, located, lower as lower_step};
use super::{Defaults, Located, Param, Phase, Runbook, Step, declared, lock, param};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::language::document::{Checked, Entry, Node};
use crate::language::inventory::{check_identifier, is_name};

/// Lowers a runbook. Faults of the schema are already reported.
pub(in crate::language) fn lower(
    root: &Node,
    checked: &Checked,
    judges: Judges<'_>,
    faults: &mut Diagnostics,
) -> Runbook {
    let text = |key: &str| located(root, key).map(|text| text.value).unwrap_or_default();
    let name = located(root, "name");
    if let Some(name) = name.as_ref().filter(|name| !is_name(&name.value)) {
        let fault = Diagnostic::new(Code::BadName, format!("`{}` cannot name a runbook", name.value)).at(name.at);
        faults.push(fault.help("lower-case letters, digits, `_` and `-`; put a sentence into `description`"));
    }
    let phases = phases(root, checked, faults);
    let mut runbook = Runbook {
        name: name.map(|name| name.value).unwrap_or_default(),
        description: text("description"),
        owner: text("owner"),
        controls: checked.read("/controls").unwrap_or_default(),
        objectives: checked.read("/objectives").unwrap_or_default(),
        params: params(root, checked, judges, faults),
        phases,
        defaults: checked.read::<Defaults>("/defaults").unwrap_or_default(),
        steps: steps(root, checked, ("steps", judges), faults),
        finally: steps(root, checked, ("finally", judges), faults),
        pass_env: pass_env(root, faults),
        locks: lock::of_run(root, checked, faults),
        outputs: outputs(root, faults),
        notify: Vec::new(),
    };
    if root
        .get("steps")
        .is_some_and(|steps| matches!(&steps.kind, super::super::document::Kind::Seq(list) if list.is_empty()))
    {
        let at = root.entry("steps").map_or(root.at, |entry| entry.key_at);
        faults.push(Diagnostic::new(Code::MissingKey, "the runbook has no steps").at(at));
    }
    unique_ids(&mut runbook, faults);
    declared::unique_creations(&runbook, faults);
    known_phases(&mut runbook, root, faults);
    runbook
}

fn steps(root: &Node, checked: &Checked, (section, judges): (&str, Judges<'_>), faults: &mut Diagnostics) -> Vec<Step> {
    let nodes = root.get(section).map(Node::items).unwrap_or_default();
    let lower = |(index, node)| {
        let source = Source { node, checked, pointer: format!("/{section}/{index}") };
        lower_step(&source, judges, faults)
    };
    nodes.iter().enumerate().map(lower).collect()
}

fn params(
    root: &Node,
    checked: &Checked,
    judges: Judges<'_>,
    faults: &mut Diagnostics,
) -> Vec<(Located<String>, Param)> {
    let mut params = Vec::new();
    for entry in root.get("params").map(Node::entries).unwrap_or_default() {
        check_identifier("a parameter", entry, faults);
        let name = Located { value: entry.key.clone(), at: entry.key_at };
        let param: Option<Param> = checked.read(&format!("/params/{}", entry.key));
        if let Some(param) = &param {
            param::check(&name, param, (&entry.value, judges), faults);
        }
        // A faulty parameter stays known by name, so that templates that read it are not called unknown.
        let fallback = Param {
            kind: super::ParamType::String,
            description: String::new(),
            required: None,
            default: None,
            allowed: Vec::new(),
        };
        params.push((name, param.unwrap_or(fallback)));
    }
    params
}

fn outputs(root: &Node, faults: &mut Diagnostics) -> Vec<(Located<String>, Located<Value>)> {
    let entries = root.get("outputs").map(Node::entries).unwrap_or_default();
    let lower = |entry: &Entry| {
        check_identifier("an output", entry, faults);
        if entry.key == "status" {
            let fault =
                Diagnostic::new(Code::BadName, "`status` cannot name an output: every step has one").at(entry.key_at);
            faults.push(fault.help("give it another name"));
        }
        let name = Located { value: entry.key.clone(), at: entry.key_at };
        (name, Located { value: entry.value.to_json(), at: entry.value.at })
    };
    entries.iter().map(lower).collect()
}

/// Names of variables of the environment, each once.
fn pass_env(root: &Node, faults: &mut Diagnostics) -> Vec<Located<String>> {
    let mut names: Vec<Located<String>> = Vec::new();
    for item in root.get("pass_env").map(Node::items).unwrap_or_default() {
        let Some(name) = item.as_str() else { continue };
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(is_word) {
            let fault = Diagnostic::new(Code::BadName, format!("`{name}` cannot name a variable of the environment"));
            faults.push(fault.at(item.at).help("letters, digits and `_`, not beginning with a digit"));
        } else if let Some(first) = names.iter().find(|known| known.value == name) {
            faults.push(lock::again(name, "pass_env", (item.at, first.at)));
        } else {
            names.push(Located { value: name.to_owned(), at: item.at });
        }
    }
    names
}

fn phases(root: &Node, checked: &Checked, faults: &mut Diagnostics) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    for (index, node) in root.get("phases").map(Node::items).unwrap_or_default().iter().enumerate() {
        let Some(id) = located(node, "id") else { continue };
        if let Some(first) = seen.get(&id.value) {
            faults.push(twice("phase", &id, *first));
            continue;
        }
        if !is_name(&id.value) {
            let fault = Diagnostic::new(Code::BadName, format!("`{}` cannot name a phase", id.value)).at(id.at);
            faults.push(fault.help("lower-case letters, digits, `_` and `-`; put words for people into `name`"));
        }
        seen.insert(id.value.clone(), id.at);
        let read: Option<Phase> = checked.read(&format!("/phases/{index}"));
        let mut phase = read.unwrap_or_else(|| Phase { id: id.value.clone(), name: String::new(), budget: None });
        if phase.name.is_empty() {
            phase.name.clone_from(&phase.id);
        }
        phases.push(phase);
    }
    phases
}

fn twice(what: &str, id: &Located<String>, first: Place) -> Diagnostic {
    Diagnostic::new(Code::DuplicateId, format!("the {what} `{}` is defined twice", id.value))
        .label(id.at, "defined again here")
        .label(first, "first defined here")
        .help("give one of them another id")
}

/// Steps of the body and of `finally` share one space of names.
fn unique_ids(runbook: &mut Runbook, faults: &mut Diagnostics) {
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    for step in runbook.steps.iter_mut().chain(&mut runbook.finally) {
        if step.id.value.is_empty() {
            continue;
        }
        match seen.get(&step.id.value) {
            Some(first) => {
                faults.push(twice("step", &step.id, *first));
                step.poisoned = true;
            }
            None => drop(seen.insert(step.id.value.clone(), step.id.at)),
        }
    }
}

fn known_phases(runbook: &mut Runbook, root: &Node, faults: &mut Diagnostics) {
    let known: Vec<String> = runbook.phases.iter().map(|phase| phase.id.clone()).collect();
    for step in runbook.steps.iter_mut().chain(&mut runbook.finally) {
        let Some(phase) = step.phase.as_ref().filter(|phase| !known.contains(&phase.value)) else { continue };
        let fault = Diagnostic::new(Code::UnknownPhase, format!("there is no phase `{}`", phase.value)).at(phase.at);
        faults.push(match root.get("phases") {
            Some(_) => fault.suggest(&phase.value, known.iter().map(String::as_str)),
            None => fault.help(format!("declare it: `phases: [ {{ id: {} }} ]`", phase.value)),
        });
        step.poisoned = true;
    }
}
