//! What `wal fetch` needs inside a data directory that recovers: its configuration, and the secrets that reach
//! and decrypt the archive, in files of the server's user. Removed when the recovery is proven.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::context::RecoveryContext;
use super::marker::{self, Marker};
use super::segment_cache::SegmentCache;
use crate::action::{ActionError, CommandSpec, Files, HostError, ReadFiles, RunContext, Secrets, Tie};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::{self, Cluster, FETCH_CONFIG};
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::settings::shell_word;
use crate::base::RunId;
use crate::base::secret::SecretText;
use crate::language::inventory::{Encryption, SecretSpec, StoreEntry};
use crate::pgformat::{SegmentName, SegmentSize, SystemId};
use crate::wal::{Ahead, Config, Identity};

/// The folder of the secrets inside the data directory.
const SECRETS: &str = "runbook-fetch.secrets";
/// What a trial fetch writes.
const TRIAL: &str = "runbook-fetch.trial";

/// The settings of `wal fetch` for one recovery.
pub(crate) struct Fetching {
    config: Config,
    secrets: Vec<(String, SecretText)>,
    /// Where the server keeps WAL that was fetched before it asked, on this machine; `None` where it has no such folder.
    ahead: Option<PathBuf>,
}

impl Fetching {
    /// Puts them together: every store that the WAL is archived into, since any of them may have a segment alone. Of
    /// several keys to read with, those that can be had are enough, and so are the keys of one of several stores: what the
    /// others have cannot be opened then, and is told.
    ///
    /// # Errors
    /// Fails when a secret that reading needs cannot be had.
    pub(crate) fn of(context: &RecoveryContext<'_>, system_id: SystemId) -> Result<Self, ActionError> {
        let vault = context.cx.about.secrets.as_ref();
        let readable = |entry: &mut StoreEntry| {
            if let Some(encryption) = &mut entry.encryption {
                encryption.keep_readable(|name| vault.get(name).is_ok());
            }
        };
        let mut location = context.location.as_ref().map(|location| location.told(&context.cx.about)).transpose()?;
        if let Some(location) = &mut location {
            readable(&mut location.store);
        }
        let mut entries: Vec<StoreEntry> = Vec::new();
        let mut locked = Vec::new();
        for store in context.stores() {
            let mut entry = context.entry(store.as_ref())?.clone();
            readable(&mut entry);
            if let Some(why) = lost_key(&entry, vault) {
                locked.push((store.as_read().name().to_owned(), why));
                if let Some(encryption) = &mut entry.encryption {
                    encryption.forget(|name| vault.get(name).is_ok());
                }
            }
            entries.push(entry);
        }
        without_keys(locked, entries.len(), context.cx)?;
        let mut secrets: Vec<(String, SecretText)> = Vec::new();
        let located = location.iter().map(|location| &location.store);
        for name in entries.iter().chain(located).flat_map(StoreEntry::secret_names).collect::<BTreeSet<_>>() {
            secrets.push((name.to_owned(), vault.get(name)?));
        }
        let ahead = ahead(context, &context.cx.about.run);
        let place = |name: &String| SecretSpec::File(Path::new(SECRETS).join(name)).into();
        let config = Config {
            secrets: secrets.iter().map(|(name, _)| (name.clone(), place(name))).collect(),
            system_id: Some(system_id),
            rescue: vec![context.server_host.path(&context.cluster.pgdata)?.join("pg_wal")],
            spool: ahead.as_deref().map(|folder| context.server_host.path(folder)).transpose()?,
            restore: Some(context.cx.about.run.to_string()),
            further: entries.split_off(1),
            location,
            ..Config::new(entries.remove(0), context.prefix)
        };
        Ok(Self { config, secrets, ahead })
    }

    /// The same for a server that is given nothing behind a segment.
    pub(crate) fn through(self, through: Option<SegmentName>) -> Self {
        Self { config: Config { through, ..self.config }, ..self }
    }

