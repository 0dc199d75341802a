//! Values that this room's unit tests share.

use crate::base::mode::Mode;
use crate::base::{Digest, RunId, Timestamp};
use crate::event::{Actor, EventKind, FORMAT, RunHeader};

/// A run.
pub(crate) fn run() -> RunId {
    "20260128-143002-3fa9c1".parse().expect("a run id")
}

/// The digest of its plan.
pub(crate) fn plan_digest() -> Digest {
    Digest::of(b"{}")
}

/// Its first event.
pub(crate) fn started() -> EventKind {
    started_with(plan_digest())
}

/// The first event of a run with another plan.
pub(crate) fn started_with(plan: Digest) -> EventKind {
    EventKind::RunStarted(Box::new(RunHeader {
        format: FORMAT,
        name: "full-db-loss".to_owned(),
        mode: Mode::Real,
        environment: "prod".to_owned(),
        actor: Actor { name: "ada".to_owned(), from: "db1".to_owned() },
        pid: 42,
        host: "db1".to_owned(),
        version: "0.1.0".to_owned(),
        plan,
        incident_at: Some(Timestamp::UNIX_EPOCH),
    }))
}
