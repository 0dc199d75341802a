//! The text of `sha256sum`: one line per file, `digest  name`, names relative to the sidecar's folder.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::action::{ActionError, HostError, ReadFiles};
use crate::base::{Digest, digest::Hasher};

/// The largest sidecar that is read.
pub(super) const LIMIT_BYTES: u64 = 64 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actions) struct Entry {
    /// The digest.
    pub(in crate::actions) sha256: Digest,
    /// The file, relative to the sidecar's folder.
    pub(in crate::actions) name: String,
}

impl Entry {
    /// Writes the line as `sha256sum` does: names with a backslash or a line break are escaped.
    pub(super) fn line(&self) -> String {
        let escaped = self.name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        let mark = if escaped == self.name { "" } else { "\\" };
        format!("{mark}{}  {escaped}\n", self.sha256)
    }

    /// Reads a line of `sha256sum`, in text or binary mode.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (escaped, line) = line.strip_prefix('\\').map_or((false, line), |line| (true, line));
        let (digest, rest) = line.split_at_checked(64)?;
        let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
        let name = if escaped { unescape(name)? } else { name.to_owned() };
        (!name.is_empty()).then_some(())?;
        Some(Self { sha256: digest.parse().ok()?, name })
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        plain.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

/// Reads the text of a sidecar, `shown` in messages. One that is empty or not wholly understood is an error.
pub(in crate::actions) fn parse_sidecar(shown: &str, bytes: Vec<u8>) -> Result<Vec<Entry>, ActionError> {
    let text = String::from_utf8(bytes).map_err(|_| ActionError::fatal(format!("`{shown}` is not text")))?;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = index + 1;
        let entry = Entry::parse(line)
            .ok_or_else(|| ActionError::fatal(format!("`{shown}`, line {at}: not a line of sha256sum")))?;
        if !stays_below(Path::new(&entry.name)) {
            let fact = format!("`{shown}`, line {at}: `{}` leads out of the sidecar's folder", entry.name);
            return Err(ActionError::fatal(fact).help("write it again with relative names"));
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(ActionError::fatal(format!("`{shown}` names no file")));
    }
    Ok(entries)
}

/// Names `file` relative to the sidecar's folder, which must hold it.
pub(super) fn relative(sidecar: &Path, file: &Path) -> Option<String> {
    let name = file.strip_prefix(sidecar.parent()?).ok()?;
    stays_below(name).then(|| name.to_str().map(str::to_owned)).flatten()
}

/// Tells whether a name is relative and leads nowhere else.
fn stays_below(name: &Path) -> bool {
    name.components().next().is_some() && name.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Digests files off the runtime's thread. Returns size and digest of each, in order.
pub(super) async fn digests(files: Arc<dyn ReadFiles>, paths: Vec<PathBuf>) -> Result<Vec<(u64, Digest)>, ActionError> {
    let work = move || paths.iter().map(|path| digest(&*files, path)).collect::<Result<Vec<_>, HostError>>();
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| ActionError::fatal(error.to_string()).because(&error)),
        Err(error) => Err(ActionError::fatal("the reading of files broke off").because(&error)),
    }
}

fn digest(files: &dyn ReadFiles, path: &Path) -> Result<(u64, Digest), HostError> {
    let mut file = files.open(path)?;
    let mut hasher = Hasher::default();
    let size_bytes = std::io::copy(&mut file, &mut hasher).map_err(|source| HostError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok((size_bytes, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Entry, relative};
    use crate::base::Digest;

    #[test]
    fn a_line_reads_back_from_its_text() {
        for name in ["a", "sub/b c", "odd\\name", "two\nlines"] {
            let entry = Entry { sha256: Digest::of(b"x"), name: name.to_owned() };
            assert_eq!(Entry::parse(entry.line().trim_end_matches('\n')), Some(entry), "{name:?}");
        }
        let binary = format!("{} *a", Digest::of(b"x"));
        assert_eq!(Entry::parse(&binary).map(|entry| entry.name).as_deref(), Some("a"));
        assert_eq!(Entry::parse("not a line"), None);
        assert_eq!(Entry::parse(&format!("{}  ", Digest::of(b"x"))), None);
    }

    #[test]
    fn names_are_relative_and_stay_below() {
        assert_eq!(relative(Path::new("/b/x.sha256"), Path::new("/b/sub/f")).as_deref(), Some("sub/f"));
        assert_eq!(relative(Path::new("/b/x.sha256"), Path::new("/c/f")), None);
        assert_eq!(relative(Path::new("/b/x.sha256"), Path::new("/b/../c/f")), None);
    }
}
