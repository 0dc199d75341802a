//! `runbook dry-run`: would it work right now? Level 1: nothing is written anywhere, not even a run's folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::args::{self, Subject};
use super::prepare::{self, RunIdentity};
use super::screen::{Face, paint};
use super::{Exit, Failure, drill, given, invoke, notifier, wiring};
use crate::action::{EffectClass, Mode};
use crate::base::StepId;
use crate::base::units::human_duration;
use crate::engine::Preflight;
use crate::event::{EventKind, StepFinding, Verdict};
use crate::language::inventory::DRILL;
use crate::plan::render::describe_target;
use crate::plan::{BoundPlan, Forecast, forecast};
use crate::report::Tone;

/// Arguments of `dry-run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook dry-run full-db-loss -p database=orders\n  runbook dry-run full-db-loss -p database=orders -e drill\n  runbook dry-run full-db-loss -p database=orders --json | jq '.steps[] | select(.refused)'\n\nLevel 1: secrets exist, programs are found, hosts and credentials work, the backup exists, space suffices, and the forecast from past runs is held against the RTO. Nothing is written anywhere."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs every check and changes nothing.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let prepared = prepare::load_runbook(&args.subject.runbook, &args.subject.inventory)?;
    prepared.demand_sound()?;
    let mode = if args.subject.environment.as_deref() == Some(DRILL) { Mode::Drill } else { Mode::DryRun };
    let identity = RunIdentity::new(mode, &wiring::state_root()?, args::params(&args.subject)?);
    let plan = Arc::new(prepared.bind(&args.subject, &identity)?);
    given::tell(&prepared, &plan);
    if mode == Mode::Drill {
        drill::demand_harmless(&prepared, &args.subject, &identity, &plan)?;
    }
    let hands = invoke::hands(&plan, identity.scratch.join("attempts"), Face::from(args.json))?;
    let missing = invoke::missing_secrets(&plan, &hands);
    for (name, why) in notifier::missing(&plan, &hands) {
        tell!("warning: {why}\n  help: a run is not stopped by it, but what needs `{name}` tells nobody");
    }
    let checked = invoke::ahead(&plan, &prepared.registry, &hands)?;
    let forecast = from_history(&plan)?;
    let refused = missing.len() + checked.iter().filter(|(_, result)| is_refused(result)).count();
    if args.json {
        print_json(&plan, &checked, &missing, &forecast);
    } else {
        for (name, error) in &missing {
            out!("{}  secret `{name}`: {error}", paint(Tone::Bad, "refused"));
        }
        print_steps(&plan, &checked);
        print_forecast(&plan, &forecast);
    }
    match refused {
        0 => {
            tell!("nothing stands against it; nothing was written");
            Ok(Exit::Success)
        }
        refused => Err(Failure::new(Exit::Refused, format!("{refused} of its checks refuse; nothing was written"))),
    }
}

fn is_refused(result: &Result<crate::action::Findings, crate::action::ActionError>) -> bool {
    result.as_ref().map_or(true, crate::action::Findings::refused)
}

fn findings(result: &Preflight) -> Vec<StepFinding> {
    match &result.1 {
        Ok(findings) => findings.0.clone(),
        Err(error) => {
            let info = error.info();
            let message =
                std::iter::once(info.message.clone()).chain(info.causes.clone()).collect::<Vec<_>>().join(": ");
            vec![StepFinding { verdict: Verdict::Refuse, message, help: info.help.clone() }]
        }
    }
}

