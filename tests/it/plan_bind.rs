//! What a run is bound to: values of parameters by their type, and fingerprints that depend on decisions alone.

use std::collections::BTreeMap;

use runbook::action::Mode;
use runbook::base::diagnostic::SourceId;
use runbook::event::Actor;
use runbook::language::runbook::OnFailure;
use runbook::language::{LoadRequest, MemoryFiles, load};
use runbook::plan::{BindError, BindRequest, BoundPlan, Material, Section, Strictness, build};
use serde_json::{Value, json};

/// Binds a runbook with these lines after its head.
fn bound(lines: &str, params: &[(&str, Value)]) -> Result<BoundPlan, Vec<BindError>> {
    bound_among("databases: { orders: { pgdata: /srv/orders } }", lines, params)
}

/// Binds a runbook with these databases.
fn bound_among(databases: &str, lines: &str, params: &[(&str, Value)]) -> Result<BoundPlan, Vec<BindError>> {
    let registry = runbook::actions::registry();
    let head = format!("version: 1\nname: tried\n{databases}\n");
    let files = MemoryFiles::default().with("r.yaml", format!("{head}{lines}"));
    let request = LoadRequest { runbook: Some("r.yaml".to_owned()), ..LoadRequest::default() };
    let loaded = load(&request, &files, &registry);
    let material =
        Material { registry: &registry, inventory: &loaded.inventory, sources: &loaded.sources, file: SourceId(0) };
    let (plan, found) = build(loaded.runbook, &material);
    assert!(!loaded.diagnostics.has_errors() && !found.has_errors(), "{:?} {found:?}", loaded.diagnostics);
    let request = BindRequest {
        run: "20260128-143002-3fa9c1".parse().expect("an id"),
        mode: Mode::Real,
        environment: "default".to_owned(),
        params: params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        vars: BTreeMap::new(),
        env_vars: BTreeMap::from([("REGION".to_owned(), "{{ eu }}".to_owned())]),
        actor: Actor { name: "dora".to_owned(), from: "ops1".to_owned() },
        now: "2026-01-28T15:30:00Z".parse().expect("a time"),
        scratch: "/scratch".into(),
        max_parallel: 4,
    };
    let inventory = loaded.inventory.for_environment("default").expect("an inventory");
    runbook::plan::bind(&plan, inventory, &registry, &loaded.sources, request)
}

#[test]
fn a_step_with_every_new_key_is_bound() {
    let plan = bound(
        "pass_env: [REGION]\nlocks: [nightly, { name: tape, on_conflict: queue }]\nvars: { tables: [a, b] }\nsteps:\n  \
         - id: a\n    for_each: \"{{ vars.tables }}\"\n    max_parallel: 2\n    locks: [\"t-{{ run.mode }}\", nightly]\n    \
         on_failure: pause\n    run: 'true'\n    env: { T: \"{{ item }}\", K: \"{{ item_key }}\" }\n    \
         outputs: { size: { regex: '(\\d+)' }, all: text }\n    creates: [ { name: copy, destroy: 'rm x' } ]\n",
        &[],
    );
    let plan = plan.expect("a plan");
    let step = &plan.steps[0];
    assert_eq!(
        serde_json::to_value(&step.for_each).unwrap(),
        json!({ "items": "{{ vars.tables }}", "max_parallel": 2 })
    );
    assert_eq!(step.with["passed"]["REGION"], "{{ env_vars.REGION }}", "read as a value, never as a template");
    assert_eq!(plan.env_vars["REGION"], "{{ eu }}");
    assert_eq!(step.with["outputs"], json!({ "size": { "regex": "(\\d+)" }, "all": "text" }));
    assert_eq!((step.locks.as_slice(), step.on_failure), (["lock:t-real".to_owned()].as_slice(), OnFailure::Pause));
    assert_eq!(plan.locks, ["lock:nightly", "lock:tape"]);
    assert_eq!(plan.queued_locks.iter().collect::<Vec<_>>(), ["lock:tape"]);
    assert_eq!((step.creates[0].name.as_str(), step.creates[0].ttl.0.as_secs()), ("copy", 86_400));
    let read: BoundPlan = serde_json::from_value(serde_json::to_value(&plan).unwrap()).unwrap();
    assert_eq!(read, plan, "a frozen plan reads back");
}

