//! What a recovery would come to, told before anything is touched: which backup, which WAL, how many bytes and how much
//! disk, or why it is impossible. The answer is [`crate::wal::outlook`]'s.

use std::collections::BTreeSet;

use super::foresight::Foresight;
use super::unclosed;
use crate::action::{ActionError, BackupHandle, CheckContext, Findings, Late, Machine, StagedHandle};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::restore::existing::Existing;
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;
use crate::actions::postgres::restore::restore_base;
use crate::actions::postgres::restore::space::{self, Fit, Replay, Site};
use crate::actions::postgres::restore::spare;
use crate::actions::postgres::restore::stage;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::target::Goal;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::ObjectRole;
use crate::catalog::recovery::Refusal;
use crate::wal::outlook::{Impossible, Plan, Planned};

const MAPS: &str = "`runbook backups map` shows what can be recovered";

const GIVEN_UP: &str = "the data that is there would be given up";
const KEEP_IT: &str = "keep it beside where there is room (`runbook restore` without `--existing`; `existing: keep_beside` of the step), or bring what lacks";

/// What a recovery would be made of.
pub(crate) struct RecoveryForecast<'a> {
    /// The database, and where WAL lies that another program archived.
    place: (&'a Cluster, Option<&'a WalLocation>),
    /// The backup that is staged before, where that is known by now, and what becomes of the data that is there.
    staged: Option<(BackupHandle, Existing)>,
    /// Where it is laid down: the database's own place, or that of a copy beside it.
    seat: &'a Cluster,
}

impl<'a> RecoveryForecast<'a> {
    /// By what is foreseen of the step that stages the backup.
    pub(crate) fn of(
        place: (&'a Cluster, Option<&'a WalLocation>),
        staged: Option<&Late<StagedHandle>>,
        cx: &CheckContext,
    ) -> Self {
        let staged = staged.and_then(|late| {
            let handle = cx.foreseen.of(late)?.backup;
            Some((handle, cx.foreseen.beside(late, restore_base::EXISTING).unwrap_or_default()))
        });
        Self { place, staged, seat: place.0 }
    }

    /// Of a copy beside the database, whose live server goes on writing and archiving.
    pub(crate) fn beside(
        place: (&'a Cluster, Option<&'a WalLocation>),
        seat: &'a Cluster,
        backup: BackupHandle,
    ) -> Self {
        Self { place, staged: Some((backup, Existing::KeepBeside)), seat }
    }

