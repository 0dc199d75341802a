//! Keeps an old run from going on over a newer one: what it once found out about a database is history.

use super::{Exit, Failure, earlier, wiring};
use crate::action::{EffectClass, Mode};
use crate::base::RunId;
use crate::event::{EventKind, OriginPurpose, Outcome};
use crate::journal::{Remains, RunDir, Runs};
use crate::plan::{BoundPlan, Section, UndoPolicy};

/// How a later run bears on what an older one would do.
enum Bearing {
    /// It has replaced the same data, or began to.
    Same,
    /// It may have: its plan cannot be read, and nothing else tells.
    Unread,
    /// Its plan cannot be read, and what it left tells that it has not.
    Apart(String),
    /// It has not.
    None,
}

/// Refuses (exit 4) to resume a real run when a later one has begun to replace what it would replace.
pub fn refuse(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<(), Failure> {
    let later = later(runs, dir, plan)?;
    warn(runs, &later);
    let Some((id, _)) = in_the_way(later).next() else { return Ok(()) };
    let run = dir.id();
    let cancel = plan.with_reason(format!("runbook cancel {run}"));
    let end = format!(
        "look with `runbook show {id}`, then end the old one with `{cancel}`, which undoes nothing, and start a new run"
    );
    Err(match runs.dir(&id).plan() {
        Ok(_) => Failure::new(
            Exit::Refused,
            format!("run `{id}` has worked on the same database since run `{run}` was interrupted"),
        )
        .help(format!("the interrupted run would replace newer data; nothing was changed: {end}")),
        Err(error) => Failure::new(
            Exit::Refused,
            format!(
                "run `{id}` began after run `{run}`, and its plan cannot be read: whether it has worked on the same database is not known"
            ),
        )
        .because(&error)
        .help(format!(
            "nothing was changed: bring `plan.json` of run `{id}` back, from where `audit ship` or a backup of this machine has it, or {end}"
        )),
    })
}

/// Refuses (exit 4) to undo a real run over what a later one has put in the place of its data. `despite` are runs of which
/// somebody says that they have not, where nothing else can tell; the ones that this was needed of are given.
pub fn refuse_undo(runs: &Runs, (dir, plan): (&RunDir, &BoundPlan), despite: &[RunId]) -> Result<Vec<RunId>, Failure> {
    let later = later(runs, dir, plan)?;
    warn(runs, &later);
    let mut passed = Vec::new();
    for (id, bearing) in in_the_way(later) {
        if undoes(&runs.dir(&id)) || was_undone(runs, &id)? {
            continue;
        }
        if matches!(bearing, Bearing::Unread) && despite.contains(&id) {
            passed.push(id);
            continue;
        }
        let run = dir.id();
        return Err(match runs.dir(&id).plan() {
            Ok(_) => Failure::new(
                Exit::Refused,
                format!("run `{id}` has replaced data of the same database since run `{run}`; nothing was changed"),
            )
            .help(format!("what an undo would put back is older than that: `runbook undo {id}` comes first, if at all")),
            Err(error) => Failure::new(
                Exit::Refused,
                format!(
                    "run `{id}` began after run `{run}`, and its plan cannot be read: whether it has replaced the same data is not \
                     known; nothing was changed"
                ),
            )
            .because(&error)
            .help(format!(
                "bring `plan.json` of run `{id}` back, from where `audit ship` or a backup of this machine has it; where you know that \
                 it has not replaced data of this database: `{}`, which the audit keeps",
                format_args!("runbook undo {run} --despite {id} --reason WHY")
            )),
        });
    }
    Ok(passed)
}

/// Says of each run with a lost plan why it is in nobody's way.
fn warn(runs: &Runs, later: &[(RunId, Bearing)]) {
    for (id, bearing) in later {
        if let Bearing::Apart(why) = bearing {
            let why_not = runs.dir(id).plan().err().map(|error| error.to_string()).unwrap_or_default();
            tell!("warning: the plan of the later run `{id}` cannot be read ({why_not}); its journal holds, and {why}");
        }
    }
}

fn in_the_way(later: Vec<(RunId, Bearing)>) -> impl Iterator<Item = (RunId, Bearing)> {
    later.into_iter().filter(|(_, bearing)| matches!(bearing, Bearing::Same | Bearing::Unread))
}

/// Tells whether a run undoes another one: what it replaced was put there by that one. One that undoes this very run is
/// gone on with.
fn undoes(dir: &RunDir) -> bool {
    let origin = dir.header().and_then(|header| header.origin);
    origin.is_some_and(|origin| origin.purpose == OriginPurpose::Undo)
}

/// Tells whether all that a run did was undone since. Where what replaces data has no undo, its data is still there.
fn was_undone(runs: &Runs, id: &RunId) -> Result<bool, Failure> {
    let Ok((plan, _)) = runs.dir(id).plan() else { return Ok(false) };
    let undone: Vec<_> = plan.steps.iter().filter_map(|step| step.id.undone()).collect();
    let mut destroys =
        plan.steps.iter().filter(|step| step.section == Section::Body && step.effects.class == EffectClass::Destroy);
    if !destroys.all(|step| undone.contains(&step.id)) {
        return Ok(false);
    }
    let is_whole = |dir: &RunDir| {
        let Ok(history) = dir.read() else { return false };
        let plan = dir.plan().ok().map(|(plan, _)| plan);
        let is_all = plan.is_some_and(|plan| matches!(plan.undo, UndoPolicy::Now { to: None }));
        let ended = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::RunFinished { outcome: Outcome::Succeeded | Outcome::SucceededWithExceptions, .. }
            )
        };
        is_all && history.events.iter().any(|event| ended(&event.kind))
    };
    Ok(earlier::undoings(runs, id)?.iter().any(is_whole))
}

