//! Looks at the standbys before a recovery: promoting a healthy one may be the faster way (facts 2.10.21), and where one was
//! promoted already, the services may work there: what they commit would not be in the recovered data.

use std::time::Duration;

use crate::action::{ActionError, CheckContext, ReadFiles, Secrets};
use crate::actions::postgres::cluster::ha_manager::Fact;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::pg_control;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::readable;
use crate::pgformat::{Lsn, SegmentName, SystemId};

/// How long a standby may take to answer: the recovery is not held up by one that is dead.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A standby that answers.
struct Healthy {
    /// Its cluster; `None` where that is hidden from the role.
    system_id: Option<SystemId>,
    lsn: Lsn,
    newest_commit: Option<String>,
}

/// The cluster that a database's data directory holds; `None` where that is gone or cannot be read.
pub(crate) fn held(cluster: &Cluster, files: &dyn ReadFiles) -> Option<SystemId> {
    pg_control::control(files, &cluster.pgdata).ok().map(|control| control.system_id)
}

/// The cluster that a database is: what its data directory holds, else what its newest backup is of. `None` where nobody can
/// tell any more.
pub(crate) async fn known(cluster: &Cluster, cx: &CheckContext) -> Option<SystemId> {
    if let Some(held) = held(cluster, cx.host.read_files().as_ref()) {
        return Some(held);
    }
    let (store, prefix) = cluster.archive().ok()?;
    let backups = readable::newest(cx.store(store).ok()?.as_ref(), prefix, &cluster.name).await.ok()?;
    backups.iter().find_map(|backup| backup.manifest.postgres.as_ref()).map(|facts| facts.system_id)
}

/// Names a standby of the inventory that is none any more: it is open, on the cluster `known`. Of one that may be of another
/// cluster, since either is not known, it says so. `None` for a scratch database.
pub(crate) async fn risen(cluster: &Cluster, known: Option<SystemId>, secrets: &dyn Secrets) -> Option<Fact> {
    if cluster.is_scratch() {
        return None;
    }
    for text in &cluster.entry.standbys {
        let Some((host, port)) = place(text, cluster.port) else { continue };
        let Ok(maintenance_db) = MaintenanceDb::at(cluster, (&host, port), secrets) else { continue };
        let Some(open) = Open::within(maintenance_db).await else { continue };
        let kin = known.zip(open.system_id).map(|(ours, theirs)| ours == theirs);
        if kin == Some(false) {
            continue;
        }
        let own = match MaintenanceDb::own(cluster, secrets) {
            Ok(maintenance_db) => Open::within(maintenance_db).await,
            Err(_) => None,
        };
        // The entry's own server may stand among its standbys: it was promoted, and the inventory was turned round.
        if own.is_some_and(|own| own.is_same_server(&open)) {
            continue;
        }
        let place = format!("{host}:{port}");
        return Some(match kin {
            Some(_) => open.told(&cluster.name, &place),
            None => open.untold((&cluster.name, known), &place),
        });
    }
    None
}

/// A server that takes writes.
struct Open {
    /// When its postmaster started, to the microsecond: it tells one server of a cluster from another.
    started: String,
    system_id: Option<SystemId>,
    segment: String,
    position: String,
    newest_commit: Option<String>,
}

const OPEN: &str = "SELECT pg_postmaster_start_time()::text, pg_walfile_name(pg_current_wal_lsn()), pg_current_wal_lsn() \
 WHERE NOT pg_is_in_recovery()";
const NEWEST: &str = "SELECT to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
 FROM pg_last_committed_xact() WHERE timestamp IS NOT NULL";

impl Open {
    /// Asks as long as anybody waits; `None` also when nobody answers.
    async fn within(maintenance_db: MaintenanceDb) -> Option<Self> {
        tokio::time::timeout(ANSWERS_WITHIN, Self::behind(maintenance_db)).await.ok()?.ok()?
    }

