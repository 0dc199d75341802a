//! One attempt of a restore, phase by phase. What was done is read from the disk, never remembered.
//!
//! pgBackRest writes no recovery settings here: they stand in the marked block that a recovery removes when it is
//! proven, as those of `postgres.recover` do. From the swap on it is that very recovery, over pgBackRest's repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::choice::{Chosen, choice, shelved_of};
use super::remnant::Remnants;
use super::repository::{Desk, Repository, Shelved};
use super::restore::RestoreParams;
use super::staging::{self, Staging};
use super::stanza::{PROGRAM, Stanza, Waits, within};
use crate::action::{ActionError, Files, HostError, InstanceHandle, ReadHost, ReadStore, RunContext, Store};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::pg_control::{cannot, control};
use crate::actions::postgres::cluster::settings::STANDBY_SIGNAL;
use crate::actions::postgres::cluster::{live, server, settings};
use crate::actions::postgres::recovery::attempt::{self, Recovering};
use crate::actions::postgres::recovery::completion::Completion;
use crate::actions::postgres::recovery::recover::RecoverOutput;
use crate::actions::postgres::recovery::replay_plan::{self, ReplayPlan};
use crate::actions::postgres::recovery::rescue::Tail;
use crate::actions::postgres::recovery::wal_source::{self, UnarchivedWal};
use crate::actions::postgres::recovery::{drill_loss, lost_history, outside_writes, promotion};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::flushed::Flushed;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::neighbours::Neighbours;
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::restore::recovery_target::{self, RecoveryTarget};
use crate::actions::postgres::stores::archive::WalArchive;
use crate::catalog::recovery::Goal;
use crate::event::Progress;
use crate::pgformat::{Lsn, SegmentName};

/// Where replay ends, and the segments that came with the backup.
struct Decided {
    plan: ReplayPlan,
    embedded: BTreeSet<SegmentName>,
    /// The last segment that is given to a server that is thrown away.
    through: Option<SegmentName>,
}

/// One attempt of a restore.
pub(super) struct Restoring<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) stanza: Stanza,
    pub(super) params: &'a RestoreParams,
    pub(super) recovery_target: RecoveryTarget,
    pub(super) cx: &'a RunContext,
}

