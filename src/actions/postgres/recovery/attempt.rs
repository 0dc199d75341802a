//! One attempt of a recovery, phase by phase. What was done is read from the disk, never remembered.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::completion::Completion;
use super::discard;
use super::drill_loss;
use super::giving_up;
use super::original::{self, Original};
use super::outside_writes::{self, Passage};
use super::pushing::Pushing;
use super::recover::RecoverOutput;
use super::replay_plan;
use super::wal_source::{self, UnarchivedWal};
use crate::action::{ActionError, Files, HostError, ReadFiles};
use crate::actions::postgres::archiving;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::dismantled;
use crate::actions::postgres::restore::fetching::{self, Fetching};
use crate::actions::postgres::restore::freezing;
use crate::actions::postgres::restore::marker::{self, Marker};
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;
use crate::actions::postgres::restore::swap::{self, Swap, VERSION};
use crate::actions::postgres::stores::target::Goal;
use crate::catalog::GivenUp;
use crate::event::Progress;
use crate::pgformat::SegmentName;

mod outfit;
mod reading;
mod seating;
mod testimony;

pub(crate) use outfit::of_version;
pub(crate) use reading::Reading;

/// Device and inode of the data directory, and of its `global`.
type Place = [Option<(u64, u64)>; 2];

/// One attempt of a recovery.
pub(crate) struct Recovering<'a> {
    /// What it works with.
    pub(crate) context: RecoveryContext<'a>,
    /// Where it is to end, and how.
    pub(crate) recovery_target: RecoveryTarget,
}

