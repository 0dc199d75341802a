//! Which face a run shows: live on a terminal, plain lines elsewhere, JSON lines for machines.

use std::io::IsTerminal as _;
use std::sync::Arc;

use super::wiring;
use crate::plan::BoundPlan;
use crate::port::Sink;
use crate::report::jsonl::JsonLines;
use crate::report::plain::PlainLines;
use crate::report::terminal::{Live, Stage};
use crate::report::{Palette, Tone};
use crate::state::RunState;

/// What a run writes where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// For people, on standard error.
    People,
    /// JSON lines on standard output.
    Json,
}

impl From<bool> for Face {
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::People }
    }
}

/// The colours of standard error.
pub fn palette() -> Palette {
    if std::io::stderr().is_terminal() && !no_color() { Palette::Ansi } else { Palette::Plain }
}

/// The colours of standard output.
pub fn out_palette() -> Palette {
    if std::io::stdout().is_terminal() && !no_color() { Palette::Ansi } else { Palette::Plain }
}

/// How many columns standard output shows; a hundred where it is no terminal.
pub fn columns() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => 100,
    }
}

fn no_color() -> bool {
    wiring::environment_variable("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The sinks of a run, `state` being what earlier events came to.
pub fn sinks(face: Face, plan: &Arc<BoundPlan>, state: RunState) -> Vec<Box<dyn Sink>> {
    match face {
        Face::Json => vec![Box::new(JsonLines::new(std::io::stdout()))],
        Face::People => vec![view(plan, state, &Stage::default())],
    }
}

/// What a person sees of a run: live on a terminal that can be drawn on, else lines. A dialogue may take the stage.
pub fn view(plan: &Arc<BoundPlan>, state: RunState, stage: &Stage) -> Box<dyn Sink> {
    if std::io::stderr().is_terminal() && !no_color() {
        return Box::new(Live::new(Arc::clone(plan), state, palette()).sharing(stage));
    }
    Box::new(PlainLines::new(std::io::stderr(), Arc::clone(plan), state, palette()))
}

/// Paints a word of a list.
pub fn paint(tone: Tone, text: &str) -> String {
    out_palette().paint(tone, text)
}
