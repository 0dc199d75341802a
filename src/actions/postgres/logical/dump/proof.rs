//! Proves that a dump is one: that it is not empty, has its mark or its last line, and that `pg_restore` can list what
//! lies in the store.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::shipment::key;
use crate::action::{ActionError, ByteStream, Encoding, RunContext};
use crate::actions::postgres::backup::delivery::BackupStore;
use crate::actions::postgres::backup::fan_out::Seen;
use crate::actions::postgres::cluster::program::failed;
use crate::actions::postgres::session::client::Client;
use crate::actions::postgres::session::content::TableName;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::expected;
use crate::catalog::{BackupPlace, DumpFormat, ManifestObject};
use crate::transfer::{TransferError, Unpacking};

/// The closing line of SQL that `pg_dump` wrote.
pub(crate) const COMPLETE: &str = "PostgreSQL database dump complete";
/// The closing line of SQL that `pg_dumpall` wrote.
pub(crate) const CLUSTER_COMPLETE: &str = "PostgreSQL database cluster dump complete";

/// How much of a dump is read before it is listed for the first time: the table of contents of some ten thousand tables.
const FIRST_BYTES: u64 = 16 << 20;
/// No table of contents is longer.
const MOST_BYTES: u64 = 1 << 30;
const CHUNK_BYTES: usize = 256 << 10;

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
    /// Lists what lies in a store. Where no key of ours reads it back, what was listed on its way there counts, and that
    /// is said.
    ///
    /// # Errors
    /// Fails when `pg_restore` cannot list it, or the store does not give it back.
    pub(super) async fn stored(
        &self,
        backup_store: &BackupStore,
        (place, object): (&BackupPlace, &ManifestObject),
        before: Option<&Result<Contents, ActionError>>,
    ) -> Result<Contents, ActionError> {
        let (name, key) = (backup_store.store.name(), key(place, &object.name)?);
        let unpacking = match (self.unpacking(backup_store, &object.encoding), before) {
            (Ok(unpacking), _) => unpacking,
            (Err(_), Some(before)) => {
                let message =
                    format!("the dump in store `{name}` was listed before it was encrypted: no key here reads it");
                self.cx.reporter.note(message, serde_json::json!({ "store": name }));
                return before.clone();
            }
            (Err(error), None) => return Err(crate::actions::postgres::stores::archive::stream_failed(&error)),
        };
        let broken = |error| {
            crate::actions::postgres::stores::archive::stream_failed(&TransferError::of_reading(key.as_str(), error))
        };
        let stored = backup_store.store.get(&key).await.map_err(|error| archive::failed(&error))?;
        let mut plain = unpacking.open(stored, expected(object));
        let listed = self.list(&mut plain).await.map_err(|unlisted| match unlisted {
            Unlisted::Unread(error) => broken(error),
            Unlisted::Refused(error) => error,
        })?;
        if object.plain_facts().size_bytes <= FIRST_BYTES {
            // The end is read too, and with it the proof by digest.
            tokio::io::copy(&mut plain, &mut tokio::io::sink()).await.map_err(broken)?;
        }
        Ok(listed)
    }

    /// How an object of a store is read back.
    pub(super) fn unpacking(
        &self,
        backup_store: &BackupStore,
        encoding: &Encoding,
    ) -> Result<Unpacking, TransferError> {
        let about = &self.cx.about;
        let keys = about.inventory.stores.get(backup_store.store.name()).and_then(|entry| entry.encryption.as_ref());
        Unpacking::of(encoding, keys, about.secrets.as_ref())
    }

    /// Lists a dump as it flows, and reads no more of it than that takes.
    ///
    /// # Errors
    /// Fails when it breaks off, and when `pg_restore` cannot list it.
    pub(super) async fn list(&self, plain: &mut ByteStream) -> Result<Contents, Unlisted> {
        let folder = self.cx.attempt_dir.join("listed");
        let files = self.cx.host.files();
        files.create_dir(&folder, 0o700).map_err(|error| unlisted(&error))?;
        let listed = self.list_in(&folder, plain).await;
        // It lies in a folder of the attempt's own, which goes as a whole.
        let _ = files.remove_tree(&folder);
        listed
    }

    async fn list_in(&self, folder: &Path, plain: &mut ByteStream) -> Result<Contents, Unlisted> {
        let (dump, list) = (folder.join("toc.dat"), folder.join("list"));
        let file = self.cx.host.files().create(&dump, 0o600).map_err(|error| unlisted(&error))?;
        let mut file = tokio::fs::File::from_std(file);
        match self.format {
            // The first member is the whole table of contents, and tells its length.
            DumpFormat::Directory => {
                let (_, size_bytes) = member(plain).await?;
                take(plain, size_bytes, &mut file).await?;
                Ok(self.ask(folder, &list).await?)
            }
            DumpFormat::Tar => {
                let (header, size_bytes) = member(plain).await?;
                take(&mut &header[..], header.len() as u64, &mut file).await?;
                take(plain, size_bytes.next_multiple_of(header.len() as u64), &mut file).await?;
                take(&mut &[0; 1024][..], 1024, &mut file).await?;
                Ok(self.ask(&dump, &list).await?)
            }
            DumpFormat::Custom | DumpFormat::Plain => self.list_growing((plain, &mut file), (&dump, &list)).await,
        }
    }

    /// Lists a dump whose table of contents does not tell its length: more of it is read until it can be listed.
    async fn list_growing(
        &self,
        (plain, file): (&mut ByteStream, &mut tokio::fs::File),
        (dump, list): (&Path, &Path),
    ) -> Result<Contents, Unlisted> {
        let (mut limit, mut have) = (FIRST_BYTES, 0);
        loop {
            have += take(plain, limit - have, file).await?;
            match self.ask(dump, list).await {
                Err(_) if have == limit && limit < MOST_BYTES => limit *= 4,
                listed => return Ok(listed?),
            }
        }
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

/// Why a dump was not listed.
#[derive(Debug)]
pub(super) enum Unlisted {
    /// It did not come.
    Unread(io::Error),
    /// It came, and is none.
    Refused(ActionError),
}

impl From<ActionError> for Unlisted {
    fn from(error: ActionError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unlisted> for ActionError {
    fn from(why: Unlisted) -> Self {
        match why {
            Unlisted::Unread(error) => unlisted(&error),
            Unlisted::Refused(error) => error,
        }
    }
}

/// Reads the header of the next member of a tar archive, and the length that it tells.
async fn member(plain: &mut ByteStream) -> Result<([u8; 512], u64), Unlisted> {
    let mut header = tar::Header::new_old();
    plain.read_exact(header.as_mut_bytes()).await.map_err(Unlisted::Unread)?;
    let size_bytes = header.entry_size().map_err(|error| unlisted(&error))?;
    Ok((*header.as_bytes(), size_bytes))
}

/// Writes so many bytes of a stream to a file; fewer where it ends before. Gives how many.
async fn take(
    from: &mut (dyn AsyncRead + Send + Unpin),
    most_bytes: u64,
    into: &mut tokio::fs::File,
) -> Result<u64, Unlisted> {
    let (mut left, mut buffer) = (most_bytes, vec![0; CHUNK_BYTES]);
    while left > 0 {
        let wanted = left.min(CHUNK_BYTES as u64) as usize;
        let count = from.read(&mut buffer[..wanted]).await.map_err(Unlisted::Unread)?;
        if count == 0 {
            break;
        }
        into.write_all(&buffer[..count]).await.map_err(|error| unlisted(&error))?;
        left -= count as u64;
    }
    into.flush().await.map_err(|error| unlisted(&error))?;
    Ok(most_bytes - left)
}

fn unlisted(error: &(dyn std::error::Error + 'static)) -> ActionError {
    ActionError::retryable("the dump cannot be listed").because(error)
}

#[cfg(test)]
mod tests {
    use super::{Contents, judge};
    use crate::actions::postgres::backup::fan_out::Seen;
    use crate::actions::postgres::session::content::TableName;
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
