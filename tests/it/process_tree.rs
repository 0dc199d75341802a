//! What a step may do to its processes, its pipes and its supervisor, through the whole program.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use runbook::action::{HostError, Tie};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::cli::{Cli, Live, Ran, processes_of, until};
use crate::support::host::{Bench, end, is_alive, text};

/// Waits for the gate without a child of its own, two minutes at most.
const AT_THE_GATE: &str =
    "for _ in $(seq 12000); do if test -e gate; then break; fi; read -t 0.01 <> <(:) || true; done";

/// What a process of a step may use of memory, in KiB.
const BOUND_KIB: u64 = 96 << 10;

/// A run of one step, `keys` beside its script.
fn one_step(keys: &str, script: &str) -> Cli {
    let mut text = format!("version: 1\nname: tree\nsteps:\n  - id: a\n{keys}    run: |\n");
    for line in script.lines() {
        let _ = writeln!(text, "      {line}");
    }
    Cli::with(&text)
}

fn run(cli: &Cli) -> Live {
    cli.spawn(&["run", "runbook.yaml"])
}

/// Forks twice and leads a session of its own, so that neither parent nor group tells whose it is.
const DAEMON: &str = "(setsid bash -c 'echo $BASHPID >daemon.new; mv daemon.new daemon; exec sleep 300' \
     >/dev/null 2>&1 &)\nuntil test -e daemon; do read -t 0.01 <> <(:) || true; done";

fn pid(cli: &Cli, name: &str) -> u32 {
    until(name, || cli.read(name).ends_with('\n'));
    cli.read(name).trim().parse().unwrap()
}

/// The events of one type, as the journal has them.
fn events(cli: &Cli, kind: &str) -> Vec<Value> {
    let kinds = cli.journal().into_iter().map(|mut event| event["kind"].take());
    kinds.filter(|told| told["type"] == kind).collect()
}

#[test]
fn a_daemon_that_a_successful_step_leaves_is_named_in_the_journal_and_lives_on() {
    let cli = one_step("", DAEMON);
    run(&cli).wait().ends(0);
    let daemon = pid(&cli, "daemon");
    assert!(is_alive(daemon));
    let noted = events(&cli, "step_noted");
    let survivors = noted[0]["data"]["survivors"].as_array().unwrap();
    assert!(survivors.contains(&Value::from(daemon)), "{noted:?}");
    end(daemon);
}

#[test]
fn a_daemon_of_a_step_that_failed_or_took_too_long_or_was_cancelled_is_gone_when_the_step_ends() {
    let failed = one_step("", &format!("{DAEMON}\nexit 7"));
    let late = one_step("    timeout: 1s\n", &format!("{DAEMON}\n{AT_THE_GATE}"));
    let cancelled = one_step("", &format!("{DAEMON}\n{AT_THE_GATE}"));
    let live = [&failed, &late, &cancelled].map(run);
    let daemons = [&failed, &late, &cancelled].map(|cli| pid(cli, "daemon"));
    live[2].signal(Signal::INT);
    for (live, code) in live.into_iter().zip([10, 10, 12]) {
        live.wait().ends(code);
    }
    assert_eq!(daemons.map(is_alive), [false; 3]);
    assert_eq!(events(&cancelled, "step_cancelled")[0]["confirmed"], true);
}

#[tokio::test]
async fn what_ignores_term_has_the_whole_grace_and_no_more() {
    let bench = Bench::new().grace(1200);
    let script = "trap 'echo told >>told' TERM; trap '' INT HUP; echo $$ >pid; while :; do read -t 0.1 <> <(:); done";
    let (host, spec) = (bench.host(), bench.bash(script));
    let run = host.run(spec, Tie::Attempt);
    let cancel = async {
        let pid = bench.pid("pid").await;
        bench.cancel.cancel();
        (pid, Instant::now())
    };
    let (result, (pid, begin)) = tokio::join!(run, cancel);
    assert!(matches!(result, Err(HostError::Cancelled { confirmed: true, .. })), "{result:?}");
    assert!(begin.elapsed() >= Duration::from_millis(1200), "{:?}", begin.elapsed());
    assert!(!is_alive(pid));
    assert_eq!(fs::read_to_string(bench.path("told")).unwrap(), "told\n", "it is asked once");
}

#[tokio::test]
async fn one_full_stream_does_not_wait_for_the_other() {
    let bench = Bench::new();
    let script = "head -c 64M /dev/zero | tr '\\0' e >&2; echo done";
    let output = bench.host().run(bench.bash(script), Tie::Attempt).await.unwrap();
    assert_eq!((text(&output), output.stdout_cut), ("done\n", 0));
    assert_eq!(output.stderr_cut, (64 << 20) - (2 << 20));
}

