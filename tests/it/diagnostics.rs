//! What a person reads when a file is wrong: every case through the public API, drawn without colour.
//!
//! Each snapshot was read with one question: would a tired operator know what to do next?

use std::collections::BTreeMap;

use runbook::action::{BackupHandle, DatabaseRef, Late, StoreRef};
use runbook::base::diagnostic::{Look, RenderStyle, render, to_json};
use runbook::base::units::{ByteSize, Span};
use runbook::language::{DiskFiles, LoadRequest, Loaded, MemoryFiles, ReadError, SourceReader, Vocabulary, load};
use schemars::JsonSchema;
use serde_json::Value;

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described for its schema")]
struct Shell {
    script: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described for its schema")]
struct Restore {
    database: DatabaseRef,
    backup: Late<BackupHandle>,
    #[serde(default)]
    jobs: Option<u8>,
    #[serde(default)]
    format: Option<Format>,
    #[serde(default)]
    pause: Option<Span>,
    #[serde(default)]
    chunk: Option<ByteSize>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    store: Option<StoreRef>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "described for its schema")]
enum Format {
    Plain,
    Directory,
}

struct Words;

impl Vocabulary for Words {
    fn actions(&self) -> Vec<String> {
        ["postgres.restore_base", "service.start", "service.stop", "shell"].map(str::to_owned).to_vec()
    }

    fn params_schema(&self, action: &str) -> Option<Value> {
        match action {
            "shell" => Some(schemars::schema_for!(Shell).to_value()),
            "postgres.restore_base" => Some(schemars::schema_for!(Restore).to_value()),
            "service.start" | "service.stop" => Some(Value::Bool(true)),
            _ => None,
        }
    }

    fn output_schema(&self, action: &str) -> Option<Value> {
        self.params_schema(action).map(|_| Value::Bool(true))
    }
}

const INVENTORY: &str = "\
version: 1
databases:
  orders: { pgdata: /srv/orders, store: primary, services: [backend] }
services:
  backend: { systemd: backend.service }
stores:
  primary: { url: \"file:///srv/backups\" }
secrets:
  slack: { env: SLACK }
";

fn request(name: &str) -> LoadRequest {
    LoadRequest { runbook: Some(name.to_owned()), ..LoadRequest::default() }
}

fn load_text(text: impl Into<Vec<u8>>) -> Loaded {
    let files = MemoryFiles::default().with("restore.yaml", text).with("inventory.yaml", INVENTORY);
    let request = LoadRequest { fallbacks: vec!["inventory.yaml".to_owned()], ..request("restore.yaml") };
    load(&request, &files, &Words)
}

fn drawn(loaded: &Loaded) -> String {
    render(&loaded.diagnostics, &loaded.sources, RenderStyle { look: Look::Plain, width: 100 })
}

fn check(text: impl Into<Vec<u8>>) -> String {
    drawn(&load_text(text))
}

/// A runbook with these lines after its head.
fn body(lines: &str) -> String {
    check(format!("version: 1\nname: restore\n{lines}"))
}

macro_rules! shows {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!($text);
        }
    };
}

#[test]
fn a_good_runbook_has_no_findings() {
    let loaded = load_text(
        r#"version: 1
name: full-db-loss
description: Rebuild the database.
owner: platform-oncall
controls: [SOC2-A1.3]
objectives: { rto: 4h, rpo: 15m }
params:
  database: { type: database, description: Which database. }
  recover_to: { type: timestamp, required: false }
phases:
  - { id: restore, name: Restore, budget: 40m }
steps:
  - id: stage
    phase: restore
    uses: postgres.restore_base
    with: { database: "{{ params.database }}", backup: "{{ steps.choose.backup }}", label: 1.10, jobs: "{{ params.jobs }}" }
    retry: { max_attempts: 5, on: [retryable, 75] }
  - id: script
    needs: [stage?]
    run: |
      echo "${#x[@]} {{ literal }}"
    env: { NAME: "{{ run.name }}", PORT: 5432 }
    on_unknown: { probe: "test -f /tmp/x" }
    preconditions: [ { that: params.database != '' } ]
    modes: [real]
    targets: [ { path: /srv/x } ]
finally:
  - id: tell
    uses: service.start
"#,
    );
    assert_eq!(drawn(&loaded), "");
    let stage = &loaded.runbook.steps[0];
    assert!(loaded.runbook.steps.iter().chain(&loaded.runbook.finally).all(|step| !step.poisoned));
    assert_eq!(stage.with["label"], "1.10");
    assert!(stage.with_places.contains_key("/backup"));
    let script = &loaded.runbook.steps[1];
    assert_eq!(script.uses.value, "shell");
    assert_eq!(script.with["script"], "echo \"${#x[@]} {{ literal }}\"\n");
    assert_eq!(script.with["env"]["PORT"], "5432");
    assert!(script.needs.as_ref().unwrap()[0].value.any_end);
    assert!(loaded.runbook.finally[0].needs.is_none());
    let inventory = loaded.inventory.for_environment("default").unwrap();
    let orders = &inventory.databases["orders"];
    assert_eq!((orders.host.as_str(), orders.port, orders.user.as_str()), ("local", 5432, "postgres"));
    assert_eq!(loaded.inventory.files, ["inventory.yaml"]);
}