/// The later run that has begun to replace what a real run would replace, or has replaced.
pub fn overtaken_by(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<Option<RunId>, Failure> {
    Ok(in_the_way(later(runs, dir, plan)?).map(|(id, _)| id).next())
}

fn later(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<Vec<(RunId, Bearing)>, Failure> {
    let replaces = plan.steps.iter().any(|step| step.effects.class == EffectClass::Destroy);
    if plan.mode != Mode::Real || plan.locks.is_empty() || !replaces {
        return Ok(Vec::new());
    }
    // As the ledger has them: the clock may have been set back since this run began.
    let later = runs.ids().map_err(wiring::runs_failure)?.into_iter().take_while(|id| id != dir.id());
    later.map(|id| bearing(runs, &runs.dir(&id), plan).map(|bearing| (id, bearing))).collect()
}

/// Tells whether a later run started a step that replaces something the plan locks.
fn bearing(runs: &Runs, other: &RunDir, plan: &BoundPlan) -> Result<Bearing, Failure> {
    let Ok((theirs, _)) = other.plan() else { return without_plan(runs, other, plan) };
    if theirs.mode != Mode::Real || shared(&theirs.locks, plan).is_none() {
        return Ok(Bearing::None);
    }
    let destroys = |step| theirs.step(step).is_some_and(|step| step.effects.class == EffectClass::Destroy);
    let Ok(history) = other.read() else { return Ok(Bearing::Same) };
    let began = history
        .events
        .iter()
        .any(|event| matches!(&event.kind, EventKind::AttemptStarted { step, .. } if destroys(step)));
    Ok(if began { Bearing::Same } else { Bearing::None })
}

fn shared<'a>(locks: impl IntoIterator<Item = &'a String>, plan: &BoundPlan) -> Option<&'a String> {
    locks.into_iter().find(|name| name.starts_with("database:") && plan.locks.contains(name))
}

