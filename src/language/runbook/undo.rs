//! `undo`: the body of the step that reverses another one.

use super::arguments::Judges;
use super::spec::UndoSpec;
use super::step::{Source, action, blank, check_retry, targets};
use super::{Located, Step};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::document::Kind;

/// What only people or other steps can do; nothing of it reverses a step.
const KINDS: [&str; 3] = ["approval", "manual", "runbook"];

/// Lowers the undo of `step`: a step named `ID.undo`. Faults of the schema are already reported and only poison it.
pub(super) fn lower(step: &Step, source: &Source<'_>, judges: Judges<'_>, faults: &mut Diagnostics) -> Option<Step> {
    let entry = source.node.entry("undo").filter(|entry| matches!(entry.value.kind, Kind::Map(_)))?;
    let node = &entry.value;
    let source = &Source { node, checked: source.checked, pointer: format!("{}/undo", source.pointer) };
    let before = faults.len();
    let spec = source.checked.read::<UndoSpec>(&source.pointer);
    let mut undo = blank(node);
    undo.id = Located { value: format!("{}.undo", step.id.value), at: entry.key_at };
    undo.name = format!("undo {}", step.name);
    let poisoned = spec.is_none();
    let spec = spec.unwrap_or_default();
    action(&mut undo, (node, &spec.env), judges, faults);
    check_retry(source, faults);
    if KINDS.contains(&undo.uses.value.as_str()) {
        let message = format!("`{}` cannot reverse a step", undo.uses.value);
        let fault = Diagnostic::new(Code::BadCombination, message).at(undo.uses.at);
        faults.push(fault.help("an undo is an action, `exec` or `run`"));
    }
    undo.timeout = spec.timeout;
    undo.retry = spec.retry;
    undo.on_failure = spec.on_failure;
    undo.on_unknown = spec.on_unknown;
    let place = |key: &str| node.get(key).map_or(node.at, |value| value.at);
    undo.effect = spec.effect.map(|value| Located { value, at: place("effect") });
    undo.targets = targets(spec.targets, node);
    undo.poisoned = poisoned || faults.len() > before;
    Some(undo)
}
