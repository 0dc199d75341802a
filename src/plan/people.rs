//! What may not be left to people: rules of steps that ask them.

use serde_json::Value;

use super::model::StepKind;
use crate::action::ParamFault;

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
