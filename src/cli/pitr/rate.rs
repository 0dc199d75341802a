//! How long it will take, by how long it took here before.

use std::time::Duration;

use serde::Serialize;

use crate::cli::wiring;
use crate::journal::Index;
use crate::wal::outlook::Plan;

/// The runbooks that restore a base backup, each with the step that replays.
const RESTORES: [(&str, &str); 2] = [("pitr", "look"), ("full-db-loss", "recover")];
/// How many replays of about the same length count.
const NEAREST: usize = 5;
/// The step of both that stages the backup.
const STAGE: &str = "stage";

/// What earlier restores of this machine say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// How long retrieving archived objects takes at the longest; `None` when nothing is archived, or no class tells it.
    pub retrieval_s: Option<u64>,
    /// How long staging the backup takes; `None` when it was never measured.
    pub restore_s: Option<u64>,
    /// How long replay and promotion take, by the runs that replayed about as much; `None` when never measured.
    pub replay_s: Option<u64>,
    /// How many runs that rests on.
    pub runs: usize,
}

impl Estimate {
    /// All together.
    #[must_use]
    pub fn total(&self) -> Option<Duration> {
        let measured = self.restore_s?.saturating_add(self.replay_s?);
        Some(Duration::from_secs(measured.saturating_add(self.retrieval_s.unwrap_or_default())))
    }
}

/// Estimates by the history of runs about the database; without one nothing is told.
#[must_use]
pub fn estimate(plan: &Plan, database: &str) -> Estimate {
    let retrieval_s = plan.retrieval.as_ref().and_then(|retrieval| retrieval.wait_s);
    let mut estimate = Estimate { retrieval_s, restore_s: None, replay_s: None, runs: 0 };
    let Ok(Some(runs)) = wiring::existing_runs() else { return estimate };
    let Ok(index) = Index::read(&runs) else { return estimate };
    let (mut restored, mut replayed) = (Vec::new(), Vec::new());
    for (name, replay) in RESTORES {
        for run in index.samples(name, Some(database)).unwrap_or_default() {
            let of = |id: &str| run.iter().find(|(step, _)| step.as_str() == id).map(|(_, sample)| *sample);
            if let Some(sample) = of(STAGE) {
                // Scaled by what there is to read, where the step told how much that was.
                let bytes = sample.bytes.filter(|bytes| *bytes > 0);
                let scaled = bytes.map_or(u128::from(sample.elapsed_ms), |bytes| {
                    u128::from(sample.elapsed_ms) * u128::from(plan.backup.stored_bytes) / u128::from(bytes)
                });
                restored.push(u64::try_from(scaled).unwrap_or(u64::MAX));
                estimate.runs += 1;
            }
            replayed.extend(of(replay).map(|sample| Replayed { bytes: sample.bytes, elapsed_ms: sample.elapsed_ms }));
        }
    }
    estimate.restore_s = median(restored);
    estimate.replay_s = median(alike(&replayed, plan.replay.to.bytes_since(plan.replay.from)));
    estimate
}

/// One replay that was measured.
#[derive(Debug, Clone, Copy)]
struct Replayed {
    /// How much it had to do; `None` in runs of earlier versions.
    bytes: Option<u64>,
    elapsed_ms: u64,
}

/// How long `bytes` of WAL take, by each of the replays that were nearest to that. More takes longer in proportion; less
/// takes no shorter, since starting and opening the server take their time whatever there is to replay.
fn alike(all: &[Replayed], bytes: u64) -> Vec<u64> {
    let mut sized: Vec<(u64, u64)> =
        all.iter().filter_map(|one| Some((one.bytes.filter(|bytes| *bytes > 0)?, one.elapsed_ms))).collect();
    if sized.is_empty() {
        return all.iter().map(|one| one.elapsed_ms).collect();
    }
    sized.sort_by_key(|(own, _)| own.abs_diff(bytes));
    let scaled = sized.into_iter().take(NEAREST).map(|(own, elapsed_ms)| {
        let ms = u128::from(elapsed_ms) * u128::from(bytes.max(own)) / u128::from(own);
        u64::try_from(ms).unwrap_or(u64::MAX)
    });
    scaled.collect()
}

/// The median in whole seconds, rounded up.
fn median(mut millis: Vec<u64>) -> Option<u64> {
    millis.sort_unstable();
    millis.get(millis.len() / 2).map(|middle| middle.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::{Replayed, alike, median};

    #[test]
    fn replay_is_scaled_by_its_wal_from_what_was_nearest() {
        let of = |bytes, elapsed_ms| Replayed { bytes, elapsed_ms };
        assert_eq!(alike(&[of(Some(100), 3_000)], 1_000), vec![30_000]);
        assert_eq!(alike(&[of(Some(100), 3_000)], 10), vec![3_000], "a start takes its time");
        assert_eq!(alike(&[of(None, 3_000)], 1_000), vec![3_000], "runs of earlier versions tell no length");
        let mut many = vec![of(Some(10), 2_000); 9];
        many.extend([of(Some(1_000), 9_000); 5]);
        assert_eq!(median(alike(&many, 1_000)), Some(9));
    }

    #[test]
    fn the_median_is_in_whole_seconds_and_never_zero_for_what_took_time() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![900, 100, 20_000]), Some(1));
        assert_eq!(median(vec![1_001]), Some(2));
    }
}
