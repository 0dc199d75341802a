use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Sources, Vault};
use crate::action::{CommandOutput, Secrets as _};
use crate::language::inventory::SecretSpec;
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
    }
}

fn vault(specs: &[(&str, SecretSpec)]) -> Vault {
    Vault::new(specs.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone())).collect(), sources())
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
    let specs = BTreeMap::from([("p".to_owned(), SecretSpec::Prompt(true))]);
    let vault = Vault::new(specs, Sources { prompt: Box::new(Counting), ..sources() });
    for _ in 0..3 {
        assert_eq!(vault.get("p").expect("a value").reveal(), "typed");
    }
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}
