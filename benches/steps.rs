//! What a step costs that does nothing: against GNU make with the same graph, in the same run, with durability on.
//!
//! `cargo bench --bench steps -- [FOLDER] [--steps N] [--turns N]`; the folder decides which disk holds the journal.

mod measure;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use measure::{Times, quiet, runbook, timed, write};
use runbook::base::clock;

/// Steps of one layer; each needs every step of the layer before.
const WIDTH: usize = 10;
/// How many run at once, on both sides.
const PARALLEL: usize = 4;
/// How often the bare disk is measured.
const SYNCS: usize = 101;
/// The goal for 1000 steps.
const GOAL: f64 = 2.5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Sequence,
    Parallel,
    Layers,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Sequence, Self::Parallel, Self::Layers];

    fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Parallel => "parallel",
            Self::Layers => "layers of 10",
        }
    }

    fn needs(self, step: usize) -> std::ops::Range<usize> {
        match self {
            Self::Sequence => step.saturating_sub(1)..step,
            Self::Parallel => 0..0,
            Self::Layers => {
                let layer = step / WIDTH * WIDTH;
                layer.saturating_sub(WIDTH)..layer
            }
        }
    }
}

/// How a step says that nothing is to be done.
#[derive(Clone, Copy)]
enum Kind {
    Shell,
    Exec,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Exec, Self::Shell];

    /// As a runbook and as a recipe: make starts a plain command itself and anything with a `;` through the shell.
    fn forms(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Shell => ("run: \"true\"", "@:; true", "shell"),
            Self::Exec => ("uses: exec\n    with: { argv: [\"true\"] }", "@true", "exec"),
        }
    }
}

struct Options {
    folder: PathBuf,
    steps: Vec<usize>,
    turns: usize,
}

fn options() -> Options {
    let mut options = Options { folder: std::env::temp_dir(), steps: vec![100, 1000], turns: 5 };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok()).expect("a number follows");
        match arg.as_str() {
            "--steps" => options.steps = vec![number()],
            "--turns" => options.turns = number(),
            _ => options.folder = PathBuf::from(arg),
        }
    }
    options
}

fn main() {
    let options = options();
    let (turns, folder) = (options.turns, &options.folder);
    let dir = tempfile::tempdir_in(folder).expect("the folder is writable");
    println!("steps, {}, {turns} turns in {}; median (fastest–slowest)", measure::build(), folder.display());
    println!("runbook: every attempt supervised, the journal synced before it; make: nothing is kept");
    println!("{}  one append and fdatasync here, which every step in sequence waits for", bare_sync(dir.path()));
    for steps in options.steps {
        for shape in Shape::ALL {
            for kind in Kind::ALL {
                compare(&Case { dir: dir.path(), shape, kind, steps }, turns);
            }
        }
    }
    growth(dir.path());
}

/// What the disk takes for as many bytes as a step adds to the journal.
fn bare_sync(dir: &Path) -> Times {
    let path = dir.join("bare");
    let mut file = File::create(&path).expect("the folder is writable");
    let mut times = Times::new();
    for _ in 0..SYNCS {
        let start = clock::monotonic();
        file.write_all(&[b'x'; 1000]).and_then(|()| file.sync_data()).expect("writes");
        times.add(start.elapsed());
    }
    times
}

struct Case<'a> {
    dir: &'a Path,
    shape: Shape,
    kind: Kind,
    steps: usize,
}

fn compare(case: &Case<'_>, turns: usize) {
    let (file, makefile) = case.write();
    let (mut ours, mut make) = (Times::new(), Times::new());
    for _ in 0..turns {
        ours.add(case.run(&file));
        make.add(timed(case.make(&makefile)));
    }
    let ratio = ours.median_ms() / make.median_ms();
    let per_step = ours.median_ms() / case.steps as f64;
    let goal = if ratio <= GOAL { "" } else { "  (goal missed: 2.5)" };
    let (what, kind) = (case.shape.name(), case.kind.forms().2);
    let label = format!("{} × {kind}, {what}", case.steps);
    println!("{label:<28} runbook {ours}, {per_step:.2} per step; make {make}; ratio {ratio:.2}{goal}");
}

