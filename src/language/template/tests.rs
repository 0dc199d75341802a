#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::{Scope, TemplateErrorKind, TextKind, evaluate, references, render};
use crate::base::secret::token;

fn scope() -> Scope {
    Scope::new()
        .with("params", &json!({ "database": "orders", "to": null, "port": 5432, "list": [1, 2] }))
        .with("run", &json!({ "name": "demo" }))
        .with("steps", &json!({ "stage": { "staged": { "dir": "/x" }, "none": null } }))
        .with_secrets(["slack".to_owned(), "pg".to_owned()])
}

fn rendered(value: Value) -> Value {
    render(&value, &scope()).unwrap().value
}

fn fault(text: &str) -> (TemplateErrorKind, String) {
    let error = render(&json!({ "x": text }), &scope()).unwrap_err();
    assert_eq!(error.pointer, "/x");
    (error.kind, error.message)
}

#[test]
fn a_single_expression_keeps_its_type() {
    assert_eq!(rendered(json!("{{ params.port }}")), json!(5432));
    assert_eq!(rendered(json!("{{ steps.stage.staged }}")), json!({ "dir": "/x" }));
    assert_eq!(rendered(json!("{{ params.list }}")), json!([1, 2]));
    assert_eq!(rendered(json!("port {{ params.port }}\n")), json!("port 5432\n"));
    assert_eq!(rendered(json!("no template ${#x[@]}")), json!("no template ${#x[@]}"));
}

#[test]
fn a_null_leaves_out_its_key_and_nothing_else() {
    assert_eq!(rendered(json!({ "a": "{{ params.to }}", "b": 1, "c": null })), json!({ "b": 1, "c": null }));
    assert_eq!(fault("at {{ params.to }}").0, TemplateErrorKind::NotText);
    let error = render(&json!(["{{ params.to }}"]), &scope()).unwrap_err();
    assert_eq!((error.kind, error.pointer.as_str()), (TemplateErrorKind::NotText, "/0"));
}

#[test]
fn what_is_undefined_is_an_error_at_any_depth() {
    for text in
        ["{{ nope }}", "{{ params.nope }}", "a {{ params.nope }}", "{{ steps.x.y }}", "{{ params.nope.deeper }}"]
    {
        assert_eq!(fault(text).0, TemplateErrorKind::Undefined, "{text}");
    }
    assert_eq!(evaluate("params.nope", &scope()).unwrap_err().kind, TemplateErrorKind::Undefined);
    assert_eq!(evaluate("params.nope is defined", &scope()).unwrap(), json!(false));
    assert_eq!(rendered(json!("{{ params.nope|default('x') }}")), json!("x"));
}

#[test]
fn lists_and_mappings_do_not_slip_into_texts() {
    assert_eq!(fault("x {{ params.list }}").0, TemplateErrorKind::NotText);
    assert_eq!(fault("x {{ params }}").0, TemplateErrorKind::NotText);
    assert_eq!(rendered(json!("x {{ params.list|join(',') }}")), json!("x 1,2"));
    assert_eq!(rendered(json!("x {{ params.list|tojson }}")), json!("x [1,2]"));
}

#[test]
fn a_secret_passes_whole_or_not_at_all() {
    let whole = render(&json!(["Bearer {{ secrets.slack }}", "{{ secrets.pg }}"]), &scope()).unwrap();
    assert_eq!(whole.value, json!([format!("Bearer {}", token("slack")), token("pg")]));
    assert_eq!(whole.secrets.into_iter().collect::<Vec<_>>(), ["pg", "slack"]);
    for filter in ["upper", "length", "reverse", "b64encode", "sha256", "urlencode", "tojson", "title", "list|first"] {
        let text = format!("{{{{ secrets.slack|{filter} }}}}");
        assert!(render(&json!(text), &scope()).is_err(), "{filter}");
        let joined = format!("{{{{ (secrets.slack ~ '')|{filter} }}}}");
        assert!(render(&json!(joined), &scope()).is_err(), "joined {filter}");
    }
    for text in ["{{ secrets.slack[0] }}", "{{ secrets.slack[1:3] }}", "{{ secrets.slack.x }}", "{{ secrets.nope }}"] {
        assert!(render(&json!(text), &scope()).is_err(), "{text}");
    }
    assert_eq!(evaluate("secrets.slack", &scope()).unwrap_err().kind, TemplateErrorKind::Secret);
}

#[test]
fn data_cannot_name_a_secret() {
    let scope = scope().with("vars", &json!({ "evil": token("slack") }));
    let whole = render(&json!("{{ vars.evil }}"), &scope).unwrap();
    assert!(whole.secrets.is_empty());
    assert_eq!(whole.value, json!("\u{FFFD}slack\u{FFFD}"));
}

