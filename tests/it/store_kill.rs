//! The real program killed at random moments while it stores, fetches, backs up and prunes; resumed; compared.

use std::fs;
use std::path::Path;
use std::time::Instant;

use runbook::action::{PutOptions, Store};
use runbook::base::{Digest, Timestamp};
use runbook::catalog::{BackupPlace, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, commit};
use runbook::language::inventory::StoreEntry;
use serde_json::{Value, json};

use crate::support::aim::Aim;
use crate::support::cli::Cli;
use crate::support::place::{Place, body, content, key, noise};

const LARGE: usize = (40 << 20) + 77;
const KILLS: u32 = 8;

/// A user of one store.
struct Site {
    cli: Cli,
    place: Place,
}

impl Site {
    fn new(place: Place, step: &Value) -> Self {
        let secret =
            |name: &str| place.secrets.get(name).map_or_else(|_| "unused".to_owned(), |key| key.reveal().to_owned());
        let cli = Cli::new().var("DEPOT_ID", &secret("id")).var("DEPOT_KEY", &secret("key"));
        let secrets = json!({ "id": { "env": "DEPOT_ID" }, "key": { "env": "DEPOT_KEY" } });
        let databases = json!({ "orders": { "pgdata": cli.path("data"), "store": "depot" } });
        let retention = json!({ "never_below": 2, "default": { "keep_last": 3 } });
        let entry = StoreEntry { compression: None, ..place.entry.clone() };
        let inventory = json!({
            "version": 1, "secrets": secrets, "stores": { "depot": entry },
            "databases": databases, "retention": retention
        });
        cli.file("inventory.yaml", &inventory.to_string());
        let work = cli.path("").display().to_string();
        let runbook = json!({ "version": 1, "name": "move", "steps": [step] }).to_string();
        cli.file("runbook.yaml", &runbook.replace("WORK", work.trim_end_matches('/')));
        Self { cli, place }
    }

    /// What lies under a key.
    fn there(&self, name: &str) -> Option<Vec<u8>> {
        let store = self.place.open();
        block(async {
            match store.head(&key(name)).await {
                Ok(_) => Some(content(store.as_read(), name).await),
                Err(_) => None,
            }
        })
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        let store = self.place.open();
        block(async { store.list(prefix).await.unwrap().into_iter().map(|facts| facts.key.to_string()).collect() })
    }

