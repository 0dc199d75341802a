//! A store that keeps other bytes than it was sent: what it made of them does not stay under the name of a backup.

use std::sync::Arc;

use runbook::action::{
    BoxFuture, ByteStream, GetOptions, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Store, StoreError,
};
use runbook::base::Digest;
use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;
use runbook::transfer::{Packing, upload};
use tokio::io::AsyncReadExt as _;

use crate::support::parcel::body;

/// Flips the first bit of whatever it is given.
struct Altering(Arc<dyn Store>);

impl ReadStore for Altering {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        self.0.get_with(key, options)
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        self.0.head(key)
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        self.0.list(prefix)
    }
}

impl Store for Altering {
    fn put(
        &self,
        key: &ObjectKey,
        mut body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes).await.unwrap();
            bytes[0] ^= 1;
            let outcome = self.0.put(&key, Box::new(std::io::Cursor::new(bytes.clone())), options).await?;
            Ok(PutOutcome { sha256: Digest::of(&bytes), ..outcome })
        })
    }
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.delete(key)
    }
    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}

#[tokio::test]
async fn what_a_store_made_of_other_bytes_is_removed_unless_an_object_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let entry = StoreEntry { url: format!("file://{}", folder.path().join("s").display()), ..StoreEntry::default() };
    let store = Altering(Opening::plain(&entry, "near").open().unwrap());
    let key: ObjectKey = "a/backup".parse().unwrap();
    let put = async || upload((&store, &key), body(b"content"), &Packing::plain(), PutOptions::default()).await;
    let said = put().await.unwrap_err().to_string();
    assert!(said.contains("other bytes than were sent") && said.contains("removed again"), "{said}");
    assert!(store.head(&key).await.is_err(), "nothing is left");
    let before = Box::new(std::io::Cursor::new(b"before".to_vec()));
    store.0.put(&key, before, PutOptions::default()).await.unwrap();
    let said = put().await.unwrap_err().to_string();
    assert!(said.contains("it is left"), "{said}");
    assert!(store.head(&key).await.is_ok());
}
