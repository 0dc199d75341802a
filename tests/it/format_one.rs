//! A base backup with a manifest of format 1, as the first version wrote it, is restored and recovered.

use std::fs;

use runbook::action::PutOptions;
use runbook::base::Digest;
use runbook::catalog::{Query, find};
use runbook::language::inventory::{Compression, CompressionFormat, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::recovery::{Depot, Site};

/// Takes out of a manifest what format 1 did not have.
fn of_format_one(text: &[u8]) -> Value {
    let mut manifest: Value = serde_json::from_slice(text).unwrap();
    let fields = manifest.as_object_mut().unwrap();
    fields.insert("format".to_owned(), json!(1));
    let source = fields.remove("source").unwrap();
    fields.insert("database".to_owned(), source);
    for new in ["tier", "environment", "run", "parent", "dump", "facts"] {
        fields.remove(new);
    }
    let postgres = fields["postgres"].as_object_mut().unwrap();
    for new in ["data_checksums", "archiving", "databases"] {
        postgres.remove(new);
    }
    for object in fields["objects"].as_array_mut().unwrap() {
        let object = object.as_object_mut().unwrap();
        for new in ["encoding", "plain", "key", "archive_of"] {
            object.remove(new);
        }
    }
    manifest
}

#[tokio::test]
async fn a_backup_with_a_manifest_of_format_1_is_restored() {
    let plain = Compression { format: CompressionFormat::None, level: None };
    let entry = StoreEntry { compression: Some(plain), ..StoreEntry::default() };
    let site = Site::over(Depot { entry, ..Depot::default() }, &[]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    let key = format!("main/base/{}/manifest.json", backup.id);
    let text = of_format_one(&fs::read(site.depot.root.join(&key)).unwrap()).to_string().into_bytes();
    let store = Opening::plain(&site.depot.entry, "primary").open().unwrap();
    let metadata = [("sha256".to_owned(), Digest::of(&text).to_string())].into();
    let options = PutOptions { metadata, ..PutOptions::default() };
    store.put(&key.parse().unwrap(), Box::new(std::io::Cursor::new(text)), options).await.unwrap();
    let found = find(store.as_read(), "main", &Query::default()).await.unwrap();
    assert_eq!((found.manifest.format, found.manifest.source.as_str()), (1, "main"));
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let staged = run.stage(&found.handle()).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2", "{}", site.said());
}
