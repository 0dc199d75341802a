//! What must be forgotten: the lines of the erasure ledger and the key that hashes subjects. Pure but for [`Erasures`].
//!
//! The ledger is `erasure.jsonl` of the state folder, written by the journal's room, and each of its lines lies once
//! more where [`SHIPPED`] says. A line is sealed and chained: `hash` is its last member and covers the line without it,
//! `prev` is the hash of the line before. It holds keyed hashes and never an identifier.

use hmac::{Hmac, KeyInit, Mac as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ActionError;
use crate::base::seal::{check_hash, whole_line_prefix};
use crate::base::secret::SecretText;
use crate::base::{Digest, Timestamp};

/// Where the store of `audit.ship` has the lines, one object each: below it `NUMBER-DIGEST`, numbers from 00000001.
pub const SHIPPED: &str = "runbook-audit/erasure/";

/// What the id of a key is the keyed hash of.
const KEY_ID: &[u8] = b"runbook erasure key";

/// The shortest key that is taken.
const SHORTEST_KEY: usize = 32;

/// Gives the erasure ledger of the state folder.
pub trait Erasures: Send + Sync {
    /// Reads the ledger as it is; a missing one is empty.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    fn bytes(&self) -> Result<Vec<u8>, ActionError>;
}

/// No ledger at all: for what has no state folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoErasures;

impl Erasures for NoErasures {
    fn bytes(&self) -> Result<Vec<u8>, ActionError> {
        Ok(Vec::new())
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasureLine {
    /// The version of this format: 1.
    pub format: u32,
    /// Gapless, from 1.
    pub n: u64,
    /// When it was written.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The hash of the line before; of nothing for the first.
    #[schemars(with = "String")]
    pub prev: Digest,
    /// Who asked for it.
    pub by: String,
    /// What must be forgotten.
    pub forget: Forget,
}

/// One line as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SealedErasure {
    /// What it says.
    #[serde(flatten)]
    pub line: ErasureLine,
    /// SHA-256 of the line without this member, which is the last one.
    #[schemars(with = "String")]
    pub hash: Digest,
}

/// What must be forgotten: rows whose column has a value with this keyed hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forget {
    /// HMAC-SHA256 of the value's text in UTF-8, as 64 hex digits.
    pub subject: String,
    /// The first 16 hex digits of the HMAC of `runbook erasure key`: tells one key from another.
    pub key_id: String,
    /// The database of the inventory.
    pub database: String,
    /// The database within the server; absent: the `dbname` of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbname: Option<String>,
    /// The table, with its schema when it is not `public`.
    pub table: String,
    /// The column.
    pub column: String,
    /// Whether it must be forgotten; absent: it must. A line that lifts takes back those before it about the same subject
    /// in the same column.
    #[serde(default, skip_serializing_if = "Word::is_forget")]
    pub word: Word,
    /// What is done to the rows; absent: they are deleted.
    #[serde(default, skip_serializing_if = "Treatment::is_delete")]
    pub treatment: Treatment,
    /// Why, without anything that tells who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a line says of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It must be forgotten.
    #[default]
    Forget,
    /// It need not be any more: they came back, or the line was wrong.
    Lift,
}

impl Word {
    /// Tells whether somebody must be forgotten.
    #[must_use]
    pub fn is_forget(&self) -> bool {
        *self == Self::Forget
    }
}

impl Forget {
    /// Tells whether two lines are about the same subject in the same column.
    #[must_use]
    pub fn is_about(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.database.clone(), one.dbname.clone(), one.table.clone(), one.column.clone());
        self.subject == other.subject && self.key_id == other.key_id && place(self) == place(other)
    }
}

/// What is done to the rows of somebody who must be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// They are deleted.
    #[default]
    Delete,
    /// They stay, and nothing in these columns or in the one that identifies tells whose they are: NULL, or, in a
    /// column of text that may not be NULL, `erased-` and the first 16 digits of `subject`.
    Anonymise(Vec<String>),
}

impl Treatment {
    /// Tells whether rows are deleted.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        *self == Self::Delete
    }
}

/// A ledger as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureContent {
    /// The lines that can be read, in order.
    pub lines: Vec<ErasureLine>,
    /// What does not hold, with the line's number in the file.
    pub problems: Vec<(u64, String)>,
    /// The hash of the last line.
    pub head: Digest,
}

