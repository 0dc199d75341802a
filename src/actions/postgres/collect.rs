//! Collects a base backup with `pg_basebackup` and verifies every file of it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tar::{Archive, EntryType};

use super::base_backup::{BaseBackupParams, Checkpoint};
use super::layout::Cluster;
use super::owner::Owner;
use super::server::Programs;
use crate::action::{ActionError, CommandSpec, Files, HostError, RunContext, Tie};
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::catalog::ObjectRole;
use crate::event::Progress;
use crate::language::inventory::SslMode;
use crate::pgformat::{BackupManifest, FileVerifier, Lsn, Timeline};

/// What is to be collected, and how.
pub(crate) struct Job<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// The step's arguments.
    pub(crate) params: &'a BaseBackupParams,
    /// Who runs `pg_basebackup`.
    pub(crate) owner: &'a Owner,
    /// The programs of the server's version.
    pub(crate) programs: &'a Programs,
    /// The size the databases have, for progress.
    pub(crate) expected_bytes: u64,
}

impl Job<'_> {
    /// The backup's label.
    pub(crate) fn label(&self, cx: &RunContext) -> String {
        self.params.label.clone().unwrap_or_else(|| format!("runbook {}", cx.about.run))
    }

    fn command(&self, folder: &Path, cx: &RunContext) -> Result<CommandSpec, ActionError> {
        let cluster = self.cluster;
        let host = cluster.socket.as_ref().map_or_else(|| "localhost".to_owned(), |path| path.display().to_string());
        let checkpoint = match self.params.checkpoint {
            Checkpoint::Fast => "fast",
            Checkpoint::Spread => "spread",
        };
        let label = self.label(cx);
        let mut spec = self.owner.command(self.programs.path("pg_basebackup"));
        spec = spec.args([
            "--format=tar",
            "--wal-method=stream",
            "--manifest-checksums=SHA256",
            "--no-password",
            "--no-sync",
        ]);
        spec = spec.args([format!("--checkpoint={checkpoint}"), format!("--label={label}")]);
        spec = spec.args([format!("--pgdata={}", folder.display()), format!("--host={host}")]);
        spec = spec.args([format!("--port={}", cluster.port), format!("--username={}", cluster.user)]);
        if let Some(rate) = self.params.max_rate {
            spec = spec.arg(format!("--max-rate={}k", rate.0 / 1024));
        }
        if let Some(secret) = &cluster.entry.password {
            spec = spec.env("PGPASSWORD", cx.about.secrets.get(secret)?.reveal());
        }
        let mode = match cluster.entry.sslmode {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyFull => "verify-full",
        };
        if cluster.socket.is_none() {
            spec = spec.env("PGSSLMODE", mode);
            if cluster.entry.sslmode == SslMode::VerifyFull {
                spec = spec.env("PGSSLROOTCERT", "/etc/ssl/certs/ca-certificates.crt");
            }
        }
        spec.dir = Some(PathBuf::from("/"));
        Ok(spec)
    }
}

/// One file of a collected backup, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Its name below the backup's folder, before it is packed.
    pub(crate) name: String,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// SHA-256 of its bytes.
    pub(crate) sha256: Digest,
}

impl Part {
    /// What it is, and of which tablespace.
    pub(crate) fn role(&self) -> (ObjectRole, Option<u32>) {
        match self.name.as_str() {
            "backup_manifest" => (ObjectRole::BackupManifest, None),
            "base.tar" => (ObjectRole::Data, None),
            "pg_wal.tar" => (ObjectRole::Wal, None),
            other => (ObjectRole::Tablespace, other.strip_suffix(".tar").and_then(|oid| oid.parse().ok())),
        }
    }
}

/// A collected backup that is verified.
pub(crate) struct Collected {
    folder: PathBuf,
    /// Its files.
    pub(crate) parts: Vec<Part>,
    /// Where replay begins.
    pub(crate) start: Lsn,
    /// Where it is consistent.
    pub(crate) stop: Lsn,
    /// Its timeline.
    pub(crate) timeline: Timeline,
}

/// Collects a backup into the run's scratch folder and verifies it.
///
/// # Errors
/// Fails when `pg_basebackup` does, or a file differs from the server's manifest.
pub(crate) async fn collect(job: &Job<'_>, cx: &RunContext) -> Result<Collected, ActionError> {
    let folder = cx.about.scratch.join(format!("base-{}", cx.step));
    let files = cx.host.files();
    fresh(files.as_ref(), &folder, job.owner)
        .map_err(|error| ActionError::retryable("the scratch folder of the backup cannot be made").because(&error))?;
    let spec = job.command(&folder, cx)?;
    let program = spec.program.clone();
    let mut running = cx.host.run(spec, Tie::Engine);
    let output = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                let done = size(files.as_ref(), &folder);
                cx.reporter.progress(Progress::Units { done, total: Some(job.expected_bytes.max(done)), unit: "bytes" });
            }
        }
    };
    let output = output.map_err(|error| match error {
        HostError::Cancelled { .. } => ActionError::cancelled("the base backup was cancelled").because(&error),
        _ => ActionError::retryable(format!("`{program}` failed")).because(&error),
    })?;
    if !output.success() {
        return Err(ActionError::retryable(format!("`{program}` failed")).process(output.exit_code, output.tail(20)));
    }
    cx.reporter.progress(Progress::Doing { text: "verifying every file against the server's manifest".to_owned() });
    let verified = tokio::task::spawn_blocking(move || verify(files.as_ref(), &folder)).await;
    verified.map_err(|error| ActionError::fatal("the verification panicked").because(&error))?
}

