//! The conversation of `BASE_BACKUP`: where the backup begins, archives one after the other, the server's manifest,
//! where it ends.
//!
//! From PostgreSQL 15 on everything comes in one stream; before that each archive is a stream of its own.

use bytes::{Buf as _, Bytes};

use super::message::{self, Complaint};
use super::wire::{Reply, Wire};
use crate::action::ActionError;
use crate::pgformat::{Change, Lsn, Major, Timeline};

/// What kind of backup is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// Its label.
    pub(crate) label: String,
    /// Whether the checkpoint is made at once.
    pub(crate) checkpoint: super::super::base_backup::Checkpoint,
    /// The most the server sends per second, in KiB.
    pub(crate) max_rate_kib: Option<u64>,
    /// The server's major version.
    pub(crate) major: Major,
    /// How much of the data is wanted.
    pub(crate) extent: Extent,
}

/// How much of the data a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// What changed since the backup whose manifest was uploaded before.
    Increment,
}

impl Order {
    /// The command in the server's own language.
    fn command(&self) -> String {
        use super::super::base_backup::Checkpoint;
        let label = self.label.replace('\'', "''");
        let rate = self.max_rate_kib;
        if self.major.has(Change::OneBackupStream) {
            let checkpoint = match self.checkpoint {
                Checkpoint::Fast => "fast",
                Checkpoint::Spread => "spread",
            };
            let rate = rate.map_or_else(String::new, |rate| format!(", MAX_RATE {rate}"));
            let extent = match self.extent {
                Extent::Whole => "",
                Extent::Increment => ", INCREMENTAL",
            };
            return format!(
                "BASE_BACKUP (LABEL '{label}', PROGRESS, CHECKPOINT '{checkpoint}', WAL, WAIT false, TABLESPACE_MAP, \
                 MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C'{rate}{extent})"
            );
        }
        let fast = match self.checkpoint {
            Checkpoint::Fast => " FAST",
            Checkpoint::Spread => "",
        };
        let rate = rate.map_or_else(String::new, |rate| format!(" MAX_RATE {rate}"));
        format!(
            "BASE_BACKUP LABEL '{label}' PROGRESS{fast} WAL NOWAIT{rate} TABLESPACE_MAP MANIFEST 'yes' \
             MANIFEST_CHECKSUMS 'CRC32C'"
        )
    }
}

/// A part of the backup as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A new archive begins: a tablespace's, or the data directory's.
    Archive(Option<u32>),
    /// Bytes of it.
    Data(Bytes),
    /// Bytes of the server's manifest.
    Manifest(Bytes),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Where the data is consistent.
    pub(crate) stop: Lsn,
    /// The timeline there.
    pub(crate) timeline: Timeline,
    /// What the server warned of.
    pub(crate) warnings: Vec<Complaint>,
    /// What it complained of after everything was sent: pages whose checksum is wrong.
    pub(crate) complaint: Option<Complaint>,
}

/// What the stream brings just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Archive,
    Manifest,
}

/// A backup that arrives.
pub(crate) struct Feed {
    wire: Wire,
    one_stream: bool,
    part: Part,
    /// Archives that have not begun yet, last one first; only where each is a stream of its own.
    waiting: Vec<Option<u32>>,
    /// Where replay begins.
    pub(crate) start: Lsn,
}

impl Feed {
    /// Orders a backup; gives it when its data begin to flow.
    ///
    /// # Errors
    /// Fails as the server does.
    pub(crate) async fn begin(mut wire: Wire, order: &Order) -> Result<Self, ActionError> {
        wire.ask(&order.command()).await?;
        let (mut start, mut waiting) = (None, Vec::new());
        loop {
            match wire.reply().await? {
                Reply::Row(row) if start.is_none() => start = Some(position(&row, &wire)?.0),
                Reply::Row(row) => {
                    let oid = row.into_iter().next().flatten().map(|oid| oid.parse()).transpose();
                    waiting.push(oid.map_err(|_| wire.nonsense("a tablespace"))?);
                }
                Reply::Complete => {}
                Reply::CopyBegins => break,
                Reply::Refused(complaint) => return Err(complaint.into_error(wire.shown())),
                Reply::Copy(_) | Reply::CopyWanted | Reply::CopyEnds | Reply::Ready => {
                    return Err(wire.nonsense("no data"));
                }
            }
        }
        let start = start.ok_or_else(|| wire.nonsense("no position"))?;
        waiting.reverse();
        let mut feed =
            Self { wire, one_stream: order.major.has(Change::OneBackupStream), part: Part::Archive, waiting, start };
        if feed.one_stream {
            feed.waiting.clear();
        }
        Ok(feed)
    }

    /// What the server warned of so far.
    pub(crate) fn warnings(&self) -> &[Complaint] {
        self.wire.warnings()
    }

    /// The archive that begins without a word of its own; only before PostgreSQL 15.
    pub(crate) fn first(&mut self) -> Option<Piece> {
        self.waiting.pop().map(Piece::Archive)
    }

