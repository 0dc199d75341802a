//! How long a run will take, from how long its steps took before.

use std::collections::BTreeMap;

use super::model::BoundPlan;
use crate::base::StepId;

/// A forecast of a run. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Forecast {
    /// The longest chain of median durations.
    pub median_ms: u64,
    /// The longest chain of 95th percentiles.
    pub p95_ms: u64,
    /// The chain that decides the median.
    pub critical_path: Vec<StepId>,
    /// Steps that were never measured: the forecast leaves them out.
    pub unmeasured: Vec<StepId>,
    /// How many past runs it rests on.
    pub runs: usize,
}

/// Forecasts from past durations of each step, in milliseconds; the order of samples does not matter.
#[must_use]
pub fn forecast(plan: &BoundPlan, history: &BTreeMap<StepId, Vec<u64>>, runs: usize) -> Forecast {
    let share = |step: &StepId, percent: usize| {
        let mut samples = history.get(step).cloned().unwrap_or_default();
        samples.sort_unstable();
        let rank = (samples.len() * percent).div_ceil(100).max(1) - 1;
        samples.get(rank).copied().unwrap_or(0)
    };
    let (median_ms, critical_path) = longest(plan, &|step| share(step, 50));
    let (p95_ms, _) = longest(plan, &|step| share(step, 95));
    let measured = |id: &StepId| history.get(id).is_some_and(|samples| !samples.is_empty());
    let unmeasured = plan.steps.iter().map(|step| step.id.clone()).filter(|id| !measured(id)).collect();
    Forecast { median_ms, p95_ms, critical_path, unmeasured, runs }
}

/// Finds the longest chain of the body; steps stand in the plan after every step they need.
fn longest(plan: &BoundPlan, cost: &dyn Fn(&StepId) -> u64) -> (u64, Vec<StepId>) {
    let mut ends: BTreeMap<&StepId, (u64, Option<&StepId>)> = BTreeMap::new();
    for step in plan.section(super::model::Section::Body) {
        let before = step.needs.iter().filter_map(|edge| Some((ends.get(&edge.from)?.0, &edge.from))).max();
        let (start, from) = before.map_or((0, None), |(end, from)| (end, Some(from)));
        ends.insert(&step.id, (start + cost(&step.id), from));
    }
    let Some((mut here, total)) = ends.iter().max_by_key(|(_, (end, _))| *end).map(|(id, (end, _))| (*id, *end)) else {
        return (0, Vec::new());
    };
    let mut path = vec![here.clone()];
    while let Some((_, Some(from))) = ends.get(here) {
        path.push((*from).clone());
        here = from;
    }
    path.reverse();
    (total, path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::forecast;
    use crate::base::StepId;
    use crate::plan::fixture::{id, plan, step};

    fn history(samples: &[(&str, &[u64])]) -> BTreeMap<StepId, Vec<u64>> {
        samples.iter().map(|(name, samples)| (id(name), samples.to_vec())).collect()
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
        let told = forecast(&plan, &measured, 3);
        assert_eq!((told.median_ms, told.p95_ms), (215, 315));
        assert_eq!(told.critical_path, ["find", "copy", "swap"].map(id));
        assert_eq!(told.unmeasured, []);
    }

    #[test]
    fn what_was_never_measured_is_named_and_counts_nothing() {
        let plan = plan(vec![step("a", "exec"), step("b", "exec").follows("a")]);
        let told = forecast(&plan, &history(&[("a", &[70])]), 1);
        assert_eq!((told.median_ms, told.unmeasured), (70, vec![id("b")]));
    }

    #[test]
    fn without_history_nothing_is_promised() {
        let told = forecast(&plan(vec![step("a", "exec")]), &BTreeMap::new(), 0);
        assert_eq!((told.median_ms, told.runs, told.unmeasured), (0, 0, vec![id("a")]));
    }
}
