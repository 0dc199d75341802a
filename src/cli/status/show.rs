//! The status of one database for people, and what follows from it.

use std::time::Duration;

use super::gather::{Drilled, Expected, Status};
use crate::base::clock::between;
use crate::base::units::{ByteSize, human_duration};
use crate::base::{Timestamp, clock};
use crate::catalog::health::Level;
use crate::cli::runs::outcome_words;
use crate::cli::screen::paint;
use crate::event::{ObjectiveVerdict, Outcome};
use crate::journal::RunStatus;
use crate::report::Tone;
use crate::wal::standing::Standing;

/// A backup that is older counts as a reason to take one.
const OLD: Duration = Duration::from_secs(7 * 86_400);
/// A proof that is older counts as a reason to drill.
const UNPROVEN: Duration = Duration::from_secs(90 * 86_400);

/// Says what to do next, most urgent first.
pub fn advice(status: &Status) -> Vec<String> {
    let name = &status.database;
    let mut next = Vec::new();
    for run in &status.unfinished {
        next.push(match run.status {
            RunStatus::Live => format!("run {} of `{}` is live: runbook show {} --follow", run.run, run.name, run.run),
            RunStatus::Suspended => {
                format!("run {} of `{}` waits for a person: runbook show {}", run.run, run.name, run.run)
            }
            RunStatus::Interrupted
            | RunStatus::NeverStarted
            | RunStatus::Finished { .. }
            | RunStatus::Damaged { .. } => {
                format!("run {} of `{}` was interrupted: runbook resume {}", run.run, run.name, run.run)
            }
        });
    }
    let ways = Ways::of(status);
    if !status.server.answers {
        let find = if status.backup.is_some() { "" } else { " (no backup is known)" };
        next.push(match status.managed {
            true => "the server does not answer: ask its provider; its points in time are there".to_owned(),
            false => format!("the server does not answer: {}{find}", ways.restore),
        });
    }
    if let Some(open) = status.open.as_ref().filter(|open| status.unfinished.iter().all(|run| run.run != open.run)) {
        next.push(format!(
            "the recovery of run {} was never closed: runbook run lift-freeze -p database={name} -p reason=…",
            open.run
        ));
    }
    next.extend(archiving(status));
    if !status.forecast_fault.is_empty() {
        next.push(format!("the recovery cannot be planned: runbook dry-run {} -p database={name}", status.recovery()));
    }
    next.extend(held(status, &ways));
    next.extend(tried(status, &ways));
    next
}

/// What is wrong with the backups there are.
fn held(status: &Status, ways: &Ways) -> Option<String> {
    let Ways { what, backup, .. } = ways;
    match &status.backup {
        None if status.store_fault.is_empty() => Some(format!("there is no {what}: {backup}")),
        None => Some(format!("what {what}s there are is not known: runbook backups list")),
        Some(newest) if !newest.sound => Some(format!("the newest {what} `{}` is not sound: {backup}", newest.id)),
        Some(newest) if between(newest.ended_at, status.at) > OLD => {
            Some(format!("the newest {what} is old: {backup}"))
        }
        Some(_) => None,
    }
}

/// What is wrong with the drills and proofs there are.
fn tried(status: &Status, ways: &Ways) -> Vec<String> {
    let mut next = Vec::new();
    if let Some(drill) = status.drill.as_ref().filter(|drill| !has_succeeded(drill)) {
        next.push(format!(
            "the last drill ended with `{}`: runbook show {}",
            outcome_words(Some(drill.outcome)),
            drill.run
        ));
    }
    let is_recent = |at: Timestamp| between(at, status.at) < UNPROVEN;
    let proven = match &status.drill {
        // Nothing is noted beside backups that are not ours.
        Some(drill) if status.stanza.is_some() => has_succeeded(drill) && drill.at.is_some_and(is_recent),
        Some(_) | None => status.proof.as_ref().is_some_and(|proof| proof.passed && is_recent(proof.at)),
    };
    if !proven && status.backup.is_some() {
        next.push(format!("no restore was proven lately: {}", ways.drill));
    }
    next
}

/// What is typed for a backup and for the proof of one.
struct Ways {
    what: &'static str,
    backup: String,
    drill: String,
    restore: String,
}

impl Ways {
    fn of(status: &Status) -> Self {
        let name = &status.database;
        let restore = format!("runbook restore {name}");
        if let Some(stanza) = &status.stanza {
            let recovery = status.recovery();
            return Self {
                what: "base backup",
                backup: format!("have pgBackRest take one of stanza `{stanza}`"),
                drill: format!("runbook drill {recovery} -p database={name}"),
                restore: format!("runbook run {recovery} -p database={name} -p incident_at=…"),
            };
        }
        match status.managed {
            true => Self {
                what: "dump",
                backup: format!("runbook run daily-backup -p database={name}"),
                drill: format!("runbook drill restore-test-dump -p database={name}"),
                restore,
            },
            false => Self {
                what: "base backup",
                backup: format!("runbook backup {name}"),
                drill: format!("runbook drill full-db-loss -p database={name}"),
                restore,
            },
        }
    }
}

