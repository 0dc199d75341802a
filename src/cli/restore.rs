//! `runbook restore`: the shipped recoveries without YAML beyond the inventory. Without `--confirm` it only plans.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::again::Again;
use super::args::{self, InventoryArgs, Subject};
use super::dry_run::{self, Depth};
use super::freezes::{self, Frozen};
use super::invoke::Invocation;
use super::locking::Courtesy;
use super::prepare::{self, Prepared, RunIdentity};
use super::procedure::{Asked, GivenUp, Goal, Procedure};
use super::screen::Face;
use super::site::{self, Site};
use super::{Exit, Failure, given, pitr, way_out, wiring};
use crate::action::Mode;
use crate::base::{Timestamp, clock};
use crate::catalog::IMPORTED;
use crate::catalog::recovery::Goal as Position;
use crate::engine::Presence;
use crate::language::time::{TimeError, parse_time};
use crate::pgformat::Timeline;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook restore orders                                   what would happen; nothing is changed\n  runbook restore orders --to '14:30 Europe/Berlin'\n  runbook restore orders --to 20260128-143002-3fa9c1-backup\n  runbook restore orders --to '5m ago' --side\n  runbook restore orders --timeline 1                      where two servers wrote at once: the one that counts\n  runbook restore orders --existing delta                  where there is no room for two; the old data is gone then\n  runbook restore orders --confirm production              do it\n\nWithout --to the newest possible state comes back (`full-db-loss`); with a point in time the state at it, with a backup's id the state at its end (`pitr`). What pgBackRest has comes back by `full-db-loss-pgbackrest`, a dump (by its id, or the newest of a server that a provider keeps) by `restore-dump`. The old data is kept beside the new; with --existing it is given up for its room, and is gone (`restore-in-place`). With --side nothing is replaced: a copy is kept beside the live database until somebody has looked (`side-copy`).\nWithout --confirm the plan is printed (as `runbook pitr` does), every check runs, the forecast is held against the RTO, and the exact next command is printed."
)]
pub struct Args {
    /// The database of the inventory
    database: String,
    /// A point in time (`14:30 Europe/Berlin`, `5m ago`), or the id of a backup; the newest possible when absent
    #[arg(long, value_name = "TIME|BACKUP")]
    to: Option<String>,
    /// The timeline to follow, where two servers wrote at once; default: the newest, or the one that was live at the time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    timeline: Option<u32>,
    /// Where a dump is restored: which database within the server
    #[arg(long, value_name = "NAME", conflicts_with = "side")]
    dbname: Option<String>,
    /// A copy beside the live database, to look at, until somebody says that it may go; nothing is replaced
    #[arg(long)]
    side: bool,
    /// Give the data that is there up for its room, where the backup does not fit beside it; there is no way back then
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "side")]
    existing: Option<GivenUp>,
    /// Carry it out in this environment; without it nothing is changed
    #[arg(long, value_name = "ENVIRONMENT")]
    confirm: Option<String>,
    /// When service was lost, for RTO and RPO; now when absent
    #[arg(long, value_name = "TIME")]
    incident_at: Option<String>,
    /// The environment; else the one marked `default`
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Tell a live run that holds the database's lock to end and make room, unless it replaces data itself
    #[arg(long)]
    preempt: bool,
    /// Wait for people, also where none sits at a terminal; else the run is suspended
    #[arg(long)]
    wait: bool,
    /// Print JSON: the plan with `recovery` (as `runbook pitr` gives it) and `next`, or the events of the run line by line
    #[arg(long)]
    json: bool,
}

impl Goal {
    /// Reads what was typed; a text that is no point in time at all is the id of a backup.
    fn of(text: Option<&str>, now: Timestamp) -> Result<Self, Failure> {
        let Some(text) = text else { return Ok(Self::Newest) };
        match parse_time(text, now) {
            Ok(at) if at > now => Err(Failure::new(Exit::Usage, format!("{at} is still to come"))
                .help("leave --to out to restore as far as the archive leads")),
            Ok(at) => Ok(Self::At(at)),
            Err(TimeError::Malformed(_)) if is_id(text) => Ok(Self::Backup(text.to_owned())),
            Err(error) => Err(Failure::new(Exit::Usage, error.to_string())
                .help(format!("{}; `runbook backups list` shows the ids of backups", error.help()))),
        }
    }

