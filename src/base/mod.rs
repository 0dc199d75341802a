//! What every room may use: ids, digests, the clock, units, secrets and diagnostics.

pub mod age;
pub mod boot;
pub mod clock;
pub mod cron;
pub mod diagnostic;
pub mod digest;
pub mod effect;
pub mod id;
pub mod machine;
pub mod mode;
pub mod mounts;
pub mod pool;
pub mod process;
pub mod redact;
pub mod seal;
pub mod secret;
pub mod shell;
pub mod signer;
pub mod tls;
pub mod units;
pub mod zone;

pub use clock::Timestamp;
pub use digest::Digest;
pub use id::{Attempt, EventSeq, RunId, StepId};
