//! Programs under supervisors: trees, ties, caps, secrets, adoption.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use runbook::action::{CommandSpec, Fate, HostError, Tie};

use crate::support::host::{Bench, end, is_alive, text, until};

/// A grandchild in its own session whose parents are gone, deaf to TERM; its number goes to `deep`.
const DAEMONIZE: &str = "(setsid bash -c 'trap \"\" TERM; echo $BASHPID > deep.new; mv deep.new deep; exec sleep 1000' \
     >/dev/null 2>&1 &) ";

#[tokio::test]
async fn a_program_gets_its_arguments_environment_input_and_folder() {
    let bench = Bench::new();
    let mut spec = bench.bash("cat; echo $X $1; pwd; echo oops >&2; exit 3").args(["zero", "a b"]).env("X", "from env");
    spec.stdin = b"input\n".to_vec();
    let output = bench.host().run(spec, Tie::Engine).await.unwrap();
    let dir = bench.dir.path().canonicalize().unwrap();
    assert_eq!(text(&output), format!("input\nfrom env a b\n{}\n", dir.display()));
    assert_eq!((output.exit_code, output.stderr.as_slice()), (Some(3), b"oops\n".as_slice()));
    assert_eq!(output.tail(1), ["oops"]);
    assert!(bench.lines.0.lock().unwrap().contains(&"from env a b".to_owned()));
}

#[tokio::test]
async fn a_large_input_and_a_large_output_do_not_wait_for_each_other() {
    let bench = Bench::new();
    let mut spec = CommandSpec::new("cat");
    spec.stdin = vec![b'x'; 1_500_000];
    let output = bench.host().run(spec, Tie::Engine).await.unwrap();
    assert_eq!((output.stdout.len(), output.stdout_cut), (1_500_000, 0));
}

