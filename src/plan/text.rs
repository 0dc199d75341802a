//! The texts of a step that may be templates, and what is known of where each stands.

use std::collections::BTreeMap;

use serde_json::Value;

use super::build::Material;
use super::leaf;
use super::read::Reader;
use crate::base::diagnostic::Place;
use crate::language::runbook::{DeclaredTarget, Precondition, SUB_RUNBOOK, Step};
use crate::language::template::TextKind;

/// Which part of a step a text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// What it does: arguments, targets, locks.
    Body,
    /// Whether it is done: `when` and `preconditions`.
    Condition,
    /// What it fans out over.
    Items,
    /// What reverses it.
    Undo,
}

impl Seat {
    /// Who reads what stands there.
    #[must_use]
    pub fn reader(self) -> Reader {
        match self {
            Self::Body | Self::Condition | Self::Items => Reader::Step,
            Self::Undo => Reader::Undo,
        }
    }
}

/// One text with what is known of where it stands.
pub struct Text<'a> {
    pub text: &'a str,
    pub kind: TextKind,
    pub place: Place,
    pub leaf: leaf::Leaf,
    /// Whether a late value would name something that must be known before the run.
    pub is_argument: bool,
    pub seat: Seat,
}

/// Gives every text of a step, its undo included.
pub fn texts<'a>(step: &'a Step, material: &Material<'_>) -> Vec<Text<'a>> {
    let mut texts = body(step, material);
    texts.extend(step.when.as_ref().map(|when| expression(&when.value, when.at)));
    for precondition in &step.preconditions {
        match precondition {
            Precondition::That(that) => texts.push(expression(&that.value, that.at)),
            Precondition::Action { uses, with, with_places } => {
                let asked = arguments(&uses.value, with, (with_places, uses.at), material);
                texts.extend(asked.into_iter().map(|text| Text { seat: Seat::Condition, ..text }));
            }
        }
    }
    if let Some(items) = &step.for_each {
        leaf::visit_texts(&items.value, "", &mut |pointer, text| {
            let leaf = leaf::Leaf { late: true, ..leaf::Leaf::default() };
            let place = step.item_places.get(pointer).copied().unwrap_or(items.at);
            let kind = TextKind::Template;
            texts.push(Text { text, kind, place, leaf, is_argument: false, seat: Seat::Items });
        });
    }
    if let Some(undo) = &step.undo {
        texts.extend(body(undo, material).into_iter().map(|text| Text { seat: Seat::Undo, ..text }));
    }
    texts
}

fn body<'a>(step: &'a Step, material: &Material<'_>) -> Vec<Text<'a>> {
    let mut texts = arguments(&step.uses.value, &step.with, (&step.with_places, step.at), material);
    texts.extend(step.targets.iter().map(|target| declared(&target.value, target.at)));
    texts.extend(step.locks.iter().map(|lock| bound("name of the lock", &lock.value, lock.at)));
    texts
}

/// A declared target must be known before the run, as every target.
fn declared(target: &DeclaredTarget, place: Place) -> Text<'_> {
    let kind = match target {
        DeclaredTarget::Database(_) => "database",
        DeclaredTarget::Service(_) => "service",
        DeclaredTarget::Store(_) => "store",
        DeclaredTarget::Path(_) => "path",
        DeclaredTarget::Url(_) => "URL",
    };
    bound(kind, target.text(), place)
}

/// A text that must be known before the run; `kind` says of what.
fn bound<'a>(kind: &str, text: &'a str, place: Place) -> Text<'a> {
    let leaf = leaf::Leaf { reference: Some(kind.to_owned()), ..leaf::Leaf::default() };
    Text { text, kind: TextKind::Template, place, leaf, is_argument: true, seat: Seat::Body }
}

fn expression(text: &str, place: Place) -> Text<'_> {
    let leaf = leaf::Leaf { late: true, ..leaf::Leaf::default() };
    Text { text, kind: TextKind::Expression, place, leaf, is_argument: false, seat: Seat::Condition }
}

/// The texts of the arguments of an action.
pub(super) fn arguments<'a>(
    uses: &str,
    with: &'a Value,
    (places, fallback): (&BTreeMap<String, Place>, Place),
    material: &Material<'_>,
) -> Vec<Text<'a>> {
    let Some(action) = material.registry.get(uses) else { return Vec::new() };
    let schema = action.params_schema();
    let mut texts = Vec::new();
    leaf::visit_texts(with, "", &mut |pointer, text| {
        if is_literal(uses, pointer) || !text.contains("{{") && !text.contains("{%") {
            return;
        }
        let place = places.get(pointer).copied().unwrap_or(fallback);
        let (kind, leaf) = (TextKind::Template, leaf::at(&schema, pointer));
        texts.push(Text { text, kind, place, leaf, is_argument: true, seat: Seat::Body });
    });
    texts
}

/// The script of `run:` and the path of a sub-runbook are literal, never templates.
#[must_use]
pub fn is_literal(uses: &str, pointer: &str) -> bool {
    matches!((uses, pointer), ("shell", "/script") | (SUB_RUNBOOK, "/path"))
}
