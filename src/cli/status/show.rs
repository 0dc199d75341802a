//! The status of one database for people.

use std::time::Duration;

use super::advice::has_succeeded;
use super::gather::{Drilled, Expected, Proven, Restorable, Status};
use crate::base::clock::between;
use crate::base::units::{ByteSize, human_duration};
use crate::base::{Timestamp, clock};
use crate::catalog::health::Level;
use crate::cli::again::Again;
use crate::cli::leftover;
use crate::cli::runs::outcome_words;
use crate::cli::screen::paint;
use crate::event::ObjectiveVerdict;
use crate::report::Tone;
use crate::wal::archiving_status::ArchivingStatus;

/// Prints it.
pub fn print(status: &Status, again: &Again) {
    out!("{} in {}", paint(Tone::Strong, &status.database), status.environment);
    server(status);
    backups(status, again);
    if let Some(drill) = &status.drill {
        line("drill", (drill_tone(drill), &drill_text(drill, status.at)));
    }
    match &status.forecast {
        Some(expected) => line("recovery", (forecast_tone(expected), &forecast_text(expected))),
        None if !status.managed && status.forecast_fault.is_empty() => {
            let text = format!("no run of `{}` has measured how long it takes; a drill would", status.recovery());
            line("recovery", (Tone::Quiet, &text));
        }
        None => {}
    }
    if !status.forecast_fault.is_empty() {
        line("recovery", (Tone::Bad, &format!("`{}` cannot be planned: {}", status.recovery(), status.forecast_fault)));
    }
    if let Some(open) = &status.open {
        let since = open.since.map(|at| format!(" since {}", ago(at, status.at))).unwrap_or_default();
        let text = format!(
            "run {}{since}: prune, unattended backups and lifecycle changes are frozen: another try may need them",
            open.run
        );
        line("open", (Tone::Warn, &text));
    }
    for frozen in status.only_frozen() {
        let since = format!("since {}", ago(frozen.since, status.at));
        line("frozen", (Tone::Warn, &frozen.told(&since)));
    }
    for (index, left) in leftover::lines(&status.left).iter().enumerate() {
        line(if index == 0 { "left" } else { "" }, (Tone::Quiet, left));
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
    for wrong in &server.contradictions {
        line("inventory", (Tone::Bad, &format!("WRONG: {}", wrong.what)));
    }
    match (server.answers, server.in_recovery) {
        (false, _) if !server.contradictions.is_empty() => {
            line("server", (Tone::Bad, &format!("not reached as the inventory says: {}", server.why)))
        }
        (false, _) if server.refuses.is_some() => {
            line("server", (Tone::Bad, &format!("TAKES NO SESSION: {}", server.why)))
        }
        (false, _) => line("server", (Tone::Bad, &format!("DOWN: {}", server.why))),
        (true, recovering) => {
            let version = server.version.as_deref().unwrap_or("?");
            let state = if recovering { "in recovery, read-only" } else { "up" };
            let tone = if recovering { Tone::Warn } else { Tone::Good };
            line("server", (tone, &format!("PostgreSQL {version}, {state}")));
        }
    }
    if let Some(lost) = &server.lost {
        line("database", (Tone::Bad, &format!("GONE OR CLOSED: {}", lost.why)));
    }
    if let Some(ha_manager) = &server.ha_manager {
        line("", (Tone::Quiet, ha_manager));
    }
    if let Some(wal) = status.wal.as_ref().filter(|_| server.answers) {
        line("wal", (level_tone(wal.level), &wal_text(wal)));
    }
}

fn level_tone(level: Level) -> Tone {
    match level {
        Level::Ok => Tone::Good,
        Level::Warning | Level::Unknown => Tone::Warn,
        Level::Critical => Tone::Bad,
    }
}

/// How far the archive is behind, in bytes and in time, and what is wrong with it.
fn wal_text(wal: &ArchivingStatus) -> String {
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

fn backups(status: &Status, again: &Again) {
    match (&status.backup, status.store_fault.as_str()) {
        (Some(newest), _) => {
            let word = match (newest.sound, status.is_beside_another()) {
                (false, _) => ", NOT SOUND",
                (true, true) => ", OF ANOTHER CLUSTER than the server",
                (true, false) => "",
            };
            let place = status.told_by.as_ref().map(|store| format!(" in store `{store}`"));
            let text = format!(
                "{}, {}, {}{word}; {} in all{}{}",
                newest.id,
                ago(newest.ended_at, status.at),
                ByteSize(newest.size_bytes),
                status.backups,
                place.unwrap_or_default(),
                if status.unsound == 0 { String::new() } else { format!(", {} of them NOT SOUND", status.unsound) }
            );
            line("backup", (if newest.sound { Tone::Good } else { Tone::Bad }, &text));
            if let Some(Restorable { backup, store }) = &status.restorable {
                let place = store.as_ref().map(|store| format!(" in store `{store}`")).unwrap_or_default();
                let text = format!("a restore takes {}{place}, {}", backup.id, ago(backup.ended_at, status.at));
                line("", (Tone::Warn, &text));
            }
            if status.told_by.is_some() {
                line("", (Tone::Bad, &format!("its own store tells nothing: {}", status.store_fault)));
            }
        }
        (None, "") => match &status.snapshot {
            Some(newest) => {
                let text =
                    format!("volume snapshots alone, the newest is {}, {}", newest.id, ago(newest.ended_at, status.at));
                line("backup", (Tone::Warn, &text));
            }
            None => line("backup", (Tone::Bad, "none")),
        },
        (None, fault) => line("backup", (Tone::Bad, &format!("not known: {fault}"))),
    }
    beside(status);
    match &status.proof {
        Some(proof) => proven(proof, status, again),
        None if status.backup.is_some() && status.stanza.is_none() => {
            line("proof", (Tone::Warn, "no restore was ever proven"))
        }
        None => {}
    }
    for copy in &status.damaged {
        let text = format!("{} in store `{}` was found DAMAGED {}", copy.backup, copy.store, ago(copy.at, status.at));
        line("copy", (Tone::Bad, &text));
    }
    for health in &status.expected {
        let worst = health.findings.iter().find(|finding| finding.level == health.level);
        let text = worst.map_or_else(|| "as expected".to_owned(), |finding| finding.message.clone());
        line("expected", (level_tone(health.level), &format!("`{}`: {text}", health.name)));
    }
}

/// What the other stores have, where it is not the same.
fn beside(status: &Status) {
    let newest = status.backup.as_ref().map(|newest| &newest.id);
    for one in &status.beside {
        let (tone, text) = match &one.backup {
            _ if !one.fault.is_empty() => (Tone::Bad, format!("tells nothing: {}", one.fault)),
            Some(theirs) if Some(&theirs.id) == newest => continue,
            Some(theirs) => {
                let when = ago(theirs.ended_at, status.at);
                (Tone::Warn, format!("its newest is {}, {when}; {} in all", theirs.id, one.backups))
            }
            None => (Tone::Warn, "has none".to_owned()),
        };
        line("", (tone, &format!("store `{}` {text}", one.store)));
    }
}

fn proven(proof: &Proven, status: &Status, again: &Again) {
    let word = if proof.passed { "restored and checked" } else { "its restore FAILED its checks" };
    let text = format!("{} {word} {}, in {}", proof.backup, ago(proof.at, status.at), took(proof.took_ms));
    line("proof", (if proof.passed { Tone::Good } else { Tone::Bad }, &text));
    if let Some(run) = &proof.unkept {
        let keep = again.line(["backups", "prove", run.as_str()]);
        line("", (Tone::Quiet, &format!("only the history of runs here knows it, the store does not: {keep}")));
    }
}

fn drill_tone(drill: &Drilled) -> Tone {
    let verdict = drill.figures.verdict();
    let missed = [verdict.rto, verdict.rpo].contains(&ObjectiveVerdict::Missed);
    if missed || !has_succeeded(drill) { Tone::Bad } else { Tone::Quiet }
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
        "{} expected (95 %: {}) from {} past runs of it{against}",
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
    use super::drill_tone;
    use crate::cli::status::gather::Drilled;
    use crate::event::{Figures, Outcome};
    use crate::report::Tone;

    #[test]
    fn a_drill_that_did_not_succeed_is_bad_news() {
        let drill = |outcome: Outcome| Drilled {
            run: "20260101-000000-aaaaaa".parse().expect("an id"),
            at: None,
            outcome,
            figures: Box::new(Figures::default()),
        };
        assert!(matches!(drill_tone(&drill(Outcome::Cancelled)), Tone::Bad));
        assert!(matches!(drill_tone(&drill(Outcome::Inconclusive)), Tone::Bad));
        assert!(matches!(drill_tone(&drill(Outcome::Succeeded)), Tone::Quiet));
    }
}