#[test]
fn everything_that_is_not_set_in_the_environment_is_named() {
    let said = bound("pass_env: [REGION, ZONE, RACK]\nsteps:\n  - { id: a, run: 'true' }\n", &[]).unwrap_err();
    let mut said: Vec<String> = said.iter().map(ToString::to_string).collect();
    said.sort();
    assert!(matches!(said.as_slice(), [rack, zone] if rack.contains("`RACK`") && zone.contains("`ZONE`")), "{said:?}");
}

#[test]
fn a_fan_out_over_a_value_that_has_no_items_is_refused() {
    let lines = "params: { p: { type: string } }\nsteps:\n  - { id: a, for_each: \"{{ params.p }}\", run: 'true' }\n";
    let said = bound(lines, &[("p", json!("x"))]).unwrap_err();
    assert!(said[0].to_string().contains("wants a list or a mapping"), "{said:?}");
}

#[test]
fn what_a_step_takes_from_its_output_is_part_of_its_fingerprint() {
    let fingerprint = |outputs: &str, more: &str| {
        let lines = format!("steps:\n  - {{ id: a, run: 'true', outputs: {outputs}{more} }}\n");
        bound(&lines, &[]).expect("a plan").steps[0].fingerprint
    };
    let text = fingerprint("{ x: text }", "");
    assert_eq!(text, fingerprint("{ x: text }", ""));
    for (outputs, more) in
        [("{ x: json }", ""), ("{}", ""), ("{ x: text }", ", for_each: [1]"), ("{ x: text }", ", locks: [l]")]
    {
        assert_ne!(text, fingerprint(outputs, more), "{outputs}{more}");
    }
}

/// Gives the value of the one parameter of this type, or what is said about it.
fn value(declared: &str, given: Value) -> Result<Value, String> {
    let lines = format!(
        "params: {{ p: {declared} }}\nsteps:\n  - {{ id: a, run: 'true', env: {{ P: \"{{{{ params.p }}}}\" }} }}\n"
    );
    let given = if given.is_null() { Vec::new() } else { vec![("p", given)] };
    bound(&lines, &given).map(|plan| plan.params["p"].clone()).map_err(|errors| errors[0].to_string())
}

#[test]
fn a_parameter_is_read_by_its_type() {
    for (declared, given, read) in [
        ("{ type: string }", json!("14"), json!("14")),
        ("{ type: int }", json!("14"), json!(14)),
        ("{ type: int }", json!(-3), json!(-3)),
        ("{ type: number }", json!("1.5"), json!(1.5)),
        ("{ type: bool }", json!("true"), json!(true)),
        ("{ type: bool }", json!(false), json!(false)),
        ("{ type: timestamp }", json!("5m ago"), json!("2026-01-28T15:25:00Z")),
        ("{ type: timestamp }", json!("2026-01-28 14:30 Europe/Berlin"), json!("2026-01-28T13:30:00Z")),
        ("{ type: duration }", json!("90s"), json!("90s")),
        ("{ type: size }", json!("16MiB"), json!("16MiB")),
        ("{ type: database }", json!("orders"), json!("orders")),
        ("{ type: string, enum: [red, green] }", json!("red"), json!("red")),
        ("{ type: string, default: red }", Value::Null, json!("red")),
        ("{ type: string, default: \"{{ run.mode }}\" }", Value::Null, json!("real")),
    ] {
        assert_eq!(value(declared, given.clone()), Ok(read), "{declared} given {given}");
    }
}

#[test]
fn what_does_not_fit_its_type_is_refused_by_name() {
    for (declared, given) in [
        ("{ type: int }", json!("1.5")),
        ("{ type: int }", json!("9999999999999999999999")),
        ("{ type: number }", json!("NaN")),
        ("{ type: bool }", json!("yes")),
        ("{ type: timestamp }", json!("2026-01-28 14:30")),
        ("{ type: timestamp }", json!("")),
        ("{ type: duration }", json!("-5m")),
        ("{ type: size }", json!("16 apples")),
        ("{ type: database }", json!("oders")),
        ("{ type: string, enum: [red, green] }", json!("blue")),
        ("{ type: string }", Value::Null),
    ] {
        let said = value(declared, given.clone()).expect_err(&format!("{declared} given {given}"));
        let named = if declared.contains("database") { "`oders`" } else { "`p`" };
        assert!(said.contains(named), "{declared} given {given}: {said}");
    }
}

