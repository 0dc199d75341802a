//! Runs programs to their end and tells how long they took.

#![expect(clippy::disallowed_methods, reason = "a benchmark starts the programs it compares and writes their inputs")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use runbook::base::clock;

/// The program that is measured, of the profile the benchmark was built with.
pub const RUNBOOK: &str = env!("CARGO_BIN_EXE_runbook");

/// How long each of several equal runs took.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort();
    }

    /// The middle one, in milliseconds.
    pub fn median_ms(&self) -> f64 {
        millis(self.0[self.0.len() / 2])
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (fastest, slowest) = (self.0.first(), self.0.last());
        let ends = fastest.zip(slowest).map(|(fastest, slowest)| (millis(*fastest), millis(*slowest)));
        let (fastest, slowest) = ends.unwrap_or_default();
        write!(out, "{:>9.2} ms ({fastest:.2}–{slowest:.2})", self.median_ms())
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Says what was built, so that nobody quotes a debug build.
pub fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug build: no figure to quote" } else { "release build" }
}

/// A command of the measured program with its history in `state`.
pub fn runbook(state: &Path, args: &[&str]) -> Command {
    let mut command = quiet(RUNBOOK);
    command.args(args).env("RUNBOOK_STATE", state);
    command
}

/// A command without input and output.
pub fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs a command to its end, which must be success, and gives the time it took.
pub fn timed(command: Command) -> Duration {
    timed_ending(command, 0)
}

/// Runs a command to its end, which must have this code, and gives the time it took.
pub fn timed_ending(mut command: Command, code: i32) -> Duration {
    let start = clock::monotonic();
    let status = command.status().expect("starts");
    let taken = start.elapsed();
    assert_eq!(status.code(), Some(code), "{command:?} ended with {status}");
    taken
}

/// Writes an input.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the folder is writable");
}
