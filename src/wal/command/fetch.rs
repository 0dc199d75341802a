//! `wal fetch`, and the process that fetches ahead for it.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{ABSENT, End, FETCH_FAILED, STORE, pgdata, runtime};
use crate::action::{ReadStore, Secrets};
use crate::base::clock::monotonic;
use crate::language::inventory::StoreEntry;
use crate::pgformat::{SegmentName, WalFileName};
use crate::store::Opening;
use crate::vault::Vault;
use crate::wal::fetch::{Delivery, fetch_file};
use crate::wal::packed::Source;
use crate::wal::prefetch_cache::PrefetchCache;
use crate::wal::{Config, ForeignArchive, ForeignFolder, Identity, Keys, Location, WalError, prefetch};

/// How long a segment is waited for that is being fetched ahead.
const COMING: Duration = Duration::from_secs(20);
/// The name of the folder that another program filled, in messages.
const LOCATION: &str = "location";
const LOOK_EVERY: Duration = Duration::from_millis(4);

pub(super) fn fetch((config, at): (&Config, &Path), name: &OsStr, target: &Path) -> Result<End, (u8, WalError)> {
    let pgdata = pgdata(config);
    let standby = pgdata.join("standby.signal").exists();
    let patience = if standby { Duration::ZERO } else { config.retry_for() };
    let work = || -> Result<End, WalError> {
        let name: WalFileName = name.to_str().unwrap_or_default().parse()?;
        if config.withholds(name) {
            return Ok(End { code: ABSENT, line: Some(format!("`{name}` lies behind what is given")), log: None });
        }
        let identity = Identity::of(config, &pgdata)?;
        let target = pgdata.join(target);
        // Without it, or when it cannot be used, every segment is fetched when it is asked for.
        let prefetch_cache = PrefetchCache::open(config, &pgdata, &identity).ok().flatten();
        let prefetch_cache = match name {
            WalFileName::Segment(segment) => prefetch_cache.map(|prefetch_cache| (prefetch_cache, segment)),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
        };
        if let Some((prefetch_cache, segment)) = &prefetch_cache
            && from_stock(prefetch_cache, *segment, (&identity, &target))
        {
            prefetch::start(at, prefetch_cache, &pgdata);
            return Ok(End { code: 0, line: None, log: None });
        }
        let places = Places::open(config)?;
        let runtime = runtime()?;
        let (sources, preferred) =
            (places.sources(identity), prefetch_cache.as_ref().map(|(prefetch_cache, _)| prefetch_cache.preferred()));
        let stores = (sources.as_slice(), &preferred.unwrap_or_default());
        let delivery = runtime.block_on(fetch_file(stores, &config.rescue, (name, &target), patience));
        runtime.shutdown_background();
        let delivery = delivery?;
        if let (Delivery::Archive, Some((prefetch_cache, _))) = (&delivery, &prefetch_cache) {
            prefetch::start(at, prefetch_cache, &pgdata);
        }
        Ok(end(name, delivery))
    };
    work().map_err(|error| match standby && error.is_of_the_way() {
        true => (ABSENT, error),
        false => (FETCH_FAILED, error),
    })
}

fn end(name: WalFileName, delivery: Delivery) -> End {
    match delivery {
        Delivery::Archive => End { code: 0, line: None, log: None },
        Delivery::Rescue(from) => {
            let line = format!("`{name}` was taken from `{}`", from.display());
            End { code: 0, line: Some(line), log: None }
        }
        Delivery::Absent => End { code: ABSENT, line: Some(format!("`{name}` is not in the archive")), log: None },
    }
}

