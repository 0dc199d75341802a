//! Names of WAL segments and their arithmetic.

use std::fmt;

use super::lsn::{Lsn, Timeline};

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// The size that `initdb` chooses.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Makes a size; `None` when PostgreSQL would not accept it.
    #[must_use]
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(Self(bytes))
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Returns how many segments share the middle eight digits of a name.
    #[must_use]
    pub fn per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }

    /// Returns the number of the segment that holds the byte at `lsn`.
    #[must_use]
    pub fn number_of(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }
}

impl<'de> serde::Deserialize<'de> for SegmentSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = u32::deserialize(deserializer)?;
        Self::new(bytes).ok_or_else(|| serde::de::Error::custom(format!("`{bytes}` is no size of a WAL segment")))
    }
}

/// The name of a segment: 24 hex digits. What they mean as a position depends on the segment size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentName {
    timeline: Timeline,
    log: u32,
    seg: u32,
}

/// The text is not a segment's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a WAL segment (24 hex digits)")]
pub struct ParseSegmentNameError(String);

impl SegmentName {
    /// Names segment `number` of a timeline.
    #[must_use]
    pub fn new(timeline: Timeline, number: u64, size: SegmentSize) -> Self {
        let log = u32::try_from(number / size.per_log()).unwrap_or(u32::MAX);
        let seg = u32::try_from(number % size.per_log()).unwrap_or(u32::MAX);
        Self { timeline, log, seg }
    }

    /// Names the segment that holds the byte at `lsn`.
    #[must_use]
    pub fn holding(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        Self::new(timeline, size.number_of(lsn), size)
    }

    /// Returns the timeline.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        self.timeline
    }

    /// Returns the segment's number from the start of the WAL.
    #[must_use]
    pub fn number(self, size: SegmentSize) -> u64 {
        u64::from(self.log) * size.per_log() + u64::from(self.seg)
    }

    /// Tells whether the last eight digits can occur with this segment size.
    #[must_use]
    pub fn fits(self, size: SegmentSize) -> bool {
        u64::from(self.seg) < size.per_log()
    }

    /// Returns the position of its first byte.
    #[must_use]
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number(size).saturating_mul(size.bytes()))
    }

    /// Returns the position after its last byte.
    #[must_use]
    pub fn end(self, size: SegmentSize) -> Lsn {
        self.start(size).plus(size.bytes())
    }

    /// Returns the segment that follows on the same timeline.
    #[must_use]
    pub fn next(self, size: SegmentSize) -> Self {
        Self::new(self.timeline, self.number(size).saturating_add(1), size)
    }

    /// Returns the segment before it on the same timeline; `None` before the first.
    #[must_use]
    pub fn prev(self, size: SegmentSize) -> Option<Self> {
        Some(Self::new(self.timeline, self.number(size).checked_sub(1)?, size))
    }

    /// Returns the segment with the same number on another timeline.
    #[must_use]
    pub fn on(self, timeline: Timeline) -> Self {
        Self { timeline, ..self }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.log, self.seg)
    }
}

/// Reads eight upper-case hex digits.
pub(crate) fn hex8(text: &str) -> Option<u32> {
    let fits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    fits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl std::str::FromStr for SegmentName {
    type Err = ParseSegmentNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |from: usize| text.get(from..from + 8).and_then(hex8);
        let parsed = match (text.len(), part(0), part(8), part(16)) {
            (24, Some(timeline), Some(log), Some(seg)) if timeline > 0 => {
                Some(Self { timeline: Timeline(timeline), log, seg })
            }
            _ => None,
        };
        parsed.ok_or_else(|| ParseSegmentNameError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{SegmentName, SegmentSize};
    use crate::pgformat::{Lsn, Timeline};

    #[test]
    fn after_ff_comes_00_of_the_next_log() {
        let name: SegmentName = "0000000100000000000000FF".parse().expect("name");
        let next = name.next(SegmentSize::DEFAULT);
        assert_eq!(next.to_string(), "000000010000000100000000");
        assert_eq!(next.prev(SegmentSize::DEFAULT), Some(name));
        assert_eq!(next.start(SegmentSize::DEFAULT), Lsn(1 << 32));
    }

    #[test]
    fn a_name_depends_on_the_segment_size() {
        let small = SegmentSize::new(1 << 20).expect("size");
        let lsn: Lsn = "0/12345678".parse().expect("lsn");
        assert_eq!(SegmentName::holding(Timeline(2), lsn, small).to_string(), "000000020000000000000123");
        assert_eq!(
            SegmentName::holding(Timeline(2), lsn, SegmentSize::DEFAULT).to_string(),
            "000000020000000000000012"
        );
        let wide: SegmentName = "000000010000000000000FFF".parse().expect("name");
        assert!(wide.fits(small) && !wide.fits(SegmentSize::DEFAULT));
    }

    #[test]
    fn impossible_numbers_do_not_overflow() {
        let name: SegmentName = "00000001FFFFFFFFFFFFFFFF".parse().expect("name");
        for size in [SegmentSize::DEFAULT, SegmentSize::new(1 << 30).expect("size")] {
            assert!(!name.fits(size));
            assert!(name.end(size) >= name.start(size) && name.next(size).prev(size).is_some());
        }
    }

    #[test]
    fn what_is_not_a_segment_is_refused() {
        for text in [
            "",
            "00000001000000000000000",
            "00000000000000000000000A",
            "00000001000000000000000a",
            "00000001000000000000000é",
        ] {
            assert!(text.parse::<SegmentName>().is_err(), "{text}");
        }
        assert!(SegmentSize::new(3 << 20).is_none());
    }
}
