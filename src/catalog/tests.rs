//! The catalog over a real folder.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use super::*;
use crate::action::{
    BoxFuture, ByteStream, GetOptions, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Store, StoreError,
};
use crate::base::{Digest, Timestamp};
use crate::pgformat::{SegmentSize, SystemId, Timeline};

/// A store in memory, since the catalog may not know any kind of store.
#[derive(Default)]
struct Memory(std::sync::Mutex<std::collections::BTreeMap<ObjectKey, (Vec<u8>, PutOptions)>>);

impl ReadStore for Memory {
    fn name(&self) -> &str {
        "memory"
    }
    fn get_with(&self, key: &ObjectKey, _: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let found = self.0.lock().unwrap().get(key).map(|(bytes, _)| bytes.clone());
        let missing = StoreError::NotFound { store: "memory".to_owned(), key: key.to_string() };
        Box::pin(async move {
            let body: ByteStream = Box::new(std::io::Cursor::new(found.ok_or(missing)?));
            Ok(body)
        })
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let found = self.0.lock().unwrap().get(key).cloned();
        let key = key.clone();
        Box::pin(async move {
            let missing = StoreError::NotFound { store: "memory".to_owned(), key: key.to_string() };
            let (bytes, options) = found.ok_or(missing)?;
            let mut metadata = options.metadata;
            metadata.entry("sha256".to_owned()).or_insert_with(|| Digest::of(&bytes).to_string());
            Ok(ObjectFacts { metadata, ..ObjectFacts::new(key, bytes.len() as u64, Timestamp::UNIX_EPOCH) })
        })
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let objects = self.0.lock().unwrap();
        let found = objects
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, (bytes, _))| ObjectFacts::new(key.clone(), bytes.len() as u64, Timestamp::UNIX_EPOCH));
        let found: Vec<ObjectFacts> = found.collect();
        Box::pin(async move { Ok(found) })
    }
}

impl Store for Memory {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            let mut bytes = Vec::new();
            let mut body = body;
            tokio::io::AsyncReadExt::read_to_end(&mut body, &mut bytes).await.unwrap();
            let mut objects = self.0.lock().unwrap();
            let existed = match objects.get(&key) {
                Some((old, _)) if *old != bytes && options.if_absent => {
                    return Err(StoreError::Exists { store: "memory".to_owned(), key: key.to_string() });
                }
                Some(_) => true,
                None => false,
            };
            let outcome =
                PutOutcome { size_bytes: bytes.len() as u64, sha256: Digest::of(&bytes), existed, version: None };
            objects.insert(key, (bytes, options));
            Ok(outcome)
        })
    }
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.lock().unwrap().remove(key);
        Box::pin(async { Ok(()) })
    }
    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn manifest(id: &str, stopped_at: &str) -> Manifest {
    Manifest {
        postgres: Some(PostgresFacts {
            bad_pages: Vec::new(),
            configuration: None,
            preload_libraries: Vec::new(),
            server_version: "15.18".to_owned(),
            system_id: SystemId(7),
            timeline: Timeline(1),
            start_lsn: "0/2000028".parse().unwrap(),
            stop_lsn: "0/4000000".parse().unwrap(),
            segment_size: SegmentSize::DEFAULT,
            tablespaces: Vec::new(),
            slots: Vec::new(),
            standbys: Vec::new(),
            data_checksums: None,
            archiving: None,
            databases: Vec::new(),
        }),
        objects: vec![ManifestObject::new("base.tar", 4, Digest::of(b"data"), ObjectRole::Data)],
        ..Manifest::new(id, KIND_POSTGRES_BASE, "app", (at(stopped_at), at(stopped_at)))
    }
}

async fn stored(store: &Memory, id: &str, stopped_at: &str) -> Backup {
    let key = place(id).key("base.tar").unwrap();
    store.put(&key, Box::new(std::io::Cursor::new(b"data".to_vec())), PutOptions::default()).await.unwrap();
    commit(store, "app", manifest(id, stopped_at)).await.unwrap()
}

fn place(id: &str) -> BackupPlace {
    BackupPlace::new("app", (KIND_POSTGRES_BASE, None), id)
}

fn query() -> Query {
    Query { source: Some("app".to_owned()), kind: Some(KIND_POSTGRES_BASE.to_owned()), ..Query::default() }
}

fn before(text: &str) -> Query {
    Query { before: Some(at(text)), ..query() }
}

#[tokio::test]
async fn a_backup_is_chosen_by_the_time_it_ended() {
    let store = Arc::new(Memory::default());
    // The names are in the wrong order on purpose: only the recorded time counts.
    stored(&store, "b-old", "2026-01-01T00:00:00Z").await;
    let newest = stored(&store, "a-new", "2026-01-03T00:00:00Z").await;
    let chosen = async |query: Query| find(&*store, "app", &query).await.map(|backup| backup.manifest.id);
    assert_eq!(chosen(query()).await.unwrap(), "a-new");
    assert_eq!(chosen(before("2026-01-03T00:00:00Z")).await.unwrap(), "b-old");
    assert_eq!(chosen(before("2026-01-03T00:00:01Z")).await.unwrap(), "a-new");
    assert_eq!(chosen(Query { id: Some("b-old".to_owned()), ..query() }).await.unwrap(), "b-old");
    assert_eq!(chosen(Query { pick: Pick::Oldest, ..query() }).await.unwrap(), "b-old");
    assert!(matches!(chosen(before("2026-01-01T00:00:00Z")).await, Err(CatalogError::NoBackup(_))));
    assert_eq!(open(&*store, "app", &newest.handle()).await.unwrap(), newest);
}

