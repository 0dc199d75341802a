//! How one object is read.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::broken::{Broken, Kind};
use super::cipher::{self, Clue};
use super::delivery::{Counter, Delivery, Hear, Part, Parts, counter};
use super::flow::{BLOCK_BYTES, Inflow, Outflow, abandoned, flow};
use super::intake::{Intake, Take};
use super::keys::{Doubt, Ring};
use super::lanes::blocks;
use super::meter::{Meter, Stage};
use super::tally::{Count, Counted, Tally, tally};
use super::{Encoding, Expected, Plain, PlainFacts, TransferError, compression, thread};
use crate::action::{ByteStream, Secrets};
use crate::base::Digest;
use crate::language::inventory::{CompressionFormat, Encryption};

/// How the plain bytes of one object are had back, with the keys at hand.
#[derive(Clone)]
pub struct Unpacking {
    encoding: Encoding,
    ring: Option<Ring>,
}

impl Unpacking {
    /// Reads as the manifest says, with the keys of the store's settings, those of today and the earlier ones.
    ///
    /// # Errors
    /// Fails when no key can be had for what is encrypted.
    pub fn of(encoding: &Encoding, keys: Option<&Encryption>, secrets: &dyn Secrets) -> Result<Self, TransferError> {
        let ring = encoding.encryption.as_ref().map(|how| Ring::of(how, keys, secrets)).transpose()?;
        Ok(Self { encoding: encoding.clone(), ring })
    }

    /// Gives the plain bytes. The stream ends well only when both sizes and both digests are as expected;
    /// else its last read is an error of kind `InvalidData` that says what differs: [`TransferError::of_reading`]
    /// names the object in it. What was read before is not proven: publish nothing before the end. Threads begin
    /// when it is read for the first time, and end when it is dropped.
    #[must_use]
    pub fn open(&self, stored: ByteStream, expected: Expected) -> ByteStream {
        self.open_metered(stored, expected, Arc::default())
    }

    /// Gives the plain bytes of what nobody has noted the facts of, proven by the digest of the plain bytes where one is
    /// known, else by the format alone: age, gpg and the checksums of compressed frames notice damage, `openssl enc` and
    /// plain bytes do not.
    #[must_use]
    pub fn open_foreign(&self, stored: ByteStream, plain: Option<Digest>) -> ByteStream {
        self.open_claimed(stored, plain.map_or(Claim::Nothing, Claim::Plain), Arc::default())
    }

    pub(super) fn open_metered(&self, stored: ByteStream, expected: Expected, meter: Arc<Meter>) -> ByteStream {
        self.open_claimed(stored, Claim::All(expected), meter)
    }

    fn open_claimed(&self, stored: ByteStream, claim: Claim, meter: Arc<Meter>) -> ByteStream {
        let opening = Opening { unpacking: self.clone(), claim, meter: Arc::clone(&meter) };
        let start = Box::new(move || {
            let cancel = CancellationToken::new();
            let parts = opening.start(stored, cancel.clone())?;
            Ok((parts, cancel.drop_guard()))
        });
        Box::new(Delivery::new(start, Passing(Arc::clone(&meter)), (meter, Stage::Target)))
    }

    fn format(&self) -> CompressionFormat {
        self.encoding.compression.as_ref().map_or(CompressionFormat::None, |how| how.format)
    }
}

struct Passing(Arc<Meter>);

impl Hear for Passing {
    fn passed(&mut self, bytes: usize) {
        self.0.add_plain(bytes);
    }

    fn ended(&mut self) {}
}

/// The threads of one object.
struct Opening {
    unpacking: Unpacking,
    claim: Claim,
    meter: Arc<Meter>,
}

/// What is known of an object before it is read.
#[derive(Clone, Copy)]
enum Claim {
    All(Expected),
    /// The SHA-256 of its plain bytes.
    Plain(Digest),
    Nothing,
}

