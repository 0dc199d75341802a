//! A real cluster with archiving into a real store, and the actions driven as the engine drives them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use age::secrecy::ExposeSecret as _;
use runbook::action::{
    Action, ActionError, BackupHandle, BoxFuture, CheckContext, Findings, Foreseen, Interrupted, Late, Mode,
    PlanContext, Recovery, Reporter, RunContext, Secrets, StagedHandle, Store, Surroundings,
};
use runbook::actions::postgres::{
    BaseBackup, BaseBackupOutput, BaseBackupParams, Recover, RecoverOutput, RecoverParams, RestoreBase,
    RestoreBaseParams, Stop, StopOutput,
};
use runbook::base::redact::Redactor;
use runbook::base::secret::SecretText;
use runbook::base::{Attempt, RunId, clock};
use runbook::event::Progress;
use runbook::host::{AttemptBinding, HostSettings, LocalHost};
use runbook::language::inventory::{Database, Encryption, Inventory, NamedRecipient, Recipient, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::postgres::{Cluster, server_bin};
use super::s3::{self, S3};

/// Remembers what actions say.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<String>>, pub Mutex<Vec<(String, Value)>>);

impl Reporter for Notes {
    fn progress(&self, _: Progress) {}
    fn note(&self, message: String, _: Value) {
        self.0.lock().unwrap().push(message);
    }
    fn register(&self, resource: String, data: Value) -> BoxFuture<'_, Result<(), ActionError>> {
        self.1.lock().unwrap().push((resource, data));
        Box::pin(async { Ok(()) })
    }
    fn removed(&self, _: String) {}
}

/// Secrets that never change, by name.
#[derive(Clone, Default)]
pub struct Known(pub BTreeMap<String, String>);

impl Secrets for Known {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        let value = self.0.get(name).ok_or_else(|| ActionError::fatal(format!("no secret `{name}`")))?;
        Ok(SecretText::new(value.clone()))
    }
}

/// Where a site's backups and WAL lie.
#[derive(Clone, Default)]
pub struct Depot {
    /// What the inventory says of it.
    pub entry: StoreEntry,
    /// Its secrets.
    pub secrets: Known,
    /// The folder in which its objects lie in the end, as files.
    pub root: PathBuf,
}

impl Depot {
    /// A bucket of a server, reached with its own keys.
    pub fn bucket(server: &S3) -> Self {
        let secrets = s3::secrets();
        let known = ["id", "key"].map(|name| (name.to_owned(), secrets.get(name).unwrap().reveal().to_owned()));
        Self { entry: server.entry(), secrets: Known(known.into()), root: server.folder().to_owned() }
    }

    /// The same, encrypted to a new age identity and another one that nobody here has.
    pub fn encrypted(mut self) -> Self {
        let (ours, offline) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
        self.secrets.0.insert("identity".to_owned(), ours.to_string().expose_secret().to_owned());
        let safe =
            NamedRecipient { key: offline.to_public().to_string(), name: Some("safe".to_owned()), offline: true };
        let recipients = [Recipient::Key(ours.to_public().to_string()), Recipient::Named(safe)];
        self.entry.encryption = Some(Encryption {
            recipients: recipients.into(),
            identities: vec!["identity".to_owned()],
            ..Encryption::default()
        });
        self
    }
}

/// The cluster with its store and inventory.
pub struct Site {
    pub cluster: Cluster,
    pub depot: Depot,
    /// Further stores of the inventory.
    pub beside: Mutex<BTreeMap<String, StoreEntry>>,
    /// Further databases of the inventory.
    pub others: Mutex<BTreeMap<String, Database>>,
    pub notes: Arc<Notes>,
    /// Standbys of the inventory.
    pub standbys: Mutex<Vec<String>>,
    /// The inventory's other stores of the cluster's WAL.
    pub wal_stores: Mutex<Vec<String>>,
    /// In how many of them a file of the WAL must be; all without it.
    pub wal_at_least: Mutex<Option<usize>>,
    /// The inventory's other stores of its backups.
    pub backup_stores: Mutex<Vec<String>>,
    /// Where the inventory puts tablespaces.
    pub tablespaces: Mutex<BTreeMap<String, PathBuf>>,
    /// The database of the cluster that the entry names; the usual one when none.
    pub dbname: Mutex<Option<String>>,
    runs: Mutex<u32>,
    scratch_db: bool,
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_runbook"))
}

