//! The list of actions, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Action, Erased, ErasedAction};
use crate::language::vocabulary::Vocabulary;

/// Every action the program knows.
#[derive(Clone, Default)]
pub struct Registry {
    actions: BTreeMap<&'static str, Arc<dyn ErasedAction>>,
}

impl Registry {
    /// Adds an action.
    #[must_use]
    pub fn with<A: Action>(mut self, action: A) -> Self {
        self.actions.insert(A::SPEC.name, Arc::new(Erased::new(action)));
        self
    }

    /// Puts something around each action.
    #[must_use]
    pub fn mapped(&self, around: impl Fn(Arc<dyn ErasedAction>) -> Arc<dyn ErasedAction>) -> Self {
        Self { actions: self.actions.iter().map(|(name, action)| (*name, around(Arc::clone(action)))).collect() }
    }

    /// Gives an action by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn ErasedAction>> {
        self.actions.get(name)
    }

    /// Gives all names in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.actions.keys().copied()
    }

    /// Gives all actions in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn ErasedAction>> {
        self.actions.values()
    }
}

impl Vocabulary for Registry {
    fn actions(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    fn params_schema(&self, action: &str) -> Option<Value> {
        self.get(action).map(|action| action.params_schema())
    }

    fn output_schema(&self, action: &str) -> Option<Value> {
        self.get(action).map(|action| action.output_schema())
    }
}
