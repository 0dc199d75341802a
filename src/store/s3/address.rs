//! Where a store lies in S3: a bucket and what every key begins with.

use crate::action::ObjectKey;

/// A bucket and a prefix in it, of an URL `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The bucket.
    pub(super) bucket: String,
    /// What the names of the store's objects begin with: empty, or ending in `/`.
    pub(super) prefix: String,
}

impl Address {
    /// Reads an URL; the error says in words what is wrong with it.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let form = || format!("`{url}` is not an URL of the form `s3://bucket/prefix`");
        let rest = url.strip_prefix("s3://").ok_or_else(form)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if bucket.is_empty() || !bucket.chars().all(fits) {
            return Err(form());
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() {
            return Ok(Self { bucket: bucket.to_owned(), prefix: String::new() });
        }
        let key: ObjectKey = prefix.parse().map_err(|_| form())?;
        Ok(Self { bucket: bucket.to_owned(), prefix: format!("{key}/") })
    }

    /// The object's whole name in the bucket.
    pub(super) fn object(&self, key: &ObjectKey) -> String {
        self.below(key.as_str())
    }

    /// What the names in the bucket begin with, for what the store's keys begin with.
    pub(super) fn below(&self, prefix: &str) -> String {
        format!("{}{prefix}", self.prefix)
    }

    /// The key of an object in the bucket; none for what is not the store's or is no key.
    pub(super) fn key(&self, object: &str) -> Option<ObjectKey> {
        object.strip_prefix(self.prefix.as_str())?.parse().ok()
    }

    /// The name of an object as the source of a copy: every byte that may mean something is written as `%XX`.
    pub(super) fn copy_source(&self, key: &ObjectKey, version: Option<&str>) -> String {
        let version = version.map(|version| format!("?versionId={}", percent(version, ""))).unwrap_or_default();
        format!("{}/{}{version}", self.bucket, percent(&self.object(key), "/"))
    }
}

/// Writes every byte but letters, digits, `-._~` and those in `kept` as `%XX`.
pub(super) fn percent(text: &str, kept: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_url_names_a_bucket_and_perhaps_a_prefix() {
        let address = |url: &str| Address::parse(url).map(|address| (address.bucket, address.prefix));
        assert_eq!(address("s3://b").unwrap(), ("b".into(), String::new()));
        assert_eq!(address("s3://b/").unwrap(), ("b".into(), String::new()));
        assert_eq!(address("s3://b.c/x/y/").unwrap(), ("b.c".into(), "x/y/".into()));
        for wrong in ["s3://", "s3:///x", "s3://b//x", "s3://b/../x", "http://b/x", "s3://b c/x", "s3://u@h/x"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_prefix_is_hidden_from_keys() {
        let address = Address::parse("s3://b/x").unwrap();
        let key: ObjectKey = "a/b +%ä".parse().unwrap();
        assert_eq!(address.object(&key), "x/a/b +%ä");
        assert_eq!(address.key("x/a/b +%ä"), Some(key.clone()));
        assert_eq!((address.key("y/a"), address.key("x/"), address.key("x/a/")), (None, None, None));
        assert_eq!(address.copy_source(&key, Some("v=1")), "b/x/a/b%20%2B%25%C3%A4?versionId=v%3D1");
    }
}
