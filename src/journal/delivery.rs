//! What became of notifications: `notifications.jsonl` beside the journal, one line for each delivery.
//!
//! It is no part of the chain: telling people must not be able to stop a run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::durable;
use crate::base::{Digest, EventSeq, Timestamp};
use crate::language::runbook::NotifyOn;

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it ended.
    pub at: Timestamp,
    /// The event that was told.
    pub event: EventSeq,
    /// What was told of it.
    pub on: NotifyOn,
    /// The number of the rule, from 1.
    pub rule: usize,
    /// Identifies the rule as it is written.
    pub rule_digest: Digest,
    /// The notifier.
    pub uses: String,
    /// Whether it arrived.
    pub result: DeliveryResult,
    /// How often it was tried.
    pub tries: u32,
    /// Why it failed; secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether a delivery arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryResult {
    /// The notifier said so.
    Delivered,
    /// It was given up.
    Failed,
}

/// The file of deliveries of one run.
pub struct Deliveries {
    file: Mutex<File>,
    delivered: BTreeSet<(Digest, EventSeq)>,
}

impl Deliveries {
    /// Opens the file and reads what was delivered; it is created when it is missing.
    ///
    /// # Errors
    /// Fails when the file cannot be read or created.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = durable::open_file(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // A line that a crash cut short stays as it is; the next one begins below it.
        if !text.is_empty() && !text.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        let arrived = |delivery: &Delivery| delivery.result == DeliveryResult::Delivered;
        let delivered = lines(&text).filter(arrived).map(|delivery| (delivery.rule_digest, delivery.event)).collect();
        Ok(Self { file: Mutex::new(file), delivered })
    }

    /// Tells whether a rule has told an event before this process began.
    #[must_use]
    pub fn was_delivered(&self, rule: &Digest, event: EventSeq) -> bool {
        self.delivered.contains(&(*rule, event))
    }

    /// Adds a line, durably.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn add(&self, delivery: &Delivery) -> io::Result<()> {
        let mut line = serde_json::to_vec(delivery)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        file.sync_data()
    }
}

/// Reads the deliveries of a run; lines of no meaning are passed over.
///
/// # Errors
/// Fails when the file is there and cannot be read.
pub fn read_deliveries(path: &Path) -> io::Result<Vec<Delivery>> {
    match std::fs::read(path) {
        Ok(text) => Ok(lines(&text).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = Delivery> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::{Deliveries, Delivery, DeliveryResult, read_deliveries};
    use crate::base::{Digest, EventSeq, Timestamp};
    use crate::language::runbook::NotifyOn;

    fn delivery(event: u64, result: DeliveryResult) -> Delivery {
        Delivery {
            at: Timestamp::UNIX_EPOCH,
            event: EventSeq(event),
            on: NotifyOn::Failed,
            rule: 1,
            rule_digest: Digest::of(b"rule"),
            uses: "notify.command".to_owned(),
            result,
            tries: 1,
            error: None,
        }
    }

    #[test]
    fn only_what_arrived_counts_as_told_and_a_torn_line_hides_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notifications.jsonl");
        let file = Deliveries::open(&path).expect("a file");
        file.add(&delivery(1, DeliveryResult::Delivered)).expect("written");
        file.add(&delivery(2, DeliveryResult::Failed)).expect("written");
        let whole = std::fs::read(&path).expect("read");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &whole[..20]))
            .expect("a torn line");
        let file = Deliveries::open(&path).expect("a file");
        file.add(&delivery(3, DeliveryResult::Delivered)).expect("written");
        let file = Deliveries::open(&path).expect("a file");
        let told = |event| file.was_delivered(&Digest::of(b"rule"), EventSeq(event));
        assert_eq!([told(1), told(2), told(3)], [true, false, true]);
        assert!(!file.was_delivered(&Digest::of(b"another"), EventSeq(1)));
        assert_eq!(read_deliveries(&path).expect("read").len(), 3);
    }
}
