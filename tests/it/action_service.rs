//! `service.*` with services that are real processes started and stopped by commands.

use runbook::action::ActionError;
use runbook::language::inventory::{Database, Inventory, Service, ServiceCommands};
use serde_json::{Value, json};

use crate::support::host::{Bench, action, is_alive};

/// A daemon that keeps its number in `NAME.pid`.
fn service(bench: &Bench, name: &str) -> Service {
    let pid = bench.path(&format!("{name}.pid"));
    let pid = pid.display();
    let bash = |script: String| vec!["bash".to_owned(), "-c".to_owned(), script];
    let command = ServiceCommands {
        start: bash(format!("setsid sleep 1000 >/dev/null 2>&1 & echo $! > {pid}; echo start {name} >> {pid}.log")),
        stop: bash(format!("kill $(cat {pid}); rm {pid}")),
        status: bash(format!("[ -e {pid} ] && kill -0 $(cat {pid}) || exit 3")),
    };
    Service { command: Some(command), ..Service::default() }
}

fn inventory(bench: &Bench) -> Inventory {
    let mut inventory = Inventory::default();
    for name in ["api", "worker"] {
        inventory.services.insert(name.to_owned(), service(bench, name));
    }
    let services = vec!["worker".to_owned(), "api".to_owned()];
    inventory.databases.insert("main".to_owned(), Database { services, ..Database::default() });
    inventory.databases.insert("lone".to_owned(), Database::default());
    inventory
}

async fn run(bench: &Bench, name: &str, with: Value) -> Result<Value, ActionError> {
    action(name).run(&with, &bench.run_context(inventory(bench))).await
}

#[tokio::test]
async fn services_of_a_database_are_started_once_outlive_the_step_and_are_stopped() {
    let bench = Bench::new();
    let all = json!({ "services_of": "main" });
    let started = run(&bench, "service.start", all.clone()).await.unwrap();
    assert_eq!(started["services"][0], json!({ "name": "worker", "before": "stopped", "after": "running" }));
    assert_eq!(started["services"][1]["name"], "api");
    let pid: u32 = std::fs::read_to_string(bench.path("api.pid")).unwrap().trim().parse().unwrap();
    assert!(is_alive(pid));
    let again = run(&bench, "service.start", all.clone()).await.unwrap();
    assert_eq!(again["services"][1], json!({ "name": "api", "before": "running", "after": "running" }));
    assert_eq!(std::fs::read_to_string(bench.path("api.pid.log")).unwrap(), "start api\n", "started once");
    let status = run(&bench, "service.status", all.clone()).await.unwrap();
    assert_eq!((&status["all_running"], &status["all_stopped"]), (&json!(true), &json!(false)));
    for before in ["running", "stopped"] {
        let stopped = run(&bench, "service.stop", all.clone()).await.unwrap();
        assert_eq!(stopped["services"][1], json!({ "name": "api", "before": before, "after": "stopped" }));
    }
    assert!(!is_alive(pid));
    let error = run(&bench, "service.status", json!({ "service": "api", "expect": "running" })).await.unwrap_err();
    assert_eq!(error.to_string(), "service `api` is stopped");
}

#[tokio::test]
async fn a_database_without_services_gives_a_note_and_nothing_to_do() {
    let bench = Bench::new();
    let output = run(&bench, "service.stop", json!({ "services_of": "lone" })).await.unwrap();
    let why = "database `lone` has no services in the inventory: nothing to do";
    assert_eq!(output, json!({ "services": [], "nothing_to_do": why }));
    let notes = bench.lines.0.lock().unwrap().clone();
    assert_eq!(notes, ["note: database `lone` has no services in the inventory: nothing to do"]);
}

#[tokio::test]
async fn a_service_that_does_not_come_up_fails_the_step() {
    let bench = Bench::new();
    let mut inventory = inventory(&bench);
    let commands = inventory.services.get_mut("api").unwrap().command.as_mut().unwrap();
    commands.start = vec!["true".to_owned()];
    let context = bench.run_context(inventory);
    let error =
        action("service.start").run(&json!({ "service": "api", "within": "50ms" }), &context).await.unwrap_err();
    assert_eq!(error.to_string(), "service `api` is stopped 50ms after it was told to be running");
}

#[tokio::test]
async fn a_check_refuses_a_service_that_cannot_be_asked() {
    let bench = Bench::new();
    let mut inventory = inventory(&bench);
    let with = json!({ "service": "api" });
    let findings = action("service.stop").check(&with, &bench.check_context(inventory.clone())).await.unwrap();
    assert_eq!(findings.0[0].message, "service `api` is stopped");
    inventory.services.get_mut("api").unwrap().command.as_mut().unwrap().status = vec!["/no/such".to_owned()];
    let findings = action("service.stop").check(&with, &bench.check_context(inventory)).await.unwrap();
    assert!(findings.refused());
}
