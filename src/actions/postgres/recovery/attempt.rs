//! One attempt of a recovery, phase by phase. What was done is read from the disk, never remembered.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::course;
use super::discard;
use super::giving_up;
use super::intrusion::{self, Passage};
use super::landing::Landing;
use super::original::{self, Original};
use super::pushing::Pushing;
use super::recover::RecoverOutput;
use super::supply::{self, Aside};
use super::witness;
use crate::action::{ActionError, Files, HostError, ReadFiles};
use crate::actions::postgres::archiving;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::restore::aim::Aim;
use crate::actions::postgres::restore::fetching::{self, Fetching};
use crate::actions::postgres::restore::freezing;
use crate::actions::postgres::restore::hands::Hands;
use crate::actions::postgres::restore::husk;
use crate::actions::postgres::restore::marker::{self, Marker};
use crate::actions::postgres::restore::old::Old;
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

/// One attempt of a recovery.
pub(crate) struct Recovering<'a> {
    /// What it works with.
    pub(crate) hands: Hands<'a>,
    /// Where it is to end, and how.
    pub(crate) aim: Aim,
}

impl Recovering<'_> {
    /// Recovers, or goes on where an earlier attempt of this run was cut off.
    ///
    /// # Errors
    /// Fails as each phase does; the old data is never removed.
    pub(crate) async fn run(&self) -> Result<RecoverOutput, ActionError> {
        let files = self.hands.cx.host.files();
        let run = &self.hands.cx.about.run;
        swap::settle((self.hands.cluster, &self.hands.owner), run, files.as_ref()).await?;
        let swapped = Marker::read(files.as_ref(), &self.hands.cluster.pgdata)?.filter(|marker| marker.run == *run);
        let marker = match (marker::staged(files.as_ref(), self.hands.cluster, run)?, swapped) {
            (Some(staged), waiting) => {
                discard::set_aside(&self.hands, (&staged, waiting.as_ref()), files.as_ref()).await?;
                self.swap_in(files.as_ref(), staged).await?
            }
            (None, Some(swapped)) => swapped,
            (None, None) => {
                let staged = self.hands.cluster.staged(files.as_ref(), run);
                let fact = format!("nothing is staged in `{}`", staged.display());
                return Err(ActionError::fatal(fact).help("run `postgres.restore_base` first"));
            }
        };
        discard::remove(&self.hands, &marker, files.as_ref())?;
        let landing = Landing { hands: &self.hands, marker };
        let recovered = landing.land(&self.aim).await;
        recovered.map_err(|error| self.with_kept(files.as_ref(), error))
    }

    /// Everything up to the swap. What was kept for a server that does not come to start is removed.
    async fn swap_in(&self, files: &dyn Files, marker: Marker) -> Result<Marker, ActionError> {
        let swapped = self.make_ready(files, marker).await;
        if swapped.is_err() {
            fetching::give_up(&self.hands, files);
        }
        swapped
    }

    /// Decides, rescues, prepares and swaps. Until the swap itself nothing live is touched.
    async fn make_ready(&self, files: &dyn Files, marker: Marker) -> Result<Marker, ActionError> {
        live::refuse(self.hands.cluster, files).await?;
        let run = &self.hands.cx.about.run;
        let staged = self.hands.cluster.staged(files, run);
        if let Some(fact) = self.hands.cluster.lacks_configuration(files, &staged) {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        let old = match self.hands.cluster.is_scratch() {
            true => None,
            false => Old::find(self.hands.cluster, run, files).map_err(|error| cannot(&error))?,
        };
        let tail = self.tail(&marker, old.as_ref()).await?;
        Pushing { hands: &self.hands, marker: &marker }.catch_up(&tail).await?;
        // Once a swap has begun, a linked `pg_wal` may be in its place already: then the marker tells.
        let embedded = match marker.course {
            Some(_) => marker.embedded(),
            None => embedded(files, &staged).map_err(|error| cannot(&error))?,
        };
        let folders = supply::folders(&marker, &staged);
        let aside = Aside { embedded: &embedded, folders: &folders, tail: &tail, files };
        let shelf = self.hands.shelf(&marker);
        let mut plan = course::settled(&self.hands, &marker, aside, &self.aim).await;
        if original::may_lead_on(self.hands.cluster, &self.aim, &plan) {
            let end = plan.ok().and_then(|plan| plan.course.end);
            Original::of(&self.hands, &marker, &self.aim)?.catch_up(end).await?;
            plan = course::settled(&self.hands, &marker, aside, &self.aim).await;
        }
        let plan = plan.map_err(|error| self.untouched(files, error))?;
        let (fetching, owner) = (Fetching::of(&self.hands, marker.system_id)?, &self.hands.owner);
        fetching.begin(files, &staged, owner).map_err(|error| cannot(&error))?;
        let larder = fetching.larder((&marker, plan.witness()), files, owner);
        let passage = Passage { larder: larder.as_ref(), ..plan.passage(&shelf, aside) };
        let through = match self.hands.cluster.is_scratch() {
            true => intrusion::refuse(passage, &marker).await?,
            false => None,
        };
        if let Some(note) = &plan.note {
            self.hands.cx.reporter.note(note.clone(), json!({ "timeline": plan.course.timeline.0 }));
        }
        if let Some(location) = &self.hands.location {
            self.hands.cx.reporter.note(location.caution(), json!({ "unproven": true }));
        }
        let (swap, reading) = self.seats(&marker, old.as_ref(), passage).await?;
        swap.judge(files)?;
        freezing::begin(self.hands.cluster, self.hands.cx).await;
        let pushing = Pushing { hands: &self.hands, marker: &marker };
        pushing.rescue(&tail, old.as_ref()).await?;
        if let Some(given_up) = tail.given_up {
            self.spread(&marker, given_up).await;
        }
        let remains = match self.hands.cluster.is_scratch() && plan.goal == Goal::Newest {
            true => witness::remains(&self.hands, &marker, plan.path.last().copied()).await,
            false => None,
        };
        let marker = Marker {
            remains,
            course: Some(plan.course),
            to_target: plan.goal != Goal::Newest,
            asked: Some(self.aim.asked()),
            by_landmark: self.aim.is_by_landmark(),
            embedded: names(&embedded),
            wal_location: self.hands.location.clone(),
            ..marker.having_flushed(self.witnessed(files, old.as_ref(), &tail)?)
        };
        self.prepare(files, &staged, &marker, (&plan, &fetching.through(through)))?;
        let trial = self.try_out(&staged, (&plan, reading), larder.as_ref());
        let (raised, tried) = tokio::join!(self.raise(files, &staged, old.as_ref()), trial);
        raised?;
        let reading = tried.map_err(|error| self.untouched(files, error))?;
        reading.tell(&self.hands, files, &staged)?;
        archiving::renew(&self.hands, &staged).await.map_err(|error| self.untouched(files, error))?;
        marker.write(files, &staged, &self.hands.owner)?;
        if let Some(first) = plan.path.first() {
            fetching::fetch_ahead(&self.hands, &staged, (*first, marker.segment_size)).await;
        }
        self.hands.cx.reporter.progress(Progress::Doing { text: "swapping the data directory".to_owned() });
        swap.run(files)?;
        self.note_kept(files, &swap);
        if let Some(larder) = larder {
            larder.close().await;
        }
        Ok(marker)
    }

    /// Has every store know that a timeline was given up of which the old data tells: the archive outlives that.
    async fn spread(&self, marker: &Marker, given_up: GivenUp) {
        let why = format!("the data that the next recovery found says that timeline {} is given up", given_up.timeline);
        let lacking = giving_up::note_again(&self.hands, marker, (given_up, &why)).await;
        if !lacking.is_empty() {
            let message = format!(
                "warning: that timeline {} is given up could not be noted everywhere: {}",
                given_up.timeline,
                lacking.join(", ")
            );
            self.hands.cx.reporter.note(message, json!({ "timeline": given_up.timeline.0 }));
        }
    }

    pub(crate) fn note_kept(&self, files: &dyn Files, swap: &Swap) {
        let there = |path: &Path| matches!(files.facts(path), Ok(Some(_)));
        if there(&swap.data.kept) {
            let what =
                if husk::is_one(files, &swap.data.kept) { "what was left of the old data" } else { "the old data" };
            let message = format!("{what} is kept in `{}`", swap.data.kept.display());
            self.hands.cx.reporter.note(message, json!({ "kept": swap.data.kept }));
        }
        for seat in swap.linked.iter().map(|linked| &linked.seat).filter(|seat| there(&seat.kept)) {
            let message = format!("what lay in `{}` is kept in `{}`", seat.live.display(), seat.kept.display());
            self.hands.cx.reporter.note(message, json!({ "kept": seat.kept }));
        }
    }

    /// Says that what was stopped can be started again as it was.
    pub(crate) fn untouched(&self, files: &dyn ReadFiles, error: ActionError) -> ActionError {
        let live = &self.hands.cluster.pgdata;
        if self.hands.cluster.is_scratch() || !matches!(files.facts(&live.join(VERSION)), Ok(Some(_))) {
            return error;
        }
        let before = error.info().help.as_ref().map_or_else(String::new, |help| format!("{help}; "));
        error.help(format!("{before}`{}` is as it was, and its server can be started again", live.display()))
    }

    pub(crate) fn with_kept(&self, files: &dyn Files, error: ActionError) -> ActionError {
        let kept = self.hands.cluster.kept(files, &self.hands.cx.about.run);
        if error.info().help.is_some() || !matches!(files.facts(&kept), Ok(Some(_))) {
            return error;
        }
        error.help(format!("the old data is kept in `{}`; nothing of it was removed", kept.display()))
    }
}

/// Segments that came with the backup.
pub(crate) fn embedded(files: &dyn ReadFiles, pgdata: &Path) -> Result<BTreeSet<SegmentName>, HostError> {
    let folder = files.canonical(&pgdata.join("pg_wal"))?;
    Ok(files.list(&folder)?.iter().filter_map(|entry| entry.name.to_str()?.parse().ok()).collect())
}

pub(crate) fn names(segments: &BTreeSet<SegmentName>) -> Vec<String> {
    segments.iter().map(ToString::to_string).collect()
}
