//! How long a run will take, from how long its steps took before.
//!
//! A forecast plays the body through with the median of each step, and once more with the 95th percentile: a step
//! starts when what it needs has ended and a place is free. The second figure is pessimistic: rarely is every step
//! slow in one run.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{BoundPlan, PlannedStep, Section};
use crate::base::StepId;

/// A forecast of a run. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, schemars::JsonSchema)]
pub struct Forecast {
    /// From the start to the end of the body, with medians.
    pub median_ms: u64,
    /// The same with 95th percentiles.
    pub p95_ms: u64,
    /// The chain that decides the median.
    pub critical_path: Vec<StepId>,
    /// Steps that were never measured: the forecast leaves them out.
    pub unmeasured: Vec<StepId>,
    /// How many past runs it rests on.
    pub runs: usize,
    /// Each step that was measured.
    pub steps: Vec<StepForecast>,
    /// How long an archived backup takes to come back at the longest, counted in both figures; zero: nothing waits.
    pub retrieval_ms: u64,
    /// The step that waits for it, or whose outputs do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieved_for: Option<StepId>,
}

/// A forecast of one step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct StepForecast {
    /// The step.
    pub id: StepId,
    /// The median.
    pub median_ms: u64,
    /// The 95th percentile.
    pub p95_ms: u64,
    /// How often it was measured.
    pub samples: usize,
    /// How much it has to do this time, where past times were scaled by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// One time a step was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How long it took.
    pub elapsed_ms: u64,
    /// How much it had to do, where that is known.
    pub bytes: Option<u64>,
}

/// What past runs tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Each time each step succeeded.
    pub samples: BTreeMap<StepId, Vec<Sample>>,
    /// In how many runs.
    pub runs: usize,
}

/// What is known of this time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThisTime {
    /// How much steps have to do, in bytes, where that is known.
    pub sizes: BTreeMap<StepId, u64>,
    /// How long something archived takes to come back, in milliseconds, as the checks of steps found.
    pub waits: BTreeMap<StepId, u64>,
}

/// Forecasts from past durations and what is known of this time. Several steps may have found the same archived
/// backup: the longest wait counts, once, at the first step that found it.
#[must_use]
pub fn forecast(plan: &BoundPlan, history: &History, now: &ThisTime) -> Forecast {
    let mut steps = Vec::new();
    let mut unmeasured = Vec::new();
    for step in &plan.steps {
        match history.samples.get(&step.id).filter(|samples| !samples.is_empty()) {
            Some(samples) => steps.push(measured(&step.id, samples, now.sizes.get(&step.id).copied())),
            None => unmeasured.push(step.id.clone()),
        }
    }
    let retrieval_ms = now.waits.values().copied().max().unwrap_or_default();
    let found =
        plan.section(Section::Body).find(|step| retrieval_ms > 0 && now.waits.get(&step.id) == Some(&retrieval_ms));
    let cost = |of: fn(&StepForecast) -> u64| -> BTreeMap<&StepId, u64> {
        let mut cost: BTreeMap<&StepId, u64> = steps.iter().map(|step| (&step.id, of(step))).collect();
        if let Some(step) = found {
            let took = cost.entry(&step.id).or_default();
            *took = retrieval_ms.max(*took);
        }
        cost
    };
    let (median_ms, critical_path) = played(plan, &cost(|step| step.median_ms));
    let (p95_ms, _) = played(plan, &cost(|step| step.p95_ms));
    let (retrieval_ms, retrieved_for) = match found {
        Some(step) => (retrieval_ms, Some(step.id.clone())),
        None => (0, None),
    };
    Forecast { median_ms, p95_ms, critical_path, unmeasured, runs: history.runs, steps, retrieval_ms, retrieved_for }
}

