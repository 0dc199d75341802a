//! `runbook wal give-up`: notes that a timeline was abandoned. No recovery follows it then, and the server whose place it was to
//! take archives on.

use std::path::Path;
use std::sync::Arc;

use crate::action::{DatabaseRef, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::recovery::lost_history;
use crate::base::clock;
use crate::catalog::recovery::Archive;
use crate::catalog::{GivenUp, GivenUpNote, wal_owner};
use crate::cli::args::InventoryArgs;
use crate::cli::exit::told;
use crate::cli::recoverable::{LookError, Recoverable, database};
use crate::cli::site::{Site, machine, no_database};
use crate::cli::{Exit, Failure, wiring};
use crate::pgformat::{ControlFile, Lsn, SystemId, Timeline};

/// Arguments of `wal give-up`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook wal give-up orders --timeline 2\n\nFor a recovery that opened its server on a new timeline and was abandoned: its server is stopped, and the old data takes\nits place again. Without the note the archive holds that timeline for the newest one, and takes no more of the segment in\nwhich it parted. Nothing is removed: where its server goes on all the same, the note no longer counts.\nCode 0: every store has the note, or no store knows that timeline; 4: it is in use; 5: some store gave no answer or could not be written to: the\nsame command completes it later."
)]
pub struct Args {
    /// The database; default: the only one that has a store
    database: Option<String>,
    /// The timeline that nobody goes on with
    #[arg(long, value_name = "NUMBER")]
    timeline: u32,
    /// Why, for people who read the note
    #[arg(long, value_name = "WORDS", default_value = "its recovery was abandoned")]
    reason: String,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose database is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
}

/// Notes it in every store of the WAL.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), false.into())?;
    let name = database(&site, args.database.as_deref())?;
    let timeline = Timeline(args.timeline);
    let control = refuse_live(&site, &name, timeline)?;
    wiring::block_on(async { note(&site, &name, (timeline, &args.reason), control).await })?
}

/// The stores of the WAL that answer, each not yet looked at, and what the others said.
async fn answering(site: &Site, name: &str) -> Result<(Recoverable, Vec<(String, String)>), Failure> {
    let entry = site.inventory.databases.get(name).ok_or_else(|| no_database(name, &site.inventory))?;
    let prefix = entry.prefix.as_deref().unwrap_or(name);
    let (mut answering, mut silent) = (Vec::new(), Vec::new());
    for store in entry.archives() {
        let settings = site.store_entry(store)?.clone();
        let opened = site.read_store(store).map_err(|failure| failure.message);
        let answered = match opened {
            Ok(opened) => match wal_owner(&*opened, prefix).await {
                Ok(_) => Ok(opened),
                Err(error) => Err(error.to_string()),
            },
            Err(why) => Err(why),
        };
        match answered {
            Ok(opened) => answering.push((opened, settings)),
            Err(why) => silent.push((store.to_owned(), why)),
        }
    }
    Ok((Recoverable::of((name, entry), answering, Arc::clone(&site.vault) as Arc<dyn Secrets>), silent))
}

