//! What people and other programs see of a run: screen, lines, summary, documents.
//!
//! Every face is a fold of events: it takes a plan, a [`crate::state::RunState`] or the events
//! themselves, and never asks the world. Live faces implement [`crate::port::Sink`]; colours come
//! as a [`Palette`], because nothing here reads the environment.

pub mod checklist;
pub mod difference;
mod downtime;
pub mod html;
pub mod json;
pub mod jsonl;
pub mod junit;
mod line;
pub mod markdown;
mod next;
mod palette;
mod phrase;
pub mod plain;
mod progress;
mod remark;
#[cfg(test)]
mod rich;
#[cfg(test)]
mod rich_tests;
mod roster;
pub mod summary;
pub mod terminal;
#[cfg(test)]
mod tests;
mod waiting;
pub mod window;

pub use downtime::{leaves_stopped, moves_a_server, moves_server};
pub use line::speaks;
pub use palette::{Palette, Tone};
pub use phrase::{mask_text, mask_value, outcome_sentence, verb as verb_name};
