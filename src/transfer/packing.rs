//! How new objects are made.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::delivery::{Counter, Delivery, Hear, Part, Parts, counter};
use super::flow::{BLOCK_BYTES, Inflow, Outflow, flow};
use super::intake::{Intake, Take};
use super::keys::Lock;
use super::lanes::{Lanes, blocks};
use super::meter::{Meter, Stage};
use super::tally::{Count, Counted, Tally, tally};
use super::{Encoding, Plain, TransferError, Watch, cipher, compression, thread};
use crate::action::{ByteStream, Secrets};
use crate::base::Digest;
use crate::language::inventory::{CompressionFormat, StoreEntry};

/// How new objects of one store are compressed and encrypted, with the keys at hand.
#[derive(Clone)]
pub struct Packing {
    encoding: Encoding,
    lock: Option<Lock>,
    watch: Option<(Watch, Option<u64>)>,
    proof: PlainProof,
}

/// What is noted of the plain bytes beside their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainProof {
    Digest,
    Nothing,
}

/// The stored bytes of an object on their way.
pub struct Sealed {
    /// The stored bytes.
    pub body: ByteStream,
    facts: Arc<OnceLock<Packed>>,
    pub(super) meter: Arc<Meter>,
}

/// What an object has become, known when its body has been read to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// The plain bytes.
    pub plain: Plain,
    /// The number of stored bytes.
    pub stored_size_bytes: u64,
    /// Their SHA-256.
    pub stored_sha256: Digest,
}

impl Packing {
    /// Objects that are stored as they are.
    #[must_use]
    pub fn plain() -> Self {
        Self { encoding: Encoding::default(), lock: None, watch: None, proof: PlainProof::Digest }
    }

    /// Packs as the store's settings say; settings that say nothing of compression compress with zstd. Fetches
    /// the secrets that writing needs; public keys need none.
    ///
    /// # Errors
    /// Fails when a secret cannot be had or a key makes no sense.
    pub fn of(entry: &StoreEntry, secrets: &dyn Secrets) -> Result<Self, TransferError> {
        let compression = compression::chosen(entry.compression.as_ref())?;
        let locked = entry.encryption.as_ref().map(|settings| Lock::of(settings, secrets)).transpose()?;
        let (lock, encryption) = locked.unzip();
        Ok(Self { encoding: Encoding { compression, encryption }, lock, watch: None, proof: PlainProof::Digest })
    }

    /// Tells how far each body is that is sealed from now on; `total_bytes` are its plain bytes, where they are
    /// known before.
    #[must_use]
    pub fn watched(mut self, watch: Watch, total_bytes: Option<u64>) -> Self {
        self.watch = Some((watch, total_bytes));
        self
    }

    /// Takes no digest of the plain bytes, only of the stored ones: for content that proves itself when it is read,
    /// file by file. Half the work on a machine whose processor has no instructions for SHA-256.
    #[must_use]
    pub fn self_proving(self) -> Self {
        Self { proof: PlainProof::Nothing, ..self }
    }

    /// What a reader must know.
    #[must_use]
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What is appended to the name of a packed object: `.zst.age`; empty when it is stored as it is.
    #[must_use]
    pub fn suffix(&self) -> String {
        let compression = self.format().map_or("", compression::suffix);
        let encryption = self.lock.as_ref().map_or("", Lock::suffix);
        format!("{compression}{encryption}")
    }

    fn format(&self) -> Option<CompressionFormat> {
        self.encoding.compression.as_ref().map(|to| to.format)
    }

    /// Packs a body. Threads begin when the result is read for the first time, and end when it is dropped; a
    /// source that fails, or a thread of ours that does, fails the result.
    #[must_use]
    pub fn seal(&self, source: ByteStream) -> Sealed {
        let (meter, facts) = (Arc::<Meter>::default(), Arc::<OnceLock<Packed>>::default());
        let packed = Arc::<OnceLock<Packed>>::default();
        let sealing = Sealing { packing: self.clone(), meter: Arc::clone(&meter), packed: Arc::clone(&packed) };
        let told = Told { facts: Arc::clone(&facts), packed, meter: Arc::clone(&meter), watch: self.watch.clone() };
        let start = Box::new(move || {
            let cancel = CancellationToken::new();
            let parts = sealing.start(source, cancel.clone())?;
            Ok((parts, cancel.drop_guard()))
        });
        let body = Delivery::new(start, told, (Arc::clone(&meter), Stage::Store));
        Sealed { body: Box::new(body), facts, meter }
    }
}

impl Sealed {
    /// Splits the body from the teller of what it has become: `None` until the body was read to its end.
    pub fn split(self) -> (ByteStream, impl Fn() -> Option<Packed> + Send + Sync + use<>) {
        let facts = self.facts;
        (self.body, move || facts.get().copied())
    }
}

