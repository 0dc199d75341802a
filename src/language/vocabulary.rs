//! What the language has to know of actions, without knowing the registry.

use serde_json::Value;

/// The actions a runbook may use.
pub trait Vocabulary {
    /// The names of all actions, in order.
    fn actions(&self) -> Vec<String>;
    /// The JSON schema of an action's `with:`; `None` when there is no such action.
    fn params_schema(&self, action: &str) -> Option<Value>;
    /// The JSON schema of an action's outputs; `None` when there is no such action.
    fn output_schema(&self, action: &str) -> Option<Value>;
}
