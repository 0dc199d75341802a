//! One side of a sync: what is there, how it is read, written and removed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::action::Symlinks;
use crate::action::{
    ActionError, ByteStream, DirEntry, FileKind, GetOptions, HostError, ObjectFacts, ObjectKey, PlainFacts, ReadFiles,
    ReadStore, StoreError,
};
use crate::actions::store::arrival::is_part;
use crate::actions::store::body::{broke_off, copy, file_failed};
use crate::actions::store::glob::Glob;
use crate::actions::store::store_failed;
use crate::base::Timestamp;
use crate::base::digest::Hasher;

const MAX_DEPTH: usize = 256;
/// The metadata that keeps a file's own time.
pub(super) const MTIME: &str = "mtime";

/// One file or object, by its name below the side's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) modified_at: Timestamp,
    /// Tells this content from a later one under the same name.
    pub(super) stamp: String,
}

/// Where a side lies.
#[derive(Clone)]
pub(super) enum Side {
    Folder { files: Arc<dyn ReadFiles>, root: PathBuf },
    Store { store: Arc<dyn ReadStore>, prefix: String },
}

/// Which names count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter<'a> {
    pub(super) include: &'a [Glob],
    pub(super) exclude: &'a [Glob],
    pub(super) symlinks: Symlinks,
}

impl Filter<'_> {
    fn takes(&self, name: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|glob| glob.fits(name));
        included && !self.exclude.iter().any(|glob| glob.fits(name))
    }
}

impl Side {
    /// Lists the side, sorted by name. A folder that is not there is `None`.
    pub(super) async fn list(&self, filter: Filter<'_>) -> Result<Option<Vec<Item>>, ActionError> {
        match self {
            Self::Folder { files, root } => {
                let (files, root) = (Arc::clone(files), root.clone());
                let names = Walk { include: filter.include.to_vec(), exclude: filter.exclude.to_vec() };
                let symlinks = filter.symlinks;
                let walked = tokio::task::spawn_blocking(move || names.folder(&*files, &root, symlinks)).await;
                walked.map_err(|error| ActionError::fatal("the listing broke off").because(&error))?
            }
            Self::Store { store, prefix } => {
                let found = store.list(prefix).await.map_err(store_failed)?;
                let item = |facts: ObjectFacts| {
                    let name = facts.key.as_str().get(prefix.len()..).unwrap_or_default().to_owned();
                    filter.takes(&name).then(|| Item::of(name, &facts))
                };
                Ok(Some(found.into_iter().filter_map(item).collect()))
            }
        }
    }

    /// Lists a target: one that is not there yet is empty.
    pub(super) async fn list_target(&self, filter: Filter<'_>) -> Result<Vec<Item>, ActionError> {
        if let Self::Store { store, prefix } = self
            && store.list(prefix).await.is_err_and(|error| error.is_unborn())
        {
            return Ok(Vec::new());
        }
        Ok(self.list(filter).await?.unwrap_or_default())
    }

    /// Tells an item anew; `None` when it is gone.
    pub(super) async fn look(&self, name: &str) -> Result<Option<Item>, ActionError> {
        match self {
            Self::Folder { files, root } => {
                let path = root.join(name);
                if files.facts(&path).map_err(file_failed)?.is_none() {
                    return Ok(None);
                }
                item_at(&**files, name, &path).map(Some).map_err(file_failed)
            }
            Self::Store { store, prefix } => match store.head(&key_of(prefix, name)?).await {
                Ok(facts) => Ok(Some(Item::of(name.to_owned(), &facts))),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(store_failed(error)),
            },
        }
    }

    /// Tells the digest of an item: the recorded one, else by reading it.
    pub(super) async fn facts(&self, item: &Item) -> Result<PlainFacts, ActionError> {
        match self {
            Self::Folder { files, root } => {
                let (files, path) = (Arc::clone(files), root.join(&item.name));
                let read = tokio::task::spawn_blocking(move || digest_file(&*files, &path)).await;
                let read = read.map_err(|error| ActionError::fatal("the reading broke off").because(&error))?;
                read.map_err(file_failed)
            }
            Self::Store { store, prefix } => {
                let key = key_of(prefix, &item.name)?;
                let facts = store.head(&key).await.map_err(store_failed)?;
                if let Some(sha256) = facts.sha256() {
                    return Ok(PlainFacts { size_bytes: facts.size_bytes, sha256 });
                }
                let mut body = self.open(item).await?;
                let read = copy(&mut body, &mut tokio::io::sink()).await;
                let (size_bytes, sha256) = read.map_err(|error| broke_off(store.name(), &key, error))?;
                Ok(PlainFacts { size_bytes, sha256 })
            }
        }
    }

    /// What an object's metadata say beside its digest: WAL tells there how it was packed. A file has none.
    pub(super) async fn metadata(&self, item: &Item) -> Result<BTreeMap<String, String>, ActionError> {
        match self {
            Self::Folder { .. } => Ok(BTreeMap::new()),
            Self::Store { store, prefix } => {
                let key = key_of(prefix, &item.name)?;
                Ok(store.head(&key).await.map_err(store_failed)?.metadata)
            }
        }
    }

    /// Opens the very content that was listed.
    pub(super) async fn open(&self, item: &Item) -> Result<ByteStream, ActionError> {
        match self {
            Self::Folder { files, root } => {
                let file = files.open(&root.join(&item.name)).map_err(file_failed)?;
                Ok(Box::new(tokio::fs::File::from_std(file)))
            }
            Self::Store { store, prefix } => {
                let key = key_of(prefix, &item.name)?;
                let if_match = (!item.stamp.is_empty()).then(|| item.stamp.clone());
                let options = GetOptions { if_match, ..GetOptions::default() };
                store.get_with(&key, options).await.map_err(store_failed)
            }
        }
    }

