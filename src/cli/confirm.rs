//! Asks before a protected environment is touched: `--confirm NAME`, or that word typed at a prompt.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::{Exit, Failure};
use crate::action::{Access, EffectClass, Target};
use crate::base::machine;
use crate::event::{OriginPurpose, RunOrigin};
use crate::plan::BoundPlan;
use crate::plan::render::describe_target;

/// Demands the confirmation of a real run in a protected environment.
///
/// # Errors
/// Refuses (exit 4) a wrong word, and a missing one where nobody can be asked.
pub fn demand(plan: &BoundPlan, given: Option<&str>, facts: &[String]) -> Result<(), Failure> {
    let refuse = |message: String| {
        Failure::new(Exit::Refused, message).help(format!("add `--confirm {}`; nothing was changed", plan.environment))
    };
    if let Some(word) = given {
        return if word == plan.environment {
            Ok(())
        } else {
            Err(refuse(format!("`--confirm {word}` does not name the environment of this run, `{}`", plan.environment)))
        };
    }
    if !plan.protected {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refuse(format!(
            "the environment `{}` is protected and nobody can be asked here",
            plan.environment
        )));
    }
    describe(plan, facts);
    tell_part!("Type {} to go on: ", plan.environment);
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == plan.environment => Ok(()),
        _ => Err(refuse("the word typed is not the environment's name".to_owned())),
    }
}

/// Says what is about to be changed, in the words of the inventory.
fn describe(plan: &BoundPlan, facts: &[String]) {
    tell!(
        "\n{} is about to {} in the protected environment `{}`, on this machine, {}:",
        plan.name,
        what(plan),
        plan.environment,
        machine::name()
    );
    let width = plan.steps.iter().map(|step| step.id.as_str().len()).max().unwrap_or(0);
    for step in plan.steps.iter().filter(|step| step.effects.class >= EffectClass::Write) {
        let changed = step.effects.targets.iter().filter(|(access, _)| *access >= Access::Write);
        for (access, target) in changed.clone() {
            let verb = if *access == Access::Destroy { "REPLACES" } else { "writes to" };
            tell!("  {:width$}  {verb} {}{}", step.id.as_str(), describe_target(target), place(plan, target));
        }
        if changed.count() == 0 {
            tell!("  {:width$}  changes what its author does not name ({})", step.id.as_str(), step.uses);
        }
    }
    if !facts.is_empty() {
        tell!("What the checks found:");
    }
    for fact in facts {
        tell!("  {fact}");
    }
    tell!();
}

fn what(plan: &BoundPlan) -> String {
    match &plan.origin {
        Some(RunOrigin { run, purpose: OriginPurpose::Undo, .. }) => format!("be undone, as run {run} left it,"),
        Some(RunOrigin { run, purpose: OriginPurpose::Seed, .. }) => format!("go on from run {run}"),
        Some(RunOrigin { run, purpose: OriginPurpose::Reap, .. }) => format!("remove what run {run} left behind"),
        None => "run".to_owned(),
    }
}

fn place(plan: &BoundPlan, target: &Target) -> String {
    let Target::Database { name } = target else { return String::new() };
    let entry = plan.inventory.databases.get(name);
    entry.map(|entry| format!(": {}", entry.place())).unwrap_or_default()
}