    /// As it is typed again: a moment that does not move.
    fn text(&self) -> Option<String> {
        match self {
            Self::Newest => None,
            Self::At(at) => Some(at.to_string()),
            Self::Backup(id) => Some(id.clone()),
        }
    }
}

fn is_id(text: &str) -> bool {
    let is_of_run = text.starts_with(|first: char| first.is_ascii_digit()) && text.contains('-');
    let is_imported = text.strip_prefix(IMPORTED).is_some_and(|rest| rest.starts_with('-'));
    // `=` begins what stands for a byte that no id has.
    (is_of_run || is_imported) && text.chars().all(|one| one.is_ascii_alphanumeric() || "-_.=".contains(one))
}

/// Plans a restore, or carries it out.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let now = clock::now();
    let goal = Goal::of(args.to.as_deref(), now)?;
    let incident_at = args.incident_at.as_deref().map(|text| args::moment(text, now)).transpose()?.unwrap_or(now);
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    site::chosen_database(Some(&args.database), &site.inventory)?;
    let dbname = args.dbname.as_deref();
    let asked = Asked {
        database: &args.database,
        dbname,
        goal: &goal,
        timeline: args.timeline,
        existing: args.existing,
        incident_at,
        again: &site.again,
    };
    let procedure = if args.side { asked.beside(&site)? } else { asked.in_place(&site)? };
    let prepared = prepare::load_runbook(procedure.runbook, &args.inventory)?;
    prepared.demand_sound()?;
    let environment = prepared.environment(Mode::Real, args.environment.as_deref())?;
    let subject = Subject {
        runbook: procedure.runbook.to_owned(),
        environment: Some(environment.clone()),
        inventory: args.inventory.clone(),
        ..Subject::default()
    };
    let params = procedure.params.clone();
    // A refusal is no dead end where something else leads back.
    let way_out = |refused: bool| {
        let lines = if refused && procedure.replays_our_wal() {
            way_out::lines(&site, &args.database, &site.again)
        } else {
            Vec::new()
        };
        lines.iter().enumerate().for_each(|(at, line)| tell!("{}{line}", if at == 0 { "\n" } else { "" }));
    };
    let frozen = freezes::of(&args.database, &site, wiring::existing_runs()?.as_ref())?;
    let unknown: Vec<&Frozen> = frozen.iter().filter(|one| !one.known_here).collect();
    unknown.iter().for_each(|one| tell!("warning: {}", one.advice(&args.database, &site.again)));
    match &args.confirm {
        Some(word) => {
            let carried = carry_out((&prepared, &subject), params, word, &args);
            way_out(
                carried.as_ref().map_or_else(|failure| failure.exit == Exit::Refused, |exit| *exit == Exit::Refused),
            );
            carried
        }
        None => {
            let next = next(&args, &goal, (&environment, incident_at));
            let beside = match (args.json, archive(&site, (&procedure, &goal, args.timeline), args.json.into())) {
                (_, Ok(recovery)) => recovery.into_iter().collect(),
                (true, Err(failure)) => [("recovery".to_owned(), json!({ "why": failure.in_full() }))].into(),
                (false, Err(failure)) => {
                    tell!("warning: what the archive leads to cannot be told: {}", failure.in_full());
                    BTreeMap::new()
                }
            };
            let held = (!unknown.is_empty()).then(|| ("frozen".to_owned(), json!(unknown)));
            let beside = beside.into_iter().chain(held).chain([("next".to_owned(), json!(next))]).collect();
            let planned = plan((&prepared, &subject), params, (args.json.into(), beside));
            let when = match &planned {
                Ok(_) => "To carry it out:",
                Err(_) => "When what refuses is mended:",
            };
            way_out(planned.is_err());
            tell!("\nnothing was changed. {when}\n  {next}");
            planned
        }
    }
}

