//! What follows from how a database stands: what to do next, and how urgent it is.

use std::time::Duration;

use super::gather::{Drilled, Newest, Restorable, Status};
use super::readable::Locked;
use super::undumped;
use crate::actions::postgres::cluster::name::ident;
use crate::actions::postgres::recovery::server_status::LostDatabase;
use crate::actions::postgres::session::connect::Refusal;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::catalog::health::Level;
use crate::cli::again::Again;
use crate::cli::freezes::Frozen;
use crate::cli::onward::Onward;
use crate::cli::recovery::Open;
use crate::cli::runs::outcome_words;
use crate::cli::sighted::Unkept;
use crate::event::Outcome;
use crate::journal::RunStatus;

/// A backup that is older counts as a reason to take one, where the inventory's `backups` say nothing.
pub(super) const OLD: Duration = Duration::from_secs(7 * 86_400);
/// A proof that is older counts as a reason to drill, where they say nothing.
const UNPROVEN: Duration = Duration::from_secs(90 * 86_400);

/// What is said of a server that is there and opens no session, whoever asks.
const CLOSED: &str = "a server is there and takes no session: read its log first; if its data is gone";

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// How bad it is that it is not done yet.
    pub level: Level,
    /// What is so, and the command.
    pub text: String,
}

impl Advice {
    pub(super) fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into() }
    }
}

/// Says what to do next, most urgent first.
pub fn of(status: &Status, again: &Again) -> Vec<Advice> {
    let wrong = status.server.contradictions.iter();
    let (known, unknown): (Vec<&Frozen>, Vec<&Frozen>) = status.only_frozen().partition(|one| one.known_here);
    let frozen = |one: &&Frozen| Advice::new(Level::Warning, one.advice(&status.database, again));
    let mut next: Vec<Advice> =
        wrong.map(|one| Advice::new(Level::Critical, format!("{}: {}", one.what, one.help))).collect();
    // It may be why the server is down, and whatever is started or restored there needs room first.
    next.extend(status.server.full_disks.iter().map(|disk| Advice::new(Level::Critical, disk.clone())));
    next.extend(unfinished(status));
    next.extend(unknown.iter().map(frozen));
    let ways = Ways::of(status, again);
    // Whether it is down is not known while the entry is wrong about it.
    if !status.server.answers && status.server.contradictions.is_empty() {
        next.push(silent(status, &ways));
    }
    next.extend(status.server.lost.iter().map(|lost| gone(lost, status, again)));
    next.extend(missing(status, again));
    if let Some(open) = status.open.as_ref().filter(|open| status.unfinished.iter().all(|run| run.run != open.run)) {
        next.push(left_open(open, status, (&ways, again)));
    }
    next.extend(known.iter().map(frozen));
    next.extend(archiving(status, again));
    if !status.forecast_fault.is_empty() {
        let look = again.line(["dry-run", status.recovery(), "-p", &ways.database, "-p", "incident_at=now"]);
        next.push(Advice::new(Level::Critical, format!("the recovery cannot be planned: {look}")));
    }
    next.extend(status.unforgotten.iter().map(|one| Advice::new(one.level, one.told())));
    next.extend(held(status, &ways));
    next.extend(undumped::advice(status, &ways.backup));
    next.extend(stores(status, again));
    let of_keys = |one: &Locked| Advice::new(one.level, format!("{}; or take a new one: {}", one.fact, ways.backup));
    next.extend(status.locked.iter().map(of_keys));
    next.extend(expected(status, again));
    next.extend(status.damaged.iter().map(|copy| damaged(copy, again)));
    next.extend(tried(status, &ways));
    // A standing fact, which monitoring is not to repeat for ever.
    next.extend(status.together.iter().map(|fact| Advice::new(Level::Ok, fact.clone())));
    next
}

