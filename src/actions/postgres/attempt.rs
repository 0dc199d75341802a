//! One attempt of a recovery, phase by phase. What was done is read from the disk, never remembered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::archive::{self, Shelf};
use super::course::{self, Plan};
use super::fetching::{self, Fetching};
use super::intrusion;
use super::layout::{Cluster, MARKER};
use super::live;
use super::marker::{self, Marker};
use super::old::Old;
use super::owner::Owner;
use super::proof;
use super::recover::{RecoverOutput, no_config};
use super::replay::{self, Course};
use super::rescue::{Judge, Tail};
use super::server::{Programs, Server, major};
use super::settings;
use super::side::Side;
use super::swap::{Seat, Swap};
use crate::action::{ActionError, Files, HostError, ReadFiles, RunContext, Store};
use crate::catalog::recovery::Goal;
use crate::event::Progress;
use crate::language::inventory::StoreEntry;
use crate::pgformat::{ControlFile, Lsn, SegmentName, Timeline, WalFileName};
use crate::transfer::Packing;
use crate::wal::{Destination, Identity, push_file};

/// The file of an attempt that holds the outputs of a proven recovery.
const OUTPUT: &str = "recovered.json";

/// A recovery that was proven before its engine died.
pub(crate) struct Attempted;

impl Attempted {
    /// Reads the outputs that an attempt left.
    pub(crate) fn read(files: &dyn ReadFiles, attempt_dir: &Path) -> Option<RecoverOutput> {
        let bytes = files.read(&attempt_dir.join(OUTPUT), 1 << 20).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Everything one attempt needs.
pub(crate) struct Recovering<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Who runs it.
    pub(crate) owner: Owner,
    /// The store of its backups and WAL.
    pub(crate) store: Arc<dyn Store>,
    /// The prefix inside it.
    pub(crate) prefix: &'a str,
    /// Our own program.
    pub(crate) program: &'a Path,
    /// Where the recovery is to end.
    pub(crate) goal: Goal,
    /// The timeline that was asked for.
    pub(crate) timeline: Option<Timeline>,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

impl Recovering<'_> {
    /// Recovers, or goes on where an earlier attempt of this run was cut off.
    ///
    /// # Errors
    /// Fails as each phase does; the old data is never removed.
    pub(crate) async fn run(&self) -> Result<RecoverOutput, ActionError> {
        let files = self.cx.host.files();
        let run = &self.cx.about.run;
        let swapped = Marker::read(files.as_ref(), &self.cluster.pgdata)?.filter(|marker| marker.run == *run);
        let marker = match (marker::staged(files.as_ref(), self.cluster, run)?, swapped) {
            (Some(staged), _) => self.swap_in(files.as_ref(), staged).await?,
            (None, Some(swapped)) => swapped,
            (None, None) => {
                let fact = format!("nothing is staged in `{}`", self.cluster.staged(run).display());
                return Err(ActionError::fatal(fact).help("run `postgres.restore_base` first"));
            }
        };
        let recovered = self.replay(files.as_ref(), marker).await;
        recovered.map_err(|error| self.with_kept(files.as_ref(), error))
    }

    /// Everything up to the swap. Until the swap itself nothing live is touched.
    async fn swap_in(&self, files: &dyn Files, marker: Marker) -> Result<Marker, ActionError> {
        live::refuse(self.cluster, files).await?;
        let run = &self.cx.about.run;
        let staged = self.cluster.staged(run);
        if let Some(fact) = no_config(files, self.cluster, &staged) {
            return Err(ActionError::fatal(fact).help("add `options: \"-c config_file=…\"` under `via: { pg_ctl: … }`"));
        }
        let old = match self.cluster.is_scratch() {
            true => None,
            false => Old::find(self.cluster, run, files).map_err(|error| cannot(&error))?,
        };
        let tail = self.tail(&marker, old.as_ref()).await?;
        // Once a swap has begun, a linked `pg_wal` may be in its place already: then the marker tells.
        let embedded = match marker.course {
            Some(_) => marker.embedded(),
            None => embedded(files, &staged).map_err(|error| cannot(&error))?,
        };
        let aside = course::Aside { embedded: &embedded, tail: &tail };
        let plan = course::decide(self.shelf(&marker), &marker, aside, (&self.goal, self.timeline)).await;
        let plan = plan.map_err(|error| self.untouched(files, error))?;
        if self.cluster.is_scratch() {
            intrusion::refuse(self.shelf(&marker), &plan.path, &staged.join("pg_wal"), files).await?;
        }
        if let Some(note) = &plan.note {
            self.cx.reporter.note(note.clone(), json!({ "timeline": plan.course.timeline.0 }));
        }
        let swap = self.seats(files, &marker, old.as_ref(), &plan.path).await?;
        swap.judge(files)?;
        self.rescue(&marker, &tail, old.as_ref()).await?;
        let marker = Marker {
            course: Some(plan.course),
            to_target: plan.goal != Goal::Newest,
            embedded: names(&embedded),
            last_flushed: self.witnessed(files, old.as_ref(), &tail)?.max(marker.last_flushed),
            ..marker
        };
        self.prepare(files, &staged, &marker, &plan)?;
        if let Some(witness) = plan.witness {
            let tried = fetching::try_out(self, &staged, witness).await;
            tried.map_err(|error| self.untouched(files, error))?;
        }
        marker.write(files, &staged, &self.owner)?;
        self.cx.reporter.progress(Progress::Doing { text: "swapping the data directory".to_owned() });
        swap.run(files)?;
        self.note_kept(files, &swap);
        Ok(marker)
    }

    fn shelf(&self, marker: &Marker) -> Shelf<'_> {
        let (store, prefix) = (self.store.as_read(), self.prefix);
        let keys = archive::keys(&self.cx.about, self.store.name());
        Shelf { store, prefix, system_id: marker.system_id, size: marker.segment_size, keys }
    }