/// Tells which backup, which WAL, how many bytes and minutes: people at once, machines by the member that is given.
/// Of a dump there is nothing to tell beside its check, and of what pgBackRest has its own.
fn archive(
    site: &Site,
    (procedure, goal, timeline): (&Procedure, &Goal, Option<u32>),
    face: Face,
) -> Result<Option<(String, Value)>, Failure> {
    let database = procedure.params.get("database").and_then(Value::as_str).unwrap_or_default();
    if !procedure.replays_our_wal() {
        return Ok(None);
    }
    let (position, only) = match goal {
        Goal::Newest => (Position::Newest, None),
        Goal::At(at) => (Position::Time(*at), None),
        Goal::Backup(id) => (Position::Immediate, Some(id.as_str())),
    };
    let sought = pitr::Sought { goal: &position, only, timeline: timeline.map(Timeline) };
    match face {
        Face::People => pitr::tell(site, database, &sought).map(|()| None),
        Face::Json => Ok(Some(("recovery".to_owned(), pitr::told(site, database, &sought)?))),
    }
}

fn plan(
    (prepared, subject): (&Prepared, &Subject),
    params: BTreeMap<String, Value>,
    told: (Face, Map<String, Value>),
) -> Result<Exit, Failure> {
    let identity = RunIdentity::new(Mode::DryRun, &wiring::state_root()?, params);
    dry_run::look((prepared, subject), &identity, Depth::Rehearsal, told)
}

fn carry_out(
    (prepared, subject): (&Prepared, &Subject),
    params: BTreeMap<String, Value>,
    word: &str,
    args: &Args,
) -> Result<Exit, Failure> {
    let mut invocation = Invocation::new(args.json.into(), Some(word.to_owned()))?;
    if args.wait {
        invocation.presence = Presence::SomebodyThere;
    }
    if args.preempt {
        invocation.courtesy = Courtesy::Preempt;
    }
    let identity = RunIdentity::new(Mode::Real, invocation.runs.root(), params);
    let plan = prepared.bind(subject, &identity)?;
    given::tell(prepared, &plan);
    let carried = invocation.fresh(plan)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}

/// The command that does what was planned, with every moment pinned down.
fn next(args: &Args, goal: &Goal, (environment, incident_at): (&str, Timestamp)) -> String {
    let mut words = vec!["restore".to_owned(), args.database.clone()];
    words.extend(goal.text().into_iter().flat_map(|text| ["--to".to_owned(), text]));
    words.extend(args.timeline.iter().flat_map(|timeline| ["--timeline".to_owned(), timeline.to_string()]));
    words.extend(args.existing.iter().flat_map(|existing| ["--existing".to_owned(), existing.word().to_owned()]));
    words.extend(args.dbname.iter().flat_map(|name| ["--dbname".to_owned(), name.clone()]));
    match args.side {
        true => words.push("--side".to_owned()),
        false => words.extend(["--incident-at".to_owned(), incident_at.strftime("%FT%TZ").to_string()]),
    }
    if args.preempt {
        words.push("--preempt".to_owned());
    }
    words.extend(["--confirm".to_owned(), environment.to_owned()]);
    Again::of(&args.inventory, args.environment.as_deref()).line(words.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::Goal;
    use crate::base::Timestamp;

    #[test]
    fn what_is_no_point_in_time_is_a_backup_and_an_hour_that_was_twice_is_refused() {
        let now: Timestamp = "2026-11-01T12:00:00Z".parse().expect("a time");
        let at = |text: &str| Goal::of(Some(text), now).map_err(|failure| failure.message);
        assert_eq!(at("2026-10-01T12:00:00Z"), Ok(Goal::At("2026-10-01T12:00:00Z".parse().expect("a time"))));
        assert_eq!(at("5m ago"), Ok(Goal::At("2026-11-01T11:55:00Z".parse().expect("a time"))));
        assert_eq!(at("20260128-143002-3fa9c1-backup"), Ok(Goal::Backup("20260128-143002-3fa9c1-backup".to_owned())));
        assert!(at("2026-10-25 02:30 Europe/Berlin").is_err_and(|message| message.contains("happened twice")));
        assert!(at("2026-10-25 12:30").is_err_and(|message| message.contains("no offset")));
        assert!(at("yesterday").is_err());
        assert!(at("2027-06-01T00:00:00Z").is_err_and(|message| message.contains("still to come")));
        assert_eq!(Goal::of(None, now).map_err(|failure| failure.message), Ok(Goal::Newest));
    }
}