#[test]
fn findings_are_data_with_line_column_and_bytes() {
    let loaded = load_text("version: 1\nname: x\nownr: me\nsteps:\n  - { id: a, run: 'true' }\n");
    let data = to_json(&loaded.diagnostics, &loaded.sources);
    assert_eq!(data[0]["code"], "RB0101");
    assert_eq!(data[0]["severity"], "error");
    assert_eq!(data[0]["help"], "did you mean `owner`?");
    let label = &data[0]["labels"][0];
    assert_eq!((label["line"].as_u64(), label["column"].as_u64()), (Some(3), Some(1)));
    assert_eq!((label["start"].as_u64(), label["len"].as_u64()), (Some(19), Some(4)));
    assert_eq!(label["file"], "restore.yaml");
}

shows!(
    unknown_key_at_any_depth,
    body("stpes: []\nsteps:\n  - id: a\n    nedds: []\n    run: 'true'\n    retry: { max_atempts: 3 }\n")
);
shows!(duplicate_key, body("steps:\n  - id: a\n    run: 'true'\n    env: { A: 1, B: 2, A: 3 }\nname: other\n"));
shows!(
    duplicate_id,
    body("steps:\n  - { id: a, run: 'true' }\n  - { id: b, run: 'true' }\nfinally:\n  - { id: a, run: 'true' }\n")
);
shows!(
    wrong_type,
    body(
        "owner: [a, b]\nsteps:\n  - id: a\n    run: 'true'\n    needs: b\n    retry: { max_attempts: many }\n    timeout:\n"
    )
);
shows!(missing_key, body("phases:\n  - { name: Restore }\nsteps:\n  - name: no id\n    run: 'true'\n  - id: b\n"));
shows!(missing_version_and_steps, check("name: x\n"));
shows!(unsupported_version, check("version: 1.10\nname: x\nsteps: [ { id: a, run: 'true' } ]\n"));
shows!(unknown_action, body("steps:\n  - id: a\n    uses: service.strat\n"));
shows!(
    unknown_and_mistyped_arguments,
    body(
        "steps:\n  - id: a\n    uses: postgres.restore_base\n    with:\n      database: orders\n      jbos: 4\n      jobs: 900\n      format: directroy\n      pause: 5 minutes\n      chunk: 5 apples\n      label: [a]\n"
    )
);
shows!(
    a_template_of_text_where_a_number_is_wanted,
    body(
        "steps:\n  - id: a\n    uses: postgres.restore_base\n    with: { database: orders, backup: \"{{ steps.x.backup }}\", jobs: \"1{{ params.x }}\" }\n"
    )
);
shows!(
    unknown_database_and_store,
    body(
        "steps:\n  - id: a\n    uses: postgres.restore_base\n    with: { database: oders, backup: \"{{ steps.x.backup }}\", store: secondary }\n"
    )
);
shows!(unknown_phase, body("phases: [ { id: restore } ]\nsteps:\n  - { id: a, phase: restor, run: 'true' }\n"));
shows!(
    bad_duration_size_and_timestamp,
    body(
        "objectives: { rto: 4 hours }\nparams:\n  at: { type: timestamp, default: yesterday }\n  naive: { type: timestamp, default: 2026-01-28 15:30 }\n  size: { type: size, default: 5 apples }\n  port: { type: int, default: high }\nsteps:\n  - { id: a, run: 'true', timeout: 1.5h, stall: 90 }\n"
    )
);
shows!(bad_names, body("params: { my-param: {} }\nsteps:\n  - { id: Stop-Apps, run: 'true' }\n"));
shows!(
    keys_that_exclude_each_other,
    body(
        "steps:\n  - id: a\n    uses: service.stop\n    run: 'true'\n  - id: b\n    uses: service.stop\n    effect: read\n  - id: c\n    run: 'true'\n    with: { x: 1 }\n    when: \"{{ params.x }}\"\n  - id: d\n    run: 'true'\n    targets: [ { path: /x, url: y }, { pth: /x } ]\n    on_unknown: rerum\n"
    )
);
shows!(tab_indentation, body("steps:\n  - id: a\n\trun: 'true'\n"));
shows!(unclosed_quote, body("description: \"never closed\nsteps:\n  - { id: a, run: 'true' }\n"));
shows!(unquoted_template, body("steps:\n  - id: a\n    uses: service.stop\n    with: { name: {{ params.name }} }\n"));
shows!(bad_indentation, body("steps:\n  - id: a\n     run: 'true'\n"));
shows!(second_document, body("steps: []\n---\nversion: 1\n"));
shows!(alias_bomb, {
    let mut text = String::from("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    check(text)
});
shows!(a_megabyte_of_garbage, {
    let mut state = 1_u32;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b' ' + u8::try_from(state >> 24).unwrap() % 95
    })
    .take(1_000_000)
    .collect();
    check(garbage)
});
shows!(two_megabytes, check(vec![b'a'; 2 << 20]));
shows!(deep_nesting, check("[".repeat(100_000)));
shows!(empty_file, check("# only a comment\n"));
shows!(no_byte_at_all, check(""));
shows!(binary_file, check(vec![b'a', 0, 1, 2]));
shows!(a_dump_instead_of_a_runbook, check(b"PGDMP\x01\x0e".to_vec()));
shows!(not_utf8, check(b"name: caf\xe9\n".to_vec()));
shows!(a_list_instead_of_a_runbook, check("- a\n- b\n"));
shows!(missing_file, drawn(&load(&request("nowhere.yaml"), &MemoryFiles::default(), &Words)));
struct Forbidden;

