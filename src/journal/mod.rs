//! Where runs are kept: the journal of each, the directory of all, and the proof that nothing was changed.
//!
//! Start with [`runs`] for the directory of all runs and [`run`] for one of them; [`chain`] for the format of a
//! line, [`mod@file`] and [`reader`] for one journal; [`memory`] for tests of the engine.

mod amendment;
pub mod audit;
pub mod chain;
pub mod control;
pub mod delivery;
pub(crate) mod durable;
pub mod erasure;
pub mod evidence;
pub mod export;
pub mod file;
pub mod follow;
pub mod guard;
pub mod head;
pub mod index;
pub mod lease;
pub mod ledger;
pub mod memory;
pub mod reader;
pub mod remains;
pub mod root;
pub mod run;
pub mod runs;
#[cfg(test)]
pub(crate) mod sample;
pub mod ship;
pub mod signature;
pub mod summary;

pub use audit::{AuditReport, Problem, ProblemKind, RunAudit, verify_all, verify_anchored, verify_run};
pub use control::{ControlDir, Verb};
pub use delivery::{Deliveries, Delivery, DeliveryResult, read_deliveries};
pub use file::FileJournal;
pub use follow::{Follow, follow};
pub use guard::{Driver, RunLock};
pub use head::{Head, HeadError, Signed};
pub use index::{Index, IndexError, RunFilter, StepSample, bytes_of};
pub use lease::{Lease, LeaseState, Leases};
pub use ledger::{Anchor, Anchored, Ledger, LedgerError, LedgerLine, RunOrder};
pub use memory::{Fault, MemoryJournal};
pub use reader::{History, Opened, Tail, open_for_resume, read};
pub use remains::Remains;
pub use root::{RootError, RootFacts, SystemRoot, choose_root, probe_system_root};
pub use run::RunDir;
pub use runs::{CreatedRun, Runs, RunsError};
pub use signature::{AllowedSigners, SignKey, SignatureError};
pub use summary::{RunStatus, RunSummary};
