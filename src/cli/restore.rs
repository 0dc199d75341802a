//! `runbook restore`: the shipped recoveries without YAML beyond the inventory. Without `--confirm` it only plans.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::again::Again;
use super::args::{self, InventoryArgs, Subject};
use super::dry_run::{self, Depth};
use super::invoke::Invocation;
use super::locking::Courtesy;
use super::other_way::Asked;
use super::prepare::{self, Prepared, RunIdentity};
use super::screen::Face;
use super::site::{self, Site};
use super::{Exit, Failure, given, pitr, wiring};
use crate::action::Mode;
use crate::base::{Timestamp, clock};
use crate::catalog::recovery::Goal as Position;
use crate::engine::Presence;
use crate::language::inventory::Database;
use crate::language::time::{TimeError, parse_time};
use crate::plan::INCIDENT_AT;

/// The shipped runbook that brings back the newest state there is.
const NEWEST: &str = "full-db-loss";
/// The shipped runbook that brings back an earlier one.
const EARLIER: &str = "pitr";

/// The shipped runbook that brings back what pgBackRest has.
const THEIRS: &str = "full-db-loss-pgbackrest";
/// The shipped runbook that brings back a copy beside the live database.
const BESIDE: &str = "side-copy";

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook restore orders                                   what would happen; nothing is changed\n  runbook restore orders --to '14:30 Europe/Berlin'\n  runbook restore orders --to 20260128-143002-3fa9c1-backup\n  runbook restore orders --to '5m ago' --side\n  runbook restore orders --confirm production              do it\n\nWithout --to the newest possible state comes back (`full-db-loss`); with a point in time the state at it, with a backup's id the state at its end (`pitr`). The old data is kept beside the new. With --side nothing is replaced: a copy is kept beside the live database until somebody has looked (`side-copy`).\nWithout --confirm the plan is printed (as `runbook pitr` does), every check runs, the forecast is held against the RTO, and the exact next command is printed."
)]
pub struct Args {
    /// The database of the inventory
    database: String,
    /// A point in time (`14:30 Europe/Berlin`, `5m ago`), or the id of a backup; the newest possible when absent
    #[arg(long, value_name = "TIME|BACKUP")]
    to: Option<String>,
    /// A copy beside the live database, to look at, until somebody says that it may go; nothing is replaced
    #[arg(long)]
    side: bool,
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

/// Where a restore ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Newest,
    At(Timestamp),
    Backup(String),
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

    fn runbook(&self) -> &'static str {
        match self {
            Self::Newest => NEWEST,
            Self::At(_) | Self::Backup(_) => EARLIER,
        }
    }

    /// The backup that was named.
    fn backup(&self) -> Option<&str> {
        match self {
            Self::Newest | Self::At(_) => None,
            Self::Backup(id) => Some(id),
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
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.contains('-')
        && text.chars().all(|one| one.is_ascii_alphanumeric() || "-_.".contains(one))
}

/// Plans a restore, or carries it out.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let now = clock::now();
    let goal = Goal::of(args.to.as_deref(), now)?;
    let incident_at = args.incident_at.as_deref().map(|text| args::moment(text, now)).transpose()?.unwrap_or(now);
    let runbook = if args.side { BESIDE } else { goal.runbook() };
    let prepared = prepare::load_runbook(runbook, &args.inventory)?;
    prepared.demand_sound()?;
    let environment = prepared.environment(Mode::Real, args.environment.as_deref())?;
    let seen = prepared.seen_by(&environment)?;
    site::chosen_database(Some(&args.database), &seen)?;
    let again = Again::of(&args.inventory, args.environment.as_deref()).protected_by(&seen, &environment);
    let asked = Asked { database: &args.database, backup: goal.backup(), again: &again };
    if let Some(failure) = asked.managed(&seen) {
        return Err(failure);
    }
    if seen.databases.get(&args.database).and_then(Database::sole_stanza).is_some() {
        return Err(theirs(&args, &goal, (&again, incident_at)));
    }
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    if let Some(failure) = asked.dump(&site) {
        return Err(failure);
    }
    let subject = Subject {
        runbook: runbook.to_owned(),
        environment: Some(environment.clone()),
        inventory: args.inventory.clone(),
        ..Subject::default()
    };
    let mut params = params(&args.database, &goal, incident_at);
    if args.side {
        params.remove(INCIDENT_AT);
    }
    match &args.confirm {
        Some(word) => carry_out((&prepared, &subject), params, word, &args),
        None => {
            let next = next(&args, &goal, (&environment, incident_at));
            let beside = match (args.json, archive(&site, (&args.database, &goal), args.json.into())) {
                (_, Ok(recovery)) => recovery.into_iter().collect(),
                (true, Err(failure)) => [("recovery".to_owned(), json!({ "why": chain(&failure) }))].into(),
                (false, Err(failure)) => {
                    tell!("warning: what the archive leads to cannot be told: {}", chain(&failure));
                    BTreeMap::new()
                }
            };
            let beside = beside.into_iter().chain([("next".to_owned(), json!(next))]).collect();
            let planned = plan((&prepared, &subject), params, (args.json.into(), beside));
            let when = match &planned {
                Ok(_) => "To carry it out:",
                Err(_) => "When what refuses is mended:",
            };
            tell!("\nnothing was changed. {when}\n  {next}");
            planned
        }
    }
}

