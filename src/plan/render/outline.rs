//! The picture of a plan before anything is bound: what the files say, sub-runbooks included.

use super::view::{GraphEdge, GraphNode, GraphView, phase_title};
use crate::action::{EffectClass, Mode, Registry};
use crate::language::runbook::{SUB_RUNBOOK, Step};
use crate::plan::{Plan, Section, StepGraph, Strictness, times};

impl GraphView {
    /// Makes the view of a plan that is not bound, without targets and states.
    #[must_use]
    pub fn of_outline(plan: &Plan, registry: &Registry, mode: Mode) -> Self {
        let runbook = &plan.runbook;
        let mut outline = Outline { view: Self::default(), registry, mode };
        outline.view.title.clone_from(&runbook.name);
        outline.view.subtitle.clone_from(&runbook.description);
        outline.view.phases = runbook.phases.iter().map(|phase| (phase.id.clone(), phase_title(phase))).collect();
        outline.add(plan, None);
        outline.view.with_groups()
    }
}

struct Outline<'a> {
    view: GraphView,
    registry: &'a Registry,
    mode: Mode,
}

impl Outline<'_> {
    /// Adds the steps of a file, those of a sub-runbook behind the step that stands for it.
    fn add(&mut self, plan: &Plan, group: Option<usize>) {
        let graph = StepGraph::new(&plan.runbook);
        let edges = plan.edges_in(&graph, self.mode);
        let takes_part = |index: &usize| graph.takes_part(*index, self.mode);
        let mut present: Vec<usize> = graph.order().into_iter().filter(takes_part).collect();
        present.sort_by_key(|index| graph.step(*index).0 == Section::Finally);
        let mut places = vec![None; graph.len()];
        for index in present {
            let (section, step) = graph.step(index);
            let to = self.view.nodes.len();
            places[index] = Some(to);
            let node = self.node(step, section, group);
            self.view.nodes.push(node);
            let needs = edges[index]
                .iter()
                .filter_map(|(from, strictness)| Some(GraphEdge { from: places[*from]?, to, strictness: *strictness }));
            self.view.edges.extend(needs);
            if group.is_some() && section == Section::Finally {
                self.wait_for_body(&graph, &places, to);
            }
            if let Some(sub) = plan.subs.get(&step.id.value) {
                self.add(&sub.plan, Some(to));
                self.widen(to);
            }
        }
    }

    /// The `finally` of a sub-runbook waits for any end of its body.
    fn wait_for_body(&mut self, graph: &StepGraph<'_>, places: &[Option<usize>], to: usize) {
        let body = places.iter().enumerate().filter(|(index, _)| graph.step(*index).0 == Section::Body);
        let ends = body.filter_map(|(_, place)| *place);
        let edges = ends.map(|from| GraphEdge { from, to, strictness: Strictness::Any });
        self.view.edges.extend(edges.collect::<Vec<_>>());
    }

    fn node(&self, step: &Step, section: Section, group: Option<usize>) -> GraphNode {
        let group_node = group.map(|group| &self.view.nodes[group]);
        let known = match step.uses.value.as_str() {
            "exec" | "shell" => EffectClass::Write,
            SUB_RUNBOOK => EffectClass::None,
            uses => self.registry.get(uses).map_or(EffectClass::None, |action| action.spec().effect),
        };
        let id = step.id.value.as_str();
        let own = step.phase.as_ref().map(|phase| phase.value.clone());
        let own = own.filter(|phase| self.view.phases.iter().any(|(known, _)| known == phase));
        GraphNode {
            id: group_node.map_or_else(|| id.to_owned(), |group| format!("{}/{id}", group.id)),
            label: if step.name.is_empty() { id.to_owned() } else { step.name.clone() },
            action: match &step.for_each {
                Some(items) => format!("{} {}", step.uses.value, times(&items.value)),
                None => step.uses.value.clone(),
            },
            phase: group_node.and_then(|group| group.phase.clone()).or(own),
            section: group_node.map_or(section, |group| group.section),
            effect: step.effect.as_ref().map_or(known, |effect| effect.value),
            targets: Vec::new(),
            modes: step.modes.clone().unwrap_or_default(),
            group,
            state: None,
        }
    }

    /// A sub-runbook reaches as far as its steps do.
    fn widen(&mut self, group: usize) {
        let inside = self.view.nodes[group + 1..].iter().map(|node| node.effect);
        self.view.nodes[group].effect = inside.max().unwrap_or(EffectClass::None);
    }
}