impl Case<'_> {
    fn write(&self) -> (PathBuf, PathBuf) {
        let (ours, make) = (self.dir.join("bench.yaml"), self.dir.join("Makefile"));
        let (step, recipe, _) = self.kind.forms();
        let mut runbook = String::from("version: 1\nname: bench\ndescription: Steps that do nothing.\nsteps:\n");
        let mut rules = String::from(".PHONY: all\nall:");
        (0..self.steps).for_each(|number| add(&mut rules, format_args!(" s{number}")));
        rules.push('\n');
        for number in 0..self.steps {
            let needs: Vec<String> = self.shape.needs(number).map(|need| format!("s{need}")).collect();
            let listed = needs.join(", ");
            add(&mut runbook, format_args!("  - id: s{number}\n    needs: [{listed}]\n    effect: none\n    {step}\n"));
            add(&mut rules, format_args!(".PHONY: s{number}\ns{number}: {}\n\t{recipe}\n", needs.join(" ")));
        }
        write(&ours, &runbook);
        write(&make, &rules);
        (ours, make)
    }

    fn command(&self, file: &Path, state: &Path) -> Command {
        let (file, parallel) = (file.display().to_string(), PARALLEL.to_string());
        runbook(state, &["run", &file, "--max-parallel", &parallel])
    }

    fn run(&self, file: &Path) -> Duration {
        let state = tempfile::tempdir_in(self.dir).expect("the folder is writable");
        timed(self.command(file, state.path()))
    }

    fn make(&self, makefile: &Path) -> Command {
        let mut command = quiet("make");
        command.args(["-s", "-j", &PARALLEL.to_string(), "-f"]).arg(makefile).env_remove("MAKEFLAGS");
        command
    }
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a text takes everything");
}

/// Time, memory and syncs as the number of steps grows.
fn growth(dir: &Path) {
    println!("growth, exec in sequence: time, peak memory of the engine, syncs");
    for steps in [100, 1000, 10_000] {
        let case = Case { dir, shape: Shape::Sequence, kind: Kind::Exec, steps };
        let (file, _) = case.write();
        let taken = case.run(&file).as_secs_f64() * 1e3;
        let memory = peak(&case, &file);
        let syncs = if steps > 1000 { None } else { syncs(&case, &file) };
        let syncs = syncs.map_or("syncs not counted".to_owned(), |syncs| {
            format!("{syncs} syncs, {:.3} per step", syncs as f64 / steps as f64)
        });
        let per_step = taken / steps as f64;
        println!("{steps:>7} steps {taken:>9.1} ms, {per_step:.2} per step; {memory:.1} MiB; {syncs}");
    }
}

/// The high-water mark of the engine's memory, looked at every millisecond until it has ended.
fn peak(case: &Case<'_>, file: &Path) -> f64 {
    let state = tempfile::tempdir_in(case.dir).expect("the folder is writable");
    let mut child = case.command(file, state.path()).spawn().expect("starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0_u32;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(peak_kib).max(peak_kib);
        std::thread::sleep(Duration::from_millis(1));
    }
    f64::from(peak_kib) / 1024.0
}

/// Counts the system calls that make something durable, of the engine and everything it starts; needs `strace`.
fn syncs(case: &Case<'_>, file: &Path) -> Option<usize> {
    let state = tempfile::tempdir_in(case.dir).expect("the folder is writable");
    let (trace, ours) = (state.path().join("trace"), case.command(file, state.path()));
    let mut command = quiet("strace");
    command.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range", "-o"]).arg(&trace);
    command.arg(ours.get_program()).args(ours.get_args()).env("RUNBOOK_STATE", state.path());
    command.status().ok().filter(std::process::ExitStatus::success)?;
    let text = std::fs::read_to_string(&trace).ok()?;
    Some(text.lines().filter(|line| line.contains("sync") && !line.contains("resumed")).count())
}
