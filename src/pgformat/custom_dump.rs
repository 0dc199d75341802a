//! The custom format of `pg_dump`: what its head tells, and whether it is there to its last block.
//!
//! `pg_restore --list` reads the table of contents and nothing behind it, so that a dump whose end is missing lists as a whole one. The
//! format is written by `pg_backup_archiver.c` and `pg_backup_custom.c`: a head, the table of contents, then one block for each entry
//! that has data. Numbers are a byte of sign and `int_size` bytes, the least first; text is its length and its bytes, -1 for none.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

/// What a dump in the custom format begins with.
pub const MAGIC: &[u8] = b"PGDMP";

/// The versions that are known: those of PostgreSQL 9.0 and later. Newer ones are for `pg_restore` alone.
const VERSIONS: std::ops::RangeInclusive<(u8, u8)> = (1, 12)..=(1, 16);

/// The letter of the custom format among the archivers.
const CUSTOM: u8 = 1;

/// A block of a table's data, and one of large objects.
const BLOCK_DATA: u8 = 1;
const BLOCK_BLOBS: u8 = 3;

/// What an entry's offset says where it has no data.
const NO_DATA: u8 = 3;

/// No name, statement or list of a real dump is longer.
const MAX_TEXT: i64 = 1 << 30;

/// A dump that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomDump {
    /// The database that was dumped.
    pub dbname: Option<String>,
    /// The version of the server, in its own words.
    pub server_version: Option<String>,
    /// How many blocks of data there are.
    pub blocks: u64,
}

/// Reads a dump to its end where its version is known; of another nothing can be told, and it may be left half read.
///
/// # Errors
/// Fails as reading does, and with [`io::ErrorKind::InvalidData`] where it is damaged.
pub fn demand_whole_custom_dump(from: &mut impl Read) -> io::Result<()> {
    match read_custom_dump(from) {
        Ok(_) | Err(CustomDumpError::Version { .. }) => Ok(()),
        Err(CustomDumpError::Damaged(what)) => Err(io::Error::new(io::ErrorKind::InvalidData, what)),
        Err(CustomDumpError::Io(error)) => Err(error),
    }
}

/// Why a dump is not whole, or cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum CustomDumpError {
    /// It is of a version that is not known here.
    #[error("its format is {major}.{minor}, which is not known here")]
    Version {
        /// The first number.
        major: u8,
        /// The second number.
        minor: u8,
    },
    /// It ends too early, or makes no sense.
    #[error("{0}")]
    Damaged(String),
    /// It could not be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// The head of a dump.
struct Head {
    minor: u8,
    int_size: usize,
    offset_size: usize,
    dbname: Option<String>,
    server_version: Option<String>,
}

/// Reads from the head of a dump which database was dumped; `None` where it does not say.
///
/// # Errors
/// Fails when it is none in the custom format, and when its version is not known.
pub fn custom_dump_dbname(from: &mut impl Read) -> Result<Option<String>, CustomDumpError> {
    Reader { from: &mut BufReader::new(from), int_size: 4 }.head().map(|head| head.dbname)
}

/// Reads a dump to its end.
///
/// # Errors
/// Fails when it ends before its last block, when a block belongs to no entry of its table of contents, and when its version is not
/// known.
pub fn read_custom_dump(from: &mut impl Read) -> Result<CustomDump, CustomDumpError> {
    let mut reader = Reader { from: &mut BufReader::with_capacity(1 << 18, from), int_size: 4 };
    let head = reader.head()?;
    reader.int_size = head.int_size;
    let entries = reader.contents(&head)?;
    let mut awaited = entries;
    let mut blocks = 0;
    while let Some(kind) = reader.next_byte()? {
        let id = reader.int()?;
        if !awaited.remove(&id) {
            return Err(damaged(format!("a block of data is of entry {id}, which has none or had its own")));
        }
        match kind {
            BLOCK_DATA => reader.chunks()?,
            BLOCK_BLOBS => {
                while reader.int()? != 0 {
                    reader.chunks()?;
                }
            }
            other => return Err(damaged(format!("a block of data is of kind {other}"))),
        }
        blocks += 1;
    }
    if let Some(id) = awaited.first() {
        let lacking = awaited.len();
        return Err(damaged(format!(
            "it ends before its last block: {lacking} of its entries lack their data, the first is {id}"
        )));
    }
    Ok(CustomDump { dbname: head.dbname, server_version: head.server_version, blocks })
}

fn damaged(what: impl Into<String>) -> CustomDumpError {
    CustomDumpError::Damaged(what.into())
}

struct Reader<'a, R> {
    from: &'a mut R,
    int_size: usize,
}

