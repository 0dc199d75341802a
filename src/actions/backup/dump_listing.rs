//! Tells what a dump is by its content, and has it listed by PostgreSQL's own program.
//!
//! What lies in a store as a dump need not be what `pg_dump` wrote: `backup.create` takes any file. And the `pg_restore` of
//! this machine may be older than the dump. Neither is damage.

use std::io;
use std::path::Path;

use crate::action::{ActionError, CommandOutput, CommandSpec, ReadHost};
use crate::pgformat::CUSTOM_DUMP_MAGIC;

/// Where text says that it is whole.
pub(super) const CLOSING_BYTES: usize = 4096;

/// What a dump begins with at most, as far as it tells what it is.
const BEGIN_BYTES: u64 = 512;

/// Who says that it is a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `pg_dump` wrote it while it was stored: the manifest has its facts.
    Dumped,
    /// Somebody stored it as one.
    Given,
}

/// What came of listing a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    /// It lists as a whole one.
    Whole,
    /// It is none, or lacks its end: what is wrong.
    Fault(String),
    /// Nothing can be said of it here: why.
    Unknown(String),
}

/// What the first bytes say.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    Empty,
    /// An archive of `pg_dump`: custom, tar, or the table of contents of a folder.
    Archive,
    Text,
    Other(&'static str),
}

/// Lists a dump: a file, of which the first part and of text the end is enough, or a folder with its `toc.dat`.
///
/// # Errors
/// Fails when the program cannot be asked or the file cannot be read; what is wrong with the dump is no failure.
pub(super) async fn list(host: &dyn ReadHost, path: &Path, origin: Origin) -> Result<Listed, ActionError> {
    match judge(path, origin).map_err(|error| ActionError::retryable("the dump cannot be read").because(&error))? {
        Some(listed) => Ok(listed),
        None => list_archive(host, path).await,
    }
}

/// Judges what needs no program; `None` for what `pg_restore` is to list.
fn judge(path: &Path, origin: Origin) -> io::Result<Option<Listed>> {
    if path.is_dir() {
        let is_dump = origin == Origin::Dumped || path.join("toc.dat").is_file();
        return Ok((!is_dump).then(|| Listed::Unknown("it is no folder that `pg_dump` wrote".to_owned())));
    }
    let begin = first_bytes(path)?;
    let none = |what: &str| match origin {
        Origin::Dumped => Listed::Fault(format!("it is no dump but {what}")),
        Origin::Given => Listed::Unknown(format!("it is {what}")),
    };
    Ok(match of_begin(&begin) {
        Begin::Empty => Some(Listed::Fault("it is empty".to_owned())),
        Begin::Archive => None,
        Begin::Text if is_closed(&last_bytes(path)?) => Some(Listed::Whole),
        Begin::Text if origin == Origin::Dumped || is_of_pg_dump(&begin) => {
            Some(Listed::Fault("it ends before the end of its dump".to_owned()))
        }
        Begin::Text => Some(none("text without the marks of `pg_dump`")),
        Begin::Other(what) => Some(none(what)),
    })
}

/// Has PostgreSQL's own program read the table of contents.
async fn list_archive(host: &dyn ReadHost, path: &Path) -> Result<Listed, ActionError> {
    let Some(program) = host.find_program("pg_restore").map(|program| program.display().to_string()) else {
        return Ok(Listed::Unknown("the program `pg_restore` is missing".to_owned()));
    };
    let failed = |error| ActionError::retryable("`pg_restore` cannot be asked").because(&error);
    // Debian's is a wrapper that is there without the program: its failure says nothing of a dump.
    let works = host.probe(CommandSpec::new(program.clone()).arg("--version")).await.map_err(failed)?;
    if !works.success() {
        let why = works.tail(1).join("; ");
        return Ok(Listed::Unknown(format!("the program `pg_restore` does not work: {why}")));
    }
    // Its words are read.
    let spec = CommandSpec::new(program).arg("--list").arg(path.display().to_string()).env("LC_ALL", "C");
    Ok(told(&host.probe(spec).await.map_err(failed)?))
}

/// What the program says of a dump. A dump of a later version, and a program that was killed, say nothing of the bytes.
fn told(listed: &CommandOutput) -> Listed {
    if listed.success() {
        return Listed::Whole;
    }
    let why = listed.tail(2).join("; ");
    if String::from_utf8_lossy(&listed.stderr).contains("unsupported version") {
        return Listed::Unknown(format!("the program `pg_restore` here is older than the dump: {why}"));
    }
    let of_machine = ["out of memory", "could not open input file"];
    if of_machine.iter().any(|words| String::from_utf8_lossy(&listed.stderr).contains(words)) {
        return Listed::Unknown(format!("the program `pg_restore` could not read it here: {why}"));
    }
    match listed.exit_code {
        Some(_) => Listed::Fault(format!("`pg_restore` cannot list it: {why}")),
        None => {
            let signal = listed.signal.map(|signal| format!(" by signal {signal}")).unwrap_or_default();
            Listed::Unknown(format!("the program `pg_restore` was ended{signal}"))
        }
    }
}

