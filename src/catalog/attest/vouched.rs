//! A store in which a restore proof counts only when somebody who is trusted has signed it.

use std::collections::BTreeSet;

use super::NOTE_LIMIT;
use super::proof::FOLDER;
use crate::action::{
    BoxFuture, ByteStream, Capacity, GetOptions, Listing, ObjectFacts, ObjectKey, ReadBucket, ReadStore, ReadVersions,
    StoreError, Unfinished,
};
use crate::base::signer::{AllowedSigners, Signer, SignersError, verify};
use crate::catalog::{CatalogError, read_small};

/// Shows a store without the proofs that nobody who is trusted has signed. Whoever may write into a store can write a
/// proof; where no signers are named every one counts.
pub struct Vouched<'a> {
    store: &'a dyn ReadStore,
    /// `None` where nobody is named: every proof counts. Lines that trust nobody for this vouch for none.
    signers: Option<AllowedSigners>,
}

impl<'a> Vouched<'a> {
    /// Trusts the signers of these lines, as the inventory's `audit.proof_signers` names them.
    ///
    /// # Errors
    /// Fails when a line makes no sense.
    pub fn of(store: &'a dyn ReadStore, signers: &[String]) -> Result<Self, SignersError> {
        let named = (!signers.is_empty()).then(|| AllowedSigners::parse(signers.iter().map(String::as_str)));
        Ok(Self { store, signers: named.transpose()? })
    }

    /// Whether one of these signers has signed a proof.
    async fn counts(
        &self,
        proof: &ObjectKey,
        (listed, signers): (&BTreeSet<ObjectKey>, &AllowedSigners),
    ) -> Result<bool, StoreError> {
        let beside: Option<ObjectKey> = format!("{proof}.sig").parse().ok();
        let Some(beside) = beside.filter(|beside| listed.contains(beside)) else { return Ok(false) };
        let (Some(text), Some(signature)) = (self.small(proof).await?, self.small(&beside).await?) else {
            return Ok(false);
        };
        let signature = String::from_utf8_lossy(&signature);
        Ok(matches!(verify(&text, &signature, signers), Ok(Signer::Known { .. })))
    }

    /// A small object; `None` for one that is gone or longer than any note.
    async fn small(&self, key: &ObjectKey) -> Result<Option<Vec<u8>>, StoreError> {
        match read_small(self.store, key, NOTE_LIMIT).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(CatalogError::Store(error)) => Err(error),
            Err(
                CatalogError::Damaged { .. }
                | CatalogError::Key(_)
                | CatalogError::Kind { .. }
                | CatalogError::NoBackup(_)
                | CatalogError::Changed(_)
                | CatalogError::Torn { .. }
                | CatalogError::OtherCluster { .. },
            ) => Ok(None),
        }
    }
}

/// Whether a key may be that of a proof: `…/proofs/<time>-<run>.json`.
fn is_proof(key: &str) -> bool {
    key.ends_with(".json") && key.rsplit_once('/').is_some_and(|(folder, _)| format!("{folder}/").ends_with(FOLDER))
}

impl ReadStore for Vouched<'_> {
    fn name(&self) -> &str {
        self.store.name()
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        self.store.get_with(key, options)
    }

    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        self.store.head(key)
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let listed = self.store.list(&prefix).await?;
            let Some(signers) = &self.signers else { return Ok(listed) };
            let keys: BTreeSet<ObjectKey> = listed.iter().map(|facts| facts.key.clone()).collect();
            let mut shown = Vec::new();
            for facts in listed {
                if !is_proof(facts.key.as_str()) || self.counts(&facts.key, (&keys, signers)).await? {
                    shown.push(facts);
                }
            }
            Ok(shown)
        })
    }

    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        self.store.browse(prefix)
    }

    fn unfinished(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        self.store.unfinished(prefix)
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        self.store.capacity()
    }

    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        self.store.read_versions()
    }

    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        self.store.read_bucket()
    }
}