impl Recovering<'_> {
    /// Recovers, or goes on where an earlier attempt of this run was cut off.
    ///
    /// # Errors
    /// Fails as each phase does; the old data is never removed.
    pub(crate) async fn run(&self) -> Result<RecoverOutput, ActionError> {
        let files = self.context.cx.host.files();
        let run = &self.context.cx.about.run;
        swap::settle((self.context.cluster, &self.context.owner), run, files.as_ref()).await?;
        let swapped = Marker::read(files.as_ref(), &self.context.cluster.pgdata)?.filter(|marker| marker.run == *run);
        let marker = match (marker::staged(files.as_ref(), self.context.cluster, run)?, swapped) {
            (Some(staged), waiting) => {
                discard::set_aside(&self.context, (&staged, waiting.as_ref()), files.as_ref()).await?;
                self.swap_in(files.as_ref(), staged).await?
            }
            (None, Some(swapped)) => swapped,
            (None, None) => {
                let staged = self.context.cluster.staged(files.as_ref(), run);
                let fact = format!("nothing is staged in `{}`", staged.display());
                return Err(ActionError::fatal(fact).help("run `postgres.restore_base` first"));
            }
        };
        discard::remove(&self.context, &marker, files.as_ref())?;
        let completion = Completion { context: &self.context, marker };
        let recovered = completion.complete(&self.recovery_target).await;
        recovered.map_err(|error| self.with_kept(files.as_ref(), error))
    }

    /// Everything up to the swap. What was kept for a server that does not come to start is removed.
    async fn swap_in(&self, files: &dyn Files, marker: Marker) -> Result<Marker, ActionError> {
        let swapped = self.make_ready(files, marker).await;
        if swapped.is_err() {
            fetching::give_up(&self.context, files);
        }
        swapped
    }

    /// Decides, rescues, prepares and swaps. Until the swap itself nothing live is touched.
    async fn make_ready(&self, files: &dyn Files, marker: Marker) -> Result<Marker, ActionError> {
        live::refuse(self.context.cluster, files).await?;
        let found = place(files, &self.context.cluster.pgdata);
        let run = &self.context.cx.about.run;
        let staged = self.context.cluster.staged(files, run);
        if let Some(fact) = self.context.cluster.lacks_configuration(files, &staged) {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        let old = match self.context.cluster.is_scratch() {
            true => None,
            false => Old::find(self.context.cluster, run, files).map_err(|error| cannot(&error))?,
        };
        let tail = self.tail(&marker, old.as_ref()).await?;
        Pushing { context: &self.context, marker: &marker }.catch_up(&tail).await?;
        // Once a swap has begun, a linked `pg_wal` may be in its place already: then the marker tells.
        let embedded = match marker.course {
            Some(_) => marker.embedded(),
            None => embedded(files, &staged).map_err(|error| cannot(&error))?,
        };
        let folders = wal_source::folders(&marker, &staged);
        let aside = UnarchivedWal { embedded: &embedded, folders: &folders, tail: &tail, files };
        let wal_archive = self.context.wal_archive(&marker);
        let mut plan = replay_plan::settled(&self.context, &marker, aside, &self.recovery_target).await;
        if original::may_lead_on(self.context.cluster, &self.recovery_target, &plan) {
            let end = plan.ok().and_then(|plan| plan.course.end);
            Original::of(&self.context, &marker, &self.recovery_target)?.catch_up(end).await?;
            plan = replay_plan::settled(&self.context, &marker, aside, &self.recovery_target).await;
        }
        let plan = plan.map_err(|error| self.untouched(files, error))?;
        let (fetching, owner) = (Fetching::of(&self.context, marker.system_id)?, &self.context.owner);
        fetching.begin(files, &staged, owner).map_err(|error| cannot(&error))?;
        let segment_cache = fetching.segment_cache((&marker, plan.probe_segment()), files, owner);
        let passage = Passage { segment_cache: segment_cache.as_ref(), ..plan.passage(&wal_archive, aside) };
        let through = match self.context.cluster.is_scratch() {
            true => outside_writes::refuse(passage, &marker).await?,
            false => None,
        };
        for note in &plan.notes {
            self.context.cx.reporter.note(note.clone(), json!({ "timeline": plan.course.timeline.0 }));
        }
        if let Some(location) = &self.context.location {
            self.context.cx.reporter.note(location.caution(), json!({ "unproven": true }));
        }
        let (swap, reading) = self.seats(&marker, old.as_ref(), passage).await?;
        swap.judge(files).map_err(|error| self.untouched(files, error))?;
        self.heed_cancel(files)?;
        freezing::begin(self.context.cluster, self.context.cx).await;
        let pushing = Pushing { context: &self.context, marker: &marker };
        pushing.rescue(&tail, old.as_ref()).await?;
        if let Some(given_up) = tail.given_up {
            self.spread(&marker, given_up).await;
        }
        let remains = match self.context.cluster.is_scratch() && plan.goal == Goal::Newest {
            true => drill_loss::remains(&self.context, &marker, plan.path.last().copied()).await,
            false => None,
        };
        let marker = Marker {
            remains,
            course: Some(plan.course),
            to_target: plan.goal != Goal::Newest,
            asked: Some(self.recovery_target.asked()),
            by_landmark: self.recovery_target.is_by_landmark(),
            embedded: names(&embedded),
            wal_location: self.context.location.clone(),
            ..marker.having_flushed(self.witnessed(files, old.as_ref(), &tail)?)
        };
        self.prepare(files, &staged, &marker, (&plan, &fetching.through(through)))?;
        let trial = self.try_out(&staged, (&plan, reading), segment_cache.as_ref());
        let (raised, tried) = tokio::join!(self.raise(files, &staged, old.as_ref()), trial);
        raised?;
        let reading = tried.map_err(|error| self.untouched(files, error))?;
        reading.tell(&self.context, files, &staged)?;
        archiving::renew(&self.context, &staged).await.map_err(|error| self.untouched(files, error))?;
        marker.write(files, &staged, &self.context.owner)?;
        if let Some(first) = plan.path.first() {
            fetching::fetch_ahead(&self.context, &staged, (*first, marker.segment_size)).await;
        }
        // Whoever cancels now means the old server: it is not moved aside any more.
        self.heed_cancel(files)?;
        self.demand_unchanged(files, found).await?;
        self.context.cx.reporter.progress(Progress::Doing { text: "swapping the data directory".to_owned() });
        swap.run(files)?;
        self.note_kept(files, &swap);
        if let Some(segment_cache) = segment_cache {
            segment_cache.close().await;
        }
        Ok(marker)
    }

    /// Has every store know that a timeline was given up of which the old data tells: the archive outlives that.
    async fn spread(&self, marker: &Marker, given_up: GivenUp) {
        let why = format!("the data that the next recovery found says that timeline {} is given up", given_up.timeline);
        let lacking = giving_up::note_again(&self.context, marker, (given_up, &why)).await;
        if !lacking.is_empty() {
            let message = format!(
                "warning: that timeline {} is given up could not be noted everywhere: {}",
                given_up.timeline,
                lacking.join(", ")
            );
            self.context.cx.reporter.note(message, json!({ "timeline": given_up.timeline.0 }));
        }
    }

    pub(crate) fn note_kept(&self, files: &dyn Files, swap: &Swap) {
        let there = |path: &Path| matches!(files.facts(path), Ok(Some(_)));
        if there(&swap.data.kept) {
            let what = if dismantled::is_one(files, &swap.data.kept) {
                "what was left of the old data"
            } else {
                "the old data"
            };
            let message = format!("{what} is kept in `{}`", swap.data.kept.display());
            self.context.cx.reporter.note(message, json!({ "kept": swap.data.kept }));
        }
        for seat in swap.linked.iter().map(|linked| &linked.seat).filter(|seat| there(&seat.kept)) {
            let message = format!("what lay in `{}` is kept in `{}`", seat.live.display(), seat.kept.display());
            self.context.cx.reporter.note(message, json!({ "kept": seat.kept }));
        }
    }

    /// Refuses to move a server's data that another recovery has put in the place since this one looked: one of another user, or
    /// with another folder of state, knows nothing of this one's locks. A swap that was cut off is brought to its end.
    async fn demand_unchanged(&self, files: &dyn Files, found: Place) -> Result<(), ActionError> {
        let (cluster, run) = (self.context.cluster, &self.context.cx.about.run);
        if matches!(files.facts(&cluster.kept(files, run)), Ok(Some(_))) {
            return Ok(());
        }
        live::refuse(cluster, files).await?;
        if place(files, &self.context.cluster.pgdata) == found {
            return Ok(());
        }
        let other = Marker::read(files, &cluster.pgdata).ok().flatten().filter(|marker| marker.run != *run);
        let by = other.map_or_else(String::new, |other| format!(", by the recovery of run {}", other.run));
        let fact = format!("`{}` was replaced since this recovery looked at it{by}", cluster.pgdata.display());
        Err(ActionError::fatal(fact)
            .help("see what the other one comes to: it may have another user, or another RUNBOOK_STATE; this one has moved nothing"))
    }

    /// Ends a recovery that was cancelled before its swap. One that was cut off in the middle of it is brought to its end: nothing
    /// lies where the data belongs.
    pub(crate) fn heed_cancel(&self, files: &dyn ReadFiles) -> Result<(), ActionError> {
        let kept = self.context.cluster.kept(files, &self.context.cx.about.run);
        let is_begun = matches!(files.facts(&kept), Ok(Some(_)));
        match self.context.cx.cancel.is_cancelled() && !is_begun {
            true => {
                Err(self
                    .untouched(files, ActionError::cancelled("the recovery was cancelled before anything was moved")))
            }
            false => Ok(()),
        }
    }

    /// Says that what was stopped can be started again as it was.
    pub(crate) fn untouched(&self, files: &dyn ReadFiles, error: ActionError) -> ActionError {
        let live = &self.context.cluster.pgdata;
        if self.context.cluster.is_scratch() || !matches!(files.facts(&live.join(VERSION)), Ok(Some(_))) {
            return error;
        }
        let before = error.info().help.as_ref().map_or_else(String::new, |help| format!("{help}; "));
        error.help(format!("{before}`{}` is as it was, and its server can be started again", live.display()))
    }

    pub(crate) fn with_kept(&self, files: &dyn Files, error: ActionError) -> ActionError {
        let kept = self.context.cluster.kept(files, &self.context.cx.about.run);
        if error.info().help.is_some() || !matches!(files.facts(&kept), Ok(Some(_))) {
            return error;
        }
        error.help(format!("the old data is kept in `{}`; nothing of it was removed", kept.display()))
    }
}

