//! From a typed runbook to a plan: every reference resolved, every contradiction named.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{StepGraph, StepIndex, join};
use super::model::{Section, StepKind, Strictness};
use super::notify;
use super::outputs;
use super::read::{self, Read, Reader};
use super::sub::{self, Built, SubPlan};
use crate::action::{EffectClass, Registry};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, SourceId, Sources};
use crate::base::mode::Mode;
use crate::language::inventory::InventoryFile;
use crate::language::runbook::{Precondition, Runbook};

/// Edges of a circle that are told and labelled; a longer one is not a slip of the pen.
const MOST_EDGES: usize = 50;

/// Findings that get a suggestion.
const MOST_SUGGESTIONS: usize = 200;

/// A runbook that holds together: what can be decided without parameters is decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The typed file.
    pub runbook: Runbook,
    /// Its own file among the texts.
    pub file: SourceId,
    /// The plans of the runbooks it uses, by the step that uses each.
    pub subs: BTreeMap<String, SubPlan>,
    /// How many steps it has, those of all sub-runbooks included.
    pub total: usize,
    reads: Vec<Read>,
}

/// What a plan is built from.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// The actions.
    pub registry: &'a Registry,
    /// Declared secrets and variables, before an environment is chosen.
    pub inventory: &'a InventoryFile,
    /// The texts, for places inside templates.
    pub sources: &'a Sources,
    /// The runbook's own file among them.
    pub file: SourceId,
}

/// Builds the plan and says everything that is wrong with it.
#[must_use]
pub fn build(runbook: Runbook, material: &Material<'_>) -> (Plan, Diagnostics) {
    build_with(runbook, material, &mut Built::new())
}

/// Builds the plan of one file; those of its sub-runbooks are built once for all that use them.
pub(super) fn build_with(runbook: Runbook, material: &Material<'_>, built: &mut Built) -> (Plan, Diagnostics) {
    let graph = StepGraph::new(&runbook);
    let mut found = Diagnostics::default();
    check_needs(&graph, &mut found);
    check_preconditions(&graph, material.registry, &mut found);
    super::people::check(&graph, material.inventory, &mut found);
    let circles = graph.circles();
    check_circles(&graph, &circles, &mut found);
    let mut reads = read::collect(&runbook, &graph, material, &mut found);
    notify::check(&runbook, material, (&mut reads, &mut found));
    outputs::check(&runbook, &graph, material, (&mut reads, &mut found));
    if circles.is_empty() {
        check_ancestors(&graph, &reads, &mut found);
        check_modes(&graph, &reads, &mut found);
    }
    if !found.has_errors() {
        found.extend(super::rules::check(&runbook, material, &reads));
    }
    let steps = reads.steps;
    drop(graph);
    let subs = sub::plans(&runbook, material, built, &mut found);
    let own = runbook.steps.len() + runbook.finally.len();
    let total = subs.values().fold(own, |total, sub| total.saturating_add(sub.plan.total));
    let plan = Plan { runbook, file: material.file, subs, total, reads: steps };
    sub::check_size(&plan, &mut found);
    (plan, found)
}

impl Plan {
    /// Gives the runbook and all those it uses, directly or not, each file once.
    #[must_use]
    pub fn runbooks(&self) -> Vec<&Runbook> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let mut open = vec![self];
        while let Some(plan) = open.pop() {
            if seen.insert(plan.file) {
                found.push(&plan.runbook);
                open.extend(plan.subs.values().map(|sub| &*sub.plan));
            }
        }
        found
    }

    /// Gives the edges of every step of a mode, those from reading outputs included.
    #[must_use]
    pub fn edges_in(&self, graph: &StepGraph<'_>, mode: Mode) -> Vec<BTreeMap<StepIndex, Strictness>> {
        let mut edges = graph.edges_in(mode);
        for read in &self.reads {
            let present = graph.takes_part(read.reader, mode) && graph.takes_part(read.of, mode);
            let in_body = graph.step(read.reader).0 == Section::Body;
            // An undo waits for nothing: it takes what there is.
            if present && in_body && !read.is_status() && read.by == Reader::Step {
                join(&mut edges[read.reader], read.of, Strictness::Success);
            }
        }
        edges
    }
}

fn check_needs(graph: &StepGraph<'_>, found: &mut Diagnostics) {
    for index in 0..graph.len() {
        let (section, step) = graph.step(index);
        for need in step.needs.iter().flatten() {
            let name = need.value.step.as_str();
            let fault = match graph.find(name) {
                None => {
                    let fault = Diagnostic::new(Code::UnknownStep, format!("there is no step `{name}`")).at(need.at);
                    // Nobody reads hundreds of suggestions, and looking for them takes time.
                    let others = (0..graph.len()).filter(|i| *i != index && found.len() < MOST_SUGGESTIONS);
                    fault.suggest(name, others.map(|i| graph.step(i).1.id.value.as_str()))
                }
                Some(other) if other == index => Diagnostic::new(Code::SelfNeed, format!("step `{name}` needs itself"))
                    .at(need.at)
                    .help("remove it from `needs`; `needs: []` starts at once"),
                Some(other) if section == Section::Body && graph.step(other).0 == Section::Finally => {
                    Diagnostic::new(Code::UnknownStep, format!("step `{name}` stands in `finally`"))
                        .at(need.at)
                        .help("`finally` starts after all of `steps`, so no step can wait for it")
                }
                Some(_) => continue,
            };
            found.push(fault);
        }
    }
}

