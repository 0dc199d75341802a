//! Takes a base backup through the replication protocol: one pass from the server into every store, verified against
//! the server's own manifest on the way. Nothing is written to a disk in between.
//!
//! A temporary replication slot keeps the WAL of the meantime until the server has sent it, too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::bad_page::BadPage;
use super::base_backup::BaseBackupParams;
use super::delivery::{Arrivals, Delivery, Item};
use super::increment::Prior;
use super::omission::Warnings;
use super::replication::{Ended, Extent, Feed, Order, Piece, Wire};
use super::tar_walk::{Lot, TRAILER, WAL_FOLDER, Walk, WalkError};
use super::tee::{Reach, Tee};
use super::uploads::Uploads;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::session::connect::Endpoint;
use crate::actions::postgres::session::facts::ServerFacts;
use crate::base::Digest;
use crate::catalog::ObjectRole;
use crate::event::Progress;
use crate::pgformat::{BackupManifest, FileSum, Lsn, SegmentName, Timeline};

/// The most a server's manifest may have: a million files have 150 MB of it.
const MANIFEST_LIMIT_BYTES: usize = 4 << 30;

/// What is to be collected, and how.
pub(crate) struct Job<'a> {
    /// The step's arguments.
    pub(crate) params: &'a BaseBackupParams,
    /// The server.
    pub(crate) facts: &'a ServerFacts,
    /// How it is reached.
    pub(crate) endpoint: &'a Endpoint,
    /// Where the objects go.
    pub(crate) delivery: &'a Delivery<'a>,
    /// The backup that this one is an increment to; `None` for a full one.
    pub(crate) prior: Option<&'a Prior>,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

/// A collected backup that is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collected {
    /// The tablespaces it holds.
    pub(crate) tablespaces: Vec<u32>,
    /// Where replay begins.
    pub(crate) start: Lsn,
    /// Where it is consistent.
    pub(crate) stop: Lsn,
    /// Its timeline.
    pub(crate) timeline: Timeline,
    /// Pages whose checksum the server found wrong.
    pub(crate) bad_pages: Vec<BadPage>,
    /// What the server left out that is none of its data, by its path below the data directory.
    pub(crate) left_out: Vec<PathBuf>,
    /// SHA-256 of each segment of WAL that came with it.
    pub(crate) segments: BTreeMap<SegmentName, Digest>,
}

