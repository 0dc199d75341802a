#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::{Checked, Node, TemplatePolicy, parse, validate};
use crate::base::diagnostic::{Code, Place, SourceId};

fn tree(text: &str) -> Node {
    let (node, faults) = parse(SourceId(0), text);
    assert!(faults.is_empty(), "{faults:?}");
    node.unwrap()
}

fn slice(text: &str, place: Place) -> &str {
    &text[place.span.start..place.span.start + place.span.len]
}

fn against(schema: &Value, text: &str, templates: TemplatePolicy) -> Checked {
    validate(&tree(text), schema, templates)
}

fn codes(checked: &Checked) -> Vec<(&str, Code)> {
    checked.faults.iter().map(|fault| (fault.pointer.as_str(), fault.diagnostic.code)).collect()
}

#[test]
fn every_node_knows_its_bytes_behind_wide_characters() {
    let text = "ä: ö\nlist: [1, \"zwei\", 'drei']\nmap:\n  key: value\n";
    let root = tree(text);
    let list = root.get("list").unwrap().items();
    let written: Vec<&str> = list.iter().map(|node| slice(text, node.at)).collect();
    assert_eq!(written, ["1", "\"zwei\"", "'drei'"]);
    assert_eq!(slice(text, root.get("map").unwrap().get("key").unwrap().at), "value");
    assert_eq!(slice(text, root.get("map").unwrap().at), "key", "a mapping is pointed at by its first key");
    assert_eq!(slice(text, root.places()["/list/0"]), "1");
    assert_eq!(slice(text, root.key_places()["/map/key"]), "key");
}

#[test]
fn scalars_follow_yaml_1_2_and_keep_what_was_written() {
    let root = tree("a: no\nb: 1.10\nc: 0123\nd: true\ne: 99999999999999999999\nf: .inf\ng: 12:30\nh:\n");
    assert_eq!(root.get("a").unwrap().to_json(), json!("no"));
    assert_eq!(root.get("d").unwrap().to_json(), json!(true));
    assert_eq!(root.get("g").unwrap().to_json(), json!("12:30"));
    assert_eq!(root.get("h").unwrap().to_json(), Value::Null);
    for (key, lexeme) in [("b", "1.10"), ("c", "0123"), ("e", "99999999999999999999"), ("f", ".inf")] {
        assert_eq!(root.get(key).unwrap().lexeme.as_deref(), Some(lexeme));
    }
    let text = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let checked = against(&text, "a: 1.10\nb: 0123\nc: true\nd: 1e3\n", TemplatePolicy::Forbidden);
    assert_eq!(checked.value, json!({ "a": "1.10", "b": "0123", "c": "true", "d": "1e3" }));
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let root = tree("base: &b { x: 1, y: 2 }\nuse: { <<: *b, y: 3 }\nsame: *b\n");
    assert_eq!(root.get("use").unwrap().to_json(), json!({ "x": 1, "y": 3 }));
    assert_eq!(root.get("same").unwrap().to_json(), json!({ "x": 1, "y": 2 }));
}

#[test]
fn a_template_stands_for_any_type_only_where_templates_are_allowed() {
    let schema = json!({ "type": "object", "properties": {
        "jobs": { "type": "integer" }, "pause": { "type": "string", "format": "runbook-duration" },
        "handle": { "type": "object", "properties": { "id": { "type": "string" } }, "required": ["id"] },
        "kind": { "enum": ["a", "b"] }, "maybe": { "anyOf": [{ "type": "boolean" }, { "type": "null" }] },
    }});
    let text = "jobs: \"{{ a }}\"\npause: \"{{ a }}m\"\nhandle: \"{{ a }}\"\nkind: \"{{ a }}\"\nmaybe: \"{{ a }}\"\n";
    assert_eq!(codes(&against(&schema, text, TemplatePolicy::Allowed)), []);
    let refused = codes(&against(&schema, text, TemplatePolicy::Forbidden)).len();
    assert_eq!(refused, 5);
    let mixed = against(&schema, "jobs: \"1{{ a }}\"\nhandle: \"x{{ a }}\"\n", TemplatePolicy::Allowed);
    assert_eq!(codes(&mixed), [("/jobs", Code::WrongType), ("/handle", Code::WrongType)]);
}

#[test]
fn all_faults_come_at_once_and_name_their_part() {
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["id"], "properties": {
        "id": { "type": "string" }, "size": { "type": "string", "format": "runbook-size" },
        "port": { "type": "integer", "minimum": 0, "maximum": 65535 },
        "list": { "type": "array", "items": { "$ref": "#/$defs/item" } },
    }, "$defs": { "item": { "type": "object", "additionalProperties": false, "properties": { "x": { "type": "boolean" } } } } });
    let text = "size: big\nport: -1\nlist: [ { x: true }, { x: yes }, { y: 1 } ]\n";
    let checked = against(&schema, text, TemplatePolicy::Forbidden);
    assert_eq!(
        codes(&checked),
        [
            ("/size", Code::BadSize),
            ("/port", Code::UnknownValue),
            ("/list/1/x", Code::WrongType),
            ("/list/2/y", Code::UnknownKey),
            ("/id", Code::MissingKey),
        ]
    );
    assert!(checked.is_clean("/list/0") && !checked.is_clean("/list/1") && !checked.is_clean("/list"));
    assert!(checked.is_clean("/li"), "a pointer is no prefix of a longer name");
}

#[test]
fn files_from_other_systems_read_the_same() {
    let plain = "name: x\nlist:\n  - a\ntext: |\n  one\n  two\n";
    let wanted = tree(plain).to_json();
    let windows = plain.replace('\n', "\r\n");
    assert_eq!(tree(&windows).to_json(), wanted);
    let marked = format!("\u{FEFF}{plain}");
    let root = tree(&marked);
    assert_eq!(root.to_json(), wanted);
    assert_eq!(slice(&marked, root.get("name").unwrap().at), "x");
    assert_eq!(slice(&windows, tree(&windows).get("list").unwrap().items()[0].at), "a");
}
