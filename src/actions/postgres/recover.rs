//! `postgres.recover`: swaps, rescues, replays and promotes.
//!
//! Every phase finds out from the disk what an earlier attempt did, so that the step can be run again
//! after it was cut off anywhere. Before the swap nothing live is touched; after it the old data is
//! kept and named. In order:
//!
//! 1. refuse a live server;
//! 2. push what the old `pg_wal` holds beyond the archive;
//! 3. decide target and timeline;
//! 4. write the recovery's settings into the staged folder;
//! 5. swap by rename;
//! 6. start the server and follow the replay;
//! 7. hold what was reached against the target; a server that is to wait, waits from here on;
//! 8. remove the settings;
//! 9. prove the archive and archiving on the new timeline, make slots anew, tell what needs work.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission;
use super::advance;
use super::aim::{Aim, Edge, Ending};
use super::archive::{self, Shelf};
use super::attempt::Recovering;
use super::container::Abode;
use super::freezing;
use super::hands::Hands;
use super::keeper::Wish;
use super::landing::Landed;
use super::layout::Cluster;
use super::marker::{self, Marker};
use super::owner::Owner;
use super::recover_by_hand;
use super::slot::SlotFate;
use super::wal_location::WalLocation;
use super::{live, outlook, overseer, promotion, prospect, replica, server};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Interrupted, Late, ParamFault, PlanContext, ReadHost, Recovery, RunContext,
    StagedHandle, Target,
};
use crate::base::{Timestamp, clock};
use crate::catalog::recovery::Goal;
use crate::event::Coverage;
use crate::pgformat::{Lsn, Timeline};
use crate::wal::Keys;

/// Recovers a staged backup.
#[derive(Debug, Clone)]
pub struct Recover {
    /// Our own program, which the server calls to fetch WAL.
    program: PathBuf,
}

impl Recover {
    /// An action whose servers fetch WAL with `program wal fetch`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Recover {
    /// Says why the server could not fetch WAL, and what to do. A container that does not run is asked before its data is
    /// touched.
    async fn unusable(&self, cluster: &Cluster, host: &dyn ReadHost) -> Result<Option<(String, String)>, ActionError> {
        let Some(abode) = Abode::seen(cluster, host).await?.filter(Abode::is_open) else { return Ok(None) };
        let owner = Owner::of(cluster, host)?;
        if cluster.is_contained() {
            return abode.barred((&self.program, &owner), host).await;
        }
        if host.find_program(&self.program.to_string_lossy()).is_none() {
            let fact = format!("`{}` cannot be run, so the server could fetch no WAL", self.program.display());
            return Ok(Some((fact, "install runbook where the server's user can run it".to_owned())));
        }
        let help = "install runbook where the server's user can run it (`/usr/local/bin`, mode 0755)";
        Ok(barred(&self.program, &owner, host).await.map(|fact| (fact, help.to_owned())))
    }
}

impl Default for Recover {
    /// Servers call the program that runs now.
    fn default() -> Self {
        Self::new(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook")))
    }
}

/// The arguments of `postgres.recover`: one of `staged` and `instance`, and at most one target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The staged backup, as `postgres.restore_base` gave it.
    #[serde(default)]
    pub staged: Option<Late<StagedHandle>>,
    /// An instance that an earlier step of this run left paused: it goes on to a later target.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// `latest` (default): the end of the archive. `immediate`: the end of the backup. `here`: opens `instance` where it waits.
    #[serde(default)]
    pub target: Option<Landmark>,
    /// A point in time with offset; the last commit not after it is the last one there is.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub target_time: Option<Timestamp>,
    /// A position.
    #[serde(default)]
    pub target_lsn: Option<String>,
    /// A restore point made with `pg_create_restore_point`.
    #[serde(default)]
    pub target_name: Option<String>,
    /// A transaction; what counts is its commit.
    #[serde(default)]
    pub target_xid: Option<u64>,
    /// With `false` replay ends just before the time, position or transaction. Default: with it.
    #[serde(default)]
    pub inclusive: Option<bool>,
    /// What becomes of the server: `promote` (default) opens it for good; `pause` lets it wait and be read, then
    /// `postgres.promote` opens it, or a step with `instance` goes on; `standby` follows the archive.
    #[serde(default)]
    pub action: Option<Ending>,
    /// The timeline to follow; default: the one that was live at the target, the latest without target.
    #[serde(default)]
    pub timeline: Option<u32>,
    /// WAL that another program archived is read where it lies, beside the database's own archive. It is *unproven*: each
    /// file counts as far as its own content proves it.
    #[serde(default)]
    pub wal_location: Option<WalLocation>,
}

