//! `runbook backups prove`.

use serde_json::json;

use crate::catalog::attest::{Sighting, Verdict};
use crate::cli::args::InventoryArgs;
use crate::cli::site::Site;
use crate::cli::{Exit, Failure, attest, document, invoke, restored, sighted, wiring};
use crate::journal::SignKey;

/// Arguments of `backups prove`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups prove last\n  runbook backups prove 20260128-143002-3fa9c1 --environment production\n\nA run that restored a backup and checked the restored server proves it. At its end the run keeps the proof beside the manifest by itself, unless its environment may only read the store, as a drill's often may. This command does it then, also for a copy that the run found damaged."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose stores are written
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Keeps what a run proved.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let dir = wiring::find_run(&wiring::runs()?, &args.run)?;
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
    let state = invoke::fold(&history.events)?;
    let proofs = restored::proofs(&plan, &state);
    let seen = sighted::sightings(&plan, &state);
    if state.finished.is_none() || (proofs.is_empty() && seen.is_empty()) {
        let failure = Failure::new(Exit::Usage, format!("run `{}` proves no backup", dir.id()));
        return Err(
            failure.help("it must have ended, recovered a backup, and checked the recovered server (`postgres.check`)")
        );
    }
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let key = attest::key_path(&site.inventory.audit).map(|path| SignKey::open(&path)).transpose();
    let key = key.map_err(|error| attest::key_failure(&error))?;
    for proven in &proofs {
        let (id, store) = (&proven.backup.id, &proven.backup.store);
        let place = site.opening(store, site.store_entry(store)?);
        restored::keep(proven, &place, key.as_ref()).map_err(|why| {
            Failure::new(Exit::Failed, format!("the proof of backup `{id}` cannot be kept in `{store}`: {why}"))
                .help("name an environment that may write there with `--environment`")
        })?;
        if !args.json {
            let word = match proven.proof.verdict {
                Verdict::Passed => "proven",
                Verdict::Failed => "NOT proven: its checks failed",
            };
            out!("`{id}` in `{store}`: {word}, restored to {}", proven.proof.reached_lsn.as_deref().unwrap_or("?"));
        }
    }
    for one in &seen {
        saw(one, &site)?;
    }
    if args.json {
        let proofs = proofs.iter().map(|one| json!({ "store": one.backup.store, "proof": one.proof }));
        let seen = seen.iter().map(|one| json!({ "store": one.backup.store, "verification": one.verification }));
        document::write_json(&proofs.chain(seen).collect::<Vec<_>>())?;
    } else {
        seen.iter().for_each(|one| out!("{}", sighted::words(one)));
    }
    Ok(Exit::Success)
}

/// Keeps what the run saw of a copy. One that is gone needs no word.
fn saw(seen: &Sighting, site: &Site) -> Result<(), Failure> {
    let store = &seen.backup.store;
    let place = site.opening(store, site.store_entry(store)?);
    sighted::keep(seen, &place).map(drop).map_err(|why| {
        Failure::new(Exit::Failed, format!("{}, which cannot be kept there: {why}", sighted::words(seen)))
            .help("name an environment that may write there with `--environment`")
    })
}
