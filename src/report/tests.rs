#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::html::{AuditHead, LogSource, LogTail, NoLogs};
use super::jsonl::JsonLines;
use super::plain::PlainLines;
use super::summary::Places;
use super::terminal::Live;
use super::terminal::panel::{Screen, fit, panel};
use super::{Palette, html, json, junit, summary};
use crate::base::clock::after;
use crate::base::units::Span;
use crate::base::{Attempt, Digest, StepId};
use crate::event::{
    ErrorClass, ErrorInfo, Event, EventKind, Outcome, Progress, ProgressUpdate, SkipReason, SuspendReason,
};
use crate::plan::BoundPlan;
use crate::plan::fixture::{full_db_loss, id, plan, start, step};
use crate::port::Sink;
use crate::state::fixture::{Story, recovered};
use crate::state::{RunState, StepStatus};

fn places() -> Places {
    Places { run_dir: Some("/var/lib/runbook/runs/20260128-143002-3fa9c1".into()), report: None, ..Places::default() }
}

fn shown(plan: &BoundPlan, story: &Story) -> String {
    summary::render(plan, &story.state(), &places(), Palette::Plain)
}

/// The copy of the base backup broke: nothing was recovered.
fn broken(plan: &BoundPlan) -> Story {
    let error = ErrorInfo {
        causes: vec!["No space left on device".to_owned()],
        output_tail: vec!["base/16384/2619".to_owned(), "write: No space left on device".to_owned()],
        exit_code: Some(1),
        ..ErrorInfo::new(ErrorClass::Fatal, "`base/16384/2619` cannot be written")
    };
    let need = |step: &str| SkipReason::Need { step: id(step) };
    Story::of(plan)
        .does("choose", (0.2, 2.1), json!({ "backup": "20260128T010000Z" }))
        .does("stop_apps", (0.3, 8.0), json!({}))
        .does("stop_server", (8.0, 20.0), json!({}))
        .resolved("stage", 2.1, json!({ "password": "\u{E000}pg_orders\u{E001}" }))
        .attempt("stage", 1, 2.2)
        .failed("stage", (2.2, 65.0), error.help("free 80 GiB or name another `scratch`"))
        .skipped("recover", 65.0, need("stage"))
        .skipped("prove", 65.0, SkipReason::Aborted)
        .skipped("start_apps", 65.0, SkipReason::Aborted)
        .skipped("back", 65.0, SkipReason::Aborted)
        .does("tell", (65.0, 66.0), json!({}))
        .finish(66.0)
}

fn plain(plan: &BoundPlan, events: &[Event]) -> String {
    let mut out = Vec::new();
    let mut lines = PlainLines::new(&mut out, Arc::new(plan.clone()), RunState::default(), Palette::Plain);
    for event in events {
        lines.event(event).unwrap();
    }
    drop(lines);
    String::from_utf8(out).unwrap()
}

fn page(plan: &BoundPlan, state: &RunState, logs: &dyn LogSource) -> String {
    let audit = AuditHead { events: state.last_seq.0, last_hash: state.last_hash, plan: Some(Digest::of(b"plan")) };
    html::render(plan, state, logs, &audit)
}

#[test]
fn the_summary_of_a_recovery_answers_the_manager_first() {
    let plan = full_db_loss();
    insta::assert_snapshot!(shown(&plan, &recovered(&plan).finish(1581.0)));
}

#[test]
fn a_missed_objective_heads_the_summary_of_a_real_run() {
    let mut plan = full_db_loss();
    plan.objectives.rto = Some(Span(Duration::from_secs(45 * 60)));
    let text = shown(&plan, &recovered(&plan).finish(1581.0));
    assert!(
        text.starts_with("RTO MISSED: 56m 22s against an objective of 45m (11m 22s over)\n`full-db-loss` succeeded")
    );
    assert!(text.contains("RTO      56m 22s, objective 45m: MISSED"));
}

