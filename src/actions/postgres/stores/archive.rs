//! The WAL archive of a cluster as a recovery needs to see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::readable::Judged;
use crate::action::{Access, ActionError, Effects, HostError, ReadStore, StoreError, Surroundings, Target};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::store::FULL;
use crate::base::Timestamp;
use crate::catalog::recovery::Archive;
use crate::catalog::{self, CatalogError};
use crate::event::ErrorClass;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, WalFileName};
use crate::transfer::TransferError;
use crate::wal::{
    Beginning, CommitTimes, Identity, Keys, Loaded, Plainly, Source, WalError, load_first, read_first, unpack_first,
};

/// Where a cluster's WAL lies: what one of several stores has is there.
#[derive(Clone)]
pub(crate) struct WalArchive<'a> {
    /// The stores, that of its backups first, each with what encrypted WAL is read with.
    pub(crate) stores: Vec<(&'a dyn ReadStore, Keys<'a>)>,
    /// The prefix inside them.
    pub(crate) prefix: &'a str,
    /// The cluster.
    pub(crate) system_id: SystemId,
    /// Its segment size.
    pub(crate) size: SegmentSize,
}

/// How long a store may take to say whether it has a segment, and to list what it has, where others may be enough.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const LISTED_WITHIN: Duration = Duration::from_secs(120);

/// Stores without a segment.
#[derive(Default)]
pub(crate) struct Lacking<'a> {
    /// Those that lack it.
    pub(crate) without: Vec<&'a str>,
    /// Those that did not say, and why.
    pub(crate) silent: Vec<(&'a str, ActionError)>,
}

impl<'a> Lacking<'a> {
    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.without.len() + self.silent.len()
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        self.without.iter().copied().chain(self.silent.iter().map(|(store, _)| *store)).collect()
    }
}

/// The keys of a store of the inventory; none where it has no such store.
pub(crate) fn keys<'a>(about: &'a Surroundings, store: &str) -> Keys<'a> {
    Keys { settings: about.inventory.stores.get(store), secrets: about.secrets.as_ref() }
}

