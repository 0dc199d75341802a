//! What `pgbackrest info --output=json` tells, as our catalog counts: a kind with tiers, times, sizes, positions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::KIND;
use crate::action::{ActionError, BackupHandle};
use crate::base::{Digest, Timestamp};
use crate::catalog::Tablespace;
use crate::catalog::recovery::{Base, BaseBackup};
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};

/// What pgBackRest has of a stanza.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StanzaStatus {
    /// The stanza.
    pub stanza: String,
    /// pgBackRest's own status: 0 in order, 2 without a backup, anything else a fault.
    pub code: u32,
    /// The same in its words.
    pub status: String,
    /// Whether a backup or an expiry runs now.
    pub busy: bool,
    /// Its backups, oldest first.
    pub backups: Vec<Listed>,
    /// Its repositories that were asked, by their numbers.
    #[serde(skip)]
    pub(super) repositories: Vec<RepositoryStatus>,
    /// Its archives.
    #[serde(skip)]
    pub(super) archives: Vec<Archive>,
}

/// What pgBackRest says of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepositoryStatus {
    /// Its number.
    pub(super) repo: u32,
    /// The status, as that of the stanza: 0 in order, 2 without a backup, anything else a fault.
    pub(super) code: u32,
    /// The same in its words.
    pub(super) status: String,
}

/// A backup of pgBackRest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its label.
    pub id: String,
    /// `full`, `diff` or `incr`.
    pub tier: String,
    /// The repository that it lies in.
    pub repo: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub stopped_at: Timestamp,
    /// The bytes that a restore of it writes.
    pub plain_bytes: u64,
    /// The bytes that it added to the repository.
    pub size_bytes: u64,
    /// The backups that it rests on.
    pub rests_on: Vec<String>,
    /// What is wrong with it, as pgBackRest found out when it took it; `None` when nothing is known.
    pub fault: Option<String>,
    /// The step of a run that took it, as the step's key.
    pub key: Option<String>,
    /// The version of its server.
    pub version: String,
    /// The cluster.
    pub system_id: Option<SystemId>,
    /// Where replay begins and where it is consistent; `None` for one that was taken of a stopped server.
    #[serde(skip)]
    pub(super) positions: Option<Positions>,
    /// Its archive in the repository.
    #[serde(skip)]
    pub(super) archive_id: Option<String>,
}

/// A backup's positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) start: Lsn,
    pub(super) stop: Lsn,
    pub(super) first: SegmentName,
}

/// The WAL of one cluster in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) id: String,
    pub(super) repo: u32,
    pub(super) system_id: Option<SystemId>,
    pub(super) newest: Option<String>,
}

impl StanzaStatus {
    /// The newest backup nothing is known to be wrong with.
    #[must_use]
    pub fn newest(&self) -> Option<&Listed> {
        self.backups.iter().rfind(|backup| backup.fault.is_none())
    }

    /// The first repository that is in order, where not all are: the stanza's own status says only that they differ.
    pub(super) fn first_sound(&self) -> Option<u32> {
        let sound = self.repositories.iter().find(|one| one.code == 0);
        sound.filter(|_| self.code != 0).map(|one| one.repo)
    }

    /// The status of the repository that a backup is written to: the named one, else the first.
    pub(super) fn code_of(&self, repo: Option<u32>) -> u32 {
        let named = |one: &&RepositoryStatus| repo.is_none_or(|repo| repo == one.repo);
        self.repositories.iter().find(named).map_or(self.code, |one| one.code)
    }

    /// Names the repositories that are not in order, with what pgBackRest says of each; `None` where it told of none.
    pub(super) fn unsound(&self) -> Option<String> {
        let unsound = self.repositories.iter().filter(|one| one.code != 0);
        let told: Vec<String> = unsound.map(|one| format!("repository {}: {}", one.repo, one.status)).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// The cluster that archives into the stanza now.
    pub(super) fn system_id(&self) -> Option<SystemId> {
        self.archives.last().and_then(|archive| archive.system_id)
    }
}

impl Listed {
    /// The timeline that it begins on; `None` for one without positions.
    #[must_use]
    pub fn timeline(&self) -> Option<Timeline> {
        self.positions.map(|at| at.first.timeline())
    }