    /// Writes them into a data directory.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(crate) fn write(&self, files: &dyn Files, pgdata: &Path, owner: &Owner) -> Result<(), HostError> {
        self.begin(files, pgdata, owner)?;
        self.place(files, pgdata, owner)
    }

    /// Removes what an earlier attempt left in a data directory, and makes an empty folder for what is fetched ahead.
    ///
    /// # Errors
    /// Fails when a file cannot be removed.
    pub(crate) fn begin(&self, files: &dyn Files, pgdata: &Path, owner: &Owner) -> Result<(), HostError> {
        remove(files, pgdata)?;
        // Without it every segment is fetched when it is asked for.
        if let Some(ahead) = &self.ahead {
            let _ = spool(files, ahead, owner);
        }
        Ok(())
    }

    /// Opens the folder of what is fetched ahead for segments that are proven before the server starts, all but one; `None`
    /// where there is no such folder, and where it cannot be used: every segment is fetched then.
    pub(crate) fn segment_cache<'a>(
        &self,
        (marker, but): (&Marker, Option<SegmentName>),
        files: &'a dyn Files,
        owner: &'a Owner,
    ) -> Option<SegmentCache<'a>> {
        let folder = self.ahead.clone()?;
        let identity = Identity { system_id: marker.system_id, segment_size: Some(marker.segment_size) };
        // As the server's fetch reads it, so that both name the same places; in a container its folder is called otherwise.
        let read: Config = serde_json::from_str(&self.config.to_text().ok()?).ok()?;
        let ahead = Ahead::of(&Config { spool: Some(folder), ..read }, identity).ok()??;
        SegmentCache::open((ahead, but), files, owner).ok()?
    }

    /// Writes them into a data directory in which [`Fetching::begin`] was.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(crate) fn place(&self, files: &dyn Files, pgdata: &Path, owner: &Owner) -> Result<(), HostError> {
        let path = pgdata.join(FETCH_CONFIG);
        let text = self.config.to_text().map_err(|error| {
            let source = std::io::Error::other(error.to_string());
            HostError::File { operation: "write", path: path.clone(), source }
        })?;
        let give = |path: PathBuf, text: &str| files.replace_for(&path, text.as_bytes(), 0o600, owner.ids());
        if !self.secrets.is_empty() {
            let folder = pgdata.join(SECRETS);
            files.create_dir(&folder, 0o700)?;
            files.chown(&folder, owner.uid, owner.gid)?;
            for (name, value) in &self.secrets {
                give(folder.join(name), value.reveal())?;
            }
        }
        give(path, &text)
    }
}

/// Why a key that reading a store's WAL needs cannot be had.
fn lost_key(entry: &StoreEntry, vault: &dyn Secrets) -> Option<ActionError> {
    entry.encryption.iter().flat_map(Encryption::secrets).find_map(|name| vault.get(name).err())
}

/// Tells of the stores whose keys cannot be had: what they have counts like a damaged copy.
///
/// # Errors
/// Fails when that is every one of them.
fn without_keys(locked: Vec<(String, ActionError)>, all: usize, cx: &RunContext) -> Result<(), ActionError> {
    let told = locked.iter().map(|(store, why)| format!("store `{store}`: {}", why.in_full()));
    let told = told.collect::<Vec<_>>().join("; ");
    if locked.len() < all {
        for (store, _) in &locked {
            let message =
                format!("warning: the WAL in store `{store}` cannot be opened here, so the others' is read: {told}");
            cx.reporter.note(message, serde_json::json!({ "store": store }));
        }
        return Ok(());
    }
    let several = locked.len() > 1;
    match locked.into_iter().next() {
        Some((_, why)) if !several => Err(why),
        Some((_, why)) => {
            let help = why.info().help.clone().unwrap_or_else(|| "the keys of one of them are enough".to_owned());
            Err(ActionError::fatal(format!("no store's WAL can be opened here: {told}")).help(help))
        }
        None => Ok(()),
    }
}