#[test]
fn the_summary_of_a_failure_says_why_and_what_to_type() {
    let plan = full_db_loss();
    insta::assert_snapshot!(shown(&plan, &broken(&plan)));
}

#[test]
fn the_summary_of_a_run_that_waits_gives_the_command_that_answers() {
    let plan = full_db_loss();
    let waiting = vec![SuspendReason { step: id("recover"), question: "did the swap happen?".to_owned() }];
    let story = Story::of(&plan).at(5.0, EventKind::RunSuspended { waiting });
    let text = shown(&plan, &story);
    assert!(text.contains("runbook resume 20260128-143002-3fa9c1 --rerun recover   or   --done recover"), "{text}");
}

#[test]
fn the_summary_of_a_run_that_goes_on_says_how_far_it_is() {
    let plan = full_db_loss();
    let story = Story::of(&plan)
        .does("choose", (0.2, 2.1), json!({}))
        .resolved("stage", 2.1, json!({}))
        .attempt("stage", 1, 2.2);
    let text = shown(&plan, &story);
    assert!(text.starts_with("`full-db-loss` has not ended"), "{text}");
    assert!(text.contains("1 of 9 done, started and not ended: `stage`"), "{text}");
    assert!(text.contains("runbook resume 20260128-143002-3fa9c1"), "{text}");
}

#[test]
fn colour_changes_no_word_of_the_summary() {
    let plan = full_db_loss();
    let state = broken(&plan).state();
    let coloured = summary::render(&plan, &state, &places(), Palette::Ansi);
    let mut bare = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        bare.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    bare.push_str(rest);
    assert_ne!(bare, coloured);
    assert_eq!(bare, summary::render(&plan, &state, &places(), Palette::Plain));
}

#[test]
fn plain_lines_tell_the_run_in_order() {
    let plan = full_db_loss();
    insta::assert_snapshot!(plain(&plan, &recovered(&plan).finish(1581.0).events()));
}

#[test]
fn plain_lines_show_the_causes_and_the_output_of_a_failure() {
    let plan = full_db_loss();
    insta::assert_snapshot!(plain(&plan, &broken(&plan).events()));
}

#[test]
fn ten_thousand_steps_make_no_flood_of_lines() {
    let names: Vec<String> = (0..10_000).map(|index| format!("s{index}")).collect();
    let plan = plan(names.iter().map(|name| step(name, "exec")).collect());
    let mut story = Story::of(&plan);
    for (index, name) in (0_u32..).zip(&names) {
        let at = f64::from(index) / 10.0;
        story = story.does(name, (at, at + 0.1), Value::Null);
    }
    let text = plain(&plan, &story.events());
    assert!(text.lines().count() <= 25, "{} lines", text.lines().count());
    assert!(text.contains("10000 of 10000 steps done"));
}

#[test]
fn a_long_step_is_spoken_of_every_half_minute() {
    let plan = full_db_loss();
    let story = Story::of(&plan).resolved("choose", 0.0, json!({})).attempt("choose", 1, 0.0);
    let mut out = Vec::new();
    let mut lines = PlainLines::new(&mut out, Arc::new(plan.clone()), RunState::default(), Palette::Plain);
    for event in story.events() {
        lines.event(&event).unwrap();
    }
    let units = |done| Progress::Units { done, total: Some(100), unit: "segments" };
    for (second, done) in [(0, 0), (31, 31), (45, 45), (62, 62)] {
        let progress = units(done);
        lines.progress(&ProgressUpdate { step: id("choose"), attempt: Attempt(1), progress });
        lines.tick(after(start(), Duration::from_secs(second)));
    }
    drop(lines);
    let text = String::from_utf8(out).unwrap();
    let told: Vec<&str> = text.lines().filter(|line| line.contains('…')).collect();
    assert_eq!(told.len(), 2, "{text}");
    assert!(told[1].contains("62% (62 segments of 100 segments), about"), "{}", told[1]);
}

