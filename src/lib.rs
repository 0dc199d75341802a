//! `runbook` runs backup, restore and disaster-recovery procedures written as YAML.
//!
//! Three sentences to remember. Documents become plans without I/O. Plans become events through one
//! pure function. Everything a person or a machine ever sees is a fold of events.
//!
//! Rooms, lower first; a room uses only rooms above it in this list (`tests/it/architecture.rs`
//! holds the code against the same table):
//!
//! | layer | rooms |
//! |---|---|
//! | L0 | `base` |
//! | L1 | `language`, `event`, `pgformat` |
//! | L2 | `port`, `action` |
//! | L3 | `plan`, `state` |
//! | L4 | `engine` |
//! | L5 | `supervisor`, `journal`, `host`, `store`, `transfer`, `catalog`, `lock`, `vault` |
//! | L6 | `actions`, `wal`, `notify` |
//! | L7 | `report` |
//! | L8 | `cli` |

pub mod action;
pub mod actions;
pub mod base;
pub mod catalog;
pub mod cli;
pub mod engine;
pub mod event;
pub mod host;
pub mod journal;
pub mod language;
pub mod lock;
pub mod notify;
pub mod pgformat;
pub mod plan;
pub mod port;
pub mod report;
pub mod state;
pub mod store;
pub mod supervisor;
pub mod transfer;
pub mod vault;
pub mod wal;
