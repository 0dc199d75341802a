//! Where a cluster lies: its data directory, its neighbours during a restore, its socket.
//!
//! Everything follows from the inventory's entry and the run, so that it is known at bind. A handle
//! that points elsewhere is refused by comparing it with what is computed here.

use std::path::{Path, PathBuf};

use super::placement::{self, Placement};
use super::scratch_settings::ScratchSettings;
use super::service_manager::Runs;
use crate::action::{ActionError, DatabaseRef, InstanceHandle, ReadFiles};
use crate::base::RunId;
use crate::catalog::Tablespace;
use crate::language::inventory::{Database, Inventory, Via};

/// The file that marks a data directory as staged by a run; see [`crate::actions::postgres::restore::marker`].
pub(crate) const MARKER: &str = "runbook-restore.json";
/// The configuration of `wal fetch` inside a data directory that recovers.
pub(crate) const FETCH_CONFIG: &str = "runbook-fetch.json";

/// What the folder of WAL that was fetched ahead is called after its data directory.
const AHEAD: &str = ".runbook-ahead-";

/// Where a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ground {
    /// On its own place: the real database.
    Own,
    /// Below this folder of the run's scratch place: thrown away at the end.
    Scratch(PathBuf),
}

/// One cluster of the inventory with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cluster {
    /// The entry's name.
    pub(crate) name: String,
    /// The data directory.
    pub(crate) pgdata: PathBuf,
    /// Where it runs.
    pub(crate) ground: Ground,
    /// The folder of its socket.
    pub(crate) socket: Option<PathBuf>,
    /// Its port.
    pub(crate) port: u16,
    /// The database that queries run in.
    pub(crate) dbname: String,
    /// The role to connect as.
    pub(crate) user: String,
    /// How it is stopped and started.
    pub(crate) via: Via,
    /// The name of the side instance that this is; `None` for the database itself.
    pub(crate) side: Option<String>,
    /// How its server is housed when it is thrown away at the end.
    pub(crate) scratch_settings: ScratchSettings,
    /// The entry, for what is used as it stands.
    pub(crate) entry: Database,
}

impl Cluster {
    /// Finds a cluster of the inventory. `scratch` is the run's own folder.
    ///
    /// # Errors
    /// Fails when the inventory has no such database or its data directory is not absolute.
    pub(crate) fn of(name: &DatabaseRef, inventory: &Inventory, scratch: &Path) -> Result<Self, ActionError> {
        let name = name.as_str();
        let entry = inventory
            .databases
            .get(name)
            .ok_or_else(|| ActionError::fatal(format!("the inventory has no database `{name}`")))?;
        let ground = if entry.scratch { Ground::Scratch(scratch.join(name)) } else { Ground::Own };
        let pgdata = match &ground {
            Ground::Own => entry.pgdata.clone(),
            Ground::Scratch(root) => root.join("pgdata"),
        };
        // What only its container tells is known before a plan is bound; a check of a runbook alone asks nobody.
        let told = matches!(entry.via, Via::Compose(_)) && pgdata.as_os_str().is_empty();
        let is_elsewhere = (entry.is_managed() || told) && ground == Ground::Own;
        if !pgdata.is_absolute() && !is_elsewhere {
            let fact =
                format!("the data directory `{}` of database `{name}` is not an absolute path", pgdata.display());
            return Err(ActionError::fatal(fact));
        }
        let (socket, via) = match &ground {
            Ground::Own => (entry.socket.clone(), entry.via.clone()),
            Ground::Scratch(root) => (Some(root.join("s")), Via::default()),
        };
        Ok(Self {
            name: name.to_owned(),
            pgdata,
            ground,
            socket,
            port: if entry.port == 0 { 5432 } else { entry.port },
            dbname: or_postgres(&entry.dbname),
            user: or_postgres(&entry.user),
            via,
            side: None,
            scratch_settings: ScratchSettings::default(),
            entry: entry.clone(),
        })
    }

    /// Gives the side instance `label` of the database: thrown away at the end, beside whatever else runs.
    ///
    /// Its place follows from the run alone, so that a handle cannot lead anywhere else.
    #[must_use]
    pub(crate) fn side(self, label: &str, scratch: &Path) -> Self {
        let root = scratch.join("side").join(&self.name).join(label);
        Self {
            pgdata: root.join("pgdata"),
            socket: Some(root.join("s")),
            via: Via::default(),
            side: Some(label.to_owned()),
            ground: Ground::Scratch(root),
            ..self
        }
    }