    /// The last position the lost server is known to have flushed.
    ///
    /// A folder that an unfinished recovery left is no witness of that server: of it counts only what its
    /// recovery knew. Else a second try would call a loss none.
    fn witnessed(&self, files: &dyn ReadFiles, old: Option<&Old>, tail: &Tail) -> Result<Option<Lsn>, ActionError> {
        let Some(old) = old else { return Ok(None) };
        let Some(unfinished) = Marker::read(files, &old.dir)? else { return Ok(tail.end) };
        let message = format!(
            "`{}` was left by the unfinished recovery of run `{}`, so it does not tell what the lost server had flushed",
            old.dir.display(),
            unfinished.run
        );
        self.cx.reporter.note(message, json!({ "run": unfinished.run }));
        Ok(unfinished.last_flushed)
    }

    /// Judges what the old data directory flushed beyond the archive. Changes nothing.
    async fn tail(&self, marker: &Marker, old: Option<&Old>) -> Result<Tail, ActionError> {
        if self.cluster.is_scratch() {
            return Ok(Tail::default());
        }
        let files = self.cx.host.read_files();
        let unreadable = |error: &HostError| ActionError::retryable("the old WAL cannot be read").because(error);
        let folder = match old {
            Some(old) => old.wal(&self.cx.about.run, files.as_ref()).map_err(|error| unreadable(&error))?,
            None => None,
        };
        let Some(folder) = folder else {
            let why = match old {
                Some(old) => format!("the old data directory `{}` holds no `pg_wal`", old.dir.display()),
                None => format!("there is no old data directory at `{}`", self.cluster.pgdata.display()),
            };
            let message = format!("{why}: what was committed after the newest archived WAL cannot be rescued");
            self.cx.reporter.note(message, serde_json::Value::Null);
            return Ok(Tail::default());
        };
        let archived: BTreeSet<WalFileName> = self.shelf(marker).names().await?.into_keys().collect();
        let (system_id, size) = (marker.system_id, marker.segment_size);
        let reading = tokio::task::spawn_blocking(move || {
            Judge { system_id, size, archived: &archived }.tail(files.as_ref(), &folder)
        });
        let tail = reading.await.map_err(|error| ActionError::fatal("judging the old WAL panicked").because(&error))?;
        let tail = tail.map_err(|error| unreadable(&error))?;
        if !tail.unproven.is_empty() {
            let message = format!("{} old WAL files prove nothing and were left", tail.unproven.len());
            self.cx.reporter.note(message, json!({ "files": tail.unproven }));
        }
        Ok(tail)
    }

