//! Tells a plan, or why there is none, and what to do next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::other::Other;
use super::rate::{Estimate, estimate};
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::recovery::{Edge, Goal, Opening, Refusal};
use crate::cli::screen::Face;
use crate::cli::site::{Site, machine as this_machine};
use crate::cli::wal_location::WalLocationArgs;
use crate::cli::{Exit, Failure, document};
use crate::report::mask_text;
use crate::wal::outlook::{Impossible, Plan, ToRetrieve};
use crate::wal::{LossBegin, LostBeside};

/// What a plan is for.
pub struct About<'a> {
    /// The site.
    pub site: &'a Site,
    /// The database.
    pub database: &'a str,
    /// What was asked for.
    pub asked: (&'a Goal, Edge),
    /// Where WAL was read that another program archived.
    pub location: &'a WalLocationArgs,
    /// What else leads there.
    pub others: &'a [Other],
    /// Where the end of a backup is asked for: when the newest commit was made that is not given up by a recovery as far
    /// as there is anything.
    pub newest: Option<Timestamp>,
}

impl About<'_> {
    /// The command that carries a plan out.
    fn command(&self, plan: &Plan) -> String {
        // A moment stays the one that was asked for: by the time it is carried out more may be archived or rescued, and
        // what was committed after it is to stay out.
        let goal = if plan.settled.goal == Goal::Newest { self.asked.0 } else { &plan.settled.goal };
        let target = match goal {
            Goal::Newest => None,
            Goal::Immediate => Some("immediate=true".to_owned()),
            Goal::Time(at) => Some(format!("recover_to={at}")),
            Goal::Lsn(lsn) => Some(format!("recover_to_lsn={lsn}")),
            Goal::Name(name) => Some(format!("recover_to_name={name}")),
            Goal::Xid(xid) => Some(format!("recover_to_xid={xid}")),
        };
        let timeline = plan.settled.told.map(|timeline| format!("timeline={timeline}"));
        let inclusive = match (goal, self.asked.1) {
            (Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_), Edge::Excluded) => Some("inclusive=false".to_owned()),
            (Goal::Newest | Goal::Immediate | Goal::Name(_), Edge::Excluded) | (_, Edge::Included) => None,
        };
        let database = [format!("database={}", self.database), "incident_at=now".to_owned()];
        let rest = target.into_iter().chain(inclusive).chain(timeline).chain([format!("backup={}", plan.backup.id)]);
        let rest = rest.chain(self.location.as_params());
        let params: Vec<String> = database.into_iter().chain(rest).collect();
        let params = params.iter().flat_map(|param| ["-p", param.as_str()]);
        self.site.again.change(["run", "pitr"].into_iter().chain(params))
    }

    /// What was asked for, in words.
    fn target(&self) -> String {
        let just_before = match self.asked.1 {
            Edge::Included => "",
            Edge::Excluded => "just before ",
        };
        format!("{just_before}{}", target(self.asked.0))
    }

    /// What is to be known of the plan, the place of unproven WAL included.
    fn notes(&self, plan: &Plan) -> Vec<String> {
        let argument = |argument| format!("the step `postgres.recover` reads it with `{argument}`");
        let location = self.location.caution().into_iter().chain(self.location.as_argument().map(argument));
        plan.tear.iter().chain(&plan.unread).chain(&plan.notes).cloned().chain(location).collect()
    }

    /// The first and the last moment of what is given up; `None` where that is nothing, or not known.
    fn given_up(&self, plan: &Plan) -> Option<(Timestamp, Timestamp)> {
        let from = match (plan.stop, &plan.settled.goal) {
            (Some(stop), _) => stop.next.at,
            (None, Goal::Immediate) => plan.backup.ended_at,
            (None, Goal::Newest | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_)) => return None,
        };
        let newest = self.newest.or(plan.newest_at).filter(|newest| *newest > from)?;
        Some((from, newest))
    }

    /// The disks that a plan needs, that of the data directory first; one for each other file system that a tablespace is on.
    fn disks(&self, plan: &Plan) -> Vec<Disk> {
        let whole = |path: &Path| Disk { path: path.to_owned(), needed_bytes: plan.disk_bytes(), free_bytes: None };
        let Some(entry) = self.site.inventory.databases.get(self.database) else { return vec![whole(Path::new(""))] };
        let mut own = whole(&entry.pgdata);
        let Some(host) = this_machine().ok().filter(|_| entry.elsewhere().is_none()) else { return vec![own] };
        let files = host.read_files();
        // What is to be made stands beside what is there.
        let there =
            |path: &Path| path.ancestors().take(2).find_map(|at| Some((at.to_owned(), files.facts(at).ok()??.device)));
        let free = |at: &Path| files.space(at).ok().map(|space| space.free_bytes);
        let Some((at, device)) = there(&entry.pgdata) else { return vec![own] };
        own.free_bytes = free(&at);
        let mut others: Vec<(u64, Disk)> = Vec::new();
        for tablespace in &plan.backup.tablespaces {
            let mapped = entry.tablespaces.get(&tablespace.name).cloned();
            let path = mapped.unwrap_or_else(|| PathBuf::from(&tablespace.location));
            let Some((at, on)) = there(&path).filter(|(_, on)| *on != device) else { continue };
            let bytes = tablespace.plain_bytes;
            own.needed_bytes = own.needed_bytes.saturating_sub(bytes);
            match others.iter_mut().find(|(known, _)| *known == on) {
                Some((_, disk)) => disk.needed_bytes = disk.needed_bytes.saturating_add(bytes),
                None => others.push((on, Disk { path, needed_bytes: bytes, free_bytes: free(&at) })),
            }
        }
        std::iter::once(own).chain(others.into_iter().map(|(_, disk)| disk)).collect()
    }
}