/// What to do about a server that was not asked. Of one that is there and refuses the login nothing is known to be lost.
fn silent(status: &Status, ways: &Ways) -> Advice {
    let find = match (&status.backup, &status.snapshot) {
        (Some(_), _) => String::new(),
        (None, Some(snapshot)) => format!(" says how volume snapshot `{}` comes back", snapshot.id),
        (None, None) => " (no backup is known)".to_owned(),
    };
    if let Some(ha_manager) = &status.server.ha_manager {
        let text =
            format!("the server does not answer, and {ha_manager}: ask that program first, and start nothing by hand");
        return Advice::new(Level::Critical, text);
    }
    if status.server.taken_apart {
        let text = format!(
            "the server does not run: a restore had taken its old data apart and did not end; the WAL that was never archived lies \
             there still, so restore again, and remove nothing of it: {}",
            ways.restore
        );
        return Advice::new(Level::Critical, text);
    }
    let idle = status.server.startable.as_ref().filter(|_| status.server.refuses.is_none() && !status.managed);
    let stopped_by = status.unfinished.iter().find(|run| run.has_stopped && !run.is_given_up());
    if let (Some(start), Some(run)) = (idle, stopped_by) {
        let text = format!(
            "the server does not run: run {} of `{}` has stopped it and has not ended. Bring that run on: what is started meanwhile is \
             in its way, and it may have been stopped so that nobody uses it; only where that run is given up: {start}",
            run.run, run.name
        );
        return Advice::new(Level::Critical, text);
    }
    if let (Some(start), Some(run)) = (idle, &status.stopped_by) {
        let text = format!(
            "the server does not run: run {0} of `{1}` has stopped it and is over ({2}), and no run since has started it. It may have been \
             stopped so that nobody uses it: `runbook show {0}` says what is left to do; once nothing stands against it, start it: \
             {start}; only if its data is not wanted any more: {3}",
            run.run,
            run.name,
            outcome_words(run.outcome),
            ways.restore
        );
        return Advice::new(Level::Critical, text);
    }
    if let Some(start) = idle.filter(|_| status.server.crashed) {
        let text = format!(
            "the server does not run; it was at work until it went down, and its data looks whole: read its log, then start it: \
             {start} (crash recovery brings back every commit); only if it does not come up: {}",
            ways.restore
        );
        return Advice::new(Level::Critical, text);
    }
    if let Some(start) = idle {
        let text = format!(
            "the server does not run; its data was shut down in order, so start it: {start}; only if its data is not wanted any \
             more: {}",
            ways.restore
        );
        return Advice::new(Level::Critical, text);
    }
    let text = match (status.server.refuses, status.managed) {
        (Some(Refusal::Login), _) => {
            "a server is there and takes no session of ours: correct `user` or `password` of the entry, or what \
                      the server allows; nothing has to be restored for that"
                .to_owned()
        }
        (Some(Refusal::Session | Refusal::Database), true) => {
            format!("{CLOSED}: ask its provider; its points in time are there")
        }
        (Some(Refusal::Session | Refusal::Database), false) => format!("{CLOSED}: {}{find}", ways.restore),
        (None, true) => "the server does not answer: ask its provider; its points in time are there".to_owned(),
        (None, false) => format!("the server does not answer: {}{find}", ways.restore),
    };
    Advice::new(Level::Critical, text)
}

/// What to do about a database that the server answers without: the newest state of the whole server lacks it as well.
fn gone(lost: &LostDatabase, status: &Status, again: &Again) -> Advice {
    let (name, dbname) = (status.database.as_str(), lost.dbname.as_str());
    let dump = from_dump(name, dbname, again);
    let text = match status.managed {
        true => format!("database `{dbname}` takes no session, though its server does: from a dump: {dump}"),
        false => format!(
            "database `{dbname}` takes no session, though its server does; if it was dropped, restoring the newest state \
             drops it again: from a dump: {dump}; the whole server to just before: {}",
            again.line(["wal", "search", name, "--drops"])
        ),
    };
    Advice::new(Level::Critical, text)
}

fn from_dump(name: &str, dbname: &str, again: &Again) -> String {
    let (database, named) = (format!("database={name}"), format!("dbname={dbname}"));
    again.change(["run", "restore-dump", "-p", &database, "-p", &named, "-p", "incident_at=now"])
}