/// Targets that need no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Landmark {
    /// The end of the archive.
    Latest,
    /// The end of the backup, as soon as the data is consistent.
    Immediate,
    /// Where the paused `instance` is: nothing more is replayed, it opens.
    Here,
}

/// The outputs of `postgres.recover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoverOutput {
    /// The running server.
    pub instance: InstanceHandle,
    /// Whether it is open, or waits.
    #[serde(default)]
    pub state: InstanceState,
    /// Where replay ended: the position at which the new timeline began, or where it waits.
    pub recovered_to_lsn: String,
    /// The newest recovered commit, by the primary's clock; null when replay saw none.
    #[schemars(with = "Option<String>")]
    pub recovered_to_time: Option<Timestamp>,
    /// All that was committed before this moment is in the data: the newest recovered commit, or the start of the backup
    /// where that is later. Null where neither is known.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Timestamp>,
    /// The new timeline; the one that is replayed where the server waits.
    pub timeline: u32,
    /// The last position the old server is known to have flushed; null when its `pg_wal` was lost.
    pub last_flushed_lsn: Option<String>,
    /// What the loss figure rests on.
    pub loss: RecoverLoss,
    /// Where the old data is kept; null when there was none.
    pub kept: Option<PathBuf>,
    /// The segment of the new timeline that was seen in the archive; null where nothing is archived, or not yet.
    #[serde(default)]
    pub archived: Option<String>,
    /// The replication slots of the old server, and what became of each.
    #[serde(default)]
    pub slots: Vec<SlotFate>,
    /// Standbys of the old server, as the backup knew them: each must be rebuilt or rewound.
    #[serde(default)]
    pub standbys: Vec<String>,
    /// Prepared transactions that nobody has ended: they hold their locks.
    #[serde(default)]
    pub prepared: Vec<String>,
    /// The `synchronous_standby_names` of which none is connected: every commit waits until one is. Null when commits go on.
    #[serde(default)]
    pub waits_for_standby: Option<String>,
}

/// Whether a recovered server is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It is open, on a new timeline.
    #[default]
    Open,
    /// It waits at its target.
    Paused,
    /// It follows the archive.
    Standby,
}

/// What is known about loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoverLoss {
    /// `to_last_flushed`: all that was known to be flushed, or all up to the chosen target, is there.
    #[schemars(with = "String")]
    pub coverage: Coverage,
    /// The newest commit known to be recovered, else the end of the backup.
    #[schemars(with = "Option<String>")]
    pub newest_commit_at: Option<Timestamp>,
    /// In a drill: the first commit that only the live server has. Everything before it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub complete_until: Option<Timestamp>,
    /// With a position, a transaction, a restore point or the end of the backup as target: the moment that this came to.
    /// What was committed after it was given up by choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub chosen_target_at: Option<Timestamp>,
}

impl RecoverParams {
    /// The one target, the end of the archive without any.
    pub(crate) fn goal(&self) -> Result<Goal, ParamFault> {
        let mut goals = Vec::new();
        goals.extend(self.target.map(|landmark| match landmark {
            Landmark::Latest | Landmark::Here => Goal::Newest,
            Landmark::Immediate => Goal::Immediate,
        }));
        goals.extend(self.target_time.map(Goal::Time));
        if let Some(text) = &self.target_lsn {
            let lsn: Lsn = text.parse().map_err(|_| {
                ParamFault::new("/target_lsn", format!("`{text}` is no position; write for example `16/B374D848`"))
            })?;
            goals.push(Goal::Lsn(lsn));
        }
        goals.extend(self.target_name.clone().map(Goal::Name));
        goals.extend(self.target_xid.map(Goal::Xid));
        match goals.len() {
            0 => Ok(Goal::Newest),
            1 => Ok(goals.remove(0)),
            _ => Err(ParamFault::new("", "a recovery has at most one target")),
        }
    }

    /// Where the recovery is to end, and how.
    pub(crate) fn aim(&self) -> Result<Aim, ParamFault> {
        let goal = self.goal()?;
        let ending = self.action.unwrap_or_default();
        let bounded = matches!(goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_));
        if self.inclusive.is_some() && !bounded {
            return Err(ParamFault::new("/inclusive", "only a time, a position or a transaction can be left out"));
        }
        if ending == Ending::Standby && goal != Goal::Newest {
            return Err(ParamFault::new("/action", "a standby follows the archive and stops at no target"));
        }
        match (&self.staged, &self.instance) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                return Err(ParamFault::new("", "exactly one of `staged` and `instance` is wanted"));
            }
        }
        if self.timeline == Some(0) {
            return Err(ParamFault::new("/timeline", "there is no timeline 0; leave `timeline` out, or name one"));
        }
        if self.target == Some(Landmark::Here) && (self.instance.is_none() || ending != Ending::Promote) {
            return Err(ParamFault::new("/target", "`here` opens an `instance` that waits, and does nothing else"));
        }
        let edge = if self.inclusive == Some(false) { Edge::Excluded } else { Edge::Included };
        Ok(Aim { goal, edge, ending, timeline: self.timeline.map(Timeline) })
    }
}

