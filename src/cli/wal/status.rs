//! `runbook wal status`: one line and one code, as monitoring systems expect them, and the facts below it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::lacking::lacking;
use super::pg_wal::PgWal;
use crate::base::clock;
use crate::base::units::{ByteSize, Span, human_duration};
use crate::catalog::health::Level;
use crate::catalog::recovery::{Refusal, lanes};
use crate::cli::args::InventoryArgs;
use crate::cli::backups::open_store::of_catalog;
use crate::cli::recoverable::{ClusterView, LookError, Recoverable, databases};
use crate::cli::site::Site;
use crate::cli::{Failure, document, wiring};
use crate::pgformat::{Commit, Lsn, SegmentName, Timeline, WalFileName, WalWalker, Walked};
use crate::report::mask_text;
use crate::wal::archiving_status::{ArchivingStatus, Observed, ServerSide, Unheard, Waiting, judge};
use crate::wal::outlook::Silent;

/// Files that were archived so lately may still be on their way into the other stores.
const ON_ITS_WAY: Duration = Duration::from_secs(30);
/// How many segments that only the server has are read to find its oldest commit.
const LOOK_AHEAD: u64 = 64;

/// Arguments of `wal status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook wal status\n  runbook wal status orders --rpo 15m\n  runbook wal status --json | jq '.[] | select(.level != \"ok\")'\n\nThe lag counts from the first position that is not in the archive: nothing waits on a quiet night, however old\nthe last segment is. Without --rpo the `rpo` of the database counts, else the least `max_wal_age` that the\ninventory's `backups` say of it.\nCode 0: as expected, 1: warning, 2: critical, 3: unknown, for example because the server or the store gave no answer."
)]
pub struct Args {
    /// The database; default: every one that has a store
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose databases are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// What may be lost at most
    #[arg(long, value_name = "DURATION")]
    rpo: Option<Span>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Judges the archiving of every database. Whatever goes wrong is code 3: monitoring has no other word for it.
pub fn run(args: &Args) -> ExitCode {
    let level = match args.look() {
        Ok(all) => args.say(&all),
        Err(failure) => {
            out!("UNKNOWN - {}", mask_text(&failure.message));
            failure.print();
            Level::Unknown
        }
    };
    ExitCode::from(level.code())
}

impl Args {
    fn look(&self) -> Result<Vec<ArchivingStatus>, Failure> {
        let site = Site::read(&self.inventory, self.environment.as_deref(), true.into())?;
        let names = databases(&site, self.database.as_deref())?;
        let mut all = Vec::new();
        for name in names {
            let rpo = self.rpo.map(|span| span.0);
            all.push(standing(&site, &name, rpo)?);
        }
        Ok(all)
    }

