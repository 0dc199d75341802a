//! `exec`, `shell`, `notify.command`, `wait`, `assert`: with real processes, ports and files.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use runbook::action::{PlanContext, Recovery};
use runbook::event::ErrorClass;
use runbook::language::inventory::Inventory;
use serde_json::{Value, json};

use crate::support::host::{Bench, action, end};

async fn run(bench: &Bench, name: &str, with: Value) -> Result<Value, runbook::action::ActionError> {
    action(name).run(&with, &bench.run_context(Inventory::default())).await
}

#[tokio::test]
async fn exec_gives_what_the_program_wrote() {
    let bench = Bench::new().secret("hunter22");
    let argv = json!(["bash", "-c", "cat; echo $PW; echo $0 >&2", "a b"]);
    let output =
        run(&bench, "exec", json!({ "argv": argv, "env": { "PW": "hunter22" }, "stdin": "in\n" })).await.unwrap();
    assert_eq!(output, json!({ "exit_code": 0, "stdout": "in\n***", "stderr": "a b" }));
}

#[tokio::test]
async fn a_failed_program_gives_its_code_and_its_last_lines() {
    let bench = Bench::new();
    let error = run(&bench, "exec", json!({ "argv": ["bash", "-c", "echo why >&2; exit 4"] })).await.unwrap_err();
    let info = error.info();
    assert_eq!(
        (info.class, info.exit_code, info.output_tail.as_slice()),
        (ErrorClass::Retryable, Some(4), &["why".to_owned()][..])
    );
    assert_eq!(info.message, "`bash` ended with exit code 4");
}

#[tokio::test]
async fn a_script_is_strict_and_literal() {
    let bench = Bench::new();
    let script = "x=(a b c)\necho ${#x[@]} '{{ this }}' $V\n";
    let output = run(&bench, "shell", json!({ "script": script, "env": { "V": "v" } })).await.unwrap();
    assert_eq!(output["stdout"], "3 {{ this }} v");
    for broken in ["false\necho reached", "echo $UNSET_VARIABLE_HERE", "false | cat"] {
        let bench = Bench::new();
        let error = run(&bench, "shell", json!({ "script": broken })).await.unwrap_err();
        assert_eq!(error.info().exit_code, Some(1), "{broken}: {error}");
        assert_eq!(error.to_string(), "the script ended with exit code 1");
    }
}

#[tokio::test]
async fn an_interrupted_program_is_adopted_waited_for_or_run_again_by_what_became_of_it() {
    let exec = action("exec");
    let none = Inventory::default;
    let bench = Bench::new();
    let with = json!({ "argv": ["bash", "-c", "echo $$ > pid.new; mv pid.new pid; until [ -e go ]; do read -t 0.01 <> <(:); done; echo done"],
        "dir": bench.dir.path() });
    let cut = bench.interrupted();
    let before = Bench::new();
    let never = exec.recover(&with, &before.interrupted(), &before.check_context(none())).await.unwrap();
    assert_eq!(never, Recovery::Rerun);
    let context = bench.run_context(none());
    tokio::select! {
        result = exec.run(&with, &context) => panic!("ended by itself: {result:?}"),
        _ = bench.pid("pid") => {}
    }
    let running = exec.recover(&with, &cut, &bench.check_context(none())).await.unwrap();
    assert_eq!(running, Recovery::Reattach);
    std::fs::write(bench.path("go"), "").unwrap();
    let output = exec.reattach(&with, &cut, &bench.run_context(none())).await.unwrap();
    assert_eq!(output["stdout"], "done");
    let ended = exec.recover(&with, &cut, &bench.check_context(none())).await.unwrap();
    assert_eq!(ended, Recovery::Adopt(output));
}