    /// The handle of the backup, of `database`.
    pub(super) fn handle(&self, database: &str, stanza: &str) -> Result<BackupHandle, ActionError> {
        let own = serde_json::to_vec(self)
            .map_err(|error| ActionError::fatal("the backup cannot be described").because(&error))?;
        Ok(BackupHandle {
            database: database.to_owned(),
            store: format!("{KIND}:{stanza}"),
            id: self.id.clone(),
            kind: KIND.to_owned(),
            tier: Some(self.tier.clone()),
            manifest: Digest::of(&own),
            described: None,
        })
    }

    /// The size of the cluster's segments, told by the positions: the same place has another name with each size.
    pub(super) fn segment_size(&self) -> Option<SegmentSize> {
        let at = self.positions?;
        let holds = |size: &SegmentSize| SegmentName::holding(at.first.timeline(), at.start, *size) == at.first;
        let others = (20..=30).filter_map(|bits| SegmentSize::new(1 << bits));
        std::iter::once(SegmentSize::DEFAULT).chain(others).find(holds)
    }

    /// The backup as recoveries begin with it; `None` for one without positions.
    pub(super) fn beginning(&self) -> Option<BaseBackup> {
        let (at, system_id) = (self.positions?, self.system_id?);
        let base = Base { timeline: at.first.timeline(), start: at.start, stop: at.stop, ended_at: self.stopped_at };
        let mut chain = self.rests_on.clone();
        chain.push(self.id.clone());
        let (stored_bytes, plain_bytes) = (self.size_bytes, self.plain_bytes);
        let (id, fault, embedded) = (self.id.clone(), self.fault.clone(), BTreeSet::new());
        let (kind, tablespaces) = (KIND.to_owned(), Vec::new());
        Some(BaseBackup { id, kind, system_id, base, embedded, chain, stored_bytes, plain_bytes, tablespaces, fault })
    }
}

/// Reads the answer for one stanza.
///
/// # Errors
/// Fails when it makes no sense.
pub(super) fn parse(stanza: &str, text: &[u8]) -> Result<StanzaStatus, ActionError> {
    let strange = |why: String| {
        ActionError::fatal(format!("the answer of `pgbackrest info` makes no sense: {why}"))
            .help("runbook knows the answers of pgBackRest 2.41 and later")
    };
    let all: Vec<TextStanza> = serde_json::from_slice(text).map_err(|error| strange(error.to_string()))?;
    let one = all.into_iter().find(|one| one.name == stanza);
    let one = one.ok_or_else(|| strange(format!("it does not name stanza `{stanza}`")))?;
    let system_of = |at: &TextPlace| {
        let db = one.db.iter().find(|db| db.id == at.id && db.repo == at.repo);
        db.map(|db| (SystemId(db.system_id), db.version.clone()))
    };
    let archives: Vec<Archive> = one
        .archive
        .iter()
        .map(|archive| Archive {
            id: archive.id.clone(),
            repo: archive.database.repo,
            system_id: system_of(&archive.database).map(|(id, _)| id),
            newest: archive.max.clone(),
        })
        .collect();
    let mut backups = Vec::new();
    for backup in &one.backup {
        let known = system_of(&backup.database);
        let (id, repo) = (archive_of(&one.archive, &backup.database), backup.database.repo);
        let (system_id, version) = known.map_or((None, String::new()), |(id, version)| (Some(id), version));
        let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| strange(error.to_string()));
        backups.push(Listed {
            id: backup.label.clone(),
            tier: backup.tier.clone(),
            repo,
            started_at: at(backup.timestamp.start)?,
            stopped_at: at(backup.timestamp.stop)?,
            plain_bytes: backup.info.size,
            size_bytes: backup.info.repository.delta.unwrap_or(backup.info.delta),
            rests_on: backup.reference.clone().unwrap_or_default(),
            fault: backup.error.unwrap_or_default().then(|| "pages with a wrong checksum".to_owned()),
            key: backup.annotation.as_ref().and_then(|notes| notes.get(NOTE)).cloned(),
            version,
            system_id,
            positions: backup.positions(),
            archive_id: id,
        });
    }
    backups.sort_by(|a, b| (a.stopped_at, &a.id).cmp(&(b.stopped_at, &b.id)));
    let (code, busy) = (one.status.code, one.status.lock.is_some_and(|lock| lock.backup.held));
    let said =
        |one: TextRepository| RepositoryStatus { repo: one.key, code: one.status.code, status: one.status.message };
    let mut repositories: Vec<RepositoryStatus> = one.repo.into_iter().map(said).collect();
    repositories.sort_by_key(|one| one.repo);
    let status = one.status.message;
    Ok(StanzaStatus { stanza: one.name, code, status, busy, backups, repositories, archives })
}

