//! The folders that one base backup is extracted into: a data directory with its links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::existing::Existing;
use super::extract::{Extraction, Onto};
use super::marker::{self, Link};
use crate::action::{ActionError, FileKind, Files, HostError, RunContext};
use crate::actions::backup::sighting;
use crate::actions::postgres::backup::tar_walk::WAL_FOLDER;
use crate::actions::postgres::cluster::layout::MARKER;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::inflow::Inflow;
use crate::actions::postgres::stores::readable::{self, Reading};
use crate::catalog::{ManifestObject, ObjectRole};
use crate::event::Progress;
use crate::pgformat::BackupManifest;

/// Objects that are read at the same time; each one is fetched, decrypted and decompressed on all cores as it is.
const LANES: usize = 2;

/// A data directory with everything it links to.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// What lies outside of it.
    pub(crate) links: Vec<Link>,
}

/// What an extraction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Filled {
    /// The files that were verified.
    pub(crate) files: u64,
    /// The bytes that were there already.
    pub(crate) same_bytes: u64,
}

/// How a backup is extracted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    /// What may be there.
    pub(crate) onto: Onto,
    /// Who owns what is made.
    pub(crate) owner: &'a Owner,
    /// What of the backup.
    pub(crate) objects: Objects,
}

/// What of a backup is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objects {
    /// Everything.
    All,
    /// All but the WAL.
    Data,
    /// The WAL alone.
    Wal,
}

impl Objects {
    fn has(self, role: ObjectRole) -> bool {
        match self {
            Self::All => true,
            Self::Data => role != ObjectRole::Wal,
            Self::Wal => role == ObjectRole::Wal,
        }
    }

    /// Whether a file of the server's manifest must be there: a few of them lie beside the WAL.
    fn demands(self, path: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Data => !path.starts_with(WAL_FOLDER),
            Self::Wal => false,
        }
    }
}

