//! What the stores of a server's archiving lack: its own configuration names them, and its spool keeps the notes.

use super::pg_wal::PgWal;
use crate::cli::Failure;
use crate::cli::recoverable::Recoverable;
use crate::cli::site::Site;
use crate::language::inventory::StoreEntry;
use crate::wal::archiving_status::{Lacking, ServerSide};
use crate::wal::{self, Config, Invocation, differing_keys};

/// Looks at the configuration that the server's `archive_command` names. Nothing is known to lack where another program
/// archives.
///
/// # Errors
/// Says why it cannot be known: the files are the server's user's, on the server's machine.
pub fn lacking(site: &Site, found: &Recoverable, server: &ServerSide) -> Result<Lacking, String> {
    let Some(command) = Invocation::of(&server.archiving.command) else { return Ok(Lacking::default()) };
    let config = Config::of_server(&found.entry, &command.config).map_err(|error| error.to_string())?;
    let refused = wal::last_failure(&config, server.system_id).ok().flatten();
    let refused = refused.filter(|one| server.counters.last_failed.as_deref() == Some(one.name.to_string().as_str()));
    let refused = refused.map(|one| named(site, one.why));
    let owed = wal::owed(&config, server.system_id).map_err(|error| format!("its spool cannot be read: {error}"))?;
    let known = found.entry.archives().filter_map(|name| site.inventory.stores.get(name));
    let known: Vec<&str> = known.map(StoreEntry::plain_url).collect();
    let may_be_alone = config.at_least() < config.stores().count();
    let unnamed = config.stores().filter(|entry| may_be_alone && !known.contains(&entry.plain_url()));
    let unfed = known.iter().filter(|known| !config.stores().any(|entry| entry.plain_url() == **known));
    Ok(Lacking {
        unnamed: unnamed.map(|entry| entry.url.clone()).collect(),
        unfed: unfed.map(|url| (*url).to_owned()).collect(),
        owed: owed.into_iter().collect(),
        refused,
        otherwise: config.otherwise(&found.database, (&site.inventory, site.vault.as_ref())),
    })
}

/// The words of a push, with the inventory's names of the stores.
fn named(site: &Site, why: String) -> String {
    let stores = site.inventory.stores.iter();
    let named = stores.fold(why, |why, (name, entry)| {
        why.replace(&format!("`{}`: ", entry.plain_url()), &format!("store `{name}` ({}): ", entry.plain_url()))
    });
    // Each of them bears the same name to the push.
    named.replace("): store `archive` ", "): it ")
}

/// How the configuration that a database's server archives with differs from the inventory.
///
/// # Errors
/// Says why it is not known.
pub async fn differences(site: &Site, database: &str) -> Result<Vec<String>, String> {
    let failed = |failure: Failure| failure.message;
    let found = Recoverable::open(site, database).map_err(failed)?;
    let server = PgWal::of(site, &found).await.map_err(failed)?.server;
    let server = server.map_err(|why| format!("how `{database}` archives is not known: {why}"))?;
    let lacking = lacking(site, &found, &server);
    let lacking = lacking.map_err(|why| format!("what `{database}` archives with cannot be read: {why}"))?;
    let unnamed = lacking.unnamed.iter().map(|url| {
        format!("`{database}` archives into `{url}`, which a recovery would not look into: name it in `wal_stores`")
    });
    let unfed = lacking
        .unfed
        .iter()
        .map(|url| format!("`{database}` archives nothing into `{url}`, a store of its WAL by the inventory"));
    let prefix = lacking.otherwise.prefix.iter().map(|prefix| {
        format!("`{database}` archives under the prefix `{prefix}`, not under that of the inventory: no recovery looks there")
    });
    let keys = lacking.otherwise.keys.iter().map(|what| format!("`{database}`: {what}"));
    Ok(prefix.chain(keys).chain(unnamed).chain(unfed).collect())
}

/// What a database's server encrypts for other keys than the inventory's: each store by name, with the difference. None where that is
/// not known here: only a server that answers names its configuration, and only its own machine has that.
pub async fn other_keys(site: &Site, database: &str) -> Vec<(String, String)> {
    let Some(config) = configured(site, database).await else { return Vec::new() };
    let Some(entry) = site.inventory.databases.get(database) else { return Vec::new() };
    let own_secrets = config.vault();
    let differs = |store: &str| {
        let wanted = site.inventory.stores.get(store)?;
        let own = config.stores().find(|own| own.plain_url() == wanted.plain_url())?;
        let settings = (own.encryption.as_ref(), wanted.encryption.as_ref());
        let what = differing_keys(settings, (own_secrets.as_ref(), site.vault.as_ref()))?;
        Some((store.to_owned(), what))
    };
    entry.archives().filter_map(differs).collect()
}

async fn configured(site: &Site, database: &str) -> Option<Config> {
    let entry = site.inventory.databases.get(database)?;
    if entry.store.is_none() || entry.scratch || entry.is_managed() || entry.elsewhere().is_some() {
        return None;
    }
    let found = Recoverable::open(site, database).ok()?;
    let server = PgWal::of(site, &found).await.ok()?.server.ok()?;
    let command = Invocation::of(&server.archiving.command)?;
    Config::of_server(&found.entry, &command.config).ok()
}
