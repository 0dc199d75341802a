//! `runbook backups list`.

use serde_json::json;

use super::open_store::{Found, Stores};
use super::row;
use super::stanza::{self, Stanzas};
use crate::actions::pgbackrest::Listed;
use crate::base::units::ByteSize;
use crate::base::{Timestamp, clock};
use crate::catalog::Backup;
use crate::cli::{Exit, Failure, document};
use crate::language::inventory::PgBackRest;
use crate::report::mask_text;

/// A backup of another program: its database, its place, and what is known of it.
type Foreign<'a> = (&'a str, String, &'a Listed);

/// Arguments of `backups list`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups list\n  runbook backups list --source orders --tier monthly\n  runbook backups list --store file:///mnt/usb\n  runbook backups list --json | jq -r '.backups[] | select(.last_proof == null) | .id'\n\nBackups of pgBackRest are listed as foreign where a database's entry names its stanza.\nThe exit code is 10 when a store gave no answer; the others are shown all the same. A manifest that cannot be used is shown as damaged."
)]
pub struct Args {
    #[command(flatten)]
    stores: Stores,
    /// Only of this database or source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only of this kind: `postgres.base`, `postgres.dump`, `files`, `pgbackrest` …
    #[arg(long)]
    kind: Option<String>,
    /// Only of this tier
    #[arg(long)]
    tier: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists the backups, newest first.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let open_stores = args.stores.open_stores(args.json)?;
    let stanzas = match args.stores.store.is_empty() {
        true => Stanzas::of(&open_stores.site, |name| args.wants_stanza_of(name))?,
        false => Stanzas::default(),
    };
    let mut found = open_stores.list()?;
    for (_, list) in &mut found.lists {
        list.backups.retain(|backup| args.wants(backup));
    }
    let mut foreign = stanzas.backups();
    foreign.retain(|(_, _, backup)| args.tier.as_ref().is_none_or(|tier| *tier == backup.tier));
    found.unreached.extend(stanzas.unreached.iter().cloned());
    if args.json {
        machines(&found, &foreign)?;
    } else {
        people(&found, &foreign, clock::now());
    }
    Ok(found.finish(Exit::Success))
}

impl Args {
    fn wants_stanza_of(&self, database: &str) -> bool {
        self.source.as_deref().is_none_or(|source| source == database)
            && self.kind.as_deref().is_none_or(|kind| kind == PgBackRest::KIND)
    }

    fn wants(&self, backup: &Backup) -> bool {
        let manifest = &backup.manifest;
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(&self.source, Some(&manifest.source))
            && is(&self.kind, Some(&manifest.kind))
            && is(&self.tier, manifest.tier.as_deref())
    }
}

fn machines(found: &Found, foreign: &[Foreign<'_>]) -> Result<(), Failure> {
    let backups: Vec<_> = found
        .lists
        .iter()
        .flat_map(|(_, list)| list.backups.iter().rev())
        .map(|backup| row::document(backup, found.weak(backup)))
        .collect();
    let damaged: Vec<_> = found
        .lists
        .iter()
        .flat_map(|(store, list)| list.damaged.iter().map(|damaged| row::damaged(store, damaged)))
        .collect();
    let pgbackrest: Vec<_> = foreign.iter().map(stanza::document).collect();
    document::write_json(
        &json!({ "backups": backups, "damaged": damaged, "pgbackrest": pgbackrest, "unreached": found.unreached }),
    )
}

fn people(found: &Found, foreign: &[Foreign<'_>], now: Timestamp) {
    let mut all: Vec<&Backup> = found.lists.iter().flat_map(|(_, list)| &list.backups).collect();
    all.sort_by_key(|backup| std::cmp::Reverse((backup.manifest.stopped_at, backup.manifest.id.clone())));
    let damaged = found.lists.iter().flat_map(|(store, list)| list.damaged.iter().map(move |one| (store, one)));
    if all.is_empty() && foreign.is_empty() && !found.lists.is_empty() {
        let names: Vec<String> = found.lists.iter().map(|(name, _)| format!("`{name}`")).collect();
        tell!("no backups in {}", names.join(", "));
    }
    if !all.is_empty() || !foreign.is_empty() {
        let mut rows = vec![["BACKUP", "SOURCE", "KIND", "TIER", "AGE", "SIZE", "STORE", "STATE"].map(str::to_owned)];
        rows.extend(all.iter().map(|backup| line(backup, found.weak(backup), now)));
        rows.extend(foreign.iter().map(|backup| stanza::line(backup, now)));
        table(&rows);
    }
    for (store, damaged) in damaged {
        out!("DAMAGED  `{}` in `{}`: {}", mask_text(damaged.key.as_str()), mask_text(store), mask_text(&damaged.why));
    }
}

fn line(backup: &Backup, weak: Option<&str>, now: Timestamp) -> [String; 8] {
    let manifest = &backup.manifest;
    [
        manifest.id.clone(),
        manifest.source.clone(),
        row::kind(backup),
        manifest.tier.clone().unwrap_or_else(|| "-".to_owned()),
        row::age(manifest.stopped_at, now),
        ByteSize(manifest.size_bytes()).to_string(),
        backup.store.clone(),
        row::standing(backup, weak, now),
    ]
    .map(|cell| mask_text(&cell))
}

/// Columns as wide as their widest cell; the last one is free.
pub fn table<const N: usize>(rows: &[[String; N]]) {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out!("{}", cells.join("  ").trim_end());
    }
}
