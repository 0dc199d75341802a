//! The graph as one SVG element that carries its own style, good in light, dark and on paper.

use std::fmt::Write as _;

use super::layout::{Layout, layout};
use super::{GraphNode, GraphView};
use crate::base::effect::EffectClass;
use crate::plan::Strictness;

const NODE_WIDTH: f64 = 176.0;
const NODE_HEIGHT: f64 = 46.0;
const CELL_WIDTH: f64 = 200.0;
const CELL_HEIGHT: f64 = 76.0;
const MARGIN: f64 = 14.0;
/// Space between the frame of a sub-runbook and its steps.
const FRAME: f64 = 7.0;
/// Space above the first row of `finally`.
const DIVIDER: f64 = 26.0;

const STYLE: &str = "\
.rb-graph{--ink:#1d2733;--soft:#667585;--line:#9aa7b4;--paper:#fff;--box:#c3ccd6;--ok:#1f7a4d;--okbg:#e6f4ec;--bad:#b3261e;--badbg:#fbe9e7;--run:#1a5fb4;--runbg:#e5effa;--odd:#8a6100;--oddbg:#fdf3d8;--off:#8794a1;--offbg:#f1f3f5;font-family:system-ui,-apple-system,'Segoe UI',sans-serif;max-width:100%;height:auto}\
@media(prefers-color-scheme:dark){.rb-graph{--ink:#e4e9ee;--soft:#9aa7b4;--line:#5d6b79;--paper:#1a222b;--box:#3c4957;--ok:#5cc492;--okbg:#16302a;--bad:#ff8a80;--badbg:#3a1f22;--run:#7db7ff;--runbg:#172c45;--odd:#e8bf5a;--oddbg:#352c17;--off:#7b8896;--offbg:#222b35}}\
@media print{.rb-graph{--ink:#000;--soft:#444;--line:#888;--paper:#fff;--box:#bbb;--ok:#1f7a4d;--okbg:#fff;--bad:#b3261e;--badbg:#fff;--run:#1a5fb4;--runbg:#fff;--odd:#8a6100;--oddbg:#fff;--off:#777;--offbg:#fff}}\
.rb-graph rect{fill:var(--paper);stroke:var(--box);stroke-width:1.2}\
.rb-graph .l{font-size:13px;font-weight:600;fill:var(--ink)}.rb-graph .a{font-size:11px;fill:var(--soft)}\
.rb-graph .g{font-size:14px;font-weight:700;fill:var(--soft)}\
.rb-graph path{fill:none;stroke:var(--line);stroke-width:1.4}.rb-graph path.any{stroke-dasharray:4 4}.rb-graph .tip{fill:var(--line);stroke:none}\
.rb-graph rect.sub{fill:none;stroke:var(--box);stroke-dasharray:6 3}.rb-graph .fin{stroke:var(--box);stroke-dasharray:2 5;stroke-width:1.2}\
.rb-graph .e-write{fill:var(--odd);stroke:none}.rb-graph .e-destroy{fill:var(--bad);stroke:none}.rb-graph .e-read,.rb-graph .e-none{fill:var(--box);stroke:none}\
.rb-graph .succeeded rect.b{fill:var(--okbg);stroke:var(--ok)}.rb-graph .succeeded .g{fill:var(--ok)}\
.rb-graph .failed rect.b{fill:var(--badbg);stroke:var(--bad);stroke-width:2}.rb-graph .failed .g{fill:var(--bad)}\
.rb-graph .running rect.b{fill:var(--runbg);stroke:var(--run)}.rb-graph .running .g{fill:var(--run)}\
.rb-graph .unknown rect.b,.rb-graph .cancelled rect.b{fill:var(--oddbg);stroke:var(--odd)}.rb-graph .unknown .g,.rb-graph .cancelled .g{fill:var(--odd)}\
.rb-graph .skipped rect.b{fill:var(--offbg);stroke-dasharray:3 3}.rb-graph .skipped .l{fill:var(--off)}";

/// Draws the graph. Needs no outside tool; the same graph gives the same bytes.
#[must_use]
pub fn svg(view: &GraphView) -> String {
    let layout = layout(view);
    let frame = Frame { layout: &layout };
    let members = view.members();
    let (width, height) = frame.size();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rb-graph\" role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\"><title>{}</title><style>{STYLE}</style>",
        escape(&format!("steps of {}", view.title))
    );
    if let Some(row) = layout.finally_row {
        let y = frame.top(row) - DIVIDER / 2.0 - 6.0;
        let _ = write!(
            out,
            "<line class=\"fin\" x1=\"0\" x2=\"{width:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"a\" x=\"4\" y=\"{:.1}\">finally</text>",
            y + 14.0
        );
    }
    for group in (0..view.nodes.len()).filter(|group| !members[*group].is_empty()) {
        out.push_str(&frame.group(view, group));
    }
    for (edge, bends) in &layout.routes {
        out.push_str(&frame.edge(edge, bends));
    }
    for (index, node) in view.nodes.iter().enumerate() {
        out.push_str(&frame.node(index, node));
    }
    out.push_str("</svg>");
    out
}

struct Frame<'a> {
    layout: &'a Layout,
}

