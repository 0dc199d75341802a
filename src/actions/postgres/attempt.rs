//! One attempt of a recovery, phase by phase. What was done is read from the disk, never remembered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::aim::{self, Aim, Ending};
use super::container;
use super::course::{self, Plan};
use super::discard;
use super::fetching::{self, Fetching};
use super::freezing;
use super::hands::Hands;
use super::husk;
use super::intrusion::{self, Passage};
use super::landing::Landing;
use super::larder::Larder;
use super::limits::{self, Configured};
use super::live;
use super::marker::{self, Marker};
use super::neighbours::{self, Neighbours};
use super::old::Old;
use super::original::{self, Original};
use super::pg_control::{cannot, control};
use super::pushing::Pushing;
use super::recover::RecoverOutput;
use super::rescue::{Judge, Tail};
use super::server::major;
use super::settings;
use super::supply::{self, Aside};
use super::swap::{self, Seat, Swap, VERSION};
use super::target::Goal;
use super::witness;
use crate::action::{ActionError, Files, HostError, ReadFiles};
use crate::event::Progress;
use crate::pgformat::{Change, Lsn, Major, SegmentName, WalFileName};

/// How far the server may read WAL before it replays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As far as it likes.
    Ahead,
    /// No further than it replays: what is damaged behind the target would end it as soon as it is fetched.
    AsReplayed,
}

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
        let remains = match self.hands.cluster.is_scratch() && plan.goal == Goal::Newest {
            true => witness::remains(&self.hands, &marker, plan.path.last().copied()).await,
            false => None,
        };
        let marker = Marker {
            remains,
            course: Some(plan.course),
            to_target: plan.goal != Goal::Newest,
            by_landmark: self.aim.is_by_landmark(),
            embedded: names(&embedded),
            wal_location: self.hands.location.clone(),
            last_flushed: self.witnessed(files, old.as_ref(), &tail)?.max(marker.last_flushed),
            ..marker
        };
        self.prepare(files, &staged, &marker, (&plan, &fetching.through(through)))?;
        let trial = self.try_out(&staged, (&plan, reading), larder.as_ref());
        let (raised, tried) = tokio::join!(self.raise(files, &staged, old.as_ref()), trial);
        raised?;
        let reading = tried.map_err(|error| self.untouched(files, error))?;
        self.read(files, &staged, reading)?;
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

    /// The last position the lost server is known to have flushed.
    ///
    /// A folder that an unfinished recovery left is no witness of that server: of it counts only what its
    /// recovery knew. Else a second try would call a loss none.
    pub(crate) fn witnessed(
        &self,
        files: &dyn ReadFiles,
        old: Option<&Old>,
        tail: &Tail,
    ) -> Result<Option<Lsn>, ActionError> {
        let Some(old) = old else { return Ok(None) };
        let Some(unfinished) = Marker::read(files, &old.dir)? else { return Ok(tail.end) };
        let message = format!(
            "`{}` was left by the unfinished recovery of run `{}`, so it does not tell what the lost server had flushed",
            old.dir.display(),
            unfinished.run
        );
        self.hands.cx.reporter.note(message, json!({ "run": unfinished.run }));
        Ok(unfinished.last_flushed)
    }

    /// Judges what the old data directory flushed beyond the archive. Changes nothing.
    pub(crate) async fn tail(&self, marker: &Marker, old: Option<&Old>) -> Result<Tail, ActionError> {
        if self.hands.cluster.is_scratch() {
            return Ok(Tail::default());
        }
        let files = self.hands.cx.host.read_files();
        let unreadable = |error: &HostError| ActionError::retryable("the old WAL cannot be read").because(error);
        let folder = match old {
            Some(old) => old.wal(&self.hands.cx.about.run, files.as_ref()).map_err(|error| unreadable(&error))?,
            None => None,
        };
        let Some(folder) = folder else {
            let why = match old {
                Some(old) => format!("the old data directory `{}` holds no `pg_wal`", old.dir.display()),
                None => format!("there is no old data directory at `{}`", self.hands.cluster.pgdata.display()),
            };
            let message = format!("{why}: what was committed after the newest archived WAL cannot be rescued");
            self.hands.cx.reporter.note(message, serde_json::Value::Null);
            return Ok(Tail::default());
        };
        let archived: BTreeSet<WalFileName> = self.hands.shelf(marker).names().await?.into_keys().collect();
        let (system_id, size) = (marker.system_id, marker.segment_size);
        let reading = tokio::task::spawn_blocking(move || {
            Judge { system_id, size, archived: &archived }.tail(files.as_ref(), &folder)
        });
        let tail = reading.await.map_err(|error| ActionError::fatal("judging the old WAL panicked").because(&error))?;
        let tail = tail.map_err(|error| unreadable(&error))?;
        if let Some(torn) = &tail.torn {
            self.hands.cx.reporter.note(torn.words(), json!({ "proven": torn.proven.to_string() }));
        }
        if !tail.unproven.is_empty() {
            let message = format!("{} old WAL files prove nothing and were left", tail.unproven.len());
            self.hands.cx.reporter.note(message, json!({ "files": tail.unproven }));
        }
        Ok(tail)
    }

    /// Writes what the recovery needs into the staged folder.
    fn prepare(
        &self,
        files: &dyn Files,
        staged: &Path,
        marker: &Marker,
        (plan, fetching): (&Plan, &Fetching),
    ) -> Result<(), ActionError> {
        let mut lines = vec![("restore_command".to_owned(), fetching::restore_command(&self.hands.program))];
        let aim = Aim { goal: plan.goal.clone(), ..self.aim.clone() };
        lines.extend(aim.settings(plan.timeline));
        let of_version = of_version(&major(files, staged)?, self.aim.ending);
        for (name, value) in settings::FIXED.into_iter().chain(of_version) {
            lines.push((name.to_owned(), value.to_owned()));
        }
        let auto = staged.join(settings::FILE);
        let scratch = self.hands.cluster.is_scratch();
        let before = if scratch { String::new() } else { settings::restored(files, staged)? };
        fetching.place(files, staged, &self.hands.owner).map_err(|error| cannot(&error))?;
        let mut contents =
            vec![(auto, settings::with_block(&before, &lines)), (staged.join(aim.signal(&plan.goal)), String::new())];
        if let Some(side) = self.hands.side(files, staged)? {
            side.write(files, &self.hands.owner).map_err(|error| cannot(&error))?;
        }
        for (path, content) in contents.drain(..) {
            self.hands.write(files, &path, &content).map_err(|error| cannot(&error))?;
        }
        aim::remove_other_signal(files, staged, aim.signal(&plan.goal)).map_err(|error| cannot(&error))?;
        let places: Vec<(u32, PathBuf)> =
            marker.links.iter().filter_map(|link| Some((link.tablespace()?, link.live.clone()))).collect();
        if places.is_empty() {
            return Ok(());
        }
        marker::write_tablespace_map(files, staged, &places, &self.hands.owner).map_err(|error| cannot(&error))
    }

    /// Says how far the server reads, where it reads ahead at all.
    pub(crate) fn read(&self, files: &dyn Files, staged: &Path, reading: Reading) -> Result<(), ActionError> {
        let reads_ahead = Major::of_text(&major(files, staged)?).is_some_and(|major| major.has(Change::ReadAhead));
        if reading == Reading::Ahead || !reads_ahead {
            return Ok(());
        }
        let auto = staged.join(settings::FILE);
        let text = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let off = ("recovery_prefetch".to_owned(), "off".to_owned());
        let text = settings::within_block(&String::from_utf8_lossy(&text), &[off]);
        self.hands.write(files, &auto, &text).map_err(|error| cannot(&error))
    }

    /// Has the server's user fetch a segment of the way. Behind a target one may be damaged that is never replayed: then the
    /// first of the way tells whether that user can fetch at all.
    async fn try_out(
        &self,
        staged: &Path,
        (plan, reading): (&Plan, Reading),
        larder: Option<&Larder<'_>>,
    ) -> Result<Reading, ActionError> {
        let last = match reading {
            Reading::Ahead => plan.witness(),
            Reading::AsReplayed => plan.first(),
        };
        let Some(last) = last else { return Ok(reading) };
        let asked = async |segment: SegmentName| {
            if let Some(larder) = larder {
                larder.forget(segment);
            }
            fetching::try_out(&self.hands, staged, segment).await
        };
        let Err(error) = asked(last).await else { return Ok(reading) };
        let Some(first) = plan.first().filter(|first| *first != last && plan.goal != Goal::Newest) else {
            return Err(error);
        };
        asked(first).await?;
        let message = format!(
            "`{last}`, the last segment of the way, cannot be fetched ({error}): a target in it is not reached"
        );
        self.hands.cx.reporter.note(message, json!({ "segment": last.to_string() }));
        Ok(Reading::AsReplayed)
    }

    /// Raises what the WAL needs higher than the restored configuration has it.
    pub(crate) async fn raise(&self, files: &dyn Files, staged: &Path, old: Option<&Old>) -> Result<(), ActionError> {
        let cluster = self.hands.cluster;
        if cluster.is_scratch() {
            return Ok(());
        }
        let mut needed = control(files, staged)?.limits;
        if let Some(lost) = old.and_then(|old| old.control(files)) {
            needed = limits::greatest(needed, lost.limits);
        }
        let Hands { owner, abode, .. } = &self.hands;
        let programs = self.hands.programs(files, staged)?;
        let configured = Configured { cluster, owner, programs: &programs, abode, pgdata: staged };
        let short = configured.short_of(needed, self.hands.cx.host.as_read()).await;
        if short.is_empty() {
            return Ok(());
        }
        let message = format!("the backup's configuration is raised for the replay: {}", limits::words(&short));
        self.hands.cx.reporter.note(message, json!({ "settings": limits::raised(&short) }));
        let auto = staged.join(settings::FILE);
        let text = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let text = settings::within_block(&String::from_utf8_lossy(&text), &limits::raised(&short));
        self.hands.write(files, &auto, &text).map_err(|error| cannot(&error))
    }

    /// Everything that moves, none of it somebody else's; and how far the server may read. Where no old data directory
    /// tells which tablespaces there were, the WAL does: replaying the creation of one empties its folder.
    pub(crate) async fn seats(
        &self,
        marker: &Marker,
        old: Option<&Old>,
        passage: Passage<'_>,
    ) -> Result<(Swap, Reading), ActionError> {
        let (run, files) = (&self.hands.cx.about.run, passage.supply.aside.files);
        let staged = self.hands.cluster.staged(files, run);
        let mut links = match old {
            Some(old) => marker::links(files, &old.dir, run).map_err(|error| cannot(&error))?,
            None => Vec::new(),
        };
        let told = match old {
            Some(old) => old.lists_tablespaces(files).map_err(|error| cannot(&error))?,
            None => self.hands.cluster.is_scratch(),
        };
        let neighbours = match self.hands.cluster.is_scratch() {
            true => Neighbours::default(),
            false => Neighbours::of(self.hands.cluster, &self.hands.cx.about, files),
        };
        let (linked, mut reading) = (links.clone(), Reading::Ahead);
        if !told || neighbours.have_tablespaces() {
            let made;
            (made, reading) = self.made(passage).await?;
            let own = |link: &PathBuf| links.iter().any(|(known, _)| known == link);
            let made: Vec<_> = made.into_iter().filter(|(link, _)| !own(link)).collect();
            links.extend(made);
        }
        if let Some((link, place)) = links.first().filter(|_| self.hands.cluster.is_contained()) {
            return Err(self.untouched(files, container::outside(link, place)));
        }
        let live = self.hands.cluster.pgdata.clone();
        let room = self.hands.cluster.room(files);
        let data = Seat { kept: room.kept(&live, run), staged: Some(staged), room, live };
        let swap = Swap { data, linked: marker.seats(&links, run, files), owner: self.hands.owner.clone() };
        let seats = std::iter::once(&swap.data).chain(swap.linked.iter().map(|linked| &linked.seat));
        neighbours.refuse(seats.map(|seat| seat.live.as_path()), files)?;
        if old.is_some() && told {
            neighbours::refuse_strangers(&swap, &linked, files)?;
        }
        Ok((swap, reading))
    }

    /// The tablespaces that replay will create. What breaks off behind a target is no reason to refuse it.
    async fn made(&self, passage: Passage<'_>) -> Result<(intrusion::Made, Reading), ActionError> {
        let reporter = &self.hands.cx.reporter;
        reporter.progress(Progress::Doing { text: "looking for tablespaces in the WAL".to_owned() });
        let looked = intrusion::tablespaces(passage).await?;
        if passage.plan.goal == Goal::Newest {
            return looked.whole().map(|made| (made, Reading::Ahead));
        }
        let (made, broken) = looked.up_to_a_break(passage.supply, &passage.plan.goal)?;
        if let Some(error) = &broken {
            let message =
                format!("{error}: it is not replayed, nor what follows, and a target that lies there is not reached");
            reporter.note(message, json!({ "causes": error.info().causes }));
        }
        Ok((made, if broken.is_some() { Reading::AsReplayed } else { Reading::Ahead }))
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

/// What a recovery sets in some versions only. A server that starts from a backup is spared a sync of each single file:
/// what was staged is durable already, and Linux syncs a file system at once (manual, `recovery_init_sync_method`). A
/// file that lies about opens no server that is to be looked at (manual, `promote_trigger_file`); a standby may have one.
fn of_version(version: &str, ending: Ending) -> Vec<(&'static str, &'static str)> {
    let has = |change: Change| Major::of_text(version).is_some_and(|major| major.has(change));
    let mut settings = Vec::new();
    if cfg!(target_os = "linux") && has(Change::SyncMethod) {
        settings.push(("recovery_init_sync_method", "syncfs"));
    }
    if !has(Change::NoTriggerFile) && ending != Ending::Standby {
        settings.push(("promote_trigger_file", ""));
    }
    settings
}

/// Segments that came with the backup.
pub(crate) fn embedded(files: &dyn ReadFiles, pgdata: &Path) -> Result<BTreeSet<SegmentName>, HostError> {
    let folder = files.canonical(&pgdata.join("pg_wal"))?;
    Ok(files.list(&folder)?.iter().filter_map(|entry| entry.name.to_str()?.parse().ok()).collect())
}

pub(crate) fn names(segments: &BTreeSet<SegmentName>) -> Vec<String> {
    segments.iter().map(ToString::to_string).collect()
}