/// What a plan needs of one file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Disk {
    /// A place on it.
    path: PathBuf,
    /// What is written there at most.
    needed_bytes: u64,
    /// What is free there; absent where that is not known here.
    free_bytes: Option<u64>,
}

/// Prints a plan as JSON.
pub fn machine(about: &About<'_>, plan: &Plan) -> Result<Exit, Failure> {
    document::write_json(&told(about, plan))?;
    Ok(Exit::Success)
}

/// A plan, for machines.
pub fn told(about: &About<'_>, plan: &Plan) -> Value {
    let stop = plan.stop.map(|stop| {
        let commit = |commit: crate::pgformat::Commit| json!({ "xid": commit.xid, "lsn": commit.lsn, "at": commit.at });
        json!({ "segment": stop.segment.to_string(), "next": commit(stop.next), "last": stop.last.map(commit) })
    });
    let disks = about.disks(plan);
    let own = disks.first().map(|disk| json!({ "needed_bytes": disk.needed_bytes, "free_bytes": disk.free_bytes }));
    json!({
        "database": about.database,
        "possible": true,
        "system_id": plan.system_id,
        "asked": about.asked.0.to_string(),
        "inclusive": about.asked.1 == Edge::Included,
        "goal": plan.settled.goal.to_string(),
        "timeline": plan.settled.told,
        "backup": plan.backup,
        "replay": plan.replay,
        "stop": stop,
        "newest_commit_at": plan.newest_commit.map(|commit| commit.at),
        "gives_up_timelines": plan.later.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "written_beside": plan.beside.iter().map(beside).collect::<Vec<_>>(),
        "gives_up": about.given_up(plan).map(|(from, to)| json!({ "from": from, "to": to })),
        "disk": own,
        "other_disks": disks.get(1..).unwrap_or_default(),
        "retrieval": plan.retrieval,
        "estimate": estimate(plan, about.database),
        "passed_over": passed_over(plan.passed_over.iter().map(|one| (one.id.as_str(), &one.why))),
        "notes": about.notes(plan),
        "others": about.others,
        "command": about.command(plan),
    })
}

fn beside(lost: &LostBeside) -> Value {
    let is_read = matches!(lost.begin, LossBegin::At(_));
    json!({ "timeline": lost.timeline, "from": lost.begin.earliest(), "from_is_read": is_read, "to": lost.newest_at })
}

fn passed_over<'a>(all: impl Iterator<Item = (&'a str, &'a Refusal)>) -> Vec<Value> {
    all.map(|(id, why)| json!({ "id": id, "why": why.to_string() })).collect()
}

/// Prints a plan for people, and what carries it out.
pub fn people(about: &About<'_>, plan: &Plan) {
    facts(about, plan);
    out!("next");
    out!("  {}", mask_text(&about.command(plan)));
}

