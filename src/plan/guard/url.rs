//! URLs by what they lead to: one way of writing each, compared part by part.

use std::fmt;

/// A prefix of URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    scheme: String,
    /// Host and port, without the name of a user and a port that goes without saying.
    authority: String,
    parts: Vec<String>,
}

impl Url {
    pub(super) fn of(text: &str) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = authority.rsplit('@').next().unwrap_or_default().to_lowercase();
        let scheme = match scheme.to_lowercase().as_str() {
            // The same place, by another door.
            "http" => "https".to_owned(),
            other => other.to_owned(),
        };
        let plain = |port: &str| if scheme == "https" { authority.strip_suffix(port) } else { None };
        let authority = plain(":443").or_else(|| plain(":80")).unwrap_or(&authority).to_owned();
        let mut parts: Vec<String> = Vec::new();
        for part in path.split('/').map(decoded) {
            match part.as_str() {
                "" | "." => {}
                ".." => drop(parts.pop()),
                _ => parts.push(part),
            }
        }
        Self { scheme, authority, parts }
    }

    /// Tells whether one equals, contains or lies inside the other.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let nested = self.parts.starts_with(&other.parts) || other.parts.starts_with(&self.parts);
        self.scheme == other.scheme && self.authority == other.authority && nested
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.authority, self.parts.join("/"))
    }
}

/// A part with its `%41` as the character that is meant.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%');
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn a_url_is_the_same_however_it_is_written_and_a_longer_name_is_another_one() {
        let protected = Url::of("s3://bucket/backups/a");
        for same in [
            "s3://bucket/backups/a/",
            "S3://Bucket//backups/./a",
            "s3://key@bucket/backups/x/../a/deep/er",
            "s3://bucket/backups",
            "s3://bucket",
            "s3://bucket/back%75ps/a?part=1",
        ] {
            assert!(Url::of(same).meets(&protected) && protected.meets(&Url::of(same)), "{same}");
        }
        for other in ["s3://bucket/backups/ab", "s3://bucket2/backups/a", "gs://bucket/backups/a", "s3://bucket/b"] {
            assert!(!Url::of(other).meets(&protected), "{other}");
        }
        assert!(Url::of("http://api.example:80/v1").meets(&Url::of("https://API.example/v1/orders")));
        assert!(!Url::of("https://api.example:8443/v1").meets(&Url::of("https://api.example/v1")));
    }
}
