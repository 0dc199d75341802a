//! What is declared and never read.

use super::Subject;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

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
