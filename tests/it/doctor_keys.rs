//! `doctor --keys` with real keys, and the rule that keys outlive the site.

use serde_json::Value;

use crate::support::cli::Cli;
use crate::support::parcel::age_keys;

/// Stands for a secret that is declared and cannot be had.
const NOWHERE: &str = "nowhere";

/// A user with a store `offsite` that encrypts like this, and secrets read from files.
fn site(encryption: &str, secrets: &[(&str, &str)]) -> Cli {
    let cli = Cli::new();
    let mut declared = String::new();
    for (name, value) in secrets {
        if *value != NOWHERE {
            cli.file(name, value);
        }
        declared += &format!("  {name}: {{ file: {} }}\n", cli.path(name).display());
    }
    let inventory = format!(
        "version: 1\nstores:\n  offsite:\n    url: file:///srv/backups\n    encryption: {encryption}\n  bare: {{ url: file:///srv/bare }}\n\
         secrets:\n{declared}environments:\n  production: {{ protected: true, default: true }}\n"
    );
    cli.file("inventory.yaml", &inventory);
    cli
}

fn report(cli: &Cli, code: i32) -> Value {
    let all = cli.run(&["doctor", "--keys", "--json"]).ends(code).json();
    assert_eq!(all.as_array().unwrap().len(), 1, "a store that encrypts nothing has no keys: {all:#}");
    all[0].clone()
}

#[test]
fn a_canary_is_decrypted_with_each_identity_by_itself() {
    let ((mine, recipient), (_, offline), (stranger, _)) = (age_keys(), age_keys(), age_keys());
    let encryption = format!(
        "{{ recipients: [{recipient}, {{ key: {offline}, name: safe, offline: true }}], identities: [ops, stranger] }}"
    );
    let cli = site(&encryption, &[("ops", &mine), ("stranger", &stranger)]);
    let ran = cli.run(&["doctor", "--keys"]).ends(0);
    let ran = ran.prints("offsite  age: what is written now can be read here").prints("`ops` reads it");
    ran.prints("`stranger` does not").prints("(safe): no identity here, as `offline` says");
    let found = report(&cli, 0);
    assert_eq!((&found["readable"], &found["keys"][0]["reads"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(found["keys"][1]["reads"], Value::Bool(false));
    assert_eq!(found["recipients"][0]["identity"], "ops");
    let shown = found.to_string();
    assert!(!shown.contains("AGE-SECRET-KEY"), "{shown}");
}

#[test]
fn a_wrong_password_reads_what_it_wrote_itself_but_not_the_backups_that_are_there() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("stored")).unwrap();
    std::fs::create_dir(cli.path("letters")).unwrap();
    cli.file("letters/one.txt", "dear reader\n");
    cli.file("word", "correct horse");
    for method in ["passphrase: word", "openssl: { password: word }", "gpg: { passphrase: word }"] {
        let inventory = format!(
            "version: 1\nstores:\n  offsite:\n    url: file://{}\n    encryption: {{ {method} }}\nsecrets:\n  word: {{ file: {} }}\n",
            cli.path("stored").display(),
            cli.path("word").display()
        );
        cli.file("inventory.yaml", &inventory);
        let nightly = format!(
            "version: 1\nname: nightly\nsteps:\n  - id: keep\n    uses: backup.create\n    with: {{ source: letters, stores: [offsite], \
             paths: [{}] }}\n",
            cli.path("letters").display()
        );
        cli.file("nightly.yaml", &nightly);
        cli.file("word", "correct horse");
        cli.run(&["run", "nightly.yaml"]).ends(0);
        cli.run(&["doctor", "--keys"]).ends(0).prints("of `letters` is read");
        cli.file("word", "battery staple");
        cli.run(&["doctor", "--keys"]).ends(4).prints("can be read here").prints("is NOT read").says("another key");
    }
}

#[test]
fn backups_that_nobody_here_can_read_are_told_with_exit_4() {
    let ((_, recipient), (_, offline), (stranger, _)) = (age_keys(), age_keys(), age_keys());
    let recipients = format!("recipients: [{recipient}, {{ key: {offline}, offline: true }}]");
    let cli = site(&format!("{{ {recipients}, identities: [stranger] }}"), &[("stranger", &stranger)]);
    cli.run(&["doctor", "--keys"]).ends(4).prints("CANNOT BE READ HERE").says("help:");
    let cli = site(&format!("{{ {recipients}, identities: [missing] }}"), &[("missing", NOWHERE)]);
    let found = report(&cli, 4);
    assert!(found["keys"][0]["why"].as_str().unwrap().contains("missing"), "{found:#}");
    let cli = site(&format!("{{ {recipients} }}"), &[("other", "x")]);
    cli.run(&["doctor", "--keys", "--store", "offsite"]).ends(4).says("encryption: { identities: [...] }");
}

#[test]
fn passwords_are_tried_too_and_a_wrong_word_is_a_usage_error() {
    let cli = site("{ openssl: { password: word } }", &[("word", "correct horse\n")]);
    cli.run(&["doctor", "--keys"]).ends(0).prints("offsite  openssl: what is written now can be read here");
    let cli = site("{ gpg: { passphrase: word } }", &[("word", "")]);
    cli.run(&["doctor", "--keys"]).ends(4).prints("cannot be written either").says("say what is wrong with the key");
    cli.run(&["doctor", "--keys", "--store", "onsite"]).ends(2).says("no store `onsite`");
    let cli = site("{ gpg: { passphrase: wrod } }", &[("word", "x")]);
    cli.run(&["check", "inventory.yaml"]).ends(3).says("RB0209").says("`wrod`");
}

#[test]
fn keys_that_would_be_lost_with_the_site_are_an_error_where_it_is_protected() {
    let ((_, first), (_, second)) = (age_keys(), age_keys());
    let one = site(&format!("{{ recipients: [{first}] }}"), &[("other", "x")]);
    one.run(&["check", "inventory.yaml"]).ends(3).says("RB0112").says("who loses that key loses every backup");
    let online = site(&format!("{{ recipients: [{first}, {second}] }}"), &[("other", "x")]);
    online.run(&["check", "inventory.yaml"]).ends(3).says("RB0112").says("`offline`");
    let good = format!("{{ recipients: [{first}, {{ key: {second}, offline: true }}] }}");
    site(&good, &[("other", "x")]).run(&["check", "inventory.yaml", "--strict"]).ends(0);
    let open = Cli::new();
    let inventory =
        format!("version: 1\nstores:\n  a: {{ url: file:///srv/a, encryption: {{ recipients: [{first}] }} }}\n");
    open.file("inventory.yaml", &inventory);
    open.run(&["check", "inventory.yaml"]).ends(0).says("RB0504");
    open.run(&["explain", "RB0112"]).ends(0).prints("age-keygen");
}