impl WalArchive<'_> {
    /// Tells whether a segment is there.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub(crate) async fn holds(&self, segment: SegmentName) -> Result<bool, ActionError> {
        for (store, _) in &self.stores {
            if self.has(*store, segment).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells which stores lack a segment, and which do not say in time.
    pub(crate) async fn lacking(&self, segment: SegmentName) -> Lacking<'_> {
        let asked = self.stores.iter().map(|(store, _)| async move {
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.has(*store, segment)).await;
            (store.name(), answer.unwrap_or_else(|_| Err(self.helped(*store, silent(store.name())))))
        });
        let mut lacking = Lacking::default();
        for (store, answer) in futures_util::future::join_all(asked).await {
            match answer {
                Ok(true) => {}
                Ok(false) => lacking.without.push(store),
                Err(error) => lacking.silent.push((store, error)),
            }
        }
        lacking
    }

    /// Names the stores that give no answer, each with the reason.
    pub(crate) async fn silent(&self, segment: SegmentName) -> Vec<(&str, ActionError)> {
        let mut silent = Vec::new();
        for (store, _) in &self.stores {
            if let Err(error) = self.has(*store, segment).await {
                silent.push((store.name(), error));
            }
        }
        silent
    }

    async fn has(&self, store: &dyn ReadStore, segment: SegmentName) -> Result<bool, ActionError> {
        let objects = catalog::wal_objects(store, self.prefix, self.system_id, WalFileName::Segment(segment)).await;
        Ok(!objects.map_err(|error| self.helped(store, broken(&error)))?.is_empty())
    }

    /// Reads a segment whole, verified and unpacked.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged or cannot be decrypted.
    pub(crate) async fn segment(&self, segment: SegmentName) -> Result<Vec<u8>, ActionError> {
        let read = read_first(&self.sources(), WalFileName::Segment(segment)).await;
        read.map_err(|error| unread_segment(segment, &error))
    }

    /// Loads a segment from the first store that has it, to be unpacked by [`WalArchive::unpack`].
    ///
    /// # Errors
    /// Fails when it is not there or damaged.
    pub(crate) async fn load(&self, segment: SegmentName) -> Result<Loaded<'_>, ActionError> {
        let loaded = load_first(&self.sources(), WalFileName::Segment(segment)).await;
        loaded.map_err(|error| unread_segment(segment, &error))
    }

    /// Gives a segment's plain bytes to what is made for them; it is given back when they are proven. One that turns out to be
    /// damaged, or breaks off, is read from all stores again, and then something new is made.
    ///
    /// # Errors
    /// Fails when no store has it whole, and when it cannot be decrypted.
    pub(crate) async fn unpack<W: Plainly>(
        &self,
        (segment, loaded): (SegmentName, Loaded<'_>),
        make: &(dyn Fn() -> W + Sync),
    ) -> Result<W, ActionError> {
        let unpacked = unpack_first(&self.sources(), loaded, &|_| Ok(make())).await;
        unpacked.map_err(|error| unread_segment(segment, &error))
    }

    /// Reads a segment whole, or says what is wrong with it: it is not there, or damaged.
    ///
    /// # Errors
    /// Fails when nothing can be told of it: a store gives no answer, no key fits.
    pub(crate) async fn judge_segment(&self, segment: SegmentName) -> Result<Judged<Vec<u8>>, ActionError> {
        match read_first(&self.sources(), WalFileName::Segment(segment)).await {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(error) if error.is_fault() || error.is_of_key() => Ok(Err(error.to_string())),
            Err(error) => Err(unread_segment(segment, &error)),
        }
    }

    /// Tells whether the stores have only the beginning of a segment in which the server has gone on since. Its own copy is read
    /// where they do.
    ///
    /// # Errors
    /// Fails when a store gives no answer, or the copy cannot be read.
    pub(crate) async fn has_only_begun(
        &self,
        segment: SegmentName,
        read: impl FnOnce() -> Result<Vec<u8>, HostError>,
    ) -> Result<Option<Vec<u8>>, ActionError> {
        let (sources, failed) = (self.sources(), |error: WalError| unread_segment(segment, &error));
        let Some(beginning) = Beginning::of(&sources, segment).await.map_err(failed)? else { return Ok(None) };
        let unread = |error| ActionError::retryable("the server's own WAL cannot be read").because(&error);
        let own = read().map_err(unread)?;
        Ok(beginning.goes_on_in(&sources, &own).await.map_err(failed)?.then_some(own))
    }

    /// Lists the names of all that is there.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub(crate) async fn names(&self) -> Result<BTreeMap<WalFileName, Timestamp>, ActionError> {
        let folder = format!("{}/wal/{}/", self.prefix, self.system_id);
        let mut all = BTreeMap::new();
        for (store, _) in &self.stores {
            let listed = store.list(&folder).await.map_err(|error| self.helped(*store, failed(&error)))?;
            let named = listed.into_iter().filter_map(|facts| {
                let (name, _) = catalog::wal_file_of(facts.key.as_str().rsplit('/').next()?)?;
                Some((name, facts.modified_at))
            });
            all.extend(named);
        }
        Ok(all)
    }

    /// Looks at everything a decision about targets needs.
    ///
    /// # Errors
    /// Fails when a store gives no answer, a history file is damaged, or two stores tell a timeline differently.
    pub(crate) async fn view(&self) -> Result<Archive, ActionError> {
        let mut all = Archive::empty(self.size);
        for at in 0..self.stores.len() {
            let viewed = self.view_of(at).await?;
            self.join(&mut all, at, viewed)?;
        }
        Ok(all)
    }

    /// Looks at what the stores hold that give an answer; with it, what the others said instead.
    ///
    /// # Errors
    /// Fails when none gives one, or two stores tell a timeline differently.
    pub(crate) async fn view_of_those_that_answer(&self) -> Result<(Archive, Vec<ActionError>), ActionError> {
        let (mut all, mut silent) = (Archive::empty(self.size), Vec::new());
        for (at, (store, _)) in self.stores.iter().enumerate() {
            let viewed = tokio::time::timeout(LISTED_WITHIN, self.view_of(at)).await;
            match viewed.unwrap_or_else(|_| Err(self.helped(*store, self::silent(store.name())))) {
                Ok(viewed) => self.join(&mut all, at, viewed)?,
                Err(error) if error.info().class == ErrorClass::Retryable => silent.push(error),
                Err(error) => return Err(error),
            }
        }
        match silent.pop() {
            Some(error) if silent.len() + 1 == self.stores.len() => Err(error),
            last => {
                silent.extend(last);
                Ok((all, silent))
            }
        }
    }

    async fn view_of(&self, at: usize) -> Result<Archive, ActionError> {
        let (store, _) = &self.stores[at];
        if at > 0 {
            // Who fetches asks the same, and takes no prefix that is nobody's for one that lacks a file.
            let claimed = catalog::check_prefix(*store, self.prefix, self.system_id).await;
            claimed.map_err(|error| self.helped(*store, broken(&error)))?;
        }
        let viewed = catalog::wal_view(*store, self.prefix, (self.system_id, self.size)).await;
        viewed.map_err(|error| self.helped(*store, broken(&error)))
    }

    fn join(&self, all: &mut Archive, at: usize, viewed: Archive) -> Result<(), ActionError> {
        all.join(viewed).map_err(|timeline| {
            let store = self.stores[at].0.name();
            ActionError::fatal(format!("store `{store}` tells timeline {timeline} differently")).help(
                "two servers were promoted to it: see which of them counts, and name only its stores in `wal_stores`",
            )
        })
    }

    /// What to do when a store fails that is not the database's own.
    fn helped(&self, store: &dyn ReadStore, error: ActionError) -> ActionError {
        let is_own = self.stores.first().is_none_or(|(own, _)| own.name() == store.name());
        if is_own { error } else { without(store.name(), error) }
    }

    /// Reads its times.
    pub(crate) fn commit_times(&self) -> CommitTimes<'_> {
        CommitTimes::of(self.sources(), self.size)
    }

    /// Reads from the WAL when each timeline was promoted, and how long the ones it left went on.
    ///
    /// # Errors
    /// Fails when a segment cannot be read or is damaged.
    pub(crate) async fn date(&self, archive: &mut Archive) -> Result<(), ActionError> {
        self.commit_times().date(archive).await.map_err(|error| unread(&error))
    }

    /// Reads from the WAL whether somebody went on with a timeline that was given up.
    ///
    /// # Errors
    /// Fails when a segment cannot be read, unless it is damaged.
    pub(crate) async fn date_given_up(&self, archive: &mut Archive) -> Result<(), ActionError> {
        self.commit_times().date_given_up(archive).await.map_err(|error| unread(&error))
    }

    /// Reads from the WAL up to when each timeline was written that a recovery of the newest state may follow or leave.
    ///
    /// # Errors
    /// Fails when a segment cannot be read, unless it is damaged.
    pub(crate) async fn date_ends(&self, archive: &mut Archive, start: Lsn) -> Result<(), ActionError> {
        self.commit_times().date_ends(archive, start).await.map_err(|error| unread(&error))
    }

    /// Where its files are read from.
    fn sources(&self) -> Vec<Source<'_>> {
        let identity = Identity { system_id: self.system_id, segment_size: Some(self.size) };
        let source = |(store, keys): &(_, _)| Source { store: *store, prefix: self.prefix, identity, keys: *keys };
        self.stores.iter().map(source).collect()
    }
}

