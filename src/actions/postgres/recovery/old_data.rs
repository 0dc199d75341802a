//! What a person should know of the old data before a recovery replaces it. Cheap, and only reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rescue::{Glance, Judge};
use crate::action::{ActionError, CheckContext, HostError};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::stores::archive::{self, WalArchive};
use crate::base::Timestamp;
use crate::catalog::wal_owner;
use crate::pgformat::{ControlFile, SegmentName, SystemId, WalFileName};
use crate::wal::Keys;

/// What a recovery would replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// The cluster that its archive is of, one that cannot be read, or nothing; in words.
    Own(String),
    /// Another cluster than the one that was backed up; in words.
    Another(String),
    /// The cluster that its archive is of, with WAL that nothing else has and no store that it may be brought into; in words.
    Unrescuable(String),
}

/// Says in one sentence what a recovery to `target` would replace; `None` for a scratch database. WAL that another program
/// archived counts where `location` names such.
///
/// # Errors
/// Fails when the place cannot be looked at.
pub(crate) async fn replaced(
    (cluster, location): (&Cluster, Option<&WalLocation>),
    target: Option<Timestamp>,
    cx: &CheckContext,
) -> Result<Option<Replaced>, ActionError> {
    if cluster.is_scratch() {
        return Ok(None);
    }
    let own = |words: String| Ok(Some(Replaced::Own(words)));
    let files = cx.host.read_files();
    let old = Old::find(cluster, &cx.about.run, files.as_ref())
        .map_err(|error| ActionError::fatal("the old data directory cannot be looked at").because(&error))?;
    let Some(old) = old else {
        let fact = format!("there is no data directory `{}`", cluster.pgdata.display());
        return own(format!("{fact}: nothing is replaced, and only archived WAL can be replayed"));
    };
    let shown = old.dir.display();
    let Some(control) = old.control(files.as_ref()) else {
        return own(format!("`{shown}` will be moved aside; its `pg_control` cannot be read"));
    };
    if let Some(backed_up) = other_archive(cluster, control.system_id, cx).await {
        return Ok(Some(Replaced::Another(format!(
            "`{shown}` holds cluster {}, but what is archived under this prefix is of cluster {backed_up}: nothing of \
             what was committed in the one comes back from the other",
            control.system_id
        ))));
    }
    let cluster_text = format!("`{shown}` will be moved aside; it holds cluster {}", control.system_id);
    let found = match glance(&old, (cluster, location), &control, cx).await {
        Ok(Some((glance, begun)))
            if (glance.unarchived > 0 || begun.is_some())
                && !may_rescue(cluster, cx)?
                && is_archived(cluster, control.system_id, cx).await =>
        {
            let count = glance.unarchived + usize::from(begun.is_some());
            return Ok(Some(Replaced::Unrescuable(format!(
                "`{shown}` has {count} WAL segments that no store has whole, and every store of its WAL is read-only here: \
                 what was committed last could not be brought into the archive before the data is moved aside"
            ))));
        }
        Ok(Some((glance, begun))) => words(&glance, begun, target),
        Ok(None) => "it has no `pg_wal`".to_owned(),
        Err(error) => format!("its newest commit is not known: {error}"),
    };
    own(format!("{cluster_text}; {found}"))
}

/// The cluster that the prefix in the database's own store belongs to, where that is another one.
async fn other_archive(cluster: &Cluster, ours: SystemId, cx: &CheckContext) -> Option<SystemId> {
    let (store, prefix) = cluster.archive().ok()?;
    let owner = wal_owner(cx.store(store).ok()?.as_ref(), prefix).await.ok()?;
    owner.filter(|owner| *owner != ours)
}

/// Whether a store of the database's WAL is known to hold that of a cluster: a recovery rescues what its own cluster wrote.
async fn is_archived(cluster: &Cluster, ours: SystemId, cx: &CheckContext) -> bool {
    let Ok((own, prefix)) = cluster.archive() else { return false };
    for name in std::iter::once(own).chain(cluster.further()) {
        let Ok(store) = cx.store(name) else { continue };
        if matches!(wal_owner(store.as_ref(), prefix).await, Ok(Some(owner)) if owner == ours) {
            return true;
        }
    }
    false
}

