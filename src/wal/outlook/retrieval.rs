//! What of a backup lies in an archived storage class, and how long it takes until it can be read.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{LookError, Recoverable};
use crate::action::{Availability, ObjectFacts, ObjectKey, StorageClass};
use crate::language::inventory::RetrievalSpeed;

/// How many objects are asked for at once.
const WIDTH: usize = 8;

/// What must be retrieved first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToRetrieve {
    /// How many objects.
    pub objects: u64,
    /// Their stored size.
    pub bytes: u64,
    /// The longest it takes, at the speed the store's entry asks for; `None` where its class tells none.
    pub wait_s: Option<u64>,
}

impl Recoverable {
    /// Finds out what of some backups must be retrieved before they can be restored; `None`: nothing.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub async fn to_retrieve(&self, ids: &[String]) -> Result<Option<ToRetrieve>, LookError> {
        let mut keys: Vec<ObjectKey> = Vec::new();
        for id in ids {
            keys.extend(self.objects.get(id).into_iter().flatten().cloned());
        }
        let (store, settings) = self.own()?;
        let asked = keys.into_iter().map(|key| async move { store.head(&key).await });
        let mut asked = stream::iter(asked).buffer_unordered(WIDTH);
        let mut archived: Vec<ObjectFacts> = Vec::new();
        while let Some(facts) = asked.next().await {
            let facts = facts?;
            match facts.availability {
                Availability::Ready | Availability::ReadyUntil(_) => {}
                Availability::Archived | Availability::Retrieving => archived.push(facts),
            }
        }
        let speed = settings.retrieval.as_ref().map_or_else(RetrievalSpeed::default, |policy| policy.tier);
        Ok((!archived.is_empty()).then(|| ToRetrieve::of(&archived, speed)))
    }
}

impl ToRetrieve {
    fn of(archived: &[ObjectFacts], speed: RetrievalSpeed) -> Self {
        let wait = |facts: &ObjectFacts| StorageClass::named(facts.storage_class.as_deref()?)?.retrieval(speed);
        Self {
            objects: archived.len() as u64,
            bytes: archived.iter().map(|facts| facts.size_bytes).sum(),
            wait_s: archived.iter().filter_map(wait).max().as_ref().map(Duration::as_secs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ToRetrieve;
    use crate::action::ObjectFacts;
    use crate::base::clock;
    use crate::language::inventory::RetrievalSpeed;

    #[test]
    fn the_slowest_class_decides_how_long_it_takes() {
        let object = |class: &str, size| {
            let facts = ObjectFacts::new("main/base/x".parse().expect("a key"), size, clock::now());
            ObjectFacts { storage_class: Some(class.to_owned()), ..facts }
        };
        let both = [object("GLACIER", 7), object("DEEP_ARCHIVE", 5)];
        let all = ToRetrieve::of(&both, RetrievalSpeed::Standard);
        assert_eq!((all.objects, all.bytes, all.wait_s), (2, 12, Some(12 * 3600)));
        assert_eq!(ToRetrieve::of(&both[..1], RetrievalSpeed::Expedited).wait_s, Some(300));
        assert_eq!(ToRetrieve::of(&[object("OF_ANOTHER_KIND", 1)], RetrievalSpeed::Standard).wait_s, None);
    }
}
