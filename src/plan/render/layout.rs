//! Where each step stands in a drawing: layers by longest path, order inside them by barycentre.

use std::collections::BTreeMap;

use super::{GraphEdge, GraphView};
use crate::plan::Section;

/// Wider layers are broken into rows.
const MAX_ROW: usize = 6;
/// More bends than this are not laid out; such edges go straight.
const MAX_BENDS: usize = 4_000;

/// A laid-out graph in units of one cell; the drawing scales them.
pub(super) struct Layout {
    /// Column (may be fractional) and row of each node.
    pub(super) places: Vec<(f64, usize)>,
    /// Each edge with the columns it passes, one per row between its ends.
    pub(super) routes: Vec<(GraphEdge, Vec<f64>)>,
    /// Number of columns.
    pub(super) columns: f64,
    /// Number of rows.
    pub(super) rows: usize,
    /// The first row of `finally`, where there is one.
    pub(super) finally_row: Option<usize>,
}

/// One thing that takes a place in a row: a step, or the bend of a long edge.
struct Cell {
    above: Vec<usize>,
    below: Vec<usize>,
    width: f64,
}

/// Lays a graph out. The time is linear in the number of cells for a fixed number of sweeps.
pub(super) fn layout(view: &GraphView) -> Layout {
    let needs = view.needs_of();
    let (row_of, finally_row) = rows(view, &needs);
    let height = row_of.iter().max().map_or(0, |last| last + 1);
    let mut cells: Vec<Cell> =
        (0..view.nodes.len()).map(|_| Cell { above: Vec::new(), below: Vec::new(), width: 1.0 }).collect();
    let mut ranks: Vec<Vec<usize>> = vec![Vec::new(); height];
    for (node, row) in row_of.iter().enumerate() {
        ranks[*row].push(node);
    }
    let mut chains = Vec::new();
    for edge in needs.iter().flatten() {
        let bends = row_of[edge.to].saturating_sub(row_of[edge.from] + 1);
        let mut chain = vec![edge.from];
        if cells.len() + bends <= view.nodes.len() + MAX_BENDS {
            for rank in &mut ranks[row_of[edge.from] + 1..row_of[edge.to]] {
                rank.push(cells.len());
                chain.push(cells.len());
                cells.push(Cell { above: Vec::new(), below: Vec::new(), width: 0.22 });
            }
        }
        chain.push(edge.to);
        for pair in chain.windows(2) {
            cells[pair[0]].below.push(pair[1]);
            cells[pair[1]].above.push(pair[0]);
        }
        chains.push((*edge, chain));
    }
    let sweeps = if cells.len() > 600 { 6 } else { 24 };
    order(&mut ranks, &cells, sweeps);
    let columns = columns(&ranks, &cells, sweeps);
    let routes = chains
        .into_iter()
        .map(|(edge, chain)| (edge, chain[1..chain.len() - 1].iter().map(|cell| columns[*cell]).collect()))
        .collect();
    let right = ranks.iter().flatten().map(|cell| columns[*cell] + cells[*cell].width / 2.0).fold(1.0, f64::max);
    let places = row_of.iter().enumerate().map(|(node, row)| (columns[node], *row)).collect();
    Layout { places, routes, columns: right, rows: height, finally_row }
}

