//! One base backup, taken into the stores that have none of its id, and committed there.

use super::super::copies::{Copies, Outcome};
use super::super::delivery::{Arrivals, BackupStore, Delivery};
use super::super::increment::Wanted;
use super::super::last_wal;
use super::BaseBackupParams;
use super::taking::Taking;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::archiving_config;
use crate::base::clock;
use crate::catalog::{self, BackupPlace, Manifest};
use crate::pgformat::SystemId;

/// The primary, and what it tells of itself.
pub(super) struct Server {
    primary: MaintenanceDb,
    pub(super) facts: ServerFacts,
}

impl Server {
    /// Asks the primary.
    ///
    /// # Errors
    /// Fails when it takes no session.
    pub(super) async fn of(cluster: &Cluster, cx: &RunContext) -> Result<Self, ActionError> {
        let primary = MaintenanceDb::own(cluster, cx.about.secrets.as_ref())?;
        let facts = ServerFacts::of(&mut primary.open().await?).await?;
        Ok(Self { primary, facts })
    }
}

/// What a backup is taken with.
pub(super) struct Round<'a> {
    pub(super) params: &'a BaseBackupParams,
    pub(super) cluster: &'a Cluster,
    pub(super) copies: &'a Copies<'a>,
    pub(super) server: &'a Server,
    pub(super) cx: &'a RunContext,
}

/// What a round is to come to, and what may still follow it.
#[derive(Clone, Copy)]
pub(super) struct Others {
    /// In how many of the stores at hand it must arrive.
    pub(super) needed: usize,
    /// How many further stores may still get theirs.
    pub(super) hopeful: usize,
}

/// Where a backup of this step lies in each store: each attempt's is the same.
pub(super) fn place(of: &str, (params, copies): (&BaseBackupParams, &Copies<'_>), cx: &RunContext) -> BackupPlace {
    let id = catalog::backup_id(&cx.about.run.to_string(), of);
    BackupPlace::new(copies.prefix, (catalog::KIND_POSTGRES_BASE, params.tier.as_deref()), &id)
}

impl Round<'_> {
    /// Takes a backup into stores, and commits it in each where all of it arrived.
    ///
    /// # Errors
    /// Fails when too few stores can have it in the end, and when it is cancelled.
    pub(super) async fn bring(
        &self,
        place: &BackupPlace,
        (mut backup_stores, others): (Vec<BackupStore>, Others),
        outcome: &mut Outcome,
    ) -> Result<(), ActionError> {
        let Self { params, cluster, copies, server: Server { primary, facts }, cx } = *self;
        let wanted = Wanted { params, cluster, facts, place, prefix: copies.prefix, cx };
        let prior = wanted.prior(&mut backup_stores, outcome).await?;
        copies.judge(backup_stores.len() + others.hopeful, outcome, cx)?;
        let delivery = Delivery { backup_stores: &backup_stores, place, needed: others.needed };
        let (mut arrivals, clock) = (Arrivals::new(&backup_stores), clock::monotonic());
        let taking = Taking { params, cluster, primary, facts, prior, delivery: &delivery, cx };
        let taken = taking.take(&mut arrivals).await;
        if arrivals.whole() < others.needed && !cx.cancel.is_cancelled() {
            copies.fail(&backup_stores, arrivals, outcome);
            return copies.judge(others.hopeful, outcome, cx);
        }
        let taken = taken?;
        let manifest = taking.manifest(place.id.clone(), &taken)?;
        let own =
            last_wal::OwnWal { segments: taking.finished(&taken, &manifest), system_id: SystemId(facts.system_id) };
        // Before it is one: it could be restored with the WAL of another server only.
        own.demand_unrivalled(cx, cluster).await?;
        let arrivals = arrivals.into_inner();
        delivery.close(&arrivals, clock.elapsed(), cx);
        // First of all: whatever ends the step from here on, what took hours is a backup.
        for (backup_store, arrival) in backup_stores.iter().zip(arrivals) {
            let manifest = arrival.map(|objects| Manifest { objects, ..manifest.clone() });
            copies.commit(outcome, backup_store, manifest.map_err(ActionError::from)).await;
        }
        copies.judge(others.hopeful, outcome, cx)?;
        note_slots(facts, cx);
        self.last_wal(&manifest).await;
        // What came into the archive since.
        own.demand_unrivalled(cx, cluster).await
    }

    /// Waits for the WAL that makes the backup consistent, as far as it may come.
    async fn last_wal(&self, manifest: &Manifest) {
        let Self { params, cluster, server: Server { primary, facts }, cx, .. } = *self;
        if params.source.is_some() {
            last_wal::switch(primary, cx).await;
        }
        let known = (&*cx.about.inventory, cx.about.secrets.as_ref());
        for (fact, help) in archiving_config::otherwise(cluster, known, &facts.archiving.command) {
            cx.reporter.note(format!("warning: {fact}; {help}"), serde_json::Value::Null);
        }
        // What never comes is not waited for.
        if archives(&facts.archiving) && !archiving_config::is_elsewhere(cluster, known.0, &facts.archiving.command) {
            last_wal::wait(manifest, cx, cluster).await;
        }
    }
}

/// Slots are recorded, since no base backup holds them (facts 2.10.21).
fn note_slots(facts: &ServerFacts, cx: &RunContext) {
    if !facts.slots.is_empty() {
        let names: Vec<&str> = facts.slots.iter().map(|slot| slot.name.as_str()).collect();
        let message = format!("replication slots are recorded, not backed up: {}", names.join(", "));
        cx.reporter.note(message, serde_json::json!({ "slots": names }));
    }
}