impl Shape {
    /// Every folder that is made.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        std::iter::once(self.dir.clone()).chain(self.links.iter().map(|link| link.staged.clone())).collect()
    }

    /// Where a path of the data directory lies here; `None` for one behind a link that there is none of.
    pub(crate) fn place_of(&self, own: &Path) -> Option<PathBuf> {
        if !own.starts_with("pg_tblspc") {
            return Some(self.dir.join(own));
        }
        self.links.iter().find_map(|link| Some(link.staged.join(own.strip_prefix(&link.link).ok()?)))
    }

    /// Makes the folders. What an earlier attempt of this run staged is its own: it is removed, but for what it took over
    /// from the old data.
    ///
    /// # Errors
    /// Fails when a folder cannot be made.
    pub(crate) fn make(&self, existing: Existing, files: &dyn Files, owner: &Owner) -> Result<(), HostError> {
        for folder in self.folders() {
            let is_there = files.facts(&folder)?.is_some();
            match existing {
                Existing::Delta => {}
                Existing::KeepBeside | Existing::Replace if is_there => files.remove_tree(&folder)?,
                Existing::KeepBeside | Existing::Replace => {}
            }
            owner.make_folder(files, &folder)?;
        }
        let marker = self.dir.join(MARKER);
        if files.facts(&marker)?.is_some() {
            files.remove_file(&marker)?;
            files.sync(&self.dir)?;
        }
        self.links.iter().try_for_each(|link| self.link(link, files, owner))
    }

    fn link(&self, link: &Link, files: &dyn Files, owner: &Owner) -> Result<(), HostError> {
        let path = self.dir.join(&link.link);
        if let Some(parent) = path.parent().filter(|parent| *parent != self.dir)
            && files.facts(parent)?.is_none()
        {
            files.create_dir(parent, 0o700)?;
            files.chown(parent, owner.uid, owner.gid)?;
        }
        if files.facts(&path)?.is_some() {
            files.remove_file(&path)?;
        }
        files.symlink(&link.staged, &path)?;
        files.chown(&path, owner.uid, owner.gid)
    }

    /// Extracts every object of a backup over what is there.
    ///
    /// # Errors
    /// Fails when the backup is damaged or cannot be read, and when a file cannot be written.
    pub(crate) async fn fill(
        &self,
        reading: Reading<'_>,
        filling: Filling<'_>,
        cx: &RunContext,
    ) -> Result<Filled, ActionError> {
        let filled = self.extract(reading, filling, cx).await;
        filled.inspect_err(|error| sighting::noted(error, reading.backup, cx))
    }

    async fn extract(
        &self,
        reading: Reading<'_>,
        filling: Filling<'_>,
        cx: &RunContext,
    ) -> Result<Filled, ActionError> {
        let Reading { store, backup, .. } = reading;
        let (files, manifest) = (cx.host.files(), Arc::new(reading.server_manifest().await?));
        let Filling { onto, owner, objects: wanted } = filling;
        if onto == Onto::What {
            self.prune(&files, &manifest).await?;
        }
        let (done, same) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let total = Some(backup.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum());
        let mut objects = Vec::new();
        for object in &backup.manifest.objects {
            let Some((root, prefix)) = self.place(object)?.filter(|_| wanted.has(object.role)) else { continue };
            let key = backup.manifest.key_of(&backup.prefix, object).map_err(|error| archive::broken(&error))?;
            let extraction = Extraction {
                files: Arc::clone(&files),
                owner: owner.clone(),
                root,
                prefix,
                manifest: (object.role != ObjectRole::Wal).then(|| Arc::clone(&manifest)),
                holds_wal: object.holds_wal,
                onto,
                same: Arc::clone(&same),
            };
            let unpacking = reading.unpacking(object).map_err(|error| readable::unread(&error))?;
            let done = Arc::clone(&done);
            objects.push(async move {
                let body = store.get(&key).await.map_err(|error| archive::failed(&error))?;
                let body = unpacking.open(body, readable::expected(object));
                extraction.run(Inflow { body, done }, key.as_str(), &cx.cancel).await
            });
        }
        let filling = futures_util::stream::iter(objects).buffer_unordered(LANES).try_concat();
        tokio::pin!(filling);
        let seen: BTreeSet<Vec<u8>> = loop {
            tokio::select! {
                filled = &mut filling => break filled?,
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    cx.reporter.progress(Progress::Units { done: done.load(Ordering::Relaxed), total, unit: "bytes" });
                }
            }
        };
        let mut due = manifest.files.keys().filter(|path| wanted.demands(path));
        if let Some(missing) = due.find(|path| !seen.contains(*path)) {
            let fact = format!("`{}` is missing in the backup", String::from_utf8_lossy(missing));
            return Err(ActionError::fatal(fact).help("use another backup").of_damage());
        }
        Ok(Filled { files: seen.len() as u64, same_bytes: same.load(Ordering::Relaxed) })
    }

    /// Where an object is extracted to, and what the manifest's paths have in front of its own.
    fn place(&self, object: &ManifestObject) -> Result<Option<(PathBuf, Vec<u8>)>, ActionError> {
        match object.role {
            ObjectRole::Data => Ok(Some((self.dir.clone(), Vec::new()))),
            ObjectRole::Wal => Ok(Some((self.dir.join("pg_wal"), WAL_FOLDER.to_vec()))),
            ObjectRole::BackupManifest | ObjectRole::Config => Ok(None),
            ObjectRole::Tablespace => {
                let link = self.links.iter().find(|link| link.tablespace() == object.tablespace);
                let link = link.filter(|_| object.tablespace.is_some());
                let link =
                    link.ok_or_else(|| ActionError::fatal(format!("`{}` is of no known tablespace", object.name)))?;
                Ok(Some((link.staged.clone(), format!("{}/", link.link.display()).into_bytes())))
            }
            ObjectRole::Dump | ObjectRole::Globals | ObjectRole::File => {
                Err(ActionError::fatal(format!("object `{}` is no part of a data directory", object.name)))
            }
            ObjectRole::Unknown => {
                Err(ActionError::fatal(format!("object `{}` was written by a newer version", object.name)))
            }
        }
    }

    /// Removes what the backup does not have.
    async fn prune(&self, files: &Arc<dyn Files>, manifest: &Arc<BackupManifest>) -> Result<(), ActionError> {
        let (shape, files, manifest) = (self.clone(), Arc::clone(files), Arc::clone(manifest));
        let pruning = tokio::task::spawn_blocking(move || {
            shape.prune_below(&shape.dir, Path::new(""), (files.as_ref(), &manifest))?;
            for link in shape.links.iter().filter(|link| link.tablespace().is_some()) {
                shape.prune_below(&link.staged, &link.link, (files.as_ref(), &manifest))?;
            }
            Ok(())
        });
        let pruned =
            pruning.await.map_err(|error| ActionError::fatal("comparing the old data panicked").because(&error));
        pruned?.map_err(|error: HostError| cannot(&error))
    }

    fn prune_below(
        &self,
        folder: &Path,
        own: &Path,
        (files, manifest): (&dyn Files, &BackupManifest),
    ) -> Result<(), HostError> {
        use std::os::unix::ffi::OsStrExt as _;
        for entry in files.list(folder)? {
            let (path, own) = (folder.join(&entry.name), own.join(&entry.name));
            if self.links.iter().any(|link| link.link == own) {
                continue;
            }
            match entry.facts.kind {
                FileKind::Directory => {
                    self.prune_below(&path, &own, (files, manifest))?;
                    if files.list(&path)?.is_empty() {
                        files.remove_tree(&path)?;
                    }
                }
                FileKind::File if manifest.file(own.as_os_str().as_bytes()).is_some() => {}
                FileKind::File | FileKind::Symlink | FileKind::Other => files.remove_file(&path)?,
            }
        }
        Ok(())
    }

    /// Points the tablespaces to the staged folders, never to the original ones, and makes everything durable.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(crate) fn finish(&self, files: &dyn Files, owner: &Owner) -> Result<(), ActionError> {
        let places: Vec<(u32, PathBuf)> =
            self.links.iter().filter_map(|link| Some((link.tablespace()?, link.staged.clone()))).collect();
        let map = self.dir.join("tablespace_map");
        if !places.is_empty() || matches!(files.facts(&map), Ok(Some(_))) {
            marker::write_tablespace_map(files, &self.dir, &places, owner).map_err(|error| cannot(&error))?;
        }
        for folder in self.folders() {
            let opened = files.open(&folder).map_err(|error| cannot(&error))?;
            rustix::fs::syncfs(&opened)
                .map_err(|error| ActionError::retryable("the staged files cannot be made durable").because(&error))?;
        }
        Ok(())
    }
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the staged folder cannot be made").because(error)
}
