//! What it costs to start: `check`, and the commands that PostgreSQL calls for every segment of its WAL.
//!
//! `cargo bench --bench start -- [FOLDER]`; the folder decides which disk the segments are archived on.

mod measure;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use measure::{Times, quiet, runbook, timed, timed_ending, write};

/// How often each is started, taking turns.
const TURNS: usize = 41;
/// Segments that are archived and fetched.
const SEGMENTS: usize = 15;
const SEGMENT_BYTES: usize = 16 << 20;
/// The code of a fetch that was called in a wrong way.
const UNUSABLE: i32 = 126;

fn main() {
    let folder =
        std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(&folder).expect("the folder is writable");
    println!("start, {}, {TURNS} turns in {}; median (fastest–slowest)", measure::build(), folder.display());
    starts(dir.path());
    segments(dir.path());
}

fn starts(dir: &Path) {
    let file = dir.join("twenty.yaml");
    write(&file, &twenty());
    let file = file.display().to_string();
    let config = configure(dir);
    let history = dir.join("00000002.history").display().to_string();
    write(Path::new(&history), "1\t0/3000000\tno recovery target specified\n");
    timed(wal(&["push", "--config", &config, &history]));
    let target = dir.join("history").display().to_string();
    let (mut bare, mut check, mut start, mut fetch) = (Times::new(), Times::new(), Times::new(), Times::new());
    for _ in 0..TURNS {
        bare.add(timed(quiet("true")));
        check.add(timed(runbook(dir, &["check", &file])));
        start.add(timed_ending(wal(&["fetch"]), UNUSABLE));
        fetch.add(timed(wal(&["fetch", "--config", &config, "00000002.history", &target])));
        std::fs::remove_file(&target).expect("removes");
    }
    println!("{bare}  `true`: what any process costs here");
    println!("{check}  `runbook check` on a file of 20 steps (goal 15)");
    println!("{start}  `runbook wal fetch` without arguments: the start alone (goal 10)");
    println!("{fetch}  `runbook wal fetch` of a history file: found, verified, durable");
}

fn segments(dir: &Path) {
    let config = configure(dir);
    let (mut bare, mut push, mut fetch) = (Times::new(), Times::new(), Times::new());
    for number in 1..=SEGMENTS {
        let name = format!("0000000100000000{number:08X}");
        let (path, target) = (dir.join(&name), dir.join("fetched"));
        let copy = dir.join("copy");
        segment(&path, number);
        let shown = |path: &Path| path.display().to_string();
        let mut plain = quiet("sh");
        plain.args(["-c", r#"cp "$1" "$2" && sync "$2""#, "sh", &shown(&path), &shown(&copy)]);
        bare.add(timed(plain));
        push.add(timed(wal(&["push", "--config", &config, &shown(&path)])));
        fetch.add(timed(wal(&["fetch", "--config", &config, &name, &shown(&target)])));
        for path in [path, target, copy] {
            std::fs::remove_file(path).expect("removes");
        }
    }
    println!("{bare}  `cp` and `sync` of a segment of 16 MiB");
    println!("{push}  `runbook wal push` of it: hashed, stored, durable, recorded");
    println!("{fetch}  `runbook wal fetch` of it: verified, durable");
}

fn wal(args: &[&str]) -> std::process::Command {
    let mut command = quiet(measure::RUNBOOK);
    command.arg("wal").args(args);
    command
}

fn configure(dir: &Path) -> String {
    let (store, config) = (dir.join("store"), dir.join("wal.yaml"));
    if !store.is_dir() {
        std::fs::create_dir(&store).expect("the folder is writable");
        write(&config, &format!("store: file://{}\nprefix: app\nsystem_id: 7000000000000000001\n", store.display()));
        let config = config.display().to_string();
        timed(wal(&["init", "--config", &config]));
    }
    config.display().to_string()
}

/// A segment with a valid first page header and bytes that do not compress.
fn segment(path: &Path, number: usize) {
    let mut bytes = Vec::with_capacity(SEGMENT_BYTES);
    let start = (number * SEGMENT_BYTES) as u64;
    bytes.extend_from_slice(&0xD110_u16.to_le_bytes());
    bytes.extend_from_slice(&2_u16.to_le_bytes());
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&7_000_000_000_000_000_001_u64.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(SEGMENT_BYTES).expect("fits").to_le_bytes());
    bytes.extend_from_slice(&8192_u32.to_le_bytes());
    let mut noise = start | 1;
    while bytes.len() < SEGMENT_BYTES {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        bytes.extend_from_slice(&noise.to_le_bytes());
    }
    File::create(path).and_then(|mut file| file.write_all(&bytes)).expect("writes");
}

/// Twenty steps of several actions, with parameters, templates and edges.
fn twenty() -> String {
    let mut text = String::from(
        "version: 1\nname: twenty\ndescription: Twenty steps of several kinds.\nparams:\n  who: { type: string, \
         default: world, description: Whom to greet. }\nsteps:\n",
    );
    for number in 0..5 {
        let needs = if number == 0 { String::new() } else { format!("    needs: [last_{}]\n", number - 1) };
        text.push_str(&format!(
            "  - id: greet_{number}\n{needs}    run: echo \"$WHO\"\n    env: {{ WHO: \"{{{{ params.who }}}}\" }}\n    \
             effect: none\n  - id: list_{number}\n    uses: exec\n    with: {{ argv: [ls, -l, /tmp] }}\n    timeout: \
             30s\n  - id: wait_{number}\n    uses: wait\n    with: {{ file: /etc/hostname, within: 5s }}\n    retry: {{ \
             max_attempts: 3, delay: 1s }}\n  - id: last_{number}\n    when: steps.greet_{number}.exit_code == 0\n    \
             needs: [greet_{number}, wait_{number}]\n    run: echo done\n    effect: none\n"
        ));
    }
    text
}
