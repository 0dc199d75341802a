//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod action_process;
mod action_service;
mod action_store;
mod architecture;
mod cli_check;
mod cli_guard;
mod cli_live;
mod cli_outputs;
mod cli_resume;
mod cli_run;
mod compat;
mod conformance;
mod crash;
mod damage;
mod decide;
mod demo;
mod diagnostics;
mod docs;
mod drill;
mod engine;
mod groups;
mod kill;
mod newcomer;
mod pgformat;
mod plan_bind;
mod plan_diagnostics;
mod plan_sub;
mod postgres_recovery;
mod prop_engine;
mod prop_language;
mod recovery_kill;
mod supervisor;
mod support;
mod undo;
mod wal;