impl Job<'_> {
    /// The backup's label.
    pub(crate) fn label(&self) -> String {
        self.params.label.clone().unwrap_or_else(|| format!("runbook {}", self.cx.about.run))
    }

    /// Collects the backup and tells how far it is.
    ///
    /// # Errors
    /// Fails when the server does, when a file differs from its manifest, and when too few stores are left; what came
    /// of each store is in `arrivals` in any case.
    pub(crate) async fn run(&self, arrivals: &mut Arrivals) -> Result<Collected, ActionError> {
        let done = Arc::<AtomicU64>::default();
        let mut work = Box::pin(self.stream(&done, arrivals));
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    let done = done.load(Ordering::Relaxed);
                    let total = Some(self.facts.size_bytes.max(done));
                    self.cx.reporter.progress(Progress::Units { done, total, unit: "bytes" });
                }
                () = self.cx.cancel.cancelled() => {
                    return Err(ActionError::cancelled("the base backup was cancelled before its manifest"));
                }
            }
        }
    }

    async fn stream(&self, done: &AtomicU64, arrivals: &mut Arrivals) -> Result<Collected, ActionError> {
        let mut wire = Wire::open(self.endpoint).await?;
        self.recognize(&mut wire).await?;
        self.hold_wal(&mut wire).await;
        let order = Order {
            label: self.label(),
            checkpoint: self.params.checkpoint,
            max_rate_kib: self.params.max_rate.map(|rate| rate.0 / 1024),
            major: self.facts.major(),
            extent: if self.prior.is_some() { Extent::Increment } else { Extent::Whole },
        };
        if let Some(prior) = self.prior {
            wire.upload_manifest(&prior.manifest).await?;
        }
        let mut source = Source::new(Feed::begin(wire, &order).await?, done, Warnings::of(self.cx));
        let (mut tablespaces, mut has_wal, mut uploads) = (Vec::new(), false, Uploads::default());
        while let Some(tablespace) = uploads.meanwhile(source.archive()).await? {
            tablespaces.extend(tablespace);
            let data = (Lot::Data, Item::archive(tablespace));
            self.object(&mut source, data, (&mut uploads, arrivals)).await?;
            if source.walk.holds(Lot::Wal) {
                has_wal = true;
                let wal = (Lot::Wal, Item::new("pg_wal.tar", ObjectRole::Wal));
                self.object(&mut source, wal, (&mut uploads, arrivals)).await?;
            }
        }
        let start = source.feed.start;
        let (ended, manifest, left_out, segments) = uploads.meanwhile(source.finish()).await?;
        uploads.arrive(arrivals).await;
        if !has_wal {
            return Err(ActionError::retryable("the server sent no WAL with the backup"));
        }
        self.delivery.bring_small(&Item::new("backup_manifest", ObjectRole::BackupManifest), &manifest, arrivals).await;
        self.enough(arrivals)?;
        let bad_pages = match &ended.complaint {
            Some(complaint) => BadPage::of(&ended.warnings, complaint)?,
            None => Vec::new(),
        };
        let (stop, timeline) = (ended.stop, ended.timeline);
        Ok(Collected { tablespaces, start, stop, timeline, bad_pages, left_out, segments })
    }

    /// Streams one object into all stores. When they have all of its bytes, they make it durable beside what comes next.
    async fn object<'a>(
        &'a self,
        source: &mut Source<'_>,
        (lot, item): (Lot, Item),
        (uploads, arrivals): (&mut Uploads<'a>, &mut Arrivals),
    ) -> Result<(), ActionError> {
        let (tee, bodies) = self.delivery.open(arrivals);
        let fed: Vec<usize> = bodies.iter().map(|(backup_store, _)| *backup_store).collect();
        uploads.send(async move { self.delivery.bring(&item, bodies).await });
        match uploads.meanwhile(source.fill(lot, tee)).await {
            Ok(Reach::Enough) => uploads.keep(arrivals),
            Ok(Reach::TooFew) => uploads.arrive(arrivals).await,
            Err(error) => {
                uploads.arrive(arrivals).await;
                arrivals.blame(&fed, &error);
                return Err(error);
            }
        }
        self.enough(arrivals)
    }

    fn enough(&self, arrivals: &Arrivals) -> Result<(), ActionError> {
        if arrivals.whole() >= self.delivery.needed {
            return Ok(());
        }
        Err(ActionError::retryable("too few stores are left for the backup"))
    }

    /// Refuses another server than the one that was asked before.
    async fn recognize(&self, wire: &mut Wire) -> Result<(), ActionError> {
        let rows = wire.rows("IDENTIFY_SYSTEM").await?;
        let told = rows.first().and_then(|row| row.first()).cloned().flatten().unwrap_or_default();
        if told == self.facts.system_id.to_string() {
            return Ok(());
        }
        let fact = format!("cluster {told} answers for replication where cluster {} is wanted", self.facts.system_id);
        Err(ActionError::fatal(fact).help("see which server listens there; a pooler or a proxy may stand in between"))
    }

    /// Keeps the server from recycling the WAL that it is to send at the end.
    async fn hold_wal(&self, wire: &mut Wire) {
        let key = format!("{}/{}", self.cx.key(), self.cx.attempt.0);
        let name = format!("runbook_{}", Digest::of(key.as_bytes()).short());
        let made = wire.rows(&format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY PHYSICAL RESERVE_WAL")).await;
        if let Err(error) = made {
            let message = format!(
                "no replication slot keeps the WAL of the backup ({error}): on a busy server it may be recycled before it is sent"
            );
            self.cx.reporter.note(message, serde_json::json!({ "slot": name }));
        }
    }
}

/// What arrives from the server.
struct Source<'a> {
    feed: Feed,
    walk: Walk,
    sums: BTreeMap<Vec<u8>, FileSum>,
    segments: BTreeMap<SegmentName, Digest>,
    manifest: BytesMut,
    ahead: Option<Piece>,
    done: &'a AtomicU64,
    warnings: Warnings<'a>,
}

