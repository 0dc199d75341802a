//! What the pictures draw.

use std::collections::BTreeMap;

use crate::action::{Access, Target};
use crate::base::StepId;
use crate::base::effect::EffectClass;
use crate::base::mode::Mode;
use crate::plan::{BoundPlan, Section, Strictness, times};

/// A graph to be drawn: nodes in the order of the plan, each after what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GraphView {
    /// The runbook's name.
    pub title: String,
    /// One line under the title, may be empty.
    pub subtitle: String,
    /// Each phase's id with what people call it, budget included.
    pub phases: Vec<(String, String)>,
    /// The steps.
    pub nodes: Vec<GraphNode>,
    /// Who waits for whom, as indices of `nodes`.
    pub edges: Vec<GraphEdge>,
}

/// A step to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    /// The step's id.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// The action.
    pub action: String,
    /// Its phase's id.
    pub phase: Option<String>,
    /// Body or finally.
    pub section: Section,
    /// How far it reaches.
    pub effect: EffectClass,
    /// What it writes to, then what it only reads, in words.
    pub targets: Vec<String>,
    /// The modes it takes part in; empty = all.
    pub modes: Vec<Mode>,
    /// The node that stands for the sub-runbook it belongs to.
    pub group: Option<usize>,
    /// Where it stands, in a report.
    pub state: Option<NodeState>,
}

/// An edge to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GraphEdge {
    /// The step before.
    pub from: usize,
    /// The step that waits.
    pub to: usize,
    /// What it asks of the step before.
    pub strictness: Strictness,
}

/// Where a drawn step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// Nothing happened yet.
    Pending,
    /// It runs or waits for its next attempt.
    Running,
    /// It waits for a person.
    Asking,
    /// It did what it is for.
    Succeeded,
    /// It failed.
    Failed,
    /// It did not run.
    Skipped,
    /// It was ended by a cancel.
    Cancelled,
    /// It is not known whether its effect happened.
    Unknown,
}

impl NodeState {
    /// The state's name, which is also its CSS class.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Asking => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// One character that stands for it.
    #[must_use]
    pub fn glyph(self) -> &'static str {
        match self {
            Self::Pending => "○",
            Self::Running => "●",
            Self::Asking => "◆",
            Self::Succeeded => "✓",
            Self::Failed => "✗",
            Self::Skipped => "–",
            Self::Cancelled => "⊘",
            Self::Unknown => "?",
        }
    }
}

impl GraphView {
    /// Makes the view of a bound plan, without states. What would reverse a step is left out: it follows nothing.
    #[must_use]
    pub fn of_plan(plan: &BoundPlan) -> Self {
        let steps = || plan.steps.iter().filter(|step| step.section != Section::Undo);
        let index: BTreeMap<&StepId, usize> = steps().enumerate().map(|(i, step)| (&step.id, i)).collect();
        let mut edges = Vec::new();
        for (to, step) in steps().enumerate() {
            for edge in &step.needs {
                if let Some(from) = index.get(&edge.from) {
                    edges.push(GraphEdge { from: *from, to, strictness: edge.strictness });
                }
            }
        }
        let nodes = steps().map(|step| GraphNode {
            id: step.id.to_string(),
            label: step.name.clone(),
            action: match &step.for_each {
                Some(fan_out) => format!("{} {}", step.uses, times(&fan_out.items)),
                None => step.uses.clone(),
            },
            phase: step.phase.clone(),
            section: step.section,
            effect: step.effects.class,
            targets: describe_targets(&step.effects.targets),
            modes: Vec::new(),
            group: step.group.as_ref().and_then(|group| index.get(group).copied()).filter(|group| {
                // What reverses a step is drawn with all that does.
                plan.steps[*group].section == step.section
            }),
            state: None,
        });
        Self {
            title: plan.name.clone(),
            subtitle: format!("{} in `{}`", plan.mode.as_str().replace('_', " "), plan.environment),
            phases: plan.phases.iter().map(|phase| (phase.id.clone(), phase_title(phase))).collect(),
            nodes: nodes.collect(),
            edges,
        }
        .with_groups()
    }

    /// Adds where each step stands.
    #[must_use]
    pub fn with_states(mut self, state: impl Fn(&str) -> NodeState) -> Self {
        for node in &mut self.nodes {
            node.state = Some(state(&node.id));
        }
        self
    }

    /// Gives the ids of the steps that a node waits for.
    pub(super) fn needs_of(&self) -> Vec<Vec<GraphEdge>> {
        let mut needs = vec![Vec::new(); self.nodes.len()];
        for edge in self.edges.iter().filter(|edge| edge.from < edge.to && edge.to < self.nodes.len()) {
            needs[edge.to].push(*edge);
        }
        needs
    }

    /// Gives a phase's title by its id; the id itself when it is not listed.
    pub(super) fn phase_title<'a>(&'a self, id: &'a str) -> &'a str {
        self.phases.iter().find(|(phase, _)| phase == id).map_or(id, |(_, title)| title)
    }
}

pub(super) fn phase_title(phase: &crate::language::runbook::Phase) -> String {
    let name = if phase.name.is_empty() { &phase.id } else { &phase.name };
    match phase.budget {
        Some(budget) => format!("{name} (budget {})", budget),
        None => name.clone(),
    }
}

fn describe_targets(targets: &[(Access, Target)]) -> Vec<String> {
    let mut sorted: Vec<_> = targets.iter().collect();
    sorted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let verb = |access| match access {
        Access::Read => "reads",
        Access::Write => "writes",
        Access::Destroy => "replaces",
    };
    let mut words: Vec<String> = Vec::new();
    for (access, target) in sorted {
        let text = format!("{} {}", verb(*access), describe_target(target));
        if !words.contains(&text) {
            words.push(text);
        }
    }
    words
}

/// Names a target for people: ``database `orders` ``.
#[must_use]
pub fn describe_target(target: &Target) -> String {
    match target {
        Target::Database { name } => format!("database `{name}`"),
        Target::Path { host, path } if host == "local" => format!("path `{}`", path.display()),
        Target::Path { host, path } => format!("path `{host}:{}`", path.display()),
        Target::Port { host, port } => format!("port `{host}:{port}`"),
        Target::Service { name } => format!("service `{name}`"),
        Target::Store { name, prefix } if prefix.is_empty() => format!("store `{name}`"),
        Target::Store { name, prefix } => format!("store `{name}/{prefix}`"),
        Target::Url { prefix } => format!("`{prefix}`"),
    }
}