/// Whether the WAL that only the old data has can be stored anywhere.
fn may_rescue(cluster: &Cluster, cx: &CheckContext) -> Result<bool, ActionError> {
    let (own, _) = cluster.archive()?;
    let is_open = |name: &str| cx.about.inventory.stores.get(name).is_none_or(|entry| !entry.read_only);
    Ok(std::iter::once(own).chain(cluster.further()).any(is_open))
}

/// Looks at its newest WAL; with it, the segment of which the archive has only the beginning.
async fn glance(
    old: &Old,
    (cluster, location): (&Cluster, Option<&WalLocation>),
    control: &ControlFile,
    cx: &CheckContext,
) -> Result<Option<(Glance, Option<SegmentName>)>, ActionError> {
    let files = cx.host.read_files();
    let failed = |error| ActionError::fatal("its WAL cannot be read").because(&error);
    let Some(folder) = old.wal(&cx.about.run, files.as_ref()).map_err(failed)? else { return Ok(None) };
    let (system_id, size) = (control.system_id, control.segment_size);
    let (_, prefix) = cluster.archive()?;
    let mut stores = archive::opened(cluster, |name| cx.store(name))?;
    if let Some(location) = location {
        let own = stores.remove(0);
        stores.insert(0, location.beside(own, (prefix, cx.store(location.store.as_str())?), &cx.about)?);
    }
    let stores = stores.iter().map(|store| (store.as_ref(), Keys::none())).collect();
    let wal_archive = WalArchive { stores, prefix, system_id, size };
    let archived: BTreeSet<WalFileName> = wal_archive.names().await?.into_keys().collect();
    let shared = Arc::clone(&files);
    let looking = tokio::task::spawn_blocking(move || {
        let glance = Judge { system_id, size, archived: &archived }.glance(shared.as_ref(), &folder)?;
        let is_archived = |name: &SegmentName| archived.contains(&WalFileName::Segment(*name));
        let newest = glance.newest.clone().filter(|(name, _)| is_archived(name));
        Ok::<_, HostError>((glance, newest))
    });
    let looked = looking.await.map_err(|error| ActionError::fatal("looking at its WAL panicked").because(&error))?;
    let (glance, newest) = looked.map_err(failed)?;
    let begun = match newest {
        Some((name, path)) => wal_archive.has_only_begun(name, || files.read(&path, size.bytes())).await?.map(|_| name),
        None => None,
    };
    Ok(Some((glance, begun)))
}

fn words(glance: &Glance, begun: Option<SegmentName>, target: Option<Timestamp>) -> String {
    let newest = match glance.newest_commit {
        Some(at) => format!("its newest commit is of {at}"),
        None => "its newest WAL holds no commit".to_owned(),
    };
    let tail = match (glance.unarchived, begun) {
        (0, Some(name)) => {
            format!("the archive has only the beginning of `{name}`, and what was written in it since is rescued first")
        }
        (0, None) => "all of its WAL is in the archive".to_owned(),
        (count, _) => format!("{count} of its WAL segments are not in the archive and are rescued first"),
    };
    match (target, glance.newest_commit) {
        (Some(target), Some(newest_at)) if target < newest_at => {
            format!("{newest}; what was committed after the target {target} will not be in the new one; {tail}")
        }
        _ => format!("{newest}; {tail}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_target_gives_up_is_said_and_what_it_keeps_is_not() {
        let glance = Glance { newest_commit: Some(at("2026-01-28T14:30:00Z")), unarchived: 2, newest: None };
        let given_up = words(&glance, None, Some(at("2026-01-28T14:00:00Z")));
        assert!(given_up.contains("will not be in the new one") && given_up.contains("2 of its WAL"), "{given_up}");
        assert!(!words(&glance, None, Some(at("2026-01-28T15:00:00Z"))).contains("will not be"));
        assert!(!words(&glance, None, None).contains("will not be"));
    }

    #[test]
    fn a_segment_of_which_the_archive_has_only_the_beginning_is_not_all_of_it() {
        let glance = Glance { newest_commit: None, unarchived: 0, newest: None };
        assert!(words(&glance, None, None).contains("all of its WAL is in the archive"));
        let begun = words(&glance, "000000010000000000000006".parse().ok(), None);
        assert!(
            begun.contains("only the beginning of `000000010000000000000006`") && !begun.contains("all of"),
            "{begun}"
        );
    }
}