#[test]
fn the_panel_shows_every_step_where_there_is_room() {
    let plan = full_db_loss();
    let story = Story::of(&plan)
        .does("choose", (0.2, 2.1), json!({}))
        .does("stop_apps", (0.3, 8.0), json!({}))
        .resolved("stage", 2.1, json!({}))
        .attempt("stage", 1, 2.2)
        .attempt_failed("stage", 1, (2.2, 65.0), 2.0)
        .attempt("stage", 2, 67.0)
        .fails("stop_server", (8.0, 20.0));
    let mut tracker = super::progress::Tracker::default();
    let at = |seconds| after(start(), Duration::from_secs(seconds));
    for (seconds, done) in [(70, 1 << 30), (100, 4 << 30)] {
        let progress = Progress::Units { done, total: Some(118 << 30), unit: "bytes" };
        tracker.update(&ProgressUpdate { step: id("stage"), attempt: Attempt(2), progress }, at(seconds));
    }
    let screen = Screen { columns: 100, rows: 40, now: at(100) };
    insta::assert_snapshot!(panel(&plan, &story.state(), &tracker, (screen, Palette::Plain)).join("\n"));
}

#[test]
fn the_panel_never_outgrows_the_screen_and_always_shows_what_runs() {
    let names: Vec<String> = (0..1000).map(|index| format!("s{index}")).collect();
    let plan = plan(names.iter().map(|name| step(name, "exec")).collect());
    let story = Story::of(&plan).resolved("s777", 0.0, json!({})).attempt("s777", 1, 0.0);
    let tracker = super::progress::Tracker::default();
    for (columns, rows) in [(80, 24), (20, 5), (200, 60), (1, 1)] {
        let screen = Screen { columns, rows, now: after(start(), Duration::from_secs(9)) };
        let lines = panel(&plan, &story.state(), &tracker, (screen, Palette::Ansi));
        assert!(lines.len() <= rows, "{} lines on {rows}", lines.len());
        assert!(rows < 20 || lines.iter().any(|line| line.contains("s777")), "{lines:?}");
    }
}

#[test]
fn a_line_is_cut_to_the_screen_by_what_is_seen() {
    assert_eq!(fit("abcdef", 5), "abcd…");
    assert_eq!(fit("\x1b[1mab\x1b[0m", 5), "\x1b[1mab\x1b[0m");
    assert_eq!(fit("日本語日本語", 6), "日本…");
}

#[test]
fn the_live_view_follows_a_run_to_its_end_and_refuses_what_cannot_happen() {
    let plan = full_db_loss();
    let events = recovered(&plan).finish(1581.0).events();
    let mut live = Live::hidden(Arc::new(plan), Palette::Ansi);
    for event in &events {
        live.event(event).unwrap();
    }
    live.tick(after(start(), Duration::from_secs(2000)));
    live.close();
    assert!(live.event(&events[0]).is_err(), "nothing follows the end");
}

#[test]
fn each_event_is_one_json_line_and_progress_is_marked() {
    let plan = full_db_loss();
    let events = recovered(&plan).finish(1581.0).events();
    let mut out = Vec::new();
    let progress = Progress::Doing { text: "replaying".to_owned() };
    {
        let mut lines = JsonLines::new(&mut out);
        for event in &events {
            lines.event(event).unwrap();
        }
        lines.progress(&ProgressUpdate { step: id("recover"), attempt: Attempt(1), progress });
    }
    let text = String::from_utf8(out).unwrap();
    let (last, told) = text.trim_end().rsplit_once('\n').map(|(told, last)| (last, told)).unwrap();
    let back: Vec<Event> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, events);
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["progress"]["step"], "recover");
    assert_eq!(last["progress"]["progress"]["text"], "replaying");
}

