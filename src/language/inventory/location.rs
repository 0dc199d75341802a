//! Where a store lies: its URL, read once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The schemes of stores.
pub const SCHEMES: [&str; 5] = ["file", "s3", "gs", "az", "sftp"];

/// Where a store lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder of this machine, `file:///absolute/path`.
    Folder(PathBuf),
    /// A bucket of S3, `s3://bucket/prefix`.
    S3(BucketPlace),
    /// A bucket of Google Cloud Storage, `gs://bucket/prefix`.
    Google(BucketPlace),
    /// A container of Azure Blob Storage, `az://container/prefix`.
    Azure(BucketPlace),
    /// A folder of another machine, `sftp://user@host:port/absolute/path`.
    Sftp(SftpPlace),
}

/// A bucket or container and what its keys begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlace {
    /// The bucket.
    pub bucket: String,
    /// Empty, or parts that each end in `/`.
    pub prefix: String,
}

/// A folder behind `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    /// The user; default as `ssh` says.
    pub user: Option<String>,
    /// The machine, or its alias in the configuration of `ssh`.
    pub host: String,
    /// The port; default as `ssh` says.
    pub port: Option<u16>,
    /// The folder, absolute.
    pub path: PathBuf,
}

/// A text is not the URL of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrlError {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub help: String,
}

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.help)
    }
}

impl std::error::Error for StoreUrlError {}

impl StoreLocation {
    /// Its scheme.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Folder(_) => "file",
            Self::S3(_) => "s3",
            Self::Google(_) => "gs",
            Self::Azure(_) => "az",
            Self::Sftp(_) => "sftp",
        }
    }
}

impl FromStr for StoreLocation {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let wrong = |help: String| StoreUrlError { what: format!("`{text}` is not the URL of a store"), help };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(match text.starts_with('/') {
                true => format!("write it as an URL: `file://{text}`"),
                false => "write a folder as `file:///srv/backups`, a bucket as `s3://bucket/prefix`".to_owned(),
            }));
        };
        match scheme {
            "file" => folder(rest).map(Self::Folder),
            "s3" => bucket(scheme, "bucket", rest).map(Self::S3),
            "gs" => bucket(scheme, "bucket", rest).map(Self::Google),
            "az" => bucket(scheme, "container", rest).map(Self::Azure),
            "sftp" => sftp(rest).map(Self::Sftp),
            other => Err(match meant(other) {
                Some(near) => format!("did you mean `{near}://`?"),
                None => format!("known are `{}://`", SCHEMES.join("://`, `")),
            }),
        }
        .map_err(wrong)
    }
}

/// The scheme that was meant.
fn meant(scheme: &str) -> Option<&'static str> {
    match scheme.to_lowercase().as_str() {
        "gcs" | "gcp" => Some("gs"),
        "azure" | "abfs" | "abfss" | "wasb" | "wasbs" | "adl" => Some("az"),
        "ssh" | "scp" => Some("sftp"),
        "s3a" | "s3n" => Some("s3"),
        other => {
            let near = SCHEMES.into_iter().map(|known| (strsim::damerau_levenshtein(other, known), known)).min();
            near.filter(|(distance, _)| *distance <= 1).map(|(_, known)| known)
        }
    }
}

fn folder(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') || path.len() < 2 {
        return Err("write three slashes and an absolute path: `file:///srv/backups`".to_owned());
    }
    plain(path).map(PathBuf::from)
}

/// A path that means what it says: nothing in it is encoded or climbs.
fn plain(path: &str) -> Result<&str, String> {
    if path.split('/').any(|part| part == "..") {
        return Err("the path holds no `..`: it says where it leads".to_owned());
    }
    if path.contains('%') || path.chars().any(char::is_control) {
        return Err("the path is written as it is, without `%`".to_owned());
    }
    Ok(path)
}