#[test]
fn an_unknown_parameter_and_an_incident_to_come_are_refused() {
    let lines = "params: { incident_at: { type: timestamp } }\nsteps:\n  - { id: a, run: 'true' }\n";
    let all = bound(lines, &[("incident", json!("now"))]).expect_err("two faults");
    assert!(all.len() >= 2, "every fault is told at once: {all:?}");
    assert!(all.iter().all(|fault| matches!(fault, BindError::Usage { .. })), "{all:?}");
    let future = bound(lines, &[("incident_at", json!("2026-01-28T15:30:01Z"))]).expect_err("the future");
    assert!(future[0].to_string().contains("future"), "{future:?}");
}

#[test]
fn a_fingerprint_follows_what_was_decided_and_nothing_else() {
    let lines = |script: &str| {
        format!(
            "params: {{ p: {{ type: string }}, q: {{ type: string }} }}\nsteps:\n  - {{ id: a, run: '{script}', env: {{ P: \"{{{{ params.p }}}}\" }} }}\n  - {{ id: b, run: 'true', env: {{ Q: \"{{{{ params.q }}}}\" }} }}\n"
        )
    };
    let prints = |script: &str, p: &str, q: &str| {
        let plan = bound(&lines(script), &[("p", json!(p)), ("q", json!(q))]).expect("a plan");
        plan.steps.iter().map(|step| step.fingerprint).collect::<Vec<_>>()
    };
    let first = prints("true", "1", "1");
    assert_eq!(first, prints("true", "1", "1"), "the same decisions, the same fingerprints");
    let other_value = prints("true", "2", "1");
    assert!(
        other_value[0] != first[0] && other_value[1] == first[1],
        "a given value marks only the steps that read it"
    );
    let other_script = prints("false", "1", "1");
    assert!(other_script[0] != first[0] && other_script[1] == first[1]);
}

#[test]
fn an_undo_is_a_step_of_its_own_that_waits_for_nothing_and_may_read_its_own_step() {
    let plan = bound(
        "phases: [{ id: one }]\nsteps:\n  - { id: a, run: 'true' }\n  - id: b\n    phase: one\n    run: 'true'\n    undo: { run: 'true', env: { CODE: \"{{ steps.b.exit_code }}{{ steps.a.exit_code }}\" } }\nfinally:\n  - { id: z, run: 'true' }\n",
        &[],
    )
    .expect("binds");
    let order: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(order, ["a", "b", "b.undo", "z"]);
    let undo = &plan.steps[2];
    assert_eq!((undo.section, undo.phase.as_deref(), undo.needs.len()), (Section::Undo, Some("one"), 0));
    assert_eq!(plan.steps[1].needs[0].strictness, Strictness::Settled, "what the undo reads asks nothing of the step");
    assert_ne!(undo.fingerprint, plan.steps[1].fingerprint);
}

#[test]
fn a_backup_and_a_replacement_of_one_database_hold_the_same_lock() {
    let backup = "steps:\n  - { id: a, uses: postgres.base_backup, with: { database: backed } }\n";
    let databases = "databases: { orders: { pgdata: /srv/orders }, backed: { pgdata: /srv/orders, store: primary } }\nstores: { primary: { url: \"file:///srv/store\" } }";
    let replacing = "steps:\n  - { id: a, effect: destroy, targets: [ { database: orders } ], run: 'true' }\n";
    let locks = |lines: &str| bound_among(databases, lines, &[]).expect("binds").locks;
    assert_eq!(locks(backup), ["database:local:/srv/orders"]);
    assert_eq!(locks(replacing), locks(backup));
    assert_eq!(locks("steps:\n  - { id: a, run: 'true' }\n"), Vec::<String>::new());
}
