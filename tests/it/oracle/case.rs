//! What is tried: a random plan, what its steps do, and what happens to the run meanwhile.

use std::fmt;
use std::time::Duration;

use proptest::prelude::*;
use runbook::event::CancelLevel;
use runbook::language::runbook::OnFailure;
use runbook::plan::{Edge, Strictness};

use crate::support::fake::Act;
use crate::support::scenario::Scenario;

/// How long an attempt that hangs may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// One run to try.
#[derive(Clone)]
pub struct Case {
    /// The body, then `finally`.
    pub steps: Vec<Sketch>,
    pub parallel: usize,
    /// When a cancel is asked for.
    pub cancels: Vec<(u64, CancelLevel)>,
    /// When the wall clock is set, and by how many seconds.
    pub jumps: Vec<(u64, i64)>,
    /// After how many events of its own each engine dies, and whether before or after that event is durable.
    pub cuts: Vec<(u64, bool)>,
    /// Until when another run holds the lock `tape`.
    pub foreign_ms: Option<u64>,
}

/// One step to try.
#[derive(Debug, Clone)]
pub struct Sketch {
    pub last: bool,
    pub needs: Vec<(usize, Strictness)>,
    pub kind: Kind,
    /// What each attempt does; the last one for all that follow.
    pub deeds: Vec<Deed>,
    pub wants: bool,
    pub on_failure: OnFailure,
    pub tries: u32,
    pub locks: Vec<&'static str>,
    /// What an operator says each time the step is held or nobody knows what became of it; then it is left out.
    pub reliefs: Vec<Relief>,
}

/// What becomes of an attempt whose engine died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A second attempt does harm: a person is asked.
    Once,
    /// It can be made again.
    Again,
    /// It goes on without the engine and leaves a record.
    Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Succeed,
    Take(u64),
    Retryable,
    Fatal,
    Unknown,
    /// Hangs until its timeout.
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    Retry,
    Skip,
    Done,
}

impl Sketch {
    pub fn deed(&self, attempt: u32) -> Deed {
        let at = usize::try_from(attempt).unwrap_or(1).saturating_sub(1);
        self.deeds[at.min(self.deeds.len() - 1)]
    }
}

pub fn name(at: usize) -> String {
    format!("s{at}")
}

/// What may happen besides the plan.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub cancels: usize,
    pub jumps: usize,
    pub cuts: usize,
    pub pauses: u32,
}

pub fn case(weather: Weather) -> impl Strategy<Value = Case> {
    let level = prop_oneof![Just(CancelLevel::Graceful), Just(CancelLevel::Now)];
    let jump = (0..20_000_u64, prop_oneof![-7200..7200_i64, -3..3_i64]);
    (
        prop::collection::vec(sketch(weather), 1..9),
        prop::collection::vec(sketch(weather), 0..3),
        1..4_usize,
        prop::collection::vec((0..25_000_u64, level), 0..=weather.cancels),
        prop::collection::vec(jump, 0..=weather.jumps),
        prop::collection::vec((0..30_u64, any::<bool>()), 0..=weather.cuts),
        prop::option::weighted(0.2, 1..12_000_u64),
    )
        .prop_map(|(mut body, mut last, parallel, mut cancels, jumps, cuts, foreign_ms)| {
            connect(&mut body, 0);
            connect(&mut last, body.len());
            last.iter_mut().for_each(|step| step.last = true);
            body.extend(last);
            cancels.sort_unstable();
            Case { steps: body, parallel, cancels, jumps, cuts, foreign_ms }
        })
}

/// Lets every edge point to an earlier step of the same section.
fn connect(steps: &mut [Sketch], base: usize) {
    for (at, step) in steps.iter_mut().enumerate() {
        step.needs.retain(|_| at > 0);
        step.needs.iter_mut().for_each(|(from, _)| *from = base + *from % at);
        step.needs.sort_unstable();
        step.needs.dedup_by_key(|(from, _)| *from);
    }
}