impl Frame<'_> {
    fn size(&self) -> (f64, f64) {
        let width = self.layout.columns * CELL_WIDTH - (CELL_WIDTH - NODE_WIDTH) + 2.0 * MARGIN;
        let bottom = self.layout.rows.checked_sub(1).map_or(0.0, |row| self.top(row) + NODE_HEIGHT);
        (width.max(NODE_WIDTH + 2.0 * MARGIN), bottom + MARGIN)
    }

    fn middle(&self, column: f64) -> f64 {
        column * CELL_WIDTH - (CELL_WIDTH - NODE_WIDTH) / 2.0 + MARGIN
    }

    #[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
    fn top(&self, row: usize) -> f64 {
        let below_body = self.layout.finally_row.is_some_and(|first| row >= first);
        row as f64 * CELL_HEIGHT + MARGIN + if below_body { DIVIDER } else { 0.0 }
    }

    /// Draws an edge from the foot of one step to the head of another, around what lies between.
    fn edge(&self, edge: &super::GraphEdge, bends: &[f64]) -> String {
        let (from, to) = (self.layout.places[edge.from], self.layout.places[edge.to]);
        let (mut x, mut y) = (self.middle(from.0), self.top(from.1) + NODE_HEIGHT);
        let mut path = format!("M{x:.1} {y:.1}");
        let mut curve = |to_x: f64, to_y: f64| {
            let half = f64::midpoint(y, to_y);
            let _ = write!(path, "C{x:.1} {half:.1} {to_x:.1} {half:.1} {to_x:.1} {to_y:.1}");
            (x, y) = (to_x, to_y);
        };
        for (index, column) in bends.iter().enumerate() {
            let (bend, row) = (self.middle(*column), from.1 + 1 + index);
            curve(bend, self.top(row));
            curve(bend, self.top(row) + NODE_HEIGHT);
        }
        let (tip_x, tip_y) = (self.middle(to.0), self.top(to.1));
        curve(tip_x, tip_y - 6.0);
        let class = match edge.strictness {
            Strictness::Any => " class=\"any\"",
            Strictness::Settled | Strictness::Success => "",
        };
        format!("<path{class} d=\"{path}\"/><path class=\"tip\" d=\"M{:.1} {:.1}l4 -7h-8z\"/>", tip_x, tip_y)
    }

    /// Frames the steps of a sub-runbook, where nothing else lies between them.
    fn group(&self, view: &GraphView, group: usize) -> String {
        let within = |node: &usize| {
            let mut around = std::iter::successors(Some(*node), |node| view.nodes[*node].group);
            around.any(|node| node == group)
        };
        let place = |node: usize| self.layout.places[node];
        let inside: Vec<usize> = (group..view.nodes.len()).filter(within).collect();
        let columns = inside.iter().map(|node| place(*node).0);
        let (left, right) = columns.fold((f64::MAX, f64::MIN), |(l, r), column| (l.min(column), r.max(column)));
        let rows = || inside.iter().map(|node| place(*node).1);
        let (Some(first), Some(last)) = (rows().min(), rows().max()) else { return String::new() };
        let overlaps = |node: usize| {
            let (column, row) = place(node);
            (first..=last).contains(&row) && column > left - 1.0 && column < right + 1.0
        };
        if (0..view.nodes.len()).any(|node| !within(&node) && overlaps(node)) {
            return String::new();
        }
        let (x, y) = (self.middle(left) - NODE_WIDTH / 2.0 - FRAME, self.top(first) - FRAME);
        let width = self.middle(right) + NODE_WIDTH / 2.0 + FRAME - x;
        let height = self.top(last) + NODE_HEIGHT + FRAME - y;
        format!("<rect class=\"sub\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"10\"/>")
    }

    fn node(&self, index: usize, node: &GraphNode) -> String {
        let (column, row) = self.layout.places[index];
        let (x, y) = (self.middle(column) - NODE_WIDTH / 2.0, self.top(row));
        let class = node.state.map_or("", super::NodeState::as_str);
        let effect = match node.effect {
            EffectClass::None => "none",
            EffectClass::Read => "read",
            EffectClass::Write => "write",
            EffectClass::Destroy => "destroy",
        };
        let glyph = node.state.map_or(String::new(), |state| {
            format!(
                "<text class=\"g\" x=\"{:.1}\" y=\"19\" text-anchor=\"end\">{}</text>",
                NODE_WIDTH - 9.0,
                state.glyph()
            )
        });
        let mut words = vec![format!("{} ({})", node.id, node.action)];
        words.extend(node.targets.iter().cloned());
        format!(
            "<g class=\"{class}\" transform=\"translate({x:.1} {y:.1})\"><title>{}</title>\
             <rect class=\"b\" width=\"{NODE_WIDTH}\" height=\"{NODE_HEIGHT}\" rx=\"7\"/>\
             <rect class=\"e-{effect}\" x=\"0\" y=\"9\" width=\"4\" height=\"{:.0}\" rx=\"2\"/>\
             <text class=\"l\" x=\"13\" y=\"19\">{}</text><text class=\"a\" x=\"13\" y=\"35\">{}</text>{glyph}</g>",
            escape(&words.join("\n")),
            NODE_HEIGHT - 18.0,
            escape(&cut(&node.label, 19)),
            escape(&cut(&node.action, 25)),
        )
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}
