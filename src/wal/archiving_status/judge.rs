//! Holds what the server says against what the archive has.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ArchivingStatus, Figures, Ready, ServerSide};
use crate::base::units::{ByteSize, human_duration};
use crate::base::{Timestamp, clock};
use crate::catalog::health::{Finding, Level};
use crate::pgformat::{Lsn, SegmentName, SystemId, Timeline, WalFileName};
use crate::wal::Otherwise;

/// How long a file may wait before somebody must know why.
const PATIENCE: Duration = Duration::from_secs(120);
/// From which part of the RPO on a lag is worth a look.
const NEAR: f64 = 0.8;
/// For how many more segments there must be room beside `pg_wal`.
const ROOM: u64 = 64;
const LEAST_ROOM: u64 = 16;
/// Below which percentage of its file system it is about to fill it while files wait.
const LOW: u64 = 5;

/// What was seen of one database.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The server's own words; why there are none.
    pub server: Result<ServerSide, String>,
    /// The stores that gave no answer while others did: what is told of the archive is told without them.
    pub silent: Vec<Unheard>,
    /// Why nothing is known of the archive; `None` when it was looked at.
    pub unseen: Option<String>,
    /// The cluster that archives under the prefix; `None` when nothing was ever archived there.
    pub system_id: Option<SystemId>,
    /// The newest segment of the archive on the server's timeline, or of all without a server.
    pub last_archived: Option<SegmentName>,
    /// The position up to which the archive has everything the server wrote.
    pub archived_to: Option<Lsn>,
    /// What waits behind it.
    pub waiting: Waiting,
    /// A segment that the server was told is archived, and the archive does not have.
    pub lost: Option<SegmentName>,
    /// What the stores of its archiving lack by its own notes; why it is not known.
    pub lacking: Result<Lacking, String>,
    /// How many files each store of the inventory lacks that another has, by its URL; why they could not be compared.
    pub compared: Result<BTreeMap<String, usize>, String>,
    /// The timelines of the archive.
    pub timelines: Vec<Timeline>,
    /// Gaps that keep the newest backup from reaching the newest WAL.
    pub gaps_now: Vec<String>,
    /// Gaps between older backups.
    pub gaps_before: Vec<String>,
    /// Stores of its WAL without room for another segment, with the bytes that are free; looked at where archiving fails.
    pub full: Vec<(String, u64)>,
    /// Where the server's log lies; looked for where archiving fails.
    pub log: Option<String>,
    /// What may be lost at most.
    pub rpo: Option<Duration>,
}

/// A store of a database's WAL that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    /// Its name.
    pub store: String,
    /// Whether it is the database's own: the one that every restore reads.
    pub is_own: bool,
    /// What it failed with.
    pub why: String,
}

/// What the stores of an archiving lack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacking {
    /// How many files a store lacks that others have, by its URL.
    pub owed: BTreeMap<String, usize>,
    /// Stores that may have WAL alone, and that a recovery would not look into.
    pub unnamed: Vec<String>,
    /// Stores of the inventory that are given no WAL.
    pub unfed: Vec<String>,
    /// What the last push that failed said, where that is the one that the server counts as its last failure.
    pub refused: Option<String>,
    /// The prefix and the keys that the server archives with, where they are not the inventory's.
    pub otherwise: Otherwise,
}

/// What only the server has.
#[derive(Debug, Clone, PartialEq)]
pub enum Waiting {
    /// No commit: nothing would be lost.
    Nothing,
    /// Commits; the oldest of them is of this time.
    Since(Timestamp),
    /// It could not be read: why.
    Unknown(String),
}

struct Judge<'a> {
    database: &'a str,
    seen: &'a Observed,
    figures: Figures,
    findings: Vec<Finding>,
}

/// Judges the archiving of one database.
#[must_use]
pub fn judge(database: &str, seen: &Observed) -> ArchivingStatus {
    let figures = Figures {
        last_archived: seen.last_archived.map(|name| name.to_string()),
        archived_to: seen.archived_to,
        rpo_s: seen.rpo.map(|rpo| rpo.as_secs()),
        timelines: seen.timelines.clone(),
        owed: owed(seen),
        owed_unread: seen.lacking.as_ref().err().cloned(),
        gaps: seen.gaps_before.iter().chain(&seen.gaps_now).cloned().collect(),
        ..Figures::default()
    };
    let mut judge = Judge { database, seen, figures, findings: Vec::new() };
    if let Some(why) = &seen.unseen {
        judge.say(Level::Unknown, format!("the store gives no answer: {why}"));
    }
    judge.unheard();
    judge.elsewhere();
    match &seen.server {
        Err(why) => judge.say(Level::Unknown, format!("the server gives no answer: {why}")),
        Ok(server) => {
            judge.set_up(server);
            if seen.unseen.is_none() {
                judge.late(server);
                judge.other_writers(server);
            }
            judge.stuck(server);
            judge.full(server);
        }
    }
    judge.lacks();
    judge.holes();
    let Judge { figures, findings, .. } = judge;
    let level = findings.iter().fold(Level::Ok, |worst, finding| worst.worse(finding.level));
    ArchivingStatus { database: database.to_owned(), level, findings, figures }
}

