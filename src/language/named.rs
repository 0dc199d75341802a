//! Which inventories a command must be told, so that it means what an earlier one did.

use std::collections::BTreeSet;
use std::path::Path;

use super::document;
use super::include::{beside, normal};
use crate::base::diagnostic::SourceId;

/// Tells whether a text is an inventory: it has entries of one, and neither `steps` nor a `name`.
#[must_use]
pub fn is_inventory_text(text: &str) -> bool {
    let (node, _) = document::parse(SourceId::default(), text);
    let has = |key: &&str| node.as_ref().is_some_and(|node| node.get(key).is_some());
    let entries = ["databases", "services", "stores", "environments", "secrets", "audit", "retention", "backups"];
    !["steps", "name"].iter().any(has) && entries.iter().any(has)
}

/// Names the inventories among the texts of a run, its runbook first, each with its name. Those that others include come with
/// them. Where they are just what a command finds by itself, `found`, none has to be named.
#[must_use]
pub fn named_inventories<'a>(texts: &[(&'a str, &str)], found: &[String]) -> Vec<&'a str> {
    // What a runbook includes is not followed where inventories are named.
    let own = texts.first().map_or_else(Vec::new, |(name, text)| includes(name, text));
    let included: BTreeSet<String> = texts.iter().skip(1).flat_map(|(name, text)| includes(name, text)).collect();
    let is_asked =
        |(name, text): &&(&str, &str)| !included.contains(&normal(Path::new(name))) && is_inventory_text(text);
    let asked: Vec<&str> = texts.iter().skip(1).filter(is_asked).map(|(name, _)| *name).collect();
    // A runbook that includes its own finds those.
    let is_own = |name: &&str| own.contains(&normal(Path::new(name)));
    let finds = if own.is_empty() { asked == *found } else { asked.iter().all(is_own) };
    if finds { Vec::new() } else { asked }
}

/// The files that a text includes.
fn includes(name: &str, text: &str) -> Vec<String> {
    let (node, _) = document::parse(SourceId::default(), text);
    let list = node.as_ref().and_then(|node| node.get("include"));
    list.into_iter().flat_map(|list| list.items()).filter_map(|item| Some(beside(name, item.as_str()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::named_inventories;

    const RUNBOOK: (&str, &str) = ("r.yaml", "version: 1\nname: r\nsteps: []\n");
    const STORES: &str = "version: 1\nstores: {}\n";

    #[test]
    fn what_was_asked_for_is_named_and_what_is_found_or_included_is_not() {
        let found = ["inventory.yaml".to_owned()];
        assert_eq!(named_inventories(&[RUNBOOK, ("inventory.yaml", STORES)], &found), [""; 0]);
        assert_eq!(named_inventories(&[RUNBOOK, ("small.yaml", STORES)], &found), ["small.yaml"]);
        let both = [RUNBOOK, ("inventory.yaml", STORES), ("more.yaml", STORES)];
        assert_eq!(named_inventories(&both, &found), ["inventory.yaml", "more.yaml"]);
        let whole = "version: 1\ninclude: [parts/stores.yaml]\ndatabases: {}\n";
        let of_parts = [RUNBOOK, ("parts/stores.yaml", STORES), ("inventory.yaml", whole)];
        assert_eq!(named_inventories(&of_parts, &found), [""; 0]);
        assert_eq!(named_inventories(&of_parts, &[]), ["inventory.yaml"]);
    }

    #[test]
    fn an_inventory_in_the_place_of_those_that_a_runbook_includes_is_named() {
        let runbook = ("r.yaml", "version: 1\nname: r\ninclude: [own.yaml]\nsteps: []\n");
        assert_eq!(named_inventories(&[runbook, ("own.yaml", STORES)], &[]), [""; 0]);
        let found = ["inventory.yaml".to_owned()];
        assert_eq!(named_inventories(&[runbook, ("inventory.yaml", STORES)], &found), ["inventory.yaml"]);
        let both = [runbook, ("own.yaml", STORES), ("more.yaml", STORES)];
        assert_eq!(named_inventories(&both, &[]), ["own.yaml", "more.yaml"]);
    }
}
