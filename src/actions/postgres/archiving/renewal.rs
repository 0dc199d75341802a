//! What a recovered server archives with.
//!
//! Its configuration lies beside the data directory and in no backup: on a machine that is new nothing of it is there. It is
//! written anew, as `postgres.configure_archiving` writes it, before the recovered data is swapped in. Archiving by another
//! program stays as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::folder;
use super::params::ConfigureArchivingParams;
use super::place::{Place, Settings};
use crate::action::{ActionError, CheckContext, Findings, Machine, ReadHost, Secrets, Surroundings};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::limits::Configured;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::restore_base;
use crate::actions::postgres::stores::readable;
use crate::catalog;
use crate::language::inventory::{SecretSpec, StoreEntry};
use crate::store::Opening;
use crate::wal::{Config, Invocation};

/// How long a store is waited for that only the server's own configuration names.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A server's command, held against the machine that it is to run on.
struct Renewal<'a> {
    cluster: &'a Cluster,
    /// Our own program, as the server calls it.
    program: &'a Path,
    server_host: &'a ServerHost,
    about: &'a Surroundings,
}

/// Has a server that is to start on the data in `pgdata` archive as the inventory says, where its own command is ours and
/// would archive nothing, or into another place. What holds is left as it is.
///
/// # Errors
/// Fails when the configuration cannot be written, or the server's user cannot use a store with it.
pub(crate) async fn renew(context: &RecoveryContext<'_>, pgdata: &Path) -> Result<(), ActionError> {
    let RecoveryContext { cluster, program, server_host, cx, .. } = context;
    if cluster.is_scratch() {
        return Ok(());
    }
    let Some(command) = configured(context, pgdata).await? else { return Ok(()) };
    let Some(invocation) = Invocation::of(&command) else { return Ok(()) };
    let renewal = Renewal { cluster, program, server_host, about: &cx.about };
    let fault = match renewal.judge(&invocation, pgdata, cx.host.as_read()).await {
        Verdict::Fault(fault) => fault,
        Verdict::Holds => return Ok(()),
        Verdict::More(more) => {
            let message = format!("warning: {more}: {MORE}");
            cx.reporter.note(message, json!({ "archive_command": command }));
            return Ok(());
        }
    };
    let told = |words: &str| {
        let message = format!("warning: `archive_command` would archive nothing: {fault}; {words}");
        cx.reporter.note(message, json!({ "archive_command": command }));
    };
    if let Some(store) = renewal.read_only() {
        told(&format!("it is not written anew, since store `{store}` is read-only here"));
        return Ok(());
    }
    if !invocation.is_alone() {
        told(&format!("correct it by hand: `{}` is more than `wal push`", invocation.around.join(" ")));
        return Ok(());
    }
    let anew = renewal.write(context, pgdata).await?;
    if anew != command {
        let auto = pgdata.join(settings::FILE);
        let text = settings::restored(cx.host.files().as_ref(), pgdata)?;
        let text = settings::with_lasting(&text, "archive_command", &anew);
        context.write(cx.host.files().as_ref(), &auto, &text).map_err(|error| cannot(&error))?;
    }
    let message = format!("{fault}: what the server archives with was written anew from the inventory");
    cx.reporter.note(message, json!({ "archive_command": anew }));
    Ok(())
}

/// Whether a store of a configuration gives an answer from here.
async fn answers(config: &Config, entry: &StoreEntry) -> bool {
    let opened = Opening::new(entry, entry.plain_url(), config.vault() as Arc<dyn Secrets>).open_read();
    let Ok(store) = opened else { return false };
    let owner = catalog::wal_owner(&*store, &config.prefix);
    tokio::time::timeout(ANSWERS_WITHIN, owner).await.is_ok_and(|owner| owner.is_ok())
}

/// What the server that is to start runs for each segment; `None` where it archives nothing, or through a library, and where
/// its configuration cannot be found from here.
async fn configured(context: &RecoveryContext<'_>, pgdata: &Path) -> Result<Option<String>, ActionError> {
    let RecoveryContext { cluster, owner, server_host, cx, .. } = context;
    let programs = context.programs(cx.host.files().as_ref(), pgdata)?;
    let server = Configured { cluster, owner, programs: &programs, server_host, pgdata };
    let told = server.texts(&["archive_mode", "archive_library", "archive_command"], cx.host.as_read()).await;
    let [Some(mode), library, Some(command)] = told.as_slice() else { return Ok(None) };
    let has_library = library.as_ref().is_some_and(|library| !library.is_empty());
    Ok((mode != "off" && !has_library).then(|| command.clone()))
}

