//! Puts times to what the model says can be recovered.

use crate::base::{Timestamp, clock};
use crate::catalog::KIND_POSTGRES_SNAPSHOT;
use crate::catalog::recovery::{Condition, Gap, Interval, Lane, Opening, lanes};
use crate::cli::recoverable::{ClusterView, LookError, Recoverable};
use crate::pgformat::{SegmentName, Timeline, WalFileName};
use crate::report::window::{BackupForm, Chart, ChartBackup, ChartLane, Span, SpanState};
use crate::wal::{CommitTimes, WalError};

/// One chart per cluster of a database; the one that archives now comes first.
///
/// # Errors
/// Fails when the store gives no answer. WAL that cannot be decrypted only leaves its times open.
pub async fn charts(mut found: Recoverable) -> Result<Vec<Chart>, LookError> {
    let mut charts = Vec::new();
    for mut cluster in std::mem::take(&mut found.clusters) {
        charts.push(chart(&found, &mut cluster).await?);
    }
    Ok(charts)
}

/// A segment that turns out to be damaged while times are read is a hole: then everything is drawn anew.
async fn chart(found: &Recoverable, cluster: &mut ClusterView) -> Result<Chart, LookError> {
    loop {
        match drawn(found, cluster).await {
            Err(WalError::Damaged { name: WalFileName::Segment(name), what }) if condemn(cluster, name, &what) => {}
            other => return Ok(other?),
        }
    }
}

/// Marks a segment as damaged; `false` when it was known to be.
fn condemn(cluster: &mut ClusterView, name: SegmentName, what: &str) -> bool {
    match cluster.archive.segments.get_mut(&name).filter(|segment| segment.condition == Condition::Whole) {
        Some(segment) => {
            segment.condition = Condition::Damaged(what.to_owned());
            true
        }
        None => false,
    }
}

async fn drawn(found: &Recoverable, cluster: &mut ClusterView) -> Result<Chart, WalError> {
    let mut dated =
        Dated { commit_times: found.commit_times(cluster.system_id, cluster.archive.size), notes: Vec::new() };
    if let Err(error) = dated.commit_times.date(&mut cluster.archive).await {
        dated.note(error)?;
    }
    let mut all = Vec::new();
    for lane in lanes(&cluster.archive, &cluster.backups) {
        all.push(dated.lane(cluster, &lane).await?);
    }
    let backups = cluster.backups.iter().map(|backup| ChartBackup {
        id: backup.id.clone(),
        form: if backup.kind == KIND_POSTGRES_SNAPSHOT { BackupForm::Snapshot } else { BackupForm::Base },
        ended_at: backup.base.ended_at,
        timeline: backup.base.timeline,
        fault: backup.fault.clone(),
    });
    let mut notes = dated.notes;
    notes.extend(found.damaged.iter().map(|damaged| format!("a manifest cannot be used: {damaged}")));
    let (database, system_id) = (found.database.clone(), cluster.system_id);
    Ok(Chart { database, system_id, lanes: all, backups: backups.collect(), at: clock::now(), notes })
}

/// Reads times, as far as they can be read.
struct Dated<'a> {
    commit_times: CommitTimes<'a>,
    notes: Vec<String>,
}

impl Dated<'_> {
    async fn lane(&mut self, cluster: &ClusterView, lane: &Lane) -> Result<ChartLane, WalError> {
        let mut spans = Vec::new();
        for interval in &lane.intervals {
            spans.push(self.recoverable(cluster, interval).await?);
        }
        for gap in &lane.gaps {
            let before = spans.iter().filter(|span| span.to <= gap.from).filter_map(|span| span.to_at).next_back();
            let behind = spans.iter().find(|span| span.from >= gap.to).and_then(|span| span.from_at);
            let at = spans.iter().take_while(|span| span.from < gap.from).count();
            let span = self.gap(cluster, (lane.timeline, gap), (before, behind)).await?;
            spans.insert(at, span);
        }
        let (left, fork) = lane.parent.unzip();
        Ok(ChartLane { timeline: lane.timeline, left, fork, spans })
    }

    async fn recoverable(&mut self, cluster: &ClusterView, interval: &Interval) -> Result<Span, WalError> {
        let (from_at, from) = match &interval.opening {
            Opening::Backup { id, at } => (*at, format!("from the end of backup `{id}`")),
            Opening::Fork { at } => (*at, "from the promotion".to_owned()),
        };
        let readable = cluster.readable(interval.numbers, interval.followed);
        let newest = self.commit_times.newest_commit(&readable).await;
        let newest = self.known(newest)?.flatten().map(|commit| commit.at);
        let backups = interval.backups.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        Ok(Span {
            state: SpanState::Recoverable,
            from_at: Some(from_at),
            // A commit before the backup's end says nothing of what came after it.
            to_at: Some(newest.map_or(from_at, |newest| newest.max(from_at))),
            from: interval.from,
            to: interval.to,
            why: vec![format!("{from}; backups that lead into it: {backups}")],
        })
    }

    async fn gap(
        &mut self,
        cluster: &ClusterView,
        (timeline, gap): (Timeline, &Gap),
        (before, behind): (Option<Timestamp>, Option<Timestamp>),
    ) -> Result<Span, WalError> {
        let size = cluster.archive.size;
        let last = size.number_of(crate::pgformat::Lsn(gap.to.0.saturating_sub(1)));
        let readable = cluster.readable((size.number_of(gap.from), last), timeline);
        let from_at = match (before, readable.first()) {
            (Some(before), _) => Some(before),
            (None, Some(first)) => {
                let scan = self.commit_times.scan(*first).await;
                self.known(scan)?.and_then(|scan| scan.first_commit).map(|commit| commit.at)
            }
            (None, None) => None,
        };
        let to_at = match behind {
            Some(behind) => Some(behind),
            None => {
                let newest = self.commit_times.newest_commit(&readable).await;
                self.known(newest)?.flatten().map(|commit| commit.at)
            }
        };
        let mut why: Vec<String> = gap.holes.iter().map(ToString::to_string).collect();
        if why.is_empty() {
            why.push("its WAL is there, but no base backup to begin with".to_owned());
        }
        Ok(Span { state: SpanState::Gap, from_at, to_at, from: gap.from, to: gap.to, why })
    }

    /// What was read; `None` when it cannot be read here, which is noted.
    fn known<T>(&mut self, read: Result<T, WalError>) -> Result<Option<T>, WalError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.note(error).map(|()| None),
        }
    }

    /// Keeps what only leaves times open; gives back what changes the picture.
    fn note(&mut self, error: WalError) -> Result<(), WalError> {
        match error {
            WalError::Transfer(error) => {
                let note = format!("times are not known, because WAL cannot be read here: {error}");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                Ok(())
            }
            other => Err(other),
        }
    }
}