    /// Every backup that is listed, and whether each of its objects is there and right.
    fn backups(&self) -> Vec<String> {
        let manifests: Vec<String> = self.keys("").into_iter().filter(|key| key.ends_with("/manifest.json")).collect();
        for manifest in &manifests {
            let folder = manifest.trim_end_matches("manifest.json");
            let told: Value = serde_json::from_slice(&self.there(manifest).unwrap()).unwrap();
            let objects = told["objects"].as_array().unwrap();
            assert!(!objects.is_empty(), "{told}");
            for object in objects {
                let name = format!("{folder}{}", object["name"].as_str().unwrap());
                let bytes =
                    self.there(&name).unwrap_or_else(|| panic!("{manifest} is listed, and {name} is not there"));
                assert_eq!(Digest::of(&bytes).to_string(), object["sha256"].as_str().unwrap(), "{name}");
            }
        }
        manifests
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Runs it in peace to learn how long it takes; then kills it at random moments, twice in a row, resumes it and looks.
/// `sound` holds at every moment, `ended` at the end.
fn ordeal(first: &[&str], site: impl Fn() -> Site, sound: impl Fn(&Site), ended: impl Fn(&Site)) {
    let calm = site();
    let begun = Instant::now();
    calm.cli.run(first).ends(0);
    let length = begun.elapsed();
    sound(&calm);
    ended(&calm);
    let (mut live, mut aim) = (0, Aim::new(11, length));
    for _ in 0..40 {
        if live >= KILLS {
            break;
        }
        let site = site();
        for _ in 0..2 {
            let program =
                if site.cli.runs().is_empty() { site.cli.spawn(first) } else { site.cli.spawn(&["resume", "last"]) };
            live += u32::from(aim.kill(program));
            sound(&site);
        }
        let last = if site.cli.runs().is_empty() { site.cli.run(first) } else { site.cli.run(&["resume", "last"]) };
        last.ends(0);
        sound(&site);
        ended(&site);
    }
    println!("{live} kills hit a live program that runs for {length:?}");
    assert!(live >= KILLS, "only {live} kills hit a live program");
}

const RUN: &[&str] = &["run", "runbook.yaml"];

fn put_of(place: Place) -> Site {
    let with = json!({ "store": "depot", "key": "d/large", "path": "WORK/large" });
    let site = Site::new(place, &json!({ "id": "put", "uses": "store.put", "with": with }));
    fs::write(site.cli.path("large"), noise(3, LARGE)).unwrap();
    site
}

fn whole(site: &Site) {
    let found = site.there("d/large");
    assert!(found.is_none_or(|found| found == noise(3, LARGE)), "half an object under its name");
}

#[test]
fn a_put_killed_at_random_moments_is_whole_or_absent_and_ends_when_it_is_resumed() {
    let ended = |site: &Site| assert!(site.there("d/large").is_some());
    ordeal(RUN, || put_of(Place::s3()), whole, ended);
}

/// This server lists uploads, so what was sent is used again and nothing is left in progress.
#[test]
#[ignore = "run by `make test-garage`"]
fn a_put_to_garage_killed_at_random_moments_is_continued() {
    let ended = |site: &Site| {
        assert!(site.there("d/large").is_some());
        assert_eq!((site.place.leftovers)(), Vec::<String>::new(), "an upload is still in progress");
    };
    ordeal(RUN, || put_of(Place::garage()), whole, ended);
}

#[test]
fn a_get_killed_at_random_moments_leaves_no_half_file_and_ends_when_it_is_resumed() {
    let with = json!({ "store": "depot", "key": "d/large", "path": "WORK/into/back" });
    let site = || {
        let site = Site::new(Place::s3(), &json!({ "id": "get", "uses": "store.get", "with": with }));
        fs::create_dir(site.cli.path("into")).unwrap();
        let store = site.place.open();
        let bytes = noise(3, LARGE);
        let metadata = [("sha256".to_owned(), Digest::of(&bytes).to_string())].into();
        block(store.put(&key("d/large"), body(bytes), PutOptions { metadata, ..PutOptions::default() })).unwrap();
        site
    };
    let sound = |site: &Site| {
        let found = fs::read(site.cli.path("into/back"));
        assert!(found.is_err() || found.unwrap() == noise(3, LARGE), "half a file under its name");
    };
    let ended = |site: &Site| assert_eq!(names(&site.cli.path("into")), ["back"]);
    ordeal(RUN, site, sound, ended);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_backup_killed_at_random_moments_is_listed_only_when_it_is_whole() {
    let with = json!({ "source": "media", "paths": ["WORK/media", "WORK/notes"], "stores": ["depot"] });
    let site = || {
        // The S3 server of this process names an object before it keeps its metadata: cut off there, it has half of one.
        let place = Place::folder();
        runbook::store::Opening::plain(&place.entry, "depot").initialize().unwrap();
        let site = Site::new(place, &json!({ "id": "keep", "uses": "backup.create", "with": with }));
        fs::create_dir(site.cli.path("media")).unwrap();
        for at in 0..12 {
            fs::write(site.cli.path(&format!("media/{at}")), noise(at, 2 << 20)).unwrap();
        }
        fs::write(site.cli.path("notes"), "notes").unwrap();
        site
    };
    let sound = |site: &Site| assert!(site.backups().len() <= 1);
    let ended = |site: &Site| {
        assert_eq!(site.backups().len(), 1);
        let verified =
            site.cli.run(&["backups", "verify", "--all", "--budget", "1GB", "--level", "content", "--store", "depot"]);
        verified.ends(0);
    };
    ordeal(RUN, site, sound, ended);
}

const DAYS: usize = 12;
const OBJECTS: usize = 6;

fn backup_of(day: usize) -> BackupPlace {
    BackupPlace::new("orders", (KIND_POSTGRES_DUMP, None), &format!("202601{day:02}T000000Z-dump"))
}

async fn back_up(store: &dyn Store, day: usize) {
    let (place, text) = (backup_of(day), format!("dump of day {day}"));
    let ended: Timestamp = format!("2026-01-{day:02}T00:00:00Z").parse().unwrap();
    let id = format!("202601{day:02}T000000Z-dump");
    let mut manifest = Manifest::new(id, KIND_POSTGRES_DUMP, "orders", (ended, ended));
    for at in 0..OBJECTS {
        let name = format!("dump{at}");
        store.put(&place.key(&name).unwrap(), body(text.clone()), PutOptions::default()).await.unwrap();
        let digest = Digest::of(text.as_bytes());
        manifest.objects.push(ManifestObject::new(name, text.len() as u64, digest, ObjectRole::Dump));
    }
    commit(store, "orders", manifest).await.unwrap();
}

#[test]
fn a_prune_killed_at_random_moments_removes_whole_backups_and_nothing_that_is_kept() {
    let site = || {
        let site =
            Site::new(Place::folder(), &json!({ "id": "unused", "uses": "store.list", "with": { "store": "depot" } }));
        let store = site.place.open();
        block(async {
            for day in 1..=DAYS {
                back_up(&*store, day).await;
            }
        });
        site
    };
    let kept = || (DAYS - 2..=DAYS).map(|day| backup_of(day).manifest_key().unwrap().to_string()).collect::<Vec<_>>();
    let sound = |site: &Site| {
        let listed = site.backups();
        assert!(kept().iter().all(|kept| listed.contains(kept)), "{listed:?}");
    };
    let ended = |site: &Site| {
        assert_eq!(site.backups(), kept());
        let of_others =
            |key: &String| !kept().iter().any(|kept| key.starts_with(kept.trim_end_matches("manifest.json")));
        let left: Vec<String> = site.keys("orders/").into_iter().filter(of_others).collect();
        assert_eq!(left, Vec::<String>::new(), "parts of what is gone");
    };
    ordeal(&["backups", "prune", "--yes"], site, sound, ended);
}
