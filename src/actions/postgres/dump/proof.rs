//! Proves that a dump is one: that it is not empty, has its mark or its last line, and that `pg_restore` can list what
//! lies in the store.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt as _;

use super::super::archive;
use super::super::client::{Client, failed};
use super::super::content::TableName;
use super::super::delivery::Depot;
use super::super::fan::Seen;
use super::super::readable::expected;
use super::shipment::key;
use crate::action::{ActionError, RunContext};
use crate::catalog::{BackupPlace, DumpFormat, ManifestObject};
use crate::transfer::{TransferError, Unpacking};

/// The closing line of SQL that `pg_dump` wrote.
pub(in super::super) const COMPLETE: &str = "PostgreSQL database dump complete";
/// The closing line of SQL that `pg_dumpall` wrote.
pub(in super::super) const CLUSTER_COMPLETE: &str = "PostgreSQL database cluster dump complete";

/// Refuses what is no dump of its format.
///
/// # Errors
/// Retryable: another attempt may get a whole one.
pub(super) fn judge(format: DumpFormat, seen: &Seen) -> Result<(), ActionError> {
    let marked = |mark: &[u8]| seen.head.starts_with(mark);
    let fits = match format {
        DumpFormat::Custom => marked(b"PGDMP"),
        // Of both the first member is the table of contents.
        DumpFormat::Tar | DumpFormat::Directory => marked(b"toc.dat\0"),
        DumpFormat::Plain => ends(seen, COMPLETE),
    };
    if fits {
        return Ok(());
    }
    let size = seen.size_bytes;
    Err(ActionError::retryable(format!("`pg_dump` wrote {size} bytes that are no whole dump")))
}

/// Refuses globals that were cut off.
///
/// # Errors
/// Retryable.
pub(super) fn judge_globals(seen: &Seen) -> Result<(), ActionError> {
    match ends(seen, CLUSTER_COMPLETE) {
        true => Ok(()),
        false => Err(ActionError::retryable(format!("`pg_dumpall` wrote {} bytes without its end", seen.size_bytes))),
    }
}

fn ends(seen: &Seen, line: &str) -> bool {
    seen.tail.windows(line.len()).any(|part| part == line.as_bytes())
}

/// The table of contents of a dump, as `pg_restore --list` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents(String);

impl Contents {
    /// Whether the rows of a table are in it.
    pub(super) fn holds(&self, table: &TableName) -> bool {
        let entry = format!(" TABLE DATA {} {} ", table.schema, table.name);
        self.0.lines().any(|line| !line.starts_with(';') && line.contains(&entry))
    }
}

/// What a dump is listed with.
pub(super) struct Lister<'a> {
    /// The programs.
    pub(super) client: &'a Client<'a>,
    /// How it was dumped.
    pub(super) format: DumpFormat,
    /// The attempt.
    pub(super) cx: &'a RunContext,
}

