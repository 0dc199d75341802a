//! The graph of a runbook's steps: edges of each mode, circles, ancestors.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::graph::{DiGraph, NodeIndex};

use super::model::{Section, Strictness};
use crate::base::mode::Mode;
use crate::language::runbook::{Runbook, Step};

/// A step's number: its place in `steps` followed by `finally`.
pub type StepIndex = usize;

/// The steps of both sections in one row, with the edges that the file writes.
pub struct StepGraph<'a> {
    steps: Vec<(Section, &'a Step)>,
    by_id: BTreeMap<&'a str, StepIndex>,
    written: Vec<Vec<(StepIndex, Strictness)>>,
}

impl<'a> StepGraph<'a> {
    /// Reads the edges that the file writes, explicit or by order. Unknown names give no edge.
    #[must_use]
    pub fn new(runbook: &'a Runbook) -> Self {
        let body = runbook.steps.iter().map(|step| (Section::Body, step));
        let finally = runbook.finally.iter().map(|step| (Section::Finally, step));
        let steps: Vec<_> = body.chain(finally).collect();
        let mut by_id = BTreeMap::new();
        for (index, (_, step)) in steps.iter().enumerate() {
            by_id.entry(step.id.value.as_str()).or_insert(index);
        }
        let mut graph = Self { steps, by_id, written: Vec::new() };
        graph.written = (0..graph.steps.len()).map(|index| graph.written_edges(index)).collect();
        graph
    }

    fn written_edges(&self, index: StepIndex) -> Vec<(StepIndex, Strictness)> {
        let (section, step) = self.steps[index];
        let Some(needs) = &step.needs else {
            return match index.checked_sub(1) {
                Some(above) if self.steps[above].0 == section => vec![(above, implicit(section))],
                _ => Vec::new(),
            };
        };
        let strictness = |any_end| if any_end { Strictness::Any } else { Strictness::Success };
        needs
            .iter()
            .filter_map(|need| Some((*self.by_id.get(need.value.step.as_str())?, strictness(need.value.any_end))))
            .filter(|(from, _)| *from != index)
            .collect()
    }

    /// Counts the steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Tells whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Gives a step and its section.
    #[must_use]
    pub fn step(&self, index: StepIndex) -> (Section, &'a Step) {
        self.steps[index]
    }

    /// Finds a step by its id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<StepIndex> {
        self.by_id.get(id).copied()
    }

    /// Gives the written edges of a step.
    #[must_use]
    pub fn edges(&self, index: StepIndex) -> &[(StepIndex, Strictness)] {
        &self.written[index]
    }

    /// Tells whether a step takes part in a mode; a dry run plans the steps of mode real.
    #[must_use]
    pub fn takes_part(&self, index: StepIndex, mode: Mode) -> bool {
        let mode = if mode == Mode::DryRun { Mode::Real } else { mode };
        self.steps[index].1.modes.as_ref().is_none_or(|modes| modes.contains(&mode))
    }

    /// Finds circles: each is a list of steps of which every one needs the next, the last one the first.
    #[must_use]
    pub fn circles(&self) -> Vec<Vec<StepIndex>> {
        let mut graph = DiGraph::<StepIndex, ()>::new();
        let nodes: Vec<NodeIndex> = (0..self.len()).map(|index| graph.add_node(index)).collect();
        for index in 0..self.len() {
            for (from, _) in &self.written[index] {
                graph.add_edge(nodes[index], nodes[*from], ());
            }
        }
        petgraph::algo::tarjan_scc(&graph)
            .into_iter()
            .filter(|members| members.len() > 1)
            .map(|members| self.walk_circle(members.iter().map(|node| graph[*node]).collect()))
            .collect()
    }

    /// Walks inside a strongly connected set until a step comes up again.
    fn walk_circle(&self, members: BTreeSet<StepIndex>) -> Vec<StepIndex> {
        let mut path: Vec<StepIndex> = Vec::new();
        let mut here = members.first().copied().unwrap_or_default();
        loop {
            if let Some(start) = path.iter().position(|seen| *seen == here) {
                return path.split_off(start);
            }
            path.push(here);
            let next = self.written[here].iter().map(|(from, _)| *from).find(|from| members.contains(from));
            match next {
                Some(next) => here = next,
                None => return path,
            }
        }
    }

    /// Gives every step that is certain to have ended before one, over the written edges.
    /// Meaningless while there are circles.
    fn ancestors(&self, of: StepIndex) -> BTreeSet<StepIndex> {
        let mut found = BTreeSet::new();
        let mut open = vec![of];
        while let Some(here) = open.pop() {
            open.extend(self.written[here].iter().map(|(from, _)| *from).filter(|from| found.insert(*from)));
        }
        found
    }

    /// Tells whether a step is certain to have ended before another one. The usual case, a need that is written,
    /// is found without a walk.
    #[must_use]
    pub fn is_ancestor(&self, step: StepIndex, of: StepIndex) -> bool {
        self.written[of].iter().any(|(from, _)| *from == step) || self.ancestors(of).contains(&step)
    }

    /// Orders the steps so that each stands after the ones it needs, otherwise as written.
    #[must_use]
    pub fn order(&self) -> Vec<StepIndex> {
        let mut waiting: Vec<usize> = self.written.iter().map(Vec::len).collect();
        let mut dependents: Vec<Vec<StepIndex>> = vec![Vec::new(); self.len()];
        for (index, edges) in self.written.iter().enumerate() {
            for (from, _) in edges {
                dependents[*from].push(index);
            }
        }
        let mut ready: BTreeSet<StepIndex> = (0..self.len()).filter(|index| waiting[*index] == 0).collect();
        let mut order = Vec::with_capacity(self.len());
        while let Some(index) = ready.pop_first() {
            order.push(index);
            for dependent in &dependents[index] {
                waiting[*dependent] -= 1;
                if waiting[*dependent] == 0 {
                    ready.insert(*dependent);
                }
            }
        }
        order
    }

    /// Gives the edges of every step in one mode: dependents of an absent step inherit its needs,
    /// strict if either edge was. Absent steps have none.
    #[must_use]
    pub fn edges_in(&self, mode: Mode) -> Vec<BTreeMap<StepIndex, Strictness>> {
        let mut inherited: Vec<BTreeMap<StepIndex, Strictness>> = vec![BTreeMap::new(); self.len()];
        for index in self.order() {
            let mut edges = BTreeMap::new();
            for (from, strictness) in &self.written[index] {
                if self.takes_part(*from, mode) {
                    join(&mut edges, *from, *strictness);
                    continue;
                }
                for (beyond, theirs) in inherited[*from].clone() {
                    join(&mut edges, beyond, theirs.max(*strictness));
                }
            }
            inherited[index] = edges;
        }
        for (index, edges) in inherited.iter_mut().enumerate() {
            if !self.takes_part(index, mode) {
                edges.clear();
            }
        }
        inherited
    }
}

/// The edge to the step above, where `needs` is not written.
fn implicit(section: Section) -> Strictness {
    match section {
        Section::Body => Strictness::Settled,
        Section::Undo | Section::Finally => Strictness::Any,
    }
}

/// Adds an edge; of two between the same steps the stricter one counts.
pub fn join(edges: &mut BTreeMap<StepIndex, Strictness>, from: StepIndex, strictness: Strictness) {
    let edge = edges.entry(from).or_insert(strictness);
    *edge = strictness.max(*edge);
}
