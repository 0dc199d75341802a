//! `runbook backups health`: one line and one code, as monitoring systems expect them.

use std::process::ExitCode;

use serde_json::json;

use super::shelf::{Shelf, Shelves, Stores, of_catalog};
use super::stanza::{self, Stanzas};
use crate::action::{ReadStore, StoreError};
use crate::base::units::{ByteSize, human_duration};
use crate::base::{Timestamp, clock};
use crate::catalog::KIND_POSTGRES_BASE;
use crate::catalog::health::{Figures, Finding, Health, Level, Observed, Room, Sample, judge, prometheus};
use crate::catalog::survey::{self, Holdings, candidate, holdings};
use crate::cli::{Exit, Failure, document, wiring};
use crate::language::inventory::{ExpectedBackup, PgBackRest};
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
            out!("UNKNOWN - {}", mask_text(&failure.message));
            failure.print();
            Level::Unknown
        }
    };
    ExitCode::from(level.code())
}

impl Args {
    fn look(&self) -> Result<Vec<Health>, Failure> {
        let shelves = self.stores.shelves(true)?;
        let inventory = &shelves.site.inventory;
        let mut all = Vec::new();
        for (name, expected) in &inventory.backups {
            if self.source.as_ref().is_some_and(|wanted| *wanted != expected.source) {
                continue;
            }
            if expected.kind == PgBackRest::KIND {
                all.extend(self.stanza(&shelves, (name, expected))?);
                continue;
            }
            let Some((store, prefix)) = inventory.place_of(expected) else {
                all.push(unknown((name, expected), String::new(), "nothing says in which store it lies"));
                continue;
            };
            let Some(shelf) = shelves.shelves.iter().find(|shelf| shelf.name == store) else {
                if self.stores.store.is_empty() {
                    all.push(unknown((name, expected), store, "its store is not in this environment's inventory"));
                }
                continue;
            };
            let now = clock::now();
            match observe(&shelves, shelf, &prefix)? {
                Ok((found, room)) => {
                    let seen = observed(expected, &found, room, now);
                    let seen = archives(&shelves, (&store, &prefix, expected), seen)?;
                    let schedule = inventory.schedule_of(expected);
                    all.push(Health { store, ..judge((name, expected), schedule.as_ref(), &seen, now) });
                }
                Err(why) => all.push(unknown((name, expected), store, &why)),
            }
        }
        if all.is_empty() {
            return Err(Failure::new(Exit::Usage, "the inventory expects no such backup, so nothing can be judged")
                .help("say what is expected: `backups: { orders-base: { source: orders, kind: postgres.base, max_age: 26h } }`"));
        }
        Ok(all)
    }

    /// Judges what pgBackRest has. It is asked only where no store was named.
    fn stanza(&self, shelves: &Shelves, (name, expected): (&str, &ExpectedBackup)) -> Result<Option<Health>, Failure> {
        if !self.stores.store.is_empty() {
            return Ok(None);
        }
        let stanzas = Stanzas::of(&shelves.site, |database| database == expected.source)?;
        if let Some(unreached) = stanzas.unreached.into_iter().next() {
            return Ok(Some(unknown((name, expected), unreached.store, &unreached.why)));
        }
        let Some((_, standing)) = stanzas.known.into_iter().next() else {
            return Ok(Some(unknown(
                (name, expected),
                String::new(),
                "its database has no stanza in this environment",
            )));
        };
        let (now, seen) = (clock::now(), stanza::observed(expected, &standing));
        let schedule = shelves.site.inventory.schedule_of(expected);
        let store = format!("{}:{}", PgBackRest::KIND, standing.stanza);
        Ok(Some(Health { store, ..judge((name, expected), schedule.as_ref(), &seen, now) }))
    }

    fn say(&self, all: &[Health]) -> Level {
        let worst = all.iter().fold(Level::Ok, |worst, health| worst.worse(health.level));
        if self.prometheus {
            out_part!("{}", prometheus(all));
        } else if self.json {
            let _ = document::write_json(&json!(all));
        } else {
            out!("{}", mask_text(&line(all, worst)));
        }
        worst
    }
}

