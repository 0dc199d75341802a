//! `runbook wal mend`: copies into each store of a database's WAL what it lacks and another one has, and replaces what is
//! damaged there.

use std::sync::Arc;

use serde_json::json;

use super::pruned::Pruned;
use super::replace::{Replaced, Way, replace};
use crate::action::{ReadStore, Secrets, Store};
use crate::base::clock;
use crate::catalog::retention::Policy;
use crate::catalog::{self, CatalogError};
use crate::cli::args::InventoryArgs;
use crate::cli::recoverable::database;
use crate::cli::site::Site;
use crate::cli::{Exit, Failure, document, wiring};
use crate::language::inventory::StoreEntry;
use crate::pgformat::{SystemId, WalFileName};
use crate::transfer::Packing;
use crate::wal::{Destination, Identity, Keys, Lack, LackedFile, Since, Source, bring_over, lacks};

/// Arguments of `wal mend`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook wal mend orders --plan     what does each store lack?\n  runbook wal mend orders            copy it\n  runbook wal mend orders --all      also what a store does not need\n  runbook wal mend orders --digests  read every copy, and replace those that are damaged\n\nEach file is read whole, decrypted and unpacked, held against its digest and its own header, and packed anew as the\nother store packs: the keys to read are needed here, which the server itself may not have. Nothing is overwritten but, with\n--digests, a copy whose bytes are not those of its own digest.\nCode 0: nothing is lacking any more; 5: some could not be copied; 10: some could not be read with --digests."
)]
pub struct Args {
    /// The database; default: the only one that has a store
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose database is meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Only show what is lacking
    #[arg(long)]
    plan: bool,
    /// Also copy what is older than a store's own oldest segment, and what its retention would remove
    #[arg(long)]
    all: bool,
    /// Also read every copy, and replace those that are damaged by the whole copy of another store
    #[arg(long)]
    digests: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One store of the WAL.
pub(super) struct Archive {
    pub(super) name: String,
    pub(super) entry: StoreEntry,
    reading: Arc<dyn ReadStore>,
}

/// What became of one store.
struct Mended {
    store: String,
    lacking: Vec<WalFileName>,
    /// How many more it lacks that its retention would remove again.
    pruned: usize,
    failed: Vec<(WalFileName, String)>,
}

/// What is to be copied into one store.
struct Wanted {
    store: usize,
    files: Vec<LackedFile>,
    pruned: usize,
}

/// Shows what is lacking, and copies it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let name = database(&site, args.database.as_deref())?;
    let entry = &site.inventory.databases[&name];
    let prefix = entry.prefix.clone().unwrap_or_else(|| name.clone());
    let open = |store: &str| {
        let (name, entry) = (store.to_owned(), site.store_entry(store)?.clone());
        Ok::<_, Failure>(Archive { name, entry, reading: site.read_store(store)? })
    };
    let archives = entry.archives().map(open).collect::<Result<Vec<_>, Failure>>()?;
    if archives.len() < 2 {
        let message = format!("the WAL of `{name}` goes into one store: there is none to copy from");
        return Err(Failure::new(Exit::Usage, message).help("name the others in `wal_stores` of its entry"));
    }
    let mending = Mending { args, site: &site, archives: &archives, prefix: &prefix };
    let mended = wiring::block_on(mending.run())??;
    let (mended, replaced) = mended;
    args.say(&name, (&mended, &replaced))
}

struct Mending<'a> {
    args: &'a Args,
    site: &'a Site,
    archives: &'a [Archive],
    prefix: &'a str,
}

impl Mending<'_> {
    async fn run(&self) -> Result<(Vec<Mended>, Vec<Replaced>), Failure> {
        let failed = |error: CatalogError| {
            Failure::new(Exit::Failed, "a store of the WAL gives no answer; nothing was copied").because(&error)
        };
        let mut owner = None;
        for archive in self.archives {
            let theirs = catalog::wal_owner(&*archive.reading, self.prefix).await.map_err(failed)?;
            match (owner, theirs) {
                (Some(one), Some(other)) if one != other => {
                    let message =
                        format!("under `{}` another cluster archives into store `{}`", self.prefix, archive.name);
                    return Err(
                        Failure::new(Exit::Refused, message).help("name in `wal_stores` only stores of this one")
                    );
                }
                (one, other) => owner = one.or(other),
            }
        }
        let Some(system_id) = owner else { return Ok((Vec::new(), Vec::new())) };
        let identity = Identity { system_id, segment_size: None };
        let sources: Vec<Source<'_>> = self.archives.iter().map(|archive| self.source(archive, identity)).collect();
        let since = if self.args.all { Since::Ever } else { Since::Own };
        let policy = Policy::of(&self.site.inventory);
        let mut mended = Vec::new();
        for lack in lacks(&sources, since, clock::now()).await.map_err(failed)? {
            let wanted = self.wanted(lack, (policy.as_ref(), system_id)).await.map_err(failed)?;
            mended.push(self.mend(wanted, &sources).await?);
        }
        let way = if self.args.plan { Way::Plan } else { Way::Do };
        let replaced = match self.args.digests {
            true => replace(self.site, (self.archives, &sources), way).await?,
            false => Vec::new(),
        };
        Ok((mended, replaced))
    }

    /// What of it is copied: not what the store's retention removed, and would remove again.
    async fn wanted(
        &self,
        lack: Lack,
        (policy, system_id): (Option<&Policy>, SystemId),
    ) -> Result<Wanted, CatalogError> {
        let (store, total) = (lack.store, lack.files.len());
        if self.args.all {
            return Ok(Wanted { store, files: lack.files, pruned: 0 });
        }
        let reading = &*self.archives[store].reading;
        let pruned = Pruned::of((reading, self.prefix), (policy, self.site), (system_id, &lack.files)).await?;
        let files: Vec<LackedFile> = lack.files.into_iter().filter(|file| !pruned.has(file)).collect();
        Ok(Wanted { store, pruned: total - files.len(), files })
    }

    fn source<'a>(&'a self, archive: &'a Archive, identity: Identity) -> Source<'a> {
        let keys = Keys { settings: Some(&archive.entry), secrets: &*self.site.vault };
        Source { store: &*archive.reading, prefix: self.prefix, identity, keys }
    }

    /// Copies into one store. What fails does not keep the rest from being copied.
    async fn mend(&self, lack: Wanted, sources: &[Source<'_>]) -> Result<Mended, Failure> {
        let archive = &self.archives[lack.store];
        let lacking: Vec<WalFileName> = lack.files.iter().map(|file| file.name).collect();
        let mut mended = Mended { store: archive.name.clone(), lacking, pruned: lack.pruned, failed: Vec::new() };
        if self.args.plan || mended.lacking.is_empty() {
            return Ok(mended);
        }
        let others: Vec<Source<'_>> =
            sources.iter().enumerate().filter(|(number, _)| *number != lack.store).map(|(_, source)| *source).collect();
        let secrets = Arc::clone(&self.site.vault) as Arc<dyn Secrets>;
        let packing = Packing::of(&archive.entry, &*secrets).map_err(|error| {
            Failure::new(Exit::Invalid, format!("nothing can be packed for store `{}`", archive.name)).because(&error)
        })?;
        let store: Arc<dyn Store> = self.site.store(&archive.name)?;
        let identity = sources[lack.store].identity;
        let to = Destination { store: &*store, prefix: self.prefix, identity, packing: &packing };
        for name in &mended.lacking {
            if let Err(error) = bring_over(&others, to, *name).await {
                mended.failed.push((*name, error.to_string()));
            }
        }
        Ok(mended)
    }
}