impl Opening {
    /// store ─► intake ─► decryption ─► decompression ─► delivery, with a digest beside the intake and in the delivery.
    fn start(self, stored: ByteStream, cancel: CancellationToken) -> io::Result<Parts> {
        let is_plain = self.unpacking.encoding.is_plain();
        let (tally, counted) = if is_plain { None } else { Some(tally(Arc::clone(&self.meter))?) }.unzip();
        let (out, mut from) = flow(8);
        let receiving = Receiving { out: Some(out), tally, unread: 0, meter: Arc::clone(&self.meter) };
        let metered = (Arc::clone(&self.meter), Stage::Store);
        Intake { body: stored, block_bytes: BLOCK_BYTES, cancel, metered }.start(receiving)?;
        let format = self.unpacking.format();
        let doubt = self.unpacking.ring.as_ref().map_or(Doubt::Content, Ring::doubt);
        let tried = self.unpacking.ring.as_ref().and_then(Ring::told);
        if let Some(ring) = self.unpacking.ring {
            let clue = Clue { format, plain: self.claim.plain() };
            let (to, plain) = flow(8);
            let metered = (Arc::clone(&self.meter), Stage::Decrypt);
            thread::turn((from, to), metered, move |from, to| cipher::decrypt_fitting(&ring, clue, from, to))?;
            from = plain;
        }
        if format != CompressionFormat::None {
            let (to, plain) = flow(blocks());
            let (metered, meter) = ((Arc::clone(&self.meter), Stage::Decompress), Arc::clone(&self.meter));
            thread::turn((from, to), metered, move |from, to| compression::decompress(format, from, (to, &meter)))?;
            from = plain;
        }
        let (counter, parts) = counter();
        let plain = self.claim.count(self.meter, is_plain);
        let proof = Proof { claim: self.claim, doubt, tried, stored: counted, plain };
        thread::start("transfer-delivery", move || {
            let last = proof.deliver(from, &counter).map(|()| Part::End);
            // The reader may be gone.
            let _ = counter.blocking_send(last);
        })?;
        Ok(parts)
    }
}

/// How much is still read of an object that cannot be unpacked, so that its digest tells whether the key is wrong
/// or the object.
const POST_MORTEM_BYTES: usize = 16 << 20;

/// What the intake does with each block.
struct Receiving {
    /// Nothing once nobody can go on with it.
    out: Option<Outflow>,
    tally: Option<Tally>,
    unread: usize,
    meter: Arc<Meter>,
}

impl Take for Receiving {
    fn block(&mut self, block: Bytes) -> io::Result<()> {
        self.meter.add_stored(block.len());
        if let Some(tally) = &self.tally {
            tally.add(&block)?;
        }
        if block.is_empty() {
            return Ok(());
        }
        let size_bytes = block.len();
        self.out = self.out.take().and_then(|mut out| out.send(block).is_ok().then_some(out));
        if self.out.is_none() {
            self.unread += size_bytes;
        }
        if self.unread > POST_MORTEM_BYTES { Err(abandoned()) } else { Ok(()) }
    }

    fn finish(self, ended: io::Result<()>) {
        if let Some(out) = self.out {
            out.finish(ended);
        }
    }
}

/// Passes the plain bytes on and proves at the end that they are the right ones.
struct Proof {
    claim: Claim,
    doubt: Doubt,
    /// Which keys there were, where it was not just one.
    tried: Option<String>,
    /// Nothing where the stored bytes are the plain ones.
    stored: Option<Counted>,
    plain: Count,
}

impl Proof {
    fn deliver(mut self, from: Inflow, to: &Counter) -> io::Result<()> {
        let passed = self.pass(from, to);
        let (size_bytes, digested) = (self.plain.size_bytes(), self.plain.is_digested());
        let facts = self.plain.finish();
        let plain = Plain { size_bytes, sha256: digested.then_some(facts.sha256) };
        let stored = self.stored.map_or(Ok(facts), Counted::wait)?;
        let claim = self.claim;
        let proven = passed.and_then(|()| claim.compare(stored, plain).map_err(io::Error::from));
        proven.map_err(|error| name_keys(decide(error, self.doubt, (stored, claim)), self.tried.as_deref()))
    }