/// What to do about databases that were dumped of late and take no session. One that was given up is told until its last dump
/// is old.
fn missing(status: &Status, again: &Again) -> Vec<Advice> {
    let of_late = status.missing.iter().filter(|(_, known)| between(known.dumped_at, status.at) <= OLD);
    let told = of_late.map(|(dbname, known)| {
        let dump = from_dump(&status.database, dbname, again);
        let text = match (known.is_shut, status.managed) {
            (true, _) => format!(
                "database `{dbname}` is there and shut: somebody shut it, or a restore that was cut off while it swapped; once no run \
                 works on it, in `psql`: ALTER DATABASE {} ALLOW_CONNECTIONS true",
                ident(dbname)
            ),
            (false, true) => format!(
                "the server has no database `{dbname}` any more, and its newest dump is of {}: where nobody meant to drop it, {dump}; \
                 its provider's points in time have what was committed since",
                known.dumped_at
            ),
            (false, false) => format!(
                "the server has no database `{dbname}` any more, and its newest dump is of {}: where nobody meant to drop it, {dump}; \
                 what was committed since the dump: {}",
                known.dumped_at,
                again.line(["wal", "search", &status.database, "--drops"])
            ),
        };
        Advice::new(Level::Warning, text)
    });
    told.collect()
}

/// What to do about a recovery that nobody closed. One that did not come to its end may have left everything undone that follows
/// the restore: who was forgotten stands in the data again, nothing is proven, services are down.
fn left_open(open: &Open, status: &Status, (ways, again): (&Ways, &Again)) -> Advice {
    let run = &open.run;
    let lift = |reason: &str| {
        let reason = format!("reason={reason}");
        again.change(["run", "lift-freeze", "-p", &ways.database, "-p", &reason])
    };
    let is_whole = match &open.status {
        RunStatus::Finished { outcome, .. } => {
            matches!(outcome, Outcome::Succeeded | Outcome::SucceededWithExceptions)
        }
        RunStatus::Live
        | RunStatus::Suspended
        | RunStatus::Interrupted
        | RunStatus::NeverStarted
        | RunStatus::Unread { .. }
        | RunStatus::Damaged { .. } => false,
    };
    // Production takes no write until somebody goes on.
    let is_closed = !is_whole && status.server.answers && status.server.in_recovery;
    let text = match is_whole {
        true => format!("the recovery of run {run} was never closed: {}", lift("the recovery is over")),
        false if is_closed => format!(
            "the recovery of run {run} did not come to its end, and the server waits in recovery, read-only: {} brings all there is \
             back, with `--to` what was committed until then; `runbook show {run}` says what was not done",
            ways.restore
        ),
        false => format!(
            "the recovery of run {run} did not come to its end: `runbook show {run}` says what was not done, and how to go on; once \
             all of it was done another way: {}",
            lift(&format!("all that run {run} left undone was done"))
        ),
    };
    Advice::new(if is_closed { Level::Critical } else { Level::Warning }, text)
}

/// The runs that somebody should look at. One that is live needs nobody.
fn unfinished(status: &Status) -> impl Iterator<Item = Advice> {
    status.unfinished.iter().map(|run| {
        let (id, name) = (&run.run, &run.name);
        match &run.onward {
            Onward::Follow => {
                Advice::new(Level::Ok, format!("run {id} of `{name}` is live: runbook show {id} --follow"))
            }
            Onward::Answer => {
                Advice::new(Level::Warning, format!("run {id} of `{name}` waits for a person: runbook show {id}"))
            }
            Onward::Kept => Advice::new(
                Level::Warning,
                format!("run {id} of `{name}` waits, and what was answered is kept until runbook resume {id}"),
            ),
            Onward::End => Advice::new(
                Level::Warning,
                format!("run {id} of `{name}` is to be cancelled; this ends it and runs its `finally`: runbook resume {id}"),
            ),
            Onward::Resume => {
                Advice::new(Level::Warning, format!("run {id} of `{name}` was interrupted: runbook resume {id}"))
            }
            Onward::Overtaken { by, is_known: true, cancel } => Advice::new(
                Level::Warning,
                format!("run {id} of `{name}` did not end, and run {by} has replaced the same data since: end it with {cancel}"),
            ),
            Onward::Overtaken { by, is_known: false, cancel } => Advice::new(
                Level::Warning,
                format!(
                    "run {id} of `{name}` did not end, and whether run {by} has replaced the same data since cannot be told: bring \
                     its `plan.json` back, or end the old one with {cancel}"
                ),
            ),
        }
    })
}

