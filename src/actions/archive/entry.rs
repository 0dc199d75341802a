//! What an archive says of one entry, judged before anything is made of it.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use tar::{Entry, EntryType};

use super::reader::damaged;
use super::writer::{ATTRIBUTE, ENCODED_ATTRIBUTE};
use crate::action::ActionError;
use crate::base::Timestamp;

/// What an entry says of itself.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) size_bytes: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified_at: Timestamp,
    pub(super) attributes: Vec<(String, Vec<u8>)>,
    link: Option<PathBuf>,
}

impl Facts {
    /// Reads an entry's header and records. What is not wholly understood is refused.
    pub(super) fn of(entry: &mut Entry<'_, impl Read>) -> Result<Self, ActionError> {
        let header = entry.header().clone();
        let number = |id: u64| u32::try_from(id).map_err(std::io::Error::other);
        let read = || -> std::io::Result<Self> {
            Ok(Self {
                name: entry.path_bytes().into_owned(),
                kind: header.entry_type(),
                size_bytes: entry.size(),
                mode: header.mode()?,
                uid: number(header.uid()?)?,
                gid: number(header.gid()?)?,
                modified_at: i64::try_from(header.mtime()?)
                    .ok()
                    .and_then(|at| Timestamp::from_second(at).ok())
                    .unwrap_or_default(),
                attributes: Vec::new(),
                link: entry.link_name_bytes().map(|bytes| OsStr::from_bytes(&bytes).into()),
            })
        };
        let mut facts = read().map_err(|error| damaged(&error))?;
        // Old archives say a folder by the slash at its name's end.
        if facts.kind == EntryType::Regular && facts.name.ends_with(b"/") {
            facts.kind = EntryType::Directory;
        }
        let records = entry.pax_extensions().map_err(|error| damaged(&error))?;
        for record in records.into_iter().flatten() {
            let record = record.map_err(|error| damaged(&error))?;
            facts.record(&String::from_utf8_lossy(record.key_bytes()), record.value_bytes())?;
        }
        Ok(facts)
    }

    fn record(&mut self, key: &str, value: &[u8]) -> Result<(), ActionError> {
        if let Some(name) = key.strip_prefix(ATTRIBUTE) {
            self.attributes.retain(|(known, _)| known != name);
            self.attributes.push((name.to_owned(), value.to_vec()));
        } else if let Some(name) = key.strip_prefix(ENCODED_ATTRIBUTE) {
            let plain = String::from_utf8_lossy(value).trim_end_matches('=').to_owned();
            let value = BASE64.decode(plain).map_err(|_| self.refused("has an attribute that cannot be read"))?;
            // bsdtar writes both forms; they say the same.
            if !self.attributes.iter().any(|(known, _)| known == name) {
                self.attributes.push((name.to_owned(), value));
            }
        } else if key == "mtime" {
            let text = String::from_utf8_lossy(value);
            self.modified_at = seconds(&text).ok_or_else(|| self.refused("has a time that cannot be read"))?;
        } else if key.starts_with("GNU.sparse.") {
            let error = self.refused("has holes, written in the PAX way, which is not read here");
            return Err(error.help("write it with `tar --format=gnu`, or without `--sparse`"));
        }
        Ok(())
    }

    /// Where a link points.
    pub(super) fn target(&self) -> Result<PathBuf, ActionError> {
        self.link.clone().ok_or_else(|| self.refused("is a link that leads nowhere"))
    }

    /// Says why the archive is not extracted.
    pub(super) fn refused(&self, why: &str) -> ActionError {
        let name = String::from_utf8_lossy(&self.name);
        ActionError::fatal(format!("the archive is refused: `{name}` {why}")).help("nothing was put into place")
    }
}

/// Reads seconds with a fraction.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let (whole, nanos): (i64, i32) = (whole.parse().ok()?, digits.parse().ok()?);
    Timestamp::new(whole, if whole < 0 || text.starts_with('-') { -nanos } else { nanos }).ok()
}

/// Gives a name that stays inside; `None` for one that does not.
pub(super) fn inside(bytes: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Whether a link at `name` leads out of the root, or may: going up from a name it went down to leads anywhere
/// where that name is a link itself (`s -> .`, `l -> s/../x`).
pub(super) fn leads_out(name: &Path, target: &Path) -> bool {
    let mut depth = name.components().count().saturating_sub(1);
    let mut went_down = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => went_down = true,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 && !went_down => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{inside, leads_out, seconds};

    #[test]
    fn names_stay_inside() {
        assert_eq!(inside(b"./a//b/."), Some(PathBuf::from("a/b")));
        assert_eq!((inside(b"/etc/passwd"), inside(b"a/../../b"), inside(b"..")), (None, None, None));
    }

    #[test]
    fn links_lead_out_by_going_up_too_far_or_by_beginning_at_the_top() {
        let leads = |name: &str, target: &str| leads_out(Path::new(name), Path::new(target));
        assert!(leads("a", "/etc") && leads("a", "..") && leads("a/b", "../../x") && leads("a", "b/../../x"));
        assert!(!leads("a/b", "../x") && !leads("a", "./b/c") && !leads("a/b/c", "../../d/e"));
        assert!(leads("a/b/l", "s/../../../x"), "out of the root where `a/b/s` leads to its own folder");
        assert!(leads("a", "b/../c"));
    }

    #[test]
    fn times_have_fractions() {
        let shown = |text: &str| seconds(text).map(|at| at.to_string());
        assert_eq!(shown("12.5").as_deref(), Some("1970-01-01T00:00:12.5Z"));
        assert_eq!(shown("-1").as_deref(), Some("1969-12-31T23:59:59Z"));
        assert_eq!(shown("0.123456789123").as_deref(), Some("1970-01-01T00:00:00.123456789Z"));
        assert_eq!(shown("x"), None);
    }
}