    fn say(&self, all: &[ArchivingStatus]) -> Level {
        let worst = all.iter().fold(Level::Ok, |worst, standing| worst.worse(standing.level));
        if self.json {
            let _ = document::write_json(&json!(all));
            return worst;
        }
        out!("{}", mask_text(&line(all, worst)));
        for standing in all {
            facts(standing);
        }
        worst
    }
}

/// Judges the archiving of one database that has a store. Without an `rpo` that of its entry counts, else the least
/// `max_wal_age` that the inventory's `backups` say of it.
///
/// # Errors
/// Fails when the inventory makes no sense of it; what gives no answer is a finding.
pub fn standing(site: &Site, name: &str, rpo: Option<Duration>) -> Result<ArchivingStatus, Failure> {
    let of_entry = || site.inventory.databases.get(name)?.rpo.map(|span| span.0);
    let expected = || site.inventory.backups.values().filter(|expected| expected.source == name);
    let least = || expected().filter_map(|expected| expected.max_wal_age).map(|span| span.0).min();
    let mut standing = wiring::block_on(observe(site, name, rpo.or_else(of_entry).or_else(least)))??;
    // What they say to type runs as it stands.
    standing.findings.iter_mut().for_each(|finding| finding.message = site.again.advice(&finding.message));
    Ok(standing)
}

async fn observe(site: &Site, name: &str, rpo: Option<Duration>) -> Result<ArchivingStatus, Failure> {
    let mut silent = Vec::new();
    let looked = match Recoverable::open(site, name)?.look().await {
        Err(error) => {
            let (rest, unheard) = Recoverable::open(site, name)?.answering().await;
            silent = unheard;
            // Where none is left, or nothing silent explains it, the first word stands.
            match silent.is_empty() {
                true => Err(error),
                false => rest.look().await.map_err(|_| error),
            }
        }
        found => found,
    };
    let mut found = match looked {
        Ok(found) => found,
        Err(error) => {
            // What the server says counts all the more: its WAL may fill its disk.
            let live = PgWal::of(site, &Recoverable::open(site, name)?).await?;
            return Ok(judge(name, &Observed::unseen(chain(&error), live.server.clone())));
        }
    };
    let mut live = PgWal::of(site, &found).await?;
    let mut seen = archived(&found, live.server.clone(), rpo);
    // The archive was listed before the server was asked: what came in between is not lost.
    if seen.lost.is_some()
        && silent.is_empty()
        && let Ok(again) = Recoverable::open(site, name)?.look().await
    {
        found = again;
        seen = archived(&found, live.server.clone(), rpo);
    }
    match begun(&found, &seen).await {
        Ok(until) => seen.archived_to = seen.archived_to.map(|to| until.map_or(to, |until| to.min(until))),
        Err(error) => (seen.archived_to, seen.waiting) = (None, Waiting::Unknown(chain(&error))),
    }
    seen.silent = silent.into_iter().map(unheard).collect();
    if let Ok(server) = &seen.server {
        seen.lacking = lacking(site, &found, server);
        seen.full = full(site, &found, server).await;
        seen.log = if server.counters.fails() { live.log().await } else { None };
    }
    let on_its_way = clock::before(clock::now(), ON_ITS_WAY);
    let compared = found.uneven(on_its_way).await;
    seen.compared = compared.map(|uneven| uneven.into_iter().collect()).map_err(|error| error.to_string());
    if let (Ok(server), Some(archived_to)) = (&seen.server, seen.archived_to) {
        seen.waiting = waiting(&found, (server, archived_to), &mut live).await;
    }
    Ok(judge(name, &seen))
}

fn unheard(silent: Silent) -> Unheard {
    Unheard { why: of_catalog(&silent.why), store: silent.store, is_own: silent.is_own }
}

/// An error with its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| match cause.to_string() {
        cause if words.contains(&cause) => words,
        cause => format!("{words}: {cause}"),
    })
}

/// Holds the archive against the server's words.
fn archived(found: &Recoverable, server: Result<ServerSide, String>, rpo: Option<Duration>) -> Observed {
    let view = found.clusters.first();
    let stored = |server: &ServerSide| {
        let view = view.filter(|view| view.system_id == server.system_id)?;
        let path = view.archive.path(server.timeline);
        let last = server.segment_size.number_of(Lsn(server.position.0.saturating_sub(1)));
        let on_path = |name: &&SegmentName| path.holds(**name) && name.number(server.segment_size) <= last;
        view.archive.segments.keys().filter(on_path).max_by_key(|name| name.number(server.segment_size)).copied()
    };
    let newest = view.and_then(|view| view.archive.segments.keys().next_back().copied());
    let (last_archived, archived_to) = match &server {
        Ok(server) => (stored(server), Some(server.archived_to(stored(server)))),
        Err(_) => (newest, newest.zip(view).map(|(name, view)| name.end(view.archive.size))),
    };
    let timelines = view.map(|view| {
        let of_segments = view.archive.segments.keys().map(|name| name.timeline());
        of_segments.chain(view.archive.branches.keys().copied()).collect::<std::collections::BTreeSet<_>>()
    });
    let (gaps_now, gaps_before) = view.map(|view| gaps(view, server.as_ref().ok())).unwrap_or_default();
    Observed {
        system_id: view.map(|view| view.system_id),
        lost: server.as_ref().ok().and_then(|server| lost(view?, server)),
        timelines: timelines.unwrap_or_default().into_iter().collect(),
        waiting: Waiting::Nothing,
        lacking: Err("the server gives no answer".to_owned()),
        compared: Ok(BTreeMap::new()),
        last_archived,
        archived_to,
        gaps_now,
        gaps_before,
        server,
        silent: Vec::new(),
        unseen: None,
        full: Vec::new(),
        log: None,
        rpo,
    }
}