#[test]
fn work_and_size_are_bounded() {
    for text in [
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 2000000 }}",
        "{% for i in range(3000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ ['xxxxxxxxxx'] * 1000000 }}",
    ] {
        assert!(render(&json!(text), &scope()).is_err(), "{text}");
    }
}

#[test]
fn errors_point_into_the_text() {
    let text = "a {{ params.nope }} b";
    let error = render(&json!(text), &scope()).unwrap_err();
    assert!(text[error.range.clone().unwrap()].contains("nope"), "{error:?}");
    let text = "{{ params.port|nofilter }}";
    let error = render(&json!(text), &scope()).unwrap_err();
    assert_eq!(error.kind, TemplateErrorKind::Syntax);
    assert_eq!(&text[error.range.unwrap()], "nofilter");
    assert_eq!(fault("{{ params. }}").0, TemplateErrorKind::Syntax);
    assert_eq!(fault("a {{ params").0, TemplateErrorKind::Syntax);
}

fn read(text: &str, kind: TextKind) -> Vec<String> {
    references(text, kind).unwrap().into_iter().map(|reference| reference.path.join(".")).collect()
}

#[test]
fn references_are_the_dotted_names_in_order() {
    assert_eq!(read("{{ steps.choose.backup }}", TextKind::Template), ["steps.choose.backup"]);
    assert_eq!(read("plain", TextKind::Template), Vec::<String>::new());
    assert_eq!(
        read("{{ run.name }}: {{ params.a ~ vars.b }}{% for i in range(2) %}{{ i }}{% endfor %}", TextKind::Template),
        ["run.name", "params.a", "vars.b"]
    );
    assert_eq!(read("steps.a.rows > 0 and run.mode == 'real'", TextKind::Expression), ["steps.a.rows", "run.mode"]);
    let text = "x {{ steps.choose.backup }}";
    let found = references(text, TextKind::Template).unwrap();
    assert_eq!(&text[found[0].range.clone().unwrap()], "steps.choose.backup");
}

#[test]
fn steps_by_index_are_refused() {
    for text in ["{{ steps['a'].out }}", "{{ steps|length }}", "{{ steps[params.x].y }}"] {
        assert_eq!(references(text, TextKind::Template).unwrap_err().kind, TemplateErrorKind::Indexed, "{text}");
    }
}

#[test]
fn a_filter_that_nobody_has_is_found_before_anything_runs() {
    for text in ["{{ params.a|uper }}", "x {{ params.a | default('|no') |uper}} y", "{% if params.a|uper %}{% endif %}"]
    {
        let error = references(text, TextKind::Template).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (TemplateErrorKind::Syntax, "there is no filter `uper`"));
        assert_eq!(&text[error.range.unwrap()], "uper");
        assert_eq!(error.help.as_deref(), Some("did you mean `upper`?"));
    }
    assert!(references("a | uper", TextKind::Expression).is_err());
    assert_eq!(read("x | y {{ params.a|d('a | b') }} | z", TextKind::Template), ["params.a"]);
}

#[test]
fn every_filter_that_is_suggested_exists() {
    for name in super::filter::WELL_KNOWN {
        assert!(super::filter::exists(name), "{name}");
    }
}

#[test]
fn a_list_repeated_without_measure_is_refused_before_it_fills_the_memory() {
    let said = evaluate("[[04]]*40000000", &Scope::new()).unwrap_err();
    assert!(said.message.contains("larger than 1 MiB"), "{}", said.message);
}

#[test]
fn a_filter_that_would_walk_a_list_without_measure_is_refused_before_it_copies_it() {
    for text in [
        "([0]*10**7)|list",
        "([0]*10**8)|list|length",
        "(range(100)|list*10**6)|map('abs')|list",
        "([0]*10**7)|map('b64encode')",
        "([0]*10**7)|select|list",
        "([0]*10**7)|join(',')",
        "([0]*10**7)|string",
        "([0]*10**7)|tojson",
        "([0]*10**7)|b64encode",
        "([0]*10**7)|reverse",
        "([0]*10**7)|sort",
        "[1]|zip([0]*10**7)|list",
    ] {
        let said = evaluate(text, &Scope::new()).unwrap_err();
        assert_eq!(said.kind, TemplateErrorKind::Budget, "{text}: {}", said.message);
    }
    assert_eq!(evaluate("([1]*1000)|list|sum", &Scope::new()), Ok(json!(1000)));
    assert_eq!(evaluate("['a']|map('b64encode')|join(attribute=none)", &Scope::new()), Ok(json!("YQ==")));
    assert_eq!(evaluate("[3, 1]|sort(reverse=true)|first", &Scope::new()), Ok(json!(3)));
}
