use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::{Sources, Vault};
use crate::action::{ActionError, CommandOutput, Secrets as _};
use crate::language::inventory::{SecretEntry, SecretSpec};
use crate::vault::{NoPrompt, Prompt};

fn sources() -> Sources {
    Sources {
        environment: BTreeMap::from([
            ("PGPASSWORD".to_owned(), "from the environment".to_owned()),
            ("SHORT".to_owned(), "abc".to_owned()),
        ]),
        prompt: Box::new(NoPrompt),
        command: Box::new(|argv| {
            let code = if argv[0] == "fails" { 1 } else { 0 };
            let (stdout, stderr) = (format!("out of {}\n", argv[0]).into_bytes(), b"no entry\n".to_vec());
            Ok(CommandOutput { exit_code: Some(code), stdout, stderr, ..CommandOutput::default() })
        }),
        warn: Box::new(|_| {}),
    }
}

fn vault(specs: &[(&str, SecretSpec)]) -> Vault {
    Vault::new(specs.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone().into())).collect(), sources())
}

#[test]
fn each_provider_gives_its_value_without_the_final_newline() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file.as_file(), b"from a file\n").expect("written");
    let vault = vault(&[
        ("env", SecretSpec::Env("PGPASSWORD".to_owned())),
        ("file", SecretSpec::File(file.path().to_owned())),
        ("command", SecretSpec::Command(vec!["pass".to_owned()])),
    ]);
    for (name, value) in [("env", "from the environment"), ("file", "from a file"), ("command", "out of pass")] {
        assert_eq!(vault.get(name).expect(name).reveal(), value);
    }
    assert_eq!(vault.values().len(), 3);
    assert_eq!(vault.redactor().text("x from a file y"), "x *** y");
}

#[test]
fn a_missing_secret_says_which_provider_did_not_answer_and_never_a_value() {
    let vault = vault(&[
        ("env", SecretSpec::Env("NONE".to_owned())),
        ("short", SecretSpec::Env("SHORT".to_owned())),
        ("file", SecretSpec::File("/no/such/file".into())),
        ("command", SecretSpec::Command(vec!["fails".to_owned()])),
        ("prompt", SecretSpec::Prompt(true)),
    ]);
    for (name, part) in [
        ("env", "`NONE` is not set"),
        ("short", "shorter than 4 bytes"),
        ("file", "cannot read `/no/such/file`"),
        ("command", "`fails` failed"),
        ("prompt", "nobody could be asked"),
        ("other", "no secret `other` is declared"),
    ] {
        let error = vault.get(name).expect_err(name);
        assert!(error.to_string().contains(part), "{error}");
        assert!(!format!("{error:?}").contains("out of"), "{error:?}");
    }
    assert!(vault.values().is_empty());
}

#[test]
fn a_person_is_asked_once() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    struct Counting;
    impl Prompt for Counting {
        fn ask(&self, _: &str) -> io::Result<String> {
            ASKED.fetch_add(1, Ordering::SeqCst);
            Ok("typed".to_owned())
        }
    }
    let specs = BTreeMap::from([("p".to_owned(), SecretSpec::Prompt(true).into())]);
    let vault = Vault::new(specs, Sources { prompt: Box::new(Counting), ..sources() });
    for _ in 0..3 {
        assert_eq!(vault.get("p").expect("a value").reveal(), "typed");
    }
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

#[test]
fn the_first_source_that_answers_counts_and_only_those_that_failed_before_it_are_told() {
    let warned = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&warned);
    let warn = Box::new(move |error: &ActionError| told.lock().expect("a lock").push(error.to_string()));
    let list = SecretEntry::FirstOf(vec![
        SecretSpec::Env("NONE".to_owned()),
        SecretSpec::File("/no/such/file".into()),
        SecretSpec::Prompt(true),
        SecretSpec::Env("SHORT".to_owned()),
        SecretSpec::Command(vec!["fails".to_owned()]),
        SecretSpec::Command(vec!["pass".to_owned()]),
        SecretSpec::Command(vec!["never asked".to_owned()]),
    ]);
    let vault = Vault::new(BTreeMap::from([("s".to_owned(), list)]), Sources { warn, ..sources() });
    assert_eq!(vault.get("s").expect("a value").reveal(), "out of pass");
    let warned = warned.lock().expect("a lock");
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].contains("shorter than 4 bytes") && warned[1].contains("`fails` failed"), "{warned:?}");
}

#[test]
fn when_no_source_answers_each_is_named_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = SecretEntry::FirstOf(vec![
        SecretSpec::Env("NONE".to_owned()),
        SecretSpec::File(folder.path().to_owned()),
        SecretSpec::Prompt(true),
    ]);
    let vault = Vault::new(BTreeMap::from([("s".to_owned(), list)]), sources());
    let error = vault.get("s").expect_err("no value").to_string();
    for part in ["no source has it", "`NONE` is not set", "cannot read", "Is a directory", "nobody could be asked"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(error.matches("secret `s`").count(), 1, "{error}");
}
