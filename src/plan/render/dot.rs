//! Graphviz.

use std::fmt::Write as _;

use super::{GraphNode, GraphView, NodeState};
use crate::base::effect::EffectClass;
use crate::plan::{Section, Strictness};

/// Writes the graph in Graphviz's language, one cluster per phase.
#[must_use]
pub fn dot(view: &GraphView) -> String {
    let sheet = Sheet { view, members: view.members() };
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quote(&view.title));
    out.push_str(
        "  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];\n",
    );
    for (index, (id, title)) in view.phases.iter().enumerate() {
        sheet.cluster(&mut out, (&format!("phase_{index}"), title), |node| {
            node.section == Section::Body && node.phase.as_deref() == Some(id)
        });
    }
    let listed = |phase: &Option<String>| phase.as_ref().is_some_and(|p| view.phases.iter().any(|(id, _)| id == p));
    let free = |node: &&GraphNode| node.section == Section::Body && !listed(&node.phase);
    for (index, _) in sheet.outermost().filter(|(_, node)| free(node)) {
        sheet.place(&mut out, index, "  ");
    }
    sheet.cluster(&mut out, ("finally", "finally"), |node| node.section == Section::Finally);
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

struct Sheet<'a> {
    view: &'a GraphView,
    members: Vec<Vec<usize>>,
}

impl Sheet<'_> {
    /// The steps that lie in no sub-runbook.
    fn outermost(&self) -> impl Iterator<Item = (usize, &GraphNode)> {
        self.view.nodes.iter().enumerate().filter(|(_, node)| node.group.is_none())
    }

    fn cluster(&self, out: &mut String, (name, title): (&str, &str), belongs: impl Fn(&GraphNode) -> bool) {
        let mut inside = self.outermost().filter(|(_, node)| belongs(node)).peekable();
        if inside.peek().is_none() {
            return;
        }
        let _ = writeln!(out, "  subgraph cluster_{name} {{\n    label={};\n    color=gray80;", quote(title));
        for (index, _) in inside {
            self.place(out, index, "    ");
        }
        out.push_str("  }\n");
    }

    /// Places a step, one that stands for a sub-runbook in a cluster with the steps of that runbook.
    fn place(&self, out: &mut String, index: usize, indent: &str) {
        let node = &self.view.nodes[index];
        if self.members[index].is_empty() {
            let _ = writeln!(out, "{indent}{};", statement(node));
            return;
        }
        let label = quote(&node.label);
        let _ =
            writeln!(out, "{indent}subgraph cluster_of_{index} {{\n{indent}  label={label};\n{indent}  color=gray60;");
        let _ = writeln!(out, "{indent}  {};", statement(node));
        for member in &self.members[index] {
            self.place(out, *member, &format!("{indent}  "));
        }
        let _ = writeln!(out, "{indent}}}");
    }
}

fn statement(node: &GraphNode) -> String {
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