impl Restoring<'_> {
    /// Restores and recovers, or goes on where an earlier attempt of this run was cut off.
    ///
    /// # Errors
    /// Fails as each phase does; unless it was told to restore in place, the old data is never removed.
    pub(super) async fn run(&self) -> Result<RecoverOutput, ActionError> {
        let files = self.cx.host.files();
        let run = &self.cx.about.run;
        let swapped = Marker::read(files.as_ref(), &self.cluster.pgdata)?.filter(|marker| marker.run == *run);
        let completed = match swapped {
            Some(marker) => self.complete(marker).await,
            None => match self.swap_in().await {
                Ok(marker) => self.complete(marker).await,
                Err(error) => Err(error),
            },
        };
        self.clear(files.as_ref())?;
        completed
    }

    /// Opens an instance that waits where an earlier step of this run left it.
    ///
    /// # Errors
    /// Fails when it waits in no recovery of this run, does not open, or archives nothing afterwards.
    pub(super) async fn open(&self, instance: &InstanceHandle) -> Result<RecoverOutput, ActionError> {
        let files = self.cx.host.files();
        let marker = Marker::read(files.as_ref(), &self.cluster.pgdata)?.ok_or_else(|| {
            ActionError::fatal(format!("the server of database `{}` does not wait in a recovery", self.cluster.name))
        })?;
        let shelved = self.shelved(&marker).await?;
        let opened = promotion::promote(&self.context(shelved, &self.cluster.pgdata)?, instance).await;
        self.clear(files.as_ref())?;
        opened
    }

    fn staging<'b>(&'b self, owner: &'b Owner) -> Staging<'b> {
        Staging { cluster: self.cluster, stanza: &self.stanza, params: self.params, owner, cx: self.cx }
    }

    /// What the phases of a recovery work with, over pgBackRest's repository. `pgdata` is of the cluster.
    fn context(&self, shelved: Shelved, pgdata: &Path) -> Result<RecoveryContext<'_>, ActionError> {
        let (files, owner) = (self.cx.host.files(), Owner::of(self.cluster, self.cx.host.as_read())?);
        let folder = self.cluster.ahead(&self.cx.about.run);
        if files.facts(&folder).map_err(|error| cannot(&error))?.is_none() {
            let made = files.create_dir(&folder, 0o700).and_then(|()| files.chown(&folder, owner.uid, owner.gid));
            made.map_err(|error| cannot(&error))?;
        }
        let desk = Desk { folder, pgdata: pgdata.to_owned(), files };
        let host: Arc<dyn ReadHost> = Arc::clone(&self.cx.host) as Arc<dyn ReadHost>;
        let store: Arc<dyn Store> = Arc::new(Repository::new(&self.stanza, shelved, host, Some(desk)));
        let (prefix, program) = (self.stanza.name.as_str(), PathBuf::from(PROGRAM));
        let reading = Arc::clone(&store) as Arc<dyn ReadStore>;
        // Its archive is its own: it keeps the WAL in every repository by itself.
        let (further, cluster) = (Vec::new(), self.cluster);
        let server_host = ServerHost::Here;
        Ok(RecoveryContext {
            cluster,
            owner,
            store,
            further,
            reading,
            location: None,
            prefix,
            server_host,
            program,
            cx: self.cx,
        })
    }

    /// Removes the folder that segments were read through.
    fn clear(&self, files: &dyn Files) -> Result<(), ActionError> {
        let folder = self.cluster.ahead(&self.cx.about.run);
        let there = files.facts(&folder).map_err(|error| cannot(&error))?.is_some();
        if there { files.remove_tree(&folder).map_err(|error| cannot(&error)) } else { Ok(()) }
    }

    async fn shelved(&self, marker: &Marker) -> Result<Shelved, ActionError> {
        let standing = self.stanza.look(self.cx.host.as_read()).await?;
        shelved_of(&standing, &marker.backup.id)
    }

    /// Everything up to the swap. Until the swap itself nothing live is touched, unless it is restored in place.
    async fn swap_in(&self) -> Result<Marker, ActionError> {
        let files = self.cx.host.files();
        live::refuse(self.cluster, files.as_ref()).await?;
        if let Some((fact, help)) = staging::misfit(self.cluster, self.params, files.as_ref())? {
            return Err(ActionError::fatal(fact).help(help));
        }
        self.note_schedule();
        let owner = Owner::of(self.cluster, self.cx.host.as_read())?;
        let staging = self.staging(&owner);
        let (marker, shelved) = match staging::staged(self.cluster, self.cx)? {
            Some(marker) => {
                let shelved = self.shelved(&marker).await?;
                (marker, shelved)
            }
            None => self.stage(&staging).await?,
        };
        let dir = staging.dir();
        let recovering =
            Recovering { context: self.context(shelved, &dir)?, recovery_target: self.recovery_target.clone() };
        if !staging.in_place() {
            return self.swap(&recovering, marker, &dir).await;
        }
        let decided = self.decide(&recovering, &marker, (&dir, &Tail::default())).await?;
        self.settle(&recovering, marker, (&dir, None, decided)).await
    }

    /// Says what no freeze of ours reaches: pgBackRest's own timers, wherever they are.
    fn note_schedule(&self) {
        if self.cluster.is_scratch() {
            return;
        }
        let name = &self.stanza.name;
        let message = format!(
            "pgBackRest's own schedule knows nothing of this recovery: until it is over, stop whatever calls `pgbackrest \
             backup` or `pgbackrest expire` for stanza `{name}`"
        );
        self.cx.reporter.note(message, json!({ "stanza": name }));
    }

    /// Has pgBackRest restore the backup that leads to the goal.
    async fn stage(&self, staging: &Staging<'_>) -> Result<(Marker, Shelved), ActionError> {
        let files = self.cx.host.files();
        let standing = self.stanza.look(self.cx.host.as_read()).await?;
        if let Some((fact, help)) = staging::of_another(self.cluster, &standing, files.as_ref()) {
            return Err(ActionError::fatal(fact).help(help));
        }
        let host: Arc<dyn ReadHost> = Arc::clone(&self.cx.host) as Arc<dyn ReadHost>;
        let named = self.params.backup.as_deref();
        let chosen = choice(&self.stanza, &standing, (&self.recovery_target, named), &host).await?;
        if let Some(fact) = staging::short_of_space(self.cluster, self.params, &chosen.listed, files.as_ref()) {
            return Err(ActionError::fatal(fact).help("free some space; nothing was written"));
        }
        self.cx.reporter.note(chosen.words(), json!({ "backup": chosen.listed.id }));
        let marker = staging.plan(&chosen).await?;
        if !self.cluster.is_scratch() {
            let places = marker.links.iter().map(|link| link.live.as_path());
            Neighbours::of(self.cluster, &self.cx.about, files.as_ref()).refuse(places, files.as_ref())?;
        }
        let Chosen { shelved, .. } = chosen;
        let flushed = match staging.in_place() {
            true => self.rescue_in_place(&marker, &shelved).await?,
            false => None,
        };
        Ok((staging.restore(marker, (shelved.repo, flushed)).await?, shelved))
    }

    /// Pushes the old WAL before its folder is overwritten. Gives the last position that is known to be flushed.
    async fn rescue_in_place(&self, marker: &Marker, shelved: &Shelved) -> Result<Option<Flushed>, ActionError> {
        let old = Old { dir: self.cluster.pgdata.clone() };
        let recovering = Recovering {
            context: self.context(shelved.clone(), &old.dir)?,
            recovery_target: self.recovery_target.clone(),
        };
        let tail = recovering.tail(marker, Some(&old)).await?;
        let remnants = Remnants { stanza: &self.stanza, old: &old, cx: self.cx };
        remnants.refuse(&recovering.context.wal_archive(marker), &tail).await?;
        self.leads(&recovering, marker, &tail).await?;
        self.rescue(&tail, &old.dir, &recovering.context.wal_archive(marker)).await?;
        Ok(tail.end)
    }

    /// Decides, before the old data is overwritten, whether its WAL and the archive lead to the target: afterwards there is
    /// nothing left to go back to. Where no data directory of the cluster is left, pgBackRest gives no WAL to look at yet, and there is
    /// nothing to be lost.
    async fn leads(&self, recovering: &Recovering<'_>, marker: &Marker, tail: &Tail) -> Result<(), ActionError> {
        let (files, size) = (self.cx.host.read_files(), marker.segment_size);
        let own = control(files.as_ref(), &self.cluster.pgdata).ok();
        if own.is_none_or(|own| own.system_id != marker.system_id) {
            return Ok(());
        }
        // What came with the backup is not restored yet.
        let own = size.number_of(marker.start)..=size.number_of(Lsn(marker.stop.0.saturating_sub(1)));
        let embedded = own.map(|number| SegmentName::new(marker.timeline, number, size)).collect();
        let aside = UnarchivedWal { embedded: &embedded, folders: &[], tail, files: files.as_ref() };
        let decided = replay_plan::settled(&recovering.context, marker, aside, &self.recovery_target).await;
        let plan = decided.map_err(|error| recovering.untouched(files.as_ref(), error))?;
        self.tried(recovering, marker, &plan).await.map_err(|error| recovering.untouched(files.as_ref(), error))
    }

    /// Reads a segment of the way as the server will.
    async fn tried(&self, recovering: &Recovering<'_>, marker: &Marker, plan: &ReplayPlan) -> Result<(), ActionError> {
        let trial = if plan.goal == Goal::Newest { plan.probe_segment() } else { plan.first() };
        match trial {
            Some(segment) => recovering.context.wal_archive(marker).segment(segment).await.map(drop),
            None => Ok(()),
        }
    }

    /// Pushes WAL that the repository lacks, by pgBackRest itself: it holds each file against the stanza. It pushes to every
    /// repository, and one that is away fails the command: what counts is the one that is restored from.
    async fn rescue(&self, tail: &Tail, pgdata: &Path, archive: &WalArchive<'_>) -> Result<(), ActionError> {
        let options = [format!("--pg1-path={}", pgdata.display()), "--no-archive-async".to_owned()];
        for file in &tail.files {
            let words = self.stanza.words(("archive-push", &options), &[&file.path.to_string_lossy()]);
            let Err(error) = self.stanza.run(words, self.cx).await else { continue };
            let name = file.name;
            if self.stanza.repo.is_some() && archive.names().await.is_ok_and(|names| names.contains_key(&name)) {
                let message = format!(
                    "warning: the rescued `{name}` is in the repository that is restored from, not in every one"
                );
                self.cx.reporter.note(message, json!({ "file": name.to_string(), "why": error.in_full() }));
                continue;
            }
            let fact = format!("the rescued `{name}` cannot be brought into the repository; nothing was touched");
            let help = error.info().help.clone();
            let told = ActionError::fatal(fact).because(&error);
            return Err(help.into_iter().fold(told, ActionError::help));
        }
        if !tail.files.is_empty() {
            let names: Vec<String> = tail.files.iter().map(|file| file.name.to_string()).collect();
            let message = format!("WAL that was never archived was rescued (files: {})", names.len());
            let data = json!({ "files": names, "up_to": tail.end.map(|end| end.lsn.to_string()) });
            self.cx.reporter.note(message, data);
        }
        Ok(())
    }

    /// Prepares the staged folder and swaps it in by rename.
    async fn swap(&self, recovering: &Recovering<'_>, marker: Marker, dir: &Path) -> Result<Marker, ActionError> {
        let files = self.cx.host.files();
        let old = match self.cluster.is_scratch() {
            true => None,
            false => Old::find(self.cluster, &self.cx.about.run, files.as_ref()).map_err(|error| cannot(&error))?,
        };
        let tail = recovering.tail(&marker, old.as_ref()).await?;
        if let Some(old) = &old {
            let remnants = Remnants { stanza: &self.stanza, old, cx: self.cx };
            remnants.refuse(&recovering.context.wal_archive(&marker), &tail).await?;
        }
        let flushed = recovering.witnessed(files.as_ref(), old.as_ref(), &tail)?;
        let decided = self.decide(recovering, &marker, (dir, &tail)).await?;
        let folders = wal_source::folders(&marker, dir);
        let aside =
            UnarchivedWal { embedded: &decided.embedded, folders: &folders, tail: &tail, files: files.as_ref() };
        let wal_archive = recovering.context.wal_archive(&marker);
        let (swap, reading) =
            recovering.seats(&marker, old.as_ref(), decided.plan.passage(&wal_archive, aside)).await?;
        swap.judge(files.as_ref())?;
        // Only now: an old server that is started again after a refusal goes on writing its last segment.
        recovering.heed_cancel(files.as_ref())?;
        self.rescue(&tail, dir, &wal_archive).await?;
        let marker = marker.having_flushed(flushed);
        let marker = self.settle(recovering, marker, (dir, old.as_ref(), decided)).await?;
        reading.tell(&recovering.context, files.as_ref(), dir)?;
        recovering.heed_cancel(files.as_ref())?;
        self.cx.reporter.progress(Progress::Doing { text: "swapping the data directory".to_owned() });
        swap.run(files.as_ref())?;
        recovering.note_kept(files.as_ref(), &swap);
        Ok(marker)
    }

    /// Decides where replay ends. Changes nothing.
    async fn decide(
        &self,
        recovering: &Recovering<'_>,
        marker: &Marker,
        (dir, tail): (&Path, &Tail),
    ) -> Result<Decided, ActionError> {
        let (files, context) = (self.cx.host.files(), &recovering.context);
        if let Some(fact) = self.cluster.lacks_configuration(files.as_ref(), dir) {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        let embedded = match marker.course {
            Some(_) => marker.embedded(),
            None => attempt::embedded(files.as_ref(), dir).map_err(|error| cannot(&error))?,
        };
        let folders = wal_source::folders(marker, dir);
        let aside = UnarchivedWal { embedded: &embedded, folders: &folders, tail, files: files.as_ref() };
        let wal_archive = context.wal_archive(marker);
        let plan = replay_plan::settled(context, marker, aside, &self.recovery_target).await;
        let told = |error| match self.params.delta {
            true => error,
            false => recovering.untouched(files.as_ref(), error),
        };
        let plan = plan.map_err(told)?;
        let through = match self.cluster.is_scratch() {
            true => outside_writes::refuse(plan.passage(&wal_archive, aside), marker).await?,
            false => None,
        };
        self.tried(recovering, marker, &plan).await.map_err(told)?;
        for note in &plan.notes {
            self.cx.reporter.note(note.clone(), json!({ "timeline": plan.course.timeline.0 }));
        }
        Ok(Decided { plan, embedded, through })
    }

    /// Writes what the server needs to get there.
    async fn settle(
        &self,
        recovering: &Recovering<'_>,
        marker: Marker,
        (dir, old, Decided { plan, embedded, through }): (&Path, Option<&Old>, Decided),
    ) -> Result<Marker, ActionError> {
        let (files, context) = (self.cx.host.files(), &recovering.context);
        let remains = match self.cluster.is_scratch() && plan.goal == Goal::Newest {
            true => drill_loss::remains(context, &marker, plan.path.last().copied()).await,
            false => None,
        };
        let (course, to_target, embedded) = (Some(plan.course), plan.goal != Goal::Newest, attempt::names(&embedded));
        let (asked, by_landmark) = (Some(self.recovery_target.asked()), self.recovery_target.is_by_landmark());
        let marker = Marker { remains, course, to_target, asked, by_landmark, embedded, ..marker };
        self.prepare(context, dir, (&plan, through))?;
        recovering.raise(files.as_ref(), dir, old).await?;
        marker.write(files.as_ref(), dir, &context.owner)?;
        Ok(marker)
    }

    /// Writes the recovery's settings into the folder.
    fn prepare(
        &self,
        context: &RecoveryContext<'_>,
        dir: &Path,
        (plan, through): (&ReplayPlan, Option<SegmentName>),
    ) -> Result<(), ActionError> {
        let files = self.cx.host.files();
        let recovery_target = RecoveryTarget { goal: plan.goal.clone(), ..self.recovery_target.clone() };
        let signal = recovery_target.signal(&plan.goal);
        let waits = if signal == STANDBY_SIGNAL { Waits::AsStandby } else { Waits::Not };
        let mut lines =
            vec![("restore_command".to_owned(), within(self.stanza.restore_command(&self.program()?, waits), through))];
        lines.extend(recovery_target.settings(plan.timeline));
        let of_version = attempt::of_version(&server::major(files.as_ref(), dir)?, self.recovery_target.ending);
        let fixed = settings::FIXED.into_iter().chain(of_version);
        lines.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let auto = dir.join(settings::FILE);
        let scratch = self.cluster.is_scratch();
        let before = if scratch { String::new() } else { settings::restored(files.as_ref(), dir)? };
        let side = context.side(files.as_ref(), dir)?;
        let write = || -> Result<(), HostError> {
            if let Some(side) = &side {
                side.write(files.as_ref(), &context.owner)?;
            }
            context.write(files.as_ref(), &auto, &settings::with_block(&before, &lines))?;
            context.write(files.as_ref(), &dir.join(signal), "")?;
            lost_history::keep_numbers(context, (files.as_ref(), dir), &plan.taken)?;
            recovery_target::remove_other_signal(files.as_ref(), dir, signal)
        };
        write().map_err(|error| cannot(&error))
    }

    /// Where the server finds pgBackRest, whatever its search path is.
    fn program(&self) -> Result<PathBuf, ActionError> {
        let found = self.cx.host.find_program(PROGRAM);
        found.ok_or_else(|| ActionError::fatal(format!("`{PROGRAM}` is not on host `{}`", self.cx.host.name())))
    }

    /// From the swap on it is a recovery like every other one.
    async fn complete(&self, marker: Marker) -> Result<RecoverOutput, ActionError> {
        let files = self.cx.host.files();
        let shelved = self.shelved(&marker).await?;
        let recovering = Recovering {
            context: self.context(shelved, &self.cluster.pgdata)?,
            recovery_target: self.recovery_target.clone(),
        };
        let completion = Completion { context: &recovering.context, marker };
        let completed = completion.complete(&self.recovery_target).await;
        completed.map_err(|error| recovering.with_kept(files.as_ref(), error))
    }
}
