//! Reads one store: its objects by class, its rules, and what they make of it.

use std::collections::BTreeMap;

use super::place::{Holding, NewestRestore, Place};
use super::warning::Warning;
use crate::action::{LifecycleRule, ObjectFacts, ReadStore, StoreError, Versioning};
use crate::base::Timestamp;
use crate::catalog::cost::{
    Ground, Ladder, Lot, OldVersions, PriceTable, RestoreObject, Stock, Subject, Tariff, WalLot, outlook, restore,
};
use crate::catalog::retention::Policy;
use crate::catalog::survey::candidate;
use crate::catalog::{Backup, BackupList, family_prefix};
use crate::language::inventory::{RetrievalSpeed, StoreEntry, StoreLocation};

/// The class of objects whose store names none.
const PLAIN: &str = "STANDARD";
/// What rules are called where they could not be read.
const RULES: &str = "the lifecycle rules";

/// What every store is looked at with.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The prices.
    pub(super) prices: &'a PriceTable,
    /// What is pruned.
    pub(super) policy: Option<&'a Policy>,
    /// How many days are looked ahead.
    pub(super) days: u32,
    /// Today.
    pub(super) now: Timestamp,
}

/// What the bucket's settings say.
struct Settings {
    root: String,
    region: Option<String>,
    rules: Vec<LifecycleRule>,
    old_versions: OldVersions,
    old: Vec<(String, u64)>,
    warnings: Vec<Warning>,
}

/// What lies under one prefix.
#[derive(Default)]
struct Heap<'a> {
    backups: Vec<&'a Backup>,
    wal: Vec<&'a ObjectFacts>,
}

/// Looks at a store.
pub(super) async fn look(
    (name, entry): (&str, &StoreEntry),
    store: &dyn ReadStore,
    list: &BackupList,
    view: View<'_>,
) -> Result<Place, String> {
    let objects = store.list("").await.map_err(|error| chain(&error))?;
    let settings = Settings::read(store, entry).await;
    let tariff = tariff(view.prices, (name, entry), settings.region.as_deref());
    let classed = !matches!(entry.url.parse(), Ok(StoreLocation::Folder(_) | StoreLocation::Sftp(_)));
    let mut place = Place {
        store: name.to_owned(),
        url: entry.url.clone(),
        region: settings.region.clone(),
        tariff: tariff.cloned(),
        classed,
        now: Holding::default(),
        later: Holding::default(),
        restores: Vec::new(),
        warnings: Vec::new(),
    };
    let reading = Reading { entry, settings: &settings, view, tariff, objects: &objects };
    reading.now(&mut place);
    reading.later(list, &mut place);
    place.warnings.extend(settings.warnings.iter().cloned());
    reading.warn(&mut place);
    Ok(place)
}

impl Settings {
    async fn read(store: &dyn ReadStore, entry: &StoreEntry) -> Self {
        let mut settings = Self {
            root: String::new(),
            region: entry.region.clone(),
            rules: Vec::new(),
            old_versions: OldVersions::Gone,
            old: Vec::new(),
            warnings: Vec::new(),
        };
        let Some(bucket) = store.read_bucket() else { return settings };
        bucket.root().clone_into(&mut settings.root);
        let unread = |what, error: &StoreError| Warning::Unread(what, chain(error));
        match bucket.region().await {
            Ok(region) => settings.region = Some(region),
            Err(_) if settings.region.is_some() => {}
            Err(error) => settings.warnings.push(unread("the region", &error)),
        }
        match bucket.lifecycle().await {
            Ok(lifecycle) => settings.rules = lifecycle.rules,
            Err(error) => settings.warnings.push(unread(RULES, &error)),
        }
        match bucket.versioning().await {
            Ok(Versioning::Off) => return settings,
            Ok(Versioning::On) => settings.old_versions = old_versions(&settings),
            Ok(Versioning::Suspended) => {}
            Err(error) => settings.warnings.push(unread("the versions", &error)),
        }
        let rules_unread = settings.warnings.iter().any(|one| matches!(one, Warning::Unread(RULES, _)));
        if settings.old_versions == OldVersions::ForEver && !rules_unread {
            settings.warnings.push(Warning::VersionsForEver);
        }
        let Some(versions) = store.read_versions() else { return settings };
        match versions.list_versions("").await {
            Ok(all) => {
                let old = all.into_iter().filter(|version| !version.latest);
                let class = |class: Option<String>| class.unwrap_or_else(|| PLAIN.to_owned());
                settings.old = old.filter_map(|one| Some((class(one.storage_class), one.size_bytes?))).collect();
            }
            Err(error) => settings.warnings.push(unread("old versions", &error)),
        }
        settings
    }
}

