//! Somebody pauses a replay that is on its way to a target: it does not count as having arrived (facts 2.4).

use std::time::Duration;

use runbook::action::BackupHandle;
use runbook::actions::postgres::InstanceState;
use serde_json::{Value, json};

use crate::support::crash::HeldReplay;
use crate::support::recovery::Site;

const PAUSED: &str = "SELECT pg_get_wal_replay_pause_state() = 'paused'";

/// Pauses the replay of a cluster's recovery as soon as it takes a session, and gives where it stands then.
async fn meddles(site: &Site) -> String {
    for _ in 0..2000 {
        if let Some(held) = HeldReplay::catch(site.cluster.dir()) {
            let paused = site.cluster.try_sql("SELECT pg_wal_replay_pause()").status.success();
            held.release();
            if paused {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while site.cluster.sql(PAUSED) != "t" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    site.cluster.sql("SELECT pg_last_wal_replay_lsn()")
}

async fn arrives_after_all(site: &Site, rows: &str, (backup, target): (&BackupHandle, Value)) {
    let run = site.run();
    let staged = run.stage(backup).await;
    run.stop().await;
    let recovering = run.recover(&staged, target.clone());
    let meddling = async {
        let at = meddles(site).await;
        let words = format!("replay is paused at {at}, before its target, by somebody else");
        for _ in 0..1000 {
            if site.said().contains(&words) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(site.said().contains(&words), "{target}: {}", site.said());
        assert_eq!(site.cluster.sql("SELECT pg_last_wal_replay_lsn()"), at, "it stands there");
        site.cluster.sql("SELECT pg_wal_replay_resume()");
    };
    let (reached, ()) = tokio::join!(recovering, meddling);
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), rows, "{target}");
    let state = if target["action"] == "pause" { InstanceState::Paused } else { InstanceState::Open };
    assert_eq!(reached.state, state, "{target}");
}

#[tokio::test]
async fn a_replay_that_somebody_pauses_on_its_way_goes_on_to_its_target_when_it_may() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); CREATE TABLE load(n int, filler text); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO load SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) n");
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.cluster.sql("SELECT pg_create_restore_point('here')");
    let between = site.cluster.sql(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)",
    );
    site.cluster.sql("SELECT pg_sleep(1.1)");
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.archive();
    // Also where the server opens at its target by itself, and where it waits at the end of all WAL. The one that opens comes
    // last: it begins a timeline.
    for (target, rows) in [
        (json!({ "target_name": "here", "action": "pause" }), "1,2"),
        (json!({ "target_time": between, "action": "pause" }), "1,2"),
        (json!({ "target": "latest", "action": "pause" }), "1,2,3"),
        (json!({ "target_time": between }), "1,2"),
    ] {
        arrives_after_all(&site, rows, (&backup, target)).await;
    }
}
