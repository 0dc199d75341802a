#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::html::{AuditHead, NoLogs};
use super::plain::PlainLines;
use super::progress::Tracker;
use super::rich::{begun, midway, rich, rich_story, seeded_story, thousand, undone_story};
use super::summary::Places;
use super::terminal::panel::{Screen, panel};
use super::{Palette, html, json, junit, markdown, summary};
use crate::base::Digest;
use crate::base::clock::after;
use crate::plan::BoundPlan;
use crate::plan::fixture::start;
use crate::port::Sink;
use crate::state::RunState;
use crate::state::fixture::Story;

fn page(plan: &BoundPlan, state: &RunState) -> String {
    let audit = AuditHead { events: state.last_seq.0, last_hash: state.last_hash, plan: Some(Digest::of(b"plan")) };
    html::render(plan, state, &NoLogs, &audit)
}

fn shown(plan: &BoundPlan, story: &Story, (columns, rows): (usize, usize)) -> String {
    let state = story.state();
    let now = after(state.last_at.unwrap(), Duration::from_secs(10));
    let screen = Screen { columns, rows, now };
    panel(plan, &state, &Tracker::default(), (screen, Palette::Plain)).join("\n")
}

fn plain(plan: &BoundPlan, story: &Story) -> String {
    let mut out = Vec::new();
    let mut lines = PlainLines::new(&mut out, Arc::new(plan.clone()), RunState::default(), Palette::Plain);
    for event in story.events() {
        lines.event(&event).unwrap();
    }
    drop(lines);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_summary_says_who_did_what_and_why() {
    let plan = rich();
    insta::assert_snapshot!(summary::render(&plan, &rich_story(&plan).state(), &Places::default(), Palette::Plain));
}

#[test]
fn the_summary_of_a_run_that_was_undone_says_so() {
    let plan = rich();
    insta::assert_snapshot!(summary::render(&plan, &undone_story(&plan).state(), &Places::default(), Palette::Plain));
}

#[test]
fn the_lines_of_a_rich_run_tell_everything_once() {
    let plan = rich();
    insta::assert_snapshot!(plain(&plan, &rich_story(&plan)));
}

#[test]
fn the_panel_shows_questions_groups_and_earlier_runs() {
    let plan = rich();
    insta::assert_snapshot!("panel_question", shown(&plan, &begun(&plan), (80, 24)));
    insta::assert_snapshot!("panel_groups", shown(&plan, &midway(&plan), (120, 40)));
    insta::assert_snapshot!("panel_seeded", shown(&plan, &seeded_story(&plan), (80, 24)));
    insta::assert_snapshot!("panel_undone", shown(&plan, &undone_story(&plan), (80, 40)));
    assert_eq!(plan.run.as_str(), "20260128-143002-3fa9c1");
    assert_eq!(start(), plan.started_at);
}

#[test]
fn the_ticket_has_everything_that_is_asked_there() {
    let plan = rich();
    insta::assert_snapshot!("markdown_rich", markdown::render(&plan, &rich_story(&plan).state()));
    insta::assert_snapshot!("markdown_undone", markdown::render(&plan, &undone_story(&plan).state()));
}

#[test]
fn the_suite_has_checks_conditions_answers_and_instances() {
    let plan = rich();
    insta::assert_snapshot!(junit::render(&plan, &rich_story(&plan).state()).unwrap());
}

#[test]
fn the_document_is_what_its_schema_says() {
    let validator = jsonschema::validator_for(&json::schema()).unwrap();
    let plan = rich();
    for story in [begun(&plan), midway(&plan), rich_story(&plan), undone_story(&plan), seeded_story(&plan)] {
        let document: Value = serde_json::from_str(&json::render(&plan, &story.state()).unwrap()).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&document).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
    let mut wrong: Value = serde_json::from_str(&json::render(&plan, &begun(&plan).state()).unwrap()).unwrap();
    wrong["steps"][0]["status"] = Value::from("splendid");
    assert!(!validator.is_valid(&wrong), "the schema can refuse");
    insta::assert_snapshot!(json::render(&plan, &rich_story(&plan).state()).unwrap());
}

#[test]
fn the_page_tells_people_groups_and_evidence() {
    let plan = rich();
    let rich_page = page(&plan, &rich_story(&plan).state());
    for part in [
        "broke the glass",
        "nobody else can be reached",
        "unlocked from the console",
        "ticket OPS-77",
        "3/3 done",
        "database/orders",
        "refused",
        "SOC2-A1.3",
        "step-tables[users]",
    ] {
        assert!(rich_page.contains(part), "{part}");
    }
    let undone = page(&plan, &undone_story(&plan).state());
    assert!(undone.contains("<h3>Undo</h3>") && undone.contains(">undone<"));
    if let Some(folder) = option_env!("REPORT_PAGES") {
        #[expect(clippy::disallowed_methods, reason = "pages to look at")]
        for (name, text) in [("rich", &rich_page), ("undone", &undone)] {
            std::fs::write(format!("{folder}/{name}.html"), text).unwrap();
        }
    }
}

#[test]
fn a_fan_out_of_a_thousand_floods_no_face() {
    let (plan, story) = thousand(1000);
    let state = story.state();
    let page = page(&plan, &state);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("segment-0099") && page.contains("segment-0500"));
    let lines = plain(&plan, &story);
    assert!(lines.lines().count() < 80, "{} lines\n{lines}", lines.lines().count());
    assert!(lines.contains("copy[segment-0099] failed"), "{lines}");
    let text = shown(&plan, &story, (80, 24));
    assert!(text.lines().count() <= 24 && text.contains("segment-0099"), "{text}");
    let ticket = markdown::render(&plan, &state);
    assert!(ticket.lines().count() < 400, "{} lines", ticket.lines().count());
    let told = summary::render(&plan, &state, &Places::default(), Palette::Plain);
    assert!(told.lines().count() < 80, "{told}");
    if let Some(folder) = option_env!("REPORT_PAGES") {
        #[expect(clippy::disallowed_methods, reason = "a page to look at")]
        std::fs::write(format!("{folder}/thousand.html"), page).unwrap();
    }
}