async fn note(
    site: &Site,
    name: &str,
    (timeline, why): (Timeline, &str),
    control: Option<ControlFile>,
) -> Result<Exit, Failure> {
    let (found, silent) = answering(site, name).await?;
    let stores = found.stores();
    if stores.is_empty() {
        let said: Vec<String> = silent.iter().map(|(store, why)| format!("`{store}`: {why}")).collect();
        return Err(Failure::new(Exit::Failed, format!("the archive cannot be looked at: {}", said.join("; "))));
    }
    let unread = |error: LookError| Failure::new(Exit::Failed, "the archive cannot be looked at").because(&error);
    let size = control.map(|control| (control.system_id, control.segment_size));
    let found = found.told(size).look().await.map_err(unread)?;
    let mut exit = Exit::Success;
    for (store, why) in &silent {
        tell!("store `{store}` gives no answer: {why}");
        exit = Exit::Exceptions;
    }
    let again = format!("once it answers: runbook wal give-up {name} --timeline {timeline}");
    let known = found.clusters.iter().find(|cluster| cluster.archive.branches.contains_key(&timeline));
    let Some(cluster) = known else {
        match exit {
            Exit::Success => {
                out!("no store of `{name}` knows timeline {timeline}: there is nothing to be given up");
            }
            _ => {
                out!("no store of `{name}` that answers knows timeline {timeline}: nothing was noted");
                tell!("  help: {again}");
            }
        }
        return Ok(exit);
    };
    refuse_followed(&cluster.archive, timeline)?;
    let given_up = GivenUp { timeline, until: end(&cluster.archive, timeline) };
    let note = GivenUpNote { format: 1, run: "by hand".to_owned(), at: clock::now(), why: why.to_owned() };
    for store in &stores {
        match noted(site, (store, &found.prefix), (cluster.system_id, given_up), &note).await {
            Ok(()) => out!("store `{store}`: timeline {timeline} is noted as given up at {}", given_up.until),
            Err(why) => {
                tell!("store `{store}`: that timeline {timeline} is given up could not be noted: {why}");
                exit = Exit::Exceptions;
            }
        }
    }
    if exit != Exit::Success {
        tell!("  help: recoveries count a note of any store; a store without it takes no WAL that follows. {again}");
    }
    Ok(exit)
}

async fn noted(
    site: &Site,
    (store, prefix): (&str, &str),
    (system_id, given_up): (SystemId, GivenUp),
    note: &GivenUpNote,
) -> Result<(), String> {
    let opened = site.store(store).map_err(|failure| failure.message)?;
    given_up.note(&*opened, (prefix, system_id), note).await.map_err(|error| error.to_string())
}

/// Where a timeline ends in the archive: who writes behind that goes on with it.
fn end(archive: &Archive, timeline: Timeline) -> Lsn {
    let own = archive.segments.keys().filter(|segment| segment.timeline() == timeline);
    let begin = archive.branches.get(&timeline).and_then(|branch| branch.history.parent()).map(|(_, at)| at);
    let known = archive.given_up.get(&timeline).copied();
    own.map(|segment| segment.end(archive.size)).max().max(begin).max(known).unwrap_or_default()
}

/// Refuses to give up a timeline that another one goes on from.
fn refuse_followed(archive: &Archive, timeline: Timeline) -> Result<(), Failure> {
    match archive.successor(timeline) {
        None => Ok(()),
        Some((next, at)) => {
            let message = format!("timeline {next} goes on from timeline {timeline} at {at}");
            Err(Failure::new(Exit::Refused, message)
                .help(format!("where that one was abandoned too, give it up first: `--timeline {next}`")))
        }
    }
}

/// Refuses to give up the timeline that the database's own server writes. Tells what its `pg_control` does, where that is here.
fn refuse_live(site: &Site, name: &str, timeline: Timeline) -> Result<Option<ControlFile>, Failure> {
    let cluster = Cluster::of(&DatabaseRef(name.to_owned()), &site.inventory, Path::new("/"))
        .map_err(|error| Failure::new(Exit::Invalid, told(&error)))?;
    // What runs on another machine is told by that machine alone; what it archives makes the note void.
    if cluster.pgdata.as_os_str().is_empty() || cluster.entry.elsewhere().is_some() {
        return Ok(None);
    }
    let files = machine()?.read_files();
    let control = files.read(&cluster.pgdata.join(ControlFile::PATH), 1 << 16).ok();
    let control = control.and_then(|bytes| ControlFile::parse(&bytes).ok());
    if live::processes(&cluster.pgdata, files.as_ref()).is_empty() {
        return Ok(control);
    }
    // Before its first checkpoint a server that was promoted has its history and not yet its timeline in `pg_control`.
    let history = cluster.pgdata.join("pg_wal").join(timeline.history_file());
    let is_its_own = control.as_ref().is_some_and(|control| control.timeline == timeline);
    if !is_its_own && !lost_history::is_history(files.as_ref(), &history) {
        return Ok(control);
    }
    let message = format!("the server of `{}` runs, and is on timeline {timeline}", cluster.pgdata.display());
    Err(Failure::new(Exit::Refused, message).help("stop it first, if its data is not to be used"))
}
