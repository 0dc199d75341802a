//! The hash chain of a journal: how events become lines, and how lines are held against each other.
//!
//! A line is sealed as [`crate::base::seal`] says: verification looks at bytes and never at a re-serialization, so that
//! lines of a newer version keep their place in the chain. Nothing here does I/O.

use serde::Serialize;

use crate::base::seal::{BrokenSeal, check_hash, seal};
use crate::base::{Digest, EventSeq, RunId, Timestamp};
use crate::event::{Event, EventKind, FORMAT};

/// The end of a chain: what the next line has to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    run: RunId,
    seq: EventSeq,
    at: Timestamp,
    head: Digest,
    plan: Digest,
}

/// An event with its line, the final newline included.
#[derive(Debug, Clone, PartialEq)]
pub struct Linked {
    /// The event.
    pub event: Event,
    /// Its bytes.
    pub line: Vec<u8>,
}

/// Why a line does not continue the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The bytes do not end in a `hash` member.
    #[error("the line has no hash at its end")]
    NoHash,
    /// The bytes were changed.
    #[error("the line's bytes do not have the hash it names")]
    WrongHash,
    /// A line before it is missing or was replaced.
    #[error("the line does not follow the one before it: expected `prev` {expected}, found {found}")]
    WrongPrev {
        /// The hash of the line before.
        expected: Digest,
        /// What the line says.
        found: Digest,
    },
    /// Numbers are not gapless.
    #[error("the line is numbered {found}, expected {expected}")]
    WrongSeq {
        /// The number that follows.
        expected: u64,
        /// What the line says.
        found: u64,
    },
    /// The line belongs to another run.
    #[error("the line belongs to run `{0}`")]
    OtherRun(RunId),
    /// Time went back.
    #[error("the line's time is before that of the line before it")]
    TimeWentBack,
    /// The first line is not the start of a run.
    #[error("the first line is not the start of a run")]
    NoStart,
    /// Written in a format this version does not know.
    #[error("the line is intact, but written in format {0}; this version reads format {FORMAT}")]
    NewerFormat(u32),
    /// The hash is right but the content is not an event as this version knows it.
    #[error("the line is intact, but this version cannot read it: {0}")]
    Unreadable(String),
}

#[derive(Serialize)]
struct Body<'a> {
    seq: EventSeq,
    at: Timestamp,
    run: &'a RunId,
    prev: Digest,
    kind: &'a EventKind,
}

impl Chain {
    /// The chain of a new journal; its first line continues the digest of `plan.json`.
    #[must_use]
    pub fn start(run: RunId, plan: Digest) -> Self {
        Self { run, seq: EventSeq(0), at: Timestamp::MIN, head: plan, plan }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The last event's number, 0 before the first.
    #[must_use]
    pub fn seq(&self) -> EventSeq {
        self.seq
    }

    /// The hash of the last line, the plan's digest before the first.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.head
    }

    /// The digest of `plan.json`.
    #[must_use]
    pub fn plan(&self) -> Digest {
        self.plan
    }

    /// Numbers and chains an event. Its time never goes back.
    ///
    /// The event returned was read back from its line: a live run folds exactly what a resume will fold, to the
    /// last digit of a number, and what could not be read again is refused before it is durable.
    ///
    /// # Errors
    /// Fails when the event cannot be written as JSON and read back; the chain is as before.
    pub fn link(&mut self, at: Timestamp, kind: EventKind) -> Result<Linked, serde_json::Error> {
        let (seq, at) = (self.seq.next(), at.max(self.at));
        let body = serde_json::to_vec(&Body { seq, at, run: &self.run, prev: self.head, kind: &kind })?;
        let (line, hash) = seal(body);
        let event = serde_json::from_slice(&line)?;
        (self.seq, self.at, self.head) = (seq, at, hash);
        Ok(Linked { event, line })
    }

    /// Reads a line (without its newline) that has to continue the chain, and moves on to it.
    ///
    /// # Errors
    /// Fails with the reason; the chain is as before.
    pub fn verify(&mut self, line: &[u8]) -> Result<Event, Broken> {
        check_hash(line)?;
        let event: Event = serde_json::from_slice(line).map_err(|error| Broken::Unreadable(error.to_string()))?;
        if event.prev != self.head {
            return Err(Broken::WrongPrev { expected: self.head, found: event.prev });
        }
        if event.run != self.run {
            return Err(Broken::OtherRun(event.run));
        }
        if event.seq != self.seq.next() {
            return Err(Broken::WrongSeq { expected: self.seq.next().0, found: event.seq.0 });
        }
        if event.at < self.at {
            return Err(Broken::TimeWentBack);
        }
        self.check_start(&event)?;
        (self.seq, self.at, self.head) = (event.seq, event.at, event.hash);
        Ok(event)
    }

    fn check_start(&self, event: &Event) -> Result<(), Broken> {
        if self.seq != EventSeq(0) {
            return Ok(());
        }
        match &event.kind {
            EventKind::RunStarted(header) if header.format > FORMAT => Err(Broken::NewerFormat(header.format)),
            EventKind::RunStarted(header) if header.plan != self.plan => {
                Err(Broken::WrongPrev { expected: self.plan, found: header.plan })
            }
            EventKind::RunStarted(_) => Ok(()),
            _ => Err(Broken::NoStart),
        }
    }
}

