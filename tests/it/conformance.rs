//! What every action promises, held against its own examples; and the schemas that editors complete with.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use runbook::action::{Example, Mode, PlanContext};
use runbook::actions;
use runbook::base::diagnostic::SourceId;
use runbook::language::document;
use runbook::language::inventory::{Database, Inventory, PgBackRest, Service, StoreEntry};
use serde_json::{Value, json};

use crate::support::cli::Cli;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(text: &str) -> Value {
    let (node, faults) = document::parse(SourceId::default(), text);
    assert!(!faults.has_errors(), "{faults:?} in:\n{text}");
    node.expect("a document").to_json()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::validator_for(schema).expect("a schema")
}

/// The schema that lies in the repository.
fn kept(name: &str) -> Validator {
    let text = fs::read_to_string(root().join("schemas").join(name)).expect("a schema");
    validator(&serde_json::from_str(&text).expect("JSON"))
}

#[track_caller]
fn accepts(validator: &Validator, value: &Value, what: &str) {
    let faults: Vec<String> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{what}: {faults:#?} in {value:#}");
}

/// A runbook with one step that uses an action.
fn file(uses: &str, with: &Value) -> Value {
    json!({ "version": 1, "name": "one", "steps": [{ "id": "a", "uses": uses, "with": with }] })
}

/// Every action with each of its examples.
fn examples() -> Vec<(&'static str, &'static Example, Value)> {
    let registry = actions::registry();
    let specs: Vec<_> = registry.iter().map(|action| action.spec()).collect();
    specs
        .into_iter()
        .flat_map(|spec| spec.examples.iter().map(|example| (spec.name, example, yaml(example.with))))
        .collect()
}

/// What the examples name.
fn inventory() -> Inventory {
    let database = Database {
        host: "local".into(),
        pgdata: "/nowhere/at/all".into(),
        port: 5432,
        store: Some("primary".into()),
        services: vec!["backend".into()],
        pgbackrest: Some(PgBackRest { stanza: "orders".into(), config: None, repo: None }),
        ..Database::default()
    };
    let service = Service {
        host: "local".into(),
        systemd: Some("backend".into()),
        url: Some("http://127.0.0.1:1/".into()),
        ..Service::default()
    };
    let store = StoreEntry { url: "file:///nowhere/at/all".into(), ..StoreEntry::default() };
    Inventory {
        databases: ["orders", "main-db", "orders_standby"].map(|name| (name.to_owned(), database.clone())).into(),
        services: [("backend".to_owned(), service)].into(),
        stores: [("primary".to_owned(), store)].into(),
        ..Inventory::default()
    }
}

/// Values that come from other steps are pending while nothing runs.
fn pending(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")) {
            Some(expression) => json!({ "$late": expression.trim() }),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(pending).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), pending(member))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[test]
fn every_action_shows_how_it_is_used() {
    for action in actions::registry().iter() {
        let spec = action.spec();
        assert!(!spec.examples.is_empty(), "`{}` has no example", spec.name);
        assert!(spec.summary.ends_with('.') && spec.name.is_ascii(), "{spec:?}");
    }
    assert!(examples().len() >= 20);
}

#[test]
fn every_example_is_accepted_by_its_actions_schema_and_by_that_of_the_file() {
    let whole = kept("runbook.schema.json");
    let registry = actions::registry();
    for (name, example, with) in examples() {
        if !example.with.contains("{{") {
            let own = validator(&registry.get(name).expect("an action").params_schema());
            accepts(&own, &with, &format!("`{name}`, {}", example.title));
        }
        accepts(&whole, &file(name, &with), &format!("`{name}`, {}", example.title));
    }
}

#[test]
fn the_effects_of_every_example_are_told_without_looking_at_the_world_and_twice_the_same() {
    let registry = actions::registry();
    let inventory = inventory();
    for mode in [Mode::Real, Mode::Drill, Mode::DryRun] {
        let cx = PlanContext { inventory: &inventory, mode, scratch: Path::new("/nowhere/scratch"), host: "local" };
        for (name, example, with) in examples() {
            let action = registry.get(name).expect("an action");
            let with = pending(&with);
            let once =
                action.effects(&with, &cx).unwrap_or_else(|faults| panic!("`{name}`, {}: {faults:#?}", example.title));
            assert_eq!(action.effects(&with, &cx).expect("as before"), once, "`{name}`, {}", example.title);
            assert!(once.class <= action.spec().effect, "`{name}` does more than it says: {once:?}");
        }
    }
    assert!(!Path::new("/nowhere").exists());
}