fn measured(id: &StepId, samples: &[Sample], size: Option<u64>) -> StepForecast {
    let scaled = |sample: &Sample| match (size, sample.bytes) {
        (Some(size), Some(bytes)) if bytes > 0 => {
            let ms = u128::from(sample.elapsed_ms) * u128::from(size) / u128::from(bytes);
            Some(u64::try_from(ms).unwrap_or(u64::MAX))
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    let by_bytes: Vec<u64> = samples.iter().filter_map(scaled).collect();
    let bytes = size.filter(|_| !by_bytes.is_empty());
    let mut times = if by_bytes.is_empty() { samples.iter().map(|s| s.elapsed_ms).collect() } else { by_bytes };
    times.sort_unstable();
    let share = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    StepForecast { id: id.clone(), median_ms: share(50), p95_ms: share(95), samples: times.len(), bytes }
}

/// A step that was played: when it ended, and which step's end let it start.
struct Played<'a> {
    end: u64,
    after: Option<&'a StepId>,
}

/// Plays the body through, in the plan's order where several steps could take a free place.
fn played(plan: &BoundPlan, cost: &BTreeMap<&StepId, u64>) -> (u64, Vec<StepId>) {
    let body: Vec<&PlannedStep> = plan.section(Section::Body).collect();
    let known: BTreeSet<&StepId> = body.iter().map(|step| &step.id).collect();
    let mut ended: BTreeMap<&StepId, Played<'_>> = BTreeMap::new();
    let mut running: BTreeMap<&StepId, Played<'_>> = BTreeMap::new();
    let (mut now, mut last): (u64, Option<&StepId>) = (0, None);
    loop {
        for step in &body {
            if running.len() >= plan.limits.max_parallel.max(1) {
                break;
            }
            let ready = |ended: &BTreeMap<&StepId, Played<'_>>| {
                step.needs.iter().all(|need| !known.contains(&need.from) || ended.contains_key(&need.from))
            };
            if ended.contains_key(&step.id) || running.contains_key(&step.id) || !ready(&ended) {
                continue;
            }
            let took = cost.get(&step.id).copied().unwrap_or(0);
            running.insert(&step.id, Played { end: now + took, after: last });
        }
        let Some((id, end)) = running.iter().map(|(id, played)| (*id, played.end)).min_by_key(|(_, end)| *end) else {
            break;
        };
        now = end;
        last = Some(id);
        ended.extend(running.remove(id).map(|played| (id, played)));
    }
    let mut path: Vec<StepId> = Vec::new();
    let mut here = last;
    while let Some(id) = here {
        path.push(id.clone());
        here = ended.get(id).and_then(|played| played.after);
    }
    path.reverse();
    (now, path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{History, Sample, ThisTime, forecast};
    use crate::base::StepId;
    use crate::plan::fixture::{id, plan, step};

    fn history(samples: &[(&str, &[u64])]) -> History {
        let of = |elapsed: &[u64]| elapsed.iter().map(|ms| Sample { elapsed_ms: *ms, bytes: None }).collect();
        let samples: BTreeMap<StepId, Vec<Sample>> = samples.iter().map(|(name, ms)| (id(name), of(ms))).collect();
        History { samples, runs: 3 }
    }

    fn none() -> ThisTime {
        ThisTime::default()
    }

    #[test]
    fn the_longest_chain_decides_not_the_sum() {
        let plan = plan(vec![
            step("find", "exec"),
            step("copy", "exec").needs(&["find"]),
            step("stop", "exec").needs(&["find"]),
            step("swap", "exec").needs(&["copy", "stop"]),
            step("tell", "exec").follows("swap").finally(),
        ]);
        let measured =
            history(&[("find", &[10]), ("copy", &[300, 100, 200]), ("stop", &[50]), ("swap", &[5]), ("tell", &[9000])]);
        let told = forecast(&plan, &measured, &none());
        assert_eq!((told.median_ms, told.p95_ms), (215, 315));
        assert_eq!(told.critical_path, ["find", "copy", "swap"].map(id));
        assert_eq!((told.unmeasured.len(), told.runs), (0, 3));
        assert_eq!((told.steps[1].median_ms, told.steps[1].p95_ms, told.steps[1].samples), (200, 300, 3));
    }

    #[test]
    fn steps_that_must_wait_for_a_place_take_longer() {
        let mut plan = plan(vec![step("a", "exec"), step("b", "exec"), step("c", "exec").needs(&["b"])]);
        for step in plan.steps.iter_mut().take(2) {
            step.needs.clear();
        }
        let measured = history(&[("a", &[100]), ("b", &[40]), ("c", &[5])]);
        plan.limits.max_parallel = 4;
        assert_eq!(forecast(&plan, &measured, &none()).median_ms, 100);
        plan.limits.max_parallel = 1;
        let told = forecast(&plan, &measured, &none());
        assert_eq!((told.median_ms, told.critical_path), (145, ["a", "b", "c"].map(id).to_vec()));
    }

    #[test]
    fn where_bytes_are_known_the_time_follows_them() {
        let plan = plan(vec![step("copy", "exec")]);
        let sample = |elapsed_ms, bytes| Sample { elapsed_ms, bytes: Some(bytes) };
        let samples = [(id("copy"), vec![sample(100, 1_000), sample(300, 3_000), sample(260, 2_000)])].into();
        let measured = History { samples, runs: 3 };
        let told = forecast(&plan, &measured, &ThisTime { sizes: [(id("copy"), 10_000)].into(), ..none() });
        assert_eq!((told.median_ms, told.p95_ms), (1_000, 1_300));
        assert_eq!(told.steps[0].bytes, Some(10_000));
        assert_eq!(forecast(&plan, &measured, &none()).median_ms, 260, "without a size the times stand as they are");
    }

    #[test]
    fn what_was_never_measured_is_named_and_counts_nothing() {
        let plan = plan(vec![step("a", "exec"), step("b", "exec").follows("a")]);
        let told = forecast(&plan, &history(&[("a", &[70])]), &none());
        assert_eq!((told.median_ms, told.unmeasured), (70, vec![id("b")]));
    }

    #[test]
    fn an_archived_backup_is_waited_for_once_and_before_what_reads_it() {
        let plan = plan(vec![step("find", "exec"), step("stage", "exec").follows("find"), step("stop", "exec")]);
        let waits: BTreeMap<StepId, u64> = [(id("find"), 18_000), (id("stage"), 18_000)].into();
        let now = ThisTime { waits, ..none() };
        let told = forecast(&plan, &history(&[("find", &[10]), ("stage", &[500])]), &now);
        assert_eq!((told.median_ms, told.p95_ms), (18_500, 18_500));
        assert_eq!((told.retrieval_ms, told.retrieved_for), (18_000, Some(id("find"))));
        let never_run = forecast(&plan, &History::default(), &now);
        assert_eq!((never_run.median_ms, never_run.runs), (18_000, 0), "it is known without any history");
    }

    #[test]
    fn without_history_nothing_is_promised() {
        let told = forecast(&plan(vec![step("a", "exec")]), &History::default(), &none());
        assert_eq!((told.median_ms, told.runs, told.unmeasured), (0, 0, vec![id("a")]));
    }
}
