//! The engine's own machine.

mod files;
mod machine;
mod program;
mod secret;
mod user;

pub use files::local_files;
pub use machine::{LocalHost, LocalReader};
pub use secret::SecretCommand;
