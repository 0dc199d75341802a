//! One store's copy of a backup that `backup.create` makes.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::create::CreateParams;
use super::failure::transfer_failed;
use super::pipe::written;
use super::tarball::{self, Written};
use crate::action::{ActionError, ByteStream, FileKind, PutOptions, RunContext, Store, StoreError};
use crate::actions::store::{catalog_failed, store_failed};
use crate::base::digest::Hasher;
use crate::base::{Timestamp, clock};
use crate::catalog::{
    self, Backup, BackupPlace, CatalogError, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole,
};
use crate::event::Progress;
use crate::transfer::{Packing, Uploaded, upload};

/// One thing that is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its name in the backup, before packing.
    pub(super) name: String,
    /// A folder, or one file.
    pub(super) kind: FileKind,
}

/// What is copied, the same for every store.
pub(super) struct Job<'a> {
    pub(super) params: &'a CreateParams,
    pub(super) cx: &'a RunContext,
    pub(super) id: &'a str,
    pub(super) parts: &'a [Part],
}

impl Job<'_> {
    /// Where the backup lies in each store.
    pub(super) fn place(&self) -> BackupPlace {
        let kind = (self.params.kind.as_str(), self.params.tier.as_deref());
        BackupPlace::new(self.params.prefix(), kind, self.id)
    }

    /// The copy that a store has already; `None` when it has none.
    pub(super) async fn existing(&self, store: &dyn Store) -> Result<Option<Backup>, ActionError> {
        match catalog::load(store.as_read(), &self.place()).await {
            Ok(backup) => Ok(Some(backup)),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
            // Nothing was written to that place yet. A store that does not answer may have the copy.
            Err(CatalogError::Store(error)) if error.is_unborn() => Ok(None),
            Err(error) => Err(catalog_failed(error)),
        }
    }

    /// Copies everything into a store and commits it. `first` is another store's copy: both must have the same content.
    pub(super) async fn copy(&self, store: &dyn Store, first: Option<&Backup>) -> Result<Backup, ActionError> {
        let entry = self.cx.about.inventory.stores.get(store.name());
        let entry = entry.ok_or_else(|| ActionError::fatal(format!("there is no store `{}`", store.name())))?;
        let packing = Packing::of(entry, self.cx.about.secrets.as_ref()).map_err(transfer_failed)?;
        let started_at = first.map_or_else(clock::now, |first| first.manifest.started_at);
        let mut objects = Vec::new();
        for (done, part) in self.parts.iter().enumerate() {
            let (done, total) = (done as u64, Some(self.parts.len() as u64));
            self.cx.reporter.progress(Progress::Units { done, total, unit: "objects" });
            let object = self.put(store, part, &packing).await?;
            if let Some(first) = first {
                same(first, &object)?;
            }
            objects.push(object);
        }
        let stopped_at = first.map_or_else(clock::now, |first| first.manifest.stopped_at);
        let manifest = self.manifest(objects, (started_at, stopped_at));
        catalog::commit(store, self.params.prefix(), manifest).await.map_err(catalog_failed)
    }

    fn manifest(&self, objects: Vec<ManifestObject>, times: (Timestamp, Timestamp)) -> Manifest {
        Manifest {
            tier: self.params.tier.clone(),
            environment: Some(self.cx.about.environment.clone()),
            run: Some(self.cx.about.run.to_string()),
            label: self.params.label.clone(),
            objects,
            ..Manifest::new(self.id, &self.params.kind, &self.params.source, times)
        }
    }

    async fn put(&self, store: &dyn Store, part: &Part, packing: &Packing) -> Result<ManifestObject, ActionError> {
        let name = format!("{}{}", part.name, packing.suffix());
        let key = self.place().key(&name).map_err(catalog_failed)?;
        let (body, writing) = self.body(part)?;
        let put = upload((store, &key), body, packing, PutOptions::default()).await;
        if let Some(writing) = writing {
            // A folder that cannot be read to its end leaves an object without a manifest: no backup.
            let left_out =
                writing.await.map_err(|error| ActionError::fatal("the archiver broke off").because(&error))?;
            let failed =
                |error| ActionError::retryable(format!("`{}` cannot be archived", part.path.display())).because(&error);
            self.note_left_out(part, &left_out.map_err(failed)?);
        }
        let Uploaded { packed, .. } = put.map_err(transfer_failed)?;
        self.read_back(store, &key, (packed.stored_size_bytes, packed.stored_sha256)).await?;
        let role = match self.params.kind.as_str() {
            KIND_POSTGRES_DUMP if part.name.starts_with("globals") => ObjectRole::Globals,
            KIND_POSTGRES_DUMP => ObjectRole::Dump,
            _ => ObjectRole::File,
        };
        let encoding = packing.encoding().clone();
        let plain = (!encoding.is_plain()).then_some(packed.plain);
        let archive_of = (part.kind == FileKind::Directory).then(|| part.name.trim_end_matches(".tar").to_owned());
        let object = ManifestObject::new(name, packed.stored_size_bytes, packed.stored_sha256, role);
        Ok(ManifestObject { encoding, plain, archive_of, ..object })
    }

    fn body(&self, part: &Part) -> Result<Body, ActionError> {
        let files = self.cx.host.read_files();
        if part.kind == FileKind::Directory {
            let root = part.path.clone();
            let (body, writing) = written(move |out| tarball::write(&files, &root, out));
            return Ok((body, Some(writing)));
        }
        let file = files.open(&part.path).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
        Ok((Box::new(Whole::of(file, &part.path).map_err(|error| unread(&part.path, &error))?), None))
    }

    fn note_left_out(&self, part: &Part, left_out: &[PathBuf]) {
        if !left_out.is_empty() {
            let message =
                format!("{} sockets, pipes and devices in `{}` are left out", left_out.len(), part.path.display());
            self.cx.reporter.note(message, serde_json::json!({ "left_out": left_out }));
        }
    }

    /// Reads the stored bytes again: what a store says it has is not yet what it gives back.
    async fn read_back(
        &self,
        store: &dyn Store,
        key: &crate::action::ObjectKey,
        stored: (u64, crate::base::Digest),
    ) -> Result<(), ActionError> {
        let body = store.get(key).await.map_err(store_failed)?;
        let read = digest(body).await.map_err(|error| {
            ActionError::retryable(format!("reading `{key}` back from `{}` broke off", store.name())).because(&error)
        })?;
        match read == stored {
            true => Ok(()),
            false => Err(ActionError::retryable(format!("`{key}` reads back with other content than was stored"))),
        }
    }
}

