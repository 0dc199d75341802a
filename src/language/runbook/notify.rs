//! Rules of `notify`: who is told of what.

use std::collections::BTreeMap;

use serde_json::Value;

use super::arguments::{Judges, arguments};
use super::step::located;
use super::{Located, NotifyRule};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::language::document::{Checked, Node};

/// The family of actions that tell people.
const FAMILY: &str = "notify.";

/// A rule with its places.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenRule {
    /// The rule.
    pub rule: NotifyRule,
    /// Where its notifier stands.
    pub at: Place,
    /// Where each argument stands, by JSON pointer inside `with`.
    pub with_places: BTreeMap<String, Place>,
}

/// The rules of one file, runbook or inventory. Faults of the schema are already reported.
pub(in crate::language) fn rules(
    root: &Node,
    checked: &Checked,
    judges: Judges<'_>,
    faults: &mut Diagnostics,
) -> Vec<WrittenRule> {
    let nodes = root.get("notify").map(Node::items).unwrap_or_default();
    let lower = |(index, node): (usize, &Node)| {
        let mut rule = checked.read::<NotifyRule>(&format!("/notify/{index}"))?;
        if rule.on.is_empty() {
            let at = node.get("on").map_or(node.at, |on| on.at);
            let fault = Diagnostic::new(Code::MissingKey, "the rule tells nothing: `on` is empty").at(at);
            faults.push(fault.help("name at least one: `on: [failed]`"));
        }
        let uses = located(node, "uses")?;
        if !is_notifier(&uses, judges, faults) {
            return None;
        }
        let given = arguments(&uses, node.get("with"), judges, faults);
        rule.with = match given.value {
            Value::Null => Value::Object(serde_json::Map::new()),
            value => value,
        };
        Some(WrittenRule { rule, at: uses.at, with_places: given.places })
    };
    nodes.iter().enumerate().filter_map(lower).collect()
}

fn is_notifier(uses: &Located<String>, judges: Judges<'_>, faults: &mut Diagnostics) -> bool {
    let mut names = judges.vocabulary.actions();
    let is_action = names.contains(&uses.value);
    names.retain(|name| name.starts_with(FAMILY));
    if names.contains(&uses.value) {
        return true;
    }
    let message = if is_action {
        format!("`{}` is an action, but tells nobody", uses.value)
    } else {
        format!("there is no notifier `{}`", uses.value)
    };
    let fault = Diagnostic::new(Code::UnknownAction, message).at(uses.at);
    faults.push(fault.suggest(&uses.value, names.iter().map(String::as_str)));
    false
}
