//! `runbook wal verify`: whether the archive leads on from every backup, per timeline.

use std::collections::BTreeMap;

use serde::Serialize;

use super::digests::{self, BadCopy, Reading};
use super::pg_wal::PgWal;
use crate::base::units::ByteSize;
use crate::catalog::recovery::{BaseBackup, Fault, Refusal, is_of_use};
use crate::cli::args::InventoryArgs;
use crate::cli::backups::table;
use crate::cli::recoverable::{ClusterView, LookError, Recoverable, databases};
use crate::cli::site::Site;
use crate::cli::wal_location::WalLocationArgs;
use crate::cli::{Exit, Failure, document, wiring};
use crate::pgformat::{Lsn, SegmentName, SystemId, Timeline, WalFileName};
use crate::report::mask_text;
use crate::wal::archiving_status::ServerSide;

/// Arguments of `wal verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook wal verify\n  runbook wal verify orders --digests\n  runbook wal verify orders --wal-location offsite/wal --digests\n  runbook wal verify orders --json | jq '.[].timelines[] | select(.status == \"MISSING_LOST\")'\n\nStatuses: FOUND; DAMAGED, WRONG_SIZE: there, and of no use; ONLY_IN_BACKUP: its backup alone can use it;\nMISSING_UPLOADING: the server is about to archive it; MISSING_DELAYED: the server has not finished it;\nMISSING_UNUSED: no backup that is\nkept can use it, retention removed it; MISSING_LOST: nobody has it. Without --digests only names and sizes are looked at; with it every store's copy is read.\nThe exit code is 10 when something is lost or damaged, a copy in one store too, a timeline's history file is, or a backup does not lead to the end of its timeline."
)]
pub struct Args {
    /// The database; default: every one that has a store
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    location: WalLocationArgs,
    /// The environment whose stores are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Read every store's copy of each segment and hold it against its digest, its name and its records
    #[arg(long)]
    digests: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found of one database.
#[derive(Debug, Serialize)]
struct Report {
    database: String,
    system_id: SystemId,
    /// Segments in stretches of the same status.
    timelines: Vec<Stretch>,
    /// Timelines that have WAL and no history file, to which no backup leads.
    lost_histories: Vec<Timeline>,
    backups: Vec<Lead>,
    /// Copies in one store that are damaged or differ, though another store has the segment whole.
    copies: Vec<BadCopy>,
    /// How many bytes were read and found right, of all stores.
    read_bytes: u64,
    notes: Vec<String>,
}

/// Consecutive segments of a timeline with the same status.
#[derive(Debug, PartialEq, Serialize)]
struct Stretch {
    timeline: Timeline,
    first: String,
    last: String,
    segments: u64,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Status {
    Found,
    Damaged,
    WrongSize,
    OnlyInBackup,
    MissingUploading,
    MissingDelayed,
    MissingUnused,
    MissingLost,
}

/// How far a backup leads.
#[derive(Debug, Serialize)]
struct Lead {
    id: String,
    timeline: Timeline,
    consistent: bool,
    /// The last segment that leads on from it, along the newest timeline.
    to: Option<String>,
    /// What ends it before the end of the archive.
    hole: Option<String>,
    fault: Option<String>,
}

/// Verifies the archives.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let mut reports = Vec::new();
    for name in databases(&site, args.database.as_deref())? {
        let recoverable = args.location.beside(Recoverable::open(&site, &name)?, &site)?;
        let looked = wiring::block_on(args.look(&site, recoverable))?;
        let failed = |error: &LookError| {
            Failure::new(Exit::Failed, format!("the archive of `{name}` cannot be read")).because(error)
        };
        reports.extend(looked.map_err(|error| failed(&error))?);
    }
    if args.json {
        document::write_json(&reports)?;
    } else {
        reports.iter().for_each(people);
        if reports.is_empty() {
            tell!("there is neither a base backup nor WAL to verify");
        }
    }
    Ok(if reports.iter().all(Report::holds) { Exit::Success } else { Exit::Failed })
}

impl Args {
    async fn look(&self, site: &Site, found: Recoverable) -> Result<Vec<Report>, LookError> {
        let mut found = found.look().await?;
        let mut reports = Vec::new();
        for mut cluster in std::mem::take(&mut found.clusters) {
            let mut notes: Vec<String> =
                found.damaged.iter().map(|damaged| format!("a manifest cannot be used: {damaged}")).collect();
            notes.extend(self.location.caution());
            let read = if self.digests { digests::read_all(&found, &mut cluster).await? } else { Reading::default() };
            let (read_bytes, copies) = (read.bytes, read.copies);
            let server = server(site, &found, cluster.system_id).await;
            if let Err(why) = &server {
                notes.push(format!("the server was not asked what it still has: {why}"));
            }
            let timelines = stretches(&cluster, server.as_ref().ok());
            let backups = cluster.backups.iter().map(|backup| lead(&cluster, backup)).collect();
            let (database, system_id) = (found.database.clone(), cluster.system_id);
            let lost_histories = cluster.archive.lost_histories(&cluster.backups);
            reports.push(Report { database, system_id, timelines, lost_histories, backups, copies, read_bytes, notes });
        }
        Ok(reports)
    }
}

/// The words of the server of this very cluster.
async fn server(site: &Site, found: &Recoverable, system_id: SystemId) -> Result<ServerSide, String> {
    let server = PgWal::of(site, found).await.map_err(|failure| failure.message)?.server?;
    match server.system_id == system_id {
        true => Ok(server),
        false => Err(format!("it is cluster {}", server.system_id)),
    }
}

/// Every timeline's own segments, from the first that a backup needs or that is there to the last that was written.
fn stretches(cluster: &ClusterView, server: Option<&ServerSide>) -> Vec<Stretch> {
    let (archive, size) = (&cluster.archive, cluster.archive.size);
    let mut bounds: BTreeMap<Timeline, (u64, u64)> = BTreeMap::new();
    let mut widen = |timeline: Timeline, number: u64| {
        let bound = bounds.entry(timeline).or_insert((number, number));
        *bound = (bound.0.min(number), bound.1.max(number));
    };
    archive.segments.keys().for_each(|name| widen(name.timeline(), name.number(size)));
    for backup in &cluster.backups {
        widen(backup.base.timeline, size.number_of(backup.base.start));
        widen(backup.base.timeline, size.number_of(Lsn(backup.base.stop.0.saturating_sub(1))));
    }
    for branch in archive.branches.values() {
        if let Some((parent, fork)) = branch.history.parent()
            && let Some(last) = size.number_of(fork).checked_sub(1)
        {
            widen(parent, last);
        }
    }
    if let Some(server) = server {
        widen(server.timeline, size.number_of(Lsn(server.position.0.saturating_sub(1))));
    }
    let mut all: Vec<Stretch> = Vec::new();
    for (timeline, (first, last)) in bounds {
        let begin = archive.branches.get(&timeline).and_then(|branch| branch.history.parent());
        let first = begin.map_or(first, |(_, fork)| size.number_of(fork).max(first));
        for number in first..=last {
            add(&mut all, SegmentName::new(timeline, number, size), status(cluster, server, timeline, number));
        }
    }
    all
}

fn add(all: &mut Vec<Stretch>, name: SegmentName, (status, why): (Status, Option<String>)) {
    let same = |last: &&mut Stretch| last.timeline == name.timeline() && last.status == status && last.why == why;
    match all.last_mut().filter(same) {
        Some(last) => (last.last, last.segments) = (name.to_string(), last.segments + 1),
        None => {
            let (first, last) = (name.to_string(), name.to_string());
            all.push(Stretch { timeline: name.timeline(), first, last, segments: 1, status, why });
        }
    }
}

fn status(
    cluster: &ClusterView,
    server: Option<&ServerSide>,
    timeline: Timeline,
    number: u64,
) -> (Status, Option<String>) {
    let name = SegmentName::new(timeline, number, cluster.archive.size);
    match cluster.archive.fault(name) {
        None => (Status::Found, None),
        Some(Fault::Damaged(why)) => (Status::Damaged, Some(why)),
        Some(Fault::WrongSize { bytes }) => (Status::WrongSize, Some(format!("{bytes} bytes"))),
        Some(Fault::OnlyIn { backup }) => (Status::OnlyInBackup, Some(backup)),
        Some(Fault::Missing) => missing(cluster, server, name),
    }
}

fn missing(cluster: &ClusterView, server: Option<&ServerSide>, name: SegmentName) -> (Status, Option<String>) {
    let size = cluster.archive.size;
    if let Some(server) = server {
        if server.ready.iter().any(|ready| ready.name == WalFileName::Segment(name)) {
            return (Status::MissingUploading, None);
        }
        let current = size.number_of(Lsn(server.position.0.saturating_sub(1)));
        if server.timeline == name.timeline() && name.number(size) >= current {
            return (Status::MissingDelayed, None);
        }
    }
    let embeds = cluster.backups.iter().find(|backup| backup.embedded.contains(&name));
    match embeds {
        Some(backup) => (Status::OnlyInBackup, Some(backup.id.clone())),
        None if !is_of_use(name, size, &cluster.backups) => (Status::MissingUnused, None),
        None => (Status::MissingLost, None),
    }
}

fn lead(cluster: &ClusterView, backup: &BaseBackup) -> Lead {
    let with_own = cluster.archive.with(backup);
    let archive = with_own.as_ref().unwrap_or(&cluster.archive);
    let reach = archive.reach(archive.latest(backup.base), backup.base);
    let end = reach.last.map(|last| last.end(archive.size));
    Lead {
        id: backup.id.clone(),
        timeline: backup.base.timeline,
        consistent: end.is_some_and(|end| end >= backup.base.stop),
        to: reach.last.map(|last| last.to_string()),
        hole: reach.hole.map(|hole| hole.to_string()),
        fault: backup.fault.clone(),
    }
}

impl Report {
    /// Whether nothing is lost or damaged. What only its backup has is no loss by itself: the backups tell.
    fn holds(&self) -> bool {
        let fine = |stretch: &Stretch| match stretch.status {
            Status::Found | Status::OnlyInBackup | Status::MissingUploading => true,
            Status::MissingDelayed | Status::MissingUnused => true,
            Status::Damaged | Status::WrongSize | Status::MissingLost => false,
        };
        let leads = |lead: &Lead| lead.hole.is_none() && lead.fault.is_none();
        self.timelines.iter().all(fine)
            && self.lost_histories.is_empty()
            && self.backups.iter().all(leads)
            && self.copies.is_empty()
    }
}

fn people(report: &Report) {
    out!("{} (cluster {})", mask_text(&report.database), report.system_id);
    let mut rows = vec![["TIMELINE", "FIRST", "LAST", "SEGMENTS", "STATUS"].map(str::to_owned)];
    rows.extend(report.timelines.iter().map(|stretch| {
        let status = serde_json::to_value(stretch.status).ok();
        let status = status.as_ref().and_then(|status| status.as_str()).unwrap_or_default().to_owned();
        let why = stretch.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        [
            stretch.timeline.to_string(),
            stretch.first.clone(),
            stretch.last.clone(),
            stretch.segments.to_string(),
            mask_text(&format!("{status}{why}")),
        ]
    }));
    table(&rows);
    for lost in &report.lost_histories {
        let why = Refusal::HistoryLost { timeline: *lost };
        out!("{why}");
        why.help().iter().for_each(|help| tell!("help: {help}"));
    }
    for lead in &report.backups {
        let state = match (&lead.fault, &lead.hole) {
            (Some(fault), _) => format!("cannot be restored: {fault}"),
            (None, _) if !lead.consistent => {
                format!("NOT CONSISTENT: {}", lead.hole.as_deref().unwrap_or("its WAL is not there"))
            }
            (None, Some(hole)) => format!("leads to `{}` only: {hole}", lead.to.as_deref().unwrap_or("nothing")),
            (None, None) => format!("leads to `{}`, the end of the archive", lead.to.as_deref().unwrap_or("nothing")),
        };
        out!("backup `{}`  {}", mask_text(&lead.id), mask_text(&state));
    }
    for copy in &report.copies {
        let BadCopy { store, segment, why, whole_in } = copy;
        out!("store `{store}`: its copy of `{segment}` cannot be used: {}; `{whole_in}` has it whole", mask_text(why));
    }
    if !report.copies.is_empty() {
        let database = mask_text(&report.database);
        tell!("help: `runbook wal mend {database} --digests` replaces what is damaged by the whole copy");
    }
    if report.read_bytes > 0 {
        out!("{} read and found right", ByteSize(report.read_bytes));
    }
    report.notes.iter().for_each(|note| tell!("note: {}", mask_text(note)));
}