/// Which folders lie where the data belongs: its own, and one within that a swap moves and no server replaces. Where the data
/// directory is a mount point only its content is swapped.
fn place(files: &dyn ReadFiles, pgdata: &Path) -> Place {
    [pgdata.to_owned(), pgdata.join("global")].map(|folder| {
        let facts = files.facts(&folder).ok().flatten();
        facts.map(|facts| (facts.device, facts.inode))
    })
}

/// Segments that came with the backup.
pub(crate) fn embedded(files: &dyn ReadFiles, pgdata: &Path) -> Result<BTreeSet<SegmentName>, HostError> {
    let folder = files.canonical(&pgdata.join("pg_wal"))?;
    Ok(files.list(&folder)?.iter().filter_map(|entry| entry.name.to_str()?.parse().ok()).collect())
}

pub(crate) fn names(segments: &BTreeSet<SegmentName>) -> Vec<String> {
    segments.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::place;
    use crate::host::local_files;

    #[test]
    fn a_swap_of_the_content_alone_is_seen_as_well_as_one_of_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let pgdata = home.path().join("data");
        let files = local_files();
        let look = || place(files.as_ref(), &pgdata);
        let gone = look();
        std::fs::create_dir_all(pgdata.join("global")).unwrap();
        let first = look();
        assert_ne!(gone, first);
        assert_eq!(look(), first);
        std::fs::create_dir(pgdata.join("kept")).unwrap();
        std::fs::rename(pgdata.join("global"), pgdata.join("kept/global")).unwrap();
        std::fs::create_dir(pgdata.join("global")).unwrap();
        let second = look();
        assert_eq!((second[0], second[1] == first[1]), (first[0], false), "another's content lies in the same folder");
    }
}
