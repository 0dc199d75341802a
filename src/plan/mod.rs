//! Plans: what will be done, decided before anything is done. No I/O.
//!
//! [`model::BoundPlan`] is frozen into `plan.json` and is all the engine ever looks at.

#[cfg(test)]
pub(crate) mod fixture;
pub mod model;
pub mod render;

pub use model::{BoundPlan, Edge, Limits, PlannedStep, Section, Strictness};