    /// The time a file had, where a store keeps it; else the item's own.
    pub(super) async fn own_time(&self, item: &Item) -> Result<Timestamp, ActionError> {
        match self {
            Self::Folder { .. } => Ok(item.modified_at),
            Self::Store { store, prefix } => {
                let facts = store.head(&key_of(prefix, &item.name)?).await.map_err(store_failed)?;
                let kept = facts.metadata.get(MTIME).and_then(|text| text.parse().ok());
                Ok(kept.unwrap_or(facts.modified_at))
            }
        }
    }
}

impl Item {
    fn of(name: String, facts: &ObjectFacts) -> Self {
        let stamp = facts.etag.clone().unwrap_or_default();
        Self { name, size_bytes: facts.size_bytes, modified_at: facts.modified_at, stamp }
    }
}

/// The key of a name below a prefix.
pub(super) fn key_of(prefix: &str, name: &str) -> Result<ObjectKey, ActionError> {
    crate::actions::store::body::key(&format!("{prefix}{name}"))
}

struct Walk {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
}

impl Walk {
    fn folder(&self, files: &dyn ReadFiles, root: &Path, symlinks: Symlinks) -> Result<Option<Vec<Item>>, ActionError> {
        match files.facts(root).map_err(file_failed)? {
            None => return Ok(None),
            Some(facts) if facts.kind == FileKind::Directory => {}
            Some(_) => return Err(ActionError::fatal(format!("`{}` is not a folder", root.display()))),
        }
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                let fact = format!("`{folder}` lies more than {MAX_DEPTH} folders deep");
                return Err(ActionError::fatal(fact).help("is there a link that leads back to its own folder?"));
            }
            for entry in files.list(&root.join(&folder)).map_err(file_failed)? {
                let name = named(root, &folder, &entry)?;
                if self.exclude.iter().any(|glob| glob.fits(&name)) {
                    continue;
                }
                match kind(files, &root.join(&name), &entry, symlinks)? {
                    Kind::Folder => folders.push((format!("{name}/"), depth + 1)),
                    Kind::File if is_part(&entry.name.to_string_lossy()) || !self.takes(symlinks, &name) => {}
                    Kind::File => found.push(item_at(files, &name, &root.join(&name)).map_err(file_failed)?),
                    Kind::Skipped => {}
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(found))
    }

    fn takes(&self, symlinks: Symlinks, name: &str) -> bool {
        Filter { include: &self.include, exclude: &self.exclude, symlinks }.takes(name)
    }
}

enum Kind {
    Folder,
    File,
    Skipped,
}

fn named(root: &Path, folder: &str, entry: &DirEntry) -> Result<String, ActionError> {
    let name = entry.name.to_str().map(|name| format!("{folder}{name}"));
    name.filter(|name| name.parse::<ObjectKey>().is_ok()).ok_or_else(|| {
        let path = root.join(folder).join(&entry.name);
        ActionError::fatal(format!("`{}` has a name that no object can have", path.display()))
            .help("rename it; names are UTF-8 without control characters, at most 1024 bytes with their folders")
    })
}

fn kind(files: &dyn ReadFiles, path: &Path, entry: &DirEntry, symlinks: Symlinks) -> Result<Kind, ActionError> {
    let shown = path.display();
    match (entry.facts.kind, symlinks) {
        (FileKind::File, _) => Ok(Kind::File),
        (FileKind::Directory, _) => Ok(Kind::Folder),
        (FileKind::Symlink, Symlinks::Skip) => Ok(Kind::Skipped),
        (FileKind::Symlink, Symlinks::Refuse) => Err(ActionError::fatal(format!("`{shown}` is a symbolic link"))
            .help("say `symlinks: skip` or `symlinks: follow`, or exclude it")),
        (FileKind::Symlink, Symlinks::Follow) => {
            let target = files.canonical(path).map_err(file_failed)?;
            match files.facts(&target).map_err(file_failed)?.map(|facts| facts.kind) {
                Some(FileKind::File) => Ok(Kind::File),
                Some(FileKind::Directory) => Ok(Kind::Folder),
                Some(FileKind::Symlink | FileKind::Other) | None => {
                    Err(ActionError::fatal(format!("`{shown}` is a link that leads to no file and no folder")))
                }
            }
        }
        (FileKind::Other, _) => Err(ActionError::fatal(format!("`{shown}` is neither a file nor a folder"))
            .help("exclude it: sockets, pipes and devices have no content to copy")),
    }
}

fn item_at(files: &dyn ReadFiles, name: &str, path: &Path) -> Result<Item, HostError> {
    let at = |source| HostError::File { operation: "look at", path: path.to_owned(), source };
    let meta = files.open(path)?.metadata().map_err(at)?;
    let modified_at = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let stamp = format!("{:x}-{:x}-{:x}.{:x}", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    Ok(Item { name: name.to_owned(), size_bytes: meta.len(), modified_at, stamp })
}

fn digest_file(files: &dyn ReadFiles, path: &Path) -> Result<PlainFacts, HostError> {
    let (mut file, mut hasher) = (files.open(path)?, Hasher::default());
    let read = std::io::copy(&mut file, &mut hasher);
    let size_bytes = read.map_err(|source| HostError::File { operation: "read", path: path.to_owned(), source })?;
    Ok(PlainFacts { size_bytes, sha256: hasher.finish() })
}