fn silent(store: &str) -> ActionError {
    ActionError::retryable(format!("store `{store}` gives no answer"))
}

fn unread_segment(segment: SegmentName, error: &WalError) -> ActionError {
    let fact = format!("segment `{segment}` of the archive cannot be read");
    let class = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    class.because(error)
}

/// An error of a store that only WAL is archived into: a recovery that cannot see it cannot know where the WAL ends.
pub(crate) fn without(store: &str, error: ActionError) -> ActionError {
    let help = format!(
        "WAL that only store `{store}` has would be lost without a word; if it is gone for good, take it out of \
         `wal_stores` of the database's entry"
    );
    error.help(help)
}

/// Why the archived WAL cannot be read.
pub(crate) fn unread(error: &WalError) -> ActionError {
    let fact = "the archived WAL cannot be read";
    let class = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    class.because(error)
}

/// Opens every store that a database's WAL lies in, that of its backups first.
///
/// # Errors
/// Fails when one cannot be had.
pub(crate) fn opened<S: ?Sized>(
    cluster: &Cluster,
    open: impl Fn(&str) -> Result<Arc<S>, ActionError>,
) -> Result<Vec<Arc<S>>, ActionError> {
    let (own, _) = cluster.archive()?;
    let further = cluster.further().map(|name| open(name).map_err(|error| without(name, error)));
    std::iter::once(open(own)).chain(further).collect()
}

/// Adds that the other stores of a database's WAL are read.
pub(crate) fn read(cluster: &Cluster, effects: Effects) -> Effects {
    let Ok((_, prefix)) = cluster.archive() else { return effects };
    let target = |name: &str| Target::Store { name: name.to_owned(), prefix: prefix.to_owned() };
    cluster.further().fold(effects, |effects, name| effects.target(Access::Read, target(name)))
}

/// A failure of a store as a step's error.
pub(crate) fn failed(error: &StoreError) -> ActionError {
    match error {
        StoreError::Unavailable { .. } if error.is_full() => {
            ActionError::retryable("the database's store has no room left").because(error).help(FULL)
        }
        StoreError::Unavailable { .. } => ActionError::retryable("the database's store gives no answer").because(error),
        StoreError::Replaced { .. } => ActionError::retryable(error.to_string()),
        StoreError::Archived { .. } => {
            ActionError::fatal(error.to_string()).help("retrieve it first with `store.retrieve`")
        }
        StoreError::NotFound { .. }
        | StoreError::Exists { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Refused { .. } => ActionError::fatal(error.to_string()),
    }
}

/// A failure on the way into or out of a store as a step's error.
pub(crate) fn stream_failed(error: &TransferError) -> ActionError {
    match error {
        TransferError::Store(store) => failed(store),
        TransferError::Io { .. } => ActionError::retryable("an object did not arrive").because(error),
        TransferError::Key(_)
        | TransferError::Damaged { .. }
        | TransferError::WrongKey { .. }
        | TransferError::Settings(_) => ActionError::fatal(error.to_string()).because(error),
    }
}

/// A failure of the catalog as a step's error.
pub(crate) fn broken(error: &CatalogError) -> ActionError {
    if let CatalogError::Torn { .. } = error {
        return ActionError::fatal(error.to_string());
    }
    let message = "the database's catalog cannot be used";
    if error.is_passing() {
        ActionError::retryable(message).because(error)
    } else {
        ActionError::fatal(message).because(error)
    }
}