/// Prints a plan for people.
pub fn facts(about: &About<'_>, plan: &Plan) {
    let fact = |name: &str, value: &str| out!("  {name:9}  {}", mask_text(value));
    out!("recover `{}` to {}", about.database, mask_text(&about.target()));
    if plan.settled.goal != *about.asked.0 {
        fact("told", &format!("the server is told {}", plan.settled.goal));
    }
    let backup = &plan.backup;
    let size = format!("{} stored, {} to write", ByteSize(backup.stored_bytes), ByteSize(backup.plain_bytes));
    fact("backup", &format!("`{}`, ended {}; {size}", backup.id, backup.ended_at));
    if backup.chain.len() > 1 {
        fact("", &format!("rests on {}", backup.chain[..backup.chain.len() - 1].join(", ")));
    }
    let replay = &plan.replay;
    let timeline = plan.settled.told.map_or_else(|| format!("{}, the latest", replay.timeline), |one| one.to_string());
    fact("timeline", &timeline);
    fact("replay", &format!("from {} to {}", replay.from, replay.to));
    let bytes = format!("{} of WAL, {} to fetch", ByteSize(replay.bytes), ByteSize(replay.stored_bytes));
    fact("segments", &format!("{} from `{}` to `{}`: {bytes}", replay.segments, replay.first, replay.last));
    stops(about, plan, &fact);
    let disks = about.disks(plan);
    for (index, disk) in disks.iter().enumerate() {
        let shown = disk.free_bytes.map_or_else(|| "not known here".to_owned(), |free| ByteSize(free).to_string());
        let needed = ByteSize(disk.needed_bytes);
        match index {
            0 => fact("disk", &format!("{needed} at most, {shown} free")),
            _ => fact("", &format!("{needed} of tablespaces at `{}`, {shown} free", disk.path.display())),
        }
    }
    if let Some(retrieval) = &plan.retrieval {
        fact("retrieve", &retrieve(retrieval));
    }
    fact("time", &duration(&estimate(plan, about.database)));
    for note in &about.notes(plan) {
        fact("note", note);
    }
    for other in about.others {
        let nearer = if other.ended_at > plan.backup.ended_at { "nearer: " } else { "" };
        fact("or from", &format!("{nearer}{}", other.told()));
    }
    for one in &plan.passed_over {
        fact("not from", &format!("`{}`: {}", one.id, one.why));
    }
    for short in disks.iter().filter(|disk| disk.free_bytes.is_some_and(|free| free < disk.needed_bytes)) {
        let place = short.path.display();
        tell!("warning: there may be too little room at `{place}`: the old data is kept until you remove it");
    }
}

/// What was committed on timelines that were begun since, in words; `None` where none was.
fn later(plan: &Plan) -> Option<String> {
    let numbers: Vec<String> = plan.later.iter().map(ToString::to_string).collect();
    match numbers.as_slice() {
        [] => None,
        [one] => Some(format!("all that was committed on timeline {one}, which was begun later")),
        several => Some(format!("all that was committed on timelines {}, which were begun later", several.join(", "))),
    }
}

fn target(goal: &Goal) -> String {
    match goal {
        Goal::Time(at) => {
            let local = at.to_zoned(jiff::tz::TimeZone::system());
            format!("{at} ({} here)", local.strftime("%F %T %Z"))
        }
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => goal.to_string(),
    }
}

fn stops(about: &About<'_>, plan: &Plan, fact: &dyn Fn(&str, &str)) {
    if let Some(stop) = &plan.stop {
        if let Some(last) = stop.last {
            fact("last", &format!("transaction {} of {} at {}", last.xid, last.at, last.lsn));
        }
        let next = stop.next;
        fact("stops", &format!("before transaction {} of {} at {}", next.xid, next.at, next.lsn));
    }
    let along = about.given_up(plan).map(|(from, newest)| {
        let lost = human_duration(between(from, newest));
        format!("all commits from {from} to {newest}, {lost} of them")
    });
    match (along, later(plan)) {
        (Some(along), Some(later)) => {
            fact("gives up", &format!("{along} on timeline {}, and {later}", plan.replay.timeline));
        }
        (Some(one), None) | (None, Some(one)) => fact("gives up", &one),
        (None, None) => {}
    }
    for lost in &plan.beside {
        fact("loses", &lost.words(plan.replay.timeline));
    }
    let newest = plan.newest_commit.map(|commit| commit.at);
    if let (Goal::Newest, Some(newest)) = (&plan.settled.goal, newest) {
        let rpo = about.site.inventory.databases.get(about.database).and_then(|entry| entry.rpo).map(|span| span.0);
        let promised = rpo.map(|rpo| format!("; what may be lost at most is {} (the RPO)", human_duration(rpo)));
        let beyond = plan.newest_at.filter(|at| *at > newest);
        let beyond = beyond.map(|at| format!(" in the archive, of {at} at the server")).unwrap_or_default();
        fact("newest", &format!("commit of {newest}{beyond}{}", promised.unwrap_or_default()));
    }
}

