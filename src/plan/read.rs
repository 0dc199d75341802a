//! What templates read: every name of every text of every step, with its place.

use std::collections::BTreeSet;
use std::ops::Range;

use super::build::Material;
use super::graph::{StepGraph, StepIndex};
use super::leaf;
use super::model::Section;
use super::text::{Seat, Text, texts};
use crate::action::Registry;
use crate::base::diagnostic::{ByteSpan, Code, Diagnostic, Diagnostics, Place, Sources};
use crate::language::SubRunbook;
use crate::language::runbook::{Runbook, Step};
use crate::language::template::{self, Reference, TextKind};

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The step.
    Step,
    /// What reverses it, which also reads its own outputs.
    Undo,
}

/// A step that reads an output of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The step that reads.
    pub reader: StepIndex,
    /// Whether its undo reads.
    pub by: Reader,
    /// The step that is read.
    pub of: StepIndex,
    /// The output, or `status`.
    pub output: String,
    /// Where.
    pub place: Place,
}

impl Read {
    /// Tells whether only the status is read, which every ended step has.
    #[must_use]
    pub fn is_status(&self) -> bool {
        self.output == "status"
    }
}

/// Everything that is read.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// Outputs of steps.
    pub steps: Vec<Read>,
    /// Parameters.
    pub params: BTreeSet<String>,
    /// Variables.
    pub vars: BTreeSet<String>,
    /// Variables of the environment.
    pub env_vars: BTreeSet<String>,
}

/// The members of `run`.
pub(super) const RUN: [&str; 9] =
    ["id", "name", "mode", "environment", "started_at", "elapsed", "outcome", "scratch", "actor"];

/// The names a template may start with.
const ROOTS: [&str; 7] = ["env_vars", "objectives", "params", "run", "secrets", "steps", "vars"];

/// Collects what every step reads and says what cannot be read.
pub fn collect(runbook: &Runbook, graph: &StepGraph<'_>, material: &Material<'_>, found: &mut Diagnostics) -> Reads {
    let mut reads = Reads::default();
    for index in 0..graph.len() {
        let (_, step) = graph.step(index);
        let mut scan = Scan { runbook, graph, material, index, reads: &mut reads, found };
        for text in texts(step, material) {
            scan.text(&text);
        }
    }
    collect_defaults(runbook, material, &mut reads, found);
    reads
}

/// Defaults of parameters and variables may read `run.*` and `vars` only.
fn collect_defaults(runbook: &Runbook, material: &Material<'_>, reads: &mut Reads, found: &mut Diagnostics) {
    let defaults = runbook.params.iter().filter_map(|(name, param)| Some((param.default.as_ref()?, name.at)));
    let place_of = |name: &String| material.inventory.name_place(&format!("/vars/{name}"));
    let vars = material.inventory.vars.iter().map(|(name, value)| (value, place_of(name)));
    for (value, place) in defaults.chain(vars) {
        leaf::visit_texts(value, "", &mut |_, text| {
            for reference in template::references(text, TextKind::Template).unwrap_or_default() {
                let name = reference.path.get(1).map_or("", String::as_str);
                match reference.path.first().map(String::as_str) {
                    Some("vars") if material.inventory.vars.contains_key(name) => {
                        reads.vars.insert(name.to_owned());
                    }
                    Some("vars") => {
                        let fault = format!("there is no variable `{name}`");
                        let known = material.inventory.vars.keys().map(String::as_str);
                        found.push(Diagnostic::new(Code::UnknownTemplateName, fault).at(place).suggest(name, known));
                    }
                    Some("run") if RUN.contains(&name) && !matches!(name, "outcome" | "elapsed") => {}
                    _ => found.push(
                        Diagnostic::new(
                            Code::UnknownTemplateName,
                            format!("`{}` cannot be read here", reference.path.join(".")),
                        )
                        .at(place)
                        .help("a default may read what is known of `run` at its start, and `vars.*`"),
                    ),
                }
            }
        });
    }
}

struct Scan<'a, 'g> {
    runbook: &'a Runbook,
    graph: &'a StepGraph<'g>,
    material: &'a Material<'a>,
    index: StepIndex,
    reads: &'a mut Reads,
    found: &'a mut Diagnostics,
}

impl Scan<'_, '_> {
    fn text(&mut self, text: &Text<'_>) {
        match template::references(text.text, text.kind) {
            Ok(references) => references.iter().for_each(|reference| self.reference(text, reference)),
            Err(error) => {
                let place = inside(text, error.range.clone(), self.material.sources);
                let fault = Diagnostic::new(Code::TemplateSyntax, error.message).at(place);
                self.found.push(match error.help {
                    Some(help) => fault.help(help),
                    None => fault,
                });
            }
        }
    }

