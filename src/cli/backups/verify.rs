//! `runbook backups verify`.

use std::collections::BTreeMap;

use serde_json::json;

use super::open_store::{Found, Shelves, Stores, of_catalog};
use super::row;
use crate::action::ReadHost;
use crate::actions::backup::{Inspected, Inspector, ReadBudget, sort_by_due};
use crate::base::clock;
use crate::base::units::ByteSize;
use crate::catalog::Backup;
use crate::catalog::attest::{self, Level, Verdict, Verification};
use crate::cli::exit::told;
use crate::cli::site::machine;
use crate::cli::{Exit, Failure, document, wiring};
use crate::report::mask_text;

/// Arguments of `backups verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups verify 20260128T143002Z-base --level content\n  runbook backups verify --all --budget 50GB         each night: those never or longest not verified come first\n  runbook backups verify --all --budget 1TB --store offsite --no-record\n\nWhat was found is kept beside the manifest and shown by `runbook backups list`. The exit code is 10 when a backup does not hold or a store gave no answer."
)]
pub struct Args {
    /// The backup: its id, or a unique beginning of it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    backup: Option<String>,
    /// As many backups as the budget allows, in each store
    #[arg(long, requires = "budget")]
    all: bool,
    /// How many bytes are read at most in each store; at least one backup is verified
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,
    /// How closely they are looked at
    #[arg(long, value_enum, default_value_t = Depth::Digests)]
    level: Depth,
    /// Keep nothing beside the manifest: for stores that may only be read
    #[arg(long)]
    no_record: bool,
    #[command(flatten)]
    stores: Stores,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How closely backups are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Depth {
    /// The manifest makes sense
    Manifest,
    /// Every object is there with its size
    Sizes,
    /// Every stored byte is read
    Digests,
    /// Every object is decrypted, decompressed and listed
    Content,
}

impl From<Depth> for Level {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Manifest => Self::Manifest,
            Depth::Sizes => Self::Sizes,
            Depth::Digests => Self::Digests,
            Depth::Content => Self::Content,
        }
    }
}

/// Verifies backups.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let open_stores = args.stores.open_stores(args.json)?;
    let mut found = open_stores.list()?;
    let mut holds = true;
    for (store, list) in found.lists.iter().filter(|_| args.all) {
        for damaged in &list.damaged {
            holds = false;
            tell!("DAMAGED  `{}` in `{store}`: {}", mask_text(damaged.key.as_str()), mask_text(&damaged.why));
        }
    }
    let chosen = chosen(args, &mut found)?;
    let host = machine()?;
    let mut documents = Vec::new();
    let mut budgets: BTreeMap<&str, ReadBudget> = BTreeMap::new();
    for backup in &chosen {
        let mut budget = args
            .budget
            .filter(|_| args.all)
            .map(|limit| budgets.entry(&backup.store).or_insert_with(|| ReadBudget::new(limit)));
        if budget.as_mut().is_some_and(|budget| !budget.covers(backup)) {
            continue;
        }
        let inspected = match one(args, (&open_stores, backup), host.as_ref()) {
            Ok(inspected) => inspected,
            // It says nothing of the other copies: they are read all the same.
            Err(failure) if chosen.len() > 1 => {
                holds = false;
                tell!("UNREAD   {} in `{}`: {}", mask_text(&backup.manifest.id), backup.store, failure.message);
                if args.json {
                    let mut value = row::document(backup, found.weak(backup));
                    value["verification"] = json!({ "level": Level::from(args.level), "unread": failure.message });
                    documents.push(value);
                }
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if let Some(budget) = budget {
            budget.took(inspected.read_bytes);
        }
        holds &= inspected.faults.is_empty() && found.weak(backup).is_none();
        if args.json {
            let mut value = row::document(backup, found.weak(backup));
            value["verification"] = json!({ "level": Level::from(args.level), "read_bytes": inspected.read_bytes,
                "faults": inspected.faults, "skipped": inspected.skipped, "beside": inspected.beside });
            documents.push(value);
        } else {
            people((backup, found.weak(backup)), &inspected);
        }
    }
    if args.json {
        document::write_json(&documents)?;
    } else if chosen.is_empty() {
        tell!("there is no backup to verify");
    }
    Ok(found.finish(if holds { Exit::Success } else { Exit::Failed }))
}

fn chosen(args: &Args, found: &mut Found) -> Result<Vec<Backup>, Failure> {
    let Some(text) = &args.backup else {
        let lists = found.lists.iter_mut().map(|(_, list)| std::mem::take(&mut list.backups));
        return Ok(lists
            .flat_map(|mut backups| {
                sort_by_due(&mut backups, args.level.into());
                backups
            })
            .collect());
    };
    Ok(found.copies(text)?.into_iter().cloned().collect())
}

fn one(args: &Args, (open_stores, backup): (&Shelves, &Backup), host: &dyn ReadHost) -> Result<Inspected, Failure> {
    let open_store = open_stores.open_store(&backup.store)?;
    let store = open_stores.reader(open_store)?;
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::new(Exit::Usage, "there is no folder for temporary files").because(&error))?;
    let inspector = Inspector {
        store: &*store,
        keys: open_store.entry.encryption.as_ref(),
        secrets: open_stores.site.vault.as_ref(),
        host,
        scratch: scratch.path(),
    };
    let inspected = wiring::block_on(async { inspector.inspect(backup, args.level.into()).await })?;
    let inspected = inspected.map_err(|error| {
        let failure =
            Failure::new(Exit::Failed, format!("`{}` cannot be verified: {}", backup.manifest.id, told(&error)));
        Failure { help: error.info().help.clone(), ..failure }
    })?;
    if !args.no_record {
        record(args, (open_stores, backup), &inspected)?;
    }
    Ok(inspected)
}

fn record(args: &Args, (open_stores, backup): (&Shelves, &Backup), inspected: &Inspected) -> Result<(), Failure> {
    let actor = wiring::actor();
    let note = Verification {
        format: 1,
        manifest: backup.digest,
        level: args.level.into(),
        at: clock::now(),
        by: format!("{} ({})", actor.name, actor.from),
        read_bytes: inspected.read_bytes,
        verdict: if inspected.faults.is_empty() { Verdict::Passed } else { Verdict::Failed },
        faults: inspected.faults.clone(),
    };
    let store = open_stores.writer(&backup.store)?;
    let kept = wiring::block_on(async { attest::verified(&*store, &backup.place(), &note).await })?;
    kept.map_err(|error| {
        let message = format!("what was found of `{}` cannot be kept: {}", backup.manifest.id, of_catalog(&error));
        Failure::new(Exit::Failed, message).help("with `--no-record` nothing is written")
    })
}

fn people((backup, weak): (&Backup, Option<&str>), inspected: &Inspected) {
    let (id, store) = (mask_text(&backup.manifest.id), mask_text(&backup.store));
    let read = ByteSize(inspected.read_bytes);
    match (inspected.faults.is_empty(), weak) {
        (true, None) => out!("holds    {id} in `{store}`, {read} read"),
        (true, Some(why)) => out!("USELESS  {id} in `{store}`, {read} read: whole by itself, but {}", mask_text(why)),
        (false, _) => out!("DAMAGED  {id} in `{store}`"),
    }
    inspected.faults.iter().for_each(|fault| out!("  {}", mask_text(fault)));
    inspected.skipped.iter().chain(&inspected.beside).for_each(|what| tell!("  warning: {}", mask_text(what)));
}
