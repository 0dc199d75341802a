//! Reads a file and everything it includes.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::document::{self, Node};
use super::source::{ReadError, SourceReader};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place, Sources};

/// How deep includes may be nested.
const MAX_DEPTH: usize = 8;

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) node: Node,
    pub(super) role: Role,
}

/// What a file was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Runbook,
    Inventory,
}

/// Whether a runbook's own `include` is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Includes,
    Nothing,
}

/// Collects files, an including file after what it includes.
pub(super) struct Gatherer<'a> {
    files: &'a dyn SourceReader,
    pub(super) sources: Sources,
    pub(super) documents: Vec<Document>,
    pub(super) faults: Diagnostics,
    seen: BTreeSet<String>,
    /// The files being read, each with the place that includes the next one.
    chain: Vec<(String, Option<Place>)>,
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(files: &'a dyn SourceReader) -> Self {
        Self {
            files,
            sources: Sources::default(),
            documents: Vec::new(),
            faults: Diagnostics::default(),
            seen: BTreeSet::new(),
            chain: Vec::new(),
        }
    }

    /// Reads a file that the user named.
    pub(super) fn open(&mut self, name: &str, role: Role, follow: Follow) {
        match self.files.read(name) {
            Ok(bytes) => self.take(name, bytes, role, follow),
            Err(error) => self.faults.push(unreadable(name, &error)),
        }
    }

    /// Reads the first of several files that exists; none is no fault.
    pub(super) fn open_first(&mut self, names: &[String], role: Role) {
        for name in names {
            match self.files.read(name) {
                Ok(bytes) => return self.take(name, bytes, role, Follow::Includes),
                Err(ReadError::Missing) => {}
                Err(error) => return self.faults.push(unreadable(name, &error)),
            }
        }
    }

    /// Finds a runbook that another one uses: beside it, else by its name. The fault has no place yet.
    pub(super) fn find(&self, using: &str, path: &str) -> Result<(String, Vec<u8>), Diagnostic> {
        let beside = beside(using, path);
        let missing = match self.files.read(&beside) {
            Ok(bytes) => return Ok((beside, bytes)),
            Err(ReadError::Missing) => format!("the sub-runbook `{beside}` does not exist"),
            Err(error) => return Err(unreadable(&beside, &error)),
        };
        let named = self.files.by_name(path).and_then(|name| Some((self.files.read(&name).ok()?, name)));
        named.map(|(bytes, name)| (name, bytes)).ok_or_else(|| {
            let help = "a path relative to this file, or the name of a shipped runbook (`full-db-loss`)";
            Diagnostic::new(Code::MissingRunbook, missing).help(help)
        })
    }

    /// Reads a runbook that another one uses, without its includes.
    pub(super) fn read_used(&mut self, name: &str, bytes: Vec<u8>) -> Option<Document> {
        self.take(name, bytes, Role::Runbook, Follow::Nothing);
        self.documents.pop()
    }

    fn take(&mut self, name: &str, bytes: Vec<u8>, role: Role, follow: Follow) {
        self.seen.insert(normal(Path::new(name)));
        let text = match document::decode(name, bytes) {
            Ok(text) => text,
            Err(fault) => return self.faults.push(fault),
        };
        let id = self.sources.add(name, text.as_str());
        let (node, faults) = document::parse(id, &text);
        self.faults.extend(faults);
        let Some(node) = node else { return };
        if follow == Follow::Includes {
            self.chain.push((name.to_owned(), None));
            self.includes(name, &node);
            self.chain.pop();
        }
        self.documents.push(Document { name: name.to_owned(), node, role });
    }

    fn includes(&mut self, name: &str, node: &Node) {
        let Some(list) = node.get("include") else { return };
        for item in list.items() {
            let Some(path) = item.as_str() else { continue };
            if let Some(last) = self.chain.last_mut() {
                last.1 = Some(item.at);
            }
            if path.contains("://") || path.contains(['*', '?']) {
                let fault = Diagnostic::new(Code::MissingInclude, format!("`{path}` is not the path of one file"))
                    .at(item.at)
                    .help("`include` takes paths relative to this file, without globs and URLs");
                self.faults.push(fault);
                continue;
            }
            self.include(&beside(name, path), item.at);
        }
    }

    fn include(&mut self, path: &str, at: Place) {
        if let Some(start) = self.chain.iter().position(|(name, _)| normal(Path::new(name)) == path) {
            return self.cycle(start, path);
        }
        if self.seen.contains(path) {
            return;
        }
        if self.chain.len() > MAX_DEPTH {
            let message = format!("includes are nested deeper than {MAX_DEPTH} files");
            return self.faults.push(Diagnostic::new(Code::IncludeDepth, message).at(at));
        }
        match self.files.read(path) {
            Ok(bytes) => self.take(path, bytes, Role::Inventory, Follow::Includes),
            Err(ReadError::Missing) => {
                let fault = Diagnostic::new(Code::MissingInclude, format!("the included file `{path}` does not exist"))
                    .at(at)
                    .help("paths are relative to the including file");
                self.faults.push(fault);
            }
            Err(error) => self.faults.push(unreadable(path, &error).at(at)),
        }
    }

    fn cycle(&mut self, start: usize, path: &str) {
        let through: Vec<String> = self.chain[start + 1..].iter().map(|(name, _)| format!("`{name}`")).collect();
        let message = match through.as_slice() {
            [] => format!("`{path}` includes itself"),
            files => format!("`{path}` includes itself through {}", files.join(", ")),
        };
        let mut fault = Diagnostic::new(Code::IncludeCycle, message)
            .help("put what both need into a third file that includes neither");
        if let Some((_, Some(at))) = self.chain.last() {
            fault = fault.label(*at, format!("includes `{path}` again"));
        }
        for pair in self.chain[start..].windows(2) {
            if let [(_, Some(at)), (next, _)] = pair {
                fault = fault.label(*at, format!("includes `{next}`"));
            }
        }
        self.faults.push(fault);
    }
}

fn unreadable(name: &str, error: &ReadError) -> Diagnostic {
    let help = match error {
        ReadError::Missing => "check the path; `runbook check` takes a path, or a name below `./runbooks`",
        ReadError::NotAFile => "name the file itself, not its folder",
        ReadError::Denied => "check its permissions (`ls -l`), or run as the user that may read it",
        ReadError::Other(_) => "check the disk and the mount",
    };
    Diagnostic::new(Code::UnreadableFile, format!("`{name}` cannot be read: {error}")).help(help)
}

/// The path of an included file, as seen from where the including file was named.
pub(super) fn beside(including: &str, path: &str) -> String {
    let folder = Path::new(including).parent().unwrap_or(Path::new(""));
    normal(&folder.join(path))
}

pub(super) fn normal(path: &Path) -> String {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out.to_string_lossy().into_owned()
}
