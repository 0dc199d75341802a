//! What runs created and has to be removed: a fold of their journals, and of the journals of those that reaped.

use std::collections::BTreeMap;

use serde::Serialize;

use super::run::RunDir;
use super::runs::{Runs, RunsError};
use super::summary::{RunStatus, RunSummary};
use crate::base::{RunId, Timestamp};
use crate::event::{Event, EventKind, OriginPurpose};
use crate::state::Resource;

/// Something that a run created.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// The runbook's name.
    pub runbook: String,
    /// Its key within the run.
    pub key: String,
    /// What was registered.
    pub resource: Resource,
    /// Where it stands.
    pub state: LeaseState,
    /// When it was removed, and by which run.
    pub removed: Option<(Timestamp, RunId)>,
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Its run goes on and removes it at its end.
    Live,
    /// Its run has not ended and nobody drives it; whoever resumes it removes it.
    Unfinished,
    /// Its run ended and could not remove it.
    LeftBehind,
    /// It is gone.
    Removed,
}

impl Lease {
    /// Tells whether it outlived its time.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.state != LeaseState::Removed && self.resource.expires_at <= now
    }

    /// Tells whether somebody else than its run may remove it.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match self.state {
            LeaseState::Unfinished | LeaseState::LeftBehind => true,
            LeaseState::Live | LeaseState::Removed => false,
        }
    }
}

/// The leases of all runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leases {
    /// Oldest first.
    pub all: Vec<Lease>,
    /// Runs whose journal cannot be read: what they created is not known.
    pub unread: Vec<RunId>,
}

/// What was reaped: the run it belonged to and its key, when and by whom.
type Reaped = BTreeMap<(RunId, String), (Timestamp, RunId)>;

impl Leases {
    /// Reads the journals of all runs.
    ///
    /// # Errors
    /// Fails when the runs cannot be listed.
    pub fn read(runs: &Runs) -> Result<Self, RunsError> {
        let (mut leases, mut reaped) = (Self::default(), Reaped::new());
        for id in runs.ids()?.into_iter().rev() {
            let dir = runs.dir(&id);
            match dir.read() {
                Ok(history) => leases.take(&dir, &history.events, &mut reaped)?,
                Err(_) => leases.unread.push(id),
            }
        }
        for lease in &mut leases.all {
            let by = reaped.get(&(lease.run.clone(), lease.key.clone()));
            // What was registered again after it had been reaped may be there again.
            if let Some(by) = by.filter(|(at, _)| lease.removed.is_none() && *at > lease.resource.registered_at) {
                (lease.removed, lease.state) = (Some(by.clone()), LeaseState::Removed);
            }
        }
        Ok(leases)
    }

    fn take(&mut self, dir: &RunDir, events: &[Event], reaped: &mut Reaped) -> Result<(), RunsError> {
        let mut summary = RunSummary::fold(dir.id(), events);
        if let Some(origin) = summary.origin.take().filter(|origin| origin.purpose == OriginPurpose::Reap) {
            for (key, at) in events.iter().filter_map(removal) {
                reaped.insert((origin.run.clone(), key.to_owned()), (at, dir.id().clone()));
            }
            return Ok(());
        }
        let mut known: BTreeMap<&str, (Resource, Option<Timestamp>)> = BTreeMap::new();
        for event in events {
            if let Some((key, resource)) = Resource::registered(event) {
                known.insert(key, (resource, None));
            } else if let Some((key, at)) = removal(event)
                && let Some(entry) = known.get_mut(key)
            {
                entry.1 = Some(at);
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        let state = match summary.status {
            RunStatus::Finished { .. } => LeaseState::LeftBehind,
            RunStatus::NeverStarted
            | RunStatus::Live
            | RunStatus::Suspended
            | RunStatus::Interrupted
            | RunStatus::Unread { .. }
            | RunStatus::Damaged { .. } => match dir.is_live()? {
                true => LeaseState::Live,
                false => LeaseState::Unfinished,
            },
        };
        self.all.extend(known.into_iter().map(|(key, (resource, removed))| Lease {
            run: dir.id().clone(),
            runbook: summary.name.clone(),
            key: key.to_owned(),
            resource,
            state: if removed.is_some() { LeaseState::Removed } else { state },
            removed: removed.map(|at| (at, dir.id().clone())),
        }));
        Ok(())
    }

    /// Those of one run that are still there.
    pub fn of<'a>(&'a self, run: &'a RunId) -> impl Iterator<Item = &'a Lease> {
        self.all.iter().filter(move |lease| lease.run == *run && lease.state != LeaseState::Removed)
    }
}

fn removal(event: &Event) -> Option<(&str, Timestamp)> {
    let EventKind::ResourceRemoved { resource } = &event.kind else { return None };
    Some((resource, event.at))
}
