//! Where other clusters of this machine keep their files: no restore may take such a folder.
//!
//! A tablespace is restored where the cluster that was backed up had it. On the machine of a second cluster of the same
//! origin that place may be the other one's, whose server would go on through its link in the restored files (facts
//! 2.5.3). What lies where is decided by device and inode, so that links, bind mounts and containers are seen.

use std::path::{Path, PathBuf};

use super::marker;
use super::swap::Swap;
use crate::action::{ActionError, FileKind, Findings, HostError, ReadFiles, Surroundings};
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::placement;
use crate::catalog::Tablespace;

const HELP: &str = "give the tablespace a place of its own: `tablespaces: { NAME: /PATH }` in the database's entry of the inventory; nothing was touched";

/// What a folder is, whatever it is called: device and inode.
type Identity = (u64, u64);

/// A folder of another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    path: PathBuf,
    /// Whose it is, in words.
    of: String,
    /// Itself and what it lies in, the nearest first.
    lineage: Vec<Identity>,
}

/// The folders of all other clusters: of every server that runs here, and of the inventory's other databases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Neighbours {
    folders: Vec<Folder>,
    /// Whether any of them has a tablespace.
    with_tablespaces: bool,
}

impl Neighbours {
    /// Looks for them. What cannot be looked at belongs to somebody whose files cannot be moved either.
    pub(crate) fn of(cluster: &Cluster, about: &Surroundings, files: &dyn ReadFiles) -> Self {
        let own = files.canonical(&cluster.pgdata).unwrap_or_else(|_| cluster.pgdata.clone());
        let mut all = Self::default();
        for (pid, place) in live::servers(files) {
            let (root, cwd) = (PathBuf::from(format!("/proc/{pid}/root")), PathBuf::from(format!("/proc/{pid}/cwd")));
            let is_own = place == own || identity(files, &cwd).is_some_and(|one| Some(one) == identity(files, &own));
            if !is_own {
                let of = format!("the running server in `{}`", place.display());
                all.add((&cwd, place), (&root, of), files, about);
            }
        }
        for (name, entry) in &about.inventory.databases {
            let elsewhere = name == &cluster.name || entry.scratch || !entry.pgdata.is_absolute();
            if elsewhere || files.canonical(&entry.pgdata).is_ok_and(|place| place == own) {
                continue;
            }
            let of = format!("database `{name}`");
            all.add((&entry.pgdata, entry.pgdata.clone()), (Path::new("/"), of), files, about);
        }
        all
    }

    /// Adds a data directory that is reached as `at` and called `place`, and what its links lead to, below `root`.
    fn add(
        &mut self,
        (at, place): (&Path, PathBuf),
        (root, of): (&Path, String),
        files: &dyn ReadFiles,
        about: &Surroundings,
    ) {
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let mut folders = vec![place];
        for (link, target) in marker::targets(files, &at.join("."), &about.run).unwrap_or_default() {
            self.with_tablespaces |= link != Path::new("pg_wal");
            folders.push(target);
        }
        for path in folders {
            // What is not there is nobody's folder, whatever it would lie in.
            if identity(files, &below(&path)).is_none() {
                continue;
            }
            let lineage: Vec<Identity> = path.ancestors().filter_map(|one| identity(files, &below(one))).collect();
            let known = self.folders.iter().any(|folder| folder.path == path && folder.lineage == lineage);
            if !known && !lineage.is_empty() {
                self.folders.push(Folder { path, of: of.clone(), lineage });
            }
        }
    }

    /// Whether replaying the creation of a tablespace could meet one of theirs.
    pub(crate) fn have_tablespaces(&self) -> bool {
        self.with_tablespaces
    }

    /// Says whose folder a place is, lies in or contains.
    fn taken(&self, place: &Path, files: &dyn ReadFiles) -> Option<String> {
        let real = files.canonical(place).ok()?;
        let own = identity(files, &real);
        let above: Vec<Identity> = real.ancestors().filter_map(|one| identity(files, one)).collect();
        let meets = |folder: &&Folder| {
            let theirs = folder.lineage.first();
            theirs.is_some_and(|theirs| above.contains(theirs)) || own.is_some_and(|own| folder.lineage.contains(&own))
        };
        let folder = self.folders.iter().find(meets)?;
        Some(format!(
            "`{}` is a place of the restore, but {} keeps its files in `{}`",
            place.display(),
            folder.of,
            folder.path.display()
        ))
    }

    /// Refuses places of a restore that are somebody else's.
    ///
    /// # Errors
    /// Fails with the first that is.
    pub(crate) fn refuse<'a>(
        &self,
        places: impl IntoIterator<Item = &'a Path>,
        files: &dyn ReadFiles,
    ) -> Result<(), ActionError> {
        match places.into_iter().find_map(|place| self.taken(place, files)) {
            Some(fact) => Err(ActionError::fatal(fact).help(HELP)),
            None => Ok(()),
        }
    }
}

/// Adds a refusal where a backup would be restored into somebody else's folder, or over a store.
pub(crate) fn judge(
    (cluster, tablespaces): (&Cluster, &[Tablespace]),
    about: &Surroundings,
    files: &dyn ReadFiles,
    findings: Findings,
) -> Findings {
    if cluster.is_scratch() {
        return findings;
    }
    let places: Vec<PathBuf> = tablespaces.iter().map(|one| cluster.tablespace(one)).collect();
    if let Some(fact) = enclosed::replaced((cluster, &places), about, files) {
        return findings.refuse(fact.what, fact.help);
    }
    let places = std::iter::once(cluster.pgdata.as_path()).chain(places.iter().map(PathBuf::as_path));
    match Neighbours::of(cluster, about, files).refuse(places, files) {
        Ok(()) => findings,
        Err(error) => findings.refuse(error.to_string(), HELP),
    }
}

/// Refuses to move a folder aside that holds something, though the old data directory tells its tablespaces and links to
/// no such folder. `links` are what it links to.
///
/// # Errors
/// Fails when there is such a folder, and when one cannot be looked at.
pub(crate) fn refuse_strangers(
    swap: &Swap,
    links: &[(PathBuf, PathBuf)],
    files: &dyn ReadFiles,
) -> Result<(), ActionError> {
    let cannot = |error: HostError| ActionError::retryable("a tablespace's place cannot be looked at").because(&error);
    let linked = |place: &Path| links.iter().any(|(_, target)| target == place);
    for seat in swap.linked.iter().map(|linked| &linked.seat).filter(|seat| !linked(&seat.live)) {
        // A swap that was cut off has brought its own files there.
        if let Some(staged) = &seat.staged
            && files.facts(staged).map_err(cannot)?.is_none()
        {
            continue;
        }
        let facts = files.facts(&seat.live).map_err(cannot)?;
        if facts.is_none_or(|facts| facts.kind != FileKind::Directory) {
            continue;
        }
        let held = files.list(&seat.live).map_err(cannot)?;
        if held.iter().any(|entry| !placement::is_foreign(&entry.name)) {
            let fact = format!(
                "`{}` is a tablespace's place in the backup and holds files, but the old data directory does not link to it",
                seat.live.display()
            );
            return Err(
                ActionError::fatal(fact).help(format!("see whose files they are and move them away, or {HELP}"))
            );
        }
    }
    Ok(())
}

/// Follows a link.
fn identity(files: &dyn ReadFiles, path: &Path) -> Option<Identity> {
    let facts = files.facts(&path.join(".")).ok().flatten()?;
    Some((facts.device, facts.inode))
}