/// How long rules about the whole store keep old versions.
fn old_versions(settings: &Settings) -> OldVersions {
    let general = |rule: &&LifecycleRule| {
        rule.enabled && rule.filter.tags.is_empty() && settings.root.starts_with(&rule.filter.prefix)
    };
    let days = settings.rules.iter().filter(general).filter_map(|rule| rule.noncurrent_expiry.as_ref());
    days.map(|expiry| expiry.days).min().map_or(OldVersions::ForEver, OldVersions::Days)
}

/// The prices of a store: its own, else those of its region when its servers are Amazon's.
fn tariff<'a>(prices: &'a PriceTable, (name, entry): (&str, &StoreEntry), region: Option<&str>) -> Option<&'a Tariff> {
    prices.stores.get(name).or_else(|| prices.regions.get(region.filter(|_| is_amazon(entry))?))
}

fn is_amazon(entry: &StoreEntry) -> bool {
    let host = |endpoint: &String| {
        let rest = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or_default().ends_with(".amazonaws.com")
    };
    entry.url.starts_with("s3://") && entry.endpoint.as_ref().is_none_or(host)
}

fn class(facts: &ObjectFacts) -> &str {
    facts.storage_class.as_deref().unwrap_or(PLAIN)
}

/// The prefix whose WAL an object is; `None` for everything else.
fn wal_prefix(key: &str) -> Option<&str> {
    let (prefix, rest) = match key.strip_prefix("wal/") {
        Some(rest) => ("", rest),
        None => key.split_once("/wal/")?,
    };
    let (system_id, _) = rest.split_once('/')?;
    (!system_id.is_empty() && system_id.bytes().all(|byte| byte.is_ascii_digit())).then_some(prefix)
}

/// One store, read.
struct Reading<'a> {
    entry: &'a StoreEntry,
    settings: &'a Settings,
    view: View<'a>,
    tariff: Option<&'a Tariff>,
    objects: &'a [ObjectFacts],
}

impl<'a> Reading<'a> {
    fn now(&self, place: &mut Place) {
        for facts in self.objects {
            place.now.stock.add(class(facts), (1, facts.size_bytes), self.tariff);
        }
        for (class, size_bytes) in &self.settings.old {
            place.now.lingering.add(class, (1, *size_bytes), self.tariff);
        }
    }