/// Tells before anything is touched whether the server that a recovery brings back would archive, by what the newest backup
/// knows of its command. Refuses where its configuration is gone and could not be written anew.
///
/// # Errors
/// Fails when docker does not answer.
pub(crate) async fn foretold(
    (cluster, program): (&Cluster, &Path),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let host = cx.host.as_ref();
    if cluster.is_scratch() {
        return Ok(findings);
    }
    let Some(server_host) = ServerHost::seen(cluster, host).await?.filter(ServerHost::is_open) else {
        return Ok(findings);
    };
    let Some(command) = known(cluster, cx).await else { return Ok(findings) };
    let Some(invocation) = Invocation::of(&command) else { return Ok(findings) };
    // What lies in the data directory comes back with it.
    let inside = server_host.outside(&invocation.config).is_some_and(|path| path.starts_with(&cluster.pgdata));
    if inside || invocation.config.is_relative() {
        return Ok(findings);
    }
    let renewal = Renewal { cluster, program, server_host: &server_host, about: &cx.about };
    let fault = match renewal.judge(&invocation, &cluster.pgdata, host).await {
        Verdict::Fault(fault) => fault,
        Verdict::Holds => return Ok(findings),
        Verdict::More(more) => return Ok(findings.warn(more, MORE)),
    };
    let fact = format!("the recovered server's `archive_command` would archive nothing: {fault}");
    if let Some(store) = renewal.read_only() {
        return Ok(
            findings.warn(fact, format!("store `{store}` is read-only here, so nothing can be archived into it"))
        );
    }
    if !invocation.is_alone() {
        let help = format!("correct it after the recovery: `{}` is more than `wal push`", invocation.around.join(" "));
        return Ok(findings.warn(fact, help));
    }
    Ok(match (renewal.obstacle(host).await?, cx.foreseen.machine()) {
        (Some((why, _)), Machine::MadeReady) => {
            findings.warn(format!("{fact}, and it cannot be written anew: {why}"), restore_base::MADE_READY)
        }
        (Some((why, help)), Machine::AsItIs) => {
            findings.refuse(format!("{fact}, and it cannot be written anew: {why}"), help)
        }
        (None, _) => {
            findings.pass(format!("{fact}; it is written anew from the inventory before the data is swapped in"))
        }
    })
}

/// What the server ran for each segment when the newest backup was taken.
async fn known(cluster: &Cluster, cx: &CheckContext) -> Option<String> {
    let (store, prefix) = cluster.archive().ok()?;
    let store = cx.store(store).ok()?;
    let backups = readable::newest(store.as_ref(), prefix, &cluster.name).await.ok()?;
    let told = backups.first()?.manifest.postgres.as_ref()?.archiving.clone()?;
    (told.mode != "off" && told.library.is_empty()).then_some(told.command)
}

/// What a server's own configuration is worth.
enum Verdict {
    /// It archives as the inventory says, or it cannot be seen.
    Holds,
    /// It archives as the inventory says, and into more stores than that: what differs.
    More(String),
    /// It does not, and why.
    Fault(String),
}

/// What becomes of a configuration that names more stores than the inventory.
const MORE: &str = "it is kept as it is, and no recovery looks for WAL there; name the store in `wal_stores` of the database's \
                    entry, or take it out of that file";

