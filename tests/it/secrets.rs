//! Where secrets come from: several sources, AWS Secrets Manager, HashiCorp Vault. What is seen is what the program says.

use serde_json::json;

use crate::support::cli::Cli;
use crate::support::moto::Moto;
use crate::support::vault::{self, SECRET_ID, TOKEN, VALUE};

/// A step that writes a secret into a file of the working folder, and says it aloud.
fn shows(secret: &str) -> Cli {
    Cli::with(&format!(
        "version: 1\nname: shows\nsecrets:\n  s: {secret}\nsteps:\n  - id: a\n    run: 'printf %s \"$S\" > got; echo \"it is $S\"'\n    env: {{ S: \"{{{{ secrets.s }}}}\" }}\n"
    ))
}

/// The value arrives, and nothing that is kept or said holds it.
#[track_caller]
fn gives(cli: &Cli, value: &str) {
    let ran = cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!(cli.read("got"), value);
    let kept = std::process::Command::new("grep").args(["-rl", "--", value]).arg(cli.state()).output().expect("grep");
    assert!(kept.stdout.is_empty(), "{}", String::from_utf8_lossy(&kept.stdout));
    assert!(!ran.err.contains(value) && !ran.out.contains(value));
}

#[test]
fn a_source_that_is_absent_is_passed_over_in_silence_and_one_that_fails_is_named() {
    let cli = shows(
        "[ { env: NONE }, { file: /no/such }, { command: [sh, -c, 'echo secret-on-stdout; exit 3'] }, { env: GIVEN } ]",
    )
    .var("GIVEN", "the-fourth-source");
    let ran = cli.run(&["run", "runbook.yaml"]).ends(0).says("warning: secret `s`: `sh` failed with exit code 3");
    assert_eq!(cli.read("got"), "the-fourth-source");
    assert!(!ran.err.contains("NONE") && !ran.err.contains("/no/such") && !ran.err.contains("secret-on-stdout"));
}