/// Takes a segment from the cache, and waits a little for one that is on its way there.
fn from_stock(prefetch_cache: &PrefetchCache, segment: SegmentName, (identity, target): (&Identity, &Path)) -> bool {
    // Who fetches ahead learns where the server is; if it does not, it ends.
    let _ = prefetch_cache.ask(segment);
    let began = monotonic();
    loop {
        let is_coming = prefetch_cache.is_coming(segment);
        if prefetch_cache.hand_over(segment, identity, target) {
            return true;
        }
        if !is_coming || began.elapsed() > COMING {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Has segments fetched for a server that is about to start: those that follow `before`.
pub(super) fn before((config, at): (&Config, &Path), before: &OsStr) -> Result<End, (u8, WalError)> {
    let pgdata = pgdata(config);
    let work = || -> Result<End, WalError> {
        let before: WalFileName = before.to_str().unwrap_or_default().parse()?;
        let identity = Identity::of(config, &pgdata)?;
        let in_spool = |source| WalError::File { operation: "use the spool for", path: pgdata.clone(), source };
        let prefetch_cache = PrefetchCache::open(config, &pgdata, &identity).map_err(in_spool)?;
        if let (Some(prefetch_cache), WalFileName::Segment(before)) = (prefetch_cache, before) {
            prefetch::start_before(at, &prefetch_cache, before).map_err(in_spool)?;
        }
        Ok(End { code: 0, line: None, log: None })
    };
    work().map_err(|error| (FETCH_FAILED, error))
}

/// Fetches ahead until nothing is left to do.
pub(super) fn ahead(config: &Config) -> Result<End, (u8, WalError)> {
    // A signal to the server's processes is none to this one, which looks itself whether the server lives.
    let _ = rustix::process::setsid();
    let pgdata = pgdata(config);
    let work = || -> Result<End, WalError> {
        let identity = Identity::of(config, &pgdata)?;
        let done = End { code: 0, line: None, log: None };
        let at = |source| WalError::File { operation: "use the spool for", path: pgdata.clone(), source };
        let (Some(prefetch_cache), Some(size)) =
            (PrefetchCache::open(config, &pgdata, &identity).map_err(at)?, identity.segment_size)
        else {
            return Ok(done);
        };
        let Some(_lock) = prefetch_cache.lock().map_err(at)? else { return Ok(done) };
        let places = Places::open(config)?;
        let runtime = runtime()?;
        let followed =
            runtime.block_on(prefetch::follow(&places.sources(identity), &prefetch_cache, (config, &pgdata, size)));
        runtime.shutdown_background();
        followed.map(|()| done)
    };
    work().map_err(|error| (FETCH_FAILED, error))
}

/// The stores that WAL is fetched from, opened.
struct Places<'a> {
    config: &'a Config,
    vault: Arc<Vault>,
    stores: Vec<(&'a StoreEntry, Arc<dyn ReadStore>)>,
}

impl<'a> Places<'a> {
    fn open(config: &'a Config) -> Result<Self, WalError> {
        let vault = config.vault();
        let open = |entry: &'a StoreEntry| {
            let secrets = Arc::clone(&vault) as Arc<dyn Secrets>;
            // Of several each is told from the others.
            let name = if config.further.is_empty() { STORE } else { entry.url.as_str() };
            Ok((entry, Opening::new(entry, name, secrets).open_read()?))
        };
        let mut stores = config.stores().map(open).collect::<Result<Vec<_>, WalError>>()?;
        if let (Some(Location { store, prefix }), Some((_, first))) = (&config.location, stores.first_mut()) {
            let secrets = Arc::clone(&vault) as Arc<dyn Secrets>;
            let lying = Opening::new(store, LOCATION, Arc::clone(&secrets)).open_read()?;
            let folder = ForeignFolder::new(lying, prefix, (store.encryption.as_ref(), secrets));
            *first = Arc::new(ForeignArchive::beside(Arc::clone(first), &config.prefix, folder));
        }
        Ok(Self { config, vault, stores })
    }

    fn sources(&self, identity: Identity) -> Vec<Source<'_>> {
        let prefix = self.config.prefix.as_str();
        self.stores
            .iter()
            .map(|(entry, store)| Source {
                store: &**store,
                prefix,
                identity,
                keys: Keys { settings: Some(entry), secrets: &*self.vault },
            })
            .collect()
    }
}