    /// What is neither a backup nor WAL stays as it is.
    fn later(&self, list: &'a BackupList, place: &mut Place) {
        let by_key: BTreeMap<&str, &ObjectFacts> =
            self.objects.iter().map(|facts| (facts.key.as_str(), facts)).collect();
        let mut heaps: BTreeMap<&str, Heap<'a>> = BTreeMap::new();
        let mut rest = by_key.clone();
        for facts in self.objects {
            if let Some(prefix) = wal_prefix(facts.key.as_str()) {
                heaps.entry(prefix).or_default().wal.push(facts);
                rest.remove(facts.key.as_str());
            }
        }
        for backup in &list.backups {
            heaps.entry(&backup.prefix).or_default().backups.push(backup);
        }
        let mut without_pace = Vec::new();
        for (prefix, heap) in &heaps {
            let lots: Vec<Lot> = heap.backups.iter().map(|backup| self.lot(backup, &by_key, &mut rest)).collect();
            let wal_lots: Vec<WalLot> = heap.wal.iter().map(|facts| wal_lot(facts)).collect();
            let wal_ladder = self.wal_ladder(prefix, &heap.wal);
            let ground = Ground {
                policy: self.view.policy,
                old_versions: self.settings.old_versions,
                tariff: self.tariff,
                now: self.view.now,
                days: self.view.days,
                wal_ladder: &wal_ladder,
            };
            let told = outlook(lots, &wal_lots, ground);
            place.later.stock.merge(&told.stock);
            place.later.lingering.merge(&told.lingering);
            place.warnings.extend(told.too_short.into_iter().map(Warning::TooShort));
            without_pace.extend(told.without_pace);
            self.restores((heap, list), &by_key, place);
        }
        for facts in rest.values() {
            place.later.stock.add(class(facts), (1, facts.size_bytes), self.tariff);
        }
        // Old versions of today are gone by then only where a rule removes them.
        let gone = matches!(self.settings.old_versions, OldVersions::Days(days) if days <= self.view.days);
        for (class, size_bytes) in self.settings.old.iter().filter(|_| !gone) {
            place.later.lingering.add(class, (1, *size_bytes), self.tariff);
        }
        if !without_pace.is_empty() {
            place.warnings.push(Warning::NoPace(without_pace));
        }
    }

    /// A backup with all that lies in its folder, and what it names elsewhere; those are taken out of the rest.
    fn lot(&self, backup: &Backup, all: &BTreeMap<&str, &ObjectFacts>, rest: &mut BTreeMap<&str, &ObjectFacts>) -> Lot {
        let folder = format!("{}/", backup.place().folder());
        let inside = all.range(folder.as_str()..).take_while(|(key, _)| key.starts_with(&folder));
        let mut mine: Vec<&ObjectFacts> = inside.map(|(_, facts)| *facts).collect();
        let elsewhere = backup.manifest.objects.iter().filter_map(|object| object.key.as_deref());
        mine.extend(elsewhere.filter_map(|key| all.get(key).copied()));
        for facts in &mine {
            rest.remove(facts.key.as_str());
        }
        let largest = mine.iter().max_by_key(|facts| facts.size_bytes);
        let (here, size_bytes) = largest.map_or((PLAIN, 0), |facts| (class(facts), facts.size_bytes));
        let key = format!("{}{folder}", self.settings.root);
        let age = age_days(backup.manifest.stopped_at, self.view.now);
        let mut candidate = candidate(backup, self.view.now);
        candidate.size_bytes = mine.iter().map(|facts| facts.size_bytes).sum();
        Lot { candidate, objects: mine.len() as u64, ladder: self.ladder((&key, size_bytes), here, age) }
    }

    fn wal_ladder(&self, prefix: &str, wal: &[&ObjectFacts]) -> Ladder {
        let newest = wal.iter().max_by_key(|facts| facts.modified_at);
        let Some(newest) = newest else { return Ladder::flat(PLAIN) };
        let key = format!("{}{}", self.settings.root, family_prefix(prefix, "wal"));
        self.ladder((&key, newest.size_bytes), class(newest), age_days(newest.modified_at, self.view.now))
    }

    /// What becomes of an object of this class and age: new ones are put as the store says, unless what lies there
    /// says otherwise.
    fn ladder(&self, (key, size_bytes): (&str, u64), here: &str, age_days: u32) -> Ladder {
        let subject = Subject { key, size_bytes, tags: &self.entry.tags };
        let put = Ladder::of(&self.settings.rules, subject, self.entry.storage_class.as_deref().unwrap_or(PLAIN));
        if put.at(age_days).1 == here { put } else { Ladder::of(&self.settings.rules, subject, here) }
    }