/// What `runbook wal status` would complain about. Where the server is down that comes first, and says enough.
fn archiving(status: &Status) -> Vec<String> {
    let Some(wal) = status.wal.as_ref().filter(|_| status.server.answers) else { return Vec::new() };
    let bad = wal.findings.iter().filter(|finding| finding.level != Level::Ok);
    bad.map(|finding| format!("{}: runbook wal status {}", finding.message, status.database)).collect()
}

/// Prints it.
pub fn print(status: &Status) {
    out!("{} in {}", paint(Tone::Strong, &status.database), status.environment);
    server(status);
    backups(status);
    if let Some(drill) = &status.drill {
        line("drill", (drill_tone(drill), &drill_text(drill, status.at)));
    }
    if let Some(expected) = &status.forecast {
        line("recovery", (forecast_tone(expected), &forecast_text(expected)));
    }
    if !status.forecast_fault.is_empty() {
        line("recovery", (Tone::Bad, &format!("`{}` cannot be planned: {}", status.recovery(), status.forecast_fault)));
    }
    if let Some(open) = &status.open {
        let since = open.since.map(|at| format!(" since {}", ago(at, status.at))).unwrap_or_default();
        let text = format!("run {}{since}: prune, unattended backups and lifecycle changes are frozen", open.run);
        line("open", (Tone::Warn, &text));
    }
    if status.next.is_empty() {
        line("next", (Tone::Good, "nothing: all is well"));
    }
    for (index, advice) in status.next.iter().enumerate() {
        line(if index == 0 { "next" } else { "" }, (Tone::Strong, advice));
    }
    out!();
}

fn line(label: &str, (tone, text): (Tone, &str)) {
    out!("  {label:10}{}", paint(tone, text));
}

fn server(status: &Status) {
    let server = &status.server;
    match (server.answers, server.in_recovery) {
        (false, _) => line("server", (Tone::Bad, &format!("DOWN: {}", server.why))),
        (true, recovering) => {
            let version = server.version.as_deref().unwrap_or("?");
            let state = if recovering { "in recovery, read-only" } else { "up" };
            let tone = if recovering { Tone::Warn } else { Tone::Good };
            line("server", (tone, &format!("PostgreSQL {version}, {state}")));
        }
    }
    if let Some(overseer) = &server.overseer {
        line("", (Tone::Quiet, overseer));
    }
    if let Some(wal) = status.wal.as_ref().filter(|_| server.answers) {
        line("wal", (wal_tone(wal.level), &wal_text(wal)));
    }
}

fn wal_tone(level: Level) -> Tone {
    match level {
        Level::Ok => Tone::Good,
        Level::Warning | Level::Unknown => Tone::Warn,
        Level::Critical => Tone::Bad,
    }
}

/// How far the archive is behind, in bytes and in time, and what is wrong with it.
fn wal_text(wal: &Standing) -> String {
    let figures = &wal.figures;
    let behind = match (figures.lag_bytes, figures.lag_s) {
        (Some(0), _) | (Some(_), Some(0)) => "no commit waits".to_owned(),
        (Some(bytes), Some(seconds)) => {
            let since = human_duration(Duration::from_secs(seconds));
            format!("{} not archived yet, the oldest commit waits for {since}", ByteSize(bytes))
        }
        (Some(bytes), None) => format!("{} not archived yet", ByteSize(bytes)),
        (None, _) => "how much waits is not known".to_owned(),
    };
    let rpo = figures.rpo_s.map(|seconds| format!(", the RPO is {}", human_duration(Duration::from_secs(seconds))));
    let worst = wal.findings.iter().find(|finding| finding.level == wal.level && wal.level != Level::Ok);
    let worst = worst.map(|finding| format!("; {}", finding.message)).unwrap_or_default();
    format!("{behind}{}{worst}", rpo.unwrap_or_default())
}

fn backups(status: &Status) {
    match (&status.backup, status.store_fault.as_str()) {
        (Some(newest), _) => {
            let word = if newest.sound { "" } else { ", NOT SOUND" };
            let text = format!(
                "{}, {}, {}{word}; {} in all",
                newest.id,
                ago(newest.ended_at, status.at),
                ByteSize(newest.size_bytes),
                status.backups
            );
            line("backup", (if newest.sound { Tone::Good } else { Tone::Bad }, &text));
        }
        (None, "") => line("backup", (Tone::Bad, "none")),
        (None, fault) => line("backup", (Tone::Bad, &format!("not known: {fault}"))),
    }
    match &status.proof {
        Some(proof) => {
            let word = if proof.passed { "restored and checked" } else { "its restore FAILED its checks" };
            let text = format!("{} {word} {}, in {}", proof.backup, ago(proof.at, status.at), took(proof.took_ms));
            line("proof", (if proof.passed { Tone::Good } else { Tone::Bad }, &text));
        }
        None if status.backup.is_some() && status.stanza.is_none() => {
            line("proof", (Tone::Warn, "no restore was ever proven"))
        }
        None => {}
    }
}