#[tokio::test]
async fn declared_outputs_are_taken_when_the_program_ends_and_also_when_it_is_adopted() {
    let bench = Bench::new();
    let outputs = json!({ "version": { "regex": "v(\\S+)" }, "parts": "lines" });
    let with = json!({ "script": "echo v17.2", "outputs": outputs });
    let output = run(&bench, "shell", with.clone()).await.unwrap();
    assert_eq!((&output["version"], &output["parts"]), (&json!("17.2"), &json!(["v17.2"])));
    let cx = bench.check_context(Inventory::default());
    let found = action("shell").recover(&with, &bench.interrupted(), &cx).await;
    assert_eq!(found.unwrap(), Recovery::Adopt(output));
    let other = json!({ "script": "echo v17.2", "outputs": { "tree": "json" } });
    let found = action("shell").recover(&other, &bench.interrupted(), &cx).await;
    let Recovery::Failed(error) = found.unwrap() else { panic!("an output is missing") };
    assert_eq!(error.info().class, ErrorClass::Fatal);
    assert!(error.to_string().contains("`tree`"), "{error}");
}

#[tokio::test]
async fn an_interrupted_program_that_failed_meanwhile_has_failed() {
    let bench = Bench::new();
    let with = json!({ "argv": ["false"] });
    run(&bench, "exec", with.clone()).await.unwrap_err();
    let found = action("exec").recover(&with, &bench.interrupted(), &bench.check_context(Inventory::default())).await;
    assert!(matches!(found.unwrap(), Recovery::Failed(error) if error.info().exit_code == Some(1)));
}

fn zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_person_is_asked_when_the_supervisor_was_lost() {
    let bench = Bench::new();
    let with = json!({ "argv": ["bash", "-c", "echo $PPID > parent; echo $$ > pid.new; mv pid.new pid; exec sleep 1000"],
        "dir": bench.dir.path() });
    let pid = {
        let exec = action("exec");
        let context = bench.run_context(Inventory::default());
        let (result, pid) = tokio::join!(exec.run(&with, &context), async {
            let pid = bench.pid("pid").await;
            end(bench.pid("parent").await);
            pid
        });
        assert_eq!(result.unwrap_err().info().class, ErrorClass::Unknown);
        pid
    };
    let found = action("exec").recover(&with, &bench.interrupted(), &bench.check_context(Inventory::default())).await;
    assert!(matches!(found.unwrap(), Recovery::Unwatched { why } if why.contains(&pid.to_string())));
    end(pid);
    let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists() || zombie(pid);
    while !gone() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let found = action("exec").recover(&with, &bench.interrupted(), &bench.check_context(Inventory::default())).await;
    assert!(matches!(found.unwrap(), Recovery::Ask { .. }));
}

#[tokio::test]
async fn survivors_of_a_step_are_noted() {
    let bench = Bench::new();
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!";
    let output = run(&bench, "shell", json!({ "script": script })).await.unwrap();
    end(output["stdout"].as_str().unwrap().parse().unwrap());
    assert!(bench.lines.0.lock().unwrap().iter().any(|line| line.contains("left 1 processes running")));
}

#[tokio::test]
async fn a_notification_has_its_text_on_both_ways() {
    let bench = Bench::new();
    let argv = json!(["bash", "-c", "read line; test \"$line\" = \"$RUNBOOK_TEXT\"; echo \"$line\""]);
    let output = run(&bench, "notify.command", json!({ "argv": argv, "text": "the database is back" })).await.unwrap();
    assert_eq!(output["stdout"], "the database is back");
}

#[tokio::test]
async fn an_open_port_an_answer_a_file_and_a_command_are_waited_for() {
    let bench = Bench::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = open.local_addr().unwrap().to_string();
    let (there, missing) = (bench.attempt(), bench.path("missing"));
    for with in [json!({ "tcp": address }), json!({ "file": there }), json!({ "command": ["true"] })] {
        let output = run(&bench, "wait", merged(&with, "10s")).await.unwrap();
        assert_eq!(output["tries"], 1, "{with}");
    }
    for with in [json!({ "tcp": closed.to_string() }), json!({ "file": missing }), json!({ "command": ["false"] })] {
        let error = run(&bench, "wait", merged(&with, "50ms")).await.unwrap_err();
        assert_eq!(error.info().class, ErrorClass::Retryable, "{with}");
    }
}