impl Lister<'_> {
    /// Lists what lies in a store. Where no key of ours reads it back, what was on its way there is listed, and said so.
    ///
    /// # Errors
    /// Fails when `pg_restore` cannot list it, or the store does not give it back.
    pub(super) async fn stored(
        &self,
        depot: &Depot,
        (place, object): (&BackupPlace, &ManifestObject),
        seen: &Seen,
    ) -> Result<Contents, ActionError> {
        let name = depot.store.name();
        let about = &self.cx.about;
        let keys = about.inventory.stores.get(name).and_then(|entry| entry.encryption.as_ref());
        let key = key(place, &object.name)?;
        let Ok(unpacking) = Unpacking::of(&object.encoding, keys, about.secrets.as_ref()) else {
            let message =
                format!("the dump in store `{name}` was listed before it was encrypted: no key here reads it");
            self.cx.reporter.note(message, serde_json::json!({ "store": name }));
            return self.list(&seen.head).await;
        };
        let size = object.plain_facts().size_bytes;
        for limit in [seen.head.len() as u64, size] {
            let stored = depot.store.get(&key).await.map_err(|error| archive::failed(&error))?;
            let mut begin = Vec::new();
            let plain = unpacking.open(stored, expected(object));
            // One more than all: then the end is read too, and with it the proof by digest.
            let read = plain.take(limit.saturating_add(1)).read_to_end(&mut begin).await;
            read.map_err(|error| super::super::delivery::failed(&TransferError::of_reading(key.as_str(), error)))?;
            match self.list(&begin).await {
                Err(_) if limit < size => {}
                listed => return listed,
            }
        }
        Err(ActionError::retryable(format!("`{key}` cannot be listed")))
    }

    /// Lists a dump of which at least the beginning is given.
    async fn list(&self, begin: &[u8]) -> Result<Contents, ActionError> {
        let folder = self.cx.attempt_dir.join("listed");
        let (dump, list) = (folder.join("toc.dat"), folder.join("list"));
        let begin = match self.format {
            DumpFormat::Directory => first_member(begin).map_err(|error| unlisted(&error))?,
            DumpFormat::Custom | DumpFormat::Tar | DumpFormat::Plain => begin.to_vec(),
        };
        let files = self.cx.host.files();
        let written = files.create_dir(&folder, 0o700).and_then(|()| files.replace(&dump, &begin, 0o600));
        written.map_err(|error| unlisted(&error))?;
        let listed = match self.format {
            DumpFormat::Directory => self.ask(&folder, &list).await,
            DumpFormat::Custom | DumpFormat::Tar | DumpFormat::Plain => self.ask(&dump, &list).await,
        };
        // It lies in a folder of the attempt's own, which goes as a whole.
        let _ = files.remove_tree(&folder);
        listed
    }

    async fn ask(&self, dump: &Path, list: &Path) -> Result<Contents, ActionError> {
        let spec = self.client.writing(self.client.offline("pg_restore").arg("--list"), Some(dump), list);
        let output = self.cx.host.probe(spec).await.map_err(|error| failed("pg_restore", &error))?;
        if !output.success() {
            let error = ActionError::retryable("`pg_restore` cannot list the dump");
            return Err(error.process(output.exit_code, output.tail(20)));
        }
        let text = self.cx.host.read_files().read(list, 1 << 30).map_err(|error| unlisted(&error))?;
        Ok(Contents(String::from_utf8_lossy(&text).into_owned()))
    }
}

fn first_member(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut content = Vec::new();
    match archive.entries()?.next() {
        Some(entry) => io::Read::read_to_end(&mut entry?, &mut content)?,
        None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    };
    Ok(content)
}

fn unlisted(error: &(dyn std::error::Error + 'static)) -> ActionError {
    ActionError::retryable("the dump cannot be listed").because(error)
}

#[cfg(test)]
mod tests {
    use super::{Contents, judge};
    use crate::actions::postgres::content::TableName;
    use crate::actions::postgres::fan::Seen;
    use crate::catalog::DumpFormat;

    fn seen(text: &[u8]) -> Seen {
        Seen { size_bytes: text.len() as u64, head: text.to_vec(), tail: text.to_vec() }
    }

    #[test]
    fn an_empty_dump_and_one_that_breaks_off_are_refused() {
        for format in [DumpFormat::Custom, DumpFormat::Directory, DumpFormat::Plain, DumpFormat::Tar] {
            assert!(judge(format, &seen(b"")).is_err(), "{format:?}");
        }
        assert!(judge(DumpFormat::Custom, &seen(b"PGDMP\x01")).is_ok());
        assert!(judge(DumpFormat::Plain, &seen(b"--\n-- PostgreSQL database dump\n--\nCREATE")).is_err());
        assert!(judge(DumpFormat::Plain, &seen(b"--\n-- PostgreSQL database dump complete\n--\n\n")).is_ok());
    }

    #[test]
    fn the_rows_of_a_table_are_found_in_the_list() {
        let list = "; TABLE DATA public a postgres\n3412; 0 16389 TABLE DATA public users postgres\n\
                    3410; 1259 16389 TABLE public orders postgres\n";
        let table = |name: &str| TableName { quoted: String::new(), schema: "public".into(), name: name.into() };
        let contents = Contents(list.to_owned());
        assert!(contents.holds(&table("users")) && !contents.holds(&table("orders")) && !contents.holds(&table("a")));
    }
}