    /// The newest whole backup of each source and kind, with what it rests on and the WAL since it began.
    fn restores(
        &self,
        (heap, list): (&Heap<'_>, &BackupList),
        by_key: &BTreeMap<&str, &ObjectFacts>,
        place: &mut Place,
    ) {
        let is_whole =
            |backup: &&&Backup| backup.missing.is_empty() && !backup.attested.is_damaged() && list.rests_whole(backup);
        let mut newest: BTreeMap<(&str, &str), &Backup> = BTreeMap::new();
        for backup in heap.backups.iter().filter(is_whole) {
            newest.insert((&backup.manifest.source, &backup.manifest.kind), backup);
        }
        let speed = self.entry.retrieval.as_ref().map_or_else(RetrievalSpeed::default, |policy| policy.tier);
        for ((source, kind), backup) in newest {
            let manifest = &backup.manifest;
            let links = links(backup, heap);
            let own = links.iter().flat_map(|link| objects_of(link, by_key));
            let since = |facts: &&&ObjectFacts| manifest.postgres.is_some() && facts.modified_at >= manifest.started_at;
            let read = own.chain(heap.wal.iter().filter(since).copied());
            let objects: Vec<RestoreObject> = read
                .map(|facts| RestoreObject { class: class(facts).to_owned(), size_bytes: facts.size_bytes })
                .collect();
            place.restores.push(NewestRestore {
                source: source.to_owned(),
                kind: kind.to_owned(),
                backup: manifest.id.clone(),
                cost: restore(&objects, speed, self.tariff),
            });
        }
    }

    fn warn(&self, place: &mut Place) {
        place.warnings.extend(Warning::small(&place.now.stock, self.tariff));
        if self.view.policy.is_none() {
            place.warnings.push(Warning::NoRetention);
        }
        match (&self.tariff, &place.region) {
            (None, Some(region)) if is_amazon(self.entry) => place.warnings.push(Warning::NoRegion(region.clone())),
            (None, _) => {}
            (Some(tariff), _) => {
                let mut all = Stock::default();
                for stock in [&place.now.stock, &place.now.lingering, &place.later.stock, &place.later.lingering] {
                    all.merge(stock);
                }
                let missing: Vec<String> = all.0.into_keys().filter(|class| tariff.class(class).is_none()).collect();
                if !missing.is_empty() {
                    place.warnings.push(Warning::NoClass(missing));
                }
            }
        }
    }
}

/// A backup and what it rests on, itself first.
fn links<'a>(backup: &'a Backup, heap: &Heap<'a>) -> Vec<&'a Backup> {
    let mut links = vec![backup];
    while let Some(parent) = links.last().and_then(|link| link.manifest.parent.as_ref()) {
        let is_it = |one: &&&Backup| one.manifest.id == *parent && one.manifest.source == backup.manifest.source;
        // More links than backups would be a circle.
        let next = heap.backups.iter().find(is_it).copied();
        let Some(next) = next.filter(|_| links.len() < heap.backups.len()) else { break };
        links.push(next);
    }
    links
}

/// What a backup consists of, as it lies there.
fn objects_of<'a>(backup: &Backup, by_key: &BTreeMap<&str, &'a ObjectFacts>) -> Vec<&'a ObjectFacts> {
    let manifest = &backup.manifest;
    let keys = manifest.objects.iter().filter_map(|object| manifest.key_of(&backup.prefix, object).ok());
    keys.filter_map(|key| by_key.get(key.as_str()).copied()).collect()
}

fn wal_lot(facts: &ObjectFacts) -> WalLot {
    WalLot { size_bytes: facts.size_bytes, archived_at: facts.modified_at }
}

fn age_days(from: Timestamp, now: Timestamp) -> u32 {
    u32::try_from(crate::base::clock::between(from, now).as_secs() / 86_400).unwrap_or(u32::MAX)
}

fn chain(error: &StoreError) -> String {
    crate::cli::backups::open_store::of_store(error)
}
