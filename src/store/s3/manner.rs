//! How bodies are sent: what a server takes is found out with the first body and remembered.

use std::sync::atomic::{AtomicU8, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

use crate::language::inventory::Checksums;

/// What the server compares a body with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// CRC32C.
    Crc32c,
    /// MD5.
    Md5,
    /// Nothing but a signature.
    None,
}

/// Whether the signature of a request covers its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// It does, which costs both sides a SHA-256.
    Signed,
    /// It does not: TLS, or that there is no network between, keeps the body from changes.
    Unsigned,
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) check: Check,
    pub(super) payload: Payload,
}

const UNKNOWN: u8 = 0;
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// The manner a server is first asked with, the one it is asked with when it refuses that, and which it took.
#[derive(Debug)]
pub(super) struct Manners {
    first: Manner,
    second: Manner,
    taken: AtomicU8,
}

impl Manners {
    /// `guarded` tells whether nobody can change a body between us and the server.
    pub(super) fn new(checksums: Checksums, guarded: Guard) -> Self {
        let (first, second) = match checksums {
            Checksums::Auto => (Check::Crc32c, Check::Md5),
            Checksums::Crc32c => (Check::Crc32c, Check::Crc32c),
            Checksums::Md5 => (Check::Md5, Check::Md5),
            Checksums::None => (Check::None, Check::None),
        };
        let payload = match guarded {
            Guard::Sealed => Payload::Unsigned,
            Guard::Open => Payload::Signed,
        };
        Self {
            first: Manner { check: first, payload },
            second: Manner { check: second, payload: Payload::Signed },
            taken: AtomicU8::new(UNKNOWN),
        }
    }

    /// The manner to use now.
    pub(super) fn now(&self) -> Manner {
        if self.taken.load(Ordering::Relaxed) == SECOND { self.second } else { self.first }
    }

    /// The manner to try after a refusal of `refused`; none when the server is known to take that.
    pub(super) fn other_than(&self, refused: Manner) -> Option<Manner> {
        let unknown = self.taken.load(Ordering::Relaxed) == UNKNOWN;
        (unknown && refused == self.first && self.first != self.second).then_some(self.second)
    }

    /// Remembers that the server took it.
    pub(super) fn took(&self, manner: Manner) {
        let taken = if manner == self.first { FIRST } else { SECOND };
        let _ = self.taken.compare_exchange(UNKNOWN, taken, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// What lies between us and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// TLS, or no network at all.
    Sealed,
    /// A network.
    Open,
}

impl Guard {
    /// Judges by the address of the server; without one it is the provider's own, by TLS.
    pub(super) fn of(endpoint: Option<&str>) -> Self {
        let Some(rest) = endpoint.and_then(|endpoint| endpoint.strip_prefix("http://")) else { return Self::Sealed };
        let host = rest.split('/').next().unwrap_or_default();
        let here = |name: &str| host.strip_prefix(name).is_some_and(|port| port.is_empty() || port.starts_with(':'));
        if ["127.0.0.1", "localhost", "[::1]"].into_iter().any(here) { Self::Sealed } else { Self::Open }
    }
}

/// The checksum of a body, as the headers of a request want it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) crc32c: Option<String>,
    pub(super) md5: Option<String>,
}

impl Checksum {
    pub(super) fn of(check: Check, bytes: &[u8]) -> Self {
        match check {
            Check::Crc32c => Self { crc32c: Some(crc32c_text(bytes)), md5: None },
            Check::Md5 => Self { crc32c: None, md5: Some(BASE64.encode(Md5::digest(bytes))) },
            Check::None => Self::default(),
        }
    }
}

/// CRC32C in base64, as S3 writes it.
pub(super) fn crc32c_text(bytes: &[u8]) -> String {
    BASE64.encode(crc32c::crc32c(bytes).to_be_bytes())
}

/// MD5 in hexadecimal, as S3 writes it in most entity tags.
pub(super) fn md5_text(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_a_server_refuses_once_is_not_tried_again() {
        let manners = Manners::new(Checksums::Auto, Guard::Sealed);
        let first = manners.now();
        assert_eq!(first, Manner { check: Check::Crc32c, payload: Payload::Unsigned });
        let second = manners.other_than(first).unwrap();
        assert_eq!(second, Manner { check: Check::Md5, payload: Payload::Signed });
        manners.took(second);
        assert_eq!((manners.now(), manners.other_than(second)), (second, None));
    }

    #[test]
    fn what_a_server_took_once_is_not_doubted() {
        let manners = Manners::new(Checksums::Auto, Guard::Open);
        manners.took(manners.now());
        assert_eq!(manners.other_than(manners.now()), None);
    }

    #[test]
    fn a_body_is_unsigned_only_where_nobody_can_change_it() {
        for sealed in [None, Some("https://s3.example.org"), Some("http://127.0.0.1:9000"), Some("http://localhost")] {
            assert_eq!(Guard::of(sealed), Guard::Sealed, "{sealed:?}");
        }
        for open in ["http://s3.example.org", "http://127.0.0.1.example.org", "http://localhost.evil:80/x"] {
            assert_eq!(Guard::of(Some(open)), Guard::Open, "{open}");
        }
    }

    #[test]
    fn checksums_are_written_as_the_manual_of_s3_writes_them() {
        assert_eq!(crc32c_text(b"123456789"), "4waSgw==");
        assert_eq!(md5_text(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(Checksum::of(Check::Md5, b"").md5.unwrap(), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}