    /// Pushes that tail. Only when the recovery is decided: an old server that is started again after a
    /// refusal goes on writing its last segment, which then could never be archived.
    async fn rescue(&self, marker: &Marker, tail: &Tail, old: Option<&Old>) -> Result<(), ActionError> {
        if tail.files.is_empty() {
            return Ok(());
        }
        let identity = Identity { system_id: marker.system_id, segment_size: Some(marker.segment_size) };
        let packing = Packing::of(self.entry()?, self.cx.about.secrets.as_ref());
        let packing = packing.map_err(|error| {
            ActionError::fatal("rescued WAL cannot be packed for the archive; nothing was touched").because(&error)
        })?;
        let to = Destination { store: self.store.as_ref(), prefix: self.prefix, identity, packing: &packing };
        for file in &tail.files {
            let pushed = push_file(to, &file.path, file.name).await;
            pushed.map_err(|error| {
                let fact =
                    format!("the rescued `{}` cannot be brought into the archive; nothing was touched", file.name);
                let class = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
                class.because(&error)
            })?;
        }
        let names: Vec<String> = tail.files.iter().map(|file| file.name.to_string()).collect();
        if let Some(old) = old.filter(|_| !names.is_empty()) {
            let message = format!(
                "WAL that was never archived was rescued from `{}` (files: {})",
                old.dir.display(),
                names.len()
            );
            self.cx.reporter.note(message, json!({ "files": names, "up_to": tail.end.map(|end| end.to_string()) }));
        }
        Ok(())
    }

    /// Writes what the recovery needs into the staged folder.
    fn prepare(&self, files: &dyn Files, staged: &Path, marker: &Marker, plan: &Plan) -> Result<(), ActionError> {
        let mut lines = vec![("restore_command".to_owned(), fetching::restore_command(self.program))];
        lines.extend(plan.goal.settings(plan.timeline));
        for (name, value) in [("recovery_end_command", ""), ("recovery_min_apply_delay", "0"), ("hot_standby", "on")] {
            lines.push((name.to_owned(), value.to_owned()));
        }
        let auto = staged.join("postgresql.auto.conf");
        let before =
            if self.cluster.is_scratch() { Vec::new() } else { files.read(&auto, 1 << 24).unwrap_or_default() };
        let before = String::from_utf8(before)
            .map_err(|error| ActionError::fatal(format!("`{}` is no text", auto.display())).because(&error))?;
        let fetching = Fetching::of(self, marker.system_id)?;
        fetching.write(files, staged, &self.owner).map_err(|error| cannot(&error))?;
        let mut contents =
            vec![(auto, settings::with_block(&before, &lines)), (staged.join("recovery.signal"), String::new())];
        if let Some(side) = self.side(files, staged)? {
            side.write(files, &self.owner).map_err(|error| cannot(&error))?;
        }
        for (path, content) in contents.drain(..) {
            self.write(files, &path, &content).map_err(|error| cannot(&error))?;
        }
        let standby = staged.join("standby.signal");
        if matches!(files.facts(&standby), Ok(Some(_))) {
            files.remove_file(&standby).map_err(|error| cannot(&error))?;
        }
        let places: Vec<(u32, PathBuf)> =
            marker.links.iter().filter_map(|link| Some((link.tablespace()?, link.live.clone()))).collect();
        if places.is_empty() {
            return Ok(());
        }
        marker::write_tablespace_map(files, staged, &places, &self.owner).map_err(|error| cannot(&error))
    }

    fn write(&self, files: &dyn Files, path: &Path, content: &str) -> Result<(), HostError> {
        files.replace(path, content.as_bytes(), 0o600)?;
        files.chown(path, self.owner.uid, self.owner.gid)
    }

    /// What the inventory says of the archive's store.
    pub(crate) fn entry(&self) -> Result<&StoreEntry, ActionError> {
        let name = self.store.name();
        let entry = self.cx.about.inventory.stores.get(name);
        entry.ok_or_else(|| ActionError::fatal(format!("the inventory has no store `{name}`")))
    }