/// Writes them into a data directory anew while its recovery goes on, by what the inventory and the secrets say now: a store
/// that is gone can be left out only so. Where replay ends, and where WAL is fetched ahead to, stays. Nothing where
/// no recovery fetches. Tells whether other stores are read than before.
///
/// # Errors
/// Fails when a secret that reading needs cannot be had, and when a file cannot be written.
pub(crate) fn renew(
    context: &RecoveryContext<'_>,
    system_id: SystemId,
    files: &dyn Files,
) -> Result<bool, ActionError> {
    let pgdata = &context.cluster.pgdata;
    let Some(before) = written(files, pgdata) else { return Ok(false) };
    let fresh = Fetching::of(context, system_id)?;
    let (spool, restore, through) = (before.spool.clone(), before.restore.clone(), before.through);
    let fresh = Fetching { config: Config { spool, restore, through, ..fresh.config }, ..fresh };
    // The server may be fetching with it: each file is replaced at once, and none is removed.
    fresh.place(files, pgdata, &context.owner).map_err(|error| cannot(&error))?;
    Ok(written(files, pgdata).is_some_and(|after| after != before))
}

/// The settings that a data directory has.
fn written(files: &dyn ReadFiles, pgdata: &Path) -> Option<Config> {
    serde_json::from_slice(&files.read(&pgdata.join(FETCH_CONFIG), 1 << 20).ok()?).ok()
}

/// Where the server of a recovery finds WAL that was fetched before it asked.
fn ahead(context: &RecoveryContext<'_>, run: &RunId) -> Option<PathBuf> {
    context.server_host.spool(&context.cluster.ahead(run))
}

/// Removes everything of a recovery that is proven, of the run that began it.
///
/// # Errors
/// Fails when a file cannot be removed.
pub(crate) fn clear(context: &RecoveryContext<'_>, run: &RunId, files: &dyn Files) -> Result<(), HostError> {
    remove(files, &context.cluster.pgdata)?;
    if let Some(ahead) = ahead(context, run) {
        let _ = forget(files, &ahead);
    }
    Ok(())
}

/// Removes the folder of what is fetched ahead for a recovery that does not come to its start.
pub(crate) fn give_up(context: &RecoveryContext<'_>, files: &dyn Files) {
    if let Some(ahead) = ahead(context, &context.cx.about.run) {
        // What cannot be removed is removed by the next attempt.
        let _ = forget(files, &ahead);
    }
}

/// Makes an empty folder for what is fetched ahead.
fn spool(files: &dyn Files, folder: &Path, owner: &Owner) -> Result<(), HostError> {
    forget(files, folder)?;
    files.create_dir(folder, 0o700)?;
    files.chown(folder, owner.uid, owner.gid)
}

/// How often removing a folder is begun anew that somebody still writes to.
const TRIES: u32 = 10;

/// Removes what was fetched ahead; who fetches there ends by it, and may write once more meanwhile.
fn forget(files: &dyn Files, folder: &Path) -> Result<(), HostError> {
    for _ in 1..TRIES {
        if files.facts(folder)?.is_none() || files.remove_tree(folder).is_ok() {
            return Ok(());
        }
    }
    files.remove_tree(folder)
}

/// The folder of what was fetched ahead for the data that becomes `pgdata`, as an earlier run may have named it. A server
/// could write another path into its own folder: only one of ours is believed.
fn spool_of(files: &dyn ReadFiles, pgdata: &Path) -> Option<PathBuf> {
    let spool = written(files, pgdata)?.spool?;
    layout::is_ahead_of(&spool, pgdata).then_some(spool)
}

/// Removes them; what is not there is no error.
///
/// # Errors
/// Fails when a file cannot be removed.
fn remove(files: &dyn Files, pgdata: &Path) -> Result<(), HostError> {
    if let Some(spool) = spool_of(files, pgdata) {
        // What cannot be removed is bounded, and no reason to fail a recovery.
        let _ = forget(files, &spool);
    }
    let secrets = pgdata.join(SECRETS);
    if files.facts(&secrets)?.is_some() {
        files.remove_tree(&secrets)?;
    }
    for name in [FETCH_CONFIG, TRIAL] {
        let path = pgdata.join(name);
        if files.facts(&path)?.is_some() {
            files.remove_file(&path)?;
        }
    }
    Ok(())
}