fn print_steps(plan: &BoundPlan, checked: &[Preflight]) {
    let width = plan.steps.iter().map(|step| step.id.as_str().len()).max().unwrap_or(0);
    out!("{} in {} ({} steps)", plan.name, plan.environment, plan.steps.len());
    for step in &plan.steps {
        let result = checked.iter().find(|(id, _)| *id == step.id);
        let (tone, word) = match result {
            None => (Tone::Quiet, "no check "),
            Some((_, result)) if is_refused(result) => (Tone::Bad, "refused  "),
            Some(_) => (Tone::Good, "checked  "),
        };
        out!("{}  {:width$}  {}", paint(tone, word), step.id.as_str(), step.uses);
        if step.effects.class >= EffectClass::Write {
            for (access, target) in &step.effects.targets {
                let verb =
                    serde_json::to_value(access).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
                out!("{:11}{:width$}  would {verb} {}", "", "", describe_target(target));
            }
        }
        for finding in result.map(findings).unwrap_or_default() {
            let (tone, mark) = match finding.verdict {
                Verdict::Pass => (Tone::Good, "✓"),
                Verdict::Pending => (Tone::Quiet, "…"),
                Verdict::Warn => (Tone::Warn, "!"),
                Verdict::Refuse => (Tone::Bad, "✗"),
            };
            out!("{:11}{:width$}  {} {}", "", "", paint(tone, mark), finding.message);
            if let Some(help) = finding.help {
                out!("{:11}{:width$}    help: {help}", "", "");
            }
        }
    }
}

fn print_forecast(plan: &BoundPlan, forecast: &Forecast) {
    let Some(rto) = plan.objectives.rto else { return };
    if forecast.runs == 0 {
        out!("forecast: none yet, `{}` has never succeeded here; a drill would measure it", plan.name);
        return;
    }
    let median = Duration::from_millis(forecast.median_ms);
    let p95 = Duration::from_millis(forecast.p95_ms);
    let verdict = if p95 > rto.0 { paint(Tone::Bad, "over") } else { paint(Tone::Good, "within") };
    out!(
        "forecast: {} (95 %: {}), {verdict} the RTO of {rto}; from {} past runs{}",
        human_duration(median),
        human_duration(p95),
        forecast.runs,
        if forecast.unmeasured.is_empty() {
            String::new()
        } else {
            format!("; {} steps never measured", forecast.unmeasured.len())
        },
    );
}

fn print_json(
    plan: &BoundPlan,
    checked: &[Preflight],
    missing: &[(String, crate::action::ActionError)],
    forecast: &Forecast,
) {
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let result = checked.iter().find(|(id, _)| *id == step.id);
            json!({
                "id": step.id,
                "uses": step.uses,
                "level": if result.is_some() { 1 } else { 0 },
                "refused": result.is_some_and(|(_, result)| is_refused(result)),
                "effect": step.effects.class,
                "targets": step.effects.targets,
                "findings": result.map(findings).unwrap_or_default(),
            })
        })
        .collect();
    let secrets: Vec<_> =
        missing.iter().map(|(name, error)| json!({ "name": name, "error": error.to_string() })).collect();
    out!(
        "{:#}",
        json!({
            "name": plan.name,
            "environment": plan.environment,
            "params": plan.params,
            "missing_secrets": secrets,
            "steps": steps,
            "forecast": forecast,
        })
    );
}

/// Folds the durations of steps of past successful runs of the same name.
fn from_history(plan: &BoundPlan) -> Result<Forecast, Failure> {
    let mut samples: BTreeMap<StepId, Vec<u64>> = BTreeMap::new();
    let mut counted = 0;
    if let Some(runs) = wiring::existing_runs()? {
        for id in runs.ids().map_err(wiring::runs_failure)?.into_iter().take(200) {
            let dir = runs.dir(&id);
            let Ok(history) = dir.read() else { continue };
            let same = matches!(history.events.first().map(|event| &event.kind), Some(EventKind::RunStarted(header)) if header.name == plan.name);
            let succeeded = matches!(
                history.events.last().map(|event| &event.kind),
                Some(EventKind::RunFinished { exit_code: 0 | 5 | 16, .. })
            );
            if !same || !succeeded {
                continue;
            }
            counted += 1;
            for event in history.events {
                if let EventKind::StepSucceeded { step, elapsed_ms, .. } = event.kind {
                    samples.entry(step).or_default().push(elapsed_ms);
                }
            }
        }
    }
    Ok(forecast(plan, &samples, counted))
}
