//! The folder of another machine, its connection, and what is looked up in it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::metadata::MetaData;
use openssh_sftp_client::{Error, UnixTimeStamp};
use tokio::sync::Mutex;

use super::fault::{Verdict, fault, silent, verdict};
use super::session::Session;
use super::temporary::{self, Temporary};
use crate::action::{ObjectFacts, ObjectKey, StoreError, Unfinished};
use crate::base::Timestamp;
use crate::language::inventory::{SftpPlace, SshAccess};
use crate::store::access::{Access, Birth};
use crate::store::sidecar::{
    Known, MARKER, MARKER_TEXT, MAX_DEPTH, RESERVED_PREFIX, decode, hidden_name, no_store, unfit,
};

/// What a store over SFTP is.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) at: SftpPlace,
    pub(super) ssh: SshAccess,
    pub(super) access: Access,
    pub(super) birth: Birth,
    pub(super) session: Mutex<Option<Arc<Session>>>,
}

impl Place {
    /// Gives the connection, a new one if there is none that lives.
    pub(super) async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| session.lives()) {
            return Ok(Arc::clone(session));
        }
        let fresh = Arc::new(Session::connect(&self.name, &self.at, &self.ssh).await?);
        *session = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    pub(super) fn fault(&self, session: &Session, what: &str, error: Error) -> StoreError {
        if verdict(&error) == Verdict::Lost {
            session.give_up();
            if let Some(silence) = session.silence() {
                return silent(&self.name, what, silence);
            }
        }
        fault(&self.name, what, error)
    }

    pub(super) fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.name.clone(), what }
    }

    pub(super) fn not_found(&self, key: &ObjectKey) -> StoreError {
        StoreError::NotFound { store: self.name.clone(), key: key.to_string() }
    }

    pub(super) fn writable(&self) -> Result<(), StoreError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly { store: self.name.clone() }),
        }
    }

    pub(super) fn path(&self, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        match unfit(key) {
            Some(why) => Err(self.refused(why)),
            None => Ok(self.at.path.join(key.as_str())),
        }
    }

    /// Proves that the store is there: without this no absence may be believed.
    pub(super) async fn present(&self, session: &Session) -> Result<(), StoreError> {
        match stat(session, &self.at.path.join(MARKER)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) if self.is_filled_by_others(session).await => Ok(()),
            Ok(None) => {
                let place = format!("`{}` on `{}`", self.at.path.display(), self.at.host);
                let is_there = matches!(stat(session, &self.at.path).await, Ok(Some(_)));
                let what = no_store(&place, is_there, self.access);
                let source = io::Error::new(io::ErrorKind::NotFound, what.clone());
                Err(StoreError::Unavailable { store: self.name.clone(), what, source })
            }
            Err(error) => Err(self.fault(session, "cannot look into its folder", error)),
        }
    }

    /// Whether other programs fill it: it is only read, and holds something. Where a disk is mounted, nothing lies
    /// beneath it.
    async fn is_filled_by_others(&self, session: &Session) -> bool {
        self.access == Access::ReadOnly
            && entries(session, &self.at.path, is_visible).await.is_ok_and(|found| !found.is_empty())
    }

    /// Believes that an object is absent, once the store proved to be there.
    pub(super) async fn absent(&self, session: &Session, key: &ObjectKey) -> StoreError {
        match self.present(session).await {
            Ok(()) => self.not_found(key),
            Err(error) => error,
        }
    }

    /// Makes the folder a store, if it is none yet.
    pub(super) async fn initialize(&self, session: &Arc<Session>) -> Result<(), StoreError> {
        if self.present(session).await.is_ok() {
            return Ok(());
        }
        let what = format!("cannot make a store of `{}`", self.at.path.display());
        self.create_marker(session).await.map_err(|error| self.fault(session, &what, error))
    }

    async fn create_marker(&self, session: &Arc<Session>) -> Result<(), Error> {
        make_folder(session, &self.at.path).await?;
        let marker = self.at.path.join(MARKER);
        let mut temporary = Temporary::create(session, &marker).await?;
        temporary.write(MARKER_TEXT).await?;
        session.fs().rename(temporary.path(), &marker).await?;
        temporary.published();
        temporary.sync().await
    }

    /// Readies the folder of an object for writing.
    pub(super) async fn prepare(&self, session: &Arc<Session>, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        let path = self.path(key)?;
        session.writes(&self.name)?;
        match self.birth {
            Birth::AtFirstWrite => self.initialize(session).await?,
            Birth::Never => self.present(session).await?,
        }
        let what = format!("cannot create the folder of `{key}`");
        let at = |error| self.fault(session, &what, error);
        let mut missing = Vec::new();
        let mut folder = path.parent().unwrap_or(&self.at.path);
        while folder != self.at.path && stat(session, folder).await.map_err(at)?.is_none() {
            missing.push(folder);
            folder = folder.parent().unwrap_or(&self.at.path);
        }
        for folder in missing.into_iter().rev() {
            make_folder(session, folder).await.map_err(at)?;
        }
        match stat(session, &path).await.map_err(at)? {
            Some(facts) if is_folder(&facts) => Err(self.refused(format!("`{key}` is a folder of other objects"))),
            Some(_) | None => Ok(path),
        }
    }

    /// Tells what is known of the object at `path`, which exists with `size_bytes`; several contents while it
    /// is being replaced.
    pub(super) async fn known(&self, session: &Session, path: &Path) -> Result<Vec<Known>, StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let what = format!("cannot read the metadata of `{name}`");
        match session.fs().read(path.with_file_name(hidden_name(&name, "meta"))).await {
            Ok(bytes) => decode(&bytes).map_err(|error| self.refused(format!("`{name}`: {error}"))),
            Err(error) if verdict(&error) == Verdict::Absent => Ok(Vec::new()),
            Err(error) => Err(self.fault(session, &what, error)),
        }
    }

    /// Lists the objects whose keys begin with `prefix`, in no order.
    pub(super) async fn list(&self, session: &Session, prefix: &str) -> Result<Vec<ObjectFacts>, StoreError> {
        let mut found = Vec::new();
        let keep = |key: &str, facts: &MetaData| found.extend(key.parse().ok().map(|key| object_facts(key, facts)));
        self.collect(session, (prefix, is_visible), keep).await?;
        Ok(found)
    }

    /// What writers began below a prefix and did not finish, in no order. What a writer on that machine itself began has its
    /// object's name, and only there can be told whether it is at work.
    pub(super) async fn unfinished(&self, session: &Session, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        let mut found = Vec::new();
        let keep = |path: &str, facts: &MetaData| {
            let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
            let Some((told, begun_at)) = temporary::begun(name) else { return };
            // The clock of that machine may be far behind the writer's.
            let touched_at = Some(modified_at(facts).max(begun_at));
            let (size_bytes, upload) = (facts.len().unwrap_or_default(), path.to_owned());
            let key = format!("{folder}/{told}");
            let key = key.trim_start_matches('/').parse().ok();
            found.extend(key.map(|key| Unfinished { key, size_bytes, touched_at, upload }));
        };
        self.collect(session, (prefix, |name| temporary::begun(name).is_some()), keep).await?;
        Ok(found)
    }

    /// Removes what a writer began, unless it was gone on with since it was listed.
    pub(super) async fn discard(&self, unfinished: &Unfinished) -> Result<bool, StoreError> {
        self.writable()?;
        let session = self.session().await?;
        let what = format!("cannot remove what was begun of `{}`", unfinished.key);
        let at = |error| self.fault(&session, &what, error);
        let (folder, name) = unfinished
            .upload
            .rsplit_once('/')
            .map_or(("", unfinished.upload.as_str()), |(folder, name)| (folder, name));
        let Some((_, begun_at)) = temporary::begun(name).filter(|_| !folder.split('/').any(|part| part == "..")) else {
            return Err(self.refused(format!("`{}` is nothing that a writer began", unfinished.upload)));
        };
        let path = self.at.path.join(folder).join(name);
        let there = stat(&session, &path).await.map_err(at)?;
        let is_same = |facts: &MetaData| {
            is_file(facts)
                && facts.len() == Some(unfinished.size_bytes)
                && Some(modified_at(facts).max(begun_at)) == unfinished.touched_at
        };
        if !there.as_ref().is_some_and(is_same) {
            self.present(&session).await?;
            return Ok(false);
        }
        session.fs().remove_file(&path).await.map_err(at)?;
        Ok(true)
    }

    /// Gives each file with a name that is wanted whose path begins with `prefix`.
    async fn collect(
        &self,
        session: &Session,
        (prefix, wanted): (&str, fn(&str) -> bool),
        mut keep: impl FnMut(&str, &MetaData),
    ) -> Result<(), StoreError> {
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                return Err(self.refused(format!("`{folder}` lies more than {MAX_DEPTH} folders deep")));
            }
            let what = format!("cannot list `{folder}`");
            let entries = entries(session, &self.at.path.join(&folder), wanted).await;
            for (name, facts) in entries.map_err(|error| self.fault(session, &what, error))? {
                let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if !key.starts_with(prefix) && !prefix.starts_with(&format!("{key}/")) {
                    continue;
                }
                if is_folder(&facts) {
                    folders.push((key, depth + 1));
                } else if is_file(&facts) && key.starts_with(prefix) && wanted(name_of(&key)) {
                    keep(&key, &facts);
                }
            }
        }
        Ok(())
    }
}