/// The server starts it in its data directory.
pub(crate) fn restore_command(program: &Path) -> String {
    let program = program.to_string_lossy().replace('%', "%%");
    format!("{} wal fetch --config {FETCH_CONFIG} %f %p", shell_word(&program))
}

/// Fetches the first segment that a staged backup needs as the server in its container will, while the live one may still
/// run: what the container cannot reach is found out before anything stops. Nothing where the archive has none of it.
///
/// # Errors
/// Fails when the container could not fetch it.
pub(crate) async fn rehearse(cluster: &Cluster, cx: &RunContext) -> Result<(), ActionError> {
    let files = cx.host.files();
    let staged = marker::staged(files.as_ref(), cluster, &cx.about.run)?.filter(|_| cluster.is_contained());
    let Some(marker) = staged else { return Ok(()) };
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook"));
    let mut context = RecoveryContext::on(cluster, &program, cx).await?;
    // Inside where it runs: a second container of a service with an address of its own cannot be made beside it.
    context.server_host = ServerHost::of(cluster, cx.host.as_read()).await?;
    if let Some((fact, help)) = context.server_host.barred((&program, &context.owner), cx.host.as_read()).await? {
        return Err(ActionError::fatal(fact).help(help));
    }
    let first = SegmentName::holding(marker.timeline, marker.start, marker.segment_size);
    if !context.wal_archive(&marker).holds(first).await? {
        return Ok(());
    }
    let staged = cluster.staged(files.as_ref(), &cx.about.run);
    let fetching = Fetching::of(&context, marker.system_id)?;
    fetching.write(files.as_ref(), &staged, &context.owner).map_err(|error| cannot(&error))?;
    let tried = try_out(&context, &staged, first).await;
    remove(files.as_ref(), &staged).map_err(|error| cannot(&error))?;
    tried
}

/// Fetches one segment as the server's user will: credentials and keys that only we have are found out before
/// anything is moved.
///
/// # Errors
/// Fails when the server could not fetch it.
pub(crate) async fn try_out(
    context: &RecoveryContext<'_>,
    staged: &Path,
    probe_segment: SegmentName,
) -> Result<(), ActionError> {
    let spec = CommandSpec::new(context.program.to_string_lossy());
    let mut spec =
        spec.args(["wal", "fetch", "--config", FETCH_CONFIG]).args([probe_segment.to_string(), TRIAL.to_owned()]);
    spec.dir = Some(context.server_host.path(staged)?);
    let spec = context.server_host.command(&context.owner, spec, context.cx.host.as_read());
    let failed = |error: HostError| ActionError::retryable("a trial of `wal fetch` failed").because(&error);
    let output = context.cx.host.run(spec, Tie::Engine).await.map_err(failed)?;
    if !output.success() {
        let user = context.owner.shown();
        let fact = format!(
            "the server's user {user} cannot fetch `{probe_segment}` from the archive, so the recovery would fail"
        );
        let error = ActionError::fatal(fact).process(output.exit_code, output.tail(3));
        let help = format!("see that the user {user} can read the store, its credentials and its keys");
        return Err(error.help(help));
    }
    let files = context.cx.host.files();
    files.remove_file(&staged.join(TRIAL)).map_err(failed)
}

/// Has the first segments fetched before the server is started, so that it need not wait for them. Without it every segment
/// is fetched when it is asked for; so it is in a container, where nothing runs beside the server.
pub(crate) async fn fetch_ahead(
    context: &RecoveryContext<'_>,
    staged: &Path,
    (first, size): (SegmentName, SegmentSize),
) {
    let Some(before) = first.prev(size).filter(|_| !context.cluster.is_contained()) else { return };
    let spec = context.owner.command(context.program.to_string_lossy());
    let mut spec = spec.args(["wal", "prefetch", "--config", FETCH_CONFIG]).args([before.to_string()]);
    spec.dir = Some(staged.to_owned());
    let _ = context.cx.host.start_daemon(spec).await;
}