impl Site {
    /// Starts a cluster that archives.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Starts a cluster that archives, with further settings.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::over(Depot::default(), settings)
    }

    /// Starts a cluster that archives into a place of one's choice; into a folder of its own without endpoint.
    pub fn over(depot: Depot, settings: &[(&str, &str)]) -> Self {
        Self::by(server_bin(), depot, settings)
    }

    /// The same by the server programs in the folder `bin`.
    pub fn by(bin: PathBuf, depot: Depot, settings: &[(&str, &str)]) -> Self {
        let command = format!("{} wal push --config wal.json %p", program().display());
        let mut all = vec![("archive_mode", "on"), ("archive_command", command.as_str())];
        all.extend(settings);
        let cluster = Cluster::create_by(bin, &all, &[]);
        let root = cluster.folder("store");
        let depot = match depot.entry.endpoint {
            Some(_) => depot,
            None => {
                let url = format!("file://{}", root.display());
                Depot { entry: StoreEntry { url, ..depot.entry }, root, ..depot }
            }
        };
        cluster.folder("runs");
        Opening::new(&depot.entry, "primary", Arc::new(depot.secrets.clone())).initialize().unwrap();
        let site = Self {
            cluster,
            depot,
            beside: Mutex::default(),
            others: Mutex::default(),
            notes: Arc::default(),
            standbys: Mutex::default(),
            wal_stores: Mutex::default(),
            wal_at_least: Mutex::default(),
            backup_stores: Mutex::default(),
            tablespaces: Mutex::default(),
            dbname: Mutex::default(),
            runs: Mutex::new(0),
            scratch_db: false,
        };
        site.configure_wal();
        site.cluster.up();
        site
    }

    /// Writes the configuration of `wal push` into the data directory, its secrets beside it.
    fn configure_wal(&self) {
        let folder = self.cluster.pgdata();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            self.cluster.give(&path);
        };
        for (name, value) in &self.depot.secrets.0 {
            write(&format!("wal.secret.{name}"), value);
        }
        let config = json!({ "store": self.depot.entry, "secrets": self.wal_secrets(), "prefix": "main" });
        write("wal.json", &config.to_string());
    }

    /// The secrets of that configuration.
    fn wal_secrets(&self) -> Value {
        let file = |name: &String| (name.clone(), json!({ "file": format!("wal.secret.{name}") }));
        Value::Object(self.depot.secrets.0.keys().map(file).collect())
    }

    /// Has the WAL archived into a second folder as well, `offsite` of the inventory, and lets one of the two be enough.
    pub fn archive_offsite(&self) {
        self.archive_offsite_as(StoreEntry::default());
    }

    /// The same, with settings of its own for the second folder.
    pub fn archive_offsite_as(&self, settings: StoreEntry) {
        let url = format!("file://{}", self.cluster.folder("offsite").display());
        let offsite = StoreEntry { url, ..settings };
        Opening::new(&offsite, "offsite", Arc::new(self.depot.secrets.clone())).initialize().unwrap();
        let spool = self.cluster.folder("spool");
        fs::set_permissions(&spool, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        self.cluster.give(&spool);
        let stores = [&self.depot.entry, &offsite];
        let secrets = self.wal_secrets();
        let config = json!({ "stores": stores, "secrets": secrets, "at_least": 1, "prefix": "main", "spool": spool });
        fs::write(self.cluster.pgdata().join("wal.json"), config.to_string()).unwrap();
        self.beside.lock().unwrap().insert("offsite".to_owned(), offsite);
        self.wal_stores.lock().unwrap().push("offsite".to_owned());
    }

    /// The same site as a drill sees it.
    pub fn drill(mut self) -> Self {
        self.scratch_db = true;
        self
    }

    /// The inventory's entry of the cluster.
    pub fn entry(&self) -> Database {
        Database {
            pgdata: self.cluster.pgdata(),
            port: self.cluster.port(),
            socket: Some(self.cluster.socket_dir()),
            store: Some("primary".into()),
            prefix: Some("main".into()),
            bin: Some(self.cluster.bin().to_owned()),
            scratch: self.scratch_db,
            standbys: self.standbys.lock().unwrap().clone(),
            wal_stores: self.wal_stores.lock().unwrap().clone(),
            wal_at_least: *self.wal_at_least.lock().unwrap(),
            backup_stores: self.backup_stores.lock().unwrap().clone(),
            tablespaces: self.tablespaces.lock().unwrap().clone(),
            dbname: self.dbname.lock().unwrap().clone().unwrap_or_else(|| Database::default().dbname),
            ..Database::default()
        }
    }

    fn inventory(&self) -> Inventory {
        let mut stores = self.beside.lock().unwrap().clone();
        stores.insert("primary".to_owned(), self.depot.entry.clone());
        let mut databases = self.others.lock().unwrap().clone();
        databases.insert("main".to_owned(), self.entry());
        Inventory { databases, stores, ..Inventory::default() }
    }

    /// Begins a run.
    pub fn run(&self) -> Run<'_> {
        let mut number = self.runs.lock().unwrap();
        *number += 1;
        let id: RunId = format!("20260128-143002-{:06x}", *number).parse().unwrap();
        let dir = self.cluster.folder(&format!("runs/{number}"));
        Run { site: self, id, dir }
    }

    /// Names of the store's objects.
    pub fn stored(&self) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        self.stored_paths().into_iter().map(name).collect()
    }

    /// The same with their folders.
    pub fn stored_paths(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.depot.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                // A writer at work may remove an empty one again.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.unwrap(),
            };
            for entry in entries.flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Waits until everything written so far is archived.
    pub fn archive(&self) {
        self.cluster.sql("CHECKPOINT");
        let name = self.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        self.cluster.sql("SELECT pg_switch_wal()");
        let begin = clock::monotonic();
        // Not the file's being there: the server may still be at work on it.
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver");
        while self.cluster.sql(&archived) != "t" {
            assert!(begin.elapsed().as_secs() < 30, "`{name}` is not archived:\n{}", self.cluster.log());
            std::thread::yield_now();
        }
    }

    /// A standby that follows the cluster and is in the inventory.
    pub fn standby(&self) -> Cluster {
        let standby = self.cluster.standby();
        self.standbys.lock().unwrap().push(format!("127.0.0.1:{}", standby.port()));
        standby
    }

    /// Every manifest of the store, in one text.
    pub fn manifests(&self) -> String {
        let folder = self.depot.root.join("main/base");
        let read = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("manifest.json")).unwrap_or_default();
        fs::read_dir(folder).unwrap().flatten().map(read).collect()
    }

    /// The notes so far, in one text.
    pub fn said(&self) -> String {
        self.notes.0.lock().unwrap().join("\n")
    }
}

