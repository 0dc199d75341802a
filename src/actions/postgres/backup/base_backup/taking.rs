//! A backup that is being taken: what the server sends flows into the stores, and is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::bad_page;
use super::super::collect::{Collected, Job};
use super::super::delivery::{Arrivals, Delivery};
use super::super::increment::Prior;
use super::super::linked::Linked;
use super::super::outside::ConfigurationPlaces;
use super::BaseBackupParams;
use super::origin::{same_cluster, source};
use super::restartpoint::bring_forward;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::{Endpoint, Session};
use crate::actions::postgres::session::facts::ServerFacts;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::{Digest, Timestamp};
use crate::catalog::{self, Manifest, PostgresFacts, ServerConfiguration};
use crate::pgformat::{SegmentName, SegmentSize, SystemId};

/// How long a server is asked again that takes no sessions after it has sent everything.
const ASKED_AGAIN_FOR: Duration = Duration::from_secs(60);

/// A backup that is being taken.
pub(super) struct Taking<'a> {
    pub(super) params: &'a BaseBackupParams,
    pub(super) cluster: &'a Cluster,
    pub(super) primary: &'a MaintenanceDb,
    pub(super) facts: &'a ServerFacts,
    pub(super) prior: Option<Prior>,
    pub(super) delivery: &'a Delivery<'a>,
    pub(super) cx: &'a RunContext,
}

/// What was taken, and when.
pub(super) struct Taken {
    collected: Collected,
    label: String,
    started_at: Timestamp,
    data_at: Option<Timestamp>,
    stopped_at: Timestamp,
    configuration: Option<ServerConfiguration>,
}

impl Taking<'_> {
    /// Streams everything into the stores and judges it. No session is kept open meanwhile: it would be idle for hours,
    /// and servers, poolers and firewalls end such.
    pub(super) async fn take(&self, arrivals: &mut Arrivals) -> Result<Taken, ActionError> {
        let Self { params, cluster, primary, facts, ref prior, delivery, cx } = *self;
        let source = source(params, cluster, (&cx.about.inventory, &cx.about.scratch))?;
        let endpoint = Endpoint::of(&source, None, cx.about.secrets.as_ref())?;
        let sessions = MaintenanceDb::own(&source, cx.about.secrets.as_ref())?;
        same_cluster((&endpoint, &sessions), facts, params).await?;
        if let (Some(_), Some(prior)) = (&params.source, prior) {
            bring_forward((primary, &sessions), prior, cx).await?;
        }
        let started_at = server_time(&mut primary.open().await?).await?;
        let data_at = match params.source {
            Some(_) => Some(standby_at(&mut sessions.open().await?).await?.min(started_at)),
            None => None,
        };
        let job = Job { params, facts, endpoint: &endpoint, delivery, prior: prior.as_ref(), cx };
        let mut collected = job.run(arrivals).await?;
        // Without it all that was streamed is lost.
        let mut session = primary.open_within(ASKED_AGAIN_FOR, &cx.cancel).await?;
        let (stopped_at, places) = (server_time(&mut session).await?, ConfigurationPlaces::of(&mut session).await?);
        drop(session);
        unchanged(facts, &collected)?;
        bad_page::judge(&mut collected.bad_pages, params.on_bad_page, cluster, cx).await?;
        places.bring(delivery, arrivals, (cluster, cx)).await;
        let linked = Linked { left_out: &collected.left_out, configuration: places.within() };
        let missing = linked.bring(delivery, arrivals, (cluster, cx)).await;
        let configuration = places.recorded(&missing);
        Ok(Taken { collected, label: job.label(), started_at, data_at, stopped_at, configuration })
    }

    /// SHA-256 of the segments that make it consistent, as far as they are finished: to the last one of a standby its server
    /// still adds, and a primary switches to the next at the end of the backup.
    pub(super) fn finished(&self, taken: &Taken, manifest: &Manifest) -> BTreeMap<SegmentName, Digest> {
        let mut names = manifest.postgres.as_ref().map(PostgresFacts::segments).unwrap_or_default();
        if self.params.source.is_some() || self.facts.in_recovery {
            names.pop();
        }
        let sent = |name: SegmentName| Some((name, *taken.collected.segments.get(&name)?));
        names.into_iter().filter_map(sent).collect()
    }

    pub(super) fn manifest(&self, id: String, taken: &Taken) -> Result<Manifest, ActionError> {
        let Taken { collected, label, started_at, data_at, stopped_at, configuration } = taken;
        let (data_at, started_at, stopped_at) = (*data_at, *started_at, *stopped_at);
        let postgres = PostgresFacts { configuration: configuration.clone(), ..described(self.facts, collected)? };
        Ok(Manifest {
            run: Some(self.cx.about.run.to_string()),
            tier: self.params.tier.clone(),
            environment: Some(self.cx.about.environment.clone()),
            parent: self.prior.as_ref().map(|prior| prior.id.clone()),
            postgres: Some(postgres),
            label: Some(label.clone()),
            data_at,
            ..Manifest::new(id, catalog::KIND_POSTGRES_BASE, &self.cluster.name, (started_at, stopped_at))
        })
    }
}

/// Refuses a backup that a new tablespace slipped into.
fn unchanged(facts: &ServerFacts, collected: &Collected) -> Result<(), ActionError> {
    let known: BTreeSet<u32> = facts.tablespaces.iter().map(|tablespace| tablespace.oid).collect();
    match collected.tablespaces.iter().find(|oid| !known.contains(oid)) {
        None => Ok(()),
        Some(made) => {
            let fact = format!("tablespace {made} was created while the backup began");
            Err(ActionError::retryable(fact).help("run the step again"))
        }
    }
}

fn described(facts: &ServerFacts, collected: &Collected) -> Result<PostgresFacts, ActionError> {
    let bytes = facts.wal_segment_bytes;
    let size = u32::try_from(bytes).ok().and_then(SegmentSize::new);
    Ok(PostgresFacts {
        server_version: facts.version.clone(),
        system_id: SystemId(facts.system_id),
        timeline: collected.timeline,
        start_lsn: collected.start,
        stop_lsn: collected.stop,
        segment_size: size.ok_or_else(|| ActionError::fatal(format!("segments of {bytes} bytes are impossible")))?,
        tablespaces: facts.tablespaces.clone(),
        slots: facts.slots.clone(),
        standbys: facts.standbys.clone(),
        data_checksums: Some(facts.data_checksums),
        archiving: Some(facts.archiving.clone()),
        databases: facts.databases.clone(),
        preload_libraries: facts.preload_libraries.clone(),
        bad_pages: collected.bad_pages.iter().map(ToString::to_string).collect(),
        configuration: None,
    })
}

/// Asks a standby up to when, by the primary's clock, it has all that was committed: the newest commit that it replayed, or where
/// it knows of none the last checkpoint of the primary that it can begin at.
async fn standby_at(session: &mut Session) -> Result<Timestamp, ActionError> {
    let text = session
        .value(
            "SELECT to_char(coalesce(pg_last_xact_replay_timestamp(), checkpoint_time) AT TIME ZONE 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_control_checkpoint()",
        )
        .await?;
    text.parse().map_err(|_| ActionError::fatal(format!("the standby's position `{text}` makes no sense")))
}

pub(crate) async fn server_time(session: &mut Session) -> Result<Timestamp, ActionError> {
    let text = session
        .value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        .await?;
    text.parse().map_err(|_| ActionError::fatal(format!("the server's time `{text}` makes no sense")))
}
