//! Replication slots and standbys after a recovery: no base backup holds them (facts 2.10.21).
//!
//! Physical slots are made anew, without reserving WAL: a standby that never comes back would fill the disk.
//! A logical slot's position means nothing on the new timeline, so its consumers must begin anew. One that cannot be made
//! is told with the statement that makes it, and costs no recovery: the database is open and whole by then. For want of
//! room nothing is raised: a server that has more slots than its configuration allows does not start again.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::action::ReadFiles;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::session::connect::Session;
use crate::catalog::{self, PostgresFacts, Slot};

/// The place of a slot's state inside a data directory.
const FOLDER: &str = "pg_replslot";
/// Where a state file tells the slot's database, which only a logical one has: behind a header of 16 bytes and
/// a name of 64.
const DATABASE_AT: usize = 80;
/// Where it tells whether the slot outlives its session and the server (`ReplicationSlotPersistency` in
/// `replication/slot.h`): a temporary or unfinished one does not.
const PERSISTENCY_AT: usize = DATABASE_AT + 4;

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotFate {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Why it could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a recovery makes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A physical one, made anew: it reserves WAL once its standby connects.
    Recreated,
    /// A logical one, gone: its consumers must make it anew and copy their data again.
    Lost,
    /// A physical one that the server would not make: its standby waits until somebody makes it.
    Failed,
}

/// Makes the old server's physical slots anew and tells what became of each. Never fails: what is in the way of one is
/// told.
pub(crate) async fn restore(context: &RecoveryContext<'_>, marker: &Marker, session: &mut Session) -> Vec<SlotFate> {
    let files = context.cx.host.read_files();
    let old = Old::find(context.cluster, &marker.run, files.as_ref()).ok().flatten();
    let old = old.filter(|old| old.dir != context.cluster.pgdata);
    let slots = match old.and_then(|old| on_disk(files.as_ref(), &old.dir)) {
        Some(slots) => slots,
        None => facts(context, marker).await.map(|facts| facts.slots).unwrap_or_default(),
    };
    let mut fates = Vec::new();
    for slot in &slots {
        let (fate, why) = match slot.kind.as_str() {
            "physical" => match session.query(&format!("{} WHERE {}", making(slot), absent(slot))).await {
                Ok(_) => (Fate::Recreated, None),
                Err(error) => (Fate::Failed, Some(error.to_string())),
            },
            _ => (Fate::Lost, None),
        };
        fates.push(SlotFate { name: slot.name.clone(), fate, why });
    }
    note(context, &fates);
    note_failed(context, &slots, &fates);
    fates
}

/// The statement that makes a slot.
fn making(slot: &Slot) -> String {
    format!("SELECT pg_create_physical_replication_slot({})", literal(&slot.name))
}

fn absent(slot: &Slot) -> String {
    format!("NOT EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = {})", literal(&slot.name))
}

fn note(context: &RecoveryContext<'_>, fates: &[SlotFate]) {
    let named = |fate: Fate| -> Vec<&str> {
        fates.iter().filter(|one| one.fate == fate).map(|one| one.name.as_str()).collect()
    };
    let (made, lost) = (named(Fate::Recreated), named(Fate::Lost));
    if !made.is_empty() {
        let message = format!(
            "physical replication slots were made anew: {}; a standby that used one must be rebuilt, or rewound by `pg_rewind`, \
             before it follows",
            made.join(", ")
        );
        context.cx.reporter.note(message, json!({ "slots": made }));
    }
    if !lost.is_empty() {
        let message = format!(
            "logical replication slots are gone, so their consumers must begin anew with a fresh copy: {}",
            lost.join(", ")
        );
        context.cx.reporter.note(message, json!({ "slots": lost }));
    }
}

/// Says which slots somebody must make, and how.
fn note_failed(context: &RecoveryContext<'_>, slots: &[Slot], fates: &[SlotFate]) {
    let failed: Vec<(&Slot, &str)> =
        slots.iter().zip(fates).filter_map(|(slot, fate)| Some((slot, fate.why.as_deref()?))).collect();
    let Some((_, why)) = failed.first() else { return };
    let kept = fates.iter().filter(|one| one.fate != Fate::Lost).count();
    let statements: Vec<String> = failed.iter().map(|(slot, _)| making(slot)).collect();
    let message = format!(
        "physical replication slots could not be made, so their standbys wait: {why}; with `max_replication_slots` at \
         {kept} or more and a `wal_level` above `minimal`, which take a restart, this makes them: {}",
        statements.join("; ")
    );
    let names: Vec<&str> = failed.iter().map(|(slot, _)| slot.name.as_str()).collect();
    context.cx.reporter.note(message, json!({ "slots": names, "statements": statements }));
}

/// Says which standbys there were when the backup was taken: each must be rebuilt, or rewound, onto the new timeline.
pub(crate) async fn standbys(context: &RecoveryContext<'_>, marker: &Marker) -> Vec<String> {
    let known = facts(context, marker).await.map(|facts| facts.standbys).unwrap_or_default();
    let named: Vec<String> = known.iter().map(ToString::to_string).collect();
    if !named.is_empty() {
        let message =
            format!("standbys must follow the new timeline: rebuild each, or `pg_rewind` it: {}", named.join(", "));
        context.cx.reporter.note(message, json!({ "standbys": named }));
    }
    named
}

/// What the backup's manifest knows of its server; `None` when it cannot be read now, which ends no recovery.
async fn facts(context: &RecoveryContext<'_>, marker: &Marker) -> Option<PostgresFacts> {
    let opened = catalog::open_copy(context.store.as_read(), context.prefix, &marker.backup).await;
    opened.ok()?.manifest.postgres
}

/// The slots whose state an old data directory holds; `None` when it cannot tell.
fn on_disk(files: &dyn ReadFiles, pgdata: &Path) -> Option<Vec<Slot>> {
    let folder = pgdata.join(FOLDER);
    let mut slots = Vec::new();
    for entry in files.list(&folder).ok()? {
        let name = entry.name.to_str()?.to_owned();
        let state = files.read(&folder.join(&name).join("state"), 1 << 16).ok()?;
        let (database, persistency) = state.get(DATABASE_AT..PERSISTENCY_AT + 4)?.split_at(4);
        if persistency != [0; 4] {
            continue;
        }
        let kind = if database == [0; 4] { "physical" } else { "logical" };
        slots.push(Slot { name, kind: kind.to_owned(), plugin: None, dbname: None });
    }
    Some(slots)
}
