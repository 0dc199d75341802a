#![allow(clippy::unwrap_used, reason = "tests")]

use super::{GraphView, NodeState, dot, mermaid, svg, tree};
use crate::plan::fixture::{full_db_loss, id, plan, step};
use crate::plan::{BoundPlan, Edge, ForEach, PlannedStep, Strictness};

fn view() -> GraphView {
    GraphView::of_plan(&full_db_loss())
}

fn layered(layers: usize, wide: usize) -> BoundPlan {
    let name = |layer: usize, index: usize| format!("s{layer}_{index}");
    let mut steps: Vec<PlannedStep> = Vec::new();
    for layer in 0..layers {
        for index in 0..wide {
            let before: Vec<String> = match layer.checked_sub(1) {
                Some(above) => (0..3).map(|by| name(above, (index + by) % wide)).collect(),
                None => Vec::new(),
            };
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            steps.push(step(&name(layer, index), "exec").needs(&before));
        }
    }
    plan(steps)
}

#[test]
fn the_tree_shows_phases_branches_effects_and_targets() {
    insta::assert_snapshot!(tree(&view()));
}

#[test]
fn the_graphviz_text_has_a_cluster_for_each_phase() {
    insta::assert_snapshot!(dot(&view()));
}

#[test]
fn the_mermaid_text_has_a_subgraph_for_each_phase() {
    insta::assert_snapshot!(mermaid(&view()));
}

#[test]
fn every_picture_says_how_often_a_step_is_made() {
    let items = serde_json::json!("{{ vars.tables }}");
    let many = PlannedStep { for_each: Some(ForEach { items, max_parallel: None }), ..step("dump", "exec") };
    let view = GraphView::of_plan(&plan(vec![many]));
    for picture in [tree(&view), dot(&view), mermaid(&view), svg(&view)] {
        assert!(picture.contains("exec × each of vars.tables"), "{picture}");
    }
}

#[test]
fn a_tree_of_joins_and_forks_keeps_its_lanes_apart() {
    let steps = vec![
        step("a", "exec"),
        step("b", "exec").needs(&["a"]),
        step("c", "exec").needs(&["a"]),
        step("d", "exec").needs(&["a"]),
        step("e", "exec").needs(&["b", "d"]),
        step("f", "exec").needs(&["c", "e"]),
        step("g", "exec"),
    ];
    insta::assert_snapshot!(tree(&GraphView::of_plan(&plan(steps))));
}

#[test]
fn names_cannot_break_out_of_a_picture() {
    let mut hostile = full_db_loss();
    hostile.steps[0].name = "\"]; </text><script>alert(1)</script> & #".to_owned();
    hostile.name = "<b>\"".to_owned();
    let view = GraphView::of_plan(&hostile);
    assert!(!svg(&view).contains("<script"));
    assert!(!svg(&view).contains("<b>"));
    assert!(!mermaid(&view).contains("<script"));
    assert!(dot(&view).contains(r#"label="\"]; </text>"#));
}

#[test]
fn the_drawing_places_every_step_once_and_without_overlap() {
    for (layers, wide) in [(1, 1), (5, 3), (12, 5), (3, 40)] {
        let view = GraphView::of_plan(&layered(layers, wide));
        let layout = super::layout::layout(&view);
        for (index, a) in layout.places.iter().enumerate() {
            for b in &layout.places[index + 1..] {
                assert!(a.1 != b.1 || (a.0 - b.0).abs() > 0.99, "{layers}x{wide}: {a:?} {b:?}");
            }
        }
        for (edge, bends) in &layout.routes {
            let (from, to) = (layout.places[edge.from].1, layout.places[edge.to].1);
            assert!(from < to, "an edge leads down");
            assert_eq!(bends.len(), to - from - 1);
        }
    }
}

#[test]
fn a_thousand_steps_are_drawn() {
    for plan in [layered(100, 10), layered(1, 1000)] {
        let view = GraphView::of_plan(&plan).with_states(|_| NodeState::Succeeded);
        assert_eq!(svg(&view).matches("<g class=\"succeeded\"").count(), 1000);
        assert_eq!(tree(&view).lines().filter(|line| line.contains('✓')).count(), 1000);
    }
}

#[test]
fn states_reach_the_drawing() {
    let failed = id("recover");
    let view = view().with_states(|step| match step == failed.as_str() {
        true => NodeState::Failed,
        false => NodeState::Succeeded,
    });
    let drawing = svg(&view);
    assert_eq!(drawing.matches("class=\"failed\"").count(), 1);
    assert_eq!(drawing.matches("class=\"succeeded\"").count(), 8);
}

/// A step before, a sub-runbook with a `finally` inside which another one lies, and a step after it.
fn nested() -> BoundPlan {
    let member = |name: &str, uses: &str, group: &str| {
        let mut step = step(name, uses);
        step.group = Some(id(group));
        step
    };
    let last = |mut step: PlannedStep, after: &[&str]| {
        step.always = true;
        step.needs = after.iter().map(|from| Edge { from: id(from), strictness: Strictness::Any }).collect();
        step
    };
    plan(vec![
        step("before", "exec"),
        step("sub", "runbook").needs(&["before"]),
        member("sub/a", "exec", "sub"),
        member("sub/in", "runbook", "sub").needs(&["sub/a"]),
        member("sub/in/deep", "exec", "sub/in"),
        member("sub/b", "exec", "sub").needs(&["sub/in"]),
        last(member("sub/clean", "exec", "sub"), &["sub/a", "sub/in", "sub/b"]),
        step("after", "exec").follows("sub"),
    ])
}

#[test]
fn the_steps_of_a_sub_runbook_stand_inside_it_in_every_picture() {
    let view = GraphView::of_plan(&nested());
    insta::assert_snapshot!(tree(&view));
    insta::assert_snapshot!(dot(&view));
    insta::assert_snapshot!(mermaid(&view));
    assert_eq!(svg(&view).matches("<rect class=\"sub\"").count(), 2);
}