fn bucket(scheme: &str, what: &str, rest: &str) -> Result<BucketPlace, String> {
    let form = format!("write it as `{scheme}://{what}/prefix`");
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$' | ':');
    if bucket.is_empty() {
        return Err(format!("the {what} is missing: {form}"));
    }
    if !bucket.chars().all(fits) {
        return Err(format!("`{bucket}` is not the name of a {what}: {form}"));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() {
        return Ok(BucketPlace { bucket: bucket.to_owned(), prefix: String::new() });
    }
    let fits = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    if !prefix.split('/').all(fits) || prefix.contains('?') {
        return Err(format!("the prefix has parts without empty ones, `.`, `..` and `?`: {form}"));
    }
    Ok(BucketPlace { bucket: bucket.to_owned(), prefix: format!("{prefix}/") })
}

fn sftp(rest: &str) -> Result<SftpPlace, String> {
    const FORM: &str = "write it as `sftp://user@host:port/absolute/path`";
    let (authority, path) = rest.split_once('/').ok_or_else(|| format!("the path is missing: {FORM}"))?;
    if path.is_empty() {
        return Err(format!("the path is missing: {FORM}"));
    }
    let path = format!("/{path}");
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = host_and_port(place).ok_or_else(|| FORM.to_owned())?;
    if user.is_some_and(|user| user.contains(':')) {
        return Err(
            "no password stands in an URL: `ssh` takes a key, by `ssh: { identity: … }` or its agent".to_owned()
        );
    }
    // What begins with a hyphen would be an option to `ssh`.
    let fits = |name: &str| {
        !name.is_empty() && !name.starts_with('-') && !name.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if !fits(host) || !user.is_none_or(fits) {
        return Err(FORM.to_owned());
    }
    let path = plain(&path)?;
    Ok(SftpPlace { user: user.map(str::to_owned), host: host.to_owned(), port, path: PathBuf::from(path) })
}

fn host_and_port(place: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse().ok().filter(|port: &u16| *port != 0);
    if let Some(rest) = place.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        return match tail.strip_prefix(':') {
            Some(text) => Some((host, Some(port(text)?))),
            None => tail.is_empty().then_some((host, None)),
        };
    }
    match place.split_once(':') {
        Some((host, text)) => Some((host, Some(port(text)?))),
        None => Some((place, None)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn place(url: &str) -> StoreLocation {
        url.parse().unwrap()
    }

    #[test]
    fn an_url_says_where_a_store_lies() {
        assert_eq!(place("file:///srv/backups"), StoreLocation::Folder("/srv/backups".into()));
        let bucket = |bucket: &str, prefix: &str| BucketPlace { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        assert_eq!(place("s3://b"), StoreLocation::S3(bucket("b", "")));
        assert_eq!(place("gs://b.example/a/b/"), StoreLocation::Google(bucket("b.example", "a/b/")));
        assert_eq!(place("az://$root/a b"), StoreLocation::Azure(bucket("$root", "a b/")));
        let sftp = |user: Option<&str>, host: &str, port| {
            let user = user.map(str::to_owned);
            StoreLocation::Sftp(SftpPlace { user, host: host.to_owned(), port, path: "/srv/b".into() })
        };
        assert_eq!(place("sftp://host/srv/b"), sftp(None, "host", None));
        assert_eq!(place("sftp://me@host:2222/srv/b"), sftp(Some("me"), "host", Some(2222)));
        assert_eq!(place("sftp://me@[::1]:22/srv/b"), sftp(Some("me"), "::1", Some(22)));
    }

    #[test]
    fn what_is_no_url_is_said_with_what_to_write() {
        for (url, help) in [
            ("/srv/backups", "`file:///srv/backups`"),
            ("srv", "`file:///srv/backups`"),
            ("file://srv", "three slashes"),
            ("file:///", "three slashes"),
            ("file:///a/../b", "no `..`"),
            ("file:///a%20b", "without `%`"),
            ("gcs://b", "did you mean `gs://`?"),
            ("S3://b", "did you mean `s3://`?"),
            ("fiel:///x", "did you mean `file://`?"),
            ("http://x", "known are"),
            ("s3://", "the bucket is missing"),
            ("s3:///x", "the bucket is missing"),
            ("az://a b/c", "not the name of a container"),
            ("gs://b//c", "empty ones"),
            ("gs://b/../c", "empty ones"),
            ("sftp://host", "the path is missing"),
            ("sftp://host/", "the path is missing"),
            ("sftp://me:secret@host/x", "no password"),
            ("sftp://-oProxyCommand=x/y", "sftp://user@host"),
            ("sftp://-l@host/y", "sftp://user@host"),
            ("sftp://host:0/y", "sftp://user@host"),
            ("sftp://host:x/y", "sftp://user@host"),
        ] {
            let error = url.parse::<StoreLocation>().unwrap_err();
            assert!(error.help.contains(help), "{url}: {error}");
        }
    }
}
