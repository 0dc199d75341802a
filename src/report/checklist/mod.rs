//! A plan for people: what would be done, in order, and what a person types to the same end.
//!
//! One model, [`Checklist`], made by [`checklist`]; three faces of it: text for a terminal, Markdown and HTML
//! for paper. None of them shows the value of a secret: there is none in the model.

mod build;
mod html;
mod item;
mod markdown;
mod model;
mod text;

pub use build::{Material, checklist, secrets};
pub use html::html;
pub use markdown::markdown;
pub use model::{Checklist, Expected, Item, Part, Resource, SecretNeed};
pub use text::text;