impl Action for Recover {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.recover",
        summary: "Swaps in a staged backup, rescues unarchived WAL, replays to the target, and opens it or lets it wait.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "To a point in time",
                with: "{ database: orders, staged: '{{ steps.stage.staged }}', target_time: '2026-01-28T14:30:00Z' }",
            },
            Example {
                title: "Look first: wait just before a transaction",
                with: "{ database: orders, staged: '{{ steps.stage.staged }}', target_xid: 7501, inclusive: false, action: pause }",
            },
            Example {
                title: "Go on from there to a later time, and open",
                with: "{ database: orders, instance: '{{ steps.look.instance }}', target_time: '2026-01-28T14:45:00Z' }",
            },
            Example {
                title: "With WAL that `cp` archived, where it lies",
                with: "{ database: orders, staged: '{{ steps.stage.staged }}', wal_location: { store: primary, prefix: wal } }",
            },
            Example {
                title: "Open it where it waits",
                with: "{ database: orders, instance: '{{ steps.look.instance }}', target: here }",
            },
        ],
    };
    type Params = RecoverParams;
    type Output = RecoverOutput;

    fn effects(&self, params: &RecoverParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::DataDirectory)?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        params.aim().map_err(|fault| vec![fault])?;
        let archive = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let database = Target::Database { name: cluster.name.clone() };
        let effects = Effects::of(EffectClass::Destroy);
        let effects = match cluster.is_scratch() {
            true => archive::read(&cluster, effects).target(Access::Read, archive),
            // What is rescued goes into every store of the WAL, and the note that freezes it into those of copies as well.
            false => freezing::written(&cluster, cx.inventory, cluster.keeper().named(effects)),
        };
        let effects = effects.target(Access::Destroy, database);
        Ok(match &params.wal_location {
            None => effects,
            Some(WalLocation { store, prefix }) => {
                effects.target(Access::Read, Target::Store { name: store.0.clone(), prefix: prefix.clone() })
            }
        })
    }

    fn by_hand(&self, params: &RecoverParams, cx: &PlanContext<'_>) -> Vec<String> {
        recover_by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RecoverParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let files = cx.host.read_files();
        let mut findings = Findings::default();
        if let Ok(Goal::Time(at)) = params.goal()
            && at > clock::now()
        {
            let fact = format!("the target {at} is still to come");
            return Ok(findings.refuse(fact, "leave the target out to recover as far as the archive leads"));
        }
        findings = late(params.goal().ok().as_ref(), cx, findings);
        if let Some((fact, help)) = self.unusable(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact, help));
        }
        if let Some(fact) = overseer::in_charge(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        if let Some(fact) = admission::refused(&cluster, cx).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        if params.instance.is_some() && cx.ahead {
            return Ok(findings.pending("what waits is looked at when the step starts"));
        }
        if params.instance.is_some() {
            return Ok(findings.pass("the program that fetches WAL is there, and nothing looks after the server"));
        }
        if cx.ahead {
            let findings = findings.pending("the server is looked at when the step starts");
            let faster = replica::faster(&cluster, cx).await;
            let findings = faster.into_iter().fold(findings, |all, fact| all.warn(fact.what, fact.help));
            let place = (&cluster, params.wal_location.as_ref());
            let sentence = outlook::sentence(place, params.target_time, cx).await?;
            let findings = sentence.into_iter().fold(findings, Findings::pass);
            let aim = params.aim().map_err(|fault| ActionError::fatal(fault.message))?;
            return prospect::told(place, &aim, cx, findings).await;
        }
        let ours = Marker::read(files.as_ref(), &cluster.pgdata)?.is_some_and(|marker| marker.run == cx.about.run);
        let signs = live::signs(&cluster, files.as_ref()).await?;
        if !signs.is_empty() && !ours {
            let words: Vec<String> = signs.iter().map(ToString::to_string).collect();
            findings = findings
                .refuse(format!("the server is alive: {}", words.join("; ")), "stop it first (`postgres.stop`)");
            return Ok(findings);
        }
        let (_, prefix) = cluster.archive()?;
        if let Some(marker) = marker::staged(files.as_ref(), &cluster, &cx.about.run)? {
            let mut stores = archive::opened(&cluster, |name| cx.store(name))?;
            if let Some(location) = &params.wal_location {
                let lying = cx.store(location.store.as_str())?;
                let own = stores.remove(0);
                stores.insert(0, location.beside(own, (prefix, lying), &cx.about)?);
                findings = findings.warn(
                    location.caution(),
                    "import it with `runbook backups import --write`: then each file is proven once, and by its digest ever after",
                );
            }
            let goal = params.aim().map_err(|fault| ActionError::fatal(fault.message))?.goal;
            let (system_id, size) = (marker.system_id, marker.segment_size);
            let stores = stores.iter().map(|store| (store.as_ref(), Keys::none())).collect();
            let shelf = Shelf { stores, prefix, system_id, size };
            shelf.view().await?.reachable(&goal, super::course::base(&marker))?;
            let staged = cluster.staged(files.as_ref(), &cx.about.run);
            if !cluster.is_contained() {
                let version = server::major(files.as_ref(), &staged)?;
                server::Programs::of(&cluster, &version, cx.host.as_ref())?.verify(&version, cx.host.as_ref()).await?;
            }
            if let Some(fact) = cluster.lacks_configuration(files.as_ref(), &staged) {
                return Ok(findings.refuse(fact.what, fact.help));
            }
        }
        Ok(findings.pass("no server is alive, and the program that fetches WAL is there"))
    }

    async fn run(&self, params: &RecoverParams, cx: &RunContext) -> Result<RecoverOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let aim = params.aim().map_err(|fault| ActionError::fatal(fault.message))?;
        if let Some(fact) = overseer::in_charge(&cluster, cx.host.as_read()).await? {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        if let Some(instance) = &params.instance {
            let instance = instance.get()?;
            let cluster = cluster.serving(instance, &cx.about.scratch)?;
            // What it was begun with goes on, unless the step says another place.
            let begun = Marker::read(cx.host.files().as_ref(), &cluster.pgdata)?.and_then(|marker| marker.wal_location);
            let hands = Hands::on(&cluster, &self.program, cx).await?;
            let hands = hands.reading(params.wal_location.clone().or(begun))?;
            if params.target == Some(Landmark::Here) {
                return promotion::promote(&hands, instance).await;
            }
            return advance::advance(&hands, &aim, instance).await;
        }
        let staged = params.staged.as_ref().ok_or_else(|| ActionError::fatal("no staged backup is given"))?;
        let handle = staged.get()?;
        if handle.database != cluster.name || handle.dir != cluster.staged(cx.host.files().as_ref(), &cx.about.run) {
            let fact = format!("`{}` is not where this run stages database `{}`", handle.dir.display(), cluster.name);
            return Err(ActionError::fatal(fact));
        }
        let hands = Hands::on(&cluster, &self.program, cx).await?.reading(params.wal_location.clone())?;
        Recovering { hands, aim }.run().await
    }

    /// Adopts a recovery that was proven, or waits, since before the engine died; every other one goes on where it
    /// was.
    async fn recover(
        &self,
        params: &RecoverParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<RecoverOutput>, ActionError> {
        let files = cx.host.read_files();
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let landed = Landed::read(files.as_ref(), &cut.attempt_dir);
        let ours = Marker::read(files.as_ref(), &cluster.pgdata)?.filter(|marker| marker.run == cx.about.run);
        let unfinished = match (&ours, &landed) {
            (Some(_), Some(output)) => output.state == InstanceState::Open,
            (Some(_), None) => true,
            (None, Some(_) | None) => false,
        };
        Ok(landed.filter(|_| !unfinished).map_or(Recovery::Rerun, Recovery::Adopt))
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        super::scratch::remove(data, cx).await
    }
}

