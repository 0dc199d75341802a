//! The `outputs:` of a runbook: what a runbook that uses it gets. They read its own steps, and no secret.

use super::build::Material;
use super::graph::StepGraph;
use super::leaf;
use super::read::{self, Reads};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::runbook::Runbook;
use crate::language::template::{self, Reference, TextKind};

/// The names that an output may start with.
const ROOTS: [&str; 4] = ["params", "run", "steps", "vars"];

/// Says what an output cannot read, and notes the parameters and variables that it does read.
pub fn check(
    runbook: &Runbook,
    graph: &StepGraph<'_>,
    material: &Material<'_>,
    (reads, found): (&mut Reads, &mut Diagnostics),
) {
    for (name, output) in &runbook.outputs {
        leaf::visit_texts(&output.value, "", &mut |_, text| match template::references(text, TextKind::Template) {
            Ok(references) => {
                let faults = references.iter().filter_map(|reference| {
                    one(reference, runbook, graph, (material, reads)).map(|fault| fault.at(output.at))
                });
                found.extend(faults.collect());
            }
            Err(error) => {
                let message = format!("output `{}`: {}", name.value, error.message);
                let fault = Diagnostic::new(Code::TemplateSyntax, message).at(output.at);
                found.push(match error.help {
                    Some(help) => fault.help(help),
                    None => fault,
                });
            }
        });
    }
}

fn one(
    reference: &Reference,
    runbook: &Runbook,
    graph: &StepGraph<'_>,
    (material, reads): (&Material<'_>, &mut Reads),
) -> Option<Diagnostic> {
    let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
    let unknown =
        |what: &str, name: &str| Diagnostic::new(Code::UnknownTemplateName, format!("there is no {what} `{name}`"));
    match path.as_slice() {
        ["params", name, ..] => match runbook.params.iter().any(|(known, _)| known.value == *name) {
            true => {
                reads.params.insert((*name).to_owned());
                None
            }
            false => Some(
                unknown("parameter", name).suggest(name, runbook.params.iter().map(|(known, _)| known.value.as_str())),
            ),
        },
        ["vars", name, ..] => match material.inventory.vars.contains_key(*name) {
            true => {
                reads.vars.insert((*name).to_owned());
                None
            }
            false => Some(unknown("variable", name).suggest(name, material.inventory.vars.keys().map(String::as_str))),
        },
        ["run", "outcome" | "elapsed", ..] => Some(
            Diagnostic::new(Code::UnknownTemplateName, format!("`{}` is not known yet", path.join(".")))
                .help("`steps.ID.status` tells how a step ended"),
        ),
        ["run", name, ..] if read::RUN.contains(name) => None,
        ["run", name, ..] => Some(unknown("member of `run`", name).suggest(name, read::RUN)),
        ["steps", id, rest @ ..] => step(id, rest.first().copied(), graph, material),
        ["secrets", name, ..] => Some(
            Diagnostic::new(Code::SecretInArgv, format!("the secret `{name}` would be visible to others here"))
                .help("the runbook that uses this one reads the secret itself: both have the same inventory"),
        ),
        [root, ..] => Some(
            Diagnostic::new(Code::UnknownTemplateName, format!("an output cannot read `{root}`")).suggest(root, ROOTS),
        ),
        [] => None,
    }
}

fn step(id: &str, output: Option<&str>, graph: &StepGraph<'_>, material: &Material<'_>) -> Option<Diagnostic> {
    let Some(of) = graph.find(id) else {
        let ids = (0..graph.len()).map(|index| graph.step(index).1.id.value.as_str());
        return Some(
            Diagnostic::new(Code::UnknownStep, format!("there is no step `{id}` in this runbook")).suggest(id, ids),
        );
    };
    match output {
        Some(output) => read::unknown_output(graph.step(of).1, output, material.registry),
        None => Some(read::no_value(graph.step(of).1)),
    }
}
