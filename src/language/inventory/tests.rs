#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::{EnvironmentError, InventoryFile, choose_environment};
use crate::base::diagnostic::Code;
use crate::language::{LoadRequest, Loaded, MemoryFiles, Vocabulary, load};

struct NoActions;

impl Vocabulary for NoActions {
    fn actions(&self) -> Vec<String> {
        Vec::new()
    }

    fn params_schema(&self, _: &str) -> Option<Value> {
        None
    }

    fn output_schema(&self, _: &str) -> Option<Value> {
        None
    }
}

fn read(files: &[(&str, &str)]) -> Loaded {
    let memory = files.iter().fold(MemoryFiles::default(), |memory, (name, text)| memory.with(*name, *text));
    let request = LoadRequest { inventories: vec![files[0].0.to_owned()], ..LoadRequest::default() };
    load(&request, &memory, &NoActions)
}

fn inventory(files: &[(&str, &str)]) -> InventoryFile {
    let loaded = read(files);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    loaded.inventory
}

const TEAM: &str = "version: 1
databases:
  orders: { pgdata: /srv/orders, port: 6000, store: primary }
services:
  web: { systemd: web.service, url: \"http://localhost/\" }
stores:
  primary: { url: \"file:///srv/backups\" }
secrets:
  slack: { env: SLACK }
vars: { color: red, size: 1 }
environments:
  production: { protected: true }
  drill:
    databases: { orders: { scratch: true } }
    services: { web: { command: { start: [a], stop: [b], status: [c] } } }
    stores: { primary: { read_only: true } }
    secrets: { slack: { file: /etc/slack } }
    vars: { color: blue }
";

#[test]
fn an_environment_changes_members_and_keeps_the_rest() {
    let file = inventory(&[("team.yaml", TEAM)]);
    let drill = file.for_environment("drill").unwrap();
    let orders = &drill.databases["orders"];
    assert!(orders.scratch && orders.port == 6000 && orders.user == "postgres");
    assert!(drill.services["web"].systemd.is_none() && drill.services["web"].command.is_some());
    assert_eq!(drill.services["web"].host, "local");
    assert!(drill.stores["primary"].read_only && drill.stores["primary"].url == "file:///srv/backups");
    assert_eq!((&drill.vars["color"], &drill.vars["size"]), (&json!("blue"), &json!(1)));
    let production = file.for_environment("production").unwrap();
    assert!(!production.databases["orders"].scratch);
    assert_eq!(production.vars["color"], json!("red"));
    assert!(production.services["web"].systemd.is_some());
}

#[test]
fn a_nearer_file_wins_for_variables_but_cannot_take_protection_away() {
    let root = "version: 1
include: [team.yaml]
vars: { color: green }
environments:
  production: { protected: false, vars: { extra: 1 } }
";
    let file = inventory(&[("root.yaml", root), ("team.yaml", TEAM)]);
    assert_eq!(file.files, ["team.yaml", "root.yaml"]);
    assert!(file.environments["production"].protected);
    let production = file.for_environment("production").unwrap();
    assert_eq!((&production.vars["color"], &production.vars["extra"]), (&json!("green"), &json!(1)));
    assert!(file.for_environment("drill").unwrap().databases["orders"].scratch);
}

#[test]
fn a_file_included_twice_is_read_once() {
    let root = "version: 1\ninclude: [a.yaml, b.yaml]\n";
    let middle = "version: 1\ninclude: [team.yaml]\n";
    let file = inventory(&[("root.yaml", root), ("a.yaml", middle), ("b.yaml", middle), ("team.yaml", TEAM)]);
    assert_eq!(file.databases.len(), 1);
}

#[test]
fn an_inventory_asked_for_replaces_the_include_of_the_runbook() {
    let runbook = "version: 1\nname: x\ninclude: [missing.yaml]\nsteps:\n  - { id: a, run: 'true' }\n";
    let memory = MemoryFiles::default().with("x.yaml", runbook).with("team.yaml", TEAM);
    let request = LoadRequest {
        runbook: Some("x.yaml".to_owned()),
        inventories: vec!["team.yaml".to_owned()],
        fallbacks: vec!["other.yaml".to_owned()],
    };
    let loaded = load(&request, &memory, &NoActions);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    assert_eq!(loaded.runbook.name, "x");
    assert!(loaded.inventory.databases.contains_key("orders"));
}

fn choose(environments: &str, asked: Option<&str>) -> Result<String, EnvironmentError> {
    let text = format!("version: 1\nenvironments: {environments}\n");
    choose_environment(&inventory(&[("x.yaml", &text)]), asked)
}

#[test]
fn the_environment_is_the_one_asked_for_or_marked_or_only() {
    let none = Ok("default".to_owned());
    assert_eq!(choose("{}", None), none);
    assert_eq!(choose("{}", Some("default")), none);
    assert_eq!(choose("{ drill: {} }", None), none);
    assert_eq!(choose("{ drill: {}, staging: {} }", None), Ok("staging".to_owned()));
    assert_eq!(choose("{ a: {}, b: { default: true } }", None), Ok("b".to_owned()));
    assert_eq!(choose("{ a: {}, b: { default: true } }", Some("a")), Ok("a".to_owned()));
    assert!(matches!(choose("{ a: {}, b: {} }", None), Err(EnvironmentError::Several { .. })));
    assert!(matches!(choose("{ a: {} }", Some("default")), Err(EnvironmentError::Unknown { .. })));
    assert!(matches!(choose("{}", Some("production")), Err(EnvironmentError::Unknown { .. })));
}

fn faults(stores: &str) -> Vec<String> {
    let text = format!("version: 1\nsecrets: {{ key: {{ env: KEY }} }}\nstores:\n  s: {stores}\n");
    let memory = MemoryFiles::default().with("x.yaml", text.as_str());
    let request = LoadRequest { runbook: None, inventories: vec!["x.yaml".to_owned()], fallbacks: Vec::new() };
    let found = load(&request, &memory, &NoActions).diagnostics;
    found.iter().map(|fault| format!("{} {}", fault.message, fault.help.clone().unwrap_or_default())).collect()
}

#[test]
fn every_kind_of_store_is_known_with_its_own_settings() {
    for store in [
        "{ url: 'file:///srv/b', bandwidth: 50MiB, read_only: true }",
        "{ url: 's3://b/p', stall: 5s, region: eu-west-1, endpoint: 'https://x', object_lock: { mode: governance, keep: 30d } }",
        "{ url: 's3://b', credentials: { access_key_id: key, secret_access_key: key } }",
        "{ url: 'gs://b/p', credentials: { service_account: key }, storage_class: NEARLINE }",
        "{ url: 'az://c/p', credentials: { account: me, account_key: key }, endpoint: 'http://127.0.0.1:1/me' }",
        "{ url: 'sftp://me@host/srv/b', ssh: { identity: /etc/key } }",
        "{ url: 'file:///srv/b', encryption: { passphrase: key, identities: [key] } }",
    ] {
        assert_eq!(faults(store), Vec::<String>::new(), "{store}");
    }
}

#[test]
fn settings_of_a_store_that_make_no_sense_are_named() {
    for (store, words) in [
        ("{ url: 'gcs://b' }", "did you mean `gs://`?"),
        ("{ url: 's3://' }", "the bucket is missing"),
        ("{ url: 'file:///srv/b', region: eu-west-1 }", "`region` means nothing for a `file://` store"),
        ("{ url: 'az://c', allow_regions: [eu] }", "only `s3://` stores"),
        ("{ url: 's3://b', ssh: { identity: /x } }", "only `sftp://` stores"),
        ("{ url: 'gs://b', credentials: { account: me } }", "a `gs://` store takes `service_account`"),
        ("{ url: 'az://c', credentials: { sas: key } }", "`sas` needs `account` besides"),
        ("{ url: 'az://c', credentials: { account: a, sas: key, account_key: key } }", "only one of"),
        ("{ url: 's3://b', credentials: { access_key_id: key } }", "`access_key_id` needs `secret_access_key`"),
        ("{ url: 's3://b', credentials: { access_key_id: kye, secret_access_key: key } }", "did you mean `key`?"),
        ("{ url: 's3://b', endpoint: 'minio:9000' }", "write it with its protocol"),
        ("{ url: 'file:///srv/b', bandwidth: 0MiB }", "lets nothing pass"),
        ("{ url: 's3://b', object_lock: { mode: governance, keep: 0s } }", "protects nothing"),
        ("{ url: 's3://b', stall: 0s }", "lets nothing pass"),
        ("{ url: 's3://b', stale_uploads: 5m }", "may still be under way"),
        ("{ url: 'sftp://h/b', ssh: { known_hosts: known } }", "`known` is not an absolute path"),
        ("{ url: 'file:///b', encryption: { passphrase: key, gpg: { passphrase: key } } }", "in one way, here are 2"),
        ("{ url: 'file:///b', encryption: { identities: [key, nobody] } }", "there is no secret `nobody`"),
    ] {
        let found = faults(store);
        assert!(found.len() == 1 && found[0].contains(words), "{store}: {found:?}");
    }
}

#[test]
fn a_check_that_expects_nonsense_is_found_where_it_stands() {
    let text = "version: 1
databases: { orders: { pgdata: /srv/orders, checks: [ { name: a, sql: SELECT 1, expect: 'about 1' } ] } }
";
    let loaded = read(&[("inventory.yaml", text)]);
    let found: Vec<_> = loaded.diagnostics.iter().filter(|one| one.code == Code::UnknownValue).collect();
    assert_eq!(found.len(), 1, "{:?}", loaded.diagnostics);
    assert!(found[0].message.contains("`about 1` is no expectation"), "{found:?}");
}
