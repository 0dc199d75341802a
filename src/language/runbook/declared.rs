//! What the author of an `exec` or `shell` step declares, because the program cannot be asked.

use std::collections::BTreeMap;

use super::step::Source;
use super::{Creation, Located, Runbook, Step};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::language::document::Node;
use crate::language::inventory::is_name;

/// The actions whose effect, targets, creations and outputs the author declares.
const DECLARING: [&str; 2] = ["exec", "shell"];

/// Real actions know what they do: nothing is declared for them.
pub(super) fn refuse(step: &Step, node: &Node, faults: &mut Diagnostics) {
    if node.get("uses").is_none() || DECLARING.contains(&step.uses.value.as_str()) {
        return;
    }
    for key in ["effect", "targets", "creates", "outputs"] {
        if let Some(entry) = node.entry(key) {
            let message = format!("`{key}` cannot be declared for `{}`, which knows its own", step.uses.value);
            let fault = Diagnostic::new(Code::BadCombination, message).at(entry.key_at);
            faults.push(fault.help("only `exec`, `shell` and `run` need it: remove the key"));
        }
    }
}

/// What a step creates, with the place of each name.
pub(super) fn creations(source: &Source<'_>, faults: &mut Diagnostics) -> Vec<Located<Creation>> {
    let nodes = source.node.get("creates").map(Node::items).unwrap_or_default();
    let mut creations = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let pointer = format!("{}/creates/{index}", source.pointer);
        let Some(creation) = source.checked.read::<Creation>(&pointer) else { continue };
        let place = |key: &str| node.get(key).map_or(node.at, |value| value.at);
        if !is_name(&creation.name) {
            let message = format!("`{}` cannot name what a step creates", creation.name);
            let fault = Diagnostic::new(Code::BadName, message).at(place("name"));
            faults.push(fault.help("lower-case letters, digits, `_` and `-`, beginning with a letter"));
        }
        if creation.destroy.trim().is_empty() {
            let message = format!("nothing would remove `{}`", creation.name);
            let fault = Diagnostic::new(Code::UnknownValue, message).at(place("destroy"));
            faults.push(fault.help("`destroy` is a bash script that ends with 0 also when it is gone already"));
        }
        creations.push(Located { value: creation, at: place("name") });
    }
    creations
}

/// What is created is known by its name in the whole runbook.
pub(super) fn unique_creations(runbook: &Runbook, faults: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    for creation in runbook.steps.iter().chain(&runbook.finally).flat_map(|step| &step.creates) {
        if let Some(first) = seen.insert(&creation.value.name, creation.at) {
            let message = format!("`{}` is created twice", creation.value.name);
            let fault = Diagnostic::new(Code::DuplicateName, message)
                .label(creation.at, "created again here")
                .label(first, "first created here");
            faults.push(fault.help("give one of them another name"));
        }
    }
}