/// The content of a file that fails at its end when somebody wrote to the file meanwhile.
struct Whole {
    inner: tokio::fs::File,
    /// The same file, to ask.
    asked: std::fs::File,
    written: Written,
    path: PathBuf,
}

impl Whole {
    fn of(file: std::fs::File, path: &Path) -> io::Result<Self> {
        let (asked, written) = (file.try_clone()?, Written::of(&file.metadata()?));
        Ok(Self { inner: tokio::fs::File::from_std(file), asked, written, path: path.to_owned() })
    }
}

impl AsyncRead for Whole {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let is_end = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(if is_end { self.written.still(&self.asked, &self.path) } else { Ok(()) })
    }
}

fn unread(path: &Path, error: &io::Error) -> ActionError {
    ActionError::retryable(format!("`{}` cannot be read", path.display())).because(error)
}

type Body = (ByteStream, Option<tokio::task::JoinHandle<std::io::Result<Vec<PathBuf>>>>);

/// Holds an object against another store's copy of it.
fn same(first: &Backup, object: &ManifestObject) -> Result<(), ActionError> {
    let plain = object.plain_name();
    let other = first.manifest.objects.iter().find(|other| other.plain_name() == plain);
    // An archive of the same folder has the same bytes: it is written in one order.
    match other.is_some_and(|other| other.plain_facts().agrees_with(&object.plain_facts())) {
        true => Ok(()),
        false => {
            let fact = format!("`{plain}` changed between its copies into `{}` and the next store", first.store);
            let help = "back up what does not change while it is read: a dump, a snapshot, a folder nobody writes to";
            Err(ActionError::fatal(fact).help(help))
        }
    }
}

/// Digests a stream to its end.
pub(super) async fn digest(mut body: ByteStream) -> std::io::Result<(u64, crate::base::Digest)> {
    use tokio::io::AsyncReadExt as _;
    let (mut hasher, mut size_bytes, mut buffer) = (Hasher::default(), 0, vec![0; 256 << 10]);
    loop {
        let count = body.read(&mut buffer).await?;
        if count == 0 {
            return Ok((size_bytes, hasher.finish()));
        }
        hasher.update(&buffer[..count]);
        size_bytes += count as u64;
    }
}

/// Looks at what is to be backed up.
pub(super) fn parts(paths: &[PathBuf], cx: &RunContext) -> Result<Vec<Part>, ActionError> {
    let files = cx.host.read_files();
    let mut parts = Vec::new();
    for path in paths {
        let found = files.facts(path).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
        parts.push(part(path, found.map(|facts| facts.kind)).map_err(ActionError::fatal)?);
    }
    Ok(parts)
}

/// What becomes of one path.
pub(super) fn part(path: &Path, kind: Option<FileKind>) -> Result<Part, String> {
    let shown = path.display();
    let name = tarball::name(path).ok_or_else(|| format!("`{shown}` has no name that can stand in a backup"))?;
    let name = match kind {
        Some(FileKind::File) => name.to_owned(),
        Some(FileKind::Directory) => format!("{name}.tar"),
        Some(FileKind::Symlink | FileKind::Other) => return Err(format!("`{shown}` is neither a file nor a folder")),
        None => return Err(format!("`{shown}` is not there")),
    };
    Ok(Part { path: path.to_owned(), name, kind: kind.unwrap_or(FileKind::File) })
}
