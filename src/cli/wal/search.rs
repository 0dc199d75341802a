//! `runbook wal search`: which transaction dropped or changed something, and how to recover to just before it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::drop_names::DropNames;
use super::ground::{Extent, Ground, narrow};
use super::pg_wal::PgWal;
use crate::actions::postgres::stores::archiver::Relation;
use crate::base::Timestamp;
use crate::base::clock;
use crate::cli::again::Again;
use crate::cli::args::{InventoryArgs, moment};
use crate::cli::exit::told;
use crate::cli::recoverable::{ClusterView, LookError, Recoverable, database};
use crate::cli::site::Site;
use crate::cli::wal_location::WalLocationArgs;
use crate::cli::{Exit, Failure, document, wiring};
use crate::pgformat::{Lsn, SegmentName, Timeline};
use crate::report::mask_text;
use crate::wal::change_search::{Happened, Relations, Sighting, Wanted};
use crate::wal::outlook::readable;

/// Arguments of `wal search`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("wanted").required(true),
    after_help = "Examples:\n  runbook wal search orders --drops\n  runbook wal search orders --drops --between '2h ago' now\n  runbook wal search orders --relation public.invoices     who changed it, and how many rows?\n  runbook wal search orders --relation users --dbname shop  a table of another database of the server\n  runbook wal search orders --relation 16385               it is gone: by its number, as --drops shows it\n  runbook wal search orders --relation 16384/16385         the same in one database: others may use the number too\n  runbook wal search orders --xid 812\n\nThe archive is read, and what the live server has beyond it. Nothing is written. For each find the command is\nshown that plans a recovery to just before it; the position is exact, times are the primary's clock.\nThe exit code is 0 when something was found, 10 when nothing was or WAL could not be read."
)]
pub struct Args {
    /// The database; may be left out when only one has a store
    database: Option<String>,
    /// Changes of a table, by its name in the live database or by its number, also DATABASE/NUMBER
    #[arg(long, value_name = "NAME|NUMBER", group = "wanted")]
    relation: Option<String>,
    /// The database of the server that the name of `--relation` is one in; default: that of the inventory's entry
    #[arg(long, value_name = "NAME", requires = "relation")]
    dbname: Option<String>,
    /// Tables and databases that were dropped, and tables that were truncated or rewritten
    #[arg(long, group = "wanted")]
    drops: bool,
    /// The end of a transaction
    #[arg(long, value_name = "NUMBER", group = "wanted")]
    xid: Option<u32>,
    /// A restore point
    #[arg(long, value_name = "NAME", group = "wanted")]
    name: Option<String>,
    /// Only between two points in time
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    between: Option<Vec<String>>,
    /// The timeline to search along; default: the server's, else the newest
    #[arg(long, value_name = "NUMBER")]
    timeline: Option<u32>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    location: WalLocationArgs,
    /// The environment whose store is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a search came to.
struct Searched {
    cluster: String,
    timeline: Timeline,
    segments: u64,
    missing: Vec<String>,
    found: Vec<(Sighting, Place)>,
    names: DropNames,
    notes: Vec<String>,
}

/// Where WAL was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Archive,
    Server,
}

/// Searches the WAL of a database.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let between = args.between()?;
    let mut site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let name = database(&site, args.database.as_deref())?;
    if let (Some(dbname), Some(entry)) = (&args.dbname, site.inventory.databases.get_mut(&name)) {
        entry.dbname.clone_from(dbname);
    }
    let recoverable = args.location.beside(Recoverable::open(&site, &name)?, &site)?;
    let searched = wiring::block_on(args.search(&site, recoverable, between))??;
    match args.json {
        true => document::write_json(&machine((&name, &site.again), &searched))?,
        false => people((&name, &site.again), &searched),
    }
    Ok(if searched.found.is_empty() { Exit::Failed } else { Exit::Success })
}