#[tokio::test]
async fn what_has_no_valid_manifest_is_no_backup() {
    let store = Memory::default();
    stored(&store, "good", "2026-01-01T00:00:00Z").await;
    let key = place("unfinished").key("base.tar").unwrap();
    store.put(&key, Box::new(std::io::Cursor::new(b"data".to_vec())), PutOptions::default()).await.unwrap();
    let key = place("torn").manifest_key().unwrap();
    store.put(&key, Box::new(std::io::Cursor::new(b"{\"format\":1".to_vec())), PutOptions::default()).await.unwrap();
    let list = list(&store, "app").await.unwrap();
    assert_eq!(list.backups.len(), 1);
    assert_eq!(list.damaged.len(), 1);
    assert_eq!(list.damaged[0].key, key);
}

#[tokio::test]
async fn a_manifest_is_not_written_before_its_objects() {
    let store = Memory::default();
    let refused = commit(&store, "app", manifest("x", "2026-01-01T00:00:00Z")).await;
    assert!(matches!(refused, Err(CatalogError::Damaged { .. })));
    assert!(store.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_manifest_that_changed_since_it_was_chosen_is_refused() {
    let store = Memory::default();
    let backup = stored(&store, "x", "2026-01-01T00:00:00Z").await;
    let mut other = backup.manifest.clone();
    other.tool_version = "9".to_owned();
    store.delete(&place("x").manifest_key().unwrap()).await.unwrap();
    commit(&store, "app", other).await.unwrap();
    assert!(matches!(open(&store, "app", &backup.handle()).await, Err(CatalogError::Changed(_))));
}

#[tokio::test]
async fn unknown_fields_of_a_later_version_are_tolerated() {
    let store = Memory::default();
    let backup = stored(&store, "x", "2026-01-01T00:00:00Z").await;
    let mut value = serde_json::to_value(&backup.manifest).unwrap();
    value["novelty"] = true.into();
    value["objects"][0]["role"] = "hologram".into();
    let text = serde_json::to_vec(&value).unwrap();
    store
        .put(&place("x").manifest_key().unwrap(), Box::new(std::io::Cursor::new(text)), PutOptions::default())
        .await
        .unwrap();
    assert_eq!(load(&store, &place("x")).await.unwrap().manifest.objects[0].role, ObjectRole::Unknown);
}

#[tokio::test]
async fn a_prefix_belongs_to_one_cluster() {
    let store = Memory::default();
    claim_prefix(&store, "app", SystemId(7)).await.unwrap();
    claim_prefix(&store, "app", SystemId(7)).await.unwrap();
    assert!(matches!(claim_prefix(&store, "app", SystemId(8)).await, Err(CatalogError::OtherCluster { .. })));
}

#[test]
fn the_segments_of_a_backup_end_with_the_one_that_holds_its_last_byte() {
    let names: Vec<String> =
        manifest("x", "2026-01-01T00:00:00Z").postgres.unwrap().segments().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["000000010000000000000002", "000000010000000000000003"]);
}

#[test]
fn only_databases_that_the_c_library_sorts_are_held_against_its_version() {
    let locale = |provider: Option<&str>, collate: &str, version: &str| DatabaseLocale {
        name: "app".to_owned(),
        encoding: "UTF8".to_owned(),
        collate: collate.to_owned(),
        collation_version: Some(version.to_owned()),
        provider: provider.map(str::to_owned),
    };
    for (provider, collate, version, told) in [
        (Some("c"), "de_DE.UTF-8", "2.36", Some("2.36")),
        (Some("i"), "de_DE.UTF-8", "153.120", None),
        (Some("b"), "C.UTF-8", "1", None),
        (Some("c"), "C", "2.36", None),
        (None, "de_DE.UTF-8", "2.36", Some("2.36")),
        (None, "de_DE.UTF-8", "153.120", None),
    ] {
        assert_eq!(locale(provider, collate, version).glibc_version(), told, "{provider:?} {collate} {version}");
    }
}

#[test]
fn a_manifest_from_before_label_archiving_and_collations_is_read_as_it_was() {
    let mut newer = manifest("a", "2026-01-28T14:30:00Z");
    let older = serde_json::to_value(&newer).unwrap();
    for field in ["label", "data_checksums", "archiving", "databases"] {
        assert!(!older.to_string().contains(field), "`{field}` in {older}");
    }
    assert_eq!(serde_json::from_value::<Manifest>(older).unwrap(), newer);
    newer.label = Some("before the upgrade".to_owned());
    newer.postgres.as_mut().unwrap().archiving =
        Some(ArchiveSettings { mode: "on".to_owned(), ..ArchiveSettings::default() });
    newer.postgres.as_mut().unwrap().databases.push(DatabaseLocale {
        name: "app".to_owned(),
        encoding: "UTF8".to_owned(),
        collate: "de_DE.UTF-8".to_owned(),
        collation_version: Some("2.36".to_owned()),
        provider: Some("c".to_owned()),
    });
    assert_eq!(serde_json::from_value::<Manifest>(serde_json::to_value(&newer).unwrap()).unwrap(), newer);
}
