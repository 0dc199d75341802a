//! One JSON document of a run, of a shape that other programs can rely on.
//!
//! `schemas/report.schema.json` describes it and is made of the same types. Keys are added, never changed or
//! taken away, within one `format`.

mod document;
mod step;
mod verdict;

pub use document::{render, schema};