fn of_begin(begin: &[u8]) -> Begin {
    match begin {
        [] => Begin::Empty,
        [0x1f, 0x8b, ..] => Begin::Other("something compressed with gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Begin::Other("something compressed with zstd"),
        _ if begin.starts_with(CUSTOM_DUMP_MAGIC) || begin.starts_with(b"toc.dat\0") => Begin::Archive,
        _ if begins_as_text(begin) => Begin::Text,
        _ => Begin::Other("something binary"),
    }
}

/// Whether bytes that a dump begins with are SQL text: the other formats begin with a mark or are archives.
pub(super) fn begins_as_text(begin: &[u8]) -> bool {
    !begin.starts_with(CUSTOM_DUMP_MAGIC) && !begin.contains(&0)
}

/// Whether text begins as `pg_dump` and `pg_dumpall` have it.
fn is_of_pg_dump(begin: &[u8]) -> bool {
    let marks = ["-- PostgreSQL database dump", "-- PostgreSQL database cluster dump"];
    String::from_utf8_lossy(begin).lines().any(|line| marks.contains(&line.trim_end()))
}

/// Whether the last bytes of SQL text, [`CLOSING_BYTES`] of them, have the closing line of `pg_dump` or `pg_dumpall`;
/// without it, it was cut off.
pub(super) fn is_closed(tail: &[u8]) -> bool {
    String::from_utf8_lossy(tail).contains("dump complete")
}

/// Whether a file is SQL text, told by its beginning.
pub(super) fn is_text(path: &Path) -> io::Result<bool> {
    Ok(of_begin(&first_bytes(path)?) == Begin::Text)
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut begin = Vec::new();
    std::fs::File::open(path)?.take(BEGIN_BYTES).read_to_end(&mut begin)?;
    Ok(begin)
}

fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(CLOSING_BYTES as u64)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use super::{Listed, Origin, judge, told};
    use crate::action::CommandOutput;

    fn ended(exit_code: Option<i32>, stderr: &str) -> Listed {
        told(&CommandOutput { exit_code, stderr: stderr.as_bytes().to_vec(), ..CommandOutput::default() })
    }

    #[test]
    fn a_program_that_is_older_than_the_dump_or_was_killed_says_nothing_of_it() {
        assert_eq!(ended(Some(0), ""), Listed::Whole);
        let older = "pg_restore: error: unsupported version (1.16) in file header\n";
        assert!(matches!(ended(Some(1), older), Listed::Unknown(why) if why.contains("1.16")));
        assert!(matches!(ended(None, ""), Listed::Unknown(_)));
        assert!(matches!(ended(Some(1), "pg_restore: error: out of memory\n"), Listed::Unknown(_)));
        assert!(matches!(ended(Some(1), "pg_restore: error: could not read from input file\n"), Listed::Fault(_)));
    }

    #[test]
    fn what_is_no_dump_of_pg_dump_is_a_fault_only_where_pg_dump_wrote_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("dump");
        let judged = |bytes: &[u8], origin| {
            std::fs::write(&path, bytes).unwrap();
            judge(&path, origin).unwrap()
        };
        for other in [
            &b"\x1f\x8b\x08\x00"[..],
            b"\x28\xb5\x2f\xfd",
            b"\x7fELF\0",
            b"5f8b  orders.dump\n",
            b"These are dumps of the PostgreSQL database orders.\n",
        ] {
            assert!(matches!(judged(other, Origin::Given), Some(Listed::Unknown(_))), "{other:?}");
            assert!(matches!(judged(other, Origin::Dumped), Some(Listed::Fault(_))), "{other:?}");
        }
        let whole = "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n-- PostgreSQL database dump complete\n";
        for origin in [Origin::Given, Origin::Dumped] {
            assert_eq!(judged(whole.as_bytes(), origin), Some(Listed::Whole));
            assert!(matches!(judged(&whole.as_bytes()[..50], origin), Some(Listed::Fault(_))), "it was cut off");
            assert!(matches!(judged(b"", origin), Some(Listed::Fault(_))));
            assert_eq!(judged(b"PGDMP\x01\x10", origin), None);
            assert_eq!(judged(b"toc.dat\0\0", origin), None);
        }
    }
}