/// Up to where the archive has the segment that is still being written: a recovery that was given up had rescued its beginning, and
/// the server was started again. `None` where the newest segment of the archive is another one.
async fn begun(found: &Recoverable, seen: &Observed) -> Result<Option<Lsn>, LookError> {
    let Some((view, last)) = found.clusters.first().zip(seen.last_archived) else { return Ok(None) };
    let is_written = match &seen.server {
        Ok(server) => {
            last.number(server.segment_size) == server.segment_size.number_of(Lsn(server.position.0.saturating_sub(1)))
        }
        Err(_) => true,
    };
    match is_written {
        true => found.has_until(view, last).await.map(Some),
        false => Ok(None),
    }
}

/// The stores that have no room for another segment, where archiving fails. What gives no answer is told elsewhere.
async fn full(site: &Site, found: &Recoverable, server: &ServerSide) -> Vec<(String, u64)> {
    let mut full = Vec::new();
    let names = found.entry.archives().filter(|_| server.counters.fails());
    for (name, store) in names.filter_map(|name| Some((name, site.read_store(name).ok()?))) {
        if let Ok(Some(room)) = store.capacity().await
            && room.free_bytes < server.segment_size.bytes()
        {
            full.push((name.to_owned(), room.free_bytes));
        }
    }
    full
}

/// The last segment the server believes to be archived, when the archive has neither it nor anything later.
fn lost(view: &ClusterView, server: &ServerSide) -> Option<SegmentName> {
    let last: SegmentName = server.counters.last_archived.as_ref()?.parse().ok()?;
    let later = view.archive.segments.range(last..).any(|(name, _)| name.timeline() == last.timeline());
    (!later && view.system_id == server.system_id).then_some(last)
}

/// The hole that keeps the newest backup from reaching the newest WAL, and every other one. What still waits at the
/// server is no hole.
fn gaps(view: &ClusterView, server: Option<&ServerSide>) -> (Vec<String>, Vec<String>) {
    let waits = |name: SegmentName| {
        server.is_some_and(|server| server.ready.iter().any(|ready| ready.name == WalFileName::Segment(name)))
    };
    let newest = view.backups.iter().rev().find(|backup| backup.fault.is_none());
    let now = newest.and_then(|backup| {
        let with_own = view.archive.with(backup);
        let archive = with_own.as_ref().unwrap_or(&view.archive);
        archive.reach(archive.latest(backup.base), backup.base).hole.filter(|hole| !waits(hole.first))
    });
    let all = lanes(&view.archive, &view.backups);
    let holes = all.iter().flat_map(|lane| lane.gaps.iter().flat_map(|gap| &gap.holes));
    let before = holes.filter(|hole| !waits(hole.first) && now.as_ref().is_none_or(|now| now.first != hole.first));
    let mut before: Vec<String> = before.map(ToString::to_string).collect();
    before.dedup();
    let is_on_its_way = |one: &Timeline| {
        server.is_some_and(|server| server.ready.iter().any(|ready| ready.name == WalFileName::History(*one)))
    };
    let lost = view.archive.lost_histories(&view.backups).into_iter().filter(|one| !is_on_its_way(one));
    let lost = lost.map(|timeline| Refusal::HistoryLost { timeline }.to_string());
    (now.iter().map(ToString::to_string).chain(lost).collect(), before)
}

/// Finds the oldest commit that only the server has.
async fn waiting(found: &Recoverable, (server, archived_to): (&ServerSide, Lsn), live: &mut PgWal) -> Waiting {
    let size = server.segment_size;
    if server.position <= archived_to {
        return Waiting::Nothing;
    }
    let (first, last) = (size.number_of(archived_to), size.number_of(Lsn(server.position.0 - 1)));
    let path = found.clusters.first().map(|view| view.archive.path(server.timeline));
    let mut walker = WalWalker::new(size);
    for number in first..=last {
        if number - first >= LOOK_AHEAD {
            return Waiting::Unknown(format!(
                "the first {LOOK_AHEAD} segments that wait hold no commit, and more follow"
            ));
        }
        let of_server = SegmentName::new(server.timeline, number, size);
        // The first of them may still bear the name of the timeline that was left in it.
        let name = path.as_ref().map_or(of_server, |path| path.name(number));
        let bytes = match live.segment(name).await {
            Ok(bytes) => bytes,
            Err(why) => return Waiting::Unknown(why),
        };
        let mut oldest = None;
        let walked = walker.segment(name, &bytes, &mut |record| {
            if oldest.is_none() && record.lsn >= archived_to {
                oldest = Commit::of(record);
            }
        });
        match (oldest, walked) {
            (Some(commit), _) => return Waiting::Since(commit.at),
            (None, Walked::ToTheEnd) => {}
            (None, Walked::Halted(halt)) => {
                // The server writes on in its last segment; anywhere else, or where nothing could be read, WAL follows.
                let is_end = number == last && walker.end().is_some_and(|end| end > archived_to);
                return if is_end {
                    Waiting::Nothing
                } else {
                    Waiting::Unknown(format!("`{name}` cannot be read: {halt}"))
                };
            }
        }
    }
    Waiting::Nothing
}