fn sketch(weather: Weather) -> impl Strategy<Value = Sketch> {
    let strictness = prop_oneof![Just(Strictness::Any), Just(Strictness::Settled), Just(Strictness::Success)];
    let on_failure = prop_oneof![
        3 => Just(OnFailure::Abort),
        4 => Just(OnFailure::Continue),
        weather.pauses => Just(OnFailure::Pause)
    ];
    let relief = prop_oneof![Just(Relief::Retry), Just(Relief::Skip), Just(Relief::Done)];
    (
        prop::collection::vec((0..64_usize, strictness), 0..3),
        prop_oneof![Just(Kind::Kept), Just(Kind::Again), Just(Kind::Once)],
        prop::collection::vec(deed(), 1..4).prop_map(apart),
        prop::bool::weighted(0.9),
        on_failure,
        1..4_u32,
        prop::sample::subsequence(vec!["disk", "tape"], 0..2),
        prop::collection::vec(relief, 0..3),
    )
        .prop_map(|(needs, kind, deeds, wants, on_failure, tries, locks, reliefs)| Sketch {
            last: false,
            needs,
            kind,
            deeds,
            wants,
            on_failure,
            tries,
            locks,
            reliefs,
        })
}

/// A step whose attempts have a timeout makes no long ones, which do not heed it.
fn apart(mut deeds: Vec<Deed>) -> Vec<Deed> {
    if deeds.contains(&Deed::Hang) {
        let long = deeds.iter_mut().filter(|deed| matches!(deed, Deed::Take(_)));
        long.for_each(|deed| *deed = Deed::Succeed);
    }
    deeds
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::Succeed),
        4 => (1..14_000_u64).prop_map(Deed::Take),
        3 => Just(Deed::Retryable),
        1 => Just(Deed::Fatal),
        1 => Just(Deed::Unknown),
        1 => Just(Deed::Hang),
    ]
}

impl Case {
    /// The plan and the world it is tried in.
    pub fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::new().parallel(self.parallel);
        for (at, sketch) in self.steps.iter().enumerate() {
            let shape = |draft: crate::support::scenario::Draft| {
                let acts: Vec<Act> = sketch.deeds.iter().map(|deed| deed.act()).collect();
                let mut draft = draft.uses(sketch.kind.action()).does(&acts).tries(sketch.tries).locks(&sketch.locks);
                if sketch.deeds.contains(&Deed::Hang) {
                    draft = draft.timeout(TIMEOUT);
                }
                if !sketch.wants {
                    draft = draft.when("false");
                }
                draft.planned.on_failure = sketch.on_failure;
                let edge = |(from, strictness): &(usize, Strictness)| Edge {
                    from: name(*from).parse().expect("an id"),
                    strictness: *strictness,
                };
                draft.planned.needs = sketch.needs.iter().map(edge).collect();
                draft
            };
            scenario = match sketch.last {
                true => scenario.finally(&name(at), shape),
                false => scenario.step(&name(at), shape),
            };
        }
        for (at_ms, level) in &self.cancels {
            scenario = scenario.cancel(Duration::from_millis(*at_ms), *level);
        }
        if let Some(until_ms) = self.foreign_ms {
            scenario.locks.taken_by("tape", "20260101-000000-ffffff", Duration::from_millis(until_ms));
        }
        let jumps = self.jumps.iter().map(|(at_ms, by)| (Duration::from_millis(*at_ms), *by));
        scenario.world.clock.set_wall_by(jumps.collect());
        scenario
    }
}

impl Kind {
    fn action(self) -> &'static str {
        match self {
            Self::Once => "fake.once",
            Self::Again => "fake.again",
            Self::Kept => "fake.kept",
        }
    }
}

impl Deed {
    fn act(self) -> Act {
        match self {
            Self::Succeed => Act::Succeed,
            Self::Take(ms) => Act::Take(Duration::from_millis(ms)),
            Self::Retryable => Act::Retryable,
            Self::Fatal => Act::Fatal,
            Self::Unknown => Act::Unknown,
            Self::Hang => Act::Hang,
        }
    }
}

/// A failing case is read, not decoded.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at most {} at a time", self.parallel)?;
        for (at, step) in self.steps.iter().enumerate() {
            let Sketch { needs, kind, deeds, on_failure, tries, locks, reliefs, .. } = step;
            let section = if step.last { "finally" } else { "body" };
            let when = if step.wants { "" } else { ", when false" };
            let needs: Vec<String> = needs.iter().map(|(from, how)| format!("{} {how:?}", name(*from))).collect();
            writeln!(
                f,
                "{section} {}: needs {needs:?}{when}, {kind:?} does {deeds:?} at most {tries} times, {on_failure:?}, \
                 locks {locks:?}, operator says {reliefs:?}",
                name(at)
            )?;
        }
        writeln!(f, "cancels (ms) {:?}, wall clock set (ms, s) {:?}", self.cancels, self.jumps)?;
        write!(f, "engines die (events, durable) {:?}, `tape` is taken until {:?}", self.cuts, self.foreign_ms)
    }
}
