//! Graphviz.

use std::fmt::Write as _;

use super::{GraphView, NodeState};
use crate::base::effect::EffectClass;
use crate::plan::{Section, Strictness};

/// Writes the graph in Graphviz's language, one cluster per phase.
#[must_use]
pub fn dot(view: &GraphView) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quote(&view.title));
    out.push_str(
        "  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];\n",
    );
    for (index, (id, title)) in view.phases.iter().enumerate() {
        cluster(&mut out, view, &format!("phase_{index}"), title, |node| {
            node.section == Section::Body && node.phase.as_deref() == Some(id)
        });
    }
    let listed = |phase: &Option<String>| phase.as_ref().is_some_and(|p| view.phases.iter().any(|(id, _)| id == p));
    for node in view.nodes.iter().filter(|node| node.section == Section::Body && !listed(&node.phase)) {
        let _ = writeln!(out, "  {};", statement(node));
    }
    cluster(&mut out, view, "finally", "finally", |node| node.section == Section::Finally);
    for edge in &view.edges {
        let (from, to) = (quote(&view.nodes[edge.from].id), quote(&view.nodes[edge.to].id));
        let style = match edge.strictness {
            Strictness::Success => "",
            Strictness::Settled => " [color=gray50]",
            Strictness::Any => " [style=dashed]",
        };
        let _ = writeln!(out, "  {from} -> {to}{style};");
    }
    out.push_str("}\n");
    out
}

fn cluster(out: &mut String, view: &GraphView, name: &str, title: &str, belongs: impl Fn(&super::GraphNode) -> bool) {
    let mut inside = view.nodes.iter().filter(|node| belongs(node)).peekable();
    if inside.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "  subgraph cluster_{name} {{\n    label={};\n    color=gray80;", quote(title));
    for node in inside {
        let _ = writeln!(out, "    {};", statement(node));
    }
    out.push_str("  }\n");
}

fn statement(node: &super::GraphNode) -> String {
    let mut attributes = vec![format!("label={}", quote(&format!("{}\n{}", node.label, node.action)))];
    match node.effect {
        EffectClass::Destroy => attributes.push("color=red, penwidth=2".to_owned()),
        EffectClass::Write => attributes.push("color=orange".to_owned()),
        EffectClass::Read | EffectClass::None => {}
    }
    if let Some(state) = node.state {
        attributes.push(format!("fillcolor={}", fill(state)));
    }
    format!("{} [{}]", quote(&node.id), attributes.join(", "))
}

fn fill(state: NodeState) -> &'static str {
    match state {
        NodeState::Pending => "white",
        NodeState::Running => "lightblue",
        NodeState::Asking => "lightyellow",
        NodeState::Succeeded => "palegreen",
        NodeState::Failed => "lightpink",
        NodeState::Skipped => "gray90",
        NodeState::Cancelled => "gray80",
        NodeState::Unknown => "khaki",
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