#[test]
fn the_json_document_holds_figures_and_steps_without_secrets() {
    let plan = full_db_loss();
    let text = json::render(&plan, &recovered(&plan).finish(1581.0).state()).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["outcome"], "succeeded");
    assert_eq!(document["figures"]["rto_ms"], 3_382_000);
    assert_eq!(document["steps"][1]["with"]["password"], "***pg_orders***");
    assert_eq!(document["steps"].as_array().map(Vec::len), Some(9));
    assert!(!text.contains('\u{E000}'));
}

#[test]
fn junit_has_a_case_for_each_step_and_each_judged_objective() {
    let plan = full_db_loss();
    let good = junit::render(&plan, &recovered(&plan).finish(1581.0).state()).unwrap();
    assert!(good.contains(r#"tests="15""#) && good.contains(r#"failures="0""#), "{good}");
    let bad = junit::render(&plan, &broken(&plan).state()).unwrap();
    assert!(bad.contains(r#"failures="1""#) && bad.contains("No space left on device"), "{bad}");
    assert_eq!(bad.matches("<skipped").count(), 4);
}

#[test]
fn the_page_is_self_contained_and_says_what_counts() {
    let plan = full_db_loss();
    let state = recovered(&plan).finish(1581.0).state();
    let page = page(&plan, &state, &NoLogs);
    for part in ["RTO", "no loss", "48210", "all valid", "***pg_orders***", "main.lost-20260128", "9 of 9 steps"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains(&state.last_hash.unwrap().to_string()));
    for foreign in ["<script", "http-equiv", "@import", "url(", "src=", "\u{E000}"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn nothing_a_step_wrote_can_break_out_of_the_page() {
    struct Hostile;
    impl LogSource for Hostile {
        fn tail(&self, _: &StepId, _: Attempt) -> Option<LogTail> {
            Some(LogTail { text: "</pre><script>alert(1)</script>\u{1b}[31m".to_owned(), omitted_bytes: 7 })
        }
    }
    let mut plan = full_db_loss();
    plan.name = "<script>".to_owned();
    plan.steps[0].name = "</svg><script>".to_owned();
    plan.steps[0].description = "<img src=x>".to_owned();
    let evil = json!({ "<script>": "<script>", "checks": [{ "<script>": "</td><script>" }] });
    let state = Story::of(&plan).does("choose", (0.0, 1.0), evil).state();
    let page = page(&plan, &state, &Hostile);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\x1b'));
}

#[test]
fn a_failure_stands_open_on_the_page() {
    let plan = full_db_loss();
    let state = broken(&plan).state();
    assert_eq!(state.finished.as_ref().map(|(outcome, code, _)| (*outcome, *code)), Some((Outcome::Failed, 10)));
    let page = page(&plan, &state, &NoLogs);
    assert!(page.contains(r#"<details class="step failed" id="step-stage" open>"#));
    assert!(page.contains("free 80 GiB"));
    assert_eq!(state.steps[&id("prove")].status, StepStatus::Skipped);
}

#[test]
fn a_tolerated_failure_is_not_named_as_the_one_that_failed_the_run() {
    let plan = plan(vec![step("probe", "exec").tolerated(), step("restore", "exec").follows("probe")]);
    let state = Story::of(&plan).fails("probe", (1.0, 2.0)).fails("restore", (2.0, 3.0)).finish(4.0).state();
    assert_eq!(super::outcome_sentence(&plan, &state), "`test` failed at step `restore` after 4.0s.");
}

#[test]
fn a_page_of_a_thousand_steps_keeps_its_timeline_readable() {
    let names: Vec<String> = (0..1000).map(|index| format!("s{index}")).collect();
    let plan = plan(names.iter().map(|name| step(name, "exec")).collect());
    let mut story = Story::of(&plan);
    for (index, name) in (0_u32..).zip(&names) {
        story = story.does(name, (f64::from(index), f64::from(index) + 1.0), Value::Null);
    }
    let page = page(&plan, &story.finish(1001.0).state(), &NoLogs);
    assert_eq!(page.matches("<details class=\"step").count(), 1000);
    assert!(page.contains("60 of 1000 steps"));
}
