//! How one object is read.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::broken::{Broken, Kind};
use super::delivery::{Counter, Delivery, Hear, Part, Parts, counter};
use super::flow::{BLOCK_BYTES, Inflow, Outflow, abandoned, flow};
use super::intake::{Intake, Take};
use super::keys::Opener;
use super::lanes::blocks;
use super::meter::{Meter, Stage};
use super::tally::{Count, Counted, Tally, tally};
use super::{Encoding, Expected, PlainFacts, TransferError, cipher, compression, thread};
use crate::action::{ByteStream, Secrets};
use crate::base::Digest;
use crate::language::inventory::{CompressionFormat, Encryption};

/// How the plain bytes of one object are had back, with the keys at hand.
#[derive(Clone)]
pub struct Unpacking {
    encoding: Encoding,
    opener: Option<Opener>,
}

impl Unpacking {
    /// Reads as the manifest says, with the keys of the store's settings.
    ///
    /// # Errors
    /// Fails when no key can be had for what is encrypted.
    pub fn of(encoding: &Encoding, keys: Option<&Encryption>, secrets: &dyn Secrets) -> Result<Self, TransferError> {
        let opener = encoding.encryption.as_ref().map(|how| Opener::of(how, keys, secrets)).transpose()?;
        Ok(Self { encoding: encoding.clone(), opener })
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
        let receiving = Receiving { out, tally, meter: Arc::clone(&self.meter) };
        let metered = (Arc::clone(&self.meter), Stage::Store);
        Intake { body: stored, block_bytes: BLOCK_BYTES, cancel, metered }.start(receiving)?;
        let format = self.unpacking.format();
        if let Some(opener) = self.unpacking.opener {
            let (to, plain) = flow(8);
            let metered = (Arc::clone(&self.meter), Stage::Decrypt);
            thread::turn((from, to), metered, move |from, to| cipher::decrypt(&opener, from, to))?;
            from = plain;
        }
        if format != CompressionFormat::None {
            let (to, plain) = flow(blocks());
            let (metered, meter) = ((Arc::clone(&self.meter), Stage::Decompress), Arc::clone(&self.meter));
            thread::turn((from, to), metered, move |from, to| compression::decompress(format, from, (to, &meter)))?;
            from = plain;
        }
        let (counter, parts) = counter();
        let proof = Proof { claim: self.claim, stored: counted, plain: Count::new(self.meter) };
        thread::start("transfer-delivery", move || {
            let last = proof.deliver(from, &counter).map(|()| Part::End);
            // The reader may be gone.
            let _ = counter.blocking_send(last);
        })?;
        Ok(parts)
    }
}

/// What the intake does with each block.
struct Receiving {
    out: Outflow,
    tally: Option<Tally>,
    meter: Arc<Meter>,
}

impl Take for Receiving {
    fn block(&mut self, block: Bytes) -> io::Result<()> {
        self.meter.add_stored(block.len());
        if let Some(tally) = &self.tally {
            tally.add(&block)?;
        }
        if block.is_empty() { Ok(()) } else { self.out.send(block) }
    }

    fn finish(self, ended: io::Result<()>) {
        self.out.finish(ended);
    }
}

/// Passes the plain bytes on and proves at the end that they are the right ones.
struct Proof {
    claim: Claim,
    /// Nothing where the stored bytes are the plain ones.
    stored: Option<Counted>,
    plain: Count,
}

impl Proof {
    fn deliver(mut self, from: Inflow, to: &Counter) -> io::Result<()> {
        let passed = self.pass(from, to);
        let plain = self.plain.finish();
        let stored = self.stored.map_or(Ok(plain), Counted::wait)?;
        match self.claim {
            Claim::All(expected) => {
                passed.map_err(|error| decide(error, stored == expected.stored))?;
                compare("it", stored, expected.stored)?;
                compare("it was stored as it should be, but its plain content", plain, expected.plain)
            }
            Claim::Plain(sha256) => {
                passed?;
                compare("its plain content", plain, PlainFacts { sha256, ..plain })
            }
            Claim::Nothing => passed,
        }
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

/// Decides by the digest of the stored bytes what the format itself cannot tell.
fn decide(error: io::Error, is_as_stored: bool) -> io::Error {
    match Broken::of(&error) {
        Some(broken) if broken.kind == Kind::Undecided && is_as_stored => {
            Broken::wrong_key(format!("it is what was stored, so the password does not fit: {broken}")).into()
        }
        Some(_) | None => error,
    }
}

fn compare(what: &str, found: PlainFacts, expected: PlainFacts) -> io::Result<()> {
    if found == expected {
        return Ok(());
    }
    let differs = match found.size_bytes == expected.size_bytes {
        true => format!("{what} has the SHA-256 {}, not {}", found.sha256, expected.sha256),
        false => format!("{what} has {} bytes, not {}", found.size_bytes, expected.size_bytes),
    };
    Err(Broken::damaged(differs).into())
}