/// Publishes the facts when the reader has come to the end.
struct Told {
    facts: Arc<OnceLock<Packed>>,
    packed: Arc<OnceLock<Packed>>,
    meter: Arc<Meter>,
    watch: Option<(Watch, Option<u64>)>,
}

impl Hear for Told {
    fn passed(&mut self, bytes: usize) {
        self.meter.add_stored(bytes);
        if let Some((watch, total_bytes)) = &self.watch {
            watch(self.meter.progress(*total_bytes));
        }
    }

    fn ended(&mut self) {
        if let Some(packed) = self.packed.get() {
            // Told once: the stream ends once.
            let _ = self.facts.set(*packed);
        }
    }
}

/// The threads of one body.
struct Sealing {
    packing: Packing,
    meter: Arc<Meter>,
    packed: Arc<OnceLock<Packed>>,
}

impl Sealing {
    /// source ─► intake ─► workers ─► encryption ─► delivery, with a digest beside the intake and in the delivery.
    fn start(self, source: ByteStream, cancel: CancellationToken) -> io::Result<Parts> {
        let compressed = self.packing.encoding.compression.as_ref();
        let make = compressed.and_then(compression::compress);
        let lanes = make.map(|make| Lanes::new(make, (Arc::clone(&self.meter), Stage::Compress)));
        let block_bytes = self.packing.format().map_or(BLOCK_BYTES, |_| compression::CHUNK_BYTES);
        let is_plain = self.packing.encoding.is_plain();
        let counts = !is_plain && self.packing.proof == PlainProof::Digest;
        let (tally, counted) = if counts { Some(tally(Arc::clone(&self.meter))?) } else { None }.unzip();
        let (out, mut from) = flow(if lanes.is_some() { blocks() } else { 8 });
        let chopping = Chopping { out, lanes, tally, meter: Arc::clone(&self.meter) };
        let metered = (Arc::clone(&self.meter), Stage::Source);
        Intake { body: source, block_bytes, cancel, metered }.start(chopping)?;
        if let Some(lock) = self.packing.lock {
            let (to, sealed) = flow(8);
            let metered = (Arc::clone(&self.meter), Stage::Encrypt);
            thread::turn((from, to), metered, move |from, to| cipher::encrypt(&lock, from, to))?;
            from = sealed;
        }
        let (counter, parts) = counter();
        let (meter, packed) = (self.meter, self.packed);
        let plain = if is_plain { Noted::AsStored } else { counted.map_or(Noted::SizeOnly, Noted::Counted) };
        thread::start("transfer-delivery", move || {
            let delivered = deliver(from, plain, (meter, &counter));
            let last = delivered.map(|facts| {
                let _ = packed.set(facts);
                Part::End
            });
            // The reader may be gone.
            let _ = counter.blocking_send(last);
        })?;
        Ok(parts)
    }
}

/// What is known of the plain bytes in the end.
enum Noted {
    /// They are the stored ones.
    AsStored,
    /// They were digested on the way.
    Counted(Counted),
    /// Their number.
    SizeOnly,
}

/// Passes the stored bytes on and tells at the end what they were.
fn deliver(mut from: Inflow, plain: Noted, (meter, to): (Arc<Meter>, &Counter)) -> io::Result<Packed> {
    let mut stored = Count::new(Arc::clone(&meter));
    while let Some(block) = from.next()? {
        stored.add(&block);
        if !block.is_empty() {
            to.blocking_send(Ok(Part::Block(block))).map_err(|_| super::flow::abandoned())?;
        }
    }
    let stored = stored.finish();
    let plain = match plain {
        Noted::AsStored => stored.into(),
        Noted::Counted(counted) => counted.wait()?.into(),
        Noted::SizeOnly => Plain { size_bytes: meter.progress(None).plain_bytes, sha256: None },
    };
    Ok(Packed { plain, stored_size_bytes: stored.size_bytes, stored_sha256: stored.sha256 })
}

/// What the intake does with each block: digest it and hand it to a worker.
struct Chopping {
    out: Outflow,
    lanes: Option<Lanes>,
    tally: Option<Tally>,
    meter: Arc<Meter>,
}

impl Take for Chopping {
    fn block(&mut self, block: Bytes) -> io::Result<()> {
        self.meter.add_plain(block.len());
        if let Some(tally) = &self.tally {
            tally.add(&block)?;
        }
        match &mut self.lanes {
            Some(lanes) => lanes.submit(block, &mut self.out),
            None => self.out.send(block),
        }
    }

    fn finish(self, ended: io::Result<()>) {
        self.out.finish(ended);
    }
}