/// What is asked before a step may not change anything: it is neither journalled nor guarded.
fn check_preconditions(graph: &StepGraph<'_>, registry: &Registry, found: &mut Diagnostics) {
    for index in 0..graph.len() {
        for precondition in &graph.step(index).1.preconditions {
            let Precondition::Action { uses, .. } = precondition else { continue };
            let effect = registry.get(&uses.value).map_or(EffectClass::None, |action| action.spec().effect);
            let why = match StepKind::of(&uses.value) {
                StepKind::Approval | StepKind::Manual => Some("is made by people"),
                StepKind::Runbook => Some("stands for steps of its own"),
                StepKind::Action => None,
            };
            if let Some(why) = why {
                let message = format!("`{}` {why}, so it cannot be a precondition", uses.value);
                let fault = Diagnostic::new(Code::BadCombination, message).at(uses.at);
                found.push(fault.help("make it a step of its own that this one needs"));
            } else if effect > EffectClass::Read {
                let message = format!("`{}` may change something, so it cannot be a precondition", uses.value);
                let fault = Diagnostic::new(Code::BadCombination, message).at(uses.at);
                found.push(fault.help("make it a step of its own that this one needs, or ask with `wait` or `that:`"));
            }
        }
    }
}

fn check_circles(graph: &StepGraph<'_>, circles: &[Vec<StepIndex>], found: &mut Diagnostics) {
    for circle in circles {
        let names: Vec<&str> = circle.iter().map(|index| graph.step(*index).1.id.value.as_str()).collect();
        let first = names.first().copied().unwrap_or_default();
        let further = names.len().saturating_sub(MOST_EDGES);
        let shown = names[..names.len() - further].join("` → `");
        let between = if further > 0 { format!(" → {further} more") } else { String::new() };
        let message = format!("steps wait for each other: `{shown}`{between} → `{first}`");
        let mut fault = Diagnostic::new(Code::Cycle, message);
        for (position, index) in circle.iter().enumerate().take(MOST_EDGES) {
            let step = graph.step(*index).1;
            let next = names[(position + 1) % names.len()];
            let place =
                step.needs.iter().flatten().find(|need| need.value.step == next).map_or(step.id.at, |need| need.at);
            let how = if step.needs.is_some() { "needs" } else { "follows" };
            fault = fault.label(place, format!("`{}` {how} `{next}`", step.id.value));
        }
        found.push(fault.help("remove one of these edges; a step without `needs` follows the one written above it"));
    }
}

fn check_ancestors(graph: &StepGraph<'_>, reads: &read::Reads, found: &mut Diagnostics) {
    for read in &reads.steps {
        let (section, reader) = graph.step(read.reader);
        let (of_section, of) = graph.step(read.of);
        if section == Section::Finally && of_section == Section::Body {
            continue;
        }
        if read.reader == read.of && read.by == Reader::Undo {
            continue;
        }
        if read.reader == read.of {
            let message = format!("step `{}` reads its own outputs", of.id.value);
            found.push(Diagnostic::new(Code::NotAnAncestor, message).at(read.place));
        } else if !graph.is_ancestor(read.of, read.reader) {
            let who = match read.by {
                Reader::Step => format!("`{}`", reader.id.value),
                Reader::Undo => format!("the undo of `{}`", reader.id.value),
            };
            let message = format!("{who} reads `{}`, which may not have run by then", of.id.value);
            found.push(
                Diagnostic::new(Code::NotAnAncestor, message)
                    .label(read.place, "read here")
                    .label(of.id.at, "this step is not reached through `needs`")
                    .help(format!("add `{}` to `needs` of `{}`", of.id.value, reader.id.value)),
            );
        }
    }
}

fn check_modes(graph: &StepGraph<'_>, reads: &read::Reads, found: &mut Diagnostics) {
    let mut said = BTreeSet::new();
    for read in &reads.steps {
        for mode in [Mode::Real, Mode::Drill] {
            let missing = graph.takes_part(read.reader, mode) && !graph.takes_part(read.of, mode);
            if !missing || graph.step(read.reader).0 == Section::Finally || !said.insert((read.reader, read.of, mode)) {
                continue;
            }
            let (reader, of) = (graph.step(read.reader).1, graph.step(read.of).1);
            let message = format!(
                "`{}` takes part in mode `{}` and reads `{}`, which does not",
                reader.id.value,
                mode.as_str(),
                of.id.value
            );
            found.push(
                Diagnostic::new(Code::AbsentInMode, message)
                    .label(read.place, "read here")
                    .label(of.id.at, "not part of that mode")
                    .help(format!("add `{}` to the `modes` of `{}`", mode.as_str(), of.id.value)),
            );
        }
    }
}