#[test]
fn without_any_source_nothing_is_begun_and_each_is_named() {
    let cli = shows("[ { env: NONE }, { file: /no/such }, { prompt: true } ]");
    for command in ["run", "dry-run"] {
        let ran = cli.run(&[command, "runbook.yaml"]).ends(4);
        let said = format!("{}{}", ran.out, ran.err);
        for part in ["`NONE` is not set", "cannot read `/no/such`", "nobody could be asked"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    assert!(cli.runs().is_empty());
}

#[test]
fn mistakes_in_sources_are_found_where_they_stand() {
    let check = |secret: &str, words: &str| {
        shows(secret).run(&["check", "runbook.yaml"]).ends(3).says(words);
    };
    check("[ { envv: X } ]", "did you mean `env`?");
    check("[]", "the secret has no source");
    check("{ vault: { path: data/x, field: f } }", "`data/x` begins with `data/`");
    check(
        "{ vault: { path: x, field: f, token: { env: T }, approle: { role_id: r, secret_id: { env: I } } } }",
        "takes only one of `token`, `approle`",
    );
    check("{ aws: { key: x } }", "the key `secret` is missing");
}

fn aws(moto: &Moto, more: &str) -> Cli {
    let url = moto.url();
    shows(&format!("[ {{ aws: {{ {more}, region: eu-west-1, endpoint: \"{url}\" }} }} ]"))
        .var("AWS_ACCESS_KEY_ID", "test")
        .var("AWS_SECRET_ACCESS_KEY", "test")
        .var("AWS_EC2_METADATA_DISABLED", "true")
}

#[tokio::test]
async fn aws_gives_whole_secrets_members_of_json_and_older_versions() {
    let moto = Moto::start();
    moto.secret("plain", "plain-text-of-aws").await;
    moto.secret("pair", &json!({ "user": "robot", "password": "member-of-aws" }).to_string()).await;
    moto.call("PutSecretValue", &json!({ "SecretId": "plain", "SecretString": "the-newer-of-aws" })).await;
    gives(&aws(&moto, "secret: plain"), "the-newer-of-aws");
    gives(&aws(&moto, "secret: plain, version_stage: AWSPREVIOUS"), "plain-text-of-aws");
    gives(&aws(&moto, "secret: pair, key: password"), "member-of-aws");
}

#[tokio::test]
async fn aws_says_what_is_wrong_and_never_a_value() {
    let moto = Moto::start();
    moto.secret("pair", &json!({ "password": "never-to-be-seen" }).to_string()).await;
    moto.secret("plain", "never-to-be-seen").await;
    for (more, words) in [
        ("secret: missing", "AWS Secrets Manager has no `missing`"),
        ("secret: pair, key: user", "`pair` has no member `user`"),
        ("secret: plain, key: user", "`plain` is not JSON"),
    ] {
        let cli = aws(&moto, more);
        let ran = cli.run(&["run", "runbook.yaml"]).ends(4).says(words);
        assert!(!ran.err.contains("never-to-be-seen"), "{}", ran.err);
        assert!(cli.runs().is_empty());
    }
}

#[test]
fn aws_without_credentials_or_server_is_an_error_that_another_source_makes_up_for() {
    let source = "{ aws: { secret: x, region: eu-west-1, endpoint: \"http://127.0.0.1:1\" } }";
    let cli = shows(&format!("[ {source}, {{ env: GIVEN }} ]"))
        .var("GIVEN", "from-the-environment")
        .var("AWS_EC2_METADATA_DISABLED", "true");
    cli.run(&["run", "runbook.yaml"]).ends(0).says("warning: secret `s`: AWS Secrets Manager cannot be asked for `x`");
    assert_eq!(cli.read("got"), "from-the-environment");
}

#[test]
fn vault_is_entered_by_a_token_of_the_environment_of_a_file_or_by_a_role() {
    let server = vault::vault();
    let address = server.url("");
    let with = |more: &str| shows(&format!("{{ vault: {{ path: app/db, field: field{more} }} }}"));
    gives(&with("").var("VAULT_ADDR", &address).var("VAULT_TOKEN", TOKEN), VALUE);
    let given = with(&format!(", address: \"{address}/\", token: {{ env: MINE }}, namespace: ours"));
    gives(&given.var("MINE", TOKEN), VALUE);
    assert_eq!(
        server.asked().last().and_then(|asked| asked.headers.get("x-vault-namespace").cloned()),
        Some("ours".into())
    );
    let home = with("").var("VAULT_ADDR", &address);
    std::fs::write(home.dir().join(".vault-token"), format!("{TOKEN}\n")).expect("written");
    gives(&home, VALUE);
    let role = with(", approle: { role_id: robot, secret_id: { env: ID } }");
    gives(&role.var("VAULT_ADDR", &address).var("ID", SECRET_ID), VALUE);
    let mount = shows("{ vault: { mount: team/kv, path: x, field: field } }");
    gives(&mount.var("VAULT_ADDR", &address).var("VAULT_TOKEN", TOKEN), "value-of-another-mount");
}

#[test]
fn vault_says_what_is_wrong_and_never_a_token_or_value() {
    let server = vault::vault();
    let address = server.url("");
    let fails = |vault: &str, token: &str, words: &str| {
        let cli = shows(&format!("{{ vault: {{ {vault} }} }}")).var("VAULT_ADDR", &address).var("VAULT_TOKEN", token);
        let ran = cli.run(&["run", "runbook.yaml"]).ends(4).says(words);
        assert!(!ran.err.contains(token) && !ran.err.contains(VALUE), "{}", ran.err);
    };
    fails(
        "path: app/db, field: field",
        "a-wrong-token",
        "refuses `secret/app/db` (status 403): 1 error occurred: * permission denied",
    );
    fails("path: app/none, field: field", TOKEN, "has no `secret/app/none`");
    fails("path: app/deleted, field: field", TOKEN, "has no `secret/app/deleted`");
    fails("path: app/db, field: other", TOKEN, "`secret/app/db` has no field `other`");
    fails("path: app/db, field: nested", TOKEN, "is not a text");
    fails("mount: old, path: app, field: field", TOKEN, "not a key-value store of version 2");
    fails("path: app/db, field: field, namespace: theirs", TOKEN, "permission denied");
    let role = "path: app/db, field: field, approle: { role_id: nobody, secret_id: { env: VAULT_TOKEN } }";
    fails(role, TOKEN, "refuses the login of role `nobody` (status 400): invalid role or secret ID");
}

#[test]
fn a_sealed_vault_is_asked_again_and_an_absent_one_is_silent_beside_another_source() {
    let server = vault::vault();
    let cli = shows(
        "[ { vault: { path: app, field: f } }, { vault: { mount: sealed, path: app, field: f, address: ADDRESS } }, { env: GIVEN } ]",
    );
    let text = cli.read("runbook.yaml").replace("ADDRESS", &format!("\"{}\"", server.url("")));
    cli.file("runbook.yaml", &text);
    let cli = cli.var("GIVEN", "from-the-environment").var("VAULT_TOKEN", TOKEN);
    let ran = cli.run(&["run", "runbook.yaml"]).ends(0).says("(status 503): Vault is sealed");
    assert!(!ran.err.contains("address of HashiCorp Vault is not known"), "{}", ran.err);
    assert_eq!(server.asked().len(), 3);
    assert_eq!(cli.read("got"), "from-the-environment");
}
