//! What a recovery came to: how far it went, what did not come back, and what the server needs from people now.

use std::path::PathBuf;

use serde_json::json;

use super::super::emptied::Unlogged;
use super::super::proof;
use super::super::recover::{InstanceState, RecoverLoss, RecoverOutput};
use super::super::replay::Arrival;
use super::Completion;
use crate::action::{ActionError, Files, InstanceHandle, Waits};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::flushed::Flushed;
use crate::actions::postgres::restore::marker::Remains;
use crate::actions::postgres::session::connect::Session;
use crate::base::Timestamp;
use crate::catalog::recovery::Goal;
use crate::event::Coverage;
use crate::pgformat::{Lsn, TimelineHistory};

/// The standbys that commits wait for in vain; no row where they do not wait (manual, `synchronous_commit`).
const HELD_UP: &str = "SELECT current_setting('synchronous_standby_names') \
 WHERE current_setting('synchronous_standby_names') <> '' \
 AND current_setting('synchronous_commit') NOT IN ('off', 'local') \
 AND NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))";

impl Completion<'_> {
    /// Whether all that the old server is known to have flushed came back. What it wrote on a timeline that was not followed
    /// did not, however far the other one leads.
    pub(super) fn came_back(&self, arrival: &Arrival, reached: Lsn) -> bool {
        self.marker.flushed().is_some_and(|flushed| flushed.came_back(&self.history(arrival), reached))
    }

    /// When a recovery since the incident had opened the timeline that was followed: its commits are not the lost server's.
    fn opened_since(&self) -> Option<Timestamp> {
        self.course().promoted_at.filter(|at| *at > self.context.cx.about.incident_at)
    }

    /// The history of the timeline that the server is on; nothing but that timeline where its file is not there.
    fn history(&self, arrival: &Arrival) -> TimelineHistory {
        let path = self.context.cluster.pgdata.join("pg_wal").join(arrival.timeline.history_file());
        let bytes = self.context.cx.host.read_files().read(&path, 4 << 20).ok();
        let parsed =
            bytes.and_then(|text| TimelineHistory::parse(arrival.timeline, &String::from_utf8_lossy(&text)).ok());
        parsed.unwrap_or_else(|| TimelineHistory::root(arrival.timeline))
    }

    /// Whether less came back than the old server is known to have flushed, though no target asked for less.
    pub(super) fn is_short(&self, arrival: &Arrival, reached: Lsn) -> bool {
        self.marker.last_flushed.is_some() && !self.marker.to_target && !self.came_back(arrival, reached)
    }

    /// Says when less came back than the old server is known to have flushed, unless a target asked for less.
    pub(super) fn note_shortfall(&self, arrival: &Arrival, reached: Lsn) {
        let Some(flushed) = self.marker.flushed().filter(|_| self.is_short(arrival, reached)) else { return };
        let Flushed { timeline, lsn } = flushed;
        let history = self.history(arrival);
        // A recovery that fell short leaves the timeline where it ended.
        let left = history.switch_of(timeline).filter(|left| *left < lsn && *left < reached);
        let message = match (left, timeline == history.timeline() || history.switch_of(timeline).is_some()) {
            (Some(left), _) => format!(
                "the old server had flushed up to {lsn} on timeline {timeline}, which was left at {left}: what it wrote there \
                 since did not come back"
            ),
            (None, true) => format!(
                "the recovery ended at {reached}, but the old server had flushed up to {lsn}: what lies between did not come back"
            ),
            (None, false) => format!(
                "the old server had flushed up to {lsn} on timeline {timeline}, which the recovery did not follow: what was \
                 written on that one did not come back"
            ),
        };
        let left = left.map(|left| left.to_string());
        let data =
            json!({ "reached": reached.to_string(), "flushed": lsn.to_string(), "timeline": timeline.0, "left": left });
        self.context.cx.reporter.note(message, data);
    }

    pub(super) fn output(&self, files: &dyn Files, arrival: Arrival, recovered_to: Lsn) -> RecoverOutput {
        let cluster = self.context.cluster;
        let marker = &self.marker;
        let kept: PathBuf = cluster.kept(files, &marker.run);
        let kept = matches!(files.facts(&kept), Ok(Some(_))).then_some(kept);
        let reached = self.came_back(&arrival, recovered_to);
        let remains = marker.remains.and_then(|remains| match remains {
            Remains::Nothing => None,
            Remains::Since(at) => Some(at),
        });
        let is_before = |at: &Timestamp| *at <= self.context.cx.about.incident_at;
        let lost_since = self.course().lost_since.filter(is_before).filter(|_| !marker.to_target);
        let complete_until = [remains, lost_since].into_iter().flatten().min();
        let whole = reached || marker.to_target || marker.remains == Some(Remains::Nothing);
        let whole = whole && lost_since.is_none();
        let newest: Option<Timestamp> =
            arrival.newest_commit.or(marker.waits.and_then(|waiting| waiting.newest_commit));
        let loss = match self.opened_since().filter(|_| !whole) {
            None => proof::loss(whole, newest, marker.ended_at),
            Some(at) => {
                let message = format!(
                    "what was committed since {at}, when an earlier recovery opened the server, says nothing of what the lost one \
                     had: the loss counts from the end of the backup"
                );
                self.context.cx.reporter.note(message, json!({ "opened_at": at }));
                let loss = proof::loss(whole, None, marker.ended_at);
                RecoverLoss { newest_commit_at: loss.newest_commit_at.filter(is_before), ..loss }
            }
        };
        let coverage = if lost_since.is_some() { Coverage::WrittenBeside } else { loss.coverage };
        // A time behind the last commit is no target: all that there is came back.
        let chosen = match (marker.to_target, marker.by_landmark) {
            (true, true) => loss.newest_commit_at,
            (true, false) => marker.asked.as_ref().and_then(|asked| match asked.goal {
                Goal::Time(at) => Some(at),
                Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
            }),
            (false, _) => None,
        };
        RecoverOutput {
            instance: InstanceHandle {
                waits: arrival.waits,
                run: arrival.waits.map(|_| marker.run.clone()),
                ..cluster.instance()
            },
            state: match arrival.waits {
                None => InstanceState::Open,
                Some(Waits::Paused) => InstanceState::Paused,
                Some(Waits::Standby) => InstanceState::Standby,
            },
            recovered_to_lsn: recovered_to.to_string(),
            replayed_bytes: Some(recovered_to.bytes_since(self.course().start)),
            recovered_to_time: newest,
            as_of: newest.max(marker.started_at),
            timeline: arrival.timeline.0,
            last_flushed_lsn: marker.last_flushed.map(|lsn| lsn.to_string()),
            loss: RecoverLoss { coverage, complete_until, chosen_target_at: chosen, ..loss },
            kept,
            archived: None,
            slots: Vec::new(),
            standbys: Vec::new(),
            subscriptions: Vec::new(),
            prepared: Vec::new(),
            emptied: Vec::new(),
            waits_for_standby: None,
        }
    }

    /// Says which tables are empty now, whatever was in them. A server that does not tell it is open all the same.
    pub(super) async fn emptied(&self) -> Vec<String> {
        let RecoveryContext { cluster, cx, .. } = self.context;
        let (message, names) = match Unlogged::of(cluster, cx.about.secrets.as_ref()).await {
            Ok(all) => match all.told() {
                Some(told) => (
                    format!("warning: tables are empty, as every recovery leaves them: {told}; fill them anew"),
                    all.names,
                ),
                None => return Vec::new(),
            },
            Err(error) => {
                let words = "unlogged tables, if there are any, are empty; which they are is not known";
                (format!("{words}: {}", error.in_full()), Vec::new())
            }
        };
        cx.reporter.note(message, json!({ "emptied": names }));
        names
    }

    /// Says when each commit will wait for a standby and none is there: the server is open, and applications hang.
    pub(super) async fn held_up(&self, session: &mut Session) -> Result<Option<String>, ActionError> {
        let found = session.query(HELD_UP).await?;
        let names = found.first().map(str::to_owned);
        if let Some(names) = &names {
            let message = format!(
                "every commit waits: `synchronous_standby_names` is `{names}` and no such standby is connected; until one \
                 is, `ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()` lets commits go on"
            );
            self.context.cx.reporter.note(message, json!({ "synchronous_standby_names": names }));
        }
        Ok(names)
    }
}
