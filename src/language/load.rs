//! From paths to a typed runbook, its inventory, and everything that is wrong with them.

use serde_json::Value;

use super::document::{Checked, Kind, Node, TemplatePolicy, validate};
use super::include::{Document, Follow, Gatherer, Role};
use super::inventory::{self, InventoryFile};
use super::runbook::{self, Judges, Runbook};
use super::source::SourceReader;
use super::sub;
use super::vocabulary::Vocabulary;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Sources};

/// What is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadRequest {
    /// The runbook, as the reader knows it; `None` loads an inventory alone.
    pub runbook: Option<String>,
    /// Inventories that were asked for; when there are any, the runbook's own `include` is not followed.
    pub inventories: Vec<String>,
    /// Inventories for a runbook without `include` and nothing asked for: the first that exists.
    pub fallbacks: Vec<String>,
}

/// What came of it; partial when there are errors.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The runbook.
    pub runbook: Runbook,
    /// The inventory of all files together.
    pub inventory: InventoryFile,
    /// All texts that were read.
    pub sources: Sources,
    /// Everything that is wrong.
    pub diagnostics: Diagnostics,
}

/// Loads a runbook with its inventory and tells everything that is wrong with them at once.
#[must_use]
pub fn load(request: &LoadRequest, files: &dyn SourceReader, vocabulary: &dyn Vocabulary) -> Loaded {
    let mut gatherer = Gatherer::new(files);
    gather(request, &mut gatherer);
    let mut diagnostics = std::mem::take(&mut gatherer.faults);
    let documents = std::mem::take(&mut gatherer.documents);
    let mut inventory = InventoryFile::default();
    let mut all = Vec::with_capacity(documents.len());
    for document in &documents {
        let checked = check(document, &mut diagnostics);
        inventory.add(&document.node, &checked, &mut diagnostics);
        if document.role == Role::Inventory {
            inventory.files.push(document.name.clone());
        }
        all.push((document, checked));
    }
    diagnostics.extend(inventory.check());
    let judges = Judges { vocabulary, inventory: &inventory };
    let mut runbook = match all.iter().find(|(document, _)| document.role == Role::Runbook) {
        Some((document, checked)) => {
            let mut runbook = runbook::lower(&document.node, checked, judges, &mut diagnostics);
            sub::follow(&mut runbook, document, (&mut gatherer, judges), &mut diagnostics);
            runbook
        }
        None => Runbook::default(),
    };
    for (document, checked) in &all {
        runbook.notify.extend(runbook::rules(&document.node, checked, judges, &mut diagnostics));
    }
    Loaded { runbook, inventory, sources: gatherer.sources, diagnostics: in_order(diagnostics) }
}

fn gather(request: &LoadRequest, gatherer: &mut Gatherer<'_>) {
    for name in &request.inventories {
        gatherer.open(name, Role::Inventory, Follow::Includes);
    }
    let follow = if request.inventories.is_empty() { Follow::Includes } else { Follow::Nothing };
    if let Some(name) = &request.runbook {
        gatherer.open(name, Role::Runbook, follow);
    }
    let has_include = gatherer.documents.last().is_some_and(|document| document.node.get("include").is_some());
    if request.inventories.is_empty() && !has_include {
        let before = gatherer.documents.len();
        gatherer.open_first(&request.fallbacks, Role::Inventory);
        // The runbook comes last: what it says of variables wins.
        gatherer.documents.rotate_left(before);
    }
}

/// Holds a file against its schema and reports what does not fit.
pub(super) fn check(document: &Document, faults: &mut Diagnostics) -> Checked {
    let node = &document.node;
    if !matches!(node.kind, Kind::Map(_)) {
        let message = format!("a file begins with keys such as `version: 1`, but this is {}", kind_of(node));
        faults.push(Diagnostic::new(Code::WrongType, message).at(node.at).help("is this the right file?"));
        return Checked::default();
    }
    let is_stray = document.role == Role::Inventory && node.get("steps").is_some();
    if is_stray {
        let at = node.entry("steps").map_or(node.at, |entry| entry.key_at);
        let message = format!("`{}` is a runbook, where an inventory is wanted", document.name);
        let fault = Diagnostic::new(Code::NotAnInventory, message).label(at, "an inventory has no steps");
        faults.push(fault.help("move what is shared into a file of its own, without `steps`"));
    }
    let mut checked = validate(node, &schema(document.role), TemplatePolicy::Forbidden);
    version(node, &mut checked);
    for fault in &checked.faults {
        let is_top = fault.diagnostic.code == Code::UnknownKey && fault.pointer.matches('/').count() == 1;
        if !(is_stray && is_top) {
            faults.push(fault.diagnostic.clone());
        }
    }
    checked
}

fn schema(role: Role) -> Value {
    match role {
        Role::Runbook => runbook::file_schema().to_value(),
        Role::Inventory => inventory::file_schema().to_value(),
    }
}

/// Says of a version what it is, instead of which numbers the schema takes.
fn version(node: &Node, checked: &mut Checked) {
    let Some(version) = node.get("version") else { return };
    for fault in checked.faults.iter_mut().filter(|fault| fault.pointer == "/version") {
        let written = version.lexeme.clone().or_else(|| version.as_str().map(str::to_owned)).unwrap_or_default();
        let message = format!("version `{written}` of the language does not exist");
        let help = "this program knows `version: 1`, written without quotes";
        fault.diagnostic = Diagnostic::new(Code::UnsupportedVersion, message).at(version.at).help(help);
    }
}

fn kind_of(node: &Node) -> &'static str {
    match node.kind {
        Kind::Seq(_) => "a list",
        Kind::Map(_) => "a mapping",
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Str(_) => "a single value",
    }
}

/// More findings than a person would read, or than a hostile file should cost.
const MOST_FINDINGS: usize = 200;

/// Findings in the order of the texts, those without a place first; what nobody would read is only counted.
#[must_use]
pub fn in_order(diagnostics: Diagnostics) -> Diagnostics {
    let mut list: Vec<Diagnostic> = diagnostics.into_iter().collect();
    list.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.place));
    let further = list.len().saturating_sub(MOST_FINDINGS);
    list.truncate(MOST_FINDINGS);
    if further > 0 {
        let message = format!("{further} further findings are not shown");
        list.push(Diagnostic::new(Code::Budget, message).help("correct the first ones and check again"));
    }
    list.into_iter().collect()
}
