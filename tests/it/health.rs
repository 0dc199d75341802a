//! The health of backups: what is expected is held against what is there.

use runbook::action::PutOptions;
use runbook::base::Timestamp;
use runbook::catalog::health::{Health, Level, Observed, Room, Sample, judge, prometheus};
use runbook::language::inventory::{ExpectedBackup, Inventory};
use serde_json::json;

use crate::support::cli::Cli;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn sample(ended: &str, size_bytes: u64) -> Sample {
    Sample {
        dbname: None,
        id: ended.to_owned(),
        ended_at: at(ended),
        size_bytes,
        is_sound: true,
        is_held: false,
        proven_at: None,
        failed_at: None,
        verified_at: None,
    }
}

fn health(expected: serde_json::Value, observed: &Observed, now: &str) -> Health {
    let mut expected = expected;
    expected["source"] = json!("orders");
    expected["kind"] = json!("postgres.base");
    let expected: ExpectedBackup = serde_json::from_value(expected).unwrap();
    let schedule = Inventory::default().schedule_of(&expected);
    judge(("base", &expected), schedule.as_ref(), observed, at(now))
}

fn four() -> Observed {
    let days = ["2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z", "2026-01-04T02:00:00Z"];
    Observed { samples: days.iter().map(|day| sample(day, 1000)).collect(), ..Observed::default() }
}

#[test]
fn the_dump_of_one_database_is_none_of_another() {
    let of = |dbname: &str, ended: &str, size: u64| Sample { dbname: Some(dbname.to_owned()), ..sample(ended, size) };
    let days = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"];
    let both = days.iter().flat_map(|day| {
        [of("shop", &format!("{day}T02:00:00Z"), 1_000_000), of("empty", &format!("{day}T02:00:01Z"), 10)]
    });
    let mut seen = Observed { samples: both.collect(), ..Observed::default() };
    let rules = json!({ "max_age": "26h" });
    let told = |rules: &serde_json::Value, seen: &Observed| health(rules.clone(), seen, "2026-01-05T03:00:00Z");
    assert_eq!(told(&rules, &seen).level, Level::Ok, "each has the size of its own");
    seen.samples
        .retain(|sample| sample.dbname.as_deref() != Some("shop") || sample.ended_at < at("2026-01-03T00:00:00Z"));
    let old = told(&rules, &seen);
    assert_eq!(old.level, Level::Warning);
    assert!(old.findings[0].message.starts_with("no newer dump of `shop` (3d"), "{:?}", old.findings);
    let every = told(&json!({ "every": "24h", "dbnames": ["shop"] }), &seen);
    assert!(every.findings[0].message.starts_with("the newest dump of database `shop` is 3d"), "{:?}", every.findings);
    let named = json!({ "max_age": "26h", "dbnames": ["shop", "empty", "never"] });
    let old = told(&named, &seen);
    assert_eq!(old.level, Level::Critical);
    let said: Vec<&str> = old.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert!(
        said[0].starts_with("the newest dump of database `shop` is 3d")
            && said[1].contains("no good dump of database `never`"),
        "{said:?}"
    );
}

#[test]
fn no_backup_is_critical_and_an_old_one_too() {
    assert_eq!(health(json!({}), &Observed::default(), "2026-01-05T00:00:00Z").level, Level::Critical);
    let rules = json!({ "max_age": "26h" });
    assert_eq!(health(rules.clone(), &four(), "2026-01-05T03:00:00Z").level, Level::Ok);
    assert_eq!(health(rules, &four(), "2026-01-05T05:00:00Z").level, Level::Critical);
}

#[test]
fn missed_ones_are_counted_after_their_grace() {
    let missed = |rules: serde_json::Value, now: &str| health(rules, &four(), now).figures.missed;
    let cron = json!({ "cron": "0 1 * * *" });
    assert_eq!(missed(cron.clone(), "2026-01-05T01:30:00Z"), 0, "it may still come");
    assert_eq!(missed(cron.clone(), "2026-01-05T02:00:00Z"), 1);
    assert_eq!(missed(cron, "2026-01-08T02:00:00Z"), 4);
    assert_eq!(missed(json!({ "every": "24h", "grace": "30m" }), "2026-01-06T02:30:00Z"), 2);
}

