//! Storage classes: what the provider says of them beside their price.

use std::time::Duration;

use crate::language::inventory::RetrievalSpeed;

/// A storage class of Amazon S3, as its user guide describes it ("Understanding and managing Amazon S3 storage
/// classes" and "Understanding archive retrieval options").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageClass {
    /// Its name in the API.
    pub name: &'static str,
    /// An object that goes earlier is billed to this day.
    pub minimum_days: u32,
    /// A smaller object is billed as if it had this size.
    pub minimum_bytes: u64,
    /// Bytes billed beside each object, for its index.
    pub overhead_bytes: u64,
    /// A transition may not happen to a younger object.
    pub youngest_days: u32,
    /// How far from at hand it is: a transition leads to a higher one only.
    pub depth: u8,
    /// The longest a retrieval takes, from the fastest to the cheapest; `None` where the class has no such tier.
    /// All `None`: nothing needs to be retrieved.
    retrieval_minutes: [Option<u32>; 3],
}

const KIB: u64 = 1024;
const AT_HAND: [Option<u32>; 3] = [None, None, None];
const HOUR: u32 = 60;

const fn class(name: &'static str, depth: u8, minimum_days: u32, minimum_bytes: u64) -> StorageClass {
    StorageClass {
        name,
        minimum_days,
        minimum_bytes,
        overhead_bytes: 0,
        youngest_days: 0,
        depth,
        retrieval_minutes: AT_HAND,
    }
}

/// The classes, from the one at hand to the deepest.
const CLASSES: &[StorageClass] = &[
    class("STANDARD", 0, 0, 0),
    class("REDUCED_REDUNDANCY", 0, 0, 0),
    StorageClass { youngest_days: 30, ..class("STANDARD_IA", 1, 30, 128 * KIB) },
    class("INTELLIGENT_TIERING", 2, 0, 0),
    StorageClass { youngest_days: 30, ..class("ONEZONE_IA", 3, 30, 128 * KIB) },
    class("GLACIER_IR", 4, 90, 128 * KIB),
    StorageClass {
        overhead_bytes: 40 * KIB,
        retrieval_minutes: [Some(5), Some(5 * HOUR), Some(12 * HOUR)],
        ..class("GLACIER", 5, 90, 0)
    },
    StorageClass {
        overhead_bytes: 40 * KIB,
        retrieval_minutes: [None, Some(12 * HOUR), Some(48 * HOUR)],
        ..class("DEEP_ARCHIVE", 6, 180, 0)
    },
];

impl StorageClass {
    /// Finds a class by its name in the API.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CLASSES.iter().find(|class| class.name == name)
    }

    /// The names of all classes.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        CLASSES.iter().map(|class| class.name).collect()
    }

    /// Whether an object must be retrieved before it can be read.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        self.retrieval_minutes != AT_HAND
    }

    /// The longest a retrieval takes; `None` when nothing needs to be retrieved. A tier that the class lacks counts
    /// as the next slower one.
    #[must_use]
    pub fn retrieval(&self, speed: RetrievalSpeed) -> Option<Duration> {
        let from = match speed {
            RetrievalSpeed::Expedited => 0,
            RetrievalSpeed::Standard => 1,
            RetrievalSpeed::Bulk => 2,
        };
        let minutes = self.retrieval_minutes.iter().skip(from).flatten().next()?;
        Some(Duration::from_secs(u64::from(*minutes) * 60))
    }

    /// Bytes that are billed for an object of this size.
    #[must_use]
    pub fn billed_bytes(&self, size_bytes: u64) -> u64 {
        size_bytes.max(self.minimum_bytes) + self.overhead_bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

    use std::time::Duration;

    use super::StorageClass;
    use crate::language::inventory::RetrievalSpeed;

    #[test]
    fn the_deepest_class_has_no_fast_retrieval_and_is_billed_for_half_a_year() {
        let deepest = StorageClass::named("DEEP_ARCHIVE").unwrap();
        assert_eq!(deepest.retrieval(RetrievalSpeed::Expedited), Some(Duration::from_secs(12 * 3600)));
        assert_eq!(deepest.minimum_days, 180);
        assert!(!StorageClass::named("GLACIER_IR").unwrap().is_archive());
    }

    #[test]
    fn a_small_object_is_billed_as_a_larger_one() {
        assert_eq!(StorageClass::named("STANDARD_IA").unwrap().billed_bytes(1), 128 * 1024);
        assert_eq!(StorageClass::named("STANDARD").unwrap().billed_bytes(1), 1);
    }
}
