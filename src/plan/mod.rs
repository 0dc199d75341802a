//! Plans: what will be done, decided before anything is done. No I/O.
//!
//! [`build`] resolves every reference of a typed runbook and says everything that is wrong with it.
//! [`bind`] adds parameters, environment and run identity; the [`BoundPlan`] is frozen into `plan.json`
//! and is all the engine ever looks at. [`guard`] judges what a run may touch.

mod bind;
mod binder;
mod build;
mod compare;
mod expand;
mod fanout;
#[cfg(test)]
pub(crate) mod fixture;
mod forecast;
mod frozen;
mod graph;
pub mod guard;
mod leaf;
mod lock;
pub mod model;
pub mod notify;
mod outputs;
mod param;
mod people;
mod process;
mod read;
pub mod render;
mod rules;
pub mod schema;
mod sub;
mod text;
mod undo;
mod unified;

pub use bind::{BindError, BindRequest, bind};
pub use build::{Material, Plan, build};
pub use compare::{Change, Comparison, FileChange, StepChange, ValueChange, compare, leaves};
pub use fanout::times;
pub use forecast::{Forecast, History, Sample, StepForecast, ThisTime, forecast};
pub use frozen::{Given, PlanFile, PlanFileError};
pub use graph::{StepGraph, StepIndex};
pub use leaf::{Leaf, at as leaf_at, visit_texts};
pub use lock::of_database as lock_of_database;
pub use model::{
    BoundPlan, Edge, ForEach, GroupScope, Limits, PlanSource, PlannedStep, Section, StepKind, Strictness, UndoPolicy,
};
pub use param::{INCIDENT_AT, names_entry};
pub use sub::SubPlan;
