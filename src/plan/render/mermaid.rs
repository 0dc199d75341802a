//! Mermaid, which forges and wikis draw.

use std::fmt::Write as _;

use super::{GraphNode, GraphView, NodeState};
use crate::base::effect::EffectClass;
use crate::plan::{Section, Strictness};

/// Writes the graph as a Mermaid flowchart, one subgraph per phase.
///
/// Nodes are numbered: Mermaid takes some ids (`end`) for its own words.
#[must_use]
pub fn mermaid(view: &GraphView) -> String {
    let sheet = Sheet { view, members: view.members() };
    let mut out = String::from("flowchart TB\n");
    let mut drawn = vec![false; view.nodes.len()];
    for (index, (id, title)) in view.phases.iter().enumerate() {
        let inside = |node: &GraphNode| node.section == Section::Body && node.phase.as_deref() == Some(id);
        sheet.subgraph(&mut out, (&format!("phase{index}"), title), &mut drawn, inside);
    }
    sheet.subgraph(&mut out, ("finally_", "finally"), &mut drawn, |node| node.section == Section::Finally);
    for (index, node) in view.nodes.iter().enumerate() {
        if !drawn[index] && node.group.is_none() {
            sheet.place(&mut out, index, "  ");
        }
    }
    for edge in &view.edges {
        let arrow = match edge.strictness {
            Strictness::Success | Strictness::Settled => "-->",
            Strictness::Any => "-.->",
        };
        let _ = writeln!(out, "  n{} {arrow} n{}", edge.from, edge.to);
    }
    classes(&mut out, view);
    out
}

struct Sheet<'a> {
    view: &'a GraphView,
    members: Vec<Vec<usize>>,
}

impl Sheet<'_> {
    fn subgraph(
        &self,
        out: &mut String,
        (name, title): (&str, &str),
        drawn: &mut [bool],
        inside: impl Fn(&GraphNode) -> bool,
    ) {
        let belongs = |node: &GraphNode| node.group.is_none() && inside(node);
        let nodes = &self.view.nodes;
        let members: Vec<usize> = (0..nodes.len()).filter(|index| belongs(&nodes[*index])).collect();
        if members.is_empty() {
            return;
        }
        let _ = writeln!(out, "  subgraph {name}[\"{}\"]", escape(title));
        for index in members {
            drawn[index] = true;
            self.place(out, index, "    ");
        }
        out.push_str("  end\n");
    }

    /// Places a step, one that stands for a sub-runbook with the steps of that runbook.
    fn place(&self, out: &mut String, index: usize, indent: &str) {
        let node = &self.view.nodes[index];
        if self.members[index].is_empty() {
            let _ = writeln!(out, "{indent}{}", statement(index, node));
            return;
        }
        let _ = writeln!(out, "{indent}subgraph of{index}[\"{}\"]", escape(&node.label));
        let _ = writeln!(out, "{indent}  {}", statement(index, node));
        for member in &self.members[index] {
            self.place(out, *member, &format!("{indent}  "));
        }
        let _ = writeln!(out, "{indent}end");
    }
}

fn statement(index: usize, node: &GraphNode) -> String {
    format!("n{index}[\"{}<br/><small>{}</small>\"]", escape(&node.label), escape(&node.action))
}

fn classes(out: &mut String, view: &GraphView) {
    const STYLES: [(&str, &str); 8] = [
        ("destroy", "stroke:#c0392b,stroke-width:3px"),
        ("write", "stroke:#d68910"),
        ("running", "fill:#d6eaf8,color:#000"),
        ("succeeded", "fill:#d5f5e3,color:#000"),
        ("failed", "fill:#fadbd8,color:#000"),
        ("skipped", "fill:#eeeeee,color:#555"),
        ("cancelled", "fill:#dddddd,color:#555"),
        ("unknown", "fill:#fcf3cf,color:#000"),
    ];
    for (name, style) in STYLES {
        let is = |node: &GraphNode| match node.effect {
            EffectClass::Destroy if name == "destroy" => true,
            EffectClass::Write if name == "write" => true,
            EffectClass::None | EffectClass::Read | EffectClass::Write | EffectClass::Destroy => {
                node.state.map(NodeState::as_str) == Some(name)
            }
        };
        let members: Vec<String> =
            (0..view.nodes.len()).filter(|index| is(&view.nodes[*index])).map(|index| format!("n{index}")).collect();
        if !members.is_empty() {
            let _ = writeln!(out, "  classDef {name} {style}\n  class {} {name}", members.join(","));
        }
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("#quot;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '&' => escaped.push_str("#amp;"),
            '#' => escaped.push_str("#35;"),
            '`' => escaped.push('\''),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
