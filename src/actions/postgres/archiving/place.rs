//! What `wal push` needs on the server's machine: its configuration, the secrets that writing needs, and a spool, in a
//! folder of the server's user outside the data directory.

use std::path::{Path, PathBuf};

use super::params::ConfigureArchivingParams;
use super::{folder, rewrite};
use crate::action::Secrets as _;
use crate::action::{ActionError, CommandSpec, Files, HostError, RunContext, StoreRef, Surroundings, Tie};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::settings::shell_word;
use crate::base::secret::SecretText;
use crate::language::inventory::{SecretSpec, StoreEntry, Via};
use crate::wal::Config;

const CONFIG: &str = "wal.yaml";
const SECRETS: &str = "secrets";
const SPOOL: &str = "spool";

/// Where the configuration of a server's archiving lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder, of the server's user alone.
    pub(super) folder: PathBuf,
}

impl Place {
    /// The folder that was asked for, else one beside the data directory; for a container the one that is mounted.
    ///
    /// # Errors
    /// Fails when it is not absolute or lies in the data directory, where a restore would replace it.
    pub(super) fn of(params: &ConfigureArchivingParams, cluster: &Cluster) -> Result<Self, ActionError> {
        let beside = || {
            let mut name = cluster.pgdata.file_name().unwrap_or_default().to_owned();
            name.push(".runbook-wal");
            cluster.pgdata.with_file_name(name)
        };
        let folder = params.folder.clone().unwrap_or_else(|| match &cluster.via {
            Via::Compose(compose) => compose.wal_folder(),
            Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Managed(_) => beside(),
        });
        if !folder.is_absolute() || folder.starts_with(&cluster.pgdata) {
            let fact = format!("`{}` must be an absolute path outside the data directory", folder.display());
            return Err(ActionError::fatal(fact));
        }
        Ok(Self { folder })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// The server's command, for where it lives.
    ///
    /// # Errors
    /// Fails when a container does not have the folder.
    pub(super) fn command(&self, program: &Path, server_host: &ServerHost) -> Result<String, ActionError> {
        Ok(archive_command(&server_host.program(program), &server_host.path(&self.config())?))
    }

    /// Writes everything, and makes or proves the stores as the server's user, with the server's environment.
    ///
    /// # Errors
    /// Fails when a file cannot be written, or the server's user cannot use the store.
    pub(super) async fn ready(&self, settings: &Settings, owner: &Owner, cx: &RunContext) -> Result<(), ActionError> {
        let files = cx.host.files();
        settings.write(files.as_ref(), &self.folder, owner).map_err(|error| cannot(&error))?;
        if matches!(settings.server_host, ServerHost::Here) {
            let stores = std::iter::once(&settings.config.store).chain(&settings.config.further);
            folder::make(&folder::among(stores), owner, files.as_ref()).map_err(|error| cannot(&error))?;
        }
        let config = settings.server_host.path(&self.config())?.to_string_lossy().into_owned();
        let program = settings.program.to_string_lossy();
        let mut spec = CommandSpec::new(program).args(["wal", "init", "--config", &config]);
        spec.inherit_env = false;
        spec.dir = Some(settings.pgdata.clone());
        let spec = settings.server_host.command(owner, spec, cx.host.as_read());
        let output = cx.host.run(spec, Tie::Engine).await.map_err(|error| cannot(&error))?;
        if output.success() {
            return Ok(());
        }
        let error = ActionError::fatal("the server's user cannot archive into the store; no setting was changed");
        Err(error
            .process(output.exit_code, output.tail(3))
            .help(format!("see that the user {} can use the store and its credentials", owner.shown())))
    }
}

/// What a server is told.
pub(super) fn archive_command(program: &Path, config: &Path) -> String {
    let word = |path: &Path| shell_word(&path.to_string_lossy().replace('%', "%%"));
    format!("{} wal push --config {} %p", word(program), word(config))
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::fatal("what `wal push` needs cannot be written; no setting was changed").because(error)
}

/// The content of those files.
pub(super) struct Settings {
    config: Config,
    secrets: Vec<(String, SecretText)>,
    /// Our program and the data directory, as the server has them.
    program: PathBuf,
    pgdata: PathBuf,
    server_host: ServerHost,
}

/// The stores that get the WAL: those that are named, else every one that the inventory says of the database. One that
/// a recovery would not look into may get none: what only it has would be lost without a word.
///
/// # Errors
/// Fails when one is not among them or is named twice.
pub(super) fn stores(params: &ConfigureArchivingParams, cluster: &Cluster) -> Result<Vec<String>, ActionError> {
    let (own, _) = cluster.archive()?;
    let known: Vec<String> = cluster.entry.archives().map(str::to_owned).collect();
    let named: Vec<String> = params.stores.iter().flatten().map(StoreRef::as_str).map(str::to_owned).collect();
    let names = if named.is_empty() { known.clone() } else { named };
    let name = &cluster.name;
    if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(ActionError::fatal(format!("store `{twice}` is named twice")));
    }
    if !names.iter().any(|name| name == own) {
        let fact = format!("`stores` lacks `{own}`, the store that `{name}` is recovered from");
        return Err(ActionError::fatal(fact));
    }
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(names),
        Some(other) => Err(ActionError::fatal(format!("a recovery of `{name}` would not look for WAL in `{other}`"))
            .help(format!("add it in the inventory: `databases: {{ {name}: {{ wal_stores: [{other}] }} }}`"))),
    }
}