impl Drop for Site {
    /// Stops what a test that failed left running beside the cluster.
    fn drop(&mut self) {
        for (resource, data) in self.notes.1.lock().unwrap().iter() {
            let Some(root) = data["dirs"][0].as_str().filter(|_| resource.contains('/')) else { continue };
            let pgdata = PathBuf::from(root).join("pgdata");
            if pgdata.join("postmaster.pid").exists() {
                let mut command = self.cluster.command("pg_ctl");
                let _ended = command.args(["-s", "-m", "immediate", "stop", "-D"]).arg(pgdata).output();
            }
        }
    }
}

/// One run against a site.
pub struct Run<'a> {
    site: &'a Site,
    pub id: RunId,
    pub dir: PathBuf,
}

impl Run<'_> {
    pub fn context(&self) -> RunContext {
        let attempt_dir = tempfile::tempdir_in(&self.dir).unwrap().keep();
        fs::set_permissions(&attempt_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let settings = HostSettings::new(program(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        let reporter: Arc<dyn Reporter> = Arc::clone(&self.site.notes) as Arc<dyn Reporter>;
        let cancel = CancellationToken::new();
        let binding = AttemptBinding {
            dir: attempt_dir.clone(),
            cancel: cancel.clone(),
            kill: CancellationToken::new(),
            reporter: Arc::clone(&reporter),
            redactor: Arc::new(Redactor::default()),
        };
        let inventory = Arc::new(self.site.inventory());
        let (stores, secrets) = (Arc::clone(&inventory), self.site.depot.secrets.clone());
        RunContext {
            about: self.about(),
            step: "step".parse().unwrap(),
            attempt: Attempt(1),
            key: format!("{}/step", self.id),
            host: LocalHost::bind(&settings, binding),
            stores: Arc::new(move |name: &str| {
                let entry = stores.stores.get(name).ok_or_else(|| ActionError::fatal("no such store"))?;
                let store: Arc<dyn Store> = Opening::new(entry, name, Arc::new(secrets.clone()))
                    .open()
                    .map_err(|error| ActionError::fatal(error.to_string()))?;
                Ok(store)
            }),
            reporter,
            cancel,
            timeout: None,
            attempt_dir,
        }
    }

    fn about(&self) -> Surroundings {
        Surroundings {
            run: self.id.clone(),
            steps_of: self.id.clone(),
            mode: if self.site.scratch_db { Mode::Drill } else { Mode::Real },
            environment: "production".to_owned(),
            inventory: Arc::new(self.site.inventory()),
            scratch: self.dir.clone(),
            incident_at: clock::now(),
            began_at: clock::now(),
            secrets: Arc::new(self.site.depot.secrets.clone()),
            erasures: Arc::new(runbook::action::NoErasures),
        }
    }

    pub fn check_context(&self) -> CheckContext {
        let settings = HostSettings::new(program(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        let (inventory, secrets) = (self.site.inventory(), self.site.depot.secrets.clone());
        CheckContext {
            about: self.about(),
            host: LocalHost::reader(&settings),
            stores: Arc::new(move |name: &str| {
                let entry = inventory.stores.get(name).ok_or_else(|| ActionError::fatal("no such store"))?;
                Opening::new(entry, name, Arc::new(secrets.clone()))
                    .open_read()
                    .map_err(|error| ActionError::fatal(error.to_string()))
            }),
            ahead: false,
            changed_stores: BTreeSet::new(),
            foreseen: Foreseen::default(),
            actions_before: BTreeSet::new(),
        }
    }

    pub async fn base_backup(&self) -> BaseBackupOutput {
        let params: BaseBackupParams = serde_json::from_value(json!({ "database": "main" })).unwrap();
        show(BaseBackup.run(&params, &self.context()).await)
    }

    pub async fn stop(&self) -> StopOutput {
        let params = serde_json::from_value(json!({ "database": "main", "if_running": true })).unwrap();
        show(Stop.run(&params, &self.context()).await)
    }

    pub async fn stage(&self, backup: &BackupHandle) -> StagedHandle {
        let params: RestoreBaseParams =
            serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
        show(RestoreBase.run(&params, &self.context()).await).staged
    }

    pub fn recover_params(&self, staged: &StagedHandle, target: Value) -> RecoverParams {
        let mut with = json!({ "database": "main" });
        with.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        with["staged"] = serde_json::to_value(staged).unwrap();
        let params: RecoverParams = serde_json::from_value(with).unwrap();
        assert!(matches!(params.staged, Some(Late::Known(_))));
        params
    }

    /// Recovers with arguments of one's choice.
    pub async fn recover_with(&self, with: Value) -> Result<RecoverOutput, ActionError> {
        let params: RecoverParams = serde_json::from_value(with).unwrap();
        Recover::new(program()).run(&params, &self.context()).await
    }

    /// What is wrong with arguments, in one text.
    pub fn faults_of_recover(&self, with: Value) -> String {
        let mut all = json!({ "database": "main" });
        all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let params: RecoverParams = serde_json::from_value(all).unwrap();
        let inventory = self.site.inventory();
        let cx = PlanContext { inventory: &inventory, mode: Mode::Real, scratch: &self.dir, host: "local" };
        let faults = Recover::new(program()).effects(&params, &cx).unwrap_err();
        faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ")
    }

    /// What is found before the first step of a run.
    pub async fn check_ahead(&self, staged: &StagedHandle, target: Value) -> Findings {
        let cx = CheckContext { ahead: true, ..self.check_context() };
        show(Recover::new(program()).check(&self.recover_params(staged, target), &cx).await)
    }

    pub async fn try_recover(&self, staged: &StagedHandle, target: Value) -> Result<RecoverOutput, ActionError> {
        Recover::new(program()).run(&self.recover_params(staged, target), &self.context()).await
    }

    pub async fn recover(&self, staged: &StagedHandle, target: Value) -> RecoverOutput {
        show(self.try_recover(staged, target).await)
    }

    pub async fn check_recover(&self, staged: &StagedHandle, target: Value) -> Findings {
        show(Recover::new(program()).check(&self.recover_params(staged, target), &self.check_context()).await)
    }

    pub async fn judge_cut(&self, staged: &StagedHandle, cx: &RunContext) -> Recovery<RecoverOutput> {
        let cut = Interrupted {
            step: cx.step.clone(),
            attempt: cx.attempt,
            key: cx.key.clone(),
            started_at: clock::now(),
            attempt_dir: cx.attempt_dir.clone(),
        };
        let params = self.recover_params(staged, json!({}));
        show(Recover::new(program()).recover(&params, &cut, &self.check_context()).await)
    }
}

fn show<T>(result: Result<T, ActionError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{:#?}", error.info()),
    }
}