/// What is wrong with the backups there are.
fn held(status: &Status, ways: &Ways) -> Option<Advice> {
    let Ways { what, backup, .. } = ways;
    match &status.backup {
        // Under the prefix of another cluster none can be taken: what is said of archiving comes first.
        _ if status.is_beside_another() => None,
        None if status.store_fault.is_empty() && status.snapshot.is_some() => {
            let text =
                format!("there is no {what} beside the volume snapshots, which have to be mounted first: {backup}");
            Some(Advice::new(Level::Warning, text))
        }
        None if status.store_fault.is_empty() => {
            Some(Advice::new(Level::Critical, format!("there is no {what}: {backup}")))
        }
        None => {
            let text = format!("what {what}s there are is not known: {}", ways.known);
            Some(Advice::new(Level::Unknown, text))
        }
        Some(newest) if !newest.sound => Some(unsound((newest, &status.restorable), ways)),
        Some(newest) if !status.limits.age && between(newest.ended_at, status.at) > OLD => {
            Some(Advice::new(Level::Warning, format!("the newest {what} is old: {backup}")))
        }
        Some(_) => None,
    }
}

/// What the newest backup lacks, and what a restore would take in its place.
fn unsound((newest, restorable): (&Newest, &Option<Restorable>), Ways { what, backup, .. }: &Ways) -> Advice {
    let id = &newest.id;
    match restorable {
        Some(Restorable { backup: other, store: Some(store) }) if other.id == *id => {
            let text = format!(
                "a copy of the newest {what} `{id}` is not sound; a restore reads that of store `{store}`: {backup}"
            );
            Advice::new(Level::Warning, text)
        }
        Some(Restorable { backup: other, .. }) => {
            let text = format!(
                "the newest {what} `{id}` is not sound; the newest that can be restored is `{}`, ended {}: {backup}",
                other.id, other.ended_at
            );
            Advice::new(Level::Critical, text)
        }
        None => {
            Advice::new(Level::Critical, format!("the newest {what} `{id}` is not sound, and no other is: {backup}"))
        }
    }
}

/// The stores that tell nothing, each with what it keeps from being done, and one that has what no restore looks for there.
fn stores(status: &Status, again: &Again) -> Vec<Advice> {
    let (name, Ways { what, backup, restore, .. }) = (status.database.as_str(), Ways::of(status, again));
    let answering = usize::from(status.store_fault.is_empty() || status.told_by.is_some())
        + status.beside.iter().filter(|one| one.fault.is_empty()).count();
    let meanwhile = upright(status, again.change(["backup", name, "--at-least", &answering.max(1).to_string()]));
    let mut next = Vec::new();
    if let Some(other) = &status.told_by {
        let text = format!(
            "the database's own store, which every restore reads, tells nothing; store `{other}` has backups that one can be made \
             from: {restore} says what the inventory needs for that; a new backup meanwhile: {meanwhile}"
        );
        next.push(Advice::new(Level::Critical, text));
    }
    for one in &status.beside {
        if !one.fault.is_empty() {
            let text = format!(
                "store `{}`, which each backup is copied to, tells nothing; a new backup meanwhile: {meanwhile}",
                one.store
            );
            next.push(Advice::new(Level::Warning, text));
        } else if let Some(newest) = one.backup.as_ref().filter(|_| one.is_ahead) {
            let text = format!(
                "store `{}` has a newer {what}, `{}`, which no restore looks for there; a new one goes to every store: {backup}",
                one.store, newest.id
            );
            next.push(Advice::new(Level::Warning, text));
        }
    }
    next
}

/// What to do about a copy that a drill found damaged: until its store knows it, the next restore reads it first again.
fn damaged(copy: &Unkept, again: &Again) -> Advice {
    let keep = again.line(["backups", "prove", copy.run.as_str()]);
    Advice::new(Level::Warning, copy.words(&keep))
}

/// What the inventory expects of its backups and does not hold.
fn expected(status: &Status, again: &Again) -> Vec<Advice> {
    let look = again.line(["backups", "health", "--source", &status.database]);
    let bad = status.expected.iter().filter(|health| health.level != Level::Ok);
    let told = bad.map(|health| {
        let found: Vec<&str> = health.findings.iter().map(|finding| finding.message.as_str()).collect();
        Advice::new(health.level, format!("the expected `{}`: {}: {look}", health.name, found.join("; ")))
    });
    told.collect()
}

