//! Pictures of a plan: text, Graphviz, Mermaid and SVG. Pure.
//!
//! All four draw a [`GraphView`], which a bound plan gives and a plan that is only checked can
//! build as well; a report adds the states of the steps. Start with [`GraphView`].

mod dot;
mod group;
mod layout;
mod mermaid;
mod outline;
mod svg;
#[cfg(test)]
mod tests;
mod tree;
mod view;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;
pub use tree::tree;
pub use view::{GraphEdge, GraphNode, GraphView, NodeState, describe_target};