fn chain(failure: &Failure) -> String {
    std::iter::once(&failure.message).chain(&failure.causes).cloned().collect::<Vec<_>>().join(": ")
}

/// Says what restores a database whose backups pgBackRest has.
fn theirs(args: &Args, goal: &Goal, (again, incident_at): (&Again, Timestamp)) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("pgBackRest has the backups of `{}`", args.database));
    if args.side {
        return failure.help("a copy beside the live database is made of backups in a `store` alone");
    }
    let target = match goal {
        Goal::Newest => None,
        Goal::At(at) => Some(format!("recover_to={at}")),
        Goal::Backup(label) => Some(format!("backup={label}")),
    };
    let (database, incident) = (format!("database={}", args.database), format!("incident_at={incident_at}"));
    let params: Vec<String> = [Some(database), Some(incident), target].into_iter().flatten().collect();
    let params = params.iter().flat_map(|param| ["-p", param.as_str()]);
    let command = again.change(["run", THEIRS].into_iter().chain(params));
    failure.help(format!("`{command}` does it; with `dry-run` instead of `run` it changes nothing"))
}

/// Tells which backup, which WAL, how many bytes and minutes: people at once, machines by the member that is given.
fn archive(site: &Site, (database, goal): (&str, &Goal), face: Face) -> Result<Option<(String, Value)>, Failure> {
    let has_store = site.inventory.databases.get(database).is_some_and(|entry| entry.store.is_some());
    if !has_store {
        return Ok(None);
    }
    let (position, only) = match goal {
        Goal::Newest => (Position::Newest, None),
        Goal::At(at) => (Position::Time(*at), None),
        Goal::Backup(id) => (Position::Immediate, Some(id.as_str())),
    };
    match face {
        Face::People => pitr::tell(site, database, (&position, only)).map(|()| None),
        Face::Json => Ok(Some(("recovery".to_owned(), pitr::told(site, database, (&position, only))?))),
    }
}

fn params(database: &str, goal: &Goal, incident_at: Timestamp) -> BTreeMap<String, Value> {
    let text = |text: &str| Value::String(text.to_owned());
    let mut params: BTreeMap<String, Value> = BTreeMap::new();
    params.insert("database".to_owned(), text(database));
    params.insert(INCIDENT_AT.to_owned(), text(&incident_at.to_string()));
    match goal {
        Goal::Newest => {}
        Goal::At(at) => drop(params.insert("recover_to".to_owned(), text(&at.to_string()))),
        Goal::Backup(id) => {
            params.insert("backup".to_owned(), text(id));
            params.insert("immediate".to_owned(), Value::Bool(true));
        }
    }
    params
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
