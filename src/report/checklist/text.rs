//! A plan on a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::model::{Checklist, Expected, Item};
use crate::action::EffectClass;
use crate::base::units::human_duration;
use crate::report::{Palette, Tone};

/// Writes what would be done, in order.
#[must_use]
pub fn text(list: &Checklist, palette: Palette) -> String {
    let mut out = String::new();
    let protected = if list.protected { " (protected)" } else { "" };
    let _ = writeln!(
        out,
        "{} in {}{protected}, mode {}",
        palette.paint(Tone::Strong, &list.name),
        list.environment,
        list.mode
    );
    if !list.description.is_empty() {
        let _ = writeln!(out, "{}", list.description);
    }
    head(list, &mut out);
    for part in &list.parts {
        let remark = if part.remark.is_empty() { String::new() } else { format!("  {}", part.remark) };
        let _ = writeln!(out, "\n{}{}", palette.paint(Tone::Strong, &part.title), palette.paint(Tone::Quiet, &remark));
        for step in &part.items {
            item(step, palette, &mut out);
        }
    }
    out
}

fn head(list: &Checklist, out: &mut String) {
    let mut line = |what: &str, said: String| {
        let _ = writeln!(out, "  {what:10} {said}");
    };
    for (name, value) in &list.params {
        line("parameter", format!("{name}: {}", super::markdown::given(value)));
    }
    for secret in &list.secrets {
        line("secret", format!("{} from {}", secret.name, secret.from));
    }
    for resource in &list.resources {
        line("touches", format!("{}: {}", resource.name, resource.place));
    }
    for lock in &list.locks {
        line("lock", lock.clone());
    }
    for objective in &list.objectives {
        line("objective", objective.clone());
    }
    if let Some(expected) = &list.expected {
        line("forecast", took(expected));
    }
    for (name, digest) in &list.sources {
        line("file", format!("{name} ({})", digest.short()));
    }
}

/// How long something takes, in words.
pub(super) fn took(expected: &Expected) -> String {
    let span = |ms: u64| match ms {
        0..1000 => "under 1s".to_owned(),
        ms => human_duration(Duration::from_millis(ms)),
    };
    let times = if expected.samples == 1 { "1 time".to_owned() } else { format!("{} times", expected.samples) };
    format!("{}, 95 %: {} (measured {times})", span(expected.median_ms), span(expected.p95_ms))
}

fn item(item: &Item, palette: Palette, out: &mut String) {
    let (tone, effect) = match item.effect {
        EffectClass::None => (Tone::Quiet, "touches nothing"),
        EffectClass::Read => (Tone::Quiet, "reads"),
        EffectClass::Write => (Tone::Warn, "changes"),
        EffectClass::Destroy => (Tone::Bad, "destroys"),
    };
    let (number, id, uses) = (item.number, &item.id, &item.uses);
    let _ = writeln!(out, "{number:3}. {id}  {uses}  {}", palette.paint(tone, effect));
    let mut line = |what: &str, said: &str| {
        for (at, said) in said.lines().enumerate() {
            let what = if at == 0 { what } else { "" };
            let _ = writeln!(out, "     {}{said}", palette.paint(Tone::Quiet, &format!("{what:12}")));
        }
    };
    if item.name != item.id.as_str() {
        line("name", &item.name);
    }
    line("purpose", &item.purpose);
    if !item.after.is_empty() {
        line("begins", &item.after);
    }
    item.when.iter().for_each(|when| line("only if", when));
    item.preconditions.iter().for_each(|that| line("requires", that));
    item.targets.iter().for_each(|target| line("target", target));
    if item.host != "local" {
        line("host", &item.host);
    }
    for (name, value) in item.arguments.as_object().into_iter().flatten() {
        line("with", &format!("{name}: {}", argument(value)));
    }
    item.late.iter().for_each(|late| line("late", late));
    item.secrets.iter().for_each(|secret| line("secret", secret));
    item.locks.iter().for_each(|lock| line("lock", lock));
    item.expected.iter().for_each(|expected| line("takes", &took(expected)));
    item.rules.iter().for_each(|rule| line("rule", rule));
    if !item.undo.is_empty() {
        line("undo", &item.undo.join("\n"));
    }
}

fn argument(value: &Value) -> String {
    match (crate::action::pending(value), value) {
        (Some(expression), _) => crate::action::by_hand::placeholder(expression),
        (None, Value::String(text)) => text.clone(),
        (None, Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            value.to_string()
        }
    }
}