impl Args {
    fn between(&self) -> Result<Option<(Timestamp, Timestamp)>, Failure> {
        let now = clock::now();
        match self.between.as_deref() {
            Some([from, to]) => {
                let (from, to) = (moment(from, now)?, moment(to, now)?);
                match from <= to {
                    true => Ok(Some((from, to))),
                    false => Err(Failure::new(Exit::Usage, format!("{from} is after {to}"))
                        .help("write the earlier time first: `--between FROM TO`")),
                }
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn search(
        &self,
        site: &Site,
        found: Recoverable,
        between: Option<(Timestamp, Timestamp)>,
    ) -> Result<Searched, Failure> {
        let unread = |error: &LookError| Failure::new(Exit::Failed, "the archive cannot be searched").because(error);
        let found = found.look().await.map_err(|error| unread(&error))?;
        let mut live = PgWal::of(site, &found).await?;
        let Some(cluster) = found.clusters.first() else {
            return Err(Failure::new(Exit::Failed, "there is neither a base backup nor archived WAL"));
        };
        let (wanted, extent) = self.wanted(&mut live, &found.entry.dbname).await?;
        let timeline = self.along(cluster, &live);
        let path = readable(cluster, timeline);
        let narrowed = narrow(&found, cluster, &path, between).await.map_err(|error| unread(&error))?;
        let walked = extent.of(&path, narrowed);
        let ends = between.is_none_or(|(_, to)| path.last() == walked.last() || to >= clock::now());
        let mut ground = Ground { found: &found, cluster, path: walked, timeline, live: ends.then_some(&mut live) };
        let (hunt, mut notes) = ground.hunt(wanted.clone()).await.map_err(|error| unread(&error))?;
        let mut found_here = hunt.found(between);
        if found_here.iter().any(DropNames::lacks) {
            let (earlier, unread) = ground.earlier(&path, (wanted, between)).await;
            for one in &mut found_here {
                if let Some(same) = earlier.get(&one.lsn) {
                    one.clone_from(same);
                }
            }
            notes.extend(unread.filter(|_| found_here.iter().any(DropNames::lacks)));
        }
        if let Err(why) = &live.server {
            notes.push(format!("only the archive was searched, the server gives no answer: {why}"));
        }
        let place = |sighting: &Sighting| match hunt.beyond {
            Some(beyond) if sighting.lsn >= beyond => Place::Server,
            Some(_) | None => Place::Archive,
        };
        let sightings: Vec<(Sighting, Place)> =
            found_here.into_iter().map(|sighting| (place(&sighting), sighting)).map(|(p, s)| (s, p)).collect();
        let missing = holes(cluster, walked);
        let names = DropNames::of((site, &found.database), (&mut live, cluster.system_id), &sightings).await;
        notes.extend(names.note(&sightings));
        Ok(Searched {
            cluster: cluster.system_id.to_string(),
            segments: hunt.segments,
            names,
            found: sightings,
            timeline,
            missing,
            notes,
        })
    }

    async fn wanted(&self, live: &mut PgWal, dbname: &str) -> Result<(Wanted, Extent), Failure> {
        if let Some(xid) = self.xid {
            return Ok((Wanted::Transaction(xid), Extent::Window));
        }
        if let Some(name) = &self.name {
            return Ok((Wanted::RestorePoint(name.clone()), Extent::Window));
        }
        let Some(relation) = &self.relation else { return Ok((Wanted::Drops, Extent::Window)) };
        if let Some(relations) = by_number(relation) {
            return Ok((Wanted::Relations(relations), Extent::Window));
        }
        let by_number = "search by its number: `runbook wal search --drops` shows it for what was dropped";
        let Some(archiver) = live.archiver() else {
            let fact = format!("only the live server knows which file is `{relation}`, and it gives no answer");
            return Err(Failure::new(Exit::Failed, fact).help(by_number));
        };
        let asked = archiver.relation(relation).await;
        let asked = asked.map_err(|error| Failure::new(Exit::Failed, told(&error)).help(by_number))?;
        match asked {
            Some(Relation { oid, file, database, .. }) => {
                // A file that still has the number of its relation is the first that it had.
                let extent = if file.is_none_or(|file| file == oid) { Extent::Window } else { Extent::ToTheEnd };
                let numbers = file.into_iter().chain([oid]).collect();
                Ok((Wanted::Relations(Relations { numbers, database: Some(database) }), extent))
            }
            None => {
                let fact = format!("the database `{dbname}` of the live server has no `{relation}`");
                Err(Failure::new(Exit::Failed, fact)
                    .help(format!("name the database that it is in with `--dbname`; or {by_number}")))
            }
        }
    }

    fn along(&self, cluster: &ClusterView, live: &PgWal) -> Timeline {
        let of_server = live.server.as_ref().ok().filter(|server| server.system_id == cluster.system_id);
        let newest = cluster.archive.segments.keys().map(|name| name.timeline()).max().unwrap_or(Timeline::FIRST);
        self.timeline.map(Timeline).or(of_server.map(|server| server.timeline)).unwrap_or(newest)
    }
}

/// Reads `NUMBER`, or `DATABASE/NUMBER`.
fn by_number(text: &str) -> Option<Relations> {
    let (database, number) = match text.split_once('/') {
        Some((database, number)) => (Some(database.parse().ok()?), number),
        None => (None, text),
    };
    Some(Relations { numbers: BTreeSet::from([number.parse().ok()?]), database })
}

/// Segments that are missing between those that were read.
fn holes(cluster: &ClusterView, path: &[SegmentName]) -> Vec<String> {
    let size = cluster.archive.size;
    let apart = path.windows(2).filter(|pair| pair[0].number(size) + 1 != pair[1].number(size));
    let between = |first: SegmentName, last: SegmentName| match first == last {
        true => format!("`{first}`"),
        false => format!("`{first}` to `{last}`"),
    };
    apart.map(|pair| between(pair[0].next(size), pair[1].prev(size).unwrap_or(pair[1]))).collect()
}

fn machine((database, again): (&str, &Again), searched: &Searched) -> Value {
    let found = searched.found.iter().map(|(sighting, place)| {
        let mut value = json!(sighting);
        value["archived"] = json!(*place == Place::Archive);
        for (relation, told) in sighting.relations.iter().zip(value["relations"].as_array_mut().into_iter().flatten()) {
            told["schema"] = json!(searched.names.schema(relation));
        }
        value["words"] = json!(words(sighting, &searched.names));
        value["commands"] = json!(commands((database, again), (searched.timeline, &searched.names), sighting));
        value
    });
    json!({
        "database": database,
        "system_id": searched.cluster,
        "timeline": searched.timeline,
        "segments": searched.segments,
        "missing": searched.missing,
        "found": found.collect::<Vec<_>>(),
        "notes": searched.notes,
    })
}

/// The commands that plan a recovery to just before it: by position, which is exact, and by time; and the one that opens a
/// copy at that position beside the live server; and the one that brings back no more than the tables that were dropped.
fn commands(
    (database, again): (&str, &Again),
    (timeline, names): (Timeline, &DropNames),
    sighting: &Sighting,
) -> Vec<String> {
    let timeline = timeline.to_string();
    let plan =
        |option: &str, value: &str| again.line(["pitr", database, option, value, "--timeline", timeline.as_str()]);
    let mut all = vec![match sighting.what {
        Happened::Marked => plan("--name", sighting.name.as_deref().unwrap_or_default()),
        Happened::Dropped | Happened::Replaced | Happened::DatabaseDropped | Happened::Changed | Happened::Ended => {
            plan("--lsn", &sighting.before.to_string())
        }
    }];
    let earlier = sighting.at.filter(|_| sighting.what != Happened::Marked);
    if let Some(at) = earlier.and_then(|at| Timestamp::from_microsecond(at.as_microsecond() - 1).ok()) {
        all.push(plan("--at", &at.to_string()));
    }
    if sighting.what != Happened::Marked {
        all.push(beside((database, again), &timeline, sighting.before));
    }
    if let (Some((dbname, tables)), Some(at)) = (names.tables(sighting), sighting.at) {
        let params = [
            format!("database={database}"),
            format!("incident_at={at}"),
            format!("recover_to_lsn={}", sighting.before),
            format!("timeline={timeline}"),
            format!("dbname={dbname}"),
            format!("tables={tables}"),
        ];
        let words = ["run", "accidental-drop"].into_iter();
        all.push(again.change(words.chain(params.iter().flat_map(|param| ["-p", param.as_str()]))));
    }
    all
}

/// The command that opens a copy as it was at a position: nothing is replaced, and what other databases committed since stays.
fn beside((database, again): (&str, &Again), timeline: &str, lsn: Lsn) -> String {
    let params = [format!("database={database}"), format!("recover_to_lsn={lsn}"), format!("timeline={timeline}")];
    again.change(["run", "side-copy"].into_iter().chain(params.iter().flat_map(|param| ["-p", param.as_str()])))
}

fn people((database, again): (&str, &Again), searched: &Searched) {
    for (sighting, place) in &searched.found {
        let at = sighting.at.map_or_else(|| "time not told".to_owned(), |at| at.to_string());
        out!("{at}  {}  at {}", mask_text(&words(sighting, &searched.names)), sighting.lsn);
        for (index, command) in
            commands((database, again), (searched.timeline, &searched.names), sighting).iter().enumerate()
        {
            let lead = match (index, sighting.what) {
                (0, Happened::Marked) => "to it:      ",
                (0, _) => "just before:",
                (_, _) if command.contains(" side-copy ") => "     beside:",
                (_, _) if command.contains(" accidental-drop ") => "only tables:",
                (_, _) => "         or:",
            };
            out!("    {lead} {}", mask_text(command));
        }
        if *place == Place::Server {
            out!("    not archived yet: `SELECT pg_switch_wal()` on the server first, or recover on its own host");
        }
    }
    tell!("{} segments of timeline {} searched, {} found", searched.segments, searched.timeline, searched.found.len());
    for hole in &searched.missing {
        tell!("warning: the archive lacks {hole}: what happened there is not known");
    }
    searched.notes.iter().for_each(|note| tell!("note: {}", mask_text(note)));
}

fn words(sighting: &Sighting, names: &DropNames) -> String {
    let xid = sighting.xid.map_or_else(|| "somebody".to_owned(), |xid| format!("transaction {xid}"));
    let mut databases: Vec<u32> = match sighting.files.is_empty() {
        true => sighting.dropped.iter().map(|relation| relation.database).collect(),
        false => sighting.files.iter().map(|file| file.database).collect(),
    };
    databases.dedup();
    let inside =
        databases.first().map(|oid| format!(" in database {}", names.database(*oid, None))).unwrap_or_default();
    let relations = || names.relations(sighting);
    let rows = sighting.rows;
    let changed = format!("{} rows inserted, {} updated, {} deleted", rows.inserted, rows.updated, rows.deleted);
    match sighting.what {
        Happened::Dropped => format!("{xid} dropped{inside}: {}", relations()),
        Happened::Replaced => format!("{xid} removed files{inside} by TRUNCATE or a rewrite: {}", relations()),
        Happened::DatabaseDropped => {
            let (oid, told) = (sighting.database.unwrap_or_default(), sighting.database_name.as_deref());
            format!("{xid} dropped database {}", names.database(oid, told))
        }
        Happened::Changed => format!("{xid} committed: {changed}"),
        Happened::Ended if sighting.committed => format!("{xid} committed"),
        Happened::Ended => format!("{xid} was rolled back"),
        Happened::Marked => format!("restore point `{}`", sighting.name.as_deref().unwrap_or_default()),
    }
}