impl SourceReader for Forbidden {
    fn read(&self, _: &str) -> Result<Vec<u8>, ReadError> {
        Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied).into())
    }
}

shows!(unreadable_file, drawn(&load(&request("restore.yaml"), &Forbidden, &Words)));
shows!(a_folder_instead_of_a_file, {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap();
    drawn(&load(&request(name), &DiskFiles, &Words)).replace(name, "FOLDER")
});

fn files(list: &[(&str, &str)]) -> String {
    let files = list.iter().fold(MemoryFiles::default(), |files, (name, text)| files.with(*name, *text));
    drawn(&load(&request(list[0].0), &files, &Words))
}

const STEP: &str = "steps:\n  - { id: a, run: 'true' }\n";

shows!(
    include_cycle,
    files(&[
        ("books/a.yaml", &format!("version: 1\nname: a\ninclude: [../team/b.yaml]\n{STEP}")),
        ("team/b.yaml", "version: 1\ninclude: [c.yaml]\n"),
        ("team/c.yaml", "version: 1\ninclude:\n  - ./b.yaml\n"),
    ])
);
shows!(
    missing_include,
    files(&[("a.yaml", &format!("version: 1\nname: a\ninclude: [team/b.yaml, \"*.yaml\"]\n{STEP}"))])
);
shows!(
    included_runbook,
    files(&[
        ("a.yaml", &format!("version: 1\nname: a\ninclude: [b.yaml]\n{STEP}")),
        ("b.yaml", &format!("version: 1\nname: b\n{STEP}")),
    ])
);
shows!(
    same_name_in_two_files,
    files(&[
        (
            "a.yaml",
            &format!("version: 1\nname: a\ninclude: [b.yaml]\nservices:\n  web: {{ systemd: web.service }}\n{STEP}")
        ),
        ("b.yaml", "version: 1\nservices:\n  web: { systemd: www.service }\n"),
    ])
);
shows!(includes_too_deep, {
    let mut list: Vec<(String, String)> =
        vec![("f0.yaml".to_owned(), format!("version: 1\nname: a\ninclude: [f1.yaml]\n{STEP}"))];
    for level in 1..12 {
        list.push((format!("f{level}.yaml"), format!("version: 1\ninclude: [f{}.yaml]\n", level + 1)));
    }
    let list: Vec<(&str, &str)> = list.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files(&list)
});
shows!(
    faulty_inventory,
    body(
        "databases:
  db1: { host: db1, pgdata: relative/path, store: primry, services: [bakend], password: pg }
  db2: { port: 99999 }
  db3: { pgdata: /x, via: { systemd: a, pg_ctl: {} }, sslmode: verify_full }
services:
  both: { systemd: a, command: { start: [a], stop: [b], status: [c] } }
  none: {}
  half: { command: { start: [a], stop: b } }
stores:
  s3: { url: \"ftp://bucket\" }
  plain: { url: /srv/x }
environments:
  production: { protected: true, default: true }
  drill: { default: true, databases: { oders: { scratch: true } }, secrets: { slak: { env: X } } }
steps:
  - { id: a, run: 'true' }
"
    )
);
shows!(
    no_inventory_at_all,
    files(&[(
        "a.yaml",
        "version: 1\nname: a\nsteps:\n  - id: a\n    uses: postgres.restore_base\n    with: { database: orders, backup: \"{{ steps.x.y }}\" }\n"
    )])
);

#[test]
fn a_hostile_file_costs_little_and_ends_in_a_bounded_list() {
    let keys: String = (0..5_000).map(|number| format!("k{number}: 1\n")).collect();
    let loaded = load_text(keys);
    assert_eq!(loaded.diagnostics.len(), 201);
    assert!(loaded.diagnostics.iter().last().unwrap().message.ends_with("further findings are not shown"));
}

/// What an editor is given accepts the new keys where they belong, and nowhere else.
#[test]
fn the_complete_schema_knows_the_arguments_of_an_undo() {
    let file = runbook::language::runbook::file_schema().to_value();
    let schema = runbook::plan::schema::runbook(file, &runbook::actions::registry());
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let judge = |more: Value| {
        let mut step = serde_json::json!({ "id": "a", "run": "x" });
        step.as_object_mut().expect("a step").extend(more.as_object().expect("keys").clone());
        schema.is_valid(&serde_json::json!({ "version": 1, "name": "x", "steps": [step] }))
    };
    for good in [
        serde_json::json!({ "for_each": [1, { "a": 2 }], "max_parallel": 2, "locks": ["l"], "on_failure": "pause" }),
        serde_json::json!({ "for_each": "{{ vars.x }}", "outputs": { "a": "text", "b": { "regex": "x" } } }),
        serde_json::json!({ "undo": { "uses": "exec", "with": { "argv": ["true"] }, "timeout": "5m" } }),
        serde_json::json!({ "undo": { "run": "x", "env": { "A": "b" } }, "creates": [{ "name": "a", "destroy": "x" }] }),
    ] {
        assert!(judge(good.clone()), "{good}");
    }
    for bad in [
        serde_json::json!({ "max_parallel": 2 }),
        serde_json::json!({ "for_each": [1], "max_parallel": 0 }),
        serde_json::json!({ "outputs": { "a": { "regex": "x", "json": "/a" } } }),
        serde_json::json!({ "undo": { "uses": "exec", "with": { "argc": 1 } } }),
        serde_json::json!({ "undo": { "run": "x", "uses": "exec" } }),
        serde_json::json!({ "undo": {} }),
    ] {
        assert!(!judge(bad.clone()), "{bad}");
    }
}

/// The schema an editor completes from is the one the validator obeys.
#[test]
fn the_file_schemas_accept_what_the_loader_accepts() {
    let runbook = runbook::language::runbook::file_schema().to_value();
    let inventory = runbook::language::inventory::file_schema().to_value();
    let judge = |schema: &Value, value: Value| jsonschema::validator_for(schema).unwrap().is_valid(&value);
    let step = serde_json::json!({ "id": "a", "uses": "x", "retry": { "on": ["timeout", 75] }, "on_unknown": "ask" });
    assert!(judge(&runbook, serde_json::json!({ "version": 1, "name": "x", "steps": [step] })));
    assert!(!judge(&runbook, serde_json::json!({ "version": 1, "name": "x", "steps": [{ "id": "a", "undone": {} }] })));
    assert!(!judge(&runbook, serde_json::json!({ "version": 2, "name": "x", "steps": [] })));
    assert!(judge(&inventory, serde_json::json!({ "version": 1, "stores": { "p": { "url": "file:///x" } } })));
    assert!(!judge(&inventory, serde_json::json!({ "version": 1, "steps": [] })));
    assert!(!runbook.to_string().contains("\"default\":0"), "defaults of Rust types are not those of the language");
}

#[test]
fn a_broken_step_stays_in_place_with_its_id() {
    let loaded = load_text(
        "version: 1\nname: x\nsteps:\n  - { id: a, nope: 1, run: 'true' }\n  - { id: b, needs: [a], run: 'true' }\n",
    );
    let ids: Vec<(&str, bool)> =
        loaded.runbook.steps.iter().map(|step| (step.id.value.as_str(), step.poisoned)).collect();
    assert_eq!(ids, [("a", true), ("b", false)]);
    assert_eq!(loaded.diagnostics.len(), 1);
}