    fn reference(&mut self, text: &Text<'_>, reference: &Reference) {
        let place = inside(text, reference.range.clone(), self.material.sources);
        let root = reference.path.first().map_or("", String::as_str);
        let name = reference.path.get(1).map(String::as_str);
        match (root, name) {
            ("params", Some(name)) => {
                let known: Vec<&str> = self.runbook.params.iter().map(|(n, _)| n.value.as_str()).collect();
                if self.known(name, &known, ("parameter", place)) {
                    self.reads.params.insert(name.to_owned());
                }
            }
            ("vars", Some(name)) => {
                let known: Vec<&str> = self.material.inventory.vars.keys().map(String::as_str).collect();
                if self.known(name, &known, ("variable", place)) {
                    self.reads.vars.insert(name.to_owned());
                }
            }
            ("env_vars", Some(name)) => self.env_var(name, place),
            ("item" | "item_key", _) => self.item(text, root, place),
            ("event", _) => self.found.push(
                Diagnostic::new(Code::UnknownTemplateName, "`event` is known in a rule of `notify` only").at(place),
            ),
            ("secrets", Some(name)) => self.secret(text, name, place),
            ("run", Some(name)) => self.run(text, name, place),
            ("objectives", Some(name)) => {
                self.known(name, &["rpo", "rto"], ("objective", place));
            }
            ("steps", Some(name)) => self.step(text, (name, reference), place),
            (root, None) if ROOTS.contains(&root) => {
                let message = format!("`{root}` alone is not a value");
                self.found.push(
                    Diagnostic::new(Code::UnknownTemplateName, message).at(place).help(format!("write `{root}.NAME`")),
                );
            }
            (root, _) => {
                let message = format!("there is no name `{root}` in templates");
                let fans_out = self.graph.step(self.index).1.for_each.is_some();
                let items = fans_out.then_some(["item", "item_key"]).into_iter().flatten();
                let known = ROOTS.into_iter().chain(items);
                self.found.push(Diagnostic::new(Code::UnknownTemplateName, message).at(place).suggest(root, known));
            }
        }
    }

    fn known(&mut self, name: &str, known: &[&str], (what, place): (&str, Place)) -> bool {
        let fault = unknown_name(name, known, what);
        let is_known = fault.is_none();
        self.found.extend(fault.map(|fault| fault.at(place)).into_iter().collect());
        is_known
    }

    fn env_var(&mut self, name: &str, place: Place) {
        let listed: Vec<&str> = self.runbook.pass_env.iter().map(|listed| listed.value.as_str()).collect();
        if listed.contains(&name) {
            self.reads.env_vars.insert(name.to_owned());
            return;
        }
        let fault = Diagnostic::new(Code::UnknownTemplateName, format!("`pass_env` does not list `{name}`")).at(place);
        let fault = fault.suggest(name, listed);
        self.found.push(match fault.help {
            Some(_) => fault,
            None => fault.help(format!("add it at the top level: `pass_env: [{name}]`")),
        });
    }

    /// `item` is known to each instance of a `for_each`, and to nothing else.
    fn item(&mut self, text: &Text<'_>, name: &str, place: Place) {
        let fans_out = self.graph.step(self.index).1.for_each.is_some();
        let help = match (fans_out, text.seat) {
            (true, Seat::Body | Seat::Undo) => return self.late(text, name, place),
            (true, Seat::Condition) => "`when` and `preconditions` are asked once, before there are items",
            (true, Seat::Items) => "`for_each` gives the items",
            (false, Seat::Body | Seat::Undo | Seat::Condition | Seat::Items) => {
                "it is read in `with`, `env` and `undo` of a step with `for_each`"
            }
        };
        let message = format!("there is no `{name}` here");
        self.found.push(Diagnostic::new(Code::UnknownTemplateName, message).at(place).help(help));
    }

    fn secret(&mut self, text: &Text<'_>, name: &str, place: Place) {
        let known: Vec<&str> = self.material.inventory.secrets.keys().map(String::as_str).collect();
        if !self.known(name, &known, ("secret", place)) {
            return;
        }
        if !text.leaf.secret {
            self.found.push(visible_secret(name).at(place));
        }
    }

    fn run(&mut self, text: &Text<'_>, name: &str, place: Place) {
        if !self.known(name, &RUN, ("member of `run`", place)) {
            return;
        }
        if !matches!(name, "outcome" | "elapsed") {
            return;
        }
        if self.graph.step(self.index).0 == Section::Body {
            self.found.push(
                Diagnostic::new(Code::UnknownTemplateName, format!("`run.{name}` is not known yet"))
                    .at(place)
                    .help(format!("`run.{name}` can be read in `finally` only")),
            );
        } else {
            self.late(text, &format!("run.{name}"), place);
        }
    }

    fn step(&mut self, text: &Text<'_>, (name, reference): (&str, &Reference), place: Place) {
        let Some(of) = self.graph.find(name) else {
            let ids = (0..self.graph.len()).map(|i| self.graph.step(i).1.id.value.as_str());
            self.found.push(
                Diagnostic::new(Code::UnknownStep, format!("there is no step `{name}`")).at(place).suggest(name, ids),
            );
            return;
        };
        let Some(output) = reference.path.get(2) else {
            self.found.push(no_value(self.graph.step(of).1).at(place));
            return;
        };
        if self.output_exists(of, output, place) {
            let by = text.seat.reader();
            self.reads.steps.push(Read { reader: self.index, by, of, output: output.clone(), place });
        }
        self.late(text, &format!("steps.{name}.{output}"), place);
    }