fn retrieve(retrieval: &ToRetrieve) -> String {
    let wait = retrieval.wait_s.map_or_else(
        || "for as long as the store takes".to_owned(),
        |seconds| format!("for up to {}", human_duration(Duration::from_secs(seconds))),
    );
    let (objects, bytes) = (retrieval.objects, ByteSize(retrieval.bytes));
    format!("{objects} objects ({bytes}) are archived: `store.retrieve` brings them back first, {wait}")
}

fn duration(estimate: &Estimate) -> String {
    let shown = |seconds: Option<u64>| {
        seconds.map_or_else(|| "never measured here".to_owned(), |seconds| human_duration(Duration::from_secs(seconds)))
    };
    let first = estimate.retrieval_s.map(|seconds| format!("retrieval {}, ", shown(Some(seconds))));
    let (first, restore) = (first.unwrap_or_default(), shown(estimate.restore_s));
    let parts = format!("{first}restore {restore}, replay and opening {}", shown(estimate.replay_s));
    match estimate.total() {
        Some(total) => format!("about {} ({parts}; median of {} runs)", human_duration(total), estimate.runs),
        None => parts,
    }
}

/// Says why there is no way, and what can be recovered instead.
pub fn impossible(about: &About<'_>, why: &Impossible, face: Face) -> Result<Exit, Failure> {
    let instead: Vec<Value> = why
        .instead
        .iter()
        .map(|(timeline, interval)| {
            json!({ "timeline": timeline, "from": interval.from, "to": interval.to, "backups": interval.backups })
        })
        .collect();
    if face == Face::Json {
        document::write_json(&json!({
            "database": about.database,
            "possible": false,
            "asked": about.asked.0.to_string(),
            "inclusive": about.asked.1 == Edge::Included,
            "why": why.why.to_string(),
            "help": why.why.help(),
            "passed_over": passed_over(why.passed_over.iter().map(|one| (one.id.as_str(), &one.why))),
            "instead": instead,
            "others": about.others,
        }))?;
        return Ok(Exit::Refused);
    }
    for one in &why.passed_over {
        tell!("not from `{}`: {}", mask_text(&one.id), mask_text(&one.why.to_string()));
    }
    for (timeline, interval) in &why.instead {
        let begin = match &interval.opening {
            Opening::Backup { at, .. } | Opening::Fork { at } => at,
        };
        tell!("can be recovered: timeline {timeline} from {} ({begin}) to {}", interval.from, interval.to);
    }
    for other in about.others {
        tell!("but from {}", other.told());
    }
    let fact = format!("`{}` cannot be recovered to {} by a base backup: {}", about.database, about.asked.0, why.why);
    let failure = Failure::new(Exit::Refused, mask_text(&fact));
    Err(match &why.why {
        Refusal::Several(_) => failure.help("say which one with `--timeline`"),
        Refusal::Outlived { .. } | Refusal::Left { .. } => failure.help(format!(
            "find out which of the two servers counts, and say its timeline with `--timeline`; `{}` shows what each holds",
            about.site.again.line(["backups", "map", about.database])
        )),
        Refusal::BeforeBackup { .. } | Refusal::NoBackup(_) => failure.help(format!(
            "`{}` shows what can be recovered",
            about.site.again.line(["backups", "map", about.database])
        )),
        Refusal::Hole { .. }
        | Refusal::Unread { .. }
        | Refusal::Unclear { .. }
        | Refusal::NoWay { .. }
        | Refusal::HistoryLost { .. }
        | Refusal::HalfDropped { .. }
        | Refusal::RolledBack(_)
        | Refusal::PartOf { .. }
        | Refusal::BehindEnd { .. }
        | Refusal::NotFound(_)
        | Refusal::Backup { .. } => match why.why.help() {
            Some(help) => failure.help(about.site.again.advice(help)),
            None => failure,
        },
    })
}
