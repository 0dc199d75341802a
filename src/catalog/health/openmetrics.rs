//! Health in the text format that Prometheus reads (exposition format 0.0.4).

use std::fmt::Write as _;

use super::Health;

type Value = fn(&Health) -> Option<u64>;

/// Every metric: its name, what it is, and where it is taken from.
const METRICS: [(&str, &str, Value); 14] = [
    ("level", "0 ok, 1 warning, 2 critical, 3 unknown.", |health| Some(u64::from(health.level.code()))),
    ("count", "Backups there are, good or not.", |health| Some(health.figures.count)),
    ("damaged", "Backups known to be damaged.", |health| Some(health.figures.damaged)),
    ("held", "Backups that people hold.", |health| Some(health.figures.held)),
    ("missed", "Times a backup was due since the newest and none was taken.", |health| Some(health.figures.missed)),
    ("age_seconds", "How long ago the newest good backup ended.", |health| health.figures.age_s),
    ("size_bytes", "The size of the newest good backup.", |health| health.figures.size_bytes),
    ("median_size_bytes", "The median size of those before it.", |health| health.figures.median_bytes),
    ("proof_age_seconds", "How long ago a restore was proven.", |health| health.figures.proof_age_s),
    ("proof_failed_age_seconds", "How long ago a restore failed its checks, where none passed since.", |health| {
        health.figures.proof_failed_age_s
    }),
    ("verification_age_seconds", "How long ago a backup's bytes were verified.", |health| {
        health.figures.verification_age_s
    }),
    ("wal_age_seconds", "How long ago the newest WAL segment was archived.", |health| health.figures.wal_age_s),
    ("store_free_bytes", "The room left in the store.", |health| health.figures.free_bytes),
    ("store_full_in_days", "For how many days the room is enough as things go.", |health| health.figures.full_in_days),
];

/// Writes every metric of every expected backup.
#[must_use]
pub fn prometheus(all: &[Health]) -> String {
    let mut text = String::new();
    for (name, help, value) in METRICS {
        let samples: Vec<(&Health, u64)> = all
            .iter()
            .filter(|health| name == "level" || health.is_judged())
            .filter_map(|health| value(health).map(|value| (health, value)))
            .collect();
        if samples.is_empty() {
            continue;
        }
        let _ = writeln!(text, "# HELP runbook_backup_{name} {help}\n# TYPE runbook_backup_{name} gauge");
        for (health, value) in samples {
            let _ = writeln!(text, "runbook_backup_{name}{{{}}} {value}", labels(health));
        }
    }
    text
}

fn labels(health: &Health) -> String {
    let labels = [("name", &health.name), ("source", &health.source), ("kind", &health.kind), ("store", &health.store)];
    labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
