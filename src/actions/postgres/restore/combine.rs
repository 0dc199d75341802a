//! Puts a full backup and its increments together, with the server's own `pg_combinebackup` (PostgreSQL 17 on).
//!
//! Each link is extracted and verified in a folder of its own beside the stage. The program then reads them all and
//! writes the data directory; every file of that is read once more: those that the last link has whole are what its
//! manifest says, the others what the program says it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::existing::Existing;
use super::extract::Onto;
use super::marker::Link;
use super::shape::{Filled, Filling, Objects, Shape};
use crate::action::{ActionError, Files, HostError, RunContext, Tie};
use crate::actions::postgres::backup::tar_walk::WAL_FOLDER;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::placement::with_suffix;
use crate::actions::postgres::cluster::server::{COMBINE, Programs};
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::Reading;
use crate::catalog::Backup;
use crate::event::Progress;
use crate::pgformat::{BackupManifest, Change, FileVerifier, Major, major_text};

/// What the name of a file begins with of which only changed blocks are there.
const INCREMENT: &str = "INCREMENTAL.";
/// The server's manifest in a data directory.
const MANIFEST: &str = "backup_manifest";
/// Files that the program or we write anew.
const REWRITTEN: [&str; 2] = ["backup_label", "tablespace_map"];

/// A chain of backups that becomes one data directory.
pub(crate) struct Combining<'a> {
    /// Its place.
    pub(crate) cluster: &'a Cluster,
    /// Where it is staged.
    pub(crate) shape: &'a Shape,
    /// The full backup first, at least one increment.
    pub(crate) links: &'a [Backup],
    /// Who owns what is made.
    pub(crate) owner: &'a Owner,
}

/// What the name of a link's folder ends with.
pub(crate) fn suffix(at: usize) -> String {
    format!(".link-{at}")
}

impl Combining<'_> {
    /// Extracts every link, puts them together, verifies what came of it and removes the parts.
    ///
    /// # Errors
    /// Fails when a link is damaged or cannot be read, and when the program fails.
    pub(crate) async fn run(&self, reading: Reading<'_>, cx: &RunContext) -> Result<Filled, ActionError> {
        let files = cx.host.files();
        let parts = self.parts()?;
        let (mut filled, mut last) = (Filled::default(), None);
        for (part, link) in parts.iter().zip(self.links) {
            part.make(Existing::KeepBeside, files.as_ref(), self.owner).map_err(|error| cannot(&error))?;
            let reading = Reading { backup: link, ..reading };
            let filling = Filling { onto: Onto::Nothing, owner: self.owner, objects: Objects::Data };
            filled.files += part.fill(reading, filling, cx).await?.files;
            let (manifest, text) = reading.server_manifest_and_text().await?;
            self.complete(part, &text, files.as_ref()).map_err(|error| cannot(&error))?;
            last = Some(manifest);
        }
        self.clear(files.as_ref()).map_err(|error| cannot(&error))?;
        self.put_together(&parts, cx).await?;
        if let Some(last) = last {
            self.verify(last, Arc::clone(&files)).await?;
        }
        self.wal(reading, cx).await?;
        for folder in parts.iter().flat_map(Shape::folders) {
            files.remove_tree(&folder).map_err(|error| cannot(&error))?;
        }
        Ok(filled)
    }

    /// The folders of each link.
    fn parts(&self) -> Result<Vec<Shape>, ActionError> {
        let part = |(at, link): (usize, &Backup)| {
            let suffix = suffix(at);
            let dir = with_suffix(&self.shape.dir, &suffix);
            let facts = link.manifest.cluster().map_err(|error| archive::broken(&error))?;
            let links = facts.tablespaces.iter().map(|tablespace| {
                let name = Path::new("pg_tblspc").join(tablespace.oid.to_string());
                let own = self.shape.links.iter().find(|link| link.link == name);
                // One that was dropped since has no place any more.
                let gone = || with_suffix(&dir, &format!(".space-{}", tablespace.oid));
                let staged = own.map_or_else(gone, |link| with_suffix(&link.staged, &suffix));
                Link { link: name, live: staged.clone(), staged, named: None }
            });
            let links = links.collect();
            Ok(Shape { dir, links })
        };
        self.links.iter().enumerate().map(part).collect()
    }

    /// What the program wants besides the data.
    fn complete(&self, part: &Shape, manifest: &[u8], files: &dyn Files) -> Result<(), HostError> {
        let wal = part.dir.join("pg_wal");
        if files.facts(&wal)?.is_none() {
            files.create_dir(&wal, 0o700)?;
            files.chown(&wal, self.owner.uid, self.owner.gid)?;
        }
        let path = part.dir.join(MANIFEST);
        files.replace_for(&path, manifest, 0o600, self.owner.ids())
    }

    /// Makes the places that the program fills: empty.
    fn clear(&self, files: &dyn Files) -> Result<(), HostError> {
        let bare = Shape { dir: self.shape.dir.clone(), links: Vec::new() };
        bare.make(Existing::KeepBeside, files, self.owner)?;
        for link in &self.shape.links {
            let one = Shape { dir: link.staged.clone(), links: Vec::new() };
            one.make(Existing::KeepBeside, files, self.owner)?;
        }
        Ok(())
    }

    async fn put_together(&self, parts: &[Shape], cx: &RunContext) -> Result<(), ActionError> {
        let (Some(last), Some(link)) = (parts.last(), self.links.last()) else { return Ok(()) };
        let facts = link.manifest.cluster().map_err(|error| archive::broken(&error))?;
        let version = major_text(&facts.server_version);
        let programs = Programs::of(self.cluster, version, cx.host.as_ref())?;
        // Everything is made durable at once afterwards.
        let mut args = vec!["--no-sync".to_owned()];
        if Major::of_text(version).is_some_and(|major| major.has(Change::CombineByLink)) {
            args.push("--link".to_owned());
        }
        for (own, staged) in last.links.iter().zip(last.links.iter().map(|link| self.tablespace(link))) {
            let staged = staged.ok_or_else(|| ActionError::fatal("a tablespace of the last increment has no place"))?;
            args.push(format!("--tablespace-mapping={}={}", escaped(&own.staged), escaped(&staged)));
        }
        args.push(format!("--output={}", self.shape.dir.display()));
        args.extend(parts.iter().map(|part| part.dir.display().to_string()));
        cx.reporter.progress(Progress::Doing { text: format!("putting {} backups together", parts.len()) });
        let spec = self.owner.command(programs.path(COMBINE)).args(args);
        let failed = |error: HostError| ActionError::fatal(format!("`{COMBINE}` cannot be run")).because(&error);
        let output = cx.host.run(spec, Tie::Engine).await.map_err(failed)?;
        if output.success() {
            return Ok(());
        }
        let said = output.tail(3).join("; ");
        Err(ActionError::fatal(format!("`{COMBINE}` could not put the backups together: {said}"))
            .help("use another backup, for example the full one that this chain begins with"))
    }

    fn tablespace(&self, own: &Link) -> Option<PathBuf> {
        self.shape.links.iter().find(|link| link.link == own.link).map(|link| link.staged.clone())
    }

    /// Reads every file of what came of it.
    async fn verify(&self, last: BackupManifest, files: Arc<dyn Files>) -> Result<(), ActionError> {
        let shape = self.shape.clone();
        let reading = tokio::task::spawn_blocking(move || judge(&shape, &last, files.as_ref()));
        reading.await.map_err(|error| ActionError::fatal("reading the restored data panicked").because(&error))?
    }

    /// The WAL of the last link, behind its link where there is one.
    async fn wal(&self, reading: Reading<'_>, cx: &RunContext) -> Result<(), ActionError> {
        let files = cx.host.files();
        let own = self.shape.dir.join("pg_wal");
        let made = || {
            if files.facts(&own)?.is_some() {
                files.remove_tree(&own)?;
            }
            match self.shape.links.iter().find(|link| link.link == Path::new("pg_wal")) {
                Some(link) => files.symlink(&link.staged, &own)?,
                None => files.create_dir(&own, 0o700)?,
            }
            files.chown(&own, self.owner.uid, self.owner.gid)
        };
        made().map_err(|error| cannot(&error))?;
        let filling = Filling { onto: Onto::Nothing, owner: self.owner, objects: Objects::Wal };
        self.shape.fill(reading, filling, cx).await.map(|_| ())
    }
}