impl Settings {
    /// Puts them together, for where the server lives. Keys to decrypt stay away from the machine that archives.
    ///
    /// # Errors
    /// Fails when a secret that writing needs cannot be had.
    pub(super) fn of(
        (params, program): (&ConfigureArchivingParams, &Path),
        (cluster, place, server_host): (&Cluster, &Place, &ServerHost),
        about: &Surroundings,
    ) -> Result<Self, ActionError> {
        let (_, prefix) = cluster.archive()?;
        let mut entries: Vec<StoreEntry> = Vec::new();
        for name in stores(params, cluster)? {
            let entry = about.inventory.stores.get(&name);
            let entry = entry.ok_or_else(|| ActionError::fatal(format!("the inventory has no store `{name}`")))?;
            let mut entry = entry.clone();
            // What only reads stays where restores are made: a server that archives needs none of it.
            if let Some(encryption) = &mut entry.encryption {
                encryption.identities.clear();
                encryption.earlier.clear();
            }
            entries.push(entry);
        }
        let mut secrets: Vec<(String, SecretText)> = Vec::new();
        for name in entries.iter().flat_map(StoreEntry::secret_names) {
            if !secrets.iter().any(|(known, _)| known == name) {
                secrets.push((name.to_owned(), about.secrets.get(name)?));
            }
        }
        let file = |name: &String| SecretSpec::File(Path::new(SECRETS).join(name)).into();
        let pgdata = server_host.path(&cluster.pgdata)?;
        let config = Config {
            further: entries.split_off(1),
            at_least: params.at_least.or(cluster.entry.wal_at_least),
            secrets: secrets.iter().map(|(name, _)| (name.clone(), file(name))).collect(),
            spool: Some(server_host.path(&place.folder.join(SPOOL))?),
            ..Config::new(entries.remove(0), prefix)
        };
        Ok(Self { config, secrets, program: server_host.program(program), pgdata, server_host: server_host.clone() })
    }

    /// The same for a server whose data lies in `dir` still.
    ///
    /// # Errors
    /// Fails when a container does not have that folder.
    pub(super) fn within(self, dir: &Path) -> Result<Self, ActionError> {
        Ok(Self { pgdata: self.server_host.path(dir)?, ..self })
    }

    /// Says what of the configuration that lies in its place becomes another one. Nothing where there is none, and where it cannot
    /// be read.
    pub(super) fn rewrites(&self, place: &Place) -> Vec<String> {
        let Ok(now) = Config::load(&place.config()) else { return Vec::new() };
        let vault = now.vault();
        let is_other = |(name, value): &&(String, SecretText)| {
            vault.get(name).is_ok_and(|now: SecretText| now.reveal() != value.reveal())
        };
        let values = self.secrets.iter().filter(is_other);
        let values =
            values.map(|(name, _)| format!("secret `{name}` of the server becomes what the inventory's holds now"));
        rewrite::rewritten(&now, &self.config).into_iter().chain(values).collect()
    }

    fn write(&self, files: &dyn Files, folder: &Path, owner: &Owner) -> Result<(), HostError> {
        let own = |path: &Path| {
            if files.facts(path)?.is_none() {
                files.create_dir(path, 0o700)?;
            }
            files.chmod(path, 0o700)?;
            files.chown(path, owner.uid, owner.gid)
        };
        own(folder)?;
        own(&folder.join(SPOOL))?;
        let give = |path: PathBuf, text: &str| files.replace_for(&path, text.as_bytes(), 0o600, owner.ids());
        if !self.secrets.is_empty() {
            own(&folder.join(SECRETS))?;
            for (name, value) in &self.secrets {
                give(folder.join(SECRETS).join(name), value.reveal())?;
            }
        }
        let text = self.config.to_text().map_err(|error| HostError::File {
            operation: "write",
            path: folder.join(CONFIG),
            source: std::io::Error::other(error),
        })?;
        give(folder.join(CONFIG), &text)
    }
}
