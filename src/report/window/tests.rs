#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
use super::*;
use crate::report::palette::Palette;

fn at(text: &str) -> Timestamp {
    format!("2026-01-28T{text}:00Z").parse().unwrap()
}

fn span(state: SpanState, (from, to): (&str, &str), why: &str) -> Span {
    let (from_at, to_at) = (Some(at(from)), Some(at(to)));
    Span { state, from_at, to_at, from: Lsn(0x200_0100), to: Lsn(0x500_0000), why: vec![why.to_owned()] }
}

fn chart() -> Chart {
    let backup = |id: &str, ended: &str, fault: Option<&str>| ChartBackup {
        id: id.to_owned(),
        form: BackupForm::Base,
        ended_at: at(ended),
        timeline: Timeline(1),
        fault: fault.map(str::to_owned),
    };
    let first = vec![
        span(SpanState::Recoverable, ("10:00", "12:00"), "backup `a`"),
        span(SpanState::Gap, ("12:00", "12:05"), "`000000010000000000000007` is missing"),
        span(SpanState::Recoverable, ("12:05", "14:00"), "backup `b`"),
    ];
    let second = vec![span(SpanState::Recoverable, ("14:00", "18:00"), "timeline 1")];
    Chart {
        database: "orders <eu>".to_owned(),
        system_id: SystemId(7),
        lanes: vec![
            ChartLane { timeline: Timeline(1), left: None, fork: None, spans: first },
            ChartLane { timeline: Timeline(2), left: Some(Timeline(1)), fork: Some(Lsn(0x900_0000)), spans: second },
        ],
        backups: vec![backup("a", "10:00", None), backup("b", "12:05", None), backup("c", "13:00", Some("gone"))],
        at: at("20:00"),
        notes: Vec::new(),
    }
}

#[test]
fn the_terminal_shows_each_lane_with_its_gap_however_short() {
    let drawn = text(&chart(), 80, Palette::Plain);
    let lane = drawn.lines().find(|line| line.trim_start().starts_with("timeline 1 ")).unwrap();
    assert!(lane.contains("█░█") || lane.contains("█░░█"), "{drawn}");
    assert!(drawn.contains("GAP  2026-01-28 12:00:00Z to 2026-01-28 12:05:00Z"), "{drawn}");
    assert!(drawn.contains("is missing") && drawn.contains("backup `c` cannot be restored: gone"), "{drawn}");
    assert!(drawn.lines().all(|line| !line.starts_with("  timeline") || line.chars().count() <= 80), "{drawn}");
}

#[test]
fn the_page_is_one_element_with_everything_escaped() {
    let drawn = svg(&chart());
    assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
    assert!(drawn.contains("orders &lt;eu&gt;") && !drawn.contains("<eu>"));
    assert_eq!(drawn.matches("class=\"gap\"").count(), 2, "one gap, and the legend");
    assert!(drawn.contains("prefers-color-scheme:dark"));
}

#[test]
fn no_label_of_a_lane_reaches_into_the_plot() {
    let fork = |lsn| {
        let mut chart = chart();
        chart.lanes[1].fork = Some(Lsn(lsn));
        let drawn = svg(&chart);
        let left = drawn.split("class=\"g\" x1=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
        let label = drawn.split(">from 1 at ").nth(1).unwrap().split('<').next().unwrap().len();
        (left, label)
    };
    let ((near, short), (far, long)) = (fork(0x900_0000), fork(u64::MAX));
    assert!(near > 16.0 + 7.0 * (short + 10) as f64 && far > 16.0 + 7.0 * (long + 10) as f64, "{near} {far}");
    assert!(near < far && far < 300.0, "{near} {far}");
}

#[test]
fn a_chart_without_any_moment_still_says_so() {
    let empty = Chart { lanes: Vec::new(), backups: Vec::new(), ..chart() };
    assert!(text(&empty, 80, Palette::Plain).contains("nothing: no base backup"));
    assert!(svg(&empty).contains("nothing: no base backup"));
}
