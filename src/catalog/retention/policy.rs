//! The rules that apply, and the moment they are applied at.

use std::collections::BTreeMap;

use crate::base::Timestamp;
use crate::language::inventory::{Inventory, Retention};

/// The retention of every environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// For backups that name no environment, and for the WAL.
    pub own: Retention,
    /// By environment.
    pub environments: BTreeMap<String, Retention>,
}

impl Policy {
    /// One policy for everything.
    #[must_use]
    pub fn single(own: Retention) -> Self {
        Self { own, environments: BTreeMap::new() }
    }

    /// The policy of an inventory, seen from its environment; `None` when it says nothing, so that nothing is pruned.
    #[must_use]
    pub fn of(inventory: &Inventory) -> Option<Self> {
        let own = inventory.retention_in(&inventory.environment)?;
        let each = |name: &String| Some((name.clone(), inventory.retention_in(name)?));
        let mut environments: BTreeMap<String, Retention> = inventory.environments.keys().filter_map(each).collect();
        environments.insert(inventory.environment.clone(), own.clone());
        Some(Self { own, environments })
    }

    /// The retention of backups of an environment; `None` when nothing is said of it, and they are kept.
    #[must_use]
    pub fn for_environment(&self, environment: Option<&str>) -> Option<&Retention> {
        match environment {
            Some(name) if !self.environments.is_empty() => self.environments.get(name),
            Some(_) | None => Some(&self.own),
        }
    }
}

/// What time it is, and the latest time that is known to have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What this machine's clock says.
    pub now: Timestamp,
    /// The newest time that the history of runs knows.
    pub known: Option<Known>,
    /// Whether a doubt about the time stops everything.
    pub trust: ClockTrust,
}

/// A time that is known to have been, and what knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The time.
    pub at: Timestamp,
    /// What was written down then: `run X ended`.
    pub what: String,
}

/// Whether a doubt about the time stops everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockTrust {
    /// It does.
    #[default]
    Checked,
    /// A person says that this machine's clock is right. What is dated in the future stays and counts for nothing.
    Asserted,
}

impl ClockTrust {
    /// As a person who gives a reason says.
    #[must_use]
    pub fn by(reason: Option<&String>) -> Self {
        if reason.is_some() { Self::Asserted } else { Self::Checked }
    }
}

impl Moment {
    /// This moment, as the clock says, with no history to hold it against.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now, known: None, trust: ClockTrust::Checked }
    }

    /// The same, with what a person says of the clock.
    #[must_use]
    pub fn trusted(self, trust: ClockTrust) -> Self {
        Self { trust, ..self }
    }
}
