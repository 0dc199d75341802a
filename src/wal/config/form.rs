//! The configuration as it is written: `store` or `stores`, each a URL or an entry of the inventory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Config, Location};
use crate::base::units::Span;
use crate::language::inventory::{SecretEntry, StoreEntry};
use crate::pgformat::{SegmentName, SystemId};

/// The prefix of an archive that is nowhere: a location stands alone.
const NOWHERE: &str = ".runbook-none";

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<Place>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stores: Vec<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<Folder>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, SecretEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pgdata: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system_id: Option<SystemId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rescue: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_for: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spool: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ahead: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restore: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    through: Option<String>,
}

/// A folder that another program filled: never written, whatever its entry says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    store: Place,
    prefix: String,
}

impl From<Folder> for Location {
    fn from(Folder { store: Place(store), prefix }: Folder) -> Self {
        Self { store: StoreEntry { read_only: true, ..store }, prefix }
    }
}

impl TryFrom<Form> for Config {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let mut stores: Vec<StoreEntry> = match (form.store, form.stores) {
            (Some(Place(one)), more) if more.is_empty() => vec![one],
            (None, more) => more.into_iter().map(|Place(entry)| entry).collect(),
            (Some(_), _) => return Err("`store` and `stores` exclude each other".to_owned()),
        };
        let location = form.location.map(Location::from);
        // Alone, the folder is all there is: beside it nothing is found in its store.
        let alone = location.as_ref().filter(|_| stores.is_empty()).cloned();
        stores.extend(alone.iter().map(|location| location.store.clone()));
        if stores.is_empty() {
            return Err("it names no store: add `store: URL`".to_owned());
        }
        let prefix = form.prefix.or(alone.map(|_| NOWHERE.to_owned()));
        let prefix = prefix.ok_or("missing field `prefix`: the place of the cluster inside the store")?;
        let through = form.through.map(|name| name.parse::<SegmentName>().map_err(|error| error.to_string()));
        let through = through.transpose()?;
        if let Some(wanted) = form.at_least.filter(|wanted| !(1..=stores.len()).contains(wanted)) {
            return Err(format!("`at_least: {wanted}` does not fit the number of stores, {}", stores.len()));
        }
        if form.at_least.is_some_and(|wanted| wanted < stores.len()) && form.spool.is_none() {
            return Err("`at_least` without `spool`: nobody would know what a store lacks".to_owned());
        }
        Ok(Self {
            store: stores.remove(0),
            further: stores,
            at_least: form.at_least,
            prefix,
            location,
            secrets: form.secrets,
            pgdata: form.pgdata,
            system_id: form.system_id,
            rescue: form.rescue,
            log: form.log,
            retry_for: form.retry_for,
            timeout: form.timeout,
            spool: form.spool,
            ahead: form.ahead,
            restore: form.restore,
            through,
        })
    }
}

impl From<Config> for Form {
    fn from(config: Config) -> Self {
        let first = Place(config.store);
        let (store, stores) = match config.further.is_empty() {
            true => (Some(first), Vec::new()),
            false => (None, std::iter::once(first).chain(config.further.into_iter().map(Place)).collect()),
        };
        Self {
            store,
            stores,
            at_least: config.at_least,
            prefix: Some(config.prefix),
            location: config.location.map(|Location { store, prefix }| Folder { store: Place(store), prefix }),
            secrets: config.secrets,
            pgdata: config.pgdata,
            system_id: config.system_id,
            rescue: config.rescue,
            log: config.log,
            retry_for: config.retry_for,
            timeout: config.timeout,
            spool: config.spool,
            ahead: config.ahead,
            restore: config.restore,
            through: config.through.map(|segment| segment.to_string()),
        }
    }
}

/// A store: its URL alone, or an entry of the inventory.
struct Place(StoreEntry);

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the URL of a store, or a store as the inventory has them")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<Place, E> {
        Ok(Place(StoreEntry { url: url.to_owned(), ..StoreEntry::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Place, A::Error> {
        let entry = StoreEntry::deserialize(MapAccessDeserializer::new(map))?;
        if entry.url.is_empty() { Err(A::Error::custom("the store has no `url`")) } else { Ok(Place(entry)) }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(entry) = self;
        if *entry == (StoreEntry { url: entry.url.clone(), ..StoreEntry::default() }) {
            return to.serialize_str(&entry.url);
        }
        entry.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::wal::Config;

    fn read(text: &str) -> Result<Config, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn one_store_is_written_as_before_and_several_as_a_list() {
        let one = read("store: file:///a\nprefix: app\n").unwrap();
        assert_eq!(one.stores().count(), 1);
        assert!(one.to_text().unwrap().contains("\"store\": \"file:///a\""));
        let two =
            read("stores: [file:///a, { url: \"file:///b\", read_only: true }]\nat_least: 1\nspool: /s\nprefix: app\n")
                .unwrap();
        assert_eq!((two.stores().count(), two.at_least()), (2, 1));
        assert_eq!(read(&two.to_text().unwrap()).unwrap(), two);
    }

    #[test]
    fn behind_the_last_segment_that_is_given_nothing_is_there_and_no_newer_timeline_either() {
        let config = read("store: file:///a\nprefix: app\nthrough: '00000002000000010000000A'\n").unwrap();
        assert_eq!(read(&config.to_text().unwrap()).unwrap(), config);
        for (name, withheld) in [
            ("00000002000000010000000A", false),
            ("00000002000000010000000B", true),
            ("000000020000000200000000", true),
            ("0000000100000001000000FF", true),
            ("000000010000000100000001", false),
            ("000000030000000100000001", true),
            ("00000002.history", false),
            ("00000003.history", true),
        ] {
            assert_eq!(config.withholds(name.parse().unwrap()), withheld, "{name}");
        }
        assert!(read("store: file:///a\nprefix: app\nthrough: latest\n").unwrap_err().contains("not the name"));
    }

    #[test]
    fn numbers_of_stores_that_make_no_sense_are_refused() {
        for (text, why) in [
            ("prefix: app\n", "names no store"),
            ("stores: []\nprefix: app\n", "names no store"),
            ("store: file:///a\nstores: [file:///b]\nprefix: app\n", "exclude"),
            ("stores: [file:///a]\nat_least: 2\nprefix: app\n", "does not fit"),
            ("stores: [file:///a]\nat_least: 0\nprefix: app\n", "does not fit"),
            ("stores: [file:///a, file:///b]\nat_least: 1\nprefix: app\n", "without `spool`"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{text}");
        }
    }
}