    /// Adds what a recovery to a target would come to. Only what neither the old server's WAL nor an earlier step could
    /// change refuses the step: a target that no backup leads to, a disk that what is surely written does not fit on.
    ///
    /// # Errors
    /// Fails when the store cannot be opened; one that gives no answer is a warning, since reading it is a step of its own.
    pub(crate) async fn told(
        &self,
        recovery_target: &RecoveryTarget,
        cx: &CheckContext,
        findings: Findings,
    ) -> Result<Findings, ActionError> {
        let (cluster, location) = self.place;
        let stores = archive::opened(cluster, |name| cx.store(name))?;
        let ahead = Foresight::of(cluster, &cx.about, stores, cx.host.read_files());
        let ahead = ahead.with_copies(spare::copies(cluster, cx)?);
        let ahead = match location {
            Some(location) => ahead.beside(location, cx.store(location.store.as_str())?)?,
            None => ahead,
        };
        let among = self.staged.as_ref().filter(|(handle, _)| handle.described.is_none());
        let among = among.map(|(handle, _)| BTreeSet::from([handle.id.clone()]));
        let asked = (&recovery_target.goal, recovery_target.edge, recovery_target.timeline);
        let mut seen = None;
        let (planned, is_counted, findings) = loop {
            let (remnant, is_counted, findings) = match ahead.remnant().await {
                Ok(remnant) => {
                    let is_counted = remnant.is_some() || self.is_gone(cx);
                    (remnant, is_counted, findings.clone())
                }
                Err(error) => {
                    let help = "what the server has not archived yet is left out here";
                    (None, false, findings.clone().warn(error.to_string(), help))
                }
            };
            let planned = ahead.planned(asked, remnant, among.as_ref()).await;
            let hole = match &planned {
                Ok(Planned::Impossible(why)) if is_counted => unclosed::first(&why.why),
                Ok(_) | Err(_) => None,
            };
            // A segment that a live server wrote after its `pg_wal` was listed may follow one in the archive already.
            if hole.is_none() || hole == seen {
                break (planned, is_counted, findings);
            }
            seen = hole;
        };
        // It is given up before the recovery decides: what would stand against that stands against it now.
        if among.is_some() && location.is_none() && self.gives_up(cx) {
            match &planned {
                Ok(Planned::Impossible(why)) => {
                    let fact = format!("{GIVEN_UP}, and the archive does not lead there: {}", why.why);
                    return Ok(findings.refuse(fact, why.why.help().unwrap_or(MAPS)));
                }
                Ok(Planned::Possible(plan)) => {
                    if let Some(tear) = &plan.tear {
                        return Ok(findings.refuse(format!("{GIVEN_UP}, and {tear}"), KEEP_IT));
                    }
                }
                Err(error) => {
                    let fact = format!("{GIVEN_UP}, and which WAL leads there cannot be told: {error}");
                    return Ok(findings.refuse(fact, KEEP_IT));
                }
            }
        }
        Ok(match planned {
            Ok(Planned::Possible(plan)) => {
                let findings = self.possible(&plan, findings);
                // What of the backup cannot be read is for the step that stages it to say.
                self.placement(&plan, cx, findings.clone()).await.unwrap_or(findings)
            }
            // Who archives without a catalog has backups without one, too: what is missing here may lie there.
            Ok(Planned::Impossible(why)) if location.is_some() => {
                findings.warn(format!("the archive does not lead there by a backup of the catalog: {}", why.why), MAPS)
            }
            Ok(Planned::Impossible(why)) if is_counted && among.is_some() && unclosed::is_certain(&why.why, cx) => {
                let fact = format!("the archive does not lead there, nor does the server's own `pg_wal`: {}", why.why);
                findings.refuse(fact, self.ways_out(&why, cx))
            }
            // What the live server has not archived yet may contain it: the copy waits for that.
            Ok(Planned::Impossible(why))
                if self.is_copy()
                    && !is_counted
                    && matches!(why.why, Refusal::NotFound(_) | Refusal::HalfDropped { .. }) =>
            {
                let fact = format!("the archive alone does not lead there yet: {}", why.why);
                findings.warn(fact, "what the live server has not archived is waited for when the step starts")
            }
            Ok(Planned::Impossible(why)) => impossible(&why, findings),
            Err(error) => findings.warn(
                format!("which backup and which WAL lead there cannot be told: {error}"),
                "`runbook wal verify` and `runbook backups map` show what there is",
            ),
        })
    }

    /// Whether the data that is there is given up before this recovery begins.
    fn gives_up(&self, cx: &CheckContext) -> bool {
        let destroys = self.staged.as_ref().is_some_and(|(_, existing)| existing.destroys());
        destroys && cx.ahead && !self.place.0.is_scratch() && cx.foreseen.machine() == Machine::AsItIs
    }

    /// Whether it is of a copy beside a server that goes on.
    fn is_copy(&self) -> bool {
        self.seat.side.is_some()
    }

    fn ways_out(&self, why: &Impossible, cx: &CheckContext) -> String {
        let (cluster, _) = self.place;
        match self.is_copy() {
            true => format!("{}; or choose a moment before the hole: {MAPS}", unclosed::ELSEWHERE),
            false => unclosed::ways_out(why, cluster, cx),
        }
    }

    /// Whether there is no data whose WAL could be rescued: it was lost, or this is another machine. The server that a
    /// copy is made beside may live on another one.
    fn is_gone(&self, cx: &CheckContext) -> bool {
        let (cluster, _) = self.place;
        if self.is_copy() {
            return false;
        }
        let old = Old::find(cluster, &cx.about.run, cx.host.read_files().as_ref());
        !cluster.is_scratch() && matches!(old, Ok(None))
    }

