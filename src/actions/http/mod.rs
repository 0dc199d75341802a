//! Speaking HTTP: `http.check`, and the one way all actions ask an URL.

mod check;
pub(super) mod client;

pub use check::Check;