#[tokio::test]
async fn a_clean_environment_holds_nothing_but_the_search_path() {
    let bench = Bench::new();
    let mut spec = CommandSpec::new("env").env("ONLY", "this");
    spec.inherit_env = false;
    let output = bench.host().run(spec, Tie::Engine).await.unwrap();
    let names: Vec<&str> = text(&output).lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(
        BTreeMap::from_iter(names.into_iter().map(|n| (n, ()))).into_keys().collect::<Vec<_>>(),
        ["ONLY", "PATH"]
    );
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_an_error_and_recorded() {
    let bench = Bench::new();
    let result = bench.host().run(CommandSpec::new("/no/such/program"), Tie::Attempt).await;
    assert!(matches!(&result, Err(HostError::Spawn { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    let fate = bench.reader().fate(&bench.attempt()).unwrap();
    assert!(matches!(fate, Fate::Ended(Err(HostError::Spawn { .. }))), "{fate:?}");
}

#[tokio::test]
async fn a_signal_that_ended_the_program_is_told() {
    let bench = Bench::new();
    let output = bench.host().run(bench.bash("kill -SEGV $$"), Tie::Engine).await.unwrap();
    assert_eq!((output.exit_code, output.signal), (None, Some(11)));
}

#[tokio::test]
async fn a_cancel_ends_even_what_daemonized_and_ignores_term() {
    let bench = Bench::new().grace(200);
    let (host, script) = (bench.host(), format!("{DAEMONIZE}; sleep 1000"));
    let run = host.run(bench.bash(&script), Tie::Attempt);
    let cancel = async {
        let pid = bench.pid("deep").await;
        bench.cancel.cancel();
        pid
    };
    let (result, pid) = tokio::join!(run, cancel);
    assert!(matches!(result, Err(HostError::Cancelled { confirmed: true, .. })), "{result:?}");
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_program_may_use_the_grace_to_clean_up() {
    let bench = Bench::new();
    let script = "trap 'echo cleaned > cleaned; exit 0' TERM; echo $$ > pid; sleep 1000 & wait";
    let (host, run) = (bench.host(), bench.bash(script));
    let cancel = async {
        bench.pid("pid").await;
        bench.cancel.cancel();
    };
    let (result, ()) = tokio::join!(host.run(run, Tie::Engine), cancel);
    assert!(matches!(result, Err(HostError::Cancelled { confirmed: true, .. })), "{result:?}");
    assert!(bench.path("cleaned").exists());
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_grace() {
    let bench = Bench::new().grace(600_000);
    let (host, script) = (bench.host(), format!("trap '' TERM; {DAEMONIZE}; while :; do sleep 1000; done"));
    let run = host.run(bench.bash(&script), Tie::Engine);
    let cancel = async {
        let pid = bench.pid("deep").await;
        bench.cancel.cancel();
        bench.kill.cancel();
        pid
    };
    let (result, pid) = tokio::join!(run, cancel);
    assert!(matches!(result, Err(HostError::Cancelled { confirmed: true, .. })), "{result:?}");
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_program_that_runs_too_long_is_ended_with_its_tree() {
    let bench = Bench::new().grace(100);
    let mut spec = bench.bash(&format!("{DAEMONIZE}; sleep 1000"));
    spec.timeout = Some(Duration::from_millis(700));
    let result = bench.host().run(spec, Tie::Engine).await;
    assert!(matches!(&result, Err(HostError::Timeout { limit, .. }) if limit.as_millis() == 700), "{result:?}");
    if let Ok(pid) = std::fs::read_to_string(bench.path("deep")) {
        assert!(!is_alive(pid.trim().parse().unwrap()));
    }
}

#[tokio::test]
async fn a_failed_program_leaves_nothing_behind() {
    let bench = Bench::new().grace(100);
    let script = format!("{DAEMONIZE}; until [ -e deep ]; do :; done; exit 7");
    let output = bench.host().run(bench.bash(&script), Tie::Engine).await.unwrap();
    assert_eq!(output.exit_code, Some(7));
    assert!(output.survivors.is_empty());
    assert!(!is_alive(bench.pid("deep").await));
}

#[tokio::test]
async fn after_success_survivors_are_left_alone_and_recorded() {
    let bench = Bench::new();
    let script = format!("{DAEMONIZE}; until [ -e deep ]; do :; done");
    let output = bench.host().run(bench.bash(&script), Tie::Attempt).await.unwrap();
    let pid = bench.pid("deep").await;
    assert!(output.success() && output.survivors.contains(&pid), "{output:?}");
    assert!(is_alive(pid));
    for survivor in output.survivors {
        end(survivor);
    }
}

#[tokio::test]
async fn a_probe_leaves_nothing_behind_even_after_success() {
    let bench = Bench::new().grace(100);
    let script = format!("{DAEMONIZE}; until [ -e deep ]; do :; done");
    let output = bench.reader().probe(bench.bash(&script)).await.unwrap();
    assert!(output.success());
    assert!(!is_alive(bench.pid("deep").await));
}

#[tokio::test]
async fn a_daemon_outlives_success_failure_and_cancel_of_what_started_it() {
    for (ending, cancelled) in [("exit 0", false), ("exit 1", false), ("sleep 1000", true)] {
        let bench = Bench::new().grace(100);
        let script = format!("{DAEMONIZE}; until [ -e deep ]; do :; done; {ending}");
        let host = bench.host();
        let cancel = async {
            let pid = bench.pid("deep").await;
            if cancelled {
                bench.cancel.cancel();
            }
            pid
        };
        let (result, pid) = tokio::join!(host.start_daemon(bench.bash(&script)), cancel);
        assert_eq!(result.is_err(), cancelled, "{result:?}");
        assert!(is_alive(pid), "{ending}");
        end(pid);
    }
}

#[tokio::test]
async fn output_is_capped_and_the_cut_is_counted() {
    let bench = Bench::new();
    let output = bench.host().run(bench.bash("seq -f %09.0f 1 500000"), Tie::Attempt).await.unwrap();
    assert_eq!(output.stdout_cut, 5_000_000 - (2 << 20));
    assert!(output.stdout.starts_with(b"000000001\n") && output.stdout.ends_with(b"000500000\n"));
    assert_eq!(std::fs::read(bench.attempt().join("stdout")).unwrap(), output.stdout);
}

#[tokio::test]
async fn a_secret_written_in_pieces_reaches_neither_files_nor_progress() {
    let bench = Bench::new().secret("correct-horse-battery");
    let script =
        "printf 'correct-'; printf 'horse-' ; printf 'battery\\n'; printf %s \"$PW\" | base64; echo \"$PW\" >&2";
    let spec = bench.bash(script).env("PW", "correct-horse-battery");
    let output = bench.host().run(spec, Tie::Attempt).await.unwrap();
    assert!(text(&output).starts_with("***\n***"), "{}", text(&output));
    assert_eq!(output.stderr, b"***\n");
    for entry in std::fs::read_dir(bench.attempt()).unwrap() {
        let kept = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!kept.contains("horse"), "{kept}");
    }
    assert!(bench.lines.0.lock().unwrap().iter().all(|line| !line.contains("horse")));
}

#[tokio::test]
async fn secrets_stand_neither_in_arguments_nor_in_the_environment_of_the_supervisor() {
    let bench = Bench::new();
    let script = "cat /proc/$PPID/environ /proc/$PPID/cmdline | tr '\\0' '\\n' | grep -c top-secret-value";
    let output = bench.host().run(bench.bash(script).env("PW", "top-secret-value"), Tie::Engine).await.unwrap();
    assert_eq!((output.exit_code, text(&output)), (Some(1), "0\n"));
}

#[tokio::test]
async fn a_program_tied_to_the_engine_ends_with_it() {
    let bench = Bench::new().grace(100);
    let (host, script) = (bench.host(), format!("{DAEMONIZE}; sleep 1000"));
    let pid = tokio::select! {
        result = host.run(bench.bash(&script), Tie::Engine) => panic!("ended by itself: {result:?}"),
        pid = bench.pid("deep") => pid,
    };
    until(|| (!is_alive(pid)).then_some(())).await;
}

/// Starts a program tied to the attempt and drops the engine's end of it.
async fn abandoned(bench: &Bench, script: &str) -> u32 {
    let host = bench.host();
    tokio::select! {
        result = host.run(bench.bash(script), Tie::Attempt) => panic!("ended by itself: {result:?}"),
        pid = bench.pid("pid") => pid,
    }
}

const UNTIL_TOLD: &str = "echo $$ > pid.new; mv pid.new pid; until [ -e go ]; do read -t 0.01 <> <(:); done; echo late";

#[tokio::test]
async fn a_program_tied_to_its_attempt_outlives_the_engine_and_is_adopted() {
    let bench = Bench::new();
    let pid = abandoned(&bench, UNTIL_TOLD).await;
    assert!(matches!(bench.reader().fate(&bench.attempt()).unwrap(), Fate::Running));
    assert!(is_alive(pid));
    let host = bench.host();
    let dir = bench.attempt();
    let go = async { std::fs::write(bench.path("go"), "").unwrap() };
    let (result, ()) = tokio::join!(host.adopt(&dir), go);
    let output = result.unwrap();
    assert_eq!((output.exit_code, text(&output)), (Some(0), "late\n"));
    assert_eq!(*bench.lines.0.lock().unwrap(), ["late"], "what it writes from now on is progress again");
    let again = bench.reader().fate(&bench.attempt()).unwrap();
    assert!(matches!(again, Fate::Ended(Ok(found)) if found == output));
}

#[tokio::test]
async fn an_adopted_program_can_be_cancelled_with_its_tree() {
    let bench = Bench::new().grace(100);
    let script = format!("{DAEMONIZE}; until [ -e deep ]; do :; done; echo $$ > pid; sleep 1000");
    let pid = abandoned(&bench, &script).await;
    let deep = bench.pid("deep").await;
    bench.cancel.cancel();
    let result = bench.host().adopt(&bench.attempt()).await;
    assert!(matches!(result, Err(HostError::Cancelled { confirmed: true, .. })), "{result:?}");
    assert!(!is_alive(pid) && !is_alive(deep));
}

#[tokio::test]
async fn an_attempt_starts_one_program_only() {
    let bench = Bench::new();
    bench.host().run(bench.bash("echo one >> ran"), Tie::Attempt).await.unwrap();
    let second = bench.host().run(bench.bash("echo two >> ran"), Tie::Attempt).await;
    assert!(
        matches!(&second, Err(HostError::Spawn { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists)
    );
    assert_eq!(std::fs::read_to_string(bench.path("ran")).unwrap(), "one\n");
}

#[tokio::test]
async fn an_attempt_judged_never_started_never_starts() {
    let bench = Bench::new();
    for _ in 0..2 {
        assert!(matches!(bench.reader().fate(&bench.attempt()).unwrap(), Fate::NeverStarted));
    }
    let late = bench.host().run(bench.bash("echo ran > ran"), Tie::Attempt).await;
    assert!(late.is_err());
    assert!(!bench.path("ran").exists());
}

#[tokio::test]
async fn what_a_program_of_an_action_wrote_as_errors_is_kept_for_the_logs_without_secrets() {
    let bench = Bench::new().secret("top-secret-value");
    let host = bench.host();
    for word in ["first", "second"] {
        let script = format!("echo {word} $PW >&2; echo data");
        host.run(bench.bash(&script).env("PW", "top-secret-value"), Tie::Engine).await.unwrap();
    }
    let kept = |name: &str| std::fs::read_to_string(bench.attempt().join(name)).unwrap();
    assert_eq!((kept("1-bash.stderr"), kept("2-bash.stderr")), ("first ***\n".to_owned(), "second ***\n".to_owned()));
}

#[tokio::test]
async fn a_supervisor_that_was_killed_is_told_from_one_that_ended() {
    let bench = Bench::new();
    let pid = abandoned(&bench, UNTIL_TOLD).await;
    end(supervisor_of(&bench.attempt()));
    let fate = until(|| match bench.reader().fate(&bench.attempt()).unwrap() {
        Fate::Running => None,
        other => Some(other),
    })
    .await;
    assert!(matches!(&fate, Fate::Unwatched { why } if why.contains(&pid.to_string())), "{fate:?}");
    end(pid);
    assert!(matches!(bench.host().adopt(&bench.attempt()).await, Err(HostError::Lost { .. })));
}

fn supervisor_of(attempt: &Path) -> u32 {
    let identity = std::fs::read(attempt.join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
    u32::try_from(identity["supervisor"]["pid"].as_u64().unwrap()).unwrap()
}

#[tokio::test]
async fn interrupts_meant_for_the_engine_do_not_reach_a_program() {
    use rustix::process::{Pid, Signal, kill_process};
    let bench = Bench::new();
    abandoned(&bench, UNTIL_TOLD).await;
    let supervisor = Pid::from_raw(i32::try_from(supervisor_of(&bench.attempt())).unwrap()).unwrap();
    for signal in [Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(supervisor, signal).unwrap();
    }
    std::fs::write(bench.path("go"), "").unwrap();
    let output = bench.host().adopt(&bench.attempt()).await.unwrap();
    assert_eq!(text(&output), "late\n");
}

#[tokio::test]
async fn root_becomes_the_user_with_all_groups_and_anybody_else_is_refused() {
    let bench = Bench::new();
    let host = bench.host();
    let mut spec = CommandSpec::new("bash").args(["-c", "id -u; id -g; id -G; echo $USER $HOME; pwd"]);
    if bench.reader().effective_uid() != 0 {
        spec.user = Some("root".to_owned());
        let refused = host.run(spec, Tie::Engine).await;
        assert!(
            matches!(&refused, Err(HostError::Spawn { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied)
        );
        return;
    }
    // The server's own user has a second group on many machines.
    let known = |name: &&str| bench.reader().user(name).unwrap().is_some();
    let name = ["postgres", "nobody"].into_iter().find(known).unwrap();
    spec.user = Some(name.to_owned());
    let output = host.run(spec, Tie::Engine).await.unwrap();
    let expected =
        host.run(bench.bash(&format!("id -u {name}; id -g {name}; id -G {name}")), Tie::Engine).await.unwrap();
    assert!(text(&output).starts_with(text(&expected)), "{} {}", text(&output), text(&expected));
    assert!(text(&output).lines().nth(3).unwrap().starts_with(&format!("{name} /")));
    assert_eq!(text(&output).lines().nth(4), Some("/"), "the engine's own folder may be closed to another user");
}

#[tokio::test]
async fn a_program_the_user_cannot_start_ends_as_in_a_shell() {
    let bench = Bench::new();
    let mut spec = CommandSpec::new("/no/such/program");
    spec.user = Some("nobody".to_owned());
    let result = bench.host().run(spec, Tie::Engine).await;
    if bench.reader().effective_uid() == 0 {
        let output = result.unwrap();
        assert_eq!(output.exit_code, Some(127));
        assert!(output.tail(1)[0].contains("cannot start `/no/such/program`"), "{output:?}");
    } else {
        assert!(result.is_err());
    }
}

#[tokio::test]
async fn an_unknown_user_is_refused_before_anything_starts() {
    let bench = Bench::new();
    let mut spec = bench.bash("echo ran > ran");
    spec.user = Some("no-such-user-here".to_owned());
    let result = bench.host().run(spec, Tie::Attempt).await;
    assert!(matches!(result, Err(HostError::Spawn { .. })), "{result:?}");
    assert!(!bench.path("ran").exists());
}

#[tokio::test]
async fn a_survivor_that_goes_on_writing_does_not_die_of_it() {
    for tie in [Tie::Engine, Tie::Attempt] {
        let bench = Bench::new();
        let script = "(until [ -e go ]; do echo word; done; echo still here > said) & echo $! > pid";
        let output = bench.host().run(bench.bash(script), tie).await.unwrap();
        assert!(output.success() && !output.survivors.is_empty());
        std::fs::write(bench.path("go"), "").unwrap();
        until(|| std::fs::read_to_string(bench.path("said")).ok().filter(|said| said == "still here\n")).await;
        let pid = bench.pid("pid").await;
        until(|| (!is_alive(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn an_attempt_whose_folder_is_missing_starts_nothing() {
    let bench = Bench::new();
    let host = bench.host();
    std::fs::remove_dir(bench.attempt()).unwrap();
    let result = host.run(bench.bash("echo ran > ran"), Tie::Attempt).await;
    assert!(matches!(&result, Err(HostError::Spawn { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    assert!(!bench.path("ran").exists());
}

#[tokio::test]
async fn an_adopted_program_has_ended_though_a_survivor_holds_its_pipes() {
    let bench = Bench::new();
    let script = format!("sleep 1000 & echo $! > survivor; {UNTIL_TOLD}");
    abandoned(&bench, &script).await;
    let (host, dir) = (bench.host(), bench.attempt());
    let go = async { std::fs::write(bench.path("go"), "").unwrap() };
    let (result, ()) = tokio::join!(host.adopt(&dir), go);
    let survivor = bench.pid("survivor").await;
    assert_eq!(result.unwrap().survivors, [survivor]);
    end(survivor);
    let supervisor = supervisor_of(&dir);
    until(|| (!is_alive(supervisor)).then_some(())).await;
}