    /// Asks a server; `None` when it is in recovery.
    async fn behind(maintenance_db: MaintenanceDb) -> Result<Option<Self>, ActionError> {
        let mut session = maintenance_db.open().await?;
        if session.value("SELECT pg_is_in_recovery()").await? == "t" {
            return Ok(None);
        }
        let table = session.query(OPEN).await?;
        let text = |column: usize| table.at(0, column).map(str::to_owned);
        let (Some(started), Some(segment), Some(position)) = (text(0), text(1), text(2)) else { return Ok(None) };
        // Either may be hidden from a role without privileges, the second is known only where it is tracked.
        let system_id = cluster_of(&mut session).await;
        let newest_commit = match session.value("SHOW track_commit_timestamp").await {
            Ok(tracked) if tracked == "on" => session.value(NEWEST).await.ok(),
            Ok(_) | Err(_) => None,
        };
        Ok(Some(Self { started, system_id, segment, position, newest_commit }))
    }

    fn is_same_server(&self, other: &Self) -> bool {
        self.started == other.started && self.system_id == other.system_id
    }

    fn told(&self, database: &str, place: &str) -> Fact {
        let timeline = self.segment.parse::<SegmentName>().map(|name| format!(" on timeline {}", name.timeline()));
        let newest = self.newest_commit.as_ref().map_or_else(String::new, |at| format!(", newest commit {at}"));
        let what = format!(
            "`{place}`, a standby of `{database}` by the inventory, is none any more: it is open{}, written to {}{newest}; the \
             services may work there, and what is committed there is in no recovery of this server",
            timeline.unwrap_or_default(),
            self.position
        );
        Fact { what, help: turned_round(database) }
    }

    /// The same of a server that may be of another cluster.
    fn untold(&self, (database, known): (&str, Option<SystemId>), place: &str) -> Fact {
        let unknown = match known {
            None => format!("no data directory and no backup tells which cluster `{database}` is"),
            Some(_) => "it does not tell its cluster to this role".to_owned(),
        };
        let what = format!(
            "at `{place}`, where a standby of `{database}` is by the inventory, an open server answers, written to {}; whether it is \
             that standby, promoted, cannot be told: {unknown}",
            self.position
        );
        Fact { what, help: format!("look which server it is; {}", turned_round(database)) }
    }
}

fn turned_round(database: &str) -> String {
    format!(
        "if the services work there, that is `{database}` now: point `pgdata`, `port` and `socket` of its entry there; else stop \
         that server, or take it out of `standbys`, and begin again"
    )
}

/// Names the standbys that stream from the server that is to be replaced, where it answers; `None` for a scratch database.
/// They go on with what is given up: nothing that happens here reaches them.
pub(crate) async fn attached(cluster: &Cluster, secrets: &dyn Secrets) -> Option<Fact> {
    if cluster.is_scratch() {
        return None;
    }
    let maintenance_db = MaintenanceDb::own(cluster, secrets).ok()?;
    let asking = async { facts::standbys(&mut maintenance_db.open().await?).await };
    let standbys = tokio::time::timeout(ANSWERS_WITHIN, asking).await.ok()?.ok()?;
    let named: Vec<String> = standbys.iter().map(ToString::to_string).collect();
    let what = format!("standbys follow this server, and keep what a recovery gives up: {}", named.join(", "));
    let help =
        "let nobody read there any more; afterwards rebuild each, or `pg_rewind` it onto the new timeline".to_owned();
    (!named.is_empty()).then_some(Fact { what, help })
}