/// Reads the tablespaces of the one backup that `pgbackrest info --set` tells of, each with its place.
///
/// # Errors
/// Fails when the answer makes no sense.
pub(super) fn tablespaces(text: &[u8]) -> Result<Vec<Tablespace>, ActionError> {
    let all: Vec<TextStanza> = serde_json::from_slice(text)
        .map_err(|error| ActionError::fatal("the answer of `pgbackrest info` makes no sense").because(&error))?;
    let all = all.into_iter().flat_map(|one| one.backup).filter_map(|backup| backup.tablespace).flatten();
    let tablespace = |TextTablespace { oid, name, destination }| Tablespace { oid, name, location: destination };
    Ok(all.map(tablespace).collect())
}

/// The annotation that a backup of ours carries.
pub(super) const NOTE: &str = "runbook";

fn archive_of(archives: &[TextArchive], at: &TextPlace) -> Option<String> {
    archives.iter().find(|one| one.database == *at).map(|one| one.id.clone())
}

#[derive(Deserialize)]
struct TextStanza {
    name: String,
    status: TextStatus,
    #[serde(default)]
    db: Vec<TextDb>,
    #[serde(default)]
    archive: Vec<TextArchive>,
    #[serde(default)]
    backup: Vec<TextBackup>,
    #[serde(default)]
    repo: Vec<TextRepository>,
}

#[derive(Deserialize)]
struct TextRepository {
    key: u32,
    status: TextStatus,
}

#[derive(Deserialize)]
struct TextStatus {
    code: u32,
    message: String,
    #[serde(default)]
    lock: Option<TextLock>,
}

#[derive(Deserialize)]
struct TextLock {
    backup: TextHeld,
}

#[derive(Deserialize)]
struct TextHeld {
    held: bool,
}

#[derive(Deserialize)]
struct TextDb {
    id: u32,
    #[serde(rename = "repo-key", default = "first")]
    repo: u32,
    #[serde(rename = "system-id")]
    system_id: u64,
    version: String,
}

#[derive(Deserialize)]
struct TextArchive {
    database: TextPlace,
    id: String,
    #[serde(default)]
    max: Option<String>,
}

#[derive(PartialEq, Eq, Deserialize)]
struct TextPlace {
    id: u32,
    #[serde(rename = "repo-key", default = "first")]
    repo: u32,
}

#[derive(Deserialize)]
struct TextBackup {
    label: String,
    #[serde(rename = "type")]
    tier: String,
    database: TextPlace,
    timestamp: TextTimes,
    info: TextSizes,
    #[serde(default)]
    error: Option<bool>,
    #[serde(default)]
    reference: Option<Vec<String>>,
    #[serde(default)]
    annotation: Option<BTreeMap<String, String>>,
    #[serde(default)]
    lsn: Option<TextRange>,
    #[serde(default)]
    archive: Option<TextRange>,
    /// Told of one backup only.
    #[serde(default)]
    tablespace: Option<Vec<TextTablespace>>,
}

#[derive(Deserialize)]
struct TextTablespace {
    oid: u32,
    #[serde(default)]
    name: String,
    destination: String,
}

#[derive(Deserialize)]
struct TextTimes {
    start: i64,
    stop: i64,
}

#[derive(Deserialize)]
struct TextSizes {
    size: u64,
    delta: u64,
    repository: TextStored,
}

#[derive(Deserialize)]
struct TextStored {
    #[serde(default)]
    delta: Option<u64>,
}

#[derive(Deserialize)]
struct TextRange {
    start: Option<String>,
    stop: Option<String>,
}

fn first() -> u32 {
    1
}

impl TextBackup {
    fn positions(&self) -> Option<Positions> {
        let (lsn, archive) = (self.lsn.as_ref()?, self.archive.as_ref()?);
        let read = |text: &Option<String>| text.as_deref()?.parse::<Lsn>().ok();
        let first = archive.start.as_deref()?.parse().ok()?;
        Some(Positions { start: read(&lsn.start)?, stop: read(&lsn.stop)?, first })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::parse;
    use crate::pgformat::{SegmentSize, Timeline};

    const ANSWER: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"00000001000000000000000E","min":"000000010000000000000001"}],
