//! `runbook backups hold`.

use serde_json::json;

use super::open_store::{Stores, of_catalog};
use crate::base::clock;
use crate::catalog::attest::{HoldNote, Lifted, Unheld, hold, unhold};
use crate::cli::{Exit, Failure, args, document, wiring};

/// Arguments of `backups hold`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups hold 20260128T143002Z-base --reason 'case 4711'\n  runbook backups hold 20260128T143002Z-base --reason audit --until 2027-01-01T00:00:00Z\n  runbook backups hold 20260128T143002Z-base --lift --reason 'case 4711 is closed'\n\nThe hold is a file beside the manifest, in every store that has a copy. Nothing that this program does prunes a held backup. Several may hold it: one that ends or is lifted ends no other, and --lift lifts the newest that counts. A rule of the bucket still can: lock its objects there, too. Who lifted a hold, when and why stays in that file."
)]
pub struct Args {
    /// The backup: its id, or a unique beginning of it
    backup: String,
    #[command(flatten)]
    stores: Stores,
    /// Why it is kept; with --lift, why no more
    #[arg(long)]
    reason: String,
    /// Until when; without it, until the hold is lifted
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Lift the hold
    #[arg(long, conflicts_with = "until")]
    lift: bool,
    /// Who holds it; default the account
    #[arg(long = "as", value_name = "NAME")]
    who: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Holds a backup, or lifts the hold.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let actor = wiring::actor_as(args.who.as_deref())?;
    let now = clock::now();
    let until = args.until.as_deref().map(|text| args::moment(text, now)).transpose()?;
    if until.is_some_and(|until| until <= now) {
        return Err(Failure::new(Exit::Usage, "the hold would have ended already").help("name a time to come"));
    }
    let by = format!("{} ({})", actor.name, actor.from);
    if args.reason.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "the reason is empty").help("say it in a few words: it stays on record"));
    }
    let note = (!args.lift).then(|| HoldNote { until, ..HoldNote::new(&by, &args.reason, now) });
    let lifted = Lifted { by, reason: args.reason.clone(), at: now };
    let open_stores = args.stores.open_stores(args.json)?;
    let found = open_stores.list()?;
    let mut done = Vec::new();
    for backup in found.copies(&args.backup)? {
        let (store, place) = (open_stores.writer(&backup.store)?, backup.place());
        let written = wiring::block_on(async {
            match &note {
                Some(note) => hold(&*store, &place, note).await.map(|()| None),
                None => unhold(&*store, &place, &lifted).await,
            }
        })?;
        let unheld = written.map_err(|error| {
            let message = format!("`{}` in `{}` keeps what it had", backup.manifest.id, backup.store);
            Failure::new(Exit::Failed, format!("{message}: {}", of_catalog(&error)))
                .help("the same command again does the rest; what was done stays")
        })?;
        if !args.json {
            let (id, store) = (&backup.manifest.id, &backup.store);
            match &note {
                Some(note) => out!("`{id}` in `{store}` is held: {}", note.reason),
                None => told(id, store, unheld.as_ref(), &lifted.reason),
            }
        }
        let left = unheld.as_ref().map(|unheld| &unheld.left);
        let lifted = unheld.as_ref().map(|_| &lifted);
        let (id, store) = (&backup.manifest.id, &backup.store);
        done.push(json!({ "id": id, "store": store, "hold": note, "lifted": lifted, "left": left }));
    }
    if args.json {
        document::write_json(&done)?;
    }
    Ok(found.finish(Exit::Success))
}

/// Says which hold was lifted, and which ones still count.
fn told(id: &str, store: &str, unheld: Option<&Unheld>, reason: &str) {
    let Some(Unheld { hold, left }) = unheld else {
        out!("`{id}` in `{store}` was not held");
        return;
    };
    if left.is_empty() {
        out!("`{id}` in `{store}` is held no more: {reason}");
        return;
    }
    out!("`{id}` in `{store}`: the hold of {} (\"{}\") is lifted: {reason}", hold.by, hold.reason);
    for hold in left {
        out!("`{id}` in `{store}` is still held: {} by {}", hold.reason, hold.by);
    }
}