/// Holds the data directory against the manifests.
fn judge(shape: &Shape, last: &BackupManifest, files: &dyn Files) -> Result<(), ActionError> {
    let path = shape.dir.join(MANIFEST);
    let text = files.read(&path, 4 << 30).map_err(|error| cannot(&error))?;
    let wrote = BackupManifest::parse(&text)
        .map_err(|error| ActionError::fatal(format!("what `{COMBINE}` wrote has no good manifest")).because(&error))?;
    let mut whole = BTreeMap::new();
    let mut wanted: BTreeSet<Vec<u8>> = BTreeSet::new();
    for (own, file) in last.files.iter().filter(|(own, _)| !own.starts_with(WAL_FOLDER)) {
        match whole_of(own) {
            Some(path) => drop(wanted.insert(path)),
            None => {
                wanted.insert(own.clone());
                whole.insert(own.clone(), file);
            }
        }
    }
    let written: BTreeSet<Vec<u8>> = wrote.files.keys().filter(|own| !own.starts_with(WAL_FOLDER)).cloned().collect();
    if let Some(odd) = wanted.symmetric_difference(&written).next() {
        let fact = format!("`{COMBINE}` made other files than the last backup has: `{}`", String::from_utf8_lossy(odd));
        return Err(ActionError::fatal(fact));
    }
    let rewritten = |own: &[u8]| REWRITTEN.iter().any(|name| name.as_bytes() == own);
    for (own, file) in wrote.files.iter().filter(|(own, _)| written.contains(*own)) {
        let expected = whole.get(own).filter(|_| !rewritten(own)).copied().unwrap_or(file);
        let place = shape.place_of(Path::new(std::ffi::OsStr::from_bytes(own)));
        let place = place.ok_or_else(|| ActionError::fatal("a file of a tablespace has no place"))?;
        let mut verifier = FileVerifier::new(expected);
        let mut opened = files.open(&place).map_err(|error| cannot(&error))?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = opened.read(&mut buffer).map_err(|error| {
                ActionError::retryable(format!("`{}` cannot be read", place.display())).because(&error)
            })?;
            if count == 0 {
                break;
            }
            verifier.update(&buffer[..count]);
        }
        verifier.finish().map_err(|fault| {
            ActionError::fatal(format!("`{}` was not put together rightly", place.display())).because(&fault)
        })?;
    }
    files.remove_file(&path).map_err(|error| cannot(&error))
}

/// The whole file that a path of changed blocks stands for; `None` for one that is whole.
fn whole_of(own: &[u8]) -> Option<Vec<u8>> {
    let at = own.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = own[at..].strip_prefix(INCREMENT.as_bytes())?;
    Some([&own[..at], name].concat())
}

/// A path in a mapping, where `=` stands between two.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('=', "\\=")
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the parts of the backup cannot be put together").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_changed_blocks_stands_for_the_whole_one() {
        assert_eq!(whole_of(b"base/5/INCREMENTAL.16384.1"), Some(b"base/5/16384.1".to_vec()));
        assert_eq!(whole_of(b"base/5/16384"), None);
    }
}
