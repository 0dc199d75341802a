//! Values that this room's unit tests share.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::mode::Mode;
use crate::base::{Digest, RunId, Timestamp};
use crate::event::{Actor, EventKind, FORMAT, RunHeader};
use crate::language::inventory::Inventory;
use crate::language::runbook::Objectives;
use crate::plan::{BoundPlan, Limits, UndoPolicy};

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
        locks: None,
        origin: None,
    }))
}

/// A plan of that run without steps.
pub(crate) fn plan() -> BoundPlan {
    plan_of(run())
}

/// A plan of another run.
pub(crate) fn plan_of(run: RunId) -> BoundPlan {
    BoundPlan {
        format: 1,
        run,
        name: "full-db-loss".to_owned(),
        description: String::new(),
        owner: "platform".to_owned(),
        controls: Vec::new(),
        mode: Mode::Real,
        environment: "prod".to_owned(),
        protected: true,
        actor: Actor { name: "ada".to_owned(), from: "db1".to_owned() },
        started_at: Timestamp::UNIX_EPOCH,
        incident_at: None,
        objectives: Objectives::default(),
        phases: Vec::new(),
        params: BTreeMap::new(),
        vars: BTreeMap::new(),
        inventory: Inventory::default(),
        scratch: "/nowhere".into(),
        steps: Vec::new(),
        limits: Limits { max_parallel: 1 },
        locks: Vec::new(),
        queued_locks: BTreeSet::new(),
        groups: BTreeMap::new(),
        env_vars: BTreeMap::new(),
        undo: UndoPolicy::Never,
        origin: None,
        notify: Vec::new(),
        sources: Vec::new(),
    }
}
