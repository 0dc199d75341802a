//! Sub-runbooks: the files that steps with `uses: runbook` name, each read once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::document::Node;
use super::include::{Document, Gatherer};
use super::inventory::InventoryFile;
use super::load::check;
use super::runbook::{self, Judges, Runbook, SUB_RUNBOOK, Step};
use super::template::is_template;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place, SourceId};

/// How deep runbooks may use each other.
pub const MAX_DEPTH: usize = 8;

/// What an inventory says; a sub-runbook has the one of the run.
const OF_THE_INVENTORY: [&str; 5] = ["databases", "services", "stores", "secrets", "environments"];

/// A runbook that a step of another one uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubRunbook {
    /// Its file, as shown.
    pub name: String,
    /// Its file among the texts.
    pub file: SourceId,
    /// What it says.
    pub runbook: Runbook,
    /// The inventory of the run with the variables that this file may read: the inventory's and its own.
    pub inventory: InventoryFile,
    /// Its own variables.
    pub vars: BTreeMap<String, Value>,
    /// How many files deep it uses others, itself included.
    depth: usize,
}

/// Finds the sub-runbooks of a runbook and those that they use, and says what is wrong with each of them.
pub(super) fn follow(
    runbook: &mut Runbook,
    root: &Document,
    (gatherer, judges): (&mut Gatherer<'_>, Judges<'_>),
    faults: &mut Diagnostics,
) {
    let chain = vec![(super::include::normal(root.name.as_ref()), root.node.at)];
    let mut search = Search { gatherer, judges, root: root.node.at.source, known: BTreeMap::new(), chain, faults };
    search.follow(runbook);
}

struct Search<'a, 'f> {
    gatherer: &'a mut Gatherer<'f>,
    judges: Judges<'a>,
    root: SourceId,
    /// Every file by its path; `None` when it cannot be read as a runbook.
    known: BTreeMap<String, Option<Arc<SubRunbook>>>,
    /// The files being read, each with the place that names it.
    chain: Vec<(String, Place)>,
    faults: &'a mut Diagnostics,
}

impl Search<'_, '_> {
    /// Gives every step that uses a runbook its runbook.
    fn follow(&mut self, runbook: &mut Runbook) {
        let steps = runbook.steps.iter_mut().chain(&mut runbook.finally);
        for step in steps.filter(|step| step.uses.value == SUB_RUNBOOK) {
            step.sub = self.used(step);
        }
    }

    fn used(&mut self, step: &Step) -> Option<Arc<SubRunbook>> {
        let path = step.with.get("path")?.as_str()?;
        let at = step.with_places.get("/path").copied().unwrap_or(step.at);
        if is_template(path) || path.contains("://") || path.contains(['*', '?']) {
            let fault = Diagnostic::new(Code::MissingRunbook, format!("`{path}` is not the path of one file")).at(at);
            let help = "a literal path relative to this file, or the name of a shipped runbook: what runs is read and \
                        shown before anything starts; use `when:` to choose between several";
            self.faults.push(fault.help(help));
            return None;
        }
        let (name, bytes) = self.find(path, at)?;
        if let Some(start) = self.chain.iter().position(|(reading, _)| *reading == name) {
            self.circle(start, &name, at);
            return None;
        }
        let known = match self.known.get(&name) {
            Some(known) => known.clone(),
            // What lies too deep is not even read.
            None if self.chain.len() >= MAX_DEPTH => {
                self.too_deep(at);
                return None;
            }
            None => {
                let read = self.read(&name, bytes, at);
                self.known.insert(name, read.clone());
                read
            }
        }?;
        if self.chain.len() + known.depth > MAX_DEPTH {
            self.too_deep(at);
            return None;
        }
        Some(known)
    }

    fn too_deep(&mut self, at: Place) {
        let message = format!("runbooks use each other more than {MAX_DEPTH} files deep");
        self.faults.push(
            Diagnostic::new(Code::RunbookDepth, message).at(at).help("put what is needed of them into fewer files"),
        );
    }

    /// Looks beside the file that names it, then among the shipped ones.
    fn find(&mut self, path: &str, at: Place) -> Option<(String, Vec<u8>)> {
        let from = self.chain.last().map_or("", |(name, _)| name);
        let found = self.gatherer.find(from, path);
        if let Err(fault) = &found {
            self.faults.push(fault.clone().at(at));
        }
        found.ok()
    }

    fn read(&mut self, name: &str, bytes: Vec<u8>, at: Place) -> Option<Arc<SubRunbook>> {
        let document = self.gatherer.read_used(name, bytes);
        self.faults.extend(std::mem::take(&mut self.gatherer.faults));
        let document = document?;
        let node = &document.node;
        let checked = check(&document, self.faults);
        self.refuse_inventory(node);
        let mut inventory = self.judges.inventory.without_vars_of(self.root);
        inventory.add_vars(node, self.faults);
        let mut runbook = runbook::lower(node, &checked, self.judges, self.faults);
        self.chain.push((name.to_owned(), at));
        self.follow(&mut runbook);
        self.chain.pop();
        let below = runbook.steps.iter().chain(&runbook.finally).filter_map(|step| step.sub.as_ref());
        let depth = 1 + below.map(|sub| sub.depth).max().unwrap_or_default();
        let vars = node.get("vars").map(Node::entries).unwrap_or_default();
        let vars = vars.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect();
        Some(Arc::new(SubRunbook { name: name.to_owned(), file: node.at.source, runbook, inventory, vars, depth }))
    }

    fn refuse_inventory(&mut self, node: &Node) {
        for entry in OF_THE_INVENTORY.iter().filter_map(|key| node.entry(key)) {
            let message =
                format!("`{}` of a sub-runbook would not be read: the inventory of the run counts", entry.key);
            let fault = Diagnostic::new(Code::BadCombination, message).at(entry.key_at);
            self.faults.push(fault.help("move it into an inventory that the runbook of the run includes"));
        }
    }

    fn circle(&mut self, start: usize, name: &str, at: Place) {
        let through: Vec<String> = self.chain[start + 1..].iter().map(|(file, _)| format!("`{file}`")).collect();
        let message = match through.as_slice() {
            [] => format!("`{name}` uses itself"),
            files => format!("`{name}` uses itself through {}", files.join(", ")),
        };
        let mut fault = Diagnostic::new(Code::RunbookCycle, message).label(at, format!("uses `{name}` again"));
        for (file, place) in &self.chain[start + 1..] {
            fault = fault.label(*place, format!("uses `{file}`"));
        }
        self.faults.push(fault.help("it would never end: put what both need into a third runbook"));
    }
}

/// Keys of a step that mean nothing where a whole runbook stands for it.
const NOT_OF_A_GROUP: [&str; 10] =
    ["for_each", "max_parallel", "undo", "retry", "timeout", "stall", "on_unknown", "locks", "creates", "outputs"];

/// Refuses what a step with `uses: runbook` cannot have.
pub(super) fn check_keys(node: &Node, faults: &mut Diagnostics) {
    for entry in NOT_OF_A_GROUP.iter().filter_map(|key| node.entry(key)) {
        let fault = Diagnostic::new(Code::BadCombination, format!("a sub-runbook takes no `{}`", entry.key));
        faults.push(fault.at(entry.key_at).help("give it to the steps of that runbook"));
    }
    if let Some(entry) = node.entry("on_failure").filter(|entry| entry.value.as_str() == Some("pause")) {
        let fault = Diagnostic::new(Code::BadCombination, "a sub-runbook cannot be paused on failure as a whole");
        faults.push(fault.at(entry.value.at).help("give `on_failure: pause` to the steps of that runbook"));
    }
}