fn drill_tone(drill: &Drilled) -> Tone {
    let verdict = drill.figures.verdict();
    let missed = [verdict.rto, verdict.rpo].contains(&ObjectiveVerdict::Missed);
    if missed || !has_succeeded(drill) { Tone::Bad } else { Tone::Quiet }
}

fn has_succeeded(drill: &Drilled) -> bool {
    matches!(drill.outcome, Outcome::Succeeded | Outcome::SucceededWithExceptions)
}

fn drill_text(drill: &Drilled, now: Timestamp) -> String {
    let when = drill.at.map(|at| ago(at, now)).unwrap_or_default();
    let against = |target: Option<u64>| target.map(|ms| format!(" of {}", took(ms))).unwrap_or_default();
    let rto = drill.figures.rto_ms.map(|ms| format!(", RTO {}{}", took(ms), against(drill.figures.rto_target_ms)));
    let rpo = drill.figures.rpo.as_ref();
    let rpo = rpo.map(|loss| format!(", RPO {}{}", took(loss.unwanted_ms), against(drill.figures.rpo_target_ms)));
    let ended = outcome_words(Some(drill.outcome));
    format!("run {} {when}, {ended}{}{}", drill.run, rto.unwrap_or_default(), rpo.unwrap_or_default())
}

fn forecast_tone(expected: &Expected) -> Tone {
    match expected.rto_ms {
        Some(rto) if expected.p95_ms > rto => Tone::Bad,
        Some(_) => Tone::Good,
        None => Tone::Quiet,
    }
}

fn forecast_text(expected: &Expected) -> String {
    let against = expected.rto_ms.map(|rto| format!(", the RTO is {}", took(rto))).unwrap_or_default();
    format!(
        "{} expected (95 %: {}) from {} past runs{against}",
        took(expected.median_ms),
        took(expected.p95_ms),
        expected.runs
    )
}

fn took(ms: u64) -> String {
    human_duration(Duration::from_millis(ms))
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    if at > clock::after(now, Duration::from_secs(1)) {
        return format!("at {at}, which is still to come");
    }
    format!("{} ago", human_duration(between(at, now)))
}

#[cfg(test)]
mod tests {
    use super::{advice, drill_tone};
    use crate::actions::postgres::Standing;
    use crate::base::Timestamp;
    use crate::cli::status::gather::{Drilled, Newest, Proven, Status};
    use crate::event::{Figures, Outcome};
    use crate::report::Tone;

    /// One whose newest backup was proven just now.
    fn healthy() -> Status {
        let at = Timestamp::UNIX_EPOCH;
        Status {
            database: "orders".to_owned(),
            environment: "production".to_owned(),
            at,
            server: Standing { answers: true, ..Standing::default() },
            managed: false,
            stanza: None,
            wal: None,
            backup: Some(Newest { id: "b2".to_owned(), ended_at: at, size_bytes: 1, sound: true }),
            backups: 2,
            store_fault: String::new(),
            proof: Some(Proven { backup: "b1".to_owned(), at, passed: true, took_ms: 1 }),
            drill: None,
            forecast: None,
            forecast_fault: String::new(),
            open: None,
            unfinished: Vec::new(),
            next: Vec::new(),
        }
    }

    fn drill(outcome: Outcome) -> Drilled {
        let run = "20260101-000000-aaaaaa".parse().expect("an id");
        Drilled { run, at: None, outcome, figures: Box::new(Figures::default()) }
    }

    #[track_caller]
    fn advises(status: &Status, words: &str) {
        let next = advice(status);
        assert!(next.len() == 1 && next[0].contains(words), "no `{words}` in {next:?}");
    }

    #[test]
    fn a_damaged_backup_a_silent_store_and_a_failed_drill_are_not_all_is_well() {
        let mut status = healthy();
        assert!(advice(&status).is_empty());
        status.drill = Some(drill(Outcome::Succeeded));
        assert!(advice(&status).is_empty());
        status.drill = Some(drill(Outcome::Failed));
        advises(&status, "the last drill ended with `failed`: runbook show 20260101-000000-aaaaaa");
        assert!(matches!(drill_tone(&drill(Outcome::Cancelled)), Tone::Bad));
        assert!(matches!(drill_tone(&drill(Outcome::Succeeded)), Tone::Quiet));
        let mut damaged = healthy();
        damaged.backup.as_mut().expect("a backup").sound = false;
        advises(&damaged, "the newest base backup `b2` is not sound: runbook backup orders");
        let silent = Status { backup: None, proof: None, store_fault: "it does not answer".to_owned(), ..healthy() };
        advises(&silent, "what base backups there are is not known");
    }

    #[test]
    fn a_database_of_pgbackrest_is_sent_to_the_procedures_that_know_it() {
        let stanza = Some("main".to_owned());
        let mut down = Status { stanza, proof: None, drill: Some(drill(Outcome::Succeeded)), ..healthy() };
        down.drill.as_mut().expect("a drill").at = Some(Timestamp::UNIX_EPOCH);
        assert!(advice(&down).is_empty(), "its drill proves it");
        down.server.answers = false;
        advises(&down, "runbook run full-db-loss-pgbackrest -p database=orders -p incident_at=…");
    }
}