    fn side(&self, files: &dyn ReadFiles, pgdata: &Path) -> Result<Option<Side>, ActionError> {
        let bytes = files.read(&pgdata.join(ControlFile::PATH), 1 << 16).map_err(|error| cannot(&error))?;
        let control = ControlFile::parse(&bytes)
            .map_err(|error| ActionError::fatal("the restored `pg_control` cannot be read").because(&error))?;
        Side::of(self.cluster, &control)
    }

    /// Everything that moves. Where no old data directory tells which tablespaces there were, the WAL does:
    /// replaying the creation of one empties its folder.
    async fn seats(
        &self,
        files: &dyn Files,
        marker: &Marker,
        old: Option<&Old>,
        path: &[SegmentName],
    ) -> Result<Swap, ActionError> {
        let run = &self.cx.about.run;
        let staged = self.cluster.staged(run);
        let mut links = match old {
            Some(old) => marker::links(files, &old.dir, run).map_err(|error| cannot(&error))?,
            None => Vec::new(),
        };
        let told = match old {
            Some(old) => old.lists_tablespaces(files).map_err(|error| cannot(&error))?,
            None => self.cluster.is_scratch(),
        };
        if !told {
            self.cx.reporter.progress(Progress::Doing { text: "looking for tablespaces in the WAL".to_owned() });
            let made = intrusion::tablespaces(self.shelf(marker), path, &staged.join("pg_wal"), files).await?;
            let own = |link: &PathBuf| links.iter().any(|(known, _)| known == link);
            let made: Vec<_> = made.into_iter().filter(|(link, _)| !own(link)).collect();
            links.extend(made);
        }
        let data = Seat { live: self.cluster.pgdata.clone(), kept: self.cluster.kept(run), staged: Some(staged) };
        Ok(Swap { data, linked: marker.seats(&links, run), owner: self.owner.clone() })
    }

    fn note_kept(&self, files: &dyn Files, swap: &Swap) {
        let there = |path: &Path| matches!(files.facts(path), Ok(Some(_)));
        if there(&swap.data.kept) {
            let message = format!("the old data is kept in `{}`", swap.data.kept.display());
            self.cx.reporter.note(message, json!({ "kept": swap.data.kept }));
        }
        for seat in swap.linked.iter().map(|linked| &linked.seat).filter(|seat| there(&seat.kept)) {
            let message = format!("what lay in `{}` is kept in `{}`", seat.live.display(), seat.kept.display());
            self.cx.reporter.note(message, json!({ "kept": seat.kept }));
        }
    }

    /// Starts the server if it does not run, follows it to the end, and proves what was reached.
    async fn replay(&self, files: &dyn Files, marker: Marker) -> Result<RecoverOutput, ActionError> {
        let cluster = self.cluster;
        let version = major(files, &cluster.pgdata)?;
        let programs = Programs::of(cluster, &version, self.cx.host.as_ref())?;
        let options = self.side(files, &cluster.pgdata)?.map_or_else(Vec::new, |side| side.options());
        let server = Server { cluster, owner: self.owner.clone(), programs, options };
        if !live::settled(cluster, files).await {
            live::refuse(cluster, files).await?;
            live::clear_zombie_lock(cluster, files).map_err(|error| cannot(&error))?;
            server.start(self.cx.host.as_ref()).await?;
        }
        let base = course::base(&marker);
        let course = marker.course.unwrap_or(Course { start: base.start, end: None, timeline: base.timeline });
        let arrival = replay::follow(&server, course, self.cx).await?;
        self.clean(files)?;
        let proven = proof::prove(&proof::Claim {
            cluster,
            shelf: self.shelf(&marker),
            marker: &marker,
            timeline: arrival.timeline,
            cx: self.cx,
        })
        .await?;
        self.note_shortfall(&marker, proven);
        let output = self.output(files, &marker, arrival, proven);
        let text = serde_json::to_vec(&output)
            .map_err(|error| ActionError::fatal("the outputs cannot be written").because(&error))?;
        files.replace(&self.cx.attempt_dir.join(OUTPUT), &text, 0o600).map_err(|error| cannot(&error))?;
        files.remove_file(&cluster.pgdata.join(MARKER)).map_err(|error| cannot(&error))?;
        Ok(output)
    }

