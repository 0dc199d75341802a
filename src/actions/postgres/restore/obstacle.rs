//! What keeps the folders of a restore from being moved: told before anything stops, and again before anything moves.
//!
//! A drill moves nothing of the live data. What would be refused there is its warning.

use super::marker;
use super::swap::{LinkedSeat, Swap};
use crate::action::{ActionError, Findings, HostError, ReadFiles, Surroundings};
use crate::actions::postgres::cluster::ha_manager::Fact;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::movable::{self, Folder, Use, real};
use crate::base::RunId;
use crate::catalog::Tablespace;

/// Says what keeps a restore of a backup with these tablespaces from moving what it has to.
///
/// # Errors
/// Fails when the data directory cannot be looked at.
pub(crate) fn of(
    (cluster, tablespaces): (&Cluster, &[Tablespace]),
    run: &RunId,
    files: &dyn ReadFiles,
) -> Result<Option<Fact>, HostError> {
    let pgdata = cluster.entry.live.as_ref().filter(|_| cluster.is_scratch()).unwrap_or(&cluster.pgdata);
    let mut folders = Folder::all(cluster, pgdata, tablespaces);
    let own: Vec<_> = folders.iter().map(|folder| folder.real(files)).collect();
    let mut moved = folders.clone();
    for (link, live) in marker::links(files, pgdata, run)? {
        let used = Use::of_link(&link);
        let is_restored = link
            .file_name()
            .is_some_and(|name| tablespaces.iter().any(|one| name.to_str() == Some(one.oid.to_string().as_str())));
        // What only the old data has goes along with what it lies in, and may not take along what is restored.
        let place = real(&live, files);
        let folder = Folder { used, live };
        if folder.used == Use::Wal || !is_restored && own.iter().any(|own| own.starts_with(&place)) {
            folders.push(folder.clone());
        }
        if !own.iter().any(|own| place.starts_with(own)) {
            moved.push(folder);
        }
    }
    Ok(movable::nested(&folders, files).or_else(|| movable::mounted(&moved, files)))
}

/// Refuses what keeps a restore from moving its folders.
///
/// # Errors
/// Fails with it, and when the data directory cannot be looked at.
pub(crate) fn refuse(
    restored: (&Cluster, &[Tablespace]),
    run: &RunId,
    files: &dyn ReadFiles,
) -> Result<(), ActionError> {
    if restored.0.is_scratch() {
        return Ok(());
    }
    refused(of(restored, run, files).map_err(|error| unseen(&error))?)
}

/// Adds a refusal where a restore could not move its folders; to a drill a warning, that of the live data it could not.
pub(crate) fn judge(
    restored: (&Cluster, &[Tablespace]),
    about: &Surroundings,
    files: &dyn ReadFiles,
    findings: Findings,
) -> Findings {
    let cluster = restored.0;
    if cluster.is_scratch() && cluster.entry.live.is_none() {
        return findings;
    }
    match of(restored, &about.run, files) {
        Ok(None) => findings,
        Ok(Some(fact)) if cluster.is_scratch() => {
            findings.warn(format!("over the live data this restore would be refused: {}", fact.what), fact.help)
        }
        Ok(Some(fact)) => findings.refuse(fact.what, fact.help),
        Err(error) => {
            findings.warn(error.to_string(), "whether its folders can be moved is looked at again by the step")
        }
    }
}

impl Swap {
    /// Lets go of what only the old data has and what needs no move: what lies in a restored folder goes along with it, and
    /// where replay creates that tablespace again it needs the folder in the restored one; what holds a restored folder, and
    /// is restored to another place, stays.
    #[must_use]
    pub(crate) fn without_old_ties(mut self, files: &dyn ReadFiles) -> Self {
        let own: Vec<_> = self.linked.iter().filter(|linked| linked.seat.staged.is_some()).collect();
        let links: Vec<_> = own.iter().map(|linked| linked.link.clone()).collect();
        let seats = std::iter::once(&self.data).chain(own.iter().map(|linked| &linked.seat));
        let places: Vec<_> = seats.map(|seat| (real(&seat.live, files), seat.staged.clone())).collect();
        let mut made = Vec::new();
        let mut moves = |linked: &LinkedSeat| {
            if linked.seat.staged.is_some() {
                return true;
            }
            let (place, is_restored) = (real(&linked.seat.live, files), links.contains(&linked.link));
            let holder = places.iter().find_map(|(outer, staged)| Some((place.strip_prefix(outer).ok()?, staged)));
            if let Some((below, staged)) = holder {
                made.extend(staged.iter().filter(|_| !is_restored).map(|staged| (staged.clone(), staged.join(below))));
                return false;
            }
            !(is_restored && places.iter().any(|(inner, _)| inner.starts_with(&place)))
        };
        self.linked.retain(&mut moves);
        // An outer one is made before what lies in it.
        self.linked.sort_by_key(|linked| linked.seat.staged.is_none().then(|| linked.seat.live.clone()));
        self.made = made;
        self
    }

    /// Refuses folders that cannot be moved each for itself.
    ///
    /// # Errors
    /// Fails with the first.
    pub(crate) fn refuse_obstacle(&self, files: &dyn ReadFiles) -> Result<(), ActionError> {
        let folder = |linked: &LinkedSeat| Folder { used: Use::of_link(&linked.link), live: linked.seat.live.clone() };
        let data = Folder { used: Use::Data, live: self.data.live.clone() };
        let all: Vec<Folder> = std::iter::once(data).chain(self.linked.iter().map(folder)).collect();
        let restored = self.linked.iter().filter(|linked| linked.seat.staged.is_some()).map(folder);
        let restored: Vec<Folder> = all.first().cloned().into_iter().chain(restored).collect();
        let places: Vec<_> = restored.iter().map(|folder| folder.real(files)).collect();
        let takes_along = |folder: &&Folder| {
            let place = folder.real(files);
            !restored.contains(folder) && places.iter().any(|own| own.starts_with(&place))
        };
        let judged: Vec<Folder> = restored.iter().chain(all.iter().filter(takes_along)).cloned().collect();
        refused(movable::nested(&judged, files).or_else(|| movable::mounted(&all, files)))
    }
}

fn refused(fact: Option<Fact>) -> Result<(), ActionError> {
    fact.map_or(Ok(()), |fact| Err(ActionError::fatal(fact.what).help(fact.help)))
}

fn unseen(error: &HostError) -> ActionError {
    ActionError::retryable("the data directory cannot be looked at").because(error)
}