/// One line: what is worst comes first, the figures behind a bar.
fn line(all: &[ArchivingStatus], worst: Level) -> String {
    let bad: Vec<&ArchivingStatus> = all.iter().filter(|standing| standing.level == worst).collect();
    let words: Vec<String> = bad.iter().map(|standing| words(standing)).collect();
    let more = match all.len() - bad.len() {
        0 => String::new(),
        rest => format!("; {rest} more"),
    };
    let figures: Vec<String> = all.iter().flat_map(perfdata).collect();
    format!("{worst} - {}{more} | {}", words.join("; "), figures.join(" ")).replace('\n', " ")
}

fn words(standing: &ArchivingStatus) -> String {
    let worst = standing.findings.iter().filter(|finding| finding.level == standing.level);
    let messages: Vec<&str> = worst.map(|finding| finding.message.as_str()).collect();
    match standing.level {
        Level::Ok => {
            let to = standing.figures.archived_to.map_or_else(|| "?".to_owned(), |lsn| lsn.to_string());
            format!("{} is archived to {to}", standing.database)
        }
        Level::Warning | Level::Critical | Level::Unknown => format!("{}: {}", standing.database, messages.join(", ")),
    }
}

/// Performance data as plugins write it: `'label'=value[unit]`.
fn perfdata(standing: &ArchivingStatus) -> Vec<String> {
    let figures = &standing.figures;
    let values = [
        ("lag", figures.lag_s, "s"),
        ("lag_bytes", figures.lag_bytes, "B"),
        ("ready", figures.ready, ""),
        ("failed", figures.failed, "c"),
        ("pg_wal", figures.wal_bytes, "B"),
        ("free", figures.free_bytes, "B"),
        ("gaps", Some(figures.gaps.len() as u64), ""),
    ];
    let told = values.into_iter().filter_map(|(name, value, unit)| Some((name, value?, unit)));
    told.map(|(name, value, unit)| format!("'{}_{name}'={value}{unit}", standing.database)).collect()
}

fn facts(standing: &ArchivingStatus) {
    let figures = &standing.figures;
    let fact = |name: &str, value: &str| out!("  {name:9}  {}", mask_text(value));
    let shown = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
    out!("{}  {}", standing.level, mask_text(&standing.database));
    let to = shown(figures.archived_to.map(|lsn| lsn.to_string()));
    let last = figures.last_archived.as_deref().unwrap_or("no segment");
    fact("archived", &format!("to {to} ({last})"));
    let written = shown(figures.written_to.map(|lsn| lsn.to_string()));
    let bytes = shown(figures.lag_bytes.map(|bytes| ByteSize(bytes).to_string()));
    let time = figures.lag_s.map(|seconds| match seconds {
        0 => "no commit waits".to_owned(),
        _ => format!("the oldest commit waits for {}", human_duration(Duration::from_secs(seconds))),
    });
    fact("written", &format!("to {written}: {bytes} more; {}", shown(time)));
    let ready = shown(figures.ready.map(|count| count.to_string()));
    let failed = shown(figures.failed.map(|count| count.to_string()));
    fact("server", &format!("{ready} files wait, {failed} failures counted"));
    let lack = |(url, count): (&String, &usize)| format!("`{url}` lacks {count} files or more");
    let lacks: Vec<String> = figures.owed.iter().flatten().map(lack).collect();
    if !lacks.is_empty() {
        fact("stores", &lacks.join(", "));
    }
    if let Some(why) = &figures.owed_unread {
        fact("stores", &format!("what `wal push` has noted of them is not known: {why}"));
    }
    let timelines = figures.timelines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    fact("timelines", &format!("{timelines} in the archive, {} gaps", figures.gaps.len()));
    for finding in &standing.findings {
        out!("  {:9}  {}", finding.level.to_string().to_lowercase(), mask_text(&finding.message));
    }
}
