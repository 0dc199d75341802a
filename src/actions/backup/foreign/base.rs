//! A folder of `pg_basebackup --format=tar`.

use std::sync::Arc;

use super::Reader;
use super::base_tar::{Held, Judge};
use super::name::{bare, file};
use super::reader::Described;
use crate::action::{ActionError, ObjectFacts};
use crate::base::Timestamp;
use crate::catalog::{
    IMPORTED, KIND_POSTGRES_BASE, Manifest, ManifestObject, ObjectRole, PostgresFacts, Tablespace, backup_id,
};
use crate::pgformat::{BackupLabel, BackupManifest, ControlFile, Lsn};

/// No `backup_manifest` is larger: a million files have 150 MB of it.
const MANIFEST_BYTES: u64 = 4 << 30;

/// A base backup that another program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBase {
    /// The folder, with a `/` at the end.
    pub folder: String,
    /// Its archives and its `backup_manifest`.
    pub parts: Vec<ObjectFacts>,
    /// When its `backup_manifest` was written, by the store's clock: it had ended by then.
    pub ended_by: Timestamp,
}

impl ForeignBase {
    /// Whether a file of this name, without endings, belongs to a base backup.
    pub(super) fn is_part(bare: &str) -> bool {
        role(bare).is_some()
    }

    /// The sizes of its parts together.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|facts| facts.size_bytes).sum()
    }

    /// The last part of its folder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        file(self.folder.trim_end_matches('/'))
    }

    /// Reads all of it, holds every file against its `backup_manifest`, and describes it as a backup of `source`.
    ///
    /// # Errors
    /// Fails when the store does, when none of the keys fits, and when anything is damaged or missing.
    pub async fn describe(&self, reader: &Reader<'_>, source: &str) -> Result<Manifest, ActionError> {
        let mut objects = Vec::new();
        let mut held = Held::default();
        let server = Arc::new(self.server_manifest(reader, &mut objects).await?);
        for part in &self.parts {
            let Some((role, oid)) = role(bare(file(part.key.as_str()))) else { continue };
            if role == ObjectRole::BackupManifest {
                continue;
            }
            let judge = Judge {
                prefix: oid.map(|oid| format!("pg_tblspc/{oid}/")).unwrap_or_default(),
                manifest: (role != ObjectRole::Wal).then(|| Arc::clone(&server)),
            };
            let (found, more) = reader.read(&part.key, move |from| judge.read(from)).await?;
            let holds_wal = !more.segments.is_empty();
            objects.push(ManifestObject { holds_wal, ..object(part, found, (role, oid)) });
            held.seen.extend(more.seen);
            held.telling.extend(more.telling);
            held.segments.extend(more.segments);
        }
        if let Some(missing) = server.files.keys().find(|path| !held.seen.contains(*path)) {
            let shown = String::from_utf8_lossy(missing);
            return Err(self.unusable(&format!("`{shown}` is missing in its archives")));
        }
        let control = held.telling.get(ControlFile::PATH).ok_or_else(|| self.unusable("it has no `pg_control`"))?;
        let control = ControlFile::parse(control)
            .map_err(|error| self.unusable("its `pg_control` makes no sense").because(&error))?;
        let facts = self.facts(&server, &control, &held)?;
        let lacks = facts.segments().into_iter().find(|segment| !held.segments.contains(segment));
        if let Some(segment) = lacks.filter(|_| !held.segments.is_empty()) {
            return Err(self.unusable(&format!(
                "the WAL in its `base.tar` lacks `{segment}`, without which it is not consistent"
            )));
        }
        let started_at = control.checkpoint_at.min(self.ended_by);
        let id = backup_id(IMPORTED, self.folder.trim_end_matches('/'));
        Ok(Manifest {
            postgres: Some(facts),
            objects,
            label: Some(format!("imported from {}", self.folder)),
            ..Manifest::new(id, KIND_POSTGRES_BASE, source, (started_at, self.ended_by))
        })
    }

    async fn server_manifest(
        &self,
        reader: &Reader<'_>,
        objects: &mut Vec<ManifestObject>,
    ) -> Result<BackupManifest, ActionError> {
        let is_it = |facts: &&ObjectFacts| bare(file(facts.key.as_str())) == "backup_manifest";
        let part = self.parts.iter().find(is_it).ok_or_else(|| self.unusable("it has no `backup_manifest`"))?;
        let (found, bytes) = reader.small(&part.key, MANIFEST_BYTES).await?;
        objects.push(object(part, found, (ObjectRole::BackupManifest, None)));
        BackupManifest::parse(&bytes)
            .map_err(|error| self.unusable("its `backup_manifest` makes no sense").because(&error))
    }

    fn facts(&self, server: &BackupManifest, control: &ControlFile, held: &Held) -> Result<PostgresFacts, ActionError> {
        // One taken across a promotion has a range of each timeline, the newest first.
        let (first, last) = (server.wal_ranges.iter().min_by_key(|range| range.start))
            .zip(server.wal_ranges.iter().max_by_key(|range| range.end))
            .ok_or_else(|| {
                self.unusable("its `backup_manifest` names no WAL, so nobody knows where it is consistent")
            })?;
        if server.system_id.is_some_and(|system_id| system_id != control.system_id) {
            return Err(self.unusable("its `backup_manifest` is of another cluster than its `pg_control`"));
        }
        let text = |name: &str| held.telling.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        self.judge_label(text("backup_label").as_deref(), first.start)?;
        Ok(PostgresFacts {
            bad_pages: Vec::new(),
            configuration: None,
            preload_libraries: Vec::new(),
            server_version: text("PG_VERSION").unwrap_or_default().trim().to_owned(),
            system_id: control.system_id,
            timeline: last.timeline,
            start_lsn: first.start,
            stop_lsn: last.end,
            segment_size: control.segment_size,
            tablespaces: text("tablespace_map").map(|map| self.tablespaces(&map)).transpose()?.unwrap_or_default(),
            slots: Vec::new(),
            standbys: Vec::new(),
            data_checksums: Some(control.data_checksum_version != 0),
            archiving: None,
            databases: Vec::new(),
        })
    }

    /// Refuses what only a part of a cluster's data is: its files are all there and whole, and no server starts with them.
    fn judge_label(&self, label: Option<&str>, start: Lsn) -> Result<(), ActionError> {
        let label = label.ok_or_else(|| self.unusable("it has no `backup_label`"))?;
        let label = BackupLabel::parse(label)
            .map_err(|error| self.unusable("its `backup_label` makes no sense").because(&error))?;
        if let Some(from) = label.incremental_from {
            let why = format!(
                "it is an increment to a backup that began at {from}: import what `pg_combinebackup` makes of both, or a full one"
            );
            return Err(self.unusable(&why));
        }
        if label.start != start {
            let why = format!("its `backup_label` begins at {}, its `backup_manifest` at {start}", label.start);
            return Err(self.unusable(&why));
        }
        Ok(())
    }

    /// Reads `tablespace_map`: a number and a place on each line, a backslash before line ends and backslashes.
    fn tablespaces(&self, map: &str) -> Result<Vec<Tablespace>, ActionError> {
        let mut found = Vec::new();
        for line in map.lines() {
            let parsed = line.split_once(' ').and_then(|(oid, place)| Some((oid.parse::<u32>().ok()?, place)));
            let (oid, place) = parsed
                .filter(|(_, place)| !place.contains('\\'))
                .ok_or_else(|| self.unusable(&format!("the line `{line}` of its `tablespace_map` makes no sense")))?;
            let has = |facts: &ObjectFacts| bare(file(facts.key.as_str())) == format!("{oid}.tar");
            if !self.parts.iter().any(has) {
                return Err(self.unusable(&format!("the archive `{oid}.tar` of a tablespace is missing")));
            }
            found.push(Tablespace { oid, name: oid.to_string(), location: place.to_owned() });
        }
        Ok(found)
    }

    fn unusable(&self, why: &str) -> ActionError {
        ActionError::fatal(format!("the base backup in `{}` cannot be used: {why}", self.folder))
    }
}

/// What a file of this name, without endings, is in a base backup.
fn role(bare: &str) -> Option<(ObjectRole, Option<u32>)> {
    match bare {
        "backup_manifest" => Some((ObjectRole::BackupManifest, None)),
        "base.tar" => Some((ObjectRole::Data, None)),
        "pg_wal.tar" => Some((ObjectRole::Wal, None)),
        other => Some((ObjectRole::Tablespace, Some(other.strip_suffix(".tar")?.parse().ok()?))),
    }
}

fn object(part: &ObjectFacts, found: Described, (role, tablespace): (ObjectRole, Option<u32>)) -> ManifestObject {
    let plain = (!found.encoding.is_plain()).then_some(found.plain.into());
    let object = ManifestObject::new(file(part.key.as_str()), found.stored.size_bytes, found.stored.sha256, role);
    ManifestObject { encoding: found.encoding, plain, tablespace, key: Some(part.key.to_string()), ..object }
}