/// Warns of a target after the incident: what went wrong then is in the recovered data.
pub(crate) fn late(goal: Option<&Goal>, cx: &CheckContext, findings: Findings) -> Findings {
    let incident_at = cx.about.incident_at;
    match goal {
        Some(Goal::Time(at)) if *at > incident_at => findings.warn(
            format!("the target {at} lies after the incident at {incident_at}"),
            "what went wrong at the incident is in the recovered data then: is one of the two mistyped?",
        ),
        Some(Goal::Time(_) | Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_)) | None => {
            findings
        }
    }
}

/// Says when the server's user may not run the program that the server is to fetch WAL with: found out
/// after the swap, it would end the recovery.
pub(crate) async fn barred(
    program: &std::path::Path,
    owner: &Owner,
    host: &dyn crate::action::ReadHost,
) -> Option<String> {
    let user = owner.become_user.clone()?;
    let tried = host.probe(owner.command(program.to_string_lossy()).args(["--version"])).await;
    let why = match tried {
        Ok(output) if output.success() => return None,
        Ok(output) => format!("it ended with {:?}", output.exit_code.unwrap_or(-1)),
        Err(error) => std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
    };
    Some(format!(
        "the server's user `{user}` cannot run `{}`, so the server could fetch no WAL: {why}",
        program.display()
    ))
}