/// Names the standby of the cluster `known` that has the most, where one answers; `None` for a scratch database. At the
/// addresses that a backup tells, a standby of another cluster may answer by now: of one that may be one it says so.
pub(crate) async fn faster(cluster: &Cluster, known: Option<SystemId>, cx: &CheckContext) -> Option<Fact> {
    if cluster.is_scratch() {
        return None;
    }
    let mut best: Option<(String, Healthy)> = None;
    for (host, port) in places(cluster, cx).await {
        let asked = tokio::time::timeout(ANSWERS_WITHIN, ask(cluster, (&host, port), cx)).await;
        let Ok(Ok(Some(healthy))) = asked else { continue };
        if known.zip(healthy.system_id).is_some_and(|(ours, theirs)| ours != theirs) {
            continue;
        }
        if best.as_ref().is_none_or(|(_, known)| healthy.lsn > known.lsn) {
            best = Some((format!("{host}:{port}"), healthy));
        }
    }
    let (place, healthy) = best?;
    let newest = healthy.newest_commit.map_or_else(String::new, |at| format!(", its newest commit is of {at}"));
    let sure = match known.zip(healthy.system_id) {
        Some(_) => "",
        None => "it is of this cluster (whether it is cannot be told from here) and ",
    };
    Some(Fact {
        what: format!(
            "a standby at `{place}` answers and has WAL up to {}{newest}: promoting it may be the faster way",
            healthy.lsn
        ),
        help: format!(
            "if {sure}it was not damaged by what happened here, `SELECT pg_promote()` there and point the services to `{place}`"
        ),
    })
}

/// Where standbys may be: those of the inventory, and those that the newest backup knows, on the database's own port.
async fn places(cluster: &Cluster, cx: &CheckContext) -> Vec<(String, u16)> {
    let mut places: Vec<(String, u16)> =
        cluster.entry.standbys.iter().filter_map(|text| place(text, cluster.port)).collect();
    let Ok((store, prefix)) = cluster.archive() else { return places };
    let Ok(store) = cx.store(store) else { return places };
    let backups = readable::newest(store.as_ref(), prefix, &cluster.name).await.unwrap_or_default();
    let known = backups.first().and_then(|backup| backup.manifest.postgres.as_ref());
    let seen = known.into_iter().flat_map(|facts| &facts.standbys).filter_map(|standby| standby.address.clone());
    for address in seen {
        if places.iter().all(|(host, _)| *host != address) {
            places.push((address, cluster.port));
        }
    }
    places
}

/// Reads `host:port`, `[address]:port`, or a host alone.
fn place(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, own) = match text.rsplit_once(':') {
        Some((host, own)) if !host.contains(':') || host.ends_with(']') => (host, own.parse().ok()?),
        Some(_) | None => (text, port),
    };
    Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), own))
}

/// The cluster that a server is of; `None` where that is hidden from the role.
async fn cluster_of(session: &mut Session) -> Option<SystemId> {
    session.value("SELECT system_identifier FROM pg_control_system()").await.ok()?.parse().ok()
}

async fn ask(cluster: &Cluster, place: (&str, u16), cx: &CheckContext) -> Result<Option<Healthy>, ActionError> {
    let mut session: Session = MaintenanceDb::at(cluster, place, cx.about.secrets.as_ref())?.open().await?;
    let sql = "SELECT pg_is_in_recovery(), \
               greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
               to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    let table = session.query(sql).await?;
    let lsn = table.at(0, 1).and_then(|text| text.parse().ok()).filter(|_| table.at(0, 0) == Some("t"));
    let Some(lsn) = lsn else { return Ok(None) };
    let newest_commit = table.at(0, 2).map(ToOwned::to_owned);
    Ok(Some(Healthy { system_id: cluster_of(&mut session).await, lsn, newest_commit }))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_standby_is_named_with_or_without_its_port() {
        assert_eq!(place("db2", 5432), Some(("db2".to_owned(), 5432)));
        assert_eq!(place("db2:5433", 5432), Some(("db2".to_owned(), 5433)));
        assert_eq!(place("[fe80::1]:5433", 5432), Some(("fe80::1".to_owned(), 5433)));
        assert_eq!(place("fe80::1", 5432), Some(("fe80::1".to_owned(), 5432)));
        assert_eq!(place("db2:x", 5432), None);
    }
}
