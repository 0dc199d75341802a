//! Which backups and which WAL may go. Pure: it sees what the store holds and says what no rule keeps, and why.
//!
//! A backup stays when *any* rule names it; when none does, it goes. What is damaged, held, not understood or
//! needed by another one always stays, and when time itself is in doubt nothing goes at all. Ages are counted
//! from the newest good backup of the same source and kind and never from the clock: when backups stop, expiry
//! stops with them. Start with [`plan`]; [`super::survey`] reads what it judges from a store.

mod calendar;
mod candidate;
mod chain;
mod plan;
mod policy;
mod reason;
mod rule;
mod stalled;
mod wal;

pub use candidate::{
    Attestations, Candidate, CandidateGroup, CandidateKey, ClusterSpan, DamagedManifest, DumpSeries, Elsewhere, Survey,
    WalSegment,
};
pub use plan::{Kept, Removed, RetentionPlan, plan};
pub use policy::{ClockTrust, Known, Moment, Policy};
pub use reason::{KeepReason, Period, Refusal};
pub use stalled::Stalled;
pub use wal::{WalPlan, WalRange, WalWhy};
