//! `runbook dry-run`: would it work right now? Nothing is written anywhere, not even a run's folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::again::Again;
use super::args::{self, Subject};
use super::prepare::{self, Prepared, RunIdentity};
use super::proof::{self, Proof};
use super::rehearsal::{Rehearsed, rehearse};
use super::screen::{Face, paint};
use super::{Exit, Failure, ahead, drill, given, history, invoke, notifier, wiring};
use crate::action::{EffectClass, Mode};
use crate::base::units::human_duration;
use crate::event::Verdict;
use crate::language::inventory::DRILL;
use crate::plan::render::describe_target;
use crate::plan::{BoundPlan, Forecast};
use crate::report::Tone;

/// Arguments of `dry-run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook dry-run full-db-loss -p database=orders\n  runbook dry-run full-db-loss -p database=orders --level 1\n  runbook dry-run full-db-loss -p database=orders -e drill\n  runbook dry-run full-db-loss -p database=orders --json | jq '.steps[] | select(.level < 2) | {id, reason}'\n\nLevel 1: secrets exist, programs are found, hosts and credentials work, the backup exists, space suffices, and the forecast from past runs, with the time an archived backup takes to come back, is held against the RTO.\nLevel 2 as well: steps that only read are made; all others give samples of their outputs, so that later conditions and templates are evaluated. Of each step the level that proved it is told, and why not more (0: nothing but the file).\n`runbook schema dry-run` describes the JSON. Nothing is written anywhere. Code 4: something refuses; with --strict also when the forecast's 95 % exceed the RTO."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// How much is proved: 1 checks, 2 makes the steps that only read as well
    #[arg(long, value_name = "LEVEL", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    level: u8,
    /// Refuse (code 4) when the forecast's 95 % exceed the RTO
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every step's check.
    Checks,
    /// Steps that only read are made as well.
    Rehearsal,
}

/// Runs every check, makes what only reads, and changes nothing.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let prepared = prepare::load_runbook(&args.subject.runbook, &args.subject.inventory)?;
    prepared.demand_sound()?;
    let mode = if args.subject.environment.as_deref() == Some(DRILL) { Mode::Drill } else { Mode::DryRun };
    let identity = RunIdentity::new(mode, &wiring::state_root()?, args::params(&args.subject)?);
    let depth = if args.level == 2 { Depth::Rehearsal } else { Depth::Checks };
    let looked = judge((&prepared, &args.subject), &identity, depth, args.json.into())?;
    if args.json {
        out!("{:#}", Value::Object(looked.document.clone()));
    }
    conclude(looked.refused, too_slow(&looked.plan, &looked.forecast, args.strict))
}

/// Shows whether a runbook would work right now; machines are told `beside` as well, member by member.
///
/// # Errors
/// Refuses (exit 4) when something stands against it.
pub fn look(
    subject: (&Prepared, &Subject),
    identity: &RunIdentity,
    depth: Depth,
    (face, beside): (Face, Map<String, Value>),
) -> Result<Exit, Failure> {
    let mut looked = judge(subject, identity, depth, face)?;
    if face == Face::Json {
        looked.document.extend(beside);
        out!("{:#}", Value::Object(looked.document));
    }
    conclude(looked.refused, None)
}

/// What was found out.
struct Looked {
    plan: Arc<BoundPlan>,
    forecast: Forecast,
    refused: usize,
    /// Everything, for machines.
    document: Map<String, Value>,
}

fn judge(
    (prepared, subject): (&Prepared, &Subject),
    identity: &RunIdentity,
    depth: Depth,
    face: Face,
) -> Result<Looked, Failure> {
    let plan = Arc::new(prepared.bind(subject, identity)?);
    given::tell(prepared, &plan);
    if identity.mode == Mode::Drill {
        drill::demand_harmless(prepared, subject, identity, &plan)?;
    }
    let hands = invoke::hands(&plan, identity.scratch.join("attempts"), face)?;
    let missing = invoke::missing_secrets(&plan, &hands);
    for (name, why) in notifier::missing(&plan, &hands) {
        tell!("warning: {why}\n  help: a run is not stopped by it, but what needs `{name}` tells nobody");
    }
    let checked = ahead::look(&plan, &prepared.registry, &hands)?;
    let refused = proof::refused(&plan, &checked, &missing);
    let rehearsed = match depth {
        Depth::Rehearsal => rehearse(&plan, &prepared.registry, &hands, &refused)?,
        Depth::Checks => Rehearsed::default(),
    };
    let proofs = proof::proofs(&plan, &checked, &rehearsed);
    let forecast = history::forecast_of(&plan, &rehearsed.outputs, proof::waits(&proofs))?;
    match face {
        Face::Json => {}
        Face::People => {
            for (name, error) in &missing {
                out!("{}  secret `{name}`: {error}", paint(Tone::Bad, "refused"));
            }
            print_steps(&plan, &proofs, &Again::of_plan(&plan));
            print_forecast(&plan, &forecast);
        }
    }
    let refused = missing.len() + proofs.iter().filter(|proof| proof.refused).count();
    let document = proof::document(&plan, &proofs, &missing, &forecast);
    Ok(Looked { plan, forecast, refused, document })
}

