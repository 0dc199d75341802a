//! A dated dump.

use std::io::{self, Read};

use super::super::dump_listing::{CLOSING_BYTES, begins_as_text, is_closed};
use super::Reader;
use super::name::file;
use crate::action::{ActionError, ObjectKey};
use crate::base::Timestamp;
use crate::catalog::{IMPORTED, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, backup_id};
use crate::pgformat::{CUSTOM_DUMP_MAGIC, demand_whole_custom_dump};

/// A dump that another program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDump {
    /// Where it lies.
    pub key: ObjectKey,
    /// Its size.
    pub size_bytes: u64,
    /// What its name has before the time: most often the database.
    pub name: String,
    /// When it was taken, as its name says, in UTC.
    pub taken_at: Timestamp,
}

impl ForeignDump {
    /// Reads all of it and describes it as a backup of `source`.
    ///
    /// # Errors
    /// Fails when the store does, when none of the keys fits, and when it is damaged, empty or cut off.
    pub async fn describe(&self, reader: &Reader<'_>, source: &str) -> Result<Manifest, ActionError> {
        let (found, ()) = reader.read(&self.key, judge).await?;
        let file = file(self.key.as_str());
        let object = ManifestObject::new(file, found.stored.size_bytes, found.stored.sha256, ObjectRole::Dump);
        let plain = (!found.encoding.is_plain()).then_some(found.plain.into());
        let object = ManifestObject { encoding: found.encoding, plain, key: Some(self.key.to_string()), ..object };
        Ok(Manifest {
            objects: vec![object],
            label: Some(format!("imported from {}", self.key)),
            ..Manifest::new(backup_id(IMPORTED, file), KIND_POSTGRES_DUMP, source, (self.taken_at, self.taken_at))
        })
    }
}

/// What a dump begins with at most, as far as it tells what it is.
const BEGIN_BYTES: u64 = 512;
/// What a tar archive has in its first header, and where.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// The zeros that a tar archive ends in.
const TAR_END_BYTES: usize = 1024;

/// Reads a dump to its end, and refuses what a script leaves that failed: nothing at all, or the first part of one.
fn judge(from: &mut dyn Read) -> io::Result<()> {
    let (mut begin, mut tail, mut chunk) = (Vec::new(), Vec::new(), vec![0; 256 << 10]);
    from.take(BEGIN_BYTES).read_to_end(&mut begin)?;
    if begin.starts_with(CUSTOM_DUMP_MAGIC) {
        demand_whole_custom_dump(&mut begin.as_slice().chain(&mut *from))?;
    }
    tail.extend_from_slice(&begin);
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        tail.extend_from_slice(&chunk[count.saturating_sub(CLOSING_BYTES)..count]);
        tail.drain(..tail.len().saturating_sub(CLOSING_BYTES));
    }
    fault(&begin, &tail).map_or(Ok(()), |what| Err(io::Error::new(io::ErrorKind::InvalidData, what)))
}

/// What is wrong with a dump, told by its beginning and its end; a custom one was read by its blocks.
fn fault(begin: &[u8], tail: &[u8]) -> Option<&'static str> {
    let is_tar = begin.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1));
    if begin.is_empty() {
        Some("it is empty")
    } else if begin.starts_with(CUSTOM_DUMP_MAGIC) {
        None
    } else if begins_as_text(begin) {
        (!is_closed(tail)).then_some("it is SQL without the closing line of `pg_dump`, as if cut off")
    } else if is_tar {
        let is_whole = tail.len() >= TAR_END_BYTES && tail.iter().rev().take(TAR_END_BYTES).all(|byte| *byte == 0);
        (!is_whole).then_some("it is an archive without its end mark, so it was cut off")
    } else {
        Some("it is neither SQL nor a custom dump nor an archive")
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    fn said(bytes: &[u8]) -> String {
        judge(&mut &*bytes).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_a_script_leaves_that_failed_is_no_dump() {
        let whole = format!("--\n{}\n-- PostgreSQL database dump complete\n--\n", "SELECT 1;\n".repeat(100_000));
        assert_eq!(said(whole.as_bytes()), "");
        assert!(said(b"PGDMP\x01\x0e\x00").contains("ends before its end"));
        assert!(said(b"").contains("is empty"));
        assert!(said(&whole.as_bytes()[..whole.len() - 60]).contains("closing line"));
        assert!(said(b"\0\x01\x02").contains("neither"));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(700);
        header.set_mode(0o600);
        builder.append_data(&mut header, "toc.dat", &[7_u8; 700][..]).expect("entry");
        let archive = builder.into_inner().expect("archive");
        assert_eq!(said(&archive), "");
        assert!(said(&archive[..archive.len() - 600]).contains("end mark"));
    }
}