/// Gives each node its row: below everything it needs, `finally` below the whole body.
fn rows(view: &GraphView, needs: &[Vec<GraphEdge>]) -> (Vec<usize>, Option<usize>) {
    let mut layer = vec![0_usize; view.nodes.len()];
    let mut body_layers = 0;
    for section in [Section::Body, Section::Finally] {
        let first = body_layers;
        for (node, _) in view.nodes.iter().enumerate().filter(|(_, node)| node.section == section) {
            let below = needs[node].iter().map(|edge| layer[edge.from] + 1).max().unwrap_or(0);
            layer[node] = below.max(first);
            if section == Section::Body {
                body_layers = body_layers.max(layer[node] + 1);
            }
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, layer) in layer.iter().enumerate() {
        members.entry(*layer).or_default().push(node);
    }
    let mut row_of = vec![0; view.nodes.len()];
    let mut finally_row = None;
    let mut next = 0;
    for (layer, nodes) in members {
        if layer == body_layers && body_layers < usize::MAX && view.nodes[nodes[0]].section == Section::Finally {
            finally_row = Some(next);
        }
        for row in nodes.chunks(MAX_ROW) {
            for node in row {
                row_of[*node] = next;
            }
            next += 1;
        }
    }
    (row_of, finally_row)
}

/// Orders each row by the mean place of its neighbours, downwards and upwards in turn.
fn order(ranks: &mut [Vec<usize>], cells: &[Cell], sweeps: usize) {
    let mut place = vec![0.0_f64; cells.len()];
    let number = |rank: &[usize], place: &mut Vec<f64>| {
        for (index, cell) in rank.iter().enumerate() {
            place[*cell] = scaled(index, rank.len());
        }
    };
    for rank in ranks.iter() {
        number(rank, &mut place);
    }
    let mut best = (crossings(ranks, cells), ranks.to_vec());
    for sweep in 0..sweeps {
        let downwards = sweep % 2 == 0;
        for step in 0..ranks.len() {
            let index = if downwards { step } else { ranks.len() - 1 - step };
            let rank = &mut ranks[index];
            let key = |cell: usize| {
                let near = if downwards { &cells[cell].above } else { &cells[cell].below };
                mean(near.iter().map(|other| place[*other])).unwrap_or(place[cell])
            };
            let mut keyed: Vec<(f64, usize)> = rank.iter().map(|cell| (key(*cell), *cell)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *rank = keyed.into_iter().map(|(_, cell)| cell).collect();
            number(rank, &mut place);
        }
        let crossed = crossings(ranks, cells);
        if crossed < best.0 {
            best = (crossed, ranks.to_vec());
        }
    }
    ranks.clone_from_slice(&best.1);
}

/// Counts the pairs of edges between neighbouring rows that cross.
fn crossings(ranks: &[Vec<usize>], cells: &[Cell]) -> usize {
    let mut place = vec![0_usize; cells.len()];
    for rank in ranks {
        for (index, cell) in rank.iter().enumerate() {
            place[*cell] = index;
        }
    }
    let mut crossed = 0;
    for rank in ranks {
        // Read from left to right, an edge crosses every earlier one that ends further right.
        let mut ends: Vec<usize> = Vec::new();
        for cell in rank {
            let mut targets: Vec<usize> = cells[*cell].below.iter().map(|other| place[*other]).collect();
            targets.sort_unstable();
            crossed += targets.iter().map(|end| ends.len() - ends.partition_point(|other| other <= end)).sum::<usize>();
            for end in targets {
                ends.insert(ends.partition_point(|other| *other <= end), end);
            }
        }
    }
    crossed
}

#[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
fn scaled(index: usize, of: usize) -> f64 {
    (index as f64 + 0.5) / of as f64
}

#[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Gives every cell its column: near its neighbours, in order, without overlap.
fn columns(ranks: &[Vec<usize>], cells: &[Cell], sweeps: usize) -> Vec<f64> {
    let mut at = vec![0.0_f64; cells.len()];
    for rank in ranks {
        let total: f64 = rank.iter().map(|cell| cells[*cell].width).sum();
        let mut left = -total / 2.0;
        for cell in rank {
            at[*cell] = left + cells[*cell].width / 2.0;
            left += cells[*cell].width;
        }
    }
    for sweep in 0..sweeps {
        let downwards = sweep % 2 == 0;
        for step in 0..ranks.len() {
            let rank = &ranks[if downwards { step } else { ranks.len() - 1 - step }];
            let wishes: Vec<Option<f64>> = rank
                .iter()
                .map(|cell| {
                    let cell = &cells[*cell];
                    let near = if sweep + 4 < sweeps && downwards {
                        &cell.above[..]
                    } else if sweep + 4 < sweeps {
                        &cell.below[..]
                    } else {
                        &[]
                    };
                    let all = cell.above.iter().chain(&cell.below);
                    mean(near.iter().map(|other| at[*other])).or_else(|| mean(all.map(|other| at[*other])))
                })
                .collect();
            let wishes = filled(rank, cells, &wishes, &at);
            settle(rank, cells, &wishes, &mut at);
        }
    }
    centre(ranks, cells, &mut at);
    let left = ranks.iter().flatten().map(|cell| at[*cell] - cells[*cell].width / 2.0).fold(f64::INFINITY, f64::min);
    if left.is_finite() {
        at.iter_mut().for_each(|column| *column -= left);
    }
    at
}

/// Puts rows in which nothing is connected below the middle of what is.
fn centre(ranks: &[Vec<usize>], cells: &[Cell], at: &mut [f64]) {
    let connected = |cell: &usize| !(cells[*cell].above.is_empty() && cells[*cell].below.is_empty());
    let Some(middle) = mean(ranks.iter().flatten().copied().filter(connected).map(|cell| at[cell])) else { return };
    for rank in ranks.iter().filter(|rank| !rank.iter().any(connected)) {
        let Some(own) = mean(rank.iter().map(|cell| at[*cell])) else { continue };
        rank.iter().for_each(|cell| at[*cell] += middle - own);
    }
}

/// Gives a cell without neighbours the place beside the one before it, so that it is carried along.
fn filled(rank: &[usize], cells: &[Cell], wishes: &[Option<f64>], at: &[f64]) -> Vec<f64> {
    let gap = |a: usize, b: usize| f64::midpoint(cells[a].width, cells[b].width);
    let known = wishes.iter().position(Option::is_some);
    let mut filled: Vec<f64> = rank.iter().zip(wishes).map(|(cell, wish)| wish.unwrap_or(at[*cell])).collect();
    let Some(known) = known else { return filled };
    for index in (0..known).rev() {
        filled[index] = filled[index + 1] - gap(rank[index], rank[index + 1]);
    }
    for index in known + 1..rank.len() {
        if wishes[index].is_none() {
            filled[index] = filled[index - 1] + gap(rank[index - 1], rank[index]);
        }
    }
    filled
}

/// Places a row as near to its wishes as order and widths allow: the mean of packing from either side.
fn settle(rank: &[usize], cells: &[Cell], wishes: &[f64], at: &mut [f64]) {
    let gap = |a: usize, b: usize| f64::midpoint(cells[a].width, cells[b].width);
    let mut from_left = wishes.to_vec();
    for index in 1..rank.len() {
        from_left[index] = from_left[index].max(from_left[index - 1] + gap(rank[index - 1], rank[index]));
    }
    let mut from_right = wishes.to_vec();
    for index in (1..rank.len()).rev() {
        from_right[index - 1] = from_right[index - 1].min(from_right[index] - gap(rank[index - 1], rank[index]));
    }
    for (index, cell) in rank.iter().enumerate() {
        at[*cell] = f64::midpoint(from_left[index], from_right[index]);
    }
}