/// What the forecast stands against, where it is asked.
fn too_slow(plan: &BoundPlan, forecast: &Forecast, strict: bool) -> Option<String> {
    let rto = plan.objectives.rto.filter(|_| strict && (forecast.runs > 0 || forecast.retrieval_ms > 0))?;
    let p95 = Duration::from_millis(forecast.p95_ms);
    (p95 > rto.0).then(|| format!("the forecast of {} (95 %) exceeds the RTO of {rto}", human_duration(p95)))
}

fn conclude(refused: usize, too_slow: Option<String>) -> Result<Exit, Failure> {
    match (refused, too_slow) {
        (0, None) => {
            tell!("nothing stands against it; nothing was written");
            Ok(Exit::Success)
        }
        (0, Some(slow)) => Err(Failure::new(Exit::Refused, format!("{slow}; nothing was written"))),
        (refused, _) => {
            Err(Failure::new(Exit::Refused, format!("{refused} of its checks refuse; nothing was written")))
        }
    }
}

fn print_steps(plan: &BoundPlan, proofs: &[Proof], again: &Again) {
    let width = plan.steps.iter().map(|step| step.id.as_str().len()).max().unwrap_or(0);
    out!("{} in {} ({} steps)", plan.name, plan.environment, plan.steps.len());
    for (step, proof) in plan.steps.iter().zip(proofs) {
        let (tone, word) = match (proof.refused, proof.level) {
            (true, _) => (Tone::Bad, "refused"),
            (false, 2) => (Tone::Good, "proved "),
            (false, 1) => (Tone::Good, "checked"),
            (false, _) => (Tone::Quiet, "unproved"),
        };
        out!("{}  {:width$}  {}", paint(tone, &format!("{word:8} {}", proof.level)), step.id.as_str(), step.uses);
        let line = |text: &str| out!("{:12}{:width$}  {text}", "", "");
        if step.effects.class >= EffectClass::Write {
            for (access, target) in &step.effects.targets {
                line(&format!("would {} {}", proof::name_of(access), describe_target(target)));
            }
        }
        for finding in &proof.findings {
            let (tone, mark) = match finding.verdict {
                Verdict::Pass => (Tone::Good, "✓"),
                Verdict::Pending => (Tone::Quiet, "…"),
                Verdict::Warn => (Tone::Warn, "!"),
                Verdict::Refuse => (Tone::Bad, "✗"),
            };
            line(&format!("{} {}", paint(tone, mark), finding.message));
            finding.help.iter().for_each(|help| line(&format!("  help: {}", again.advice(help))));
        }
        if !proof.reason.is_empty() {
            line(&paint(Tone::Quiet, &format!("… {}", proof.reason)));
        }
    }
    let unproved: Vec<&str> = proofs.iter().filter(|proof| proof.level == 0).map(|proof| proof.id.as_str()).collect();
    if !unproved.is_empty() {
        out!("unproved, nothing but the file speaks for them: {}", unproved.join(", "));
    }
}

/// Says of a retrieval that the objective is held against it alone, whatever past runs say.
fn print_retrieval(plan: &BoundPlan, forecast: &Forecast) {
    let Some(step) = &forecast.retrieved_for else { return };
    let wait = Duration::from_millis(forecast.retrieval_ms);
    let verdict = match plan.objectives.rto {
        Some(rto) if wait > rto.0 => format!(", {} the RTO of {rto} by itself", paint(Tone::Bad, "over")),
        Some(rto) => format!(", of an RTO of {rto}"),
        None => String::new(),
    };
    out!("retrieval: `{step}` found an archived backup; up to {} until it can be read{verdict}", human_duration(wait));
}

fn print_forecast(plan: &BoundPlan, forecast: &Forecast) {
    let against = plan.objectives.rto;
    print_retrieval(plan, forecast);
    if forecast.runs == 0 {
        if against.is_some() {
            let of = plan.subject().map(|subject| format!(" for `{subject}`")).unwrap_or_default();
            out!("forecast: none yet, `{}` has never succeeded here{of}; a drill would measure it", plan.name);
        }
        return;
    }
    let median = Duration::from_millis(forecast.median_ms);
    let p95 = Duration::from_millis(forecast.p95_ms);
    let verdict = against.map(|rto| {
        let word = if p95 > rto.0 { paint(Tone::Bad, "over") } else { paint(Tone::Good, "within") };
        format!(", {word} the RTO of {rto}")
    });
    let unmeasured = match forecast.unmeasured.len() {
        0 => String::new(),
        count => format!("; {count} steps never measured"),
    };
    let (median, p95, runs) = (human_duration(median), human_duration(p95), forecast.runs);
    out!("forecast: {median} (95 %: {p95}){}; from {runs} past runs{unmeasured}", verdict.unwrap_or_default());
    let took: BTreeMap<_, _> = forecast.steps.iter().map(|step| (&step.id, step)).collect();
    let path = forecast.critical_path.iter().filter_map(|id| took.get(id)).filter(|step| step.median_ms > 0);
    let path: Vec<String> =
        path.map(|step| format!("{} {}", step.id, human_duration(Duration::from_millis(step.median_ms)))).collect();
    if path.len() > 1 {
        out!("  longest chain: {}", path.join(" → "));
    }
}
