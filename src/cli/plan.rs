//! `runbook plan`: what a run would do; with `-o`, a file that `runbook run` carries out exactly or not at all.

use std::path::PathBuf;

use super::args::Subject;
use super::outline::outline;
use super::{Exit, Failure, frozen, given, graph, prepare, screen, wiring};
use crate::plan::PlanFile;
use crate::report::checklist::text;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook plan full-db-loss -p database=orders\n  runbook plan full-db-loss -p database=orders -o orders.plan   freeze it, have it reviewed …\n  runbook plan orders.plan                                      … look at it again, and whether it still holds …\n  runbook run orders.plan -p incident_at='5m ago' --confirm production\n\n`incident_at` may be left open. A plan holds names of secrets, never values. Code 4: a plan file does not hold any more; each difference is named."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Freeze the plan into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows or freezes a plan.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let registry = crate::actions::registry();
    if let Some(file) = frozen::read(&args.subject.runbook)? {
        if args.output.is_some() {
            return Err(Failure::new(Exit::Usage, "this is a plan already").help("freeze the runbook itself again"));
        }
        show(&file, &registry, args.json)?;
        frozen::thaw(&file, &args.subject)?;
        tell!("it holds: nothing differs from what was frozen (digest {})", file.digest());
        return Ok(Exit::Success);
    }
    let prepared = prepare::load_runbook(&args.subject.runbook, &args.subject.inventory)?;
    prepared.demand_sound()?;
    let file = frozen::freeze(&prepared, &args.subject, &wiring::state_root()?)?;
    given::tell(&prepared, &file.plan);
    for name in &file.open {
        tell!("{name}: open; give it with `runbook run … -p {name}=…`");
    }
    let Some(path) = &args.output else {
        show(&file, &registry, args.json)?;
        return Ok(Exit::Success);
    };
    let text = file.to_text().map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
    graph::write(&text, Some(path))?;
    let digest = PlanFile::read(&text).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?.digest();
    tell!("{}: {} steps, digest {digest}", path.display(), file.plan.steps.len());
    Ok(Exit::Success)
}

fn show(file: &PlanFile, registry: &crate::action::Registry, json: bool) -> Result<(), Failure> {
    let list = outline(file.plan.clone(), registry, &file.open)?;
    if json {
        let value = serde_json::to_string_pretty(&list).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
        return graph::write(&value, None);
    }
    graph::write(&text(&list, screen::out_palette()), None)
}