fn merged(with: &Value, within: &str) -> Value {
    let mut with = with.clone();
    with["within"] = json!(within);
    with["every"] = json!("10ms");
    with
}

/// Answers one request after the other, each with the next of the given answers.
fn serve(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let _ = socket.read(&mut request).unwrap();
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const READY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nready";

#[tokio::test]
async fn an_url_is_asked_until_it_answers_as_wanted() {
    let bench = Bench::new();
    let with = json!({ "url": serve(&[BUSY, BUSY, READY]), "within": "20s", "every": "1ms", "contains": "ready" });
    let output = run(&bench, "http.check", with).await.unwrap();
    assert_eq!((&output["checked"][0]["status"], &output["checked"][0]["tries"]), (&json!(200), &json!(3)));
    let error = run(&bench, "http.check", json!({ "url": serve(&[BUSY]) })).await.unwrap_err();
    assert!(error.to_string().contains("status 503 instead of 200"), "{error}");
    let error = run(&bench, "http.check", json!({ "url": serve(&[READY]), "contains": "steady" })).await.unwrap_err();
    assert!(error.to_string().contains("does not contain `steady`"), "{error}");
    let output = run(&bench, "wait", json!({ "http": serve(&[BUSY, READY]), "within": "20s", "every": "1ms" })).await;
    assert_eq!(output.unwrap()["tries"], 2);
}

#[tokio::test]
async fn an_assertion_that_does_not_hold_says_so_in_the_words_of_its_author() {
    let bench = Bench::new();
    let all = json!({ "all": [{ "that": false, "message": "too old" }, { "that": true, "message": "x" }, { "that": false, "message": "too big" }] });
    let error = run(&bench, "assert", all).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.info().class), ("too old; too big", ErrorClass::Fatal));
    assert_eq!(run(&bench, "assert", json!({ "that": true })).await.unwrap(), json!({ "held": 1 }));
    let late = json!({ "that": { "$late": "steps.a.ok" } });
    let findings = action("assert").check(&late, &bench.check_context(Inventory::default())).await.unwrap();
    assert!(!findings.refused() && findings.0.len() == 1);
}

#[test]
fn every_example_of_every_action_here_is_accepted_and_names_its_programs() {
    let mut inventory = Inventory::default();
    let service = runbook::language::inventory::Service {
        systemd: Some("backend.service".to_owned()),
        url: Some("http://127.0.0.1:8080/".to_owned()),
        ..Default::default()
    };
    inventory.services.insert("backend".to_owned(), service);
    let database =
        runbook::language::inventory::Database { services: vec!["backend".to_owned()], ..Default::default() };
    inventory.databases.insert("main-db".to_owned(), database);
    let cx = PlanContext {
        inventory: &inventory,
        mode: runbook::action::Mode::Real,
        scratch: std::path::Path::new("/scratch"),
        host: "local",
    };
    for name in [
        "assert",
        "exec",
        "http.check",
        "notify.command",
        "service.start",
        "service.status",
        "service.stop",
        "shell",
        "wait",
    ] {
        let action = action(name);
        let schema = action.params_schema();
        for example in action.spec().examples {
            let with: Value = serde_saphyr::from_str(example.with).unwrap();
            assert!(jsonschema::is_valid(&schema, &with), "{name}: {}", example.title);
            let effects = action.effects(&with, &cx);
            assert!(effects.is_ok(), "{name}: {}: {effects:?}", example.title);
            assert!(effects.unwrap().class <= action.spec().effect, "{name}");
        }
        assert!(!action.spec().examples.is_empty() && action.spec().summary.ends_with('.'), "{name}");
    }
}