    /// Judges whether the backup fits with the WAL that is replayed onto it. Whether the backup itself does is for the
    /// step that stages it to say.
    async fn placement(&self, plan: &Plan, cx: &CheckContext, findings: Findings) -> Result<Findings, ActionError> {
        let Some((handle, existing)) = &self.staged else { return Ok(findings) };
        let cluster = self.seat;
        let (store, prefix) = restore_base::place(cluster, handle)?;
        let store = cx.store(store)?;
        let backup = restore_base::opened(store.as_ref(), prefix, cluster, handle).await?;
        let links = stage::lineage(store.as_ref(), &backup, *existing).await?;
        let files = cx.host.read_files();
        let site = Site { cluster, run: &cx.about.run, files: files.as_ref() };
        let gain = stage::gain(&site, (&backup, links.len()), *existing)?;
        // What came with the backup is counted with it, and what is fetched takes its place.
        let embedded = backup.manifest.objects.iter().filter(|object| object.role == ObjectRole::Wal);
        let embedded: u64 = embedded.map(|object| object.plain_facts().size_bytes).sum();
        let replay = Replay::Bytes(plan.replay.bytes.saturating_sub(embedded));
        let help = match self.is_copy() {
            true => {
                "free some space before: a copy that runs out of it fails, and the server beside may share that disk"
            }
            false => "free some space before: a recovery that runs out of it ends with the server down",
        };
        Ok(match (site.fit(&space::parts(&links), &gain, replay), cx.foreseen.machine()) {
            (Fit::Not(fact), Machine::AsItIs) => findings.refuse(fact, help),
            (Fit::Not(fact), Machine::MadeReady) => findings.warn(fact, restore_base::MADE_READY),
            (Fit::Tightly(fact), _) => findings.warn(fact, help),
            (Fit::Well, _) => findings,
        })
    }

    /// Says what a recovery by this plan takes, and what is doubtful about it.
    fn possible(&self, plan: &Plan, findings: Findings) -> Findings {
        let (backup, replay) = (&plan.backup, &plan.replay);
        let fetched = ByteSize(backup.stored_bytes.saturating_add(replay.stored_bytes));
        let newest = match (&plan.settled.goal, plan.newest_commit) {
            (Goal::Newest, Some(commit)) => {
                let beyond = plan.newest_at.filter(|at| *at > commit.at);
                let beyond = beyond.map(|at| format!(", the newest that only the server has of {at}"));
                format!("; the newest archived commit is of {}{}", commit.at, beyond.unwrap_or_default())
            }
            (Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_), _) => {
                String::new()
            }
        };
        let fact = format!(
            "the archive leads there, with backup `{}` of {}: {} segments of timeline {}, `{}` to `{}`; {fetched} to fetch, {} of disk at most{newest}",
            backup.id,
            backup.ended_at,
            replay.segments,
            replay.timeline,
            replay.first,
            replay.last,
            ByteSize(plan.disk_bytes()),
        );
        let mut findings = findings.pass(fact);
        for note in &plan.notes {
            findings = findings.pass(note.clone());
        }
        for fact in &plan.unread {
            let help = "it began before the backup, and counts only where its server went on beside the other one; a key that opens it belongs \
                        below `earlier` in `encryption` of the store";
            findings = findings.warn(fact.clone(), help);
        }
        if let Some(tear) = &plan.tear {
            let help = match self.is_copy() {
                true => "bring back a whole copy of that segment, or choose a moment before that position",
                false => {
                    "bring back a whole copy of that segment, or recover to that position: `recover_to_lsn` of `pitr`"
                }
            };
            findings = findings.warn(tear.clone(), help);
        }
        if let Some(retrieval) = &plan.retrieval {
            let wait = retrieval.wait_s.map(std::time::Duration::from_secs);
            let long = wait.map(|wait| format!(", for up to {}", human_duration(wait))).unwrap_or_default();
            let fact =
                format!("{} objects of that backup are archived and must be retrieved first{long}", retrieval.objects);
            findings = findings.warn(fact, crate::actions::postgres::stores::readable::RETRIEVE_FIRST).waiting(wait);
        }
        findings
    }
}

fn impossible(why: &Impossible, findings: Findings) -> Findings {
    let fact = format!("the archive does not lead there: {}", why.why);
    let help = why.why.help().unwrap_or(MAPS);
    match &why.why {
        Refusal::BeforeBackup { .. }
        | Refusal::Several(_)
        | Refusal::Outlived { .. }
        | Refusal::Left { .. }
        | Refusal::HistoryLost { .. }
        | Refusal::Unread { .. }
        | Refusal::NotFound(Goal::Xid(_))
        | Refusal::RolledBack(_)
        | Refusal::PartOf { .. }
        | Refusal::HalfDropped { .. } => findings.refuse(fact, help),
        // What the old server never archived may close it: that is rescued first. And a step before this one may make
        // the backup, or the restore point.
        Refusal::Hole { .. }
        | Refusal::NotFound(_)
        | Refusal::Unclear { .. }
        | Refusal::NoWay { .. }
        | Refusal::BehindEnd { .. }
        | Refusal::NoBackup(_)
        | Refusal::Backup { .. } => findings.warn(fact, help),
    }
}
