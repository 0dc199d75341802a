//! Machines that steps run on: one folder per kind, one list of kinds.
//!
//! A reading handle ([`reader`]) can change nothing; a writing one ([`bind`]) belongs to one attempt.
//! Only the machine of the engine itself exists so far.

mod binding;
mod local;
mod open;
mod reading;

pub use binding::{AttemptBinding, HostSettings};
pub use local::{LocalHost, LocalReader, SecretCommand, local_files};
pub use open::{UnknownHost, bind, reader};
pub use reading::ReadingHost;
