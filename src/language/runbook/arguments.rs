//! The arguments of a step, held against its action's schema.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Located;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::language::document::{Kind, NameKind, Node, TemplatePolicy, validate};
use crate::language::inventory::InventoryFile;
use crate::language::vocabulary::Vocabulary;

/// What a step's arguments are judged by.
#[derive(Clone, Copy)]
pub(in crate::language) struct Judges<'a> {
    pub(in crate::language) vocabulary: &'a dyn Vocabulary,
    pub(in crate::language) inventory: &'a InventoryFile,
}

/// Arguments with their places.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) value: Value,
    pub(super) places: BTreeMap<String, Place>,
}

/// Reads `with:`; without one, the action's required arguments are missing.
pub(super) fn arguments(
    uses: &Located<String>,
    with: Option<&Node>,
    judges: Judges<'_>,
    faults: &mut Diagnostics,
) -> Arguments {
    let empty = Node { kind: Kind::Map(Vec::new()), at: uses.at, lexeme: None };
    let with = with.filter(|node| !node.entries().is_empty()).unwrap_or(&empty);
    let places = with.places();
    let Some(schema) = judges.vocabulary.params_schema(&uses.value) else {
        faults.push(unknown_action(uses, judges.vocabulary));
        return Arguments { value: with.to_json(), places };
    };
    let checked = validate(with, &schema, TemplatePolicy::Allowed);
    for fault in checked.faults {
        faults.push(with_action(fault.diagnostic, &uses.value));
    }
    for name in checked.names {
        let code = match name.kind {
            NameKind::Database => Code::UnknownDatabase,
            NameKind::Service => Code::UnknownService,
            NameKind::Store => Code::UnknownStore,
        };
        if let Some(fault) = judges.inventory.unknown(code, &name.name.value) {
            faults.push(fault.at(name.name.at));
        }
    }
    Arguments { value: checked.value, places }
}

/// Reads `run:` and `env:`, which mean `uses: shell`.
pub(super) fn shell(script: &Node, env: Option<&Node>, values: &BTreeMap<String, String>) -> Arguments {
    let mut places = BTreeMap::from([(String::new(), script.at), ("/script".to_owned(), script.at)]);
    for (pointer, place) in env.map(Node::places).unwrap_or_default() {
        places.insert(format!("/env{pointer}"), place);
    }
    let value = json!({ "script": script.as_str().unwrap_or_default(), "env": values });
    Arguments { value, places }
}

fn unknown_action(uses: &Located<String>, vocabulary: &dyn Vocabulary) -> Diagnostic {
    let names = vocabulary.actions();
    Diagnostic::new(Code::UnknownAction, format!("there is no action `{}`", uses.value))
        .at(uses.at)
        .suggest(&uses.value, names.iter().map(String::as_str))
}

/// Says whose arguments they are.
fn with_action(mut fault: Diagnostic, action: &str) -> Diagnostic {
    match fault.code {
        Code::UnknownKey => fault.message = format!("{} of `{action}`", fault.message.replace("key", "argument")),
        Code::MissingKey => {
            fault.message = format!("{} for `{action}`", fault.message.replace("the key", "the argument"))
        }
        _ => {}
    }
    fault
}
