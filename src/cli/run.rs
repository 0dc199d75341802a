//! `runbook run`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::args::{self, Subject};
use super::frozen::{self, Thawed};
use super::invoke::Invocation;
use super::locking::Courtesy;
use super::prepare::{self, Prepared, RunIdentity};
use super::screen::Face;
use super::{Exit, Failure, given, restart};
use crate::action::Mode;
use crate::engine::Presence;
use crate::plan::{INCIDENT_AT, UndoPolicy};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook run full-db-loss -p database=orders -p incident_at='5m ago' --confirm production\n  runbook run nightly.yaml --json | jq -c .kind\n  runbook run approved.plan -p incident_at='5m ago' --confirm production   exactly what `runbook plan -o` froze, or nothing\n\nBefore the first step every step's check runs; a refusal ends with code 4 and nothing was changed.\nCtrl-C cancels and runs `finally`; once more kills what runs; a third time leaves at once."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Confirms a run in a protected environment: its name
    #[arg(long, value_name = "ENVIRONMENT")]
    confirm: Option<String>,
    /// When a step fails, undo what was done, last first, before `finally`
    #[arg(long)]
    undo_on_failure: bool,
    /// Begin with this step: what comes before it and beside it is taken from the run named with `--of`
    #[arg(long, value_name = "STEP", requires = "of")]
    from: Option<String>,
    /// The finished run whose steps are not made again
    #[arg(long, value_name = "RUN", requires = "from")]
    of: Option<String>,
    /// Tell a live run that holds a lock to end and make room, unless it replaces data itself
    #[arg(long)]
    preempt: bool,
    /// Wait for people, also where none sits at a terminal; else the run is suspended
    #[arg(long)]
    wait: bool,
    /// Write events and progress as JSON lines to standard output
    #[arg(long)]
    json: bool,
}

/// Carries a runbook out, for real.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let is_changed = args.from.is_some() || args.undo_on_failure;
    if is_changed && frozen::read(&args.subject.runbook)?.is_some() {
        let message = "a plan file is carried out as it is, so `--from` and `--undo-on-failure` do not go with it";
        return Err(Failure::new(Exit::Usage, message).help("name the runbook itself"));
    }
    let Thawed { prepared, subject, mut params } = subject(args.subject)?;
    let mut invocation = Invocation::new(Face::from(args.json), args.confirm)?;
    if args.wait {
        invocation.presence = Presence::SomebodyThere;
    }
    if args.preempt {
        invocation.courtesy = Courtesy::Preempt;
    }
    ask_missing(&prepared, &mut params, invocation.face);
    let identity = RunIdentity::new(Mode::Real, invocation.runs.root(), params);
    let mut plan = prepared.bind(&subject, &identity)?;
    given::tell(&prepared, &plan);
    if args.undo_on_failure {
        plan.undo = UndoPolicy::OnFailure;
    }
    let seeds = match (&args.from, &args.of) {
        (Some(step), Some(of)) => restart::from(&invocation.runs, &mut plan, (step, of))?,
        (Some(_) | None, _) => Vec::new(),
    };
    let carried = invocation.seeded(plan, seeds)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}

/// A runbook as it is now, or a plan whose world is as it was.
fn subject(asked: Subject) -> Result<Thawed, Failure> {
    if let Some(file) = frozen::read(&asked.runbook)? {
        let thawed = frozen::thaw(&file, &asked)?;
        let (made, version) = (file.plan.started_at.strftime("%F %T"), &file.program);
        tell!("plan: {}, made {made} UTC by version {version}, digest {}", asked.runbook, file.digest().short());
        return Ok(thawed);
    }
    let prepared = prepare::load_runbook(&asked.runbook, &asked.inventory)?;
    prepared.demand_sound()?;
    let params = args::params(&asked)?;
    Ok(Thawed { prepared, subject: asked, params })
}

/// Asks at a terminal for required parameters that were not given.
fn ask_missing(prepared: &Prepared, params: &mut std::collections::BTreeMap<String, serde_json::Value>, face: Face) {
    let can_ask = face == Face::People && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !can_ask {
        return;
    }
    for (name, param) in &prepared.plan.runbook.params {
        let wanted = param.default.is_none() && param.required.unwrap_or(true);
        if !wanted || params.contains_key(&name.value) {
            continue;
        }
        let hint = if name.value == INCIDENT_AT { " (for example `5m ago`)" } else { "" };
        tell_part!("{}{hint}\n{}: ", param.description, name.value);
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).is_ok() && !line.trim().is_empty() {
            params.insert(name.value.clone(), serde_json::Value::String(line.trim().to_owned()));
        }
    }
}
