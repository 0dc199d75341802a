//! Asks before a protected environment is touched: `--confirm NAME`, or that word typed at a prompt.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::{Exit, Failure};
use crate::action::{Access, EffectClass, Target};
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
    tell!("\n{} is about to run in the protected environment {}:", plan.name, plan.environment);
    for step in plan.steps.iter().filter(|step| step.effects.class >= EffectClass::Write) {
        for (access, target) in step.effects.targets.iter().filter(|(access, _)| *access >= Access::Write) {
            let verb = if *access == Access::Destroy { "replaces" } else { "writes to" };
            tell!("  {:16} {verb} {}{}", step.id.to_string(), describe_target(target), place(plan, target));
        }
    }
    for fact in facts {
        tell!("  {fact}");
    }
    tell!();
}

fn place(plan: &BoundPlan, target: &Target) -> String {
    let Target::Database { name } = target else { return String::new() };
    let entry = plan.inventory.databases.get(name);
    entry.map(|entry| format!(" ({} on {})", entry.pgdata.display(), entry.host)).unwrap_or_default()
}
