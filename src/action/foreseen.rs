//! What checks ahead of a run tell each other: outputs that are to be expected as things are now.
//!
//! A step that is checked before the first one runs waits for outputs of earlier steps. Some of those can be foreseen: the
//! backup that a search would choose is known, unless a step before it makes another. A foreseen value proves nothing of
//! the run; whoever judges by it judges again when the step starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Late;

/// What is foreseen of the outputs that one check waits for, and what it foresees of its own.
#[derive(Debug, Clone, Default)]
pub struct Foreseen {
    expected: BTreeMap<String, Expected>,
    machine: Machine,
    told: Arc<Mutex<Map<String, Value>>>,
}

/// An output that an expression will give.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Its name.
    pub output: String,
    /// All that is foretold of its step.
    pub told: Map<String, Value>,
}

/// Whether a machine is by now what it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Machine {
    /// Nothing before the step is said to change it.
    #[default]
    AsItIs,
    /// A step before it has a person or a program make it ready: disks, programs and servers may come.
    MadeReady,
}

impl Foreseen {
    /// Gives a check what is foreseen, by the expressions that will give it.
    #[must_use]
    pub fn with(expected: BTreeMap<String, Expected>, machine: Machine) -> Self {
        Self { expected, machine, told: Arc::default() }
    }

    /// Whether what is on the machine counts already.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The value of an argument: the known one, or the one to be expected.
    #[must_use]
    pub fn of<T: DeserializeOwned + Clone>(&self, late: &Late<T>) -> Option<T> {
        match late {
            Late::Known(value) => Some(value.clone()),
            Late::Pending(expression) => {
                let expected = self.expected.get(expression)?;
                serde_json::from_value(expected.told.get(&expected.output)?.clone()).ok()
            }
        }
    }

    /// What else is foretold under `name` of the step that an argument waits for.
    #[must_use]
    pub fn beside<T, U: DeserializeOwned>(&self, late: &Late<T>, name: &str) -> Option<U> {
        match late {
            Late::Known(_) => None,
            Late::Pending(expression) => {
                serde_json::from_value(self.expected.get(expression)?.told.get(name)?.clone()).ok()
            }
        }
    }

    /// Foretells an output of the step.
    pub fn tell(&self, output: &str, value: &impl Serialize) {
        // What cannot be written is foreseen by nobody.
        if let Ok(value) = serde_json::to_value(value) {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(output.to_owned(), value);
        }
    }

    /// The outputs that were foretold.
    #[must_use]
    pub fn told(&self) -> Map<String, Value> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_value_is_the_one_that_was_foreseen_and_a_known_one_stays_itself() {
        let told = [("id".to_owned(), Value::from("b1")), ("age".to_owned(), Value::from(7))].into_iter().collect();
        let expected = Expected { output: "id".to_owned(), told };
        let foreseen = Foreseen::with([("steps.choose.id".to_owned(), expected)].into(), Machine::AsItIs);
        let pending = |expression: &str| Late::<String>::Pending(expression.to_owned());
        assert_eq!(foreseen.of(&pending("steps.choose.id")).as_deref(), Some("b1"));
        assert_eq!(foreseen.of(&pending("steps.other.id")), None);
        assert_eq!(foreseen.beside::<_, u64>(&pending("steps.choose.id"), "age"), Some(7));
        assert_eq!(foreseen.of(&Late::Known("b2".to_owned())).as_deref(), Some("b2"));
        foreseen.clone().tell("id", &"b3");
        assert_eq!(foreseen.told().get("id"), Some(&Value::from("b3")));
    }
}