type Answer = (Holdings, Option<Room>);

fn observe(shelves: &Shelves, shelf: &Shelf, prefix: &str) -> Result<Result<Answer, String>, Failure> {
    let store = shelves.reader(shelf)?;
    let vouched = shelves.vouched(&*store)?;
    wiring::block_on(async {
        let found = holdings(&vouched, prefix).await.map_err(|error| of_catalog(&error))?;
        let room = room(&*store).await.map_err(|error| error.to_string())?;
        Ok((found, room))
    })
}

async fn room(store: &dyn ReadStore) -> Result<Option<Room>, StoreError> {
    let capacity = store.capacity().await?;
    Ok(capacity.map(|capacity| Room { free_bytes: capacity.free_bytes, total_bytes: capacity.total_bytes }))
}

fn observed(expected: &ExpectedBackup, found: &Holdings, room: Option<Room>, now: Timestamp) -> Observed {
    let fits = |backup: &&crate::catalog::Backup| {
        let manifest = &backup.manifest;
        manifest.source == expected.source
            && manifest.kind == expected.kind
            && (expected.tier.is_none() || manifest.tier == expected.tier)
    };
    let judged = |backup| (found.list.rests_whole(backup), candidate(backup, now));
    let samples = found.list.backups.iter().filter(fits).map(judged);
    let samples = samples.map(|(rests_whole, one)| Sample {
        is_sound: one.is_sound() && rests_whole,
        is_held: one.standing.hold.is_some(),
        proven_at: one.standing.proven_at,
        verified_at: one.standing.verified_at,
        id: one.id,
        ended_at: one.ended_at,
        size_bytes: one.size_bytes,
    });
    Observed {
        samples: samples.collect(),
        unreadable: found.list.damaged.len() as u64,
        newest_wal_at: newest(found),
        wal_stores: Vec::new(),
        room,
    }
}

fn newest(found: &Holdings) -> Option<Timestamp> {
    found.wal.iter().map(|object| object.segment.archived_at).max()
}

/// Looks into the other stores that the source's WAL is archived into: what one of them has can be recovered.
fn archives(
    shelves: &Shelves,
    (own, prefix, expected): (&str, &str, &ExpectedBackup),
    seen: Observed,
) -> Result<Observed, Failure> {
    let inventory = &shelves.site.inventory;
    let rests_on_wal = expected.kind == KIND_POSTGRES_BASE || expected.max_wal_age.is_some();
    let entry = inventory.databases.get(&expected.source).filter(|_| rests_on_wal);
    let entry = entry.filter(|entry| entry.prefix.as_deref().unwrap_or(&expected.source) == prefix);
    let Some(entry) = entry.filter(|entry| entry.store.as_deref() == Some(own)) else { return Ok(seen) };
    let mut wal_stores = vec![(own.to_owned(), Ok(seen.newest_wal_at))];
    for name in entry.archives().filter(|name| *name != own) {
        let store = shelves.site.read_store(name)?;
        let listed = wiring::block_on(async { survey::wal(&*store, prefix).await })?;
        let newest = listed.map(|wal| wal.iter().map(|object| object.segment.archived_at).max());
        wal_stores.push((name.to_owned(), newest.map_err(|error| of_catalog(&error))));
    }
    if wal_stores.len() == 1 {
        return Ok(seen);
    }
    let newest_wal_at = wal_stores.iter().filter_map(|(_, newest)| newest.as_ref().ok().copied().flatten()).max();
    Ok(Observed { newest_wal_at, wal_stores, ..seen })
}

fn unknown((name, expected): (&str, &ExpectedBackup), store: String, why: &str) -> Health {
    Health {
        name: name.to_owned(),
        source: expected.source.clone(),
        kind: expected.kind.clone(),
        store,
        level: Level::Unknown,
        findings: vec![Finding { level: Level::Unknown, message: why.to_owned() }],
        figures: Figures::default(),
    }
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