impl Args {
    fn say(&self, database: &str, (mended, replaced): (&[Mended], &[Replaced])) -> Result<Exit, Failure> {
        let names = |names: &[WalFileName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        if self.json {
            let document = mended.iter().map(|one| {
                let failed: Vec<_> =
                    one.failed.iter().map(|(name, why)| json!({ "file": name.to_string(), "why": why })).collect();
                let copied = if self.plan { 0 } else { one.lacking.len() - one.failed.len() };
                let lacking = names(&one.lacking);
                json!({ "store": one.store, "lacking": lacking, "pruned": one.pruned, "copied": copied, "failed": failed })
            });
            let document = document.chain(replaced.iter().map(|one| self.document(one)));
            document::write_json(&document.collect::<Vec<_>>())?;
        } else if mended.iter().all(|one| one.lacking.is_empty()) && replaced.is_empty() {
            out!("each store has what the others have of the WAL of `{database}`");
        }
        for one in mended.iter().filter(|_| !self.json) {
            let (store, count) = (&one.store, one.lacking.len());
            let span = match (one.lacking.first(), one.lacking.last()) {
                (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
                (Some(only), _) => only.to_string(),
                (None, _) => String::new(),
            };
            match self.plan {
                true if count == 0 => {}
                true => out!("store `{store}` lacks {count} files that others have: {span}"),
                false if count == 0 => {}
                false => out!("store `{store}`: {} of {count} files copied: {span}", count - one.failed.len()),
            }
            for (name, why) in &one.failed {
                tell!("  `{name}` was not copied: {why}");
            }
            if one.pruned > 0 {
                tell!(
                    "note: `{store}` lacks {} more, which its retention has removed or would remove: no backup there needs \
                     them; `--all` copies them too",
                    one.pruned
                );
            }
        }
        replaced.iter().filter(|_| !self.json).for_each(|one| self.tell(one));
        let is_whole =
            mended.iter().all(|one| one.failed.is_empty()) && replaced.iter().all(|one| one.failed.is_empty());
        let is_read = replaced.iter().all(|one| one.unread.is_empty());
        Ok(match (is_read, is_whole) {
            (false, _) => Exit::Failed,
            (true, false) => Exit::Exceptions,
            (true, true) => Exit::Success,
        })
    }

    /// What became of a store's damaged copies, for a machine.
    fn document(&self, one: &Replaced) -> serde_json::Value {
        let told = |(name, why): &(WalFileName, String)| json!({ "file": name.to_string(), "why": why });
        let failed: Vec<_> = one.failed.iter().map(told).collect();
        let unread: Vec<_> = one.unread.iter().map(told).collect();
        let damaged: Vec<String> = one.damaged.iter().map(ToString::to_string).collect();
        let replaced = if self.plan { 0 } else { one.damaged.len() - one.failed.len() };
        json!({ "store": one.store, "damaged": damaged, "replaced": replaced, "failed": failed, "unread": unread })
    }

    /// The same for people.
    fn tell(&self, one: &Replaced) {
        let names: Vec<String> = one.damaged.iter().map(|name| format!("`{name}`")).collect();
        let (store, count, names) = (&one.store, one.damaged.len(), names.join(", "));
        match self.plan {
            _ if count == 0 => {}
            true => out!("store `{store}` has {count} damaged copies: {names}"),
            false => out!("store `{store}`: {} of {count} damaged copies replaced: {names}", count - one.failed.len()),
        }
        for (name, why) in &one.failed {
            tell!("  `{name}` was not replaced: {why}");
        }
        for (name, why) in &one.unread {
            tell!("store `{store}`: whether `{name}` is damaged is not known: {why}");
        }
    }
}