impl Collected {
    /// The tablespaces it holds.
    pub(crate) fn tablespaces(&self) -> impl Iterator<Item = u32> {
        self.parts.iter().filter_map(|part| part.role().1)
    }

    /// Removes the collected files; failing to is only noted.
    pub(crate) fn remove(&self, cx: &RunContext) {
        if let Err(error) = cx.host.files().remove_tree(&self.folder) {
            let message = format!("the collected files in `{}` could not be removed: {error}", self.folder.display());
            cx.reporter.note(message, serde_json::Value::Null);
        }
    }
}

fn fresh(files: &dyn Files, folder: &Path, owner: &Owner) -> Result<(), HostError> {
    if files.facts(folder)?.is_some() {
        files.remove_tree(folder)?;
    }
    files.create_dir(folder, 0o700)?;
    files.chown(folder, owner.uid, owner.gid)
}

fn size(files: &dyn Files, folder: &Path) -> u64 {
    files.list(folder).map_or(0, |entries| entries.iter().map(|entry| entry.facts.size_bytes).sum())
}

/// Verifies every file of every archive and that none is missing. Blocking.
fn verify(files: &dyn Files, folder: &Path) -> Result<Collected, ActionError> {
    let damaged = |error: &(dyn std::error::Error + 'static)| {
        ActionError::retryable("the collected backup cannot be read").because(error)
    };
    let manifest_path = folder.join("backup_manifest");
    let bytes = files.read(&manifest_path, 4 << 30).map_err(|error| damaged(&error))?;
    let manifest = BackupManifest::parse(&bytes).map_err(|error| damaged(&error))?;
    let range = manifest.wal_ranges.last().ok_or_else(|| ActionError::fatal("backup_manifest names no WAL"))?;
    let start = manifest.wal_ranges.first().map_or(range.start, |first| first.start);
    let (stop, timeline) = (range.end, range.timeline);
    let mut parts = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in files.list(folder).map_err(|error| damaged(&error))? {
        let name = entry.name.to_string_lossy().into_owned();
        let path = folder.join(&entry.name);
        let Some(stem) = name.strip_suffix(".tar") else { continue };
        let prefix = match stem {
            "base" => Some(String::new()),
            "pg_wal" => None,
            oid => Some(format!("pg_tblspc/{oid}/")),
        };
        let file = files.open(&path).map_err(|error| damaged(&error))?;
        let (sha256, size_bytes) = verify_tar(file, prefix.as_deref(), &manifest, &mut seen)?;
        parts.push(Part { path, name, size_bytes, sha256 });
    }
    if let Some(missing) = manifest.files.keys().find(|path| !seen.contains(*path)) {
        return Err(ActionError::retryable(format!("`{}` is missing in the backup", String::from_utf8_lossy(missing))));
    }
    let name = "backup_manifest".to_owned();
    parts.push(Part { path: manifest_path, name, size_bytes: bytes.len() as u64, sha256: Digest::of(&bytes) });
    Ok(Collected { folder: folder.to_owned(), parts, start, stop, timeline })
}

/// Reads one archive to its end; gives its digest and size.
fn verify_tar(
    file: std::fs::File,
    prefix: Option<&str>,
    manifest: &BackupManifest,
    seen: &mut BTreeSet<Vec<u8>>,
) -> Result<(Digest, u64), ActionError> {
    let broken = |error: &std::io::Error| ActionError::retryable("an archive of the backup breaks off").because(error);
    let mut reader =
        Digesting { inner: std::io::BufReader::with_capacity(1 << 18, file), hasher: Hasher::default(), size_bytes: 0 };
    let mut archive = Archive::new(&mut reader);
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let Some(prefix) = prefix.filter(|_| entry.header().entry_type() == EntryType::Regular) else { continue };
        let mut path = prefix.as_bytes().to_vec();
        let own = entry.path_bytes().into_owned();
        path.extend_from_slice(own.strip_prefix(b"./").unwrap_or(&own));
        let shown = String::from_utf8_lossy(&path).into_owned();
        let known = manifest.file(&path);
        let known = known.ok_or_else(|| ActionError::retryable(format!("`{shown}` is not in backup_manifest")))?;
        let mut verifier = FileVerifier::new(known);
        std::io::copy(&mut entry, &mut verifier).map_err(|error| broken(&error))?;
        verifier.finish().map_err(|fault| ActionError::retryable(format!("`{shown}` is damaged")).because(&fault))?;
        seen.insert(path);
    }
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| broken(&error))?;
    Ok((reader.hasher.finish(), reader.size_bytes))
}

struct Digesting<R> {
    inner: R,
    hasher: Hasher,
    size_bytes: u64,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}
