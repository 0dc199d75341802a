//! What is declared and never read.

use super::Subject;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::runbook::Precondition;

/// The parameter that the engine itself reads.
const RESERVED: &str = "incident_at";

/// Parameters that no template reads.
pub fn params(subject: &Subject<'_>) -> Diagnostics {
    let broken = subject.runbook.steps.iter().chain(&subject.runbook.finally).any(|step| step.poisoned);
    if broken {
        return Diagnostics::default();
    }
    let unread = subject
        .runbook
        .params
        .iter()
        .filter(|(name, _)| name.value != RESERVED && !subject.reads.params.contains(&name.value));
    unread
        .map(|(name, _)| {
            Diagnostic::new(Code::UnusedParam, format!("the parameter `{}` is never read", name.value))
                .at(name.at)
                .help(format!("read it as `{{{{ params.{} }}}}`, or remove it", name.value))
        })
        .collect()
}

/// Variables of the runbook's own file that no template reads; an inventory's serve other runbooks too.
pub fn vars(subject: &Subject<'_>) -> Diagnostics {
    let broken = subject.runbook.steps.iter().chain(&subject.runbook.finally).any(|step| step.poisoned);
    if broken {
        return Diagnostics::default();
    }
    let inventory = subject.material.inventory;
    let place = |name: &String| inventory.name_place(&format!("/vars/{name}"));
    inventory
        .vars
        .keys()
        .filter(|name| place(name).source == subject.material.file && !subject.reads.vars.contains(*name))
        .map(|name| {
            Diagnostic::new(Code::UnusedVar, format!("the variable `{name}` is never read"))
                .at(place(name))
                .help(format!("read it as `{{{{ vars.{name} }}}}`, or remove it"))
        })
        .collect()
}

/// Variables of the environment that no template reads and no program gets.
pub fn pass_env(subject: &Subject<'_>) -> Diagnostics {
    let steps = || subject.runbook.steps.iter().chain(&subject.runbook.finally);
    let is_program = |uses: &str| matches!(uses, "exec" | "shell");
    let has_program = steps().chain(steps().filter_map(|step| step.undo.as_deref())).any(|step| {
        let asked = step.preconditions.iter().any(|precondition| match precondition {
            Precondition::Action { uses, .. } => is_program(&uses.value),
            Precondition::That(_) => false,
        });
        asked || is_program(&step.uses.value)
    });
    if has_program || steps().any(|step| step.poisoned) {
        return Diagnostics::default();
    }
    let unread = subject.runbook.pass_env.iter().filter(|name| !subject.reads.env_vars.contains(&name.value));
    unread
        .map(|name| {
            Diagnostic::new(Code::UnusedEnvVar, format!("nothing reads the variable `{}`", name.value))
                .at(name.at)
                .help(format!("read it as `{{{{ env_vars.{} }}}}`, or remove it", name.value))
        })
        .collect()
}