#[test]
fn every_action_refuses_an_argument_it_does_not_know() {
    let registry = actions::registry();
    let inventory = inventory();
    let cx = PlanContext { inventory: &inventory, mode: Mode::Real, scratch: Path::new("/nowhere"), host: "local" };
    let whole = kept("runbook.schema.json");
    for (name, _, with) in examples() {
        let action = registry.get(name).expect("an action");
        let mut more = pending(&with);
        more["no_such_argument"] = json!(1);
        let faults = action.effects(&more, &cx).expect_err(name);
        assert!(faults.iter().any(|fault| fault.message.contains("no_such_argument")), "`{name}`: {faults:?}");
        let mut more = with.clone();
        more["no_such_argument"] = json!(1);
        assert!(!validator(&action.params_schema()).is_valid(&more), "`{name}`");
        assert!(!whole.is_valid(&file(name, &more)), "`{name}`");
    }
}

#[test]
fn the_outputs_of_every_action_have_names() {
    for action in actions::registry().iter() {
        let schema = action.output_schema();
        assert_eq!(schema["type"], "object", "`{}`: {schema:#}", action.spec().name);
        validator(&schema);
    }
}

/// Gives the value once for each scalar leaf, that leaf replaced.
fn with_each_leaf(value: &Value, new: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => {
            let one = |at: usize, changed: Value| {
                let mut all = items.clone();
                all[at] = changed;
                Value::Array(all)
            };
            let changed = items.iter().enumerate().map(|(at, item)| (at, with_each_leaf(item, new)));
            changed
                .flat_map(|(at, all)| all.into_iter().map(move |item| (at, item)))
                .map(|(at, item)| one(at, item))
                .collect()
        }
        Value::Object(members) => {
            let mut all = Vec::new();
            for (name, member) in members {
                for changed in with_each_leaf(member, new) {
                    let mut copy = members.clone();
                    copy.insert(name.clone(), changed);
                    all.push(Value::Object(copy));
                }
            }
            all
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![new.clone()],
    }
}

#[test]
fn every_scalar_argument_may_be_a_template() {
    let whole = kept("runbook.schema.json");
    let template = json!("{{ params.anything }}");
    for (name, example, with) in examples() {
        let changed = with_each_leaf(&with, &template);
        assert!(!changed.is_empty(), "`{name}`");
        for with in changed {
            accepts(&whole, &file(name, &with), &format!("`{name}`, {}", example.title));
        }
    }
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_shipped_file_is_accepted_by_the_schema_it_names_and_a_typo_is_not() {
    let mut found = Vec::new();
    yaml_files(&root().join("runbooks"), &mut found);
    yaml_files(&root().join("examples"), &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for path in found {
        let text = fs::read_to_string(&path).expect("a file");
        let named =
            text.lines().next().and_then(|line| line.split("$schema=").nth(1)).expect("the file names its schema");
        let schema = path.parent().expect("a folder").join(named);
        let schema = schema.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", schema.display()));
        let validator = kept(&schema.file_name().expect("a name").to_string_lossy());
        let value = yaml(&text);
        accepts(&validator, &value, &path.display().to_string());
        let mut wrong = value.clone();
        wrong["stepps"] = json!([]);
        assert!(!validator.is_valid(&wrong), "{}", path.display());
        if let Some(steps) = value["steps"].as_array() {
            for at in 0..steps.len() {
                let mut wrong = value.clone();
                wrong["steps"][at]["ueses"] = json!("exec");
                assert!(!validator.is_valid(&wrong), "step {at} of {}", path.display());
            }
        }
    }
}

#[test]
fn the_schemas_in_the_repository_are_those_the_program_prints() {
    let cli = Cli::new();
    for (kind, name) in [("runbook", "runbook.schema.json"), ("inventory", "inventory.schema.json")] {
        let text = fs::read_to_string(root().join("schemas").join(name)).expect("a schema");
        let printed = cli.run(&["schema", kind]).ends(0).out;
        assert!(printed == text, "`runbook schema --write schemas` writes another {name}");
    }
}