    /// Says when less came back than the old server is known to have flushed, unless a target asked for less.
    fn note_shortfall(&self, marker: &Marker, reached: Lsn) {
        let Some(flushed) = marker.last_flushed.filter(|flushed| reached < *flushed && !marker.to_target) else {
            return;
        };
        let message = format!(
            "the recovery ended at {reached}, but the old server had flushed up to {flushed}: what lies between did not come back"
        );
        self.cx.reporter.note(message, json!({ "reached": reached.to_string(), "flushed": flushed.to_string() }));
    }

    /// Removes the recovery's settings and leftovers from the open server.
    fn clean(&self, files: &dyn Files) -> Result<(), ActionError> {
        let auto = self.cluster.pgdata.join("postgresql.auto.conf");
        let bytes = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let text = String::from_utf8_lossy(&bytes);
        let cleaned = settings::without_block(&text);
        if cleaned != text {
            files.replace(&auto, cleaned.as_bytes(), 0o600).map_err(|error| cannot(&error))?;
        }
        // Also when an earlier attempt was cut off right after it wrote the file.
        files.chown(&auto, self.owner.uid, self.owner.gid).map_err(|error| cannot(&error))?;
        fetching::remove(files, &self.cluster.pgdata).map_err(|error| cannot(&error))?;
        for name in ["backup_label.old", "tablespace_map.old"] {
            let path = self.cluster.pgdata.join(name);
            if matches!(files.facts(&path), Ok(Some(_))) {
                files.remove_file(&path).map_err(|error| cannot(&error))?;
            }
        }
        Ok(())
    }

    fn output(&self, files: &dyn Files, marker: &Marker, arrival: replay::Arrival, recovered_to: Lsn) -> RecoverOutput {
        let kept = self.cluster.kept(&self.cx.about.run);
        let kept = matches!(files.facts(&kept), Ok(Some(_))).then_some(kept);
        let reached = marker.last_flushed.is_some_and(|flushed| recovered_to >= flushed);
        RecoverOutput {
            instance: self.cluster.instance(),
            recovered_to_lsn: recovered_to.to_string(),
            recovered_to_time: arrival.newest_commit,
            timeline: arrival.timeline.0,
            last_flushed_lsn: marker.last_flushed.map(|lsn| lsn.to_string()),
            loss: proof::loss(reached || marker.to_target, arrival.newest_commit, marker.ended_at),
            kept,
        }
    }

    /// Says that what was stopped can be started again as it was.
    fn untouched(&self, files: &dyn Files, error: ActionError) -> ActionError {
        let live = &self.cluster.pgdata;
        if self.cluster.is_scratch() || !matches!(files.facts(live), Ok(Some(_))) {
            return error;
        }
        let before = error.info().help.as_ref().map_or_else(String::new, |help| format!("{help}; "));
        error.help(format!("{before}`{}` is as it was, and its server can be started again", live.display()))
    }

    fn with_kept(&self, files: &dyn Files, error: ActionError) -> ActionError {
        let kept = self.cluster.kept(&self.cx.about.run);
        if error.info().help.is_some() || !matches!(files.facts(&kept), Ok(Some(_))) {
            return error;
        }
        error.help(format!("the old data is kept in `{}`; nothing of it was removed", kept.display()))
    }
}

/// Segments that came with the backup.
fn embedded(files: &dyn ReadFiles, pgdata: &Path) -> Result<BTreeSet<SegmentName>, HostError> {
    let folder = files.canonical(&pgdata.join("pg_wal"))?;
    Ok(files.list(&folder)?.iter().filter_map(|entry| entry.name.to_str()?.parse().ok()).collect())
}

fn names(segments: &BTreeSet<SegmentName>) -> Vec<String> {
    segments.iter().map(ToString::to_string).collect()
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the recovery cannot go on").because(error)
}
