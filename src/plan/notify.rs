//! Rules of `notify`: what their templates may read, and what is frozen of them.
//!
//! A rule is frozen as it is written, as the arguments of a step are: its templates are rendered once, when there is
//! something to tell, with the values that the plan keeps.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::bind::BindError;
use super::build::Material;
use super::leaf::visit_texts;
use super::read::{RUN, Reads, inside, unknown_name, visible_secret};
use super::text::{Text, arguments};
use crate::action::{PlanContext, Registry};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::runbook::{NotifyRule, Runbook};
use crate::language::template::{self, Reference, Scope, TextKind};

/// The members of `event`: what a rule tells.
pub const EVENT: [&str; 15] = [
    "at",
    "command",
    "elapsed",
    "environment",
    "exit_code",
    "kind",
    "message",
    "mode",
    "outcome",
    "percent",
    "question",
    "run",
    "runbook",
    "seq",
    "step",
];

/// The names a template of a rule may start with.
const ROOTS: [&str; 7] = ["env_vars", "event", "objectives", "params", "run", "secrets", "vars"];

/// Says what the rules of a runbook cannot read, and notes what they read.
pub(super) fn check(runbook: &Runbook, material: &Material<'_>, (reads, found): (&mut Reads, &mut Diagnostics)) {
    for rule in &runbook.notify {
        for text in arguments(&rule.rule.uses, &rule.rule.with, (&rule.with_places, rule.at), material) {
            match template::references(text.text, text.kind) {
                Ok(references) => {
                    let mut scan = Scan { runbook, material, reads };
                    let faults = references.iter().filter_map(|reference| scan.reference(&text, reference));
                    found.extend(faults.collect());
                }
                Err(error) => {
                    let place = inside(&text, error.range.clone(), material.sources);
                    let fault = Diagnostic::new(Code::TemplateSyntax, error.message).at(place);
                    let help = error.help.into_iter();
                    found.push(help.fold(fault, Diagnostic::help));
                }
            }
        }
    }
}

struct Scan<'a> {
    runbook: &'a Runbook,
    material: &'a Material<'a>,
    reads: &'a mut Reads,
}

impl Scan<'_> {
    fn reference(&mut self, text: &Text<'_>, reference: &Reference) -> Option<Diagnostic> {
        let place = inside(text, reference.range.clone(), self.material.sources);
        let root = reference.path.first().map_or("", String::as_str);
        let fault = match reference.path.get(1) {
            Some(name) => self.member(text, root, name),
            None if ROOTS.contains(&root) => Some(alone(root)),
            None => Some(unknown_root(root)),
        };
        fault.map(|fault: Diagnostic| fault.at(place))
    }

    fn member(&mut self, text: &Text<'_>, root: &str, name: &str) -> Option<Diagnostic> {
        let inventory = self.material.inventory;
        match root {
            "event" => unknown_name(name, &EVENT, "member of `event`"),
            "run" => unknown_name(name, &RUN, "member of `run`"),
            "objectives" => unknown_name(name, &["rpo", "rto"], "objective"),
            "params" => {
                self.reads.params.insert(name.to_owned());
                let known: Vec<&str> = self.runbook.params.iter().map(|(name, _)| name.value.as_str()).collect();
                unknown_name(name, &known, "parameter")
            }
            "vars" => {
                self.reads.vars.insert(name.to_owned());
                let known: Vec<&str> = inventory.vars.keys().map(String::as_str).collect();
                unknown_name(name, &known, "variable")
            }
            "env_vars" => {
                self.reads.env_vars.insert(name.to_owned());
                let known: Vec<&str> = self.runbook.pass_env.iter().map(|listed| listed.value.as_str()).collect();
                unknown_name(name, &known, "variable under `pass_env`")
            }
            "secrets" => {
                let known: Vec<&str> = inventory.secrets.keys().map(String::as_str).collect();
                let visible = || (!text.leaf.secret).then(|| visible_secret(name));
                unknown_name(name, &known, "secret").or_else(visible)
            }
            root => Some(unknown_root(root)),
        }
    }
}

fn alone(root: &str) -> Diagnostic {
    Diagnostic::new(Code::UnknownTemplateName, format!("`{root}` alone is not a value"))
        .help(format!("write `{root}.NAME`"))
}

fn unknown_root(root: &str) -> Diagnostic {
    match root {
        "steps" => Diagnostic::new(Code::UnknownTemplateName, "a rule of `notify` cannot read outputs of steps")
            .help("`event.step` names the step and `event.message` says what is told of it"),
        root => Diagnostic::new(Code::UnknownTemplateName, format!("there is no name `{root}` in a rule of `notify`"))
            .suggest(root, ROOTS),
    }
}

/// Gives the rules as the plan keeps them.
///
/// # Errors
/// Gives every argument that its notifier does not take, tried with an event made up for it.
pub(super) fn bound(
    runbook: &Runbook,
    (scope, run): (&Scope, &Value),
    context: &PlanContext<'_>,
    registry: &Registry,
) -> Result<Vec<NotifyRule>, Vec<BindError>> {
    let scope = with_sample(scope, run);
    let mut faults = Vec::new();
    for (index, rule) in runbook.notify.iter().enumerate() {
        // What a template makes of the made-up event is no proof against it.
        let Ok(rendered) = template::render(&rule.rule.with, &scope) else { continue };
        let Some(action) = registry.get(&rule.rule.uses) else { continue };
        for fault in action.effects(&rendered.value, context).err().into_iter().flatten() {
            faults.push(BindError::Rule {
                rule: index + 1,
                uses: rule.rule.uses.clone(),
                pointer: fault.path,
                message: fault.message,
                help: fault.help,
            });
        }
    }
    if faults.is_empty() { Ok(runbook.notify.iter().map(|rule| rule.rule.clone()).collect()) } else { Err(faults) }
}

fn with_sample(scope: &Scope, run: &Value) -> Scope {
    let event: serde_json::Map<String, Value> = EVENT
        .into_iter()
        .map(|name| {
            let value = match name {
                "percent" => json!(50),
                "exit_code" => json!(10),
                "seq" => json!(1),
                name => json!(name),
            };
            (name.to_owned(), value)
        })
        .collect();
    let mut run = run.clone();
    run["outcome"] = json!("failed");
    run["elapsed"] = json!("1.0s");
    scope.clone().with("event", &Value::Object(event)).with("run", &run)
}

/// Names the secrets that the arguments of a rule refer to.
#[must_use]
pub fn secrets(rule: &NotifyRule) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    visit_texts(&rule.with, "", &mut |_, text| {
        let references = template::references(text, TextKind::Template).unwrap_or_default();
        let named = references.into_iter().filter(|reference| reference.path.first().is_some_and(|r| r == "secrets"));
        names.extend(named.filter_map(|reference| reference.path.into_iter().nth(1)));
    });
    names
}