impl<'a> Source<'a> {
    fn new(mut feed: Feed, done: &'a AtomicU64, warnings: Warnings<'a>) -> Self {
        let ahead = feed.first();
        let (sums, segments) = (BTreeMap::new(), BTreeMap::new());
        Self { feed, walk: Walk::new(None), sums, segments, manifest: BytesMut::new(), ahead, done, warnings }
    }

    /// The next piece. A warning of data that is left out comes before the rest, which may take hours.
    async fn next(&mut self) -> Result<Option<Piece>, ActionError> {
        let piece = self.feed.next().await;
        self.warnings.hear(self.feed.warnings())?;
        piece
    }

    /// The archive that comes next; `None` when there is no other, and the manifest has come.
    async fn archive(&mut self) -> Result<Option<Option<u32>>, ActionError> {
        loop {
            let piece = match self.ahead.take() {
                Some(piece) => Some(piece),
                None => self.next().await?,
            };
            match piece {
                Some(Piece::Archive(tablespace)) => {
                    self.segments.append(&mut self.walk.segments());
                    self.walk = Walk::new(tablespace);
                    return Ok(Some(tablespace));
                }
                Some(Piece::Manifest(bytes)) if self.manifest.len() + bytes.len() <= MANIFEST_LIMIT_BYTES => {
                    self.manifest.extend_from_slice(&bytes);
                }
                Some(Piece::Manifest(_)) => {
                    return Err(ActionError::fatal(format!(
                        "backup_manifest has more than {MANIFEST_LIMIT_BYTES} bytes"
                    )));
                }
                Some(Piece::Data(_)) => return Err(ActionError::retryable("data came that are of no archive")),
                None => return Ok(None),
            }
        }
    }

    /// Puts what belongs into one object into its tee, until something else comes.
    async fn fill(&mut self, lot: Lot, mut tee: Tee) -> Result<Reach, ActionError> {
        loop {
            while let Some((to, bytes)) = self.walk.next() {
                if to != lot {
                    self.walk.unread(to, bytes);
                    return Ok(close(tee).await);
                }
                self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if tee.put(bytes).await == Reach::TooFew {
                    return Ok(Reach::TooFew);
                }
            }
            match self.next().await? {
                Some(Piece::Data(bytes)) => self.walk.feed(bytes, &mut self.sums).map_err(|error| torn(&error))?,
                other => {
                    self.ahead = other;
                    self.walk.finish().map_err(|error| torn(&error))?;
                    return Ok(close(tee).await);
                }
            }
        }
    }

    /// Hears how the backup ended and verifies every file of it.
    async fn finish(mut self) -> Result<(Ended, Bytes, Vec<PathBuf>, BTreeMap<SegmentName, Digest>), ActionError> {
        self.segments.append(&mut self.walk.segments());
        let ended = self.feed.finish().await?;
        self.warnings.hear(&ended.warnings)?;
        let manifest = BackupManifest::parse(&self.manifest)
            .map_err(|error| ActionError::retryable("the server's manifest cannot be read").because(&error))?;
        for (path, sum) in &self.sums {
            let shown = String::from_utf8_lossy(path);
            let known = match manifest.file(path) {
                Some(known) => known,
                // Segments prove themselves, record by record; the server does not list them.
                None if path.starts_with(WAL_FOLDER) => continue,
                None => return Err(ActionError::retryable(format!("`{shown}` is not in backup_manifest"))),
            };
            sum.check(known).map_err(|fault| {
                ActionError::retryable(format!("`{shown}` arrived damaged from the server")).because(&fault)
            })?;
        }
        if let Some(missing) = manifest.files.keys().find(|path| !self.sums.contains_key(*path)) {
            let fact = format!("`{}` is missing in the backup", String::from_utf8_lossy(missing));
            return Err(ActionError::retryable(fact));
        }
        Ok((ended, self.manifest.freeze(), self.warnings.left_out(), self.segments))
    }
}

async fn close(mut tee: Tee) -> Reach {
    tee.put(Bytes::from_static(&TRAILER)).await;
    tee.finish().await
}

fn torn(error: &WalkError) -> ActionError {
    ActionError::retryable("an archive of the backup makes no sense").because(error)
}