    /// The next piece; `None` when all data has come.
    ///
    /// # Errors
    /// Fails as the server does, and when the connection breaks.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, ActionError> {
        loop {
            match self.wire.reply().await? {
                Reply::Copy(bytes) if self.one_stream => {
                    if let Some(piece) = self.told(bytes)? {
                        return Ok(Some(piece));
                    }
                }
                Reply::Copy(bytes) => {
                    return Ok(Some(match self.part {
                        Part::Archive => Piece::Data(bytes),
                        Part::Manifest => Piece::Manifest(bytes),
                    }));
                }
                Reply::CopyEnds if self.one_stream || self.part == Part::Manifest => return Ok(None),
                Reply::CopyEnds => {}
                Reply::CopyBegins => match self.waiting.pop() {
                    Some(archive) => return Ok(Some(Piece::Archive(archive))),
                    None => self.part = Part::Manifest,
                },
                Reply::Refused(complaint) => return Err(complaint.into_error(self.wire.shown())),
                Reply::Row(_) | Reply::Complete => {}
                Reply::CopyWanted => return Err(self.wire.nonsense("a wish for data")),
                Reply::Ready => return Err(self.wire.nonsense("its end before all data")),
            }
        }
    }

    /// Takes the first byte off, which says what the others are.
    fn told(&mut self, mut bytes: Bytes) -> Result<Option<Piece>, ActionError> {
        let kind = bytes.try_get_u8().map_err(|_| self.wire.nonsense("empty data"))?;
        Ok(match kind {
            b'n' => {
                let name = message::text(&mut bytes).unwrap_or_default();
                self.part = Part::Archive;
                let oid = match name.strip_suffix(".tar") {
                    Some("base") => None,
                    Some(oid) => Some(oid.parse().map_err(|_| self.wire.nonsense(&format!("the archive `{name}`")))?),
                    None => return Err(self.wire.nonsense(&format!("the archive `{name}`"))),
                };
                Some(Piece::Archive(oid))
            }
            b'm' => {
                self.part = Part::Manifest;
                None
            }
            b'd' => Some(match self.part {
                Part::Archive => Piece::Data(bytes),
                Part::Manifest => Piece::Manifest(bytes),
            }),
            b'p' => None,
            other => return Err(self.wire.nonsense(&format!("data of the kind `{}`", char::from(other)))),
        })
    }

    /// Hears how it ended, after the last piece.
    ///
    /// # Errors
    /// Fails as the server does, when it never came to the end of the backup.
    pub(crate) async fn finish(mut self) -> Result<Ended, ActionError> {
        let (mut end, mut complaint) = (None, None);
        loop {
            match self.wire.reply().await? {
                Reply::Row(row) => end = Some(position(&row, &self.wire)?),
                Reply::Refused(refused) => complaint = Some(refused),
                Reply::Complete => {}
                Reply::Ready => break,
                Reply::CopyBegins | Reply::CopyWanted | Reply::Copy(_) | Reply::CopyEnds => {
                    return Err(self.wire.nonsense("more data"));
                }
            }
        }
        let warnings = self.wire.warnings().to_vec();
        match (end, complaint) {
            (Some((stop, timeline)), complaint) => Ok(Ended { stop, timeline, warnings, complaint }),
            (None, Some(complaint)) => Err(complaint.into_error(self.wire.shown())),
            (None, None) => Err(self.wire.nonsense("no end of the backup")),
        }
    }
}

/// Reads a position and its timeline.
fn position(row: &[Option<String>], wire: &Wire) -> Result<(Lsn, Timeline), ActionError> {
    let cell = |column: usize| row.get(column).and_then(Option::as_deref);
    let lsn = cell(0).and_then(|text| text.parse().ok());
    let timeline = cell(1).and_then(|text| text.parse().ok()).map(Timeline);
    lsn.zip(timeline).ok_or_else(|| wire.nonsense("a position that makes no sense"))
}

#[cfg(test)]
mod tests {
    use super::super::super::base_backup::Checkpoint;
    use super::{Extent, Order};
    use crate::pgformat::Major;

    #[test]
    fn a_backup_is_ordered_in_the_words_of_the_servers_version() {
        let order = Order {
            label: "it's nightly".to_owned(),
            checkpoint: Checkpoint::Fast,
            max_rate_kib: Some(2048),
            major: Major::of_number(150_018),
            extent: Extent::Whole,
        };
        let newer = order.command();
        assert!(
            newer.starts_with("BASE_BACKUP (LABEL 'it''s nightly', ") && newer.contains("MAX_RATE 2048"),
            "{newer}"
        );
        let increment =
            Order { extent: Extent::Increment, major: Major::of_number(170_002), ..order.clone() }.command();
        assert!(increment.ends_with(", INCREMENTAL)") && !newer.contains("INCREMENTAL"), "{increment}");
        let older = Order { major: Major::of_number(140_011), ..order }.command();
        assert!(older.contains(" FAST WAL NOWAIT MAX_RATE 2048 ") && !older.contains('('), "{older}");
    }
}