"backup":[{"archive":{"start":"000000010000000000000002","stop":"000000010000000000000003"},"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},"error":false,"info":{"delta":22992559,"repository":{"delta":3043467,"size":3043467},"size":22992559},"label":"20261121-143321F","lsn":{"start":"0/2000028","stop":"0/3000050"},"prior":null,"reference":null,"timestamp":{"start":1795271601,"stop":1795271606},"type":"full"},
{"annotation":{"runbook":"r/step"},"archive":{"start":"00000001000000000000000E","stop":"00000001000000000000000E"},"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},"error":true,"info":{"delta":8479,"repository":{"delta":473,"size":3056954},"size":23131862},"label":"20261121-143321F_20261121-144153I","lsn":{"start":"0/E000028","stop":"0/E000100"},"prior":"20261121-143321F","reference":["20261121-143321F"],"timestamp":{"start":1795272113,"stop":1795272114},"type":"incr"}],
"cipher":"none","db":[{"id":1,"repo-key":1,"system-id":7710632807683811956,"version":"15"}],"name":"demo","repo":[{"cipher":"none","key":1,"status":{"code":0,"message":"ok"}}],"status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;

    #[test]
    fn backups_have_tiers_sizes_positions_and_what_they_rest_on() {
        let standing = parse("demo", ANSWER.as_bytes()).unwrap();
        assert_eq!((standing.code, standing.busy, standing.backups.len()), (0, false, 2));
        let (full, incr) = (&standing.backups[0], &standing.backups[1]);
        assert_eq!((full.tier.as_str(), full.plain_bytes, full.size_bytes), ("full", 22_992_559, 3_043_467));
        assert_eq!(
            (incr.rests_on.as_slice(), incr.key.as_deref()),
            (&["20261121-143321F".to_owned()][..], Some("r/step"))
        );
        assert!(full.fault.is_none() && incr.fault.is_some());
        assert_eq!(standing.newest().unwrap().id, full.id, "one with bad pages is not counted on");
        assert_eq!(full.segment_size(), Some(SegmentSize::DEFAULT));
        let begin = full.beginning().unwrap();
        assert_eq!((begin.base.timeline, begin.base.stop.to_string().as_str()), (Timeline(1), "0/3000050"));
    }

    #[test]
    fn a_stanza_that_is_not_there_is_told_by_its_status() {
        let text = r#"[{"archive":[],"backup":[],"cipher":"none","db":[],"name":"wrong","repo":[],"status":{"code":1,"lock":{"backup":{"held":false}},"message":"missing stanza path"}}]"#;
        let standing = parse("wrong", text.as_bytes()).unwrap();
        assert_eq!((standing.code, standing.status.as_str()), (1, "missing stanza path"));
        assert!(parse("other", text.as_bytes()).is_err() && parse("wrong", b"WARN: x").is_err());
    }

    #[test]
    fn of_several_repositories_each_has_its_own_status() {
        let repos = r#""repo":[{"cipher":"none","key":1,"status":{"code":99,"message":"other"}},{"cipher":"none","key":2,"status":{"code":0,"message":"ok"}}],"status":{"code":4,"lock":{"backup":{"held":false}},"message":"different across repos"}}]"#;
        let (before, _) = ANSWER.split_once("\"repo\":[").unwrap();
        let standing = parse("demo", format!("{before}{repos}").as_bytes()).unwrap();
        assert_eq!((standing.code, standing.first_sound()), (4, Some(2)));
        assert_eq!((standing.code_of(None), standing.code_of(Some(2)), standing.code_of(Some(3))), (99, 0, 4));
        assert_eq!(standing.unsound().as_deref(), Some("repository 1: other"));
        let sound = parse("demo", ANSWER.as_bytes()).unwrap();
        assert_eq!((sound.first_sound(), sound.unsound()), (None, None));
    }

    #[test]
    fn segments_of_another_size_are_known_by_their_names() {
        let text = ANSWER.replace("000000010000000000000002\",\"stop", "000000010000000000000020\",\"stop");
        let standing = parse("demo", text.as_bytes()).unwrap();
        assert_eq!(standing.backups[0].segment_size(), SegmentSize::new(1 << 20));
    }
}
