//! Looks for a healthy standby before a recovery: promoting it may be the faster way (facts 2.10.21).

use std::time::Duration;

use super::connect::{Endpoint, Session};
use super::layout::Cluster;
use super::overseer::Fact;
use super::readable;
use crate::action::{ActionError, CheckContext};
use crate::pgformat::Lsn;

/// How long a standby may take to answer: the recovery is not held up by one that is dead.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A standby that answers.
struct Healthy {
    lsn: Lsn,
    newest_commit: Option<String>,
}

/// Names the standby that has the most, where one answers; `None` for a scratch database.
pub(crate) async fn faster(cluster: &Cluster, cx: &CheckContext) -> Option<Fact> {
    if cluster.is_scratch() {
        return None;
    }
    let mut best: Option<(String, Healthy)> = None;
    for (host, port) in places(cluster, cx).await {
        let asked = tokio::time::timeout(ANSWERS_WITHIN, ask(cluster, (&host, port), cx)).await;
        let Ok(Ok(Some(healthy))) = asked else { continue };
        if best.as_ref().is_none_or(|(_, known)| healthy.lsn > known.lsn) {
            best = Some((format!("{host}:{port}"), healthy));
        }
    }
    let (place, healthy) = best?;
    let newest = healthy.newest_commit.map_or_else(String::new, |at| format!(", its newest commit is of {at}"));
    Some(Fact {
        what: format!(
            "a standby at `{place}` answers and has WAL up to {}{newest}: promoting it may be the faster way",
            healthy.lsn
        ),
        help: format!(
            "if it was not damaged by what happened here, `SELECT pg_promote()` there and point the services to `{place}`"
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

async fn ask(cluster: &Cluster, place: (&str, u16), cx: &CheckContext) -> Result<Option<Healthy>, ActionError> {
    let mut session: Session = Endpoint::at(cluster, place, cx.about.secrets.as_ref())?.open().await?;
    let sql = "SELECT pg_is_in_recovery(), \
               greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
               to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    let table = session.query(sql).await?;
    let lsn = table.at(0, 1).and_then(|text| text.parse().ok()).filter(|_| table.at(0, 0) == Some("t"));
    Ok(lsn.map(|lsn| Healthy { lsn, newest_commit: table.at(0, 2).map(ToOwned::to_owned) }))
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