/// Tells of a name, links followed; `None` when the server says that it is absent.
pub(super) async fn stat(session: &Session, path: &Path) -> Result<Option<MetaData>, Error> {
    match session.fs().metadata(path).await {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if verdict(&error) == Verdict::Absent => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a name is none of the store's own.
fn is_visible(name: &str) -> bool {
    !name.starts_with(RESERVED_PREFIX)
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The visible names in a folder, and those that are wanted; none when it is gone.
async fn entries(session: &Session, folder: &Path, wanted: fn(&str) -> bool) -> Result<Vec<(String, MetaData)>, Error> {
    let mut fs = session.fs();
    let opened = match fs.open_dir(folder).await {
        Ok(opened) => opened,
        Err(error) if verdict(&error) == Verdict::Absent => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (mut found, mut entries) = (Vec::new(), pin!(opened.read_dir()));
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        let Some(name) = entry.filename().to_str().filter(|name| !matches!(*name, "." | "..")) else { continue };
        if !is_visible(name) && !wanted(name) {
            continue;
        }
        let facts = entry.metadata();
        let settled = is_file(&facts) || is_folder(&facts);
        // Follows links: a part of the store may lie on another disk.
        let facts = if settled { Some(facts) } else { stat(session, &folder.join(name)).await? };
        found.extend(facts.map(|facts| (name.to_owned(), facts)));
    }
    Ok(found)
}

/// Creates one folder; one that is there already is fine.
async fn make_folder(session: &Session, folder: &Path) -> Result<(), Error> {
    let mut fs = session.fs();
    let mut builder = fs.dir_builder();
    match builder.permissions(openssh_sftp_client::metadata::Permissions::from(0o750)).create(folder).await {
        Ok(()) => Ok(()),
        Err(error @ Error::SftpError(SftpErrorKind::Failure, _)) => match stat(session, folder).await? {
            Some(facts) if is_folder(&facts) => Ok(()),
            Some(_) | None => Err(error),
        },
        Err(error) => Err(error),
    }
}

pub(super) fn is_folder(facts: &MetaData) -> bool {
    facts.file_type().is_some_and(|kind| kind.is_dir())
}

pub(super) fn is_file(facts: &MetaData) -> bool {
    facts.file_type().is_some_and(|kind| kind.is_file())
}

/// What a server tells of a file.
pub(super) fn object_facts(key: ObjectKey, facts: &MetaData) -> ObjectFacts {
    let size_bytes = facts.len().unwrap_or_default();
    ObjectFacts { etag: Some(etag(facts)), ..ObjectFacts::new(key, size_bytes, modified_at(facts)) }
}

fn modified_at(facts: &MetaData) -> Timestamp {
    let seconds = facts.modified().map_or(0, UnixTimeStamp::into_raw);
    Timestamp::from_second(i64::from(seconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Tells one content of a file from another: size and time. `publish` sees to it that a replacement has a later time.
pub(super) fn etag(facts: &MetaData) -> String {
    let seconds = facts.modified().map_or(0, UnixTimeStamp::into_raw);
    format!("{:x}-{seconds:x}", facts.len().unwrap_or_default())
}