    fn pass(&mut self, mut from: Inflow, to: &Counter) -> io::Result<()> {
        while let Some(block) = from.next()? {
            self.plain.add(&block);
            if let Claim::All(expected) = self.claim
                && self.plain.size_bytes() > expected.plain.size_bytes
            {
                let what = format!("it unpacks to more than the {} bytes it should", expected.plain.size_bytes);
                return Err(Broken::undecided(what).into());
            }
            if !block.is_empty() {
                to.blocking_send(Ok(Part::Block(block))).map_err(|_| abandoned())?;
            }
        }
        Ok(())
    }
}

impl Claim {
    /// What counts the plain bytes: without a digest where none is known to compare it with.
    fn count(self, meter: Arc<Meter>, is_plain: bool) -> Count {
        match self {
            Self::All(Expected { plain: Plain { sha256: None, .. }, .. }) if !is_plain => Count::size_only(meter),
            Self::All(_) | Self::Plain(_) | Self::Nothing => Count::new(meter),
        }
    }

    fn compare(self, stored: PlainFacts, plain: Plain) -> Result<(), Broken> {
        match self {
            Self::All(expected) => {
                compare("it", stored.into(), expected.stored.into()).map_err(Broken::damaged)?;
                compare("its plain content", plain, expected.plain).map_err(Broken::undecided)
            }
            Self::Plain(sha256) => {
                compare("its plain content", plain, Plain { sha256: Some(sha256), ..plain }).map_err(Broken::undecided)
            }
            Self::Nothing => Ok(()),
        }
    }

    /// The digest of the plain bytes.
    fn plain(self) -> Option<Digest> {
        match self {
            Self::All(expected) => expected.plain.sha256,
            Self::Plain(sha256) => Some(sha256),
            Self::Nothing => None,
        }
    }

    /// What the stored bytes say of the key, where what unpacks them cannot tell.
    fn verdict(self, stored: PlainFacts) -> Verdict {
        match self {
            Self::All(expected) if stored == expected.stored => Verdict::AsStored,
            Self::All(expected) if stored.size_bytes >= expected.stored.size_bytes => Verdict::Other,
            Self::All(_) | Self::Plain(_) | Self::Nothing => Verdict::Unknown,
        }
    }
}

/// What is known of the stored bytes that were read.
enum Verdict {
    /// They are what was stored.
    AsStored,
    /// They are not.
    Other,
    /// They were not read to their end, or nobody knows what they should be.
    Unknown,
}

/// Decides what the format itself cannot tell, by the stored bytes that were read.
fn decide(error: io::Error, doubt: Doubt, (stored, claim): (PlainFacts, Claim)) -> io::Error {
    let Some(broken) = Broken::of(&error).filter(|broken| broken.kind == Kind::Undecided) else { return error };
    let decided = match (doubt, claim.verdict(stored)) {
        (Doubt::Key, Verdict::AsStored) => {
            Broken::wrong_key(format!("it is exactly what was stored, so the password does not fit: {broken}"))
        }
        (Doubt::Key, Verdict::Unknown) => {
            Broken::wrong_key(format!("the password does not fit, or it is damaged: {broken}"))
        }
        (Doubt::Content, _) | (Doubt::Key, Verdict::Other) => Broken::damaged(broken.to_string()),
    };
    decided.into()
}

/// Says of a key that does not fit which ones there were.
fn name_keys(error: io::Error, tried: Option<&str>) -> io::Error {
    let broken = Broken::of(&error).filter(|broken| broken.kind == Kind::WrongKey).map(ToString::to_string);
    match (broken, tried) {
        (Some(what), Some(tried)) => Broken::wrong_key(format!("{what} ({tried})")).into(),
        (Some(_), None) | (None, _) => error,
    }
}

/// Says what differs.
pub(super) fn compare(what: &str, found: Plain, expected: Plain) -> Result<(), String> {
    if found.size_bytes != expected.size_bytes {
        return Err(format!("{what} has {} bytes, not {}", found.size_bytes, expected.size_bytes));
    }
    match (found.sha256, expected.sha256) {
        (_, None) => Ok(()),
        (found, expected) if found == expected => Ok(()),
        (found, Some(expected)) => {
            let found = found.map_or_else(|| "(not taken)".to_owned(), |found| found.to_string());
            Err(format!("{what} has the SHA-256 {found}, not {expected}"))
        }
    }
}
