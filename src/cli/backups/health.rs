//! `runbook backups health`: one line and one code, as monitoring systems expect them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde_json::json;

use super::expected::Expectations;
use super::open_store::Stores;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::KIND_POSTGRES_BASE;
use crate::catalog::health::{Finding, Health, Level, prometheus};
use crate::cli::site::Site;
use crate::cli::wal::other_keys;
use crate::cli::{Exit, Failure, document, sighted, wiring};
use crate::report::mask_text;

/// Arguments of `backups health`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups health\n  runbook backups health --source orders\n  runbook backups health --prometheus >/var/lib/node_exporter/runbook.prom\n  runbook backups health --json | jq '.[] | select(.level != \"ok\")'\n\nWhat is expected stands under `backups` in the inventory.\nCode 0: as expected, 1: warning, 2: critical, 3: unknown, for example because a store gave no answer."
)]
pub struct Args {
    #[command(flatten)]
    stores: Stores,
    /// Only of this database or source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// Print metrics in the text format of Prometheus
    #[arg(long)]
    prometheus: bool,
}

/// Judges every expected backup. Whatever goes wrong is code 3: monitoring has no other word for it.
pub fn run(args: &Args) -> ExitCode {
    let level = match args.look() {
        Ok(all) => args.say(&all),
        Err(failure) => {
            failure.print();
            args.say(&[Health::unknown(mask_text(&failure.message))])
        }
    };
    ExitCode::from(level.code())
}

impl Args {
    fn look(&self) -> Result<Vec<Health>, Failure> {
        let open_stores = self.stores.open_stores(true)?;
        let expectations =
            Expectations { site: &open_stores.site, stores: &self.stores.store, believed: BTreeMap::new() };
        let all = expectations.judged(self.source.as_deref())?;
        if all.is_empty() {
            return Err(Failure::new(Exit::Usage, "the inventory expects no such backup, so nothing can be judged")
                .help("say what is expected: `backups: { orders-base: { source: orders, kind: postgres.base, max_age: 26h } }`"));
        }
        let all = with_damage(&open_stores.site, all)?;
        self.with_keys(&open_stores.site, all)
    }

    /// Adds where a server archives with other keys than the inventory's: its backups may be read, and its WAL not.
    fn with_keys(&self, site: &Site, mut all: Vec<Health>) -> Result<Vec<Health>, Failure> {
        let rests_on_wal = |health: &&Health| health.kind == KIND_POSTGRES_BASE;
        let sources: BTreeSet<String> = all.iter().filter(rests_on_wal).map(|health| health.source.clone()).collect();
        for source in sources {
            let differing = wiring::block_on(async { other_keys(site, &source).await })?;
            for (store, what) in differing {
                if !self.stores.store.is_empty() && !self.stores.store.contains(&store) {
                    continue;
                }
                let message =
                    format!("the server {what}, in `{store}`: `runbook run setup-archiving -p database={source}`");
                for health in all.iter_mut().filter(|health| rests_on_wal(&&**health) && health.source == source) {
                    health.findings.push(Finding { level: Level::Warning, message: message.clone() });
                    health.level = health.level.worse(Level::Warning);
                }
            }
        }
        Ok(all)
    }

    fn say(&self, all: &[Health]) -> Level {
        let worst = all.iter().fold(Level::Ok, |worst, health| worst.worse(health.level));
        if self.prometheus {
            out_part!("{}", prometheus(all));
        } else if self.json {
            let _ = document::write_json(&json!(all));
        } else if let Some(unjudged) = all.iter().find(|health| !health.is_judged()) {
            unjudged.findings.iter().for_each(|finding| out!("{worst} - {}", finding.message));
        } else {
            out!("{}", mask_text(&line(all, worst)));
        }
        worst
    }
}

/// Adds the copies that runs on this machine found damaged and whose stores may only be read by them.
fn with_damage(site: &Site, mut all: Vec<Health>) -> Result<Vec<Health>, Failure> {
    let Some(runs) = wiring::existing_runs()? else { return Ok(all) };
    let sources: BTreeSet<String> = all.iter().map(|health| health.source.clone()).collect();
    for source in sources {
        for copy in sighted::unkept(&runs, &source, site)? {
            let message = copy.words(&format!("`runbook backups prove {}`", copy.run));
            let is_of = |health: &&mut Health| {
                (&health.source, &health.store, &health.kind) == (&source, &copy.store, &copy.kind)
            };
            for health in all.iter_mut().filter(is_of) {
                health.findings.push(Finding { level: Level::Warning, message: message.clone() });
                health.level = health.level.worse(Level::Warning);
            }
        }
    }
    Ok(all)
}

/// One line: what is worst comes first, the figures behind a bar.
fn line(all: &[Health], worst: Level) -> String {
    let bad: Vec<&Health> = all.iter().filter(|health| health.level == worst).collect();
    let words: Vec<String> = bad.iter().map(|health| words(health)).collect();
    let more = match all.len() - bad.len() {
        0 => String::new(),
        rest => format!("; {rest} more"),
    };
    let figures: Vec<String> = all.iter().flat_map(figures).collect();
    format!("{worst} - {}{more} | {}", words.join("; "), figures.join(" ")).replace('\n', " ")
}

fn words(health: &Health) -> String {
    let figures = &health.figures;
    let ago = |seconds: u64| human_duration(std::time::Duration::from_secs(seconds));
    let mut parts = Vec::new();
    parts.extend(figures.age_s.map(|age| format!("{} old", ago(age))));
    parts.extend(figures.size_bytes.map(|size| ByteSize(size).to_string()));
    parts.extend(figures.proof_age_s.map(|age| format!("proven {} ago", ago(age))));
    if health.level != Level::Ok {
        parts = health.findings.iter().map(|finding| finding.message.clone()).collect();
    }
    format!("{} ({} {}) {}", health.name, health.source, health.kind, parts.join(", "))
}

/// Performance data as plugins write it: `'label'=value[unit]`.
fn figures(health: &Health) -> Vec<String> {
    let figures = &health.figures;
    let values = [
        ("age", figures.age_s, "s"),
        ("size", figures.size_bytes, "B"),
        ("missed", Some(figures.missed), ""),
        ("damaged", Some(figures.damaged), ""),
        ("proof_age", figures.proof_age_s, "s"),
        ("free", figures.free_bytes, "B"),
    ];
    let told = values.into_iter().filter_map(|(name, value, unit)| Some((name, value?, unit)));
    told.map(|(name, value, unit)| format!("'{}_{name}'={value}{unit}", health.name)).collect()
}