impl<R: Read> Reader<'_, R> {
    fn head(&mut self) -> Result<Head, CustomDumpError> {
        if self.bytes(MAGIC.len())? != MAGIC {
            return Err(damaged("it does not begin as a dump in the custom format"));
        }
        let (major, minor, _revision) = (self.byte()?, self.byte()?, self.byte()?);
        if !VERSIONS.contains(&(major, minor)) {
            return Err(CustomDumpError::Version { major, minor });
        }
        let (int_size, offset_size) = (usize::from(self.byte()?), usize::from(self.byte()?));
        if !(1..=8).contains(&int_size) || !(1..=8).contains(&offset_size) {
            return Err(damaged(format!("its numbers have {int_size} and {offset_size} bytes")));
        }
        self.int_size = int_size;
        let format = self.byte()?;
        if format != CUSTOM {
            return Err(damaged(format!("its format is {format}, not the custom one")));
        }
        // Since 1.15 the method of compression, before that its level.
        if minor >= 15 {
            self.byte()?;
        } else {
            self.int()?;
        }
        // When it was made: second, minute, hour, day, month, year, summer time.
        for _ in 0..7 {
            self.int()?;
        }
        let (dbname, server_version, _program) = (self.text()?, self.text()?, self.text()?);
        Ok(Head { minor, int_size, offset_size, dbname, server_version })
    }

    /// The entries that have data.
    fn contents(&mut self, head: &Head) -> Result<BTreeSet<i64>, CustomDumpError> {
        let count = self.int()?;
        if count < 0 {
            return Err(damaged(format!("its table of contents has {count} entries")));
        }
        let mut with_data = BTreeSet::new();
        for _ in 0..count {
            let id = self.int()?;
            let has_dumper = self.int()? != 0;
            // The catalog's table and row, the tag, the kind.
            for _ in 0..4 {
                self.text()?;
            }
            // The section.
            self.int()?;
            // How it is made, dropped and copied; its schema and tablespace.
            for _ in 0..5 {
                self.text()?;
            }
            if head.minor >= 14 {
                self.text()?;
            }
            if head.minor >= 16 {
                self.int()?;
            }
            // The owner, and whether rows have identifiers.
            self.text()?;
            self.text()?;
            while self.text()?.is_some() {}
            let offset = self.byte()?;
            self.bytes(head.offset_size)?;
            if has_dumper && offset != NO_DATA {
                with_data.insert(id);
            }
        }
        Ok(with_data)
    }

    /// The chunks of one piece of data, which an empty one ends.
    fn chunks(&mut self) -> Result<(), CustomDumpError> {
        loop {
            let length = self.int()?;
            let Ok(length) = u64::try_from(length) else { return Err(damaged(format!("a chunk has {length} bytes"))) };
            if length == 0 {
                return Ok(());
            }
            let copied = io::copy(&mut self.from.by_ref().take(length), &mut io::sink())?;
            if copied < length {
                return Err(ended());
            }
        }
    }

    fn next_byte(&mut self) -> Result<Option<u8>, CustomDumpError> {
        let mut byte = [0];
        loop {
            match self.from.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, CustomDumpError> {
        self.next_byte()?.ok_or_else(ended)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, CustomDumpError> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        if bytes.len() == count { Ok(bytes) } else { Err(ended()) }
    }

    fn int(&mut self) -> Result<i64, CustomDumpError> {
        let sign = self.byte()?;
        let bytes = self.bytes(self.int_size)?;
        let value =
            bytes.iter().rev().try_fold(0_i64, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)));
        let value = value.ok_or_else(|| damaged("a number is too large"))?;
        Ok(if sign == 0 { value } else { -value })
    }

    fn text(&mut self) -> Result<Option<String>, CustomDumpError> {
        match self.int()? {
            -1 => Ok(None),
            length @ 0..=MAX_TEXT => {
                let bytes = self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            length => Err(damaged(format!("a text has {length} bytes"))),
        }
    }
}

fn ended() -> CustomDumpError {
    damaged("it ends before its end")
}

#[cfg(test)]
mod tests {
    use super::{CustomDumpError, demand_whole_custom_dump, read_custom_dump};

    fn int(value: i64) -> Vec<u8> {
        let mut bytes = vec![u8::from(value < 0)];
        bytes.extend(u32::try_from(value.abs()).expect("small").to_le_bytes());
        bytes
    }

    fn text(value: &str) -> Vec<u8> {
        [int(value.len().try_into().expect("short")), value.as_bytes().to_vec()].concat()
    }

    /// A dump of one table, as version 15 of PostgreSQL writes it.
    fn dump() -> Vec<u8> {
        let head = [b"PGDMP".to_vec(), vec![1, 14, 0, 4, 8, 1], int(-1), int(0).repeat(7)].concat();
        let names = [text("shop"), text("15.6"), text("15.6")].concat();
        let entry = [
            [int(7), int(1), text("1259"), text("16384"), text("items"), text("TABLE DATA"), int(3)].concat(),
            [text(""), text(""), text("COPY"), text("public"), text(""), text("")].concat(),
            [text("app"), text("false"), int(-1), vec![1], vec![0; 8]].concat(),
        ];
        let block = [vec![1], int(7), int(5), b"1\ta\n\\".to_vec(), int(0)].concat();
        [head, names, int(1), entry.concat(), block].concat()
    }

    fn said(bytes: &[u8]) -> String {
        read_custom_dump(&mut &*bytes).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_dump_is_read_to_its_end_and_one_that_was_cut_off_anywhere_is_refused() {
        let whole = dump();
        let read = read_custom_dump(&mut &*whole).expect("it is whole");
        assert_eq!(
            (read.dbname.as_deref(), read.server_version.as_deref(), read.blocks),
            (Some("shop"), Some("15.6"), 1)
        );
        for cut in 0..whole.len() {
            assert_ne!(said(&whole[..cut]), "", "cut off at {cut} of {}", whole.len());
        }
        let before_block = whole.len() - 21;
        assert!(
            said(&whole[..before_block]).contains("1 of its entries lack their data"),
            "{}",
            said(&whole[..before_block])
        );
        assert!(said(&[whole.clone(), vec![1], int(7)].concat()).contains("has none or had its own"));
        let mut newer = whole;
        newer[6] = 99;
        let unknown = read_custom_dump(&mut &*newer).expect_err("not known");
        assert!(matches!(unknown, CustomDumpError::Version { minor: 99, .. }));
        demand_whole_custom_dump(&mut &*newer).expect("nothing can be told of it");
    }
}