#[tokio::test]
async fn a_program_that_closes_its_streams_early_is_waited_for_quietly() {
    let bench = Bench::new();
    let idle =
        "exec >&- 2>&-; read -t 0.5 <> <(:); read -r line </proc/$PPID/stat; echo \"${line##*) }\" >used; exit 3";
    let output = bench.host().run(bench.bash(idle), Tie::Attempt).await.unwrap();
    assert_eq!((output.exit_code, output.stdout.len(), output.stderr.len()), (Some(3), 0, 0));
    let used = fs::read_to_string(bench.path("used")).unwrap();
    let ticks: u64 = used.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    assert!(ticks < 20, "the supervisor span for {ticks} hundredths of a second");
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_of_a_failed_program_does_not_keep_its_end() {
    let bench = Bench::new();
    let script = "(setsid sleep 300 & echo $! >holder); exit 3";
    let output = bench.host().run(bench.bash(script), Tie::Attempt).await.unwrap();
    assert_eq!(output.exit_code, Some(3));
    assert!(!is_alive(bench.pid("holder").await));
}

#[test]
fn a_program_is_not_held_up_by_an_engine_that_stands_still() {
    let script = "touch began\nuntil test -e go; do read -t 0.01 <> <(:) || true; done\n\
         { yes word || true; } | head -c 64M >&2\n{ yes word || true; } | head -c 64M\ntouch written";
    let cli = one_step("", script);
    let live = run(&cli);
    until("the step begins", || cli.path("began").exists());
    live.signal(Signal::STOP);
    cli.file("go", "");
    until("everything is written", || cli.path("written").exists());
    live.signal(Signal::CONT);
    live.wait().ends(0);
}

/// The most memory a process has had so far, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn supervisor(cli: &Cli) -> u32 {
    let identity = fs::read(cli.only_run().join("attempts/a/1/identity.json")).unwrap();
    let identity: Value = serde_json::from_slice(&identity).unwrap();
    u32::try_from(identity["supervisor"]["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn a_gigabyte_of_output_is_kept_at_both_ends_in_bounded_memory() {
    let line = format!("{}\n", "y".repeat(99));
    let script = format!(
        "echo first\n{{ yes {} || true; }} | head -c 1000000000\necho last\ntouch written\n{AT_THE_GATE}",
        line.trim_end()
    );
    let cli = one_step("", &script);
    let begin = Instant::now();
    let live = run(&cli);
    until("a gigabyte is written", || cli.path("written").exists());
    let took = begin.elapsed();
    let peaks = [live.pid(), supervisor(&cli)].map(peak_kib);
    cli.file("gate", "");
    live.wait().ends(0);
    println!("1 GB in {took:?}; peak of engine and supervisor in KiB: {peaks:?}");
    assert!(peaks.iter().all(|peak| *peak < BOUND_KIB), "{peaks:?}");
    let kept = fs::read(cli.only_run().join("attempts/a/1/stdout")).unwrap();
    assert!(
        kept.starts_with(format!("first\n{line}").as_bytes()) && kept.ends_with(format!("{line}last\n").as_bytes())
    );
    let cut = 1_000_000_011 - (2 << 20);
    assert_eq!(kept.len(), (2 << 20) + format!("\n[{cut} bytes left out]\n").len());
}

#[test]
fn of_two_hundred_children_that_breed_when_they_are_told_to_end_none_is_left() {
    let script = format!(
        "for i in $(seq 200); do\n  bash -c 'trap \"(exec -a $PWD/young sleep 300) &\" TERM; touch \"child.$0\"\n    \
         while :; do read -t 1 <> <(:); done' \"$i\" \"$PWD\" &\ndone\n{AT_THE_GATE}"
    );
    let cli = one_step("", &script);
    let live = run(&cli);
    let children =
        || fs::read_dir(cli.path("")).unwrap().flatten().filter(|at| at.path().extension().is_some()).count();
    until("all children listen", || children() == 201);
    live.signal(Signal::INT);
    until("one was told and bred", || processes_of(&cli.path("young")).len() > 1);
    live.signal(Signal::INT);
    live.wait().ends(12);
    assert_eq!(events(&cli, "step_cancelled")[0]["confirmed"], true);
    assert_eq!(processes_of(&cli.path("")), [""; 0]);
}

#[test]
fn a_step_that_kills_its_own_supervisor_is_unknown_and_never_doubled() {
    let keys = "    retry: { max_attempts: 3, delay: 10ms }\n";
    let cli = one_step(
        keys,
        &format!("echo $$ >pid\necho ran >>effects\nkill -KILL $PPID\n{AT_THE_GATE}\necho late >>effects"),
    );
    let said: Ran = run(&cli).wait().ends(11);
    let child = pid(&cli, "pid");
    assert!(is_alive(child), "nobody may decide over what is not watched");
    assert!(said.err.contains(&child.to_string()) && said.err.contains("end what still runs"), "{}", said.err);
    assert_eq!((cli.status("a").as_str(), cli.read("effects").as_str()), ("unknown", "ran\n"));
    cli.file("gate", "");
    until("the child ends", || !is_alive(child));
    cli.run(&["resume", "last"]).ends(11);
    assert_eq!(cli.read("effects"), "ran\nlate\n");
}