    /// Gives the side instance of a name that was read from somewhere.
    ///
    /// # Errors
    /// Fails when it is no name but a way to another place.
    pub(crate) fn side_named(self, label: &str, scratch: &Path) -> Result<Self, ActionError> {
        if label.is_empty() || !label.chars().all(|one| one.is_ascii_alphanumeric() || "-_".contains(one)) {
            return Err(ActionError::fatal(format!("`{label}` is no name of a side instance"))
                .help("use letters, digits, `-` and `_`"));
        }
        Ok(self.side(label, scratch))
    }

    /// Gives the cluster that `instance` stands for: the database itself, or one of its side instances in this run.
    ///
    /// # Errors
    /// Fails for an instance of another database, or one that lies elsewhere than the inventory and the run say.
    pub(crate) fn serving(self, instance: &InstanceHandle, scratch: &Path) -> Result<Self, ActionError> {
        let cluster = match &instance.side {
            Some(label) => Self { port: instance.port, ..self.side_named(label, scratch)? },
            None => self,
        };
        cluster.accept(instance)?;
        Ok(cluster)
    }

    /// Tells whether the cluster is thrown away at the end of the run.
    pub(crate) fn is_scratch(&self) -> bool {
        matches!(self.ground, Ground::Scratch(_))
    }

    /// The folder of a cluster that is thrown away; `None` for a real one.
    pub(crate) fn scratch_root(&self) -> Option<&Path> {
        match &self.ground {
            Ground::Own => None,
            Ground::Scratch(root) => Some(root),
        }
    }

    /// Refuses an instance that lies elsewhere than the inventory and the run say.
    ///
    /// # Errors
    /// Fails when database or data directory differ.
    fn accept(&self, instance: &InstanceHandle) -> Result<(), ActionError> {
        if instance.database == self.name && instance.pgdata == self.pgdata {
            return Ok(());
        }
        let fact = format!(
            "the instance `{}` of database `{}` is not the one of database `{}`",
            instance.pgdata.display(),
            instance.database,
            self.name
        );
        Err(ActionError::fatal(fact))
    }

    /// The handle of this cluster's instance.
    pub(crate) fn instance(&self) -> InstanceHandle {
        InstanceHandle {
            database: self.name.clone(),
            pgdata: self.pgdata.clone(),
            socket: self.socket.clone(),
            port: self.port,
            side: self.side.clone(),
            waits: None,
            run: None,
        }
    }

    /// The store and prefix of its backups and WAL.
    ///
    /// # Errors
    /// Fails when the entry names no store.
    pub(crate) fn archive(&self) -> Result<(&str, &str), ActionError> {
        let store = self.entry.store.as_deref().ok_or_else(|| {
            ActionError::fatal(format!("database `{}` has no store", self.name))
                .help("add `store: NAME` to its entry in the inventory")
        })?;
        Ok((store, self.entry.prefix.as_deref().unwrap_or(&self.name)))
    }

    /// The other stores that its WAL is archived into.
    pub(crate) fn further(&self) -> impl Iterator<Item = &str> {
        self.entry.archives().filter(|name| Some(*name) != self.entry.store.as_deref())
    }

    /// Whether its server runs in a container.
    pub(crate) fn is_contained(&self) -> bool {
        self.service_manager().runs() == Runs::InContainer
    }

    /// Where its data directory has its neighbours during a restore. A container holds the folder itself, not its name,
    /// and sees nothing beside it.
    pub(crate) fn placement(&self, files: &dyn ReadFiles) -> Placement {
        if self.is_contained() { Placement::Inside } else { Placement::of(files, &self.pgdata) }
    }

    /// Where a restore of `run` puts the new data directory before it is swapped in.
    pub(crate) fn staged(&self, files: &dyn ReadFiles, run: &RunId) -> PathBuf {
        self.placement(files).staged(&self.pgdata, run)
    }

    /// Where `run` keeps the old data directory.
    pub(crate) fn kept(&self, files: &dyn ReadFiles, run: &RunId) -> PathBuf {
        self.placement(files).kept(&self.pgdata, run)
    }

    /// Where a server that `run` recovers keeps WAL that was fetched before it asked.
    pub(crate) fn ahead(&self, run: &RunId) -> PathBuf {
        placement::with_suffix(&self.pgdata, &format!("{AHEAD}{run}"))
    }

    /// Where the files of a tablespace are to live: where they lay, unless the inventory says another place.
    pub(crate) fn tablespace(&self, tablespace: &Tablespace) -> PathBuf {
        match &self.ground {
            Ground::Own => {
                let mapped = self.entry.tablespaces.get(&tablespace.name).cloned();
                mapped.unwrap_or_else(|| PathBuf::from(&tablespace.location))
            }
            Ground::Scratch(root) => root.join("tablespaces").join(tablespace.oid.to_string()),
        }
    }
}