impl Renewal<'_> {
    /// Holds the configuration of a command of ours against the inventory. One that names all stores of the inventory and
    /// more is somebody's wish, as long as the others can be had: where one is gone, nothing might be archived at all.
    async fn judge(&self, command: &Invocation, pgdata: &Path, host: &dyn ReadHost) -> Verdict {
        if let Some(fault) = self.fault(command, pgdata, host) {
            return Verdict::Fault(fault);
        }
        let Some(path) = self.config_of(command, pgdata) else { return Verdict::Holds };
        let Ok(config) = Config::load(&path) else { return Verdict::Holds };
        let known: Vec<&str> = self.entries().map(|(_, entry)| entry.plain_url()).collect();
        let more =
            config.stores().filter(|entry| self.is_told(entry.plain_url()) && !known.contains(&entry.plain_url()));
        let more: Vec<&StoreEntry> = more.collect();
        let shown = path.display();
        for entry in &more {
            if config.at_least() > known.len() && !answers(&config, entry).await {
                let url = entry.plain_url();
                return Verdict::Fault(format!(
                    "its configuration `{shown}` names `{url}`, which is no store of its WAL by the inventory, and which gives no answer"
                ));
            }
        }
        let urls: Vec<String> = more.iter().map(|entry| format!("`{}`", entry.plain_url())).collect();
        match urls.is_empty() {
            true => Verdict::Holds,
            false => Verdict::More(format!(
                "the configuration `{shown}` that the server archives with names {}, no store of its WAL by the inventory",
                urls.join(", ")
            )),
        }
    }

    /// Where the configuration of a command lies; `None` where that cannot be seen from here.
    fn config_of(&self, command: &Invocation, pgdata: &Path) -> Option<PathBuf> {
        match command.config.is_absolute() {
            true => self.server_host.outside(&command.config),
            false => Some(pgdata.join(&command.config)),
        }
    }

    /// Whether what a configuration calls a store can be compared with the inventory: a container has mounts of its own.
    fn is_told(&self, url: &str) -> bool {
        matches!(self.server_host, ServerHost::Here) || !url.starts_with("file://")
    }

    /// Says why a command of ours does not archive as the inventory says; `None` where it does, and where that cannot be seen.
    fn fault(&self, command: &Invocation, pgdata: &Path, host: &dyn ReadHost) -> Option<String> {
        let path = self.config_of(command, pgdata)?;
        let shown = path.display();
        if host.read_files().facts(&path).ok()?.is_none() {
            return Some(format!("its configuration `{shown}` is not there"));
        }
        let config = match Config::load(&path) {
            Ok(config) => config,
            Err(error) => return Some(error.to_string()),
        };
        if let Some(what) = self.difference(&config, host) {
            return Some(format!("its configuration `{shown}` {what}"));
        }
        let program = command.program.to_string_lossy();
        let is_here = matches!(self.server_host, ServerHost::Here);
        (is_here && host.find_program(&program).is_none()).then(|| format!("its program `{program}` is not there"))
    }

    /// What of a configuration the inventory contradicts.
    fn difference(&self, config: &Config, host: &dyn ReadHost) -> Option<String> {
        let (_, prefix) = self.cluster.archive().ok()?;
        let known: Vec<&str> = self.entries().map(|(_, entry)| entry.plain_url()).collect();
        let named = |url: &str| config.stores().any(|entry| entry.plain_url() == url);
        let lacks = |url: &&&str| self.is_told(url) && !named(url);
        let other = config.stores().map(StoreEntry::plain_url).find(|url| self.is_told(url) && !known.contains(url));
        if let (Some(other), Some(lacked)) = (other, known.iter().find(lacks)) {
            return Some(format!(
                "names `{other}`, which is no store of its WAL by the inventory, and lacks `{lacked}`, which is one"
            ));
        }
        if let Some(own) = known.first().filter(|own| lacks(own)) {
            return Some(format!("does not name `{own}`, the store that it is recovered from"));
        }
        if config.prefix != prefix {
            return Some(format!("names the prefix `{}`, not `{prefix}`", config.prefix));
        }
        let files = host.read_files();
        let real = |path: &Path| files.canonical(path).unwrap_or_else(|_| path.to_owned());
        let other = config.pgdata.as_deref().filter(|theirs| {
            self.server_host.outside(theirs).is_some_and(|theirs| real(&theirs) != real(&self.cluster.pgdata))
        });
        if let Some(other) = other {
            return Some(format!("is about `{}`", other.display()));
        }
        let lost = config.secrets.iter().find(|(_, entry)| {
            let is_gone = |source: &SecretSpec| match source {
                // Named as the server sees it; one that was placed from here lies at the same place for both.
                SecretSpec::File(path) => {
                    let seen = self.server_host.outside(path);
                    seen.is_some_and(|path| matches!(files.facts(&path), Ok(None)))
                }
                SecretSpec::Env(_)
                | SecretSpec::Command(_)
                | SecretSpec::Prompt(_)
                | SecretSpec::Aws(_)
                | SecretSpec::Vault(_) => false,
            };
            entry.sources().iter().all(is_gone)
        });
        lost.map(|(name, _)| format!("names the secret `{name}`, whose file is not there"))
    }

    /// The stores of its WAL, that of its backups first.
    fn entries(&self) -> impl Iterator<Item = (&str, &StoreEntry)> {
        let stores = &self.about.inventory.stores;
        self.cluster.entry.archives().filter_map(move |name| Some((name, stores.get(name)?)))
    }

    /// A store that nothing may be written into from here.
    fn read_only(&self) -> Option<&str> {
        self.entries().find(|(_, entry)| entry.read_only).map(|(name, _)| name)
    }

    /// Says why the configuration could not be written, with advice.
    async fn obstacle(&self, host: &dyn ReadHost) -> Result<Option<(String, String)>, ActionError> {
        let params = ConfigureArchivingParams::of(&self.cluster.name);
        let place = Place::of(&params, self.cluster)?;
        if let Err(error) = Settings::of((&params, self.program), (self.cluster, &place, self.server_host), self.about)
        {
            let help = error.info().help.clone();
            return Ok(Some((error.to_string(), help.unwrap_or_else(|| self.cure()))));
        }
        if self.cluster.is_contained() {
            return Ok(None);
        }
        let owner = Owner::of(self.cluster, host)?;
        let folders = folder::among(self.entries().map(|(_, entry)| entry));
        Ok(folder::unusable(&folders, &owner, host).await)
    }

    /// Writes the configuration and proves it as the server's user. Gives the command that reads it.
    async fn write(&self, context: &RecoveryContext<'_>, pgdata: &Path) -> Result<String, ActionError> {
        let params = ConfigureArchivingParams::of(&self.cluster.name);
        let place = Place::of(&params, self.cluster)?;
        let settings = Settings::of((&params, self.program), (self.cluster, &place, self.server_host), self.about)?;
        let ready = place.ready(&settings.within(pgdata)?, &context.owner, context.cx).await;
        ready.map_err(|error| {
            let help = error.info().help.clone().map_or_else(String::new, |help| format!("{help}; "));
            error.help(format!("{help}{}", self.cure()))
        })?;
        place.command(self.program, self.server_host)
    }

    fn cure(&self) -> String {
        format!(
            "what is wrong with archiving is seen by `runbook dry-run setup-archiving -p database={}` as well, once a server runs",
            self.cluster.name
        )
    }
}