impl From<BrokenSeal> for Broken {
    fn from(broken: BrokenSeal) -> Self {
        match broken {
            BrokenSeal::Missing => Self::NoHash,
            BrokenSeal::Wrong => Self::WrongHash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Broken, Chain};
    use crate::base::seal::{check_hash, seal, whole_line_prefix};
    use crate::base::{Digest, EventSeq, Timestamp};
    use crate::event::EventKind;
    use crate::journal::sample;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn started() -> (Chain, Vec<u8>) {
        let mut chain = Chain::start(sample::run(), sample::plan_digest());
        let linked = chain.link(at(100), sample::started()).expect("serializes");
        (chain, linked.line)
    }

    #[test]
    fn a_line_holds_its_hash_last_and_verifies() {
        let (chain, line) = started();
        let text = String::from_utf8(line.clone()).expect("utf-8");
        assert!(text.ends_with(&format!(",\"hash\":\"{}\"}}\n", chain.head())), "{text}");
        let mut reader = Chain::start(sample::run(), sample::plan_digest());
        let event = reader.verify(&line[..line.len() - 1]).expect("verifies");
        assert_eq!((event.seq, event.prev, reader), (EventSeq(1), sample::plan_digest(), chain));
    }

    #[test]
    fn the_hash_is_that_of_the_line_without_it() {
        let (chain, line) = started();
        let text = String::from_utf8(line).expect("utf-8");
        let bare = text.trim_end().replace(&format!(",\"hash\":\"{}\"", chain.head()), "");
        assert_eq!(Digest::of(bare.as_bytes()), chain.head());
    }

    #[test]
    fn time_never_goes_back() {
        let (mut chain, _) = started();
        let linked = chain.link(at(50), EventKind::TailCut { bytes: 1 }).expect("serializes");
        assert_eq!(linked.event.at, at(100));
    }

    fn noted(data: serde_json::Value) -> EventKind {
        EventKind::StepNoted { step: "stage".parse().expect("an id"), message: String::new(), data }
    }

    #[test]
    fn a_live_run_sees_the_very_numbers_that_a_resume_will_read() {
        let (mut chain, _) = started();
        let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..2_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = f64::from_bits(bits);
            let kind = noted(serde_json::json!(number.is_finite().then_some(number)));
            let mut reader = chain.clone();
            let linked = chain.link(at(100), kind).expect("serializes");
            assert_eq!(reader.verify(&linked.line[..linked.line.len() - 1]), Ok(linked.event));
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_refused_before_it_is_written() {
        let (mut chain, _) = started();
        let before = chain.clone();
        let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]));
        assert!(chain.link(at(100), noted(deep)).is_err());
        assert_eq!(chain, before);
    }

    #[test]
    fn every_flipped_bit_of_a_line_is_noticed() {
        let (_, line) = started();
        for index in 0..line.len() - 1 {
            for bit in 0..8 {
                let mut damaged = line[..line.len() - 1].to_vec();
                damaged[index] ^= 1 << bit;
                assert!(check_hash(&damaged).is_err(), "byte {index} bit {bit}");
            }
        }
    }

    #[test]
    fn a_left_out_line_is_noticed() {
        let (mut chain, first) = started();
        chain.link(at(101), EventKind::TailCut { bytes: 1 }).expect("serializes");
        let third = chain.link(at(102), EventKind::TailCut { bytes: 2 }).expect("serializes");
        let mut reader = Chain::start(sample::run(), sample::plan_digest());
        reader.verify(&first[..first.len() - 1]).expect("verifies");
        let before = reader.clone();
        let found = reader.verify(&third.line[..third.line.len() - 1]);
        assert!(matches!(found, Err(Broken::WrongPrev { .. })), "{found:?}");
        assert_eq!(reader, before, "a refused line moves nothing");
    }

    #[test]
    fn a_kind_of_a_newer_version_keeps_its_place() {
        let (mut chain, _) = started();
        let body = format!(
            r#"{{"seq":2,"at":"1970-01-01T00:02:00Z","run":"{}","prev":"{}","kind":{{"type":"brought_later","x":[1]}}"#,
            sample::run(),
            chain.head()
        );
        let hash = Digest::of(format!("{body}}}").as_bytes());
        let event = chain.verify(format!("{body},\"hash\":\"{hash}\"}}").as_bytes()).expect("verifies");
        assert_eq!((event.kind, chain.head()), (EventKind::Unknown, hash));
    }

    #[test]
    fn a_whole_line_is_found_before_foreign_bytes_only() {
        let (_, line) = started();
        let whole = line.len() - 1;
        let mut foreign = line.clone();
        foreign[whole] = b'x';
        assert_eq!(whole_line_prefix(&foreign), Some(whole));
        assert_eq!(whole_line_prefix(&line[..whole - 1]), None);
        let twice = [&line[..whole], b"x", &line[..whole]].concat();
        assert_eq!(whole_line_prefix(&twice), Some(whole));
        let nested = [b"{\"kind\":{\"x\":1,\"hash\":\"".as_slice(), &[b'0'; 64], b"\"}"].concat();
        let (sealed, _) = seal([nested.as_slice(), b"}"].concat());
        assert_eq!(whole_line_prefix(&sealed), Some(sealed.len() - 1), "an inner member of that name is passed over");
    }
}
