//! What may not be left to people: rules of steps that ask them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::graph::StepGraph;
use super::model::StepKind;
use crate::action::ParamFault;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::mode::Mode;
use crate::language::inventory::{InventoryFile, choose_environment};
use crate::language::runbook::Step;

/// Says of every approval, as far as its arguments are literal, when nobody could give it, or nobody would have to
/// in the environment that a run takes by itself.
pub(super) fn check(graph: &StepGraph<'_>, inventory: &InventoryFile, found: &mut Diagnostics) {
    let environment = choose_environment(inventory, None).ok().and_then(|name| inventory.environments.get(&name));
    let protected = environment.is_some_and(|environment| environment.protected);
    for index in 0..graph.len() {
        let step = graph.step(index).1;
        if StepKind::of(&step.uses.value) != StepKind::Approval {
            continue;
        }
        let goes_on = refuse(protected && graph.takes_part(index, Mode::Real), &step.uses.value, &step.with).err();
        for fault in goes_on.into_iter().chain(unreachable(step)) {
            let place = step.with_places.get(&fault.path).copied().unwrap_or(step.at);
            let told = Diagnostic::new(Code::BadCombination, fault.message).at(place);
            found.push(fault.help.into_iter().fold(told, Diagnostic::help));
        }
    }
}

/// A quorum that the approvers cannot reach.
fn unreachable(step: &Step) -> Option<ParamFault> {
    let quorum = step.with.get("quorum")?.as_u64()?;
    let approvers: BTreeSet<&str> = step.with.get("approvers")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let too_many = usize::try_from(quorum).is_ok_and(|quorum| quorum > approvers.len());
    let message = format!("a quorum of `{quorum}` cannot be reached by {} approvers", approvers.len());
    let fault = ParamFault::new("/quorum", message).help("name more `approvers`, or lower `quorum`");
    (too_many && !approvers.is_empty()).then_some(fault)
}

/// Refuses an approval that gives itself in a protected environment.
///
/// # Errors
/// Gives the argument that is refused.
pub fn refuse(protected: bool, uses: &str, with: &Value) -> Result<(), ParamFault> {
    let approves_itself = StepKind::of(uses) == StepKind::Approval && with["on_timeout"] == "continue";
    if !(protected && approves_itself) {
        return Ok(());
    }
    let message = "`on_timeout: continue` goes on without an approval, which a protected environment forbids";
    Err(ParamFault::new("/on_timeout", message).help("write `on_timeout: pause`, or `abort`"))
}