/// What each store lacks, by whatever knows more of it. `None` where nothing is known to lack and not all was seen.
fn owed(seen: &Observed) -> Option<BTreeMap<String, usize>> {
    let noted = seen.lacking.as_ref().ok().map(|lacking| &lacking.owed);
    let mut owed = noted.cloned().unwrap_or_default();
    for (store, count) in seen.compared.iter().flatten() {
        let known = owed.entry(store.clone()).or_default();
        *known = (*known).max(*count);
    }
    (noted.is_some() || !owed.is_empty()).then_some(owed)
}

impl Observed {
    /// What the server tells where the archive gives no answer.
    #[must_use]
    pub fn unseen(why: String, server: Result<ServerSide, String>) -> Self {
        Self {
            server,
            lacking: Err(why.clone()),
            compared: Ok(BTreeMap::new()),
            waiting: Waiting::Unknown(why.clone()),
            silent: Vec::new(),
            unseen: Some(why),
            system_id: None,
            last_archived: None,
            archived_to: None,
            lost: None,
            timelines: Vec::new(),
            gaps_now: Vec::new(),
            gaps_before: Vec::new(),
            full: Vec::new(),
            log: None,
            rpo: None,
        }
    }
}

impl Judge<'_> {
    fn say(&mut self, level: Level, message: String) {
        self.findings.push(Finding { level, message });
    }

    /// Whether WAL is given to anything at all (facts 2.10.14).
    fn set_up(&mut self, server: &ServerSide) {
        let settings = &server.archiving;
        let command = !settings.command.is_empty() && settings.command != "(disabled)";
        let library = !settings.library.is_empty();
        match (settings.mode.as_str(), command, library) {
            ("off", ..) => self.say(Level::Critical, "`archive_mode` is off: no WAL is archived".to_owned()),
            (_, false, false) => {
                self.say(Level::Critical, "neither `archive_command` nor `archive_library` is set".to_owned());
            }
            (_, true, true) => {
                let message = format!("`archive_library = {}` overrides `archive_command`", settings.library);
                self.say(Level::Warning, message);
            }
            (_, true, false) | (_, false, true) => {}
        }
    }

    /// The stores that everything else is told without.
    fn unheard(&mut self) {
        let seen = self.seen;
        for one in &seen.silent {
            let (level, what) = match one.is_own {
                true => (Level::Critical, ", which every restore reads,"),
                false => (Level::Warning, ""),
            };
            let (store, why) = (&one.store, &one.why);
            let message = format!("store `{store}`{what} gives no answer: {why}; the rest is told without it");
            self.say(level, message);
        }
    }

    /// A server that archives where no recovery looks: everything else follows from that.
    fn elsewhere(&mut self) {
        let Some(prefix) = self.seen.lacking.as_ref().ok().and_then(|lacking| lacking.otherwise.prefix.clone()) else {
            return;
        };
        let database = self.database;
        let message = format!(
            "the server archives under the prefix `{prefix}`, not under that of `{database}`: no recovery looks there. If the entry \
             was renamed, put `prefix: {prefix}` into it: its backups are there too; else `runbook run setup-archiving -p \
             database={database}`"
        );
        self.say(Level::Critical, message);
    }

    /// What would be lost with the server.
    fn late(&mut self, server: &ServerSide) {
        self.figures.written_to = Some(server.position);
        self.figures.timeline = Some(server.timeline);
        let lag_bytes = self.seen.archived_to.map(|to| server.position.bytes_since(to));
        self.figures.lag_bytes = lag_bytes;
        let lag = match &self.seen.waiting {
            Waiting::Nothing => Duration::ZERO,
            Waiting::Since(at) => clock::between(*at, server.now),
            Waiting::Unknown(why) => {
                let level = if self.seen.rpo.is_some() { Level::Unknown } else { Level::Ok };
                return self.say(level, format!("how long commits wait is not known: {why}"));
            }
        };
        self.figures.lag_s = Some(lag.as_secs());
        let Some(rpo) = self.seen.rpo else { return };
        let waits = format!("the oldest commit that is not archived waits for {}", human_duration(lag));
        if lag > rpo {
            self.say(Level::Critical, format!("{waits} (RPO {})", human_duration(rpo)));
        } else if lag > rpo.mul_f64(NEAR) {
            self.say(Level::Warning, format!("{waits}, close to the RPO of {}", human_duration(rpo)));
        }
    }

    /// Failures, those that the server's counters hide included (facts 2.1.3).
    fn stuck(&mut self, server: &ServerSide) {
        let counters = &server.counters;
        self.figures.failed = Some(counters.failed);
        self.figures.ready = Some(server.ready.len() as u64);
        let oldest = server.ready.iter().min_by_key(|ready| ready.since);
        self.figures.ready_since = oldest.map(|ready| ready.since);
        if let Some(segment) = self.seen.lost {
            let told = format!("the server was told that `{segment}` is archived");
            match self.seen.silent.is_empty() {
                true => self.say(Level::Critical, format!("{told}, and the archive does not have it")),
                false => self.say(Level::Warning, format!("{told}, and no store that answers has it")),
            }
        }
        if counters.fails() && !self.is_made_up_for(server) {
            let file = counters.last_failed.as_deref().unwrap_or("?");
            let since = counters.last_archived_at.map_or_else(|| "ever".to_owned(), |at| format!("since {at}"));
            let level = if self.seen.rpo.is_some() { Level::Warning } else { Level::Critical };
            let why = self.why_it_fails();
            let message = format!("archiving fails: nothing was archived {since}, last tried `{file}`; {why}");
            return self.say(level, message);
        }
        let Some(oldest) = oldest else { return };
        if clock::between(oldest.since, server.now) > PATIENCE {
            self.waits(server, *oldest);
        }
    }

    /// Which store refuses and why, as far as that is known here.
    fn why_it_fails(&self) -> String {
        let seen = self.seen;
        if !seen.full.is_empty() {
            let full = seen.full.iter().map(|(name, free)| format!("store `{name}` is full, {} free", ByteSize(*free)));
            return format!(
                "{}: give it room; `runbook backups prune --plan` shows what retention lets go",
                full.collect::<Vec<_>>().join(", ")
            );
        }
        let log = seen.log.as_ref().map_or_else(String::new, |log| format!(", {log},"));
        match seen.lacking.as_ref().ok().and_then(|lacking| lacking.refused.as_ref()) {
            Some(why) => format!("the push says: {why}; the server's log{log} has every attempt"),
            None => format!(
                "the server's log{log} tells why, and `runbook run setup-archiving -p database={}` sets it up anew from the inventory",
                self.database
            ),
        }
    }

    /// Whether the archive has what last failed, and the server does not want to archive it any more: what its archiver does
    /// while it shuts down is not counted.
    fn is_made_up_for(&self, server: &ServerSide) -> bool {
        let failed = server.counters.last_failed.as_ref().and_then(|name| name.parse::<SegmentName>().ok());
        let (Some(failed), Some(stored)) = (failed, self.seen.last_archived) else { return false };
        let waits = server.ready.iter().any(|ready| ready.name == WalFileName::Segment(failed));
        !waits && stored.number(server.segment_size) >= failed.number(server.segment_size)
    }

    /// A file waits for long, and the server counts no failure.
    fn waits(&mut self, server: &ServerSide, oldest: Ready) {
        let waits = human_duration(clock::between(oldest.since, server.now));
        let count = server.ready.len();
        if server.counters.last_archived_at.is_some_and(|at| at > oldest.since) {
            let message = format!("{count} files wait to be archived, `{}` for {waits}", oldest.name);
            return self.say(Level::Warning, message);
        }
        let message = format!(
            "`{}` waits for {waits} and the server counts no failure since: its command hangs, is killed or exits above 125",
            oldest.name
        );
        self.say(Level::Critical, message);
    }

    /// A full `pg_wal` stops the server (facts 2.1.2).
    fn full(&mut self, server: &ServerSide) {
        self.figures.wal_bytes = Some(server.wal_bytes);
        let Some(room) = server.room else { return };
        self.figures.free_bytes = Some(room.free_bytes);
        let message = format!(
            "{} free beside `pg_wal` ({} in {} files): a full one stops the server",
            ByteSize(room.free_bytes),
            ByteSize(server.wal_bytes),
            server.wal_files
        );
        let segments_left = room.free_bytes / server.segment_size.bytes();
        let fills_up = !server.ready.is_empty() && room.free_bytes < room.total_bytes / 100 * LOW;
        if segments_left < LEAST_ROOM {
            self.say(Level::Critical, message);
        } else if segments_left < ROOM || fills_up {
            self.say(Level::Warning, message);
        }
    }

    /// Two servers under one prefix, or one that was left behind.
    fn other_writers(&mut self, server: &ServerSide) {
        match self.seen.system_id {
            Some(theirs) if theirs != server.system_id => {
                self.figures.other_cluster = Some(theirs.to_string());
                let message = format!(
                    "the archive under this prefix belongs to cluster {theirs}, the server is {}: after `pg_upgrade` or \
                     `initdb` a database needs a `prefix` of its own in the inventory, and `setup-archiving`",
                    server.system_id
                );
                self.say(Level::Critical, message);
            }
            None if !self.seen.silent.is_empty() => {
                self.say(Level::Unknown, "no store that answers has WAL under this prefix".to_owned());
            }
            None if server.archiving.mode != "off" => {
                self.say(Level::Critical, "nothing was ever archived under this prefix".to_owned());
            }
            Some(_) | None => {}
        }
        if let Some(newer) = self.seen.timelines.iter().max().filter(|newest| **newest > server.timeline) {
            let message = format!(
                "the archive has timeline {newer}, the server is on {}: another server was promoted",
                server.timeline
            );
            self.say(Level::Critical, message);
        }
    }

    /// What a recovery might not find.
    fn lacks(&mut self) {
        let seen = self.seen;
        for (store, count) in self.figures.owed.clone().unwrap_or_default() {
            // What came just now, and what the newest backup does not need, is not counted here.
            let help = format!("`runbook wal mend {}` counts and copies all that it lacks", self.database);
            let files = if count == 1 { "1 file" } else { &format!("{count} files") };
            self.say(Level::Warning, format!("store `{store}` lacks at least {files} that others have; {help}"));
        }
        if let Err(why) = &seen.compared {
            self.say(Level::Unknown, format!("the stores cannot be compared: {why}"));
        }
        // Who asks may not be allowed to read what the server archives with: what is known without it was told.
        let Ok(lacking) = &seen.lacking else { return };
        for what in &lacking.otherwise.keys {
            let message = format!("{what}: `runbook run setup-archiving -p database={}`", self.database);
            self.say(Level::Warning, message);
        }
        for store in &lacking.unfed {
            let message = format!(
                "the configuration of `wal push` does not name `{store}`, a store of its WAL by the inventory: it gets none"
            );
            self.say(Level::Warning, message);
        }
        for store in &lacking.unnamed {
            let message = format!(
                "WAL may be in `{store}` alone, and a recovery would not look there: name the store in `wal_stores` of the inventory"
            );
            self.say(Level::Warning, message);
        }
    }

    fn holes(&mut self) {
        for gap in &self.seen.gaps_now {
            let database = self.database;
            let message = format!(
                "the newest backup does not lead to now: {gap}; a new one does: `runbook backup {database}`; where another place \
                 still has the segments, `runbook backups import` brings them in"
            );
            let finding = match self.seen.silent.is_empty() {
                true => Finding { level: Level::Critical, message },
                // What is missing here may lie there.
                false => Finding { level: Level::Warning, message: format!("by the stores that answer {message}") },
            };
            self.findings.push(finding);
        }
        if !self.seen.gaps_before.is_empty() {
            let count = self.seen.gaps_before.len();
            self.findings.push(Finding {
                level: Level::Warning,
                message: format!(
                    "gaps before the newest backup: {count}, for example {}",
                    self.seen.gaps_before[count - 1]
                ),
            });
        }
    }
}

impl ServerSide {
    /// The position from which on the archive lacks what the server wrote: behind `stored`, the newest stored segment
    /// on its path, or at the first that still waits.
    #[must_use]
    pub fn archived_to(&self, stored: Option<SegmentName>) -> Lsn {
        let size = self.segment_size;
        let current = SegmentName::holding(self.timeline, self.position, size).start(size);
        let behind = stored.map_or(current, |name| name.end(size)).min(self.position);
        let waiting = self.ready.iter().filter_map(|ready| match ready.name {
            WalFileName::Segment(name) => Some(name.start(size)),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
        });
        waiting.chain([behind]).min().unwrap_or(behind)
    }
}
