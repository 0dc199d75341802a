//! Who is told of what: rules of `notify`, webhooks, their signatures. What is seen is what arrives.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::web::{Asked, Web};

/// A runbook with these rules and steps.
fn file(rules: &str, steps: &str) -> Cli {
    Cli::with(&format!(
        "version: 1\nname: told\nsecrets: {{ hook: {{ env: HOOK }}, key: {{ env: KEY }} }}\nenvironments: {{ production: {{ default: true }}, drill: {{}} }}\nnotify:\n{rules}\nsteps:\n{steps}\n"
    ))
}

const WELL: &str = "  - { id: a, run: 'true' }";
const BADLY: &str = "  - { id: a, run: 'true' }\n  - { id: b, run: 'echo no; exit 4' }";

fn answers(status: u16) -> Web {
    Web::start(move |_| (status, String::new()))
}

fn body(asked: &Asked) -> Value {
    serde_json::from_str(&asked.body).unwrap_or_else(|error| panic!("{error} in {}", asked.body))
}

/// The lines of the only run's `notifications.jsonl`.
fn deliveries(cli: &Cli) -> Vec<Value> {
    let text = std::fs::read_to_string(cli.only_run().join("notifications.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_start_and_the_end_of_a_run_are_told_with_all_that_is_known_of_them() {
    let web = answers(200);
    let rule = format!(
        "  - {{ on: [started, failed, succeeded], uses: notify.webhook, with: {{ url: \"{}\" }} }}",
        web.url("/x")
    );
    let cli = file(&rule, BADLY);
    cli.run(&["run", "runbook.yaml"]).ends(10);
    let [started, failed] = web.asked().iter().map(body).collect::<Vec<_>>().try_into().expect("two requests");
    assert_eq!(
        (&started["kind"], &started["seq"], &started["exit_code"]),
        (&json!("started"), &json!(1), &Value::Null)
    );
    assert_eq!((&failed["kind"], &failed["step"], &failed["exit_code"]), (&json!("failed"), &json!("b"), &json!(10)));
    assert_eq!(
        (&failed["outcome"], &failed["runbook"], &failed["mode"]),
        (&json!("failed"), &json!("told"), &json!("real"))
    );
    assert_eq!((&failed["run"], &failed["environment"]), (&json!(cli.id()), &json!("production")));
    assert_eq!(failed["command"], json!(format!("runbook show {}", cli.id())));
    assert!(failed["message"].as_str().is_some_and(|message| message.contains("exit code 4")), "{failed}");
    let told: Vec<_> = deliveries(&cli).iter().map(|line| (line["event"].clone(), line["result"].clone())).collect();
    assert_eq!(told, [(json!(1), json!("delivered")), (failed["seq"].clone(), json!("delivered"))]);
}

#[test]
fn a_notifier_that_fails_is_tried_three_times_and_changes_nothing_about_the_run() {
    let web = answers(503);
    let rules = format!(
        "  - {{ on: [succeeded], uses: notify.webhook, with: {{ url: \"{}\" }} }}\n  - {{ on: [started], uses: notify.webhook, with: {{ url: \"{}\", timeout: 1s }} }}\n  - {{ on: [succeeded], uses: notify.command, with: {{ argv: [no-such-program], text: x }} }}",
        web.url("/busy"),
        "http://127.0.0.1:1/nobody",
    );
    let cli = file(&rules, WELL);
    cli.run(&["run", "runbook.yaml"])
        .ends(0)
        .says("warning: rule 1 of `notify` (`notify.webhook`) could not tell `succeeded`: `127.0.0.1` answered with status 503")
        .says("warning: rule 2 of `notify` (`notify.webhook`) could not tell `started`")
        .says("warning: rule 3 of `notify` (`notify.command`)");
    assert_eq!(web.at("/busy").len(), 3);
    let keys: std::collections::BTreeSet<_> =
        web.asked().iter().map(|asked| asked.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let failed = deliveries(&cli);
    assert!(failed.len() == 3 && failed.iter().all(|line| line["result"] == "failed"), "{failed:?}");
    cli.run(&["audit", "verify", "last"]).ends(0);
}

#[test]
fn a_resumed_run_tells_what_was_not_delivered_and_nothing_twice() {
    let refusing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = std::sync::Arc::clone(&refusing);
    let web = Web::start(move |asked| {
        let refuse = asked.path == "/end" && seen.load(std::sync::atomic::Ordering::SeqCst);
        (if refuse { 400 } else { 200 }, String::new())
    });
    let rule = |on: &str, path: &str| {
        format!("  - {{ on: [{on}], uses: notify.webhook, with: {{ url: \"{}\" }} }}", web.url(path))
    };
    let cli = file(&format!("{}\n{}", rule("started", "/start"), rule("succeeded", "/end")), WELL);
    cli.run(&["run", "runbook.yaml"]).ends(0).says("answered with status 400");
    assert_eq!((web.at("/start").len(), web.at("/end").len()), (1, 1));
    refusing.store(false, std::sync::atomic::Ordering::SeqCst);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!((web.at("/start").len(), web.at("/end").len()), (1, 2));
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!((web.at("/start").len(), web.at("/end").len()), (1, 2));
}

#[test]
fn templates_and_secrets_of_a_rule_are_rendered_and_the_secrets_are_seen_nowhere() {
    let web = answers(204);
    let rules = "  - on: [failed]\n    uses: notify.webhook\n    with:\n      url: \"{{ secrets.hook }}\"\n      method: PUT\n      headers: { x-key: \"{{ secrets.key }}\" }\n      status: 204\n      body: { text: \"{{ run.name }} {{ event.outcome }} [{{ event.percent }}] {{ event.step }}\", routing_key: \"{{ secrets.key }}\" }\n  - on: [failed]\n    uses: notify.command\n    with: { argv: [sh, -c, 'cat > told; echo \"$KEY\"; exit 3'], text: \"{{ event.message }}\", env: { KEY: \"{{ secrets.key }}\" } }";
    let hook = web.url("/very/secret/path");
    let cli = file(rules, BADLY).var("HOOK", &hook).var("KEY", "the-key-of-all");
    let ran = cli.run(&["run", "runbook.yaml"]).ends(10);
    let [asked] = web.asked().try_into().expect("one request");
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PUT", "/very/secret/path"));
    assert_eq!(asked.headers["x-key"], "the-key-of-all");
    assert_eq!(body(&asked), json!({ "text": "told failed [] b", "routing_key": "the-key-of-all" }));
    assert!(cli.read("told").starts_with("`told` failed after"), "{}", cli.read("told"));
    for value in ["the-key-of-all", "very/secret/path"] {
        let kept = Command::new("grep").args(["-rl", "--", value]).arg(cli.state()).output().expect("grep");
        assert!(kept.stdout.is_empty(), "{}", String::from_utf8_lossy(&kept.stdout));
        assert!(!ran.err.contains(value), "{}", ran.err);
    }
}

#[test]
fn a_secret_of_a_rule_that_has_no_value_silences_that_rule_and_nothing_else() {
    let web = answers(200);
    let rules = format!(
        "  - {{ on: [succeeded], uses: notify.webhook, with: {{ url: \"{{{{ secrets.hook }}}}\" }} }}\n  - {{ on: [succeeded], uses: notify.webhook, with: {{ url: \"{}\" }} }}",
        web.url("/other")
    );
    let cli = file(&rules, WELL);
    cli.run(&["dry-run", "runbook.yaml"]).ends(0).says("warning: secret `hook`");
    assert!(web.asked().is_empty(), "a dry run sends nothing");
    cli.run(&["run", "runbook.yaml"]).ends(0).says("warning: secret `hook`: the variable `HOOK` is not set");
    assert_eq!(web.at("/other").len(), 1);
    let results: Vec<_> = deliveries(&cli).iter().map(|line| (line["rule"].clone(), line["result"].clone())).collect();
    assert!(results.contains(&(json!(1), json!("failed"))) && results.contains(&(json!(2), json!("delivered"))));
}

#[test]
fn what_a_drill_tells_is_marked_in_rules_and_in_steps() {
    let web = answers(200);
    let rules = format!(
        "  - {{ on: [started], uses: notify.webhook, with: {{ url: \"{0}\" }} }}\n  - {{ on: [started], uses: notify.webhook, with: {{ url: \"{0}\", body: \"it began\" }} }}\n  - {{ on: [started], uses: notify.command, with: {{ argv: [sh, -c, 'cat > told'], text: \"it began\" }} }}",
        web.url("/x")
    );
    let step = format!(
        "  - {{ id: a, uses: notify.webhook, with: {{ url: \"{}\", body: {{ text: hello }} }} }}",
        web.url("/step")
    );
    let cli = file(&rules, &step);
    cli.run(&["drill", "runbook.yaml"]).ends(0);
    let mut texts: Vec<String> = web.at("/x").iter().map(|asked| asked.body.clone()).collect();
    texts.sort();
    assert_eq!(texts[0], "[DRILL] it began");
    assert!(texts[1].contains("\"message\":\"[DRILL] `told` started"), "{texts:?}");
    assert!(web.asked().iter().all(|asked| asked.headers["x-runbook-mode"] == "drill"));
    assert_eq!(cli.read("told"), "[DRILL] it began\n");
    let [step] = web.at("/step").try_into().expect("one request");
    assert_eq!(body(&step), json!({ "text": "[DRILL] hello" }));
}

#[test]
fn rules_of_the_inventory_and_of_the_runbook_both_apply() {
    let web = answers(200);
    let rule = |path: &str| {
        format!("notify: [ {{ on: [succeeded], uses: notify.webhook, with: {{ url: \"{}\" }} }} ]\n", web.url(path))
    };
    let cli = Cli::with(&format!("version: 1\nname: both\n{}steps:\n{WELL}\n", rule("/runbook")));
    cli.file("inventory.yaml", &format!("version: 1\n{}", rule("/inventory")));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!((web.at("/runbook").len(), web.at("/inventory").len()), (1, 1));
}

#[test]
fn mistakes_in_rules_are_found_where_they_stand() {
    for (rule, words) in [
        ("on: [faild], uses: notify.webhook, with: { url: \"http://x\" }", "did you mean `failed`?"),
        ("on: [failed], uses: notify.webhok, with: { url: \"http://x\" }", "did you mean `notify.webhook`?"),
        ("on: [failed], uses: exec, with: { argv: [x] }", "`exec` is an action, but tells nobody"),
        ("on: [], uses: notify.webhook, with: { url: \"http://x\" }", "`on` is empty"),
        ("on: [failed], uses: notify.webhook, with: { ur: x }", "unknown argument `ur` of `notify.webhook`"),
        ("on: [failed], uses: notify.webhook", "the argument `url` is missing"),
        ("on: [failed], uses: notify.webhook, with: { url: \"{{ event.mesage }}\" }", "did you mean `message`?"),
        ("on: [failed], uses: notify.webhook, with: { url: \"{{ steps.a.stdout }}\" }", "cannot read outputs of steps"),
        ("on: [failed], uses: notify.command, with: { argv: [\"{{ secrets.key }}\"], text: x }", "visible to others"),
    ] {
        file(&format!("  - {{ {rule} }}"), WELL)
            .run(&["check", "runbook.yaml"])
            .ends(3)
            .says(words)
            .says("runbook.yaml:");
    }
    let late = file("  - { on: [failed], uses: notify.webhook, with: { url: \"ftp://x/\", status: 99 } }", WELL);
    late.run(&["run", "runbook.yaml"]).ends(3).says("rule 1 of `notify` (`notify.webhook`)").says("99 is not a status");
    assert!(late.runs().is_empty());
}

#[test]
fn a_signature_is_verified_as_the_documentation_says() {
    let documentation = include_str!("../../docs/language.md");
    let recipe = documentation.split("```sh\n# verify").nth(1).and_then(|rest| rest.split("```").next());
    let recipe = format!("# verify{}", recipe.expect("the recipe"));
    let web = answers(200);
    let rule = format!(
        "  - {{ on: [succeeded], uses: notify.webhook, with: {{ url: \"{}\", secret: \"{{{{ secrets.key }}}}\" }} }}",
        web.url("/signed")
    );
    let cli = file(&rule, WELL).var("KEY", "shared 'key' of both");
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let [asked] = web.asked().try_into().expect("one request");
    let verify = |body: &str, timestamp: &str| {
        cli.file("body", body);
        let mut command = Command::new("bash");
        command.args(["-eu", "-c", &recipe]).current_dir(cli.path("")).env("SECRET", "shared 'key' of both");
        command.env("TIMESTAMP", timestamp).env("SIGNATURE", &asked.headers["x-runbook-signature"]);
        command.output().expect("bash with openssl").status.success()
    };
    let timestamp = &asked.headers["x-runbook-timestamp"];
    assert!(verify(&asked.body, timestamp));
    assert!(!verify(&format!("{} ", asked.body), timestamp));
    assert!(!verify(&asked.body, "1"));
}
