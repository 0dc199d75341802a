//! Whatever the bytes are, loading ends without a panic and what it says can be drawn.

use proptest::prelude::*;
use runbook::base::diagnostic::{Look, RenderStyle, render, to_json};
use runbook::language::{LoadRequest, MemoryFiles, Vocabulary, load};
use serde_json::Value;

struct AnyAction;

impl Vocabulary for AnyAction {
    fn actions(&self) -> Vec<String> {
        vec!["shell".to_owned()]
    }

    fn params_schema(&self, _: &str) -> Option<Value> {
        Some(Value::Bool(true))
    }

    fn output_schema(&self, _: &str) -> Option<Value> {
        Some(Value::Bool(true))
    }
}

fn survives(bytes: Vec<u8>) {
    let files = MemoryFiles::default().with("x.yaml", bytes);
    let request = LoadRequest { runbook: Some("x.yaml".to_owned()), ..LoadRequest::default() };
    let loaded = load(&request, &files, &AnyAction);
    for look in [Look::Plain, Look::Colour] {
        let text = render(&loaded.diagnostics, &loaded.sources, RenderStyle { look, width: 60 });
        assert_eq!(text.is_empty(), loaded.diagnostics.is_empty());
    }
    assert_eq!(to_json(&loaded.diagnostics, &loaded.sources).as_array().unwrap().len(), loaded.diagnostics.len());
}

const GOOD: &str = "version: 1\nname: größe\nparams: { p: { type: timestamp, default: \"5m ago\" } }\nvars: &v { ä: \"ü\" }\nsteps:\n  - id: a\n    run: |\n      echo \"{{ ö }}\"\n    env: { X: 'é' }\n  - { id: b, needs: [a?], uses: x, with: { q: *v, z: [1.10, 0x1f, ~] }, timeout: 5m }\n  - { id: c, for_each: [1, { k: é }], max_parallel: 2, locks: [l, 'm{{ ü }}'], on_failure: pause, run: 'true', outputs: { o: { regex: '(ö+)' }, p: { json: /ä }, q: lines }, creates: [{ name: n, destroy: rm, ttl: 1h }], undo: { uses: x, with: { q: *v }, retry: { max_attempts: 2 } } }\npass_env: [HOME]\nlocks: [r, { name: s, on_conflict: queue }]\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        survives(text.into_bytes());
    }

    #[test]
    fn yaml_like_text_is_read_or_refused(
        text in "([ \t]{0,3}(-|[a-zé]{1,3}:|\\{|\\}|\\[|\\]|\"|'|&a|\\*a|<<:|\\||>|!t|#|---|,|\\?|é|0x1|\\.inf)[ \n]{0,2}){0,30}"
    ) {
        survives(text.into_bytes());
    }

    #[test]
    fn a_damaged_runbook_is_read_or_refused(at in 0..GOOD.len(), with in proptest::collection::vec(any::<u8>(), 0..4), cut in 0_usize..6) {
        let mut bytes = GOOD.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        survives(bytes);
    }

    #[test]
    fn any_value_of_a_new_key_is_read_or_refused(
        key in "for_each|max_parallel|outputs|creates|undo|locks|pass_env|on_failure",
        value in "([\\[\\]{}:,' ]|regex|json|text|name|destroy|ttl|run|uses|with|x|é|\\(|\\+|\\{\\{ item \\}\\}|~|-1|99999|/a|~1){0,24}"
    ) {
        let top = if matches!(key.as_str(), "locks" | "pass_env") { format!("{key}: {value}\n") } else { String::new() };
        survives(format!("version: 1\nname: n\n{top}steps:\n  - id: a\n    run: x\n    {key}: {value}\n").into_bytes());
    }
}

#[test]
fn the_undamaged_runbook_is_good() {
    let files = MemoryFiles::default().with("x.yaml", GOOD);
    let request = LoadRequest { runbook: Some("x.yaml".to_owned()), ..LoadRequest::default() };
    let loaded = load(&request, &files, &AnyAction);
    let codes: Vec<&str> = loaded.diagnostics.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["RB0109", "RB0109"], "only the names that are no ASCII");
}
