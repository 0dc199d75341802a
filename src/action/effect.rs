//! What an action may do to the world, declared before it does it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::effect::EffectClass;

/// What is done to one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Destroyed or replaced.
    Destroy,
}

/// One thing a step touches, by the inventory's name or by its canonical place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A database of the inventory (one server), with everything in its data directory.
    Database {
        /// Its name.
        name: String,
    },
    /// A path on a host and everything below it.
    Path {
        /// The host's name.
        host: String,
        /// The path.
        path: PathBuf,
    },
    /// A socket or port on a host.
    Port {
        /// The host's name.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// A service of the inventory.
    Service {
        /// Its name.
        name: String,
    },
    /// A prefix of a store of the inventory.
    Store {
        /// Its name.
        name: String,
        /// The prefix below the store's URL.
        prefix: String,
    },
    /// Anything below an URL.
    Url {
        /// The URL's prefix.
        prefix: String,
    },
}

/// Everything a step may do. Pure: computed at bind from bound arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Effects {
    /// The widest effect.
    pub class: EffectClass,
    /// Each target with what is done to it.
    pub targets: Vec<(Access, Target)>,
    /// Programs that must exist on the step's host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
    /// Databases that no other run may replace meanwhile, though this step only reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
}

impl Effects {
    /// No target yet, of the given class.
    #[must_use]
    pub fn of(class: EffectClass) -> Self {
        Self { class, ..Self::default() }
    }

    /// Adds a target.
    #[must_use]
    pub fn target(mut self, access: Access, target: Target) -> Self {
        self.targets.push((access, target));
        self
    }

    /// Adds a database that no other run may replace meanwhile.
    #[must_use]
    pub fn hold(mut self, database: impl Into<String>) -> Self {
        self.holds.push(database.into());
        self
    }

    /// Adds a program that must exist.
    #[must_use]
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.programs.push(program.into());
        self
    }
}