    fn output_exists(&mut self, of: StepIndex, output: &str, place: Place) -> bool {
        let fault = unknown_output(self.graph.step(of).1, output, self.material.registry);
        let exists = fault.is_none();
        self.found.extend(fault.map(|fault| fault.at(place)).into_iter().collect());
        exists
    }

    fn late(&mut self, text: &Text<'_>, name: &str, place: Place) {
        if !text.is_argument || text.leaf.late {
            return;
        }
        let when = if name.starts_with("item") { "during the run" } else { "after a step has run" };
        let what = text.leaf.reference.as_deref().map_or("this argument".to_owned(), |kind| format!("the {kind}"));
        self.found.push(
            Diagnostic::new(Code::LateTarget, format!("`{name}` is known only {when}, and {what} must be known before"))
                .at(place)
                .help("use a parameter or a literal, so that everything a run can touch is shown and judged before its first step"),
        );
    }
}

/// Says that none of the known names is this one; the fault has no place yet.
pub(super) fn unknown_name(name: &str, known: &[&str], what: &str) -> Option<Diagnostic> {
    if known.contains(&name) {
        return None;
    }
    let fault = Diagnostic::new(Code::UnknownTemplateName, format!("there is no {what} `{name}`"));
    Some(if known.is_empty() {
        fault.help(format!("this runbook declares no {what}"))
    } else {
        fault.suggest(name, known.iter().copied())
    })
}

/// Says that a secret stands where others could see it; the fault has no place yet.
pub(super) fn visible_secret(name: &str) -> Diagnostic {
    Diagnostic::new(Code::SecretInArgv, format!("the secret `{name}` would be visible to others here"))
        .help("pass it through `env:` of a `run:` step, or an argument marked secret")
}

/// Says that a step has no such output; the fault has no place yet.
pub(super) fn unknown_output(step: &Step, output: &str, registry: &Registry) -> Option<Diagnostic> {
    if let Some(sub) = &step.sub {
        return unknown_output_of(sub, output);
    }
    let schema = registry.get(&step.uses.value)?.output_schema();
    let open = schema["properties"].is_null() || schema["additionalProperties"].is_object();
    let mut names: Vec<&str> =
        schema["properties"].as_object().map(|m| m.keys().map(String::as_str).collect()).unwrap_or_default();
    names.extend(step.outputs.iter().map(|(name, _)| name.value.as_str()));
    names.extend(step.for_each.is_some().then_some("keys"));
    if open || step.poisoned || output == "status" || names.contains(&output) {
        return None;
    }
    let message = format!("`{}` has no output `{output}`", step.uses.value);
    Some(Diagnostic::new(Code::UnknownOutput, message).suggest(output, names.into_iter().chain(["status"])))
}

/// A sub-runbook shows what its file says under `outputs`, and none of its steps.
fn unknown_output_of(sub: &SubRunbook, output: &str) -> Option<Diagnostic> {
    let names = || sub.runbook.outputs.iter().map(|(name, _)| name.value.as_str()).chain(["status"]);
    if names().any(|name| name == output) {
        return None;
    }
    let fault = Diagnostic::new(Code::UnknownOutput, format!("`{}` has no output `{output}`", sub.name));
    let mut steps = sub.runbook.steps.iter().chain(&sub.runbook.finally);
    Some(match steps.any(|step| step.id.value == output) {
        true => fault.help(format!(
            "`{output}` is a step of it, which cannot be read from here: give what is needed of it under `outputs:` of `{}`",
            sub.name
        )),
        false => fault.suggest(output, names()),
    })
}

/// Says that a step is not a value; the fault has no place yet.
pub(super) fn no_value(step: &Step) -> Diagnostic {
    let fault = Diagnostic::new(Code::UnknownOutput, format!("`steps.{}` alone is not a value", step.id.value));
    fault.help(match step.sub {
        Some(_) => "write `steps.ID.OUTPUT` with an output of that runbook; its steps cannot be read from here",
        None => "write `steps.ID.OUTPUT` or `steps.ID.status`",
    })
}

/// Points inside a text where the file shows it as it is, else at the whole text.
pub(super) fn inside(text: &Text<'_>, range: Option<Range<usize>>, sources: &Sources) -> Place {
    let whole = text.place;
    let narrowed = || {
        let file = sources.get(whole.source)?;
        let shown = file.text.get(whole.span.start..whole.span.start + whole.span.len)?;
        let range = range?;
        let wanted = text.text.get(range.clone())?;
        let before = text.text.get(..range.start)?;
        let start = match shown.find(text.text) {
            Some(offset) => offset + range.start,
            None if before.matches(wanted).count() == 0 => shown.find(wanted)?,
            None => return None,
        };
        Some(Place { source: whole.source, span: ByteSpan { start: whole.span.start + start, len: range.len() } })
    };
    narrowed().unwrap_or(whole)
}