#[test]
fn a_size_far_from_the_median_and_a_full_store_are_told() {
    let mut seen = four();
    seen.samples[3].size_bytes = 400;
    let judged = health(json!({}), &seen, "2026-01-04T03:00:00Z");
    assert_eq!((judged.level, judged.figures.size_change_percent), (Level::Warning, Some(60)));
    assert_eq!(health(json!({ "max_size_change": "70%" }), &seen, "2026-01-04T03:00:00Z").level, Level::Ok);
    let room = |free_bytes| Observed { room: Some(Room { free_bytes, total_bytes: 9000 }), ..four() };
    assert_eq!(health(json!({}), &room(4000), "2026-01-04T03:00:00Z").figures.full_in_days, Some(4));
    assert_eq!(health(json!({}), &room(2500), "2026-01-04T03:00:00Z").level, Level::Warning);
    assert_eq!(health(json!({}), &room(500), "2026-01-04T03:00:00Z").level, Level::Critical);
}

#[test]
fn the_next_dumps_need_room_for_one_of_every_database_that_is_still_dumped() {
    let of = |dbname: &str, ended: &str, size: u64| Sample { dbname: Some(dbname.to_owned()), ..sample(ended, size) };
    let nights = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"];
    let mut samples: Vec<Sample> = nights
        .iter()
        .flat_map(|day| [of("shop", &format!("{day}T02:00:00Z"), 3000), of("zeta", &format!("{day}T02:00:01Z"), 10)])
        .collect();
    samples.insert(0, of("dropped", "2025-12-31T02:00:00Z", 1_000_000));
    let room = |free_bytes| {
        let room = Some(Room { free_bytes, total_bytes: 9_000_000 });
        let seen = Observed { samples: samples.clone(), room, ..Observed::default() };
        health(json!({ "max_age": "26h", "dbnames": ["shop", "zeta"] }), &seen, "2026-01-04T03:00:00Z")
    };
    let (full, tight, wide) = (room(3000), room(6050), room(12_040));
    assert!(full.findings[0].message.contains("the next one does not fit"), "{:?}", full.findings);
    assert!(tight.findings[0].message.contains("room for 2 more"), "{:?}", tight.findings);
    assert_eq!((wide.level, wide.figures.full_in_days), (Level::Ok, Some(4)), "{:?}", wide.findings);
}

#[test]
fn damage_is_critical_and_an_idle_archive_only_a_fact_unless_it_is_asked_for() {
    let mut seen = four();
    seen.samples[0].is_sound = false;
    let judged = health(json!({}), &seen, "2026-01-04T03:00:00Z");
    assert_eq!((judged.level, judged.figures.damaged), (Level::Critical, 1));
    let idle = Observed { newest_wal_at: Some(at("2026-01-01T00:00:00Z")), ..four() };
    let judged = health(json!({}), &idle, "2026-01-04T03:00:00Z");
    assert_eq!((judged.level, judged.figures.wal_age_s), (Level::Ok, Some(75 * 3600)));
    assert_eq!(health(json!({ "max_wal_age": "1h" }), &idle, "2026-01-04T03:00:00Z").level, Level::Critical);
}

#[test]
fn a_proof_that_is_too_old_is_told() {
    let mut seen = four();
    let rules = json!({ "max_proof_age": "7d" });
    assert_eq!(health(rules.clone(), &seen, "2026-01-04T03:00:00Z").level, Level::Warning);
    seen.samples[1].proven_at = Some(at("2026-01-03T00:00:00Z"));
    assert_eq!(health(rules.clone(), &seen, "2026-01-04T03:00:00Z").level, Level::Ok);
    assert_eq!(health(rules, &seen, "2026-02-04T03:00:00Z").level, Level::Warning);
}

#[test]
fn a_restore_that_failed_is_critical_until_one_passes() {
    let mut seen = four();
    seen.samples[1].proven_at = Some(at("2026-01-02T12:00:00Z"));
    seen.samples[2].failed_at = Some(at("2026-01-03T00:00:00Z"));
    let judged = health(json!({ "max_proof_age": "7d" }), &seen, "2026-01-04T03:00:00Z");
    assert_eq!((judged.level, judged.figures.proof_failed_age_s), (Level::Critical, Some(27 * 3600)));
    assert!(judged.findings[0].message.contains("`2026-01-03T02:00:00Z` failed its checks"), "{judged:?}");
    seen.samples[3].proven_at = Some(at("2026-01-04T02:30:00Z"));
    assert_eq!(health(json!({}), &seen, "2026-01-04T03:00:00Z").level, Level::Ok);
}

