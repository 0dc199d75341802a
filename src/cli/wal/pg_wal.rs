//! The WAL that a live server still has, beyond the archive.

use std::path::PathBuf;
use std::sync::Arc;

use crate::action::ReadFiles;
use crate::actions::postgres::cluster::live::PidFile;
use crate::actions::postgres::stores::archiver::Archiver;
use crate::cli::Failure;
use crate::cli::exit::told;
use crate::cli::recoverable::Recoverable;
use crate::cli::site::{Site, machine};
use crate::pgformat::{Lsn, SegmentHeader, SegmentName, Timeline, Walked};
use crate::wal::archiving_status::{Room, ServerSide};
use crate::wal::outlook::Hunt;

/// A live server with its `pg_wal`.
pub struct PgWal {
    /// Its own words; why there are none.
    pub server: Result<ServerSide, String>,
    archiver: Option<Archiver>,
    files: Arc<dyn ReadFiles>,
    pgdata: PathBuf,
}

impl PgWal {
    /// Asks the server of a database.
    ///
    /// # Errors
    /// Fails when the program cannot find itself; a server that gives no answer is no failure.
    pub async fn of(site: &Site, found: &Recoverable) -> Result<Self, Failure> {
        let files = machine()?.read_files();
        let pgdata = found.entry.pgdata.clone();
        let (archiver, server) = match Archiver::of(&found.database, &site.inventory, &*site.vault).await {
            Ok(mut archiver) => {
                let server = archiver.ask().await.map_err(|error| told(&error));
                (Some(archiver), server)
            }
            Err(error) => (None, Err(told(&error))),
        };
        let mut own = Self { server, archiver, files, pgdata };
        let room = own.room();
        own.server = own.server.map(|server| ServerSide { room, ..server });
        Ok(own)
    }

    /// The session, where there is one.
    pub fn archiver(&mut self) -> Option<&mut Archiver> {
        self.archiver.as_mut()
    }

    /// Where the server's log lies, in words; `None` where that cannot be seen from here.
    pub async fn log(&mut self) -> Option<String> {
        if let Some(log) = self.archiver.as_mut()?.log().await {
            return Some(format!("`{}`", log.display()));
        }
        // What it was started with: a file, or what keeps the journal of its service.
        let process = PathBuf::from(format!("/proc/{}", PidFile::read(&*self.files, &self.pgdata)?.pid));
        let link = |name: &str| self.files.read_link(&process.join(name)).ok();
        // In a container, or after a crash, the number may be another process's here.
        if link("cwd")? != self.files.canonical(&self.pgdata).ok()? {
            return None;
        }
        let error = link("fd/2")?.display().to_string();
        match error.as_str() {
            "/dev/null" => None,
            path if path.starts_with('/') => Some(format!("`{path}`")),
            _ => Some("in the journal of its service".to_owned()),
        }
    }

    fn room(&self) -> Option<Room> {
        let wal = self.files.canonical(&self.pgdata.join("pg_wal")).ok()?;
        self.files.facts(&wal).ok().flatten()?;
        let space = self.files.space(&wal).ok()?;
        Some(Room { free_bytes: space.free_bytes, total_bytes: space.total_bytes })
    }

    /// Reads a segment: from the disk where it is ours to read, else over the session.
    ///
    /// # Errors
    /// Says why it cannot be read.
    pub async fn segment(&mut self, name: SegmentName) -> Result<Vec<u8>, String> {
        let path = self.pgdata.join("pg_wal").join(name.to_string());
        // A file of that name may still be another segment, or another cluster's, where the server runs elsewhere.
        let is_it = |bytes: &Vec<u8>| {
            let header = SegmentHeader::parse(bytes).ok();
            let of_server = |header: &SegmentHeader| match &self.server {
                Ok(server) => header.system_id == server.system_id,
                Err(_) => true,
            };
            header.is_some_and(|header| of_server(&header) && header.check(name, bytes.len() as u64).is_ok())
        };
        if let Some(bytes) = self.files.read(&path, 1 << 30).ok().filter(is_it) {
            return Ok(bytes);
        }
        let missing = || format!("`{name}` is not in its `pg_wal`");
        match &mut self.archiver {
            Some(archiver) => archiver.segment(name).await.map_err(|error| told(&error))?.ok_or_else(missing),
            None => Err(missing()),
        }
    }

    /// Goes on with a search in what the server has behind the archived segments.
    pub async fn hunt(&mut self, hunt: &mut Hunt, timeline: Timeline) -> Result<(), String> {
        let Ok(server) = self.server.clone() else { return Ok(()) };
        let size = hunt.size;
        if server.timeline != timeline || server.segment_size != size {
            return Ok(());
        }
        let current = size.number_of(Lsn(server.position.0.saturating_sub(1)));
        let first = hunt.last.map_or(current, |last| last + 1);
        for number in first..=current {
            let name = SegmentName::new(timeline, number, size);
            let bytes = self.segment(name).await?;
            hunt.beyond.get_or_insert(name.start(size));
            if hunt.take(name, &bytes) != Walked::ToTheEnd {
                break;
            }
        }
        Ok(())
    }
}
