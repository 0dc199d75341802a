//! The freeze of what a real recovery rests on, in the stores themselves (facts 2.10.22).

use serde_json::json;

use crate::action::{Access, Effects, RunContext, Target};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::base::{clock, machine};
use crate::catalog::freeze::{FreezeNote, freeze};
use crate::language::inventory::Inventory;

/// Every store that a recovery of a database reads: those of its WAL, and those of its backups.
/// Adds that the note is written into every store that may be written to, and that the others are read.
pub(crate) fn written(cluster: &Cluster, inventory: &Inventory, effects: Effects) -> Effects {
    let Ok((_, prefix)) = cluster.archive() else { return effects };
    cluster.entry.keeping().into_iter().fold(effects, |effects, name| {
        let is_read_only = inventory.stores.get(name).is_some_and(|entry| entry.read_only);
        let access = if is_read_only { Access::Read } else { Access::Write };
        effects.target(access, Target::Store { name: name.to_owned(), prefix: prefix.to_owned() })
    })
}

/// Freezes the database's place in every store that it is recovered from; nothing for one that is thrown away. A store that
/// may only be read, or that cannot be written to now, is no reason not to recover: it is told, since nothing but people
/// keeps its backups then.
pub(crate) async fn begin(cluster: &Cluster, cx: &RunContext) {
    let Ok((_, prefix)) = cluster.archive() else { return };
    if cluster.is_scratch() {
        return;
    }
    let note = FreezeNote {
        format: 1,
        run: cx.about.run.to_string(),
        database: cluster.name.clone(),
        environment: cx.about.environment.clone(),
        since: clock::now(),
        host: Some(machine::name()),
        lifted: None,
    };
    for name in cluster.entry.keeping() {
        let Err(why) = put((name, prefix), &note, cx).await else { continue };
        let message = format!(
            "warning: the backups under `{prefix}` in store `{name}` could not be frozen ({why}): stop whatever prunes or \
             moves them by hand, in every environment, until the recovery is over"
        );
        cx.reporter.note(message, json!({ "store": name, "prefix": prefix, "frozen": false }));
    }
}

/// Writes the note into one store; says why it cannot be.
async fn put((name, prefix): (&str, &str), note: &FreezeNote, cx: &RunContext) -> Result<(), String> {
    if cx.about.inventory.stores.get(name).is_some_and(|entry| entry.read_only) {
        return Err("it is read-only here".to_owned());
    }
    let store = cx.store(name).map_err(|error| error.to_string())?;
    let frozen = freeze(store.as_ref(), prefix, note).await;
    frozen.map_err(|error| std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string))
}
