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
use crate::actions::postgres::cluster::name::{ident, literal};
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
    // What an earlier recovery left there, which never came so far, has none of the slots that are to come back.
    let is_first = |old: &Old| matches!(Marker::read(files.as_ref(), &old.dir), Ok(None));
    let slots = match old.filter(is_first).and_then(|old| on_disk(files.as_ref(), &old.dir)) {
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
    let known = facts(context, marker).await;
    let named = known.map(|facts| followers(&facts)).unwrap_or_default();
    if !named.is_empty() {
        let message =
            format!("standbys must follow the new timeline: rebuild each, or `pg_rewind` it: {}", named.join(", "));
        context.cx.reporter.note(message, json!({ "standbys": named }));
    }
    named
}

/// The standbys that a backup knows. A subscriber streams as well, by the name of its slot as a rule, and is a database of its own.
fn followers(facts: &PostgresFacts) -> Vec<String> {
    let is_subscriber = |name: &str| facts.slots.iter().any(|slot| slot.kind == "logical" && slot.name == name);
    facts.standbys.iter().filter(|one| !is_subscriber(&one.name)).map(ToString::to_string).collect()
}

/// Says which subscriptions of the opened server go on, and from where: its publishers send what comes after what the old server
/// had confirmed to them (manual, "Logical Replication", `confirmed_flush_lsn`), whether or not it came back. Never fails: the
/// server is open.
pub(crate) async fn subscriptions(context: &RecoveryContext<'_>, session: &mut Session) -> Vec<String> {
    const ENABLED: &str = "SELECT s.subname, d.datname, coalesce(s.subslotname, '') FROM pg_subscription s \
         JOIN pg_database d ON d.oid = s.subdbid WHERE s.subenabled ORDER BY 2, 1";
    if context.cluster.is_scratch() {
        return Vec::new();
    }
    let found = match session.query(ENABLED).await {
        Ok(found) => found,
        Err(error) => {
            let message =
                format!("warning: whether subscriptions go on is not known, since the server does not tell: {error}");
            context.cx.reporter.note(message, serde_json::Value::Null);
            return Vec::new();
        }
    };
    let text = |row: usize, column: usize| found.at(row, column).unwrap_or_default().to_owned();
    let rows = (0..found.rows.len()).map(|row| (text(row, 0), text(row, 1), text(row, 2)));
    rows.map(|(name, dbname, slot)| {
        let message = format!(
            "warning: subscription `{name}` of database `{dbname}` goes on from where slot `{slot}` of its publisher was confirmed, not from \
             where this data ends: what lies between was received once and is not sent again. Compare its tables with the \
             publisher's; where rows lack, in `{dbname}`: ALTER SUBSCRIPTION {0} DISABLE, and copy its tables anew",
            ident(&name)
        );
        context.cx.reporter.note(message, json!({ "subscription": name, "dbname": dbname, "slot": slot }));
        format!("{name} ({dbname})")
    })
    .collect()
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
