//! Sub-runbooks in a picture: their steps stand inside, and edges lead into and out of them.

use std::collections::BTreeSet;

use super::{GraphEdge, GraphNode, GraphView};
use crate::plan::Strictness;

impl GraphView {
    /// Lets the steps of a sub-runbook follow the node that stands for it, and what waits for that node follow them.
    #[must_use]
    pub(crate) fn with_groups(mut self) -> Self {
        let members = self.members();
        if members.iter().all(Vec::is_empty) {
            return self;
        }
        self.drop_detours();
        let inside = |edge: &&GraphEdge| self.nodes[edge.from].group == self.nodes[edge.to].group;
        let mut has_need = vec![false; self.nodes.len()];
        let mut has_dependent = vec![false; self.nodes.len()];
        for edge in self.edges.iter().filter(inside) {
            has_need[edge.to] = true;
            has_dependent[edge.from] = true;
        }
        let mut edges = Vec::with_capacity(self.edges.len());
        for (to, node) in self.nodes.iter().enumerate().filter(|(to, _)| !has_need[*to]) {
            edges.extend(node.group.map(|from| GraphEdge { from, to, strictness: Strictness::Success }));
        }
        for edge in &self.edges {
            let mut ends = Vec::new();
            last_of(edge.from, &members, &has_dependent, &mut ends);
            edges.extend(ends.into_iter().map(|from| GraphEdge { from, ..*edge }));
        }
        self.edges = edges;
        self
    }

    /// The `finally` of a sub-runbook waits for every step of its body; drawn is only what another edge does not say.
    fn drop_detours(&mut self) {
        let known: BTreeSet<(usize, usize)> = self.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        let nodes = &self.nodes;
        let is_said = |edge: &GraphEdge| {
            let between = known.range((edge.from, 0)..=(edge.from, usize::MAX)).map(|(_, to)| *to);
            between.filter(|next| *next != edge.to).any(|next| known.contains(&(next, edge.to)))
        };
        self.edges
            .retain(|edge| edge.strictness != Strictness::Any || nodes[edge.to].group.is_none() || !is_said(edge));
    }

    /// Gives the nodes of each sub-runbook, by the node that stands for it.
    pub(super) fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.nodes.len()];
        for (index, group) in self.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.group?))) {
            members[group].push(index);
        }
        members
    }

    /// Tells how many sub-runbooks a node lies in.
    pub(super) fn depth(&self, node: &GraphNode) -> usize {
        std::iter::successors(node.group, |group| self.nodes[*group].group).count()
    }
}

/// Collects what is done last in a sub-runbook; any other step is that itself.
fn last_of(node: usize, members: &[Vec<usize>], has_dependent: &[bool], ends: &mut Vec<usize>) {
    if members[node].is_empty() {
        return ends.push(node);
    }
    for member in members[node].iter().filter(|member| !has_dependent[**member]) {
        last_of(*member, members, has_dependent, ends);
    }
}
