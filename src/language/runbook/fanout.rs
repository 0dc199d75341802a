//! `for_each` and `max_parallel`: a step that is made once for each of several items.

use serde_json::Value;

use super::{Located, Step};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::document::{Kind, Node};
use crate::language::template::is_expression;

/// No step has more instances.
pub const MOST_INSTANCES: usize = 10_000;

/// Reads what the step fans out over.
pub(super) fn lower(step: &mut Step, node: &Node, faults: &mut Diagnostics) {
    let Some(items) = node.get("for_each") else {
        if let Some(entry) = node.entry("max_parallel") {
            let fault = Diagnostic::new(Code::BadCombination, "`max_parallel` belongs to `for_each`").at(entry.key_at);
            faults.push(fault.help("remove it; how many steps of a run go side by side is `--max-parallel`"));
        }
        return;
    };
    let count = items.items().len().max(items.entries().len());
    let value = match &items.kind {
        Kind::Str(text) => Value::String(text.trim().to_owned()),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Seq(_) | Kind::Map(_) => items.to_json(),
    };
    let fault = match value.as_str() {
        Some(text) if !is_expression(text) => {
            let fault = Diagnostic::new(Code::WrongType, "`for_each` takes a list, a mapping, or a template of one");
            fault.help(match text.contains("{{") {
                true => "let the whole value be one `{{ ... }}`: then it keeps its type".to_owned(),
                false => format!("write `[{text}]`, or `{{{{ {text} }}}}` when it is an expression"),
            })
        }
        Some(_) | None if count > MOST_INSTANCES => {
            let message = format!("`for_each` has {count} items; {MOST_INSTANCES} is the most");
            Diagnostic::new(Code::UnknownValue, message).help("let one step work on many of them")
        }
        Some(_) | None => {
            step.for_each = Some(Located { value, at: items.at });
            return;
        }
    };
    faults.push(fault.at(items.at));
}
