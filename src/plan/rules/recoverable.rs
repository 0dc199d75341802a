//! Backups that cannot keep what is promised of them: a point in time without a base backup, an RPO without segments.

use std::time::Duration;

use serde_json::Value;

use super::Subject;
use super::script::commands;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::units::Span;
use crate::language::runbook::Step;

/// After this long the server tries again to archive what failed.
const RETRY: Duration = Duration::from_secs(60);
/// What `postgres.configure_archiving` sets where the step says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

fn steps<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Step> {
    subject.runbook.steps.iter().chain(&subject.runbook.finally).filter(|step| !step.poisoned)
}

/// Whether a step is of one of these actions, or runs one of these programs.
fn does(step: &Step, actions: &[&str], words: &[&str]) -> bool {
    let runs = || commands(step).0.iter().any(|command| words.iter().any(|word| command.contains(word)));
    actions.contains(&step.uses.value.as_str()) || runs()
}

/// WAL that nothing can be replayed on: archived or recovered, where every backup is a dump.
pub fn dumps_only(subject: &Subject<'_>) -> Diagnostics {
    let any = |actions: &[&str], words: &[&str]| steps(subject).any(|step| does(step, actions, words));
    let archives = |step: &&Step| does(step, &["postgres.configure_archiving"], &["archive_command", "archive_mode"]);
    let made = any(&["postgres.dump", "postgres.dump_all"], &["pg_dump"])
        && !any(&["postgres.base_backup", "postgres.restore_base"], &["pg_basebackup"]);
    let archived = steps(subject).find(archives).filter(|_| made).map(|step| {
        let fact =
            "the WAL that is archived here cannot be replayed on a dump, and the runbook makes nothing but dumps";
        let help =
            "add a step `postgres.base_backup`; the dumps alone keep an RPO as long as the time between two of them";
        Diagnostic::new(Code::DumpsOnly, fact.to_owned()).at(step.uses.at).help(help)
    });
    let is_find = |step: &&Step| step.uses.value == "backup.find";
    let of_dumps = |step: &Step| {
        let kind = step.with.get("kind").and_then(Value::as_str);
        let layout = step.with.pointer("/location/layout").and_then(Value::as_str);
        kind == Some("postgres.dump") || layout == Some("dumps")
    };
    let recovered = steps(subject)
        .find(|step| step.uses.value == "postgres.recover")
        .filter(|_| steps(subject).any(|step| is_find(&step)) && steps(subject).filter(is_find).all(of_dumps));
    let recovered = recovered.map(|step| {
        let fact = "a dump cannot be recovered: WAL is replayed on a base backup, and the runbook looks for dumps only";
        let help = "let `backup.find` take `kind: postgres.base`; a dump is restored with `postgres.restore_dump`";
        Diagnostic::new(Code::DumpsOnly, fact.to_owned()).at(step.uses.at).help(help)
    });
    archived.into_iter().chain(recovered).collect()
}

/// An unfinished segment that is handed over too late for the RPO.
pub fn late_segments(subject: &Subject<'_>) -> Diagnostics {
    let Some(Span(rpo)) = subject.runbook.objectives.rpo else { return Diagnostics::default() };
    let late = steps(subject).filter_map(|step| {
        let (timeout, pointer) = timeout(step)?;
        (timeout + RETRY > rpo).then(|| {
            let fact = format!(
                "an `archive_timeout` of {} cannot keep the RPO of {}: a segment is handed over after it, and a failure is \
                 tried again a minute later",
                Span(timeout),
                Span(rpo)
            );
            let at = step.with_places.get(pointer).copied().unwrap_or(step.uses.at);
            let help = match rpo.checked_sub(RETRY).filter(|most| !most.is_zero()) {
                Some(most) => format!("at most {} fits", Span(most)),
                None => "no `archive_timeout` fits: stream to a standby".to_owned(),
            };
            Diagnostic::new(Code::LateSegments, fact).at(at).help(help)
        })
    });
    late.collect()
}

/// The `archive_timeout` that a step sets, and where it stands; zero switches it off, which is not said here.
fn timeout(step: &Step) -> Option<(Duration, &'static str)> {
    if step.uses.value == "postgres.configure_archiving" {
        let written = step.with.get("archive_timeout").and_then(Value::as_str);
        let timeout = written.map_or(Some(DEFAULT_TIMEOUT), |text| text.parse().ok().map(|Span(span)| span))?;
        return Some((timeout, "/archive_timeout"));
    }
    let (commands, pointer) = commands(step);
    commands.iter().find_map(|command| in_seconds(command)).map(|timeout| (timeout, pointer))
}

/// Reads `archive_timeout = 3600`, `= '1h'` or `= 60s` out of a command. The server counts in seconds.
fn in_seconds(command: &str) -> Option<Duration> {
    let (_, rest) = command.split_once("archive_timeout")?;
    let value: String = rest
        .trim_start_matches(|c: char| c.is_whitespace() || "='\"".contains(c) || c == '\\')
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok().filter(|number| *number > 0)?;
    let unit = match &value[digits.len()..] {
        "" | "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_server_reads_it() {
        let read = |text: &str| in_seconds(text).map(|span| span.as_secs());
        assert_eq!(read("echo \"archive_timeout = 3600\" >> postgresql.conf"), Some(3600));
        assert_eq!(read("psql -c \"ALTER SYSTEM SET archive_timeout = '5min'\""), Some(300));
        assert_eq!(read("echo archive_timeout=1h >> x"), Some(3600));
        assert_eq!((read("archive_timeout = 0"), read("archive_timeout = $T"), read("nothing")), (None, None, None));
    }
}
