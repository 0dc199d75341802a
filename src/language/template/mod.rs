//! Templates: strict, bounded, and blind to the values of secrets.
//!
//! A text with `{{` is a template; one that is exactly one `{{ … }}` keeps the type of its value.
//! There is no file, network or process here, fuel bounds the work and [`MAX_OUTPUT`] the result; what neither can stop
//! is refused by its form.
//! A secret is an object that renders as its token (`base::secret::token`), so values never meet
//! templates; whoever uses the result puts them in at the last moment.

mod environment;
mod error;
mod filter;
mod measure;
mod reference;
mod render;
mod scope;
mod shape;

#[cfg(test)]
mod tests;

pub use environment::MAX_OUTPUT;
pub use error::{TemplateError, TemplateErrorKind};
pub use reference::{Reference, TextKind, references};
pub use render::{Rendered, evaluate, render};
pub use scope::Scope;
pub use shape::{is_expression, is_template};
