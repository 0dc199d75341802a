//! Which version of an object is meant: one by its id, or the one a time saw.

use std::collections::BTreeMap;

use crate::action::{ActionError, Late, ObjectKey, ObjectVersion, ParamFault, ReadStore, ReadVersions};
use crate::actions::store::store_failed;
use crate::base::Timestamp;

/// Reads a time, which must say its offset.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is not a time with an offset, such as `2026-01-28T14:30:00Z`"))
}

/// Judges the argument `as_of`.
pub(super) fn time_fault(as_of: Option<&Late<String>>) -> Option<ParamFault> {
    let what = time(as_of?.known()?).err()?;
    Some(ParamFault::new("/as_of", what))
}

/// The store's versions.
pub(super) fn versions_of(store: &dyn ReadStore) -> Result<&dyn ReadVersions, ActionError> {
    store.read_versions().ok_or_else(|| {
        ActionError::fatal(format!("store `{}` keeps no versions", store.name()))
            .help("only a bucket with versioning switched on keeps what was there before")
    })
}

/// Of each key, newest first, what was current at a time. A deleted object is one without a size.
pub(super) fn current_at(all: Vec<ObjectVersion>, at: Timestamp) -> BTreeMap<ObjectKey, ObjectVersion> {
    let mut current: BTreeMap<ObjectKey, ObjectVersion> = BTreeMap::new();
    for version in all.into_iter().filter(|version| version.at <= at) {
        let known = current.get(&version.key);
        if known.is_none_or(|known| known.at < version.at) {
            current.insert(version.key.clone(), version);
        }
    }
    current
}

/// The version of one object that a time saw.
pub(super) async fn seen_at(
    store: &dyn ReadStore,
    key: &ObjectKey,
    at: Timestamp,
) -> Result<ObjectVersion, ActionError> {
    let all = versions_of(store)?.list_versions(key.as_str()).await.map_err(store_failed)?;
    let absent = || ActionError::fatal(format!("there was no object `{key}` at {at}"));
    let mut found = current_at(all, at);
    found.remove(key).filter(|version| version.size_bytes.is_some()).ok_or_else(absent)
}

#[cfg(test)]
mod tests {
    use super::current_at;
    use crate::action::ObjectVersion;

    fn version(key: &str, version: &str, at: &str, size_bytes: Option<u64>) -> ObjectVersion {
        let key = key.parse().expect("a key");
        ObjectVersion {
            key,
            version: version.to_owned(),
            at: at.parse().expect("a time"),
            latest: false,
            size_bytes,
            storage_class: None,
        }
    }

    #[test]
    fn a_time_sees_the_last_version_before_it_and_deleted_is_absent() {
        let all = vec![
            version("a", "3", "2026-01-03T00:00:00Z", Some(3)),
            version("a", "2", "2026-01-02T00:00:00Z", None),
            version("a", "1", "2026-01-01T00:00:00Z", Some(1)),
            version("b", "9", "2026-01-05T00:00:00Z", Some(9)),
        ];
        let seen = |at: &str| {
            let seen = current_at(all.clone(), at.parse().expect("a time"));
            seen.into_values().map(|version| (version.version, version.size_bytes)).collect::<Vec<_>>()
        };
        assert_eq!(seen("2026-01-01T12:00:00Z"), [("1".to_owned(), Some(1))]);
        assert_eq!(seen("2026-01-02T12:00:00Z"), [("2".to_owned(), None)]);
        assert_eq!(seen("2026-01-06T00:00:00Z"), [("3".to_owned(), Some(3)), ("9".to_owned(), Some(9))]);
        assert!(seen("2025-01-01T00:00:00Z").is_empty());
    }
}
