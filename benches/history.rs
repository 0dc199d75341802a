//! What a long history costs: `runs`, `show last` and a run of one step with a thousand runs in the state folder.
//!
//! `cargo bench --bench history -- [FOLDER] [--runs N]`

mod measure;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use measure::{Times, runbook, timed, write};
use runbook::base::seal::seal;
use runbook::base::{Digest, EventSeq, RunId};
use runbook::event::{Event, EventKind};
use runbook::journal::chain::Chain;
use runbook::journal::ledger::{Anchor, LedgerLine};

/// How often each is measured.
const TURNS: usize = 10;
const RUNS: usize = 1000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = args.iter().position(|arg| arg == "--runs").and_then(|at| args.get(at + 1)?.parse().ok());
    let folder = args.first().filter(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(&folder).expect("the folder is writable");
    let file = dir.path().join("hello.yaml").display().to_string();
    write(
        Path::new(&file),
        "version: 1\nname: hello\nsteps:\n  - { id: hello, uses: exec, with: { argv: [\"true\"] } }\n",
    );
    timed(runbook(dir.path(), &["run", &file]));
    println!("history, {}, {TURNS} turns in {}; median (fastest–slowest)", measure::build(), folder.display());
    measured(dir.path(), &file, "one run");
    let number = number.unwrap_or(RUNS);
    fabricate(dir.path(), number);
    println!("{} once: the index of {number} runs is made", timed_once(dir.path()));
    measured(dir.path(), &file, &format!("{number} runs"));
}

fn timed_once(dir: &Path) -> Times {
    let mut times = Times::new();
    times.add(timed(runbook(dir, &["runs"])));
    times
}

fn measured(dir: &Path, file: &str, what: &str) {
    let (mut runs, mut show, mut run) = (Times::new(), Times::new(), Times::new());
    for _ in 0..TURNS {
        run.add(timed(runbook(dir, &["run", file])));
        runs.add(timed(runbook(dir, &["runs"])));
        show.add(timed(runbook(dir, &["show", "last"])));
    }
    println!("{runs}  `runbook runs` with {what} (goal 50)");
    println!("{show}  `runbook show last` with {what} (goal 20)");
    println!("{run}  `runbook run` of one step with {what}");
}

/// Copies the only run under other names, each journal and the ledger chained anew.
fn fabricate(state: &Path, number: usize) {
    let folder = state.join("runs");
    let model = std::fs::read_dir(&folder).expect("runs").next().expect("a run").expect("a run").path();
    let plan = std::fs::read_to_string(model.join("plan.json")).expect("a plan");
    let journal = std::fs::read_to_string(model.join("journal.jsonl")).expect("a journal");
    let events: Vec<Event> = journal.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let old = events[0].run.to_string();
    let (mut ledger, mut n, mut head) = (String::new(), 0, Digest::of(b""));
    for index in 0..number {
        let run: RunId = format!("20200101-{:06}-{:06x}", index % 240_000, index).parse().expect("a run id");
        let plan = plan.replace(&old, run.as_str());
        let digest = Digest::of(plan.as_bytes());
        let dir = folder.join(run.as_str());
        for name in ["attempts", "blobs", "control"] {
            std::fs::create_dir_all(dir.join(name)).expect("creates");
        }
        write(&dir.join("plan.json"), &plan);
        write(&dir.join("lock"), "");
        let (text, seq, last) = journal_of(&events, &run, digest);
        write(&dir.join("journal.jsonl"), &text);
        let outcome = runbook::event::Outcome::Succeeded;
        let ends = [
            Anchor::Started { run: run.clone(), plan: digest },
            Anchor::Finished { run: run.clone(), seq, head: last, outcome },
        ];
        for anchor in ends {
            n += 1;
            let line = LedgerLine { n, at: events[0].at, prev: head, anchor };
            let (line, hash) = seal(serde_json::to_vec(&line).expect("serializes"));
            head = hash;
            ledger.push_str(std::str::from_utf8(&line).expect("text"));
        }
    }
    write(&state.join("ledger.jsonl"), &ledger);
}

fn journal_of(events: &[Event], run: &RunId, plan: Digest) -> (String, EventSeq, Digest) {
    let mut chain = Chain::start(run.clone(), plan);
    let mut text = String::new();
    for event in events {
        let mut kind = event.kind.clone();
        if let EventKind::RunStarted(header) = &mut kind {
            header.plan = plan;
        }
        let linked = chain.link(event.at, kind).expect("serializes");
        write!(text, "{}", String::from_utf8_lossy(&linked.line)).expect("writes");
    }
    (text, chain.seq(), chain.head())
}