impl ErasureContent {
    /// Reads the bytes of a ledger. A last line that was torn never was durable and does not count.
    #[must_use]
    pub fn scan(bytes: &[u8]) -> Self {
        let mut content = Self { lines: Vec::new(), problems: Vec::new(), head: Digest::of(b"") };
        let (whole, _) = whole_part(bytes);
        for (index, line) in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            content.take(index as u64 + 1, line);
        }
        content
    }

    /// The lines that count, in order: not lifted by a later one, and the newest of those that say the same.
    #[must_use]
    pub fn in_force(&self) -> Vec<&ErasureLine> {
        let counts = |(at, line): &(usize, &ErasureLine)| {
            let overruled = |later: &ErasureLine| {
                later.forget.is_about(&line.forget)
                    && (!later.forget.word.is_forget() || later.forget.treatment == line.forget.treatment)
            };
            line.forget.word.is_forget() && !self.lines[at + 1..].iter().any(overruled)
        };
        self.lines.iter().enumerate().filter(counts).map(|(_, line)| line).collect()
    }

    fn take(&mut self, number: u64, text: &[u8]) {
        if let Err(broken) = check_hash(text) {
            self.problems.push((number, broken.to_string()));
        }
        let Ok(SealedErasure { line, hash }) = serde_json::from_slice(text) else {
            self.problems.push((number, "the line cannot be read".to_owned()));
            self.head = Digest::of(text);
            return;
        };
        if line.prev != self.head || line.n != self.lines.last().map_or(0, |line| line.n) + 1 {
            self.problems.push((number, "the line does not follow the one before it".to_owned()));
        }
        self.head = hash;
        self.lines.push(line);
    }
}

/// The bytes of a ledger that count, and whether the last line only lacks its newline.
#[must_use]
pub fn whole_part(bytes: &[u8]) -> (&[u8], bool) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    match whole_line_prefix(&bytes[end..]) {
        Some(_) => (bytes, true),
        None => (&bytes[..end], false),
    }
}

/// A key could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has {0} bytes; at least 32 are needed")]
pub struct ShortKey(usize);

/// What hashes subjects. Never in `Debug`.
#[derive(Clone)]
pub struct ErasureKey(Hmac<sha2::Sha256>);

impl ErasureKey {
    /// Takes a key of at least 32 bytes.
    ///
    /// # Errors
    /// Fails for a shorter one.
    pub fn new(secret: &SecretText) -> Result<Self, ShortKey> {
        let key = secret.reveal().as_bytes();
        let long = Some(key).filter(|key| key.len() >= SHORTEST_KEY).and_then(|key| Hmac::new_from_slice(key).ok());
        long.map(Self).ok_or(ShortKey(key.len()))
    }

    /// The keyed hash of a value.
    #[must_use]
    pub fn subject(&self, value: &str) -> String {
        self.hash(value.as_bytes())
    }

    /// What tells this key from another one.
    #[must_use]
    pub fn id(&self) -> String {
        self.hash(KEY_ID).get(..16).unwrap_or_default().to_owned()
    }

    fn hash(&self, bytes: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(bytes);
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ErasureKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::{ErasureKey, Forget, KeyInit as _, ShortKey, Treatment, Word};
    use crate::base::secret::SecretText;

    #[test]
    fn a_short_key_is_refused_and_the_hash_is_that_of_rfc_4231() {
        assert!(matches!(ErasureKey::new(&SecretText::new("k".repeat(31))), Err(ShortKey(31))));
        let long = ErasureKey(hmac::Hmac::new_from_slice(b"Jefe").expect("any length"));
        let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(long.subject("what do ya want for nothing?"), known);
    }

    #[test]
    fn what_was_written_before_treatments_deletes_and_is_written_as_before() {
        let text = r#"{"subject":"a","key_id":"b","database":"orders","table":"users","column":"email"}"#;
        let forget: Forget = serde_json::from_str(text).expect("reads");
        assert_eq!((&forget.treatment, forget.word), (&Treatment::Delete, Word::Forget));
        assert_eq!(serde_json::to_string(&forget).expect("writes"), text);
    }
}
