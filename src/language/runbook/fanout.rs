//! `for_each` and `max_parallel`: a step that is made once for each of several items.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lock::again;
use super::{Located, Step};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::document::{Kind, Node};
use crate::language::template::{is_expression, is_template};

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
    let value = match &items.kind {
        Kind::Seq(_) | Kind::Map(_) if too_many(items, faults) => return,
        Kind::Seq(list) => {
            unique(list, faults);
            items.to_json()
        }
        Kind::Map(_) => items.to_json(),
        Kind::Str(text) if is_expression(text.trim()) => Value::String(text.trim().to_owned()),
        Kind::Str(_) | Kind::Bool(_) | Kind::Number(_) => return faults.push(no_items(items)),
        // That a value is missing is reported already.
        Kind::Null => return,
    };
    step.item_places = items.places();
    step.for_each = Some(Located { value, at: items.at });
}

fn too_many(items: &Node, faults: &mut Diagnostics) -> bool {
    let count = items.items().len().max(items.entries().len());
    if count > MOST_INSTANCES {
        let message = format!("`for_each` has {count} items; {MOST_INSTANCES} is the most");
        let fault = Diagnostic::new(Code::UnknownValue, message).at(items.at);
        faults.push(fault.help("let one step work on many of them"));
    }
    count > MOST_INSTANCES
}

/// Texts and numbers of a list name its instances.
fn unique(list: &[Node], faults: &mut Diagnostics) {
    let mut seen = BTreeMap::new();
    for item in list {
        let key = match &item.kind {
            Kind::Str(text) if !is_template(text) => text.clone(),
            Kind::Number(number) => number.to_string(),
            Kind::Null | Kind::Bool(_) | Kind::Str(_) | Kind::Seq(_) | Kind::Map(_) => continue,
        };
        if let Some(first) = seen.get(&key) {
            faults.push(again(&key, "for_each", (item.at, *first)));
        } else {
            seen.insert(key, item.at);
        }
    }
}

fn no_items(items: &Node) -> Diagnostic {
    let text = items.as_str().map(str::to_owned).or_else(|| items.lexeme.clone()).unwrap_or_default();
    let fault = Diagnostic::new(Code::WrongType, "`for_each` takes a list, a mapping, or a template of one");
    fault.at(items.at).help(match text.contains("{{") {
        true => "let the whole value be one `{{ ... }}`: then it keeps its type".to_owned(),
        false => format!("write `[{text}]`, or `{{{{ {text} }}}}` when it is an expression"),
    })
}
