//! Brings a collected base backup into its stores: compressed and encrypted as each store's settings say, several
//! objects at a time. One store's failure never ends the others.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::io::InspectReader;

use super::archive;
use super::collect::Part;
use crate::action::{ActionError, PutOptions, RunContext, Store};
use crate::base::clock;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::{BackupPlace, ManifestObject};
use crate::event::Progress;
use crate::transfer::{Packing, TransferError, Uploaded, upload};

/// Objects on their way at the same time, over all stores: memory and connections are bounded by it.
const LANES: usize = 3;

/// A store that gets a backup.
pub(crate) struct Depot {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// How its objects are packed.
    pub(crate) packing: Packing,
}

impl Depot {
    /// Opens a store of the inventory, with the keys that writing needs.
    ///
    /// # Errors
    /// Fails when the store or a key cannot be had.
    pub(crate) fn open(name: &str, cx: &RunContext) -> Result<Self, ActionError> {
        let entry = cx.about.inventory.stores.get(name);
        let entry = entry.ok_or_else(|| ActionError::fatal(format!("the inventory has no store `{name}`")))?;
        let packing = Packing::of(entry, cx.about.secrets.as_ref());
        let packing = packing.map_err(|error| unpackable(name, &error))?;
        Ok(Self { store: cx.store(name)?, packing })
    }
}

/// The settings or keys of a store make no sense.
pub(crate) fn unpackable(store: &str, error: &TransferError) -> ActionError {
    ActionError::fatal(format!("nothing can be packed for store `{store}`")).because(error)
}

/// A failure on the way into or out of a store as a step's error.
pub(crate) fn failed(error: &TransferError) -> ActionError {
    match error {
        TransferError::Store(store) => archive::failed(store),
        TransferError::Io { .. } => ActionError::retryable("an object did not arrive").because(error),
        TransferError::Key(_)
        | TransferError::Damaged { .. }
        | TransferError::WrongKey { .. }
        | TransferError::Settings(_) => ActionError::fatal(error.to_string()).because(error),
    }
}

/// A backup on its way.
pub(crate) struct Delivery<'a> {
    /// Its files.
    pub(crate) parts: &'a [Part],
    /// Where they go.
    pub(crate) depots: &'a [Depot],
    /// Where they lie in each store.
    pub(crate) place: &'a BackupPlace,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

/// What came of one store: its objects in order, or why not.
pub(crate) type Arrival = Result<Vec<ManifestObject>, ActionError>;

/// What has arrived in one store so far, each with its place in the backup.
type Arriving = Result<Vec<(usize, ManifestObject)>, ActionError>;

/// What the lanes share.
struct Shared {
    next: AtomicUsize,
    done: Arc<AtomicU64>,
    arrivals: Mutex<Vec<Arriving>>,
}

impl Shared {
    fn failed(&self, depot: usize) -> bool {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)[depot].is_err()
    }

    fn keep(&self, depot: usize, part: usize, object: Result<ManifestObject, ActionError>) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut arrivals[depot], object) {
            (Ok(objects), Ok(object)) => objects.push((part, object)),
            (Ok(_), Err(error)) => arrivals[depot] = Err(error),
            (Err(_), _) => {}
        }
    }
}