/// Tells whether `folder` is one that a recovery made beside `pgdata`, which may still be staged, for WAL fetched ahead.
pub(crate) fn is_ahead_of(folder: &Path, pgdata: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let live = placement::unstaged(pgdata);
    let theirs = name(folder);
    let run = theirs.strip_prefix(&name(&live)).and_then(|rest| rest.strip_prefix(AHEAD));
    folder.parent() == live.parent() && run.is_some_and(|run| run.parse::<RunId>().is_ok())
}

fn or_postgres(text: &str) -> String {
    if text.is_empty() { "postgres".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    fn inventory(scratch: bool) -> Inventory {
        let entry = Database { pgdata: "/data/main".into(), scratch, ..Database::default() };
        Inventory { databases: [("orders".to_owned(), entry)].into(), ..Inventory::default() }
    }

    #[test]
    fn a_restore_lies_beside_the_data_on_the_same_file_system() {
        let cluster = Cluster::of(&DatabaseRef("orders".into()), &inventory(false), Path::new("/run")).unwrap();
        let run: RunId = "20260128-143002-3fa9c1".parse().unwrap();
        let staged = Placement::Beside.staged(&cluster.pgdata, &run);
        assert_eq!(staged, Path::new("/data/main.runbook-staged-20260128-143002-3fa9c1"));
        assert_eq!(cluster.port, 5432);
    }

    #[test]
    fn only_a_folder_beside_the_data_is_one_of_wal_fetched_ahead() {
        let ours = |folder: &str, pgdata: &str| is_ahead_of(Path::new(folder), Path::new(pgdata));
        let folder = "/data/main.runbook-ahead-20260128-143002-3fa9c1";
        assert!(ours(folder, "/data/main") && ours(folder, "/data/main.runbook-staged-20260128-143002-3fa9c1"));
        assert!(!ours(folder, "/data/other") && !ours(folder, "/elsewhere/main"));
        assert!(!ours("/data/main.runbook-ahead-x", "/data/main") && !ours("/etc", "/data/main"));
    }

    #[test]
    fn a_scratch_database_lies_in_the_runs_own_folder_with_all_its_tablespaces() {
        let cluster = Cluster::of(&DatabaseRef("orders".into()), &inventory(true), Path::new("/run")).unwrap();
        assert_eq!(cluster.pgdata, Path::new("/run/orders/pgdata"));
        assert_eq!(cluster.tablespace(&fast()), Path::new("/run/orders/tablespaces/42"));
        assert_eq!(cluster.via, Via::default());
    }

    fn fast() -> Tablespace {
        Tablespace { oid: 42, name: "fast".to_owned(), location: "/prod/ts".to_owned() }
    }

    #[test]
    fn a_tablespace_lies_where_it_lay_unless_the_inventory_says_another_place() {
        let name = DatabaseRef("orders".into());
        let mut inventory = inventory(false);
        let place =
            |inventory: &Inventory| Cluster::of(&name, inventory, Path::new("/run")).unwrap().tablespace(&fast());
        assert_eq!(place(&inventory), Path::new("/prod/ts"));
        let entry = inventory.databases.get_mut("orders").unwrap();
        entry.tablespaces.insert("fast".to_owned(), "/staging/ts".into());
        assert_eq!(place(&inventory), Path::new("/staging/ts"));
    }

    #[test]
    fn a_side_instance_lies_in_the_runs_own_folder_and_a_handle_cannot_lead_elsewhere() {
        let scratch = Path::new("/run/scratch");
        let own = Cluster::of(&DatabaseRef("orders".into()), &inventory(false), scratch).unwrap();
        let side = own.clone().side("copy", scratch);
        assert_eq!(side.pgdata, Path::new("/run/scratch/side/orders/copy/pgdata"));
        assert!(side.is_scratch());
        let handle = InstanceHandle { port: 5499, ..side.instance() };
        assert_eq!(own.clone().serving(&handle, scratch).unwrap().port, 5499);
        let elsewhere = InstanceHandle { pgdata: "/data/main".into(), ..handle.clone() };
        assert!(own.clone().serving(&elsewhere, scratch).is_err());
        let climbing = InstanceHandle { side: Some("../orders".into()), ..handle };
        assert!(own.serving(&climbing, scratch).is_err());
    }

    #[test]
    fn a_database_that_is_not_in_the_inventory_is_named() {
        let error = Cluster::of(&DatabaseRef("x".into()), &inventory(true), Path::new("/run")).unwrap_err();
        assert_eq!(error.to_string(), "the inventory has no database `x`");
    }
}