/// What is wrong with the drills and proofs there are, and with what they measured.
fn tried(status: &Status, ways: &Ways) -> Vec<Advice> {
    let mut next = Vec::new();
    if let Some(drill) = status.drill.as_ref().filter(|drill| !has_succeeded(drill)) {
        let ended = outcome_words(Some(drill.outcome));
        next.push(Advice::new(
            Level::Warning,
            format!("the last drill ended with `{ended}`: runbook show {}", drill.run),
        ));
    }
    let is_recent = |at: Timestamp| between(at, status.at) < UNPROVEN;
    let proven = match &status.drill {
        // Nothing is noted beside backups that are not ours.
        Some(drill) if status.stanza.is_some() => has_succeeded(drill) && drill.at.is_some_and(is_recent),
        Some(_) | None => status.proof.as_ref().is_some_and(|proof| proof.passed && is_recent(proof.at)),
    };
    let failed = status.proof.as_ref().filter(|proof| !proof.passed);
    let is_told = || status.expected.iter().any(|health| health.figures.proof_failed_age_s.is_some());
    if let Some(proof) = failed.filter(|_| !is_told()) {
        let (backup, run) = (&proof.backup, &proof.run);
        let text = format!("the restore of backup `{backup}` failed its checks in run {run}: {}", ways.drill);
        next.push(Advice::new(Level::Critical, text));
    }
    if !proven && failed.is_none() && !status.limits.proof && status.backup.is_some() {
        next.push(Advice::new(Level::Warning, format!("no restore was proven lately: {}", ways.drill)));
    }
    let slow = status.forecast.as_ref().filter(|expected| expected.rto_ms.is_some_and(|rto| expected.p95_ms > rto));
    if let Some(expected) = slow {
        let took = human_duration(Duration::from_millis(expected.p95_ms));
        let text = format!("a recovery may take {took} (95 %), longer than its RTO: {}", ways.drill);
        next.push(Advice::new(Level::Warning, text));
    }
    next
}

/// Whether a drill ended as it should.
pub fn has_succeeded(drill: &Drilled) -> bool {
    matches!(drill.outcome, Outcome::Succeeded | Outcome::SucceededWithExceptions)
}

/// What is typed for a backup and for the proof of one.
struct Ways {
    what: &'static str,
    database: String,
    backup: String,
    drill: String,
    restore: String,
    known: String,
}

impl Ways {
    fn of(status: &Status, again: &Again) -> Self {
        let (name, recovery) = (status.database.as_str(), status.recovery());
        let database = format!("database={name}");
        let drill = |runbook: &str| again.drill([runbook, "-p", &database]);
        let (what, drill) = match (&status.stanza, status.managed) {
            (Some(_), _) => ("base backup", drill(recovery)),
            (None, true) => ("dump", drill("restore-test-dump")),
            (None, false) => ("base backup", drill("full-db-loss")),
        };
        let backup = upright(status, again.change(["backup", name]));
        let restore = again.line(["restore", name]);
        Self { what, backup, drill, restore, known: again.line(["backups", "list"]), database }
    }
}

/// A backup is taken of a server that runs: of one that does not, this comes after what brings it up.
fn upright(status: &Status, backup: String) -> String {
    if status.server.answers { backup } else { format!("once its server takes sessions again, {backup}") }
}

/// What `runbook wal status` would complain about. Where the server is down that comes first, and says enough.
fn archiving(status: &Status, again: &Again) -> Vec<Advice> {
    let Some(wal) = status.wal.as_ref().filter(|_| status.server.answers) else { return Vec::new() };
    let bad = wal.findings.iter().filter(|finding| finding.level != Level::Ok);
    let look = again.line(["wal", "status", &status.database]);
    if let Some(other) = &wal.figures.other_cluster {
        let name = status.database.as_str();
        let setup = again.change(["run", "setup-archiving", "-p", &format!("database={name}")]);
        let backup = again.change(["backup", name]);
        let text = format!(
            "the prefix holds the WAL and the backups of cluster {other}, not of this server, whose WAL is archived nowhere: give \
             the database a `prefix` of its own in the inventory, then {setup}, then {backup}; what lies under the old prefix \
             stays, for restores to before"
        );
        return vec![Advice::new(Level::Critical, text)];
    }
    // Where a finding names its own way out, that is the next step; to look at it once more leads in a circle.
    let told = |message: &str| match message.contains("`runbook ") {
        true => message.to_owned(),
        false => format!("{message}: {look}"),
    };
    bad.map(|finding| Advice::new(finding.level, told(&finding.message))).collect()
}

#[cfg(test)]
mod tests;