impl Delivery<'_> {
    /// Brings every object into every store; gives what came of each store.
    ///
    /// # Errors
    /// Fails only when it was cancelled.
    pub(crate) async fn run(&self) -> Result<Vec<Arrival>, ActionError> {
        let arrivals = self.depots.iter().map(|_| Ok(Vec::new())).collect();
        let shared = Shared { next: AtomicUsize::new(0), done: Arc::default(), arrivals: Mutex::new(arrivals) };
        let total = self.parts.iter().map(|part| part.size_bytes).sum::<u64>() * self.depots.len() as u64;
        let started = clock::monotonic();
        {
            let lanes: [_; LANES] = std::array::from_fn(|_| self.lane(&shared));
            let [first, second, third] = lanes;
            let mut work: Pin<Box<dyn Future<Output = ((), (), ())> + Send>> =
                Box::pin(async { tokio::join!(first, second, third) });
            loop {
                tokio::select! {
                    _ = &mut work => break,
                    () = tokio::time::sleep(Duration::from_millis(250)) => {
                        let done = shared.done.load(Ordering::Relaxed);
                        self.cx.reporter.progress(Progress::Units { done, total: Some(total), unit: "bytes" });
                    }
                    () = self.cx.cancel.cancelled() => {
                        return Err(ActionError::cancelled("the upload was cancelled before the manifest"));
                    }
                }
            }
        }
        let arrivals = shared.arrivals.into_inner().unwrap_or_else(PoisonError::into_inner);
        let arrivals: Vec<Arrival> = arrivals.into_iter().map(|arrival| arrival.map(in_order)).collect();
        self.close(&arrivals, started.elapsed());
        Ok(arrivals)
    }

    /// Takes one object after the other until none is left.
    async fn lane(&self, shared: &Shared) {
        loop {
            let number = shared.next.fetch_add(1, Ordering::Relaxed);
            let (part, depot) = (number / self.depots.len(), number % self.depots.len());
            if part >= self.parts.len() {
                return;
            }
            if !shared.failed(depot) {
                let object = self.bring(&self.parts[part], &self.depots[depot], &shared.done).await;
                shared.keep(depot, part, object);
            }
        }
    }

    async fn bring(&self, part: &Part, depot: &Depot, done: &Arc<AtomicU64>) -> Result<ManifestObject, ActionError> {
        let name = format!("{}{}", part.name, depot.packing.suffix());
        let key = self.place.key(&name).map_err(|error| archive::broken(&error))?;
        let file = self.cx.host.read_files().open(&part.path);
        let file = file.map_err(|error| ActionError::retryable("a collected file is gone").because(&error))?;
        let done = Arc::clone(done);
        let counted = InspectReader::new(tokio::fs::File::from_std(file), move |bytes: &[u8]| {
            done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        });
        let encoding = depot.packing.encoding().clone();
        let size_bytes = encoding.is_plain().then_some(part.size_bytes);
        let options = PutOptions { size_bytes, ..PutOptions::default() };
        let uploaded = upload((depot.store.as_ref(), &key), Box::new(counted), &depot.packing, options).await;
        let Uploaded { packed, .. } = uploaded.map_err(|error| failed(&error))?;
        if packed.plain.sha256 != part.sha256 || packed.plain.size_bytes != part.size_bytes {
            return Err(ActionError::retryable(format!("`{key}` was stored with other bytes than were verified")));
        }
        let (role, tablespace) = part.role();
        let plain = (!encoding.is_plain()).then_some(packed.plain);
        let object = ManifestObject::new(name, packed.stored_size_bytes, packed.stored_sha256, role);
        Ok(ManifestObject { tablespace, encoding, plain, ..object })
    }

    /// Says what was stored where, and how fast.
    fn close(&self, arrivals: &[Arrival], taken: Duration) {
        let plain_bytes: u64 = self.parts.iter().map(|part| part.size_bytes).sum();
        for (depot, arrival) in self.depots.iter().zip(arrivals) {
            let Ok(objects) = arrival else { continue };
            let stored_bytes: u64 = objects.iter().map(|object| object.size_bytes).sum();
            let rate = (u128::from(plain_bytes) * 1000 / taken.as_millis().max(1)) as u64;
            let message = format!(
                "store `{}` has the backup: {} as {}, in {} ({}/s)",
                depot.store.name(),
                ByteSize(plain_bytes),
                ByteSize(stored_bytes),
                human_duration(taken),
                ByteSize(rate)
            );
            let data = serde_json::json!({ "store": depot.store.name(), "plain_bytes": plain_bytes,
                "stored_bytes": stored_bytes, "elapsed_ms": taken.as_millis() as u64 });
            self.cx.reporter.note(message, data);
        }
    }
}

fn in_order(mut objects: Vec<(usize, ManifestObject)>) -> Vec<ManifestObject> {
    objects.sort_by_key(|(part, _)| *part);
    objects.into_iter().map(|(_, object)| object).collect()
}