/// A metric's name, labels and value.
type Metric = (String, Vec<(String, String)>, f64);

/// Reads the exposition format as its description says; panics at what it does not allow.
fn metrics(text: &str) -> Vec<Metric> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let (mut typed, mut samples) = (Vec::new(), Vec::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kind == "gauge" && !typed.contains(&name.to_owned()), "{line}");
            typed.push(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(is_name(rest.split_once(' ').unwrap().0), "{line}");
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            assert!(is_name(name) && typed.last().unwrap() == name, "{line}");
            let (mut labels, mut rest) = (Vec::new(), rest);
            while !rest.starts_with('}') {
                let (label, tail) = rest.trim_start_matches(',').split_once("=\"").unwrap();
                let (mut value, mut chars) = (String::new(), tail.char_indices());
                let end = loop {
                    match chars.next().unwrap() {
                        (_, '\\') => value.push(match chars.next().unwrap().1 {
                            'n' => '\n',
                            other => other,
                        }),
                        (end, '"') => break end,
                        (_, other) => value.push(other),
                    }
                };
                assert!(is_name(label), "{line}");
                labels.push((label.to_owned(), value));
                rest = &tail[end + 1..];
            }
            samples.push((name.to_owned(), labels, rest[1..].trim().parse().unwrap()));
        }
    }
    samples
}

#[test]
fn metrics_are_in_the_text_format_whatever_names_hold() {
    let odd = "a \"quoted\"\\ name\nwith a break";
    let judged = Health { store: odd.to_owned(), ..health(json!({}), &four(), "2026-01-04T03:00:00Z") };
    let found = metrics(&prometheus(&[judged.clone(), judged]));
    let age: Vec<_> = found.iter().filter(|(name, ..)| name == "runbook_backup_age_seconds").collect();
    assert_eq!(age.len(), 2);
    assert!(age.iter().all(|(_, _, value)| (*value - 3600.0).abs() < f64::EPSILON));
    assert!(age[0].1.contains(&("store".to_owned(), odd.to_owned())));
}

#[test]
fn one_line_and_one_code_for_monitoring() {
    let cli = Cli::new();
    let store = cli.path("store");
    let inventory = |rest: &str| {
        cli.file(
            "inventory.yaml",
            &format!("version: 1\nstores: {{ primary: {{ url: \"file://{}\" }} }}\n{rest}\n", store.display()),
        );
    };
    inventory("");
    let nothing = cli.run(&["backups", "health"]).ends(3);
    assert!(nothing.out.starts_with("UNKNOWN - "), "{}", nothing.out);
    inventory("backups: { orders-base: { source: orders, kind: postgres.base, store: primary, max_age: 26h } }");
    let gone = cli.run(&["backups", "health"]).ends(3);
    assert!(gone.out.starts_with("UNKNOWN - orders-base"), "a store that is not there: {}", gone.out);
    let entry =
        runbook::language::inventory::StoreEntry { url: format!("file://{}", store.display()), ..Default::default() };
    let place = runbook::store::Opening::plain(&entry, "primary").open().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = Box::new(std::io::Cursor::new(b"x".to_vec()));
    runtime.block_on(place.put(&"other/thing".parse().unwrap(), body, PutOptions::default())).unwrap();
    let empty = cli.run(&["backups", "health"]).ends(2);
    assert!(
        empty.out.starts_with("CRITICAL - orders-base (orders postgres.base) there is no good backup"),
        "{}",
        empty.out
    );
    assert_eq!(empty.out.lines().count(), 1);
    let text = cli.run(&["backups", "health", "--prometheus"]).ends(2).out;
    assert!(
        metrics(&text)
            .iter()
            .any(|(name, _, value)| name == "runbook_backup_level" && (*value - 2.0).abs() < f64::EPSILON)
    );
}
