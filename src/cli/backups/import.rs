//! `runbook backups import`.

use std::collections::BTreeSet;

use serde_json::json;

use super::list::table;
use super::shelf::of_catalog;
use crate::actions::backup::Foreign;
use crate::base::units::ByteSize;
use crate::catalog::{self, CatalogError};
use crate::cli::args::InventoryArgs;
use crate::cli::exit::told;
use crate::cli::site::Site;
use crate::cli::{Exit, Failure, document, wiring};
use crate::report::mask_text;

/// Arguments of `backups import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups import offsite prod/daily --source orders\n  runbook backups import offsite prod/daily --source orders --write\n\nRecognises dated dumps (`orders_20260128_143002.sql.gz`, times in UTC). Without `--write` it only says what it would do. With it, every byte is read for its digests and a manifest is written below PREFIX/dump/; no object is moved, renamed or changed. What is encrypted is left out and said."
)]
pub struct Args {
    /// The store of the inventory
    store: String,
    /// What the keys of the dumps begin with
    prefix: String,
    /// What they are backups of; default what each name has before its time
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Write the manifests
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose store is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Finds what can be imported, and imports it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let found = wiring::block_on(find(args, &site))??;
    if !args.write {
        return show(args, &found);
    }
    let store = site.store(&args.store)?;
    let (mut imported, mut failed) = (Vec::new(), Vec::new());
    for foreign in &found {
        let source = args.source.as_deref().unwrap_or(&foreign.name);
        let done = wiring::block_on(async {
            let manifest = foreign.describe(store.as_read(), source).await.map_err(|error| told(&error))?;
            catalog::commit(store.as_ref(), &args.prefix, manifest).await.map_err(|error| of_catalog(&error))
        })?;
        match done {
            Ok(backup) => {
                tell!("imported `{}` as `{}`", foreign.key, backup.manifest.id);
                imported.push(backup.manifest.id);
            }
            Err(why) => {
                tell!("left out `{}`: {}", foreign.key, mask_text(&why));
                failed.push(json!({ "key": foreign.key.as_str(), "why": why }));
            }
        }
    }
    if args.json {
        document::write_json(&json!({ "imported": imported, "failed": failed }))?;
    }
    Ok(if failed.is_empty() { Exit::Success } else { Exit::Failed })
}

/// What is recognised below the prefix and not in the catalog yet.
async fn find(args: &Args, site: &Site) -> Result<Vec<Foreign>, Failure> {
    let store = site.read_store(&args.store)?;
    let failed = |error: CatalogError| {
        Failure::new(Exit::Failed, format!("store `{}` gives no answer: {}", args.store, of_catalog(&error)))
    };
    let known = catalog::list(&*store, &args.prefix).await.map_err(failed)?;
    let known: BTreeSet<String> = known
        .backups
        .iter()
        .flat_map(|backup| backup.manifest.objects.iter().filter_map(|object| object.key.clone()))
        .collect();
    let listed = store.list(&format!("{}/", args.prefix)).await.map_err(|error| failed(error.into()))?;
    // What lies in the folder of a backup is a part of it, whatever its name.
    let folders: Vec<&str> =
        listed.iter().filter_map(|facts| facts.key.as_str().strip_suffix("manifest.json")).collect();
    let outside = |key: &str| !folders.iter().any(|folder| key.starts_with(folder)) && !known.contains(key);
    Ok(listed.iter().filter(|facts| outside(facts.key.as_str())).filter_map(Foreign::of).collect())
}

fn show(args: &Args, found: &[Foreign]) -> Result<Exit, Failure> {
    if args.json {
        let all: Vec<_> = found
            .iter()
            .map(|one| {
                json!({ "key": one.key.as_str(), "source": args.source.as_ref().unwrap_or(&one.name),
                "taken_at": one.taken_at, "size_bytes": one.size_bytes })
            })
            .collect();
        document::write_json(&json!({ "would_import": all }))?;
        return Ok(Exit::Success);
    }
    if found.is_empty() {
        tell!("nothing below `{}/` in `{}` is a dated dump that is not in the catalog yet", args.prefix, args.store);
        return Ok(Exit::Success);
    }
    let mut rows = vec![["KEY", "SOURCE", "TAKEN AT", "SIZE"].map(str::to_owned)];
    rows.extend(found.iter().map(|one| {
        let source = args.source.as_ref().unwrap_or(&one.name);
        [one.key.to_string(), source.clone(), one.taken_at.to_string(), ByteSize(one.size_bytes).to_string()]
            .map(|cell| mask_text(&cell))
    }));
    table(&rows);
    tell!("nothing was written; `--write` reads them all and writes their manifests");
    Ok(Exit::Success)
}
