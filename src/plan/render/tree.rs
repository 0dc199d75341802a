//! The plan as text: one line per step, with the branches that run side by side as lanes before it.

use std::fmt::Write as _;

use super::{GraphEdge, GraphNode, GraphView};
use crate::base::effect::EffectClass;
use crate::plan::{Section, Strictness};

/// More lanes than this are not drawn: the words `after …` say the same.
const MAX_LANES: usize = 12;

/// Writes the graph as text for a terminal, without colour.
#[must_use]
pub fn tree(view: &GraphView) -> String {
    let needs = view.needs_of();
    let lanes = Lanes::layout(&needs, view.nodes.len());
    let widest = |of: &dyn Fn(&GraphNode) -> usize| view.nodes.iter().map(of).max().unwrap_or(0);
    let id_width = |node: &GraphNode| node.id.chars().count() + 2 * view.depth(node);
    let columns = (widest(&id_width), widest(&|node| node.action.chars().count()));
    let mut out = format!("{}{}\n", view.title, prefixed(" · ", &view.subtitle));
    let mut heading = None;
    for (index, node) in view.nodes.iter().enumerate() {
        let row = &lanes.rows[index];
        let group = (node.section, node.phase.as_deref());
        if heading != Some(group) {
            let _ = writeln!(out, "\n{}{}", lanes.gutter(&row.before), title(view, node));
            heading = Some(group);
        }
        if let Some(joint) = row.joint.as_deref().filter(|_| lanes.drawn()) {
            let _ = writeln!(out, "  {}", joint.trim_end());
        }
        let above = index.checked_sub(1).filter(|above| view.nodes[*above].section == node.section);
        let indent = "  ".repeat(view.depth(node));
        let line = line(node, (&indent, columns.0, columns.1), &after(view, &needs[index], above));
        let _ = writeln!(out, "{}{}", lanes.gutter(&row.line), line.trim_end());
    }
    out
}

fn title(view: &GraphView, node: &GraphNode) -> String {
    match (node.section, &node.phase) {
        (Section::Undo, _) => "undo".to_owned(),
        (Section::Finally, _) => "finally".to_owned(),
        (Section::Body, Some(phase)) => view.phase_title(phase).to_owned(),
        (Section::Body, None) => "steps".to_owned(),
    }
}

fn line(node: &GraphNode, (indent, ids, actions): (&str, usize, usize), after: &str) -> String {
    let state = node.state.map(|state| format!("{} ", state.glyph())).unwrap_or_default();
    let effect = match node.effect {
        EffectClass::None => "none",
        EffectClass::Read => "read",
        EffectClass::Write => "write",
        EffectClass::Destroy => "DESTROY",
    };
    let modes: Vec<&str> = node.modes.iter().map(|mode| mode.as_str()).collect();
    let modes = if modes.is_empty() { String::new() } else { format!("  only {}", modes.join(", ")) };
    format!(
        "{state}{:ids$}  {:actions$}  {effect:7}{}{modes}{}",
        format!("{indent}{}", node.id),
        node.action,
        prefixed("  ", &node.targets.join(", ")),
        prefixed("  ", after),
    )
}

/// Says what a step waits for where that is not simply the line above.
fn after(view: &GraphView, needs: &[GraphEdge], above: Option<usize>) -> String {
    let name = |edge: &GraphEdge| match edge.strictness {
        Strictness::Any => format!("{}?", view.nodes[edge.from].id),
        Strictness::Settled | Strictness::Success => view.nodes[edge.from].id.clone(),
    };
    match needs {
        [] if above.is_some() => "at once".to_owned(),
        [only] if Some(only.from) == above && only.strictness != Strictness::Any => String::new(),
        [] => String::new(),
        many => format!("after {}", many.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

/// What stands in the gutter around one step.
struct Row {
    before: String,
    joint: Option<String>,
    line: String,
}

struct Lanes {
    rows: Vec<Row>,
    width: usize,
}

impl Lanes {
    fn layout(needs: &[Vec<GraphEdge>], nodes: usize) -> Self {
        let mut waiting = vec![0_usize; nodes];
        for edge in needs.iter().flatten() {
            waiting[edge.from] += 1;
        }
        let mut lane_of = vec![0_usize; nodes];
        let mut open: Vec<Option<usize>> = Vec::new();
        let mut rows = Vec::with_capacity(nodes);
        for node in 0..nodes {
            let before = open.clone();
            for edge in &needs[node] {
                waiting[edge.from] -= 1;
            }
            let closing: Vec<usize> =
                needs[node].iter().filter(|edge| waiting[edge.from] == 0).map(|edge| lane_of[edge.from]).collect();
            for lane in &closing {
                open[*lane] = None;
            }
            let lane = closing.iter().copied().min().unwrap_or_else(|| free_lane(&open));
            if open.len() <= lane {
                open.resize(lane + 1, None);
            }
            open[lane] = Some(node);
            lane_of[node] = lane;
            let sources: Vec<usize> = needs[node].iter().map(|edge| lane_of[edge.from]).collect();
            let after = open.clone();
            rows.push(Row {
                before: verticals(&before, None),
                joint: joint(&before, &after, lane, &sources),
                line: verticals(&after, Some(lane)),
            });
            if waiting[node] == 0 {
                open[lane] = None;
            }
        }
        let width = rows.iter().map(|row| row.line.chars().count()).max().unwrap_or(0);
        Self { rows, width }
    }

    fn drawn(&self) -> bool {
        self.width <= MAX_LANES * 2
    }

    fn gutter(&self, text: &str) -> String {
        if self.drawn() { format!("  {text:width$} ", width = self.width) } else { "  ".to_owned() }
    }
}

fn free_lane(open: &[Option<usize>]) -> usize {
    open.iter().position(Option::is_none).unwrap_or(open.len())
}

fn verticals(lanes: &[Option<usize>], at: Option<usize>) -> String {
    let cell = |(index, lane): (usize, &Option<usize>)| match lane {
        _ if Some(index) == at => "● ",
        Some(_) => "│ ",
        None => "  ",
    };
    lanes.iter().enumerate().map(cell).collect::<String>().trim_end().to_owned()
}

/// Draws the row that leads other lanes into the step's own; `None` where none does.
fn joint(before: &[Option<usize>], after: &[Option<usize>], lane: usize, sources: &[usize]) -> Option<String> {
    let first = sources.iter().copied().chain([lane]).min()?;
    let last = sources.iter().copied().chain([lane]).max()?;
    if sources.is_empty() || first == last {
        return None;
    }
    let was = |index: usize| before.get(index).is_some_and(Option::is_some);
    let stays = |index: usize| after.get(index).is_some_and(Option::is_some);
    let mut row = String::new();
    for index in 0..before.len().max(after.len()) {
        let joins = index == lane || sources.contains(&index);
        let (left, right) = (index > first && index <= last, index >= first && index < last);
        row.push(match (joins, was(index), stays(index)) {
            (true, true, true) if left && right => '┼',
            (true, true, true) if left => '┤',
            (true, true, true) => '├',
            (true, true, false) if left && right => '┴',
            (true, true, false) if left => '╯',
            (true, true, false) => '╰',
            (true, false, _) if left && right => '┬',
            (true, false, _) if left => '╮',
            (true, false, _) => '╭',
            (false, true, _) => '│',
            (false, false, _) if left => '─',
            (false, false, _) => ' ',
        });
        row.push(if right { '─' } else { ' ' });
    }
    Some(row)
}