/// What its journal tells of a run whose plan cannot be read. Which of its steps replace data only the plan has.
fn without_plan(runs: &Runs, other: &RunDir, plan: &BoundPlan) -> Result<Bearing, Failure> {
    let Some(header) = other.header() else {
        return Ok(if other.never_began() { Bearing::None } else { Bearing::Unread });
    };
    if header.mode != Mode::Real {
        return Ok(Bearing::None);
    }
    Ok(match other.remains(&runs.ledger()).map_err(|error| wiring::runs_failure(error.into()))? {
        Remains::Untouched => Bearing::Apart("no step of it began".to_owned()),
        Remains::Held(locks) => match shared(&locks, plan) {
            Some(_) => Bearing::Unread,
            None => Bearing::Apart("it held no lock of this database".to_owned()),
        },
        Remains::Unknown if header.environment == plan.environment => Bearing::Unread,
        Remains::Unknown => Bearing::None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{BoundPlan, EffectClass, EventKind, RunDir, Runs, overtaken_by, refuse};
    use crate::base::{Attempt, Digest, Timestamp};
    use crate::event::RunHeader;
    use crate::journal::sample;
    use crate::plan::fixture::{id, plan, step};
    use crate::port::Journal as _;

    /// A recovery as it was planned when the clock said `started_at`.
    fn recovery(run: &str, started_at: &str) -> BoundPlan {
        let mut recover = step("recover", "postgres.recover");
        recover.effects.class = EffectClass::Destroy;
        let mut plan = plan(vec![recover]);
        plan.run = run.parse().unwrap();
        plan.started_at = started_at.parse().unwrap();
        plan.locks = vec!["database:orders".to_owned()];
        // As the first event of every run here says.
        plan.environment = "prod".to_owned();
        plan
    }

    fn begun(runs: &Runs, plan: &BoundPlan) -> RunDir {
        begun_with(runs, plan, sample::started_with)
    }

    fn begun_with(runs: &Runs, plan: &BoundPlan, started: impl Fn(Digest) -> EventKind) -> RunDir {
        let mut created = runs.create(plan).unwrap();
        let attempt = EventKind::AttemptStarted { step: id("recover"), attempt: Attempt(1), key: String::new() };
        let kinds = vec![started(created.plan), attempt];
        created.journal.append(Timestamp::UNIX_EPOCH, kinds).unwrap();
        created.journal.sync().unwrap();
        created.dir
    }

    #[test]
    fn a_run_that_began_while_the_clock_was_ahead_is_overtaken_by_one_after_the_clock_was_set_right() {
        let root = tempfile::tempdir().unwrap();
        let runs = Runs::open(root.path().join("state")).unwrap();
        let ahead = recovery("20260128-153000-aaaaaa", "2026-01-28T15:30:00Z");
        let right = recovery("20260128-143500-bbbbbb", "2026-01-28T14:35:00Z");
        let (first, second) = (begun(&runs, &ahead), begun(&runs, &right));
        assert_eq!(overtaken_by(&runs, &first, &ahead).unwrap(), Some(right.run.clone()));
        assert_eq!(overtaken_by(&runs, &second, &right).unwrap(), None);
        assert_eq!(runs.find("last").unwrap().id(), &right.run, "the one that began last");
        // What it has replaced cannot be told any more, so that nothing is taken for unchanged.
        std::fs::remove_file(second.path().join("plan.json")).unwrap();
        let refused = refuse(&runs, &first, &ahead).unwrap_err();
        assert!(refused.message.contains("its plan cannot be read"), "{}", refused.message);
        assert!(refused.causes.iter().any(|cause| cause.contains("plan.json")), "{:?}", refused.causes);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fn an_interrupted_run_goes_on_beside_one_without_a_plan_that_held_other_locks() {
        let holds = |lock: &'static str| {
            move |plan: Digest| match sample::started_with(plan) {
                EventKind::RunStarted(header) => {
                    let locks = Some(std::iter::once(lock.to_owned()).collect());
                    EventKind::RunStarted(Box::new(RunHeader { locks, ..*header }))
                }
                other => other,
            }
        };
        for (lock, overtakes) in [("database:users", false), ("database:orders", true)] {
            let root = tempfile::tempdir().unwrap();
            let runs = Runs::open(root.path().join("state")).unwrap();
            let old = recovery("20260128-143500-aaaaaa", "2026-01-28T14:35:00Z");
            let new = recovery("20260128-153500-bbbbbb", "2026-01-28T15:35:00Z");
            let first = begun(&runs, &old);
            let second = begun_with(&runs, &new, holds(lock));
            std::fs::remove_file(second.path().join("plan.json")).unwrap();
            assert_eq!(overtaken_by(&runs, &first, &old).unwrap().is_some(), overtakes, "{lock}");
            // Another plan may have added locks, and the journal's lines behind its first may be lost.
            std::fs::write(second.path().join("plan-2.json"), "{}").unwrap();
            assert!(overtaken_by(&runs, &first, &old).unwrap().is_some(), "{lock}");
            std::fs::remove_file(second.path().join("plan-2.json")).unwrap();
            std::fs::remove_file(second.path().join("journal.jsonl")).unwrap();
            assert!(overtaken_by(&runs, &first, &old).unwrap().is_some(), "nothing is left that could tell");
        }
    }
}
