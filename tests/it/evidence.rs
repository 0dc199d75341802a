//! Bundles: what they hold, and that nothing in them can be changed unseen.

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use runbook::base::Digest;
use runbook::journal::AllowedSigners;
use runbook::journal::evidence::{Limits, Verified, verify};
use serde_json::Value;

use crate::audit::key;
use crate::support::cli::Cli;

const RUNBOOK: &str = "version: 1
name: proven
owner: ops
controls: [SOC2-A1.3]
secrets: { word: { env: WORD } }
steps:
  - { id: a, run: 'echo hello; printf x | sha256sum' }
  - { id: b, run: 'echo \"said $W\"', env: { W: \"{{ secrets.word }}\" } }
";

fn user() -> Cli {
    Cli::with(RUNBOOK).var("WORD", "correct-horse-battery")
}

/// A bundle of a finished run.
fn bundle(cli: &Cli) -> PathBuf {
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["evidence", "last", "-o", "b.tar.zst"]).ends(0);
    cli.path("b.tar.zst")
}

fn held(bytes: &[u8]) -> Verified {
    verify(Cursor::new(bytes), None, &Limits::default())
}

/// The members in order.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(bytes).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (name, content)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Packs members as the program does, whatever they are.
fn packed(members: &[(String, Vec<u8>)], seconds: u64) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(seconds);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    squeezed(&tar)
}

fn squeezed(tar: &[u8]) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 3).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(tar).unwrap();
    out.finish().unwrap()
}

fn seconds(bytes: &[u8]) -> u64 {
    let mut archive = tar::Archive::new(zstd::Decoder::new(bytes).unwrap());
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    first.header().mtime().unwrap()
}

#[track_caller]
fn names_fault(bytes: &[u8], words: &str) {
    let verified = held(bytes);
    assert!(
        verified.faults.iter().any(|fault| fault.message.contains(words)),
        "no `{words}` in {:#?}",
        verified.faults
    );
}

#[test]
fn a_bundle_holds_what_an_auditor_asks_for_and_no_secret() {
    let cli = user();
    let path = bundle(&cli);
    let bytes = fs::read(&path).unwrap();
    let found = members(&bytes);
    let run = cli.id();
    let content = |name: &str| {
        let name = format!("evidence-{run}/{name}");
        &found.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name}")).1
    };
    let json = |name: &str| serde_json::from_slice::<Value>(content(name)).unwrap();
    assert_eq!(content("definition/00-runbook.yaml"), RUNBOOK.as_bytes());
    assert_eq!(content("journal.jsonl"), &fs::read(cli.only_run().join("journal.jsonl")).unwrap());
    assert_eq!(json("verdicts.json")["outcome"], "succeeded");
    assert_eq!(json("controls.json")["controls"][0], "SOC2-A1.3");
    assert_eq!(json("people.json")["started_by"]["name"], "tester");
    assert_eq!(json("versions.json")["programs"][0]["runbook"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json("artifacts.json")[0]["value"], Digest::of(b"x").to_string());
    assert_eq!(String::from_utf8_lossy(content("ledger.jsonl")).lines().count(), 2);
    for name in ["README.txt", "plan.json", "report.html", "attempts/a/1/stdout"] {
        assert!(!content(name).is_empty(), "{name}");
    }
    for (name, content) in &found {
        assert!(!String::from_utf8_lossy(content).contains("correct-horse"), "{name} holds the secret");
    }
    let verified = held(&bytes);
    assert_eq!(verified.faults, []);
    cli.run(&["evidence", "last", "-o", "again.tar.zst"]).ends(0);
    assert_eq!(fs::read(cli.path("again.tar.zst")).unwrap(), bytes, "the same run gives the same bytes");
}

#[test]
fn the_readme_says_how_to_verify_with_common_tools() {
    let cli = user();
    let (key, signers) = key(&cli, "ops");
    let cli = cli.var("RUNBOOK_SIGN_KEY", key.to_str().unwrap());
    let path = bundle(&cli);
    let readme = members(&fs::read(&path).unwrap())[0].1.clone();
    let readme = String::from_utf8(readme).unwrap();
    let script: String = readme
        .lines()
        .filter(|line| line.starts_with("  ") && !line.contains("runbook evidence verify"))
        .map(|line| format!("{line}\n"))
        .collect();
    let script = script
        .replace("BUNDLE", path.to_str().unwrap())
        .replace("ALLOWED_SIGNERS", signers.to_str().unwrap())
        .replace("-I NAME", "-I ops@example");
    let ran = Command::new("bash").args(["-euc", &script]).current_dir(cli.path("")).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let head = cli.journal().last().unwrap()["hash"].as_str().unwrap().to_owned();
    assert!(
        ran.status.success() && out.contains(&head) && out.contains("Good \"runbook\" signature"),
        "{out}\n{err}\n{script}"
    );
    assert!(!out.contains("was changed") && !out.contains("does not follow"), "{out}");
}

#[test]
fn a_signature_is_demanded_where_signers_are_named() {
    let cli = user();
    let (own, signers) = key(&cli, "ops");
    let (_, strangers) = key(&cli, "other");
    let unsigned = bundle(&cli);
    let verify = |bundle: &str, signers: &Path| {
        cli.run(&["evidence", "verify", bundle, "--allowed-signers", signers.to_str().unwrap()])
    };
    cli.run(&["evidence", "verify", unsigned.to_str().unwrap()]).ends(0).prints("its maker is not proven");
    verify("b.tar.zst", &signers).ends(15).prints("nobody among the allowed signers signed the bundle");
    let cli = cli.var("RUNBOOK_SIGN_KEY", own.to_str().unwrap());
    cli.run(&["evidence", "last", "-o", "signed.tar.zst"]).ends(0).says("signed with SHA256:");
    let verify = |signers: &Path| {
        cli.run(&["evidence", "verify", "signed.tar.zst", "--allowed-signers", signers.to_str().unwrap()])
    };
    verify(&signers).ends(0).prints("bundle signed by ops@example").prints("everything holds together");
    verify(&strangers).ends(15).prints("nobody among the allowed signers");
    let shown = cli.run(&["evidence", "verify", "signed.tar.zst", "--json"]).ends(0).json();
    assert_eq!(
        (&shown["signed"]["signature"], &shown["manifest"]["outcome"]),
        (&"unknown_key".into(), &"succeeded".into())
    );
}

#[test]
fn no_flipped_byte_changes_a_member_unseen() {
    let cli = user();
    let bytes = fs::read(bundle(&cli)).unwrap();
    let sound = members(&bytes);
    let step = (bytes.len() / 400).max(1);
    for at in (0..bytes.len()).step_by(step).chain(0..32).chain(bytes.len() - 32..bytes.len()) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        // A bit that the compression does not use changes nothing in what is read.
        assert!(!held(&flipped).is_ok() || members(&flipped) == sound, "byte {at} was flipped unseen");
    }
    let mut tar = Vec::new();
    zstd::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut tar).unwrap();
    let step = (tar.len() / 600).max(1);
    for at in (0..tar.len()).step_by(step).chain(0..512).chain(tar.len() - 40..tar.len()) {
        let mut flipped = tar.clone();
        flipped[at] ^= 0x01;
        let around = String::from_utf8_lossy(&tar[at.saturating_sub(60)..(at + 60).min(tar.len())]).into_owned();
        assert!(!held(&squeezed(&flipped)).is_ok(), "byte {at} of the tar was flipped unseen, among `{around}`");
    }
}

#[test]
fn a_member_removed_added_exchanged_or_moved_is_named() {
    let cli = user();
    let bytes = fs::read(bundle(&cli)).unwrap();
    let (sound, at) = (members(&bytes), seconds(&bytes));
    assert_eq!(packed(&sound, at), bytes, "this test packs as the program does");
    for index in 0..sound.len() {
        let mut fewer = sound.clone();
        let (name, _) = fewer.remove(index);
        assert!(!held(&packed(&fewer, at)).is_ok(), "{name} was removed unseen");
        let mut changed = sound.clone();
        changed[index].1.push(b'\n');
        assert!(!held(&packed(&changed, at)).is_ok(), "{name} was changed unseen");
    }
    let mut more = sound.clone();
    more.insert(1, (format!("evidence-{}/aaa", cli.id()), b"x".to_vec()));
    names_fault(&packed(&more, at), "the manifest does not name it");
    let mut moved = sound.clone();
    moved.swap(0, 1);
    names_fault(&packed(&moved, at), "does not stand where it belongs");
    let mut twice = sound.clone();
    twice.insert(1, sound[0].clone());
    names_fault(&packed(&twice, at), "does not stand where it belongs");
    names_fault(&packed(&sound, at + 1), "do not have the time of the run's last event");
    names_fault(&[&bytes[..], b"x"].concat(), "bytes follow its end");
    names_fault(&bytes[..bytes.len() / 2], "the bundle cannot be read");
    names_fault(b"", "the bundle cannot be read");
}

/// Changes a member and makes the manifest agree: what is left to notice it is the run itself.
fn forged(sound: &[(String, Vec<u8>)], name: &str, change: &dyn Fn(String) -> String) -> Vec<(String, Vec<u8>)> {
    let mut members = sound.to_vec();
    let member = members.iter_mut().find(|(found, _)| found.ends_with(name)).unwrap();
    let before = String::from_utf8(member.1.clone()).unwrap();
    member.1 = change(before.clone()).into_bytes();
    assert_ne!(member.1, before.as_bytes(), "{name} is changed");
    let (digest, size) = (Digest::of(&member.1).to_string(), member.1.len());
    let manifest = members.iter_mut().find(|(found, _)| found.ends_with("/manifest.json")).unwrap();
    let mut value: runbook::journal::evidence::Manifest = serde_json::from_slice(&manifest.1).unwrap();
    if let Some(entry) = value.members.get_mut(name) {
        (entry.sha256, entry.size_bytes) = (digest.parse().unwrap(), size as u64);
        manifest.1 = serde_json::to_vec_pretty(&value).unwrap();
        manifest.1.push(b'\n');
    }
    members
}

#[test]
fn a_forger_who_mends_the_manifest_is_caught_by_the_journal_and_the_ledger() {
    let cli = user();
    let bytes = fs::read(bundle(&cli)).unwrap();
    let (sound, at) = (members(&bytes), seconds(&bytes));
    let caught = |name: &str, from: &str, to: &str, words: &str| {
        let forged = forged(&sound, name, &|text| text.replacen(from, to, 1));
        names_fault(&packed(&forged, at), words);
    };
    caught("journal.jsonl", "hello", "hallo", "do not have the hash");
    caught("plan.json", "\"proven\"", "\"Proven\"", "plan");
    caught("verdicts.json", "succeeded", "failed", "otherwise than the journal");
    caught("people.json", "tester", "nobody", "otherwise than the journal");
    caught("artifacts.json", "\"a\"", "\"b\"", "otherwise than the journal");
    caught("definition/00-runbook.yaml", "hello", "hallo", "as the plan froze it");
    caught("ledger.jsonl", "\"succeeded\"", "\"failed\"", "does not have the hash");
    caught("manifest.json", "\"outcome\": \"succeeded\"", "\"outcome\": \"cancelled\"", "another outcome");
    caught("manifest.json", "\"finished\": true", "\"finished\": false", "another outcome");
    let without_end = |text: String| text.split_inclusive('\n').take(1).collect::<String>();
    names_fault(&packed(&forged(&sound, "ledger.jsonl", &without_end), at), "does not anchor the end");
}

#[test]
fn a_hostile_bundle_is_refused() {
    let cli = user();
    let bytes = fs::read(bundle(&cli)).unwrap();
    let at = seconds(&bytes);
    let mut plain = Vec::new();
    zstd::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut plain).unwrap();
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory, tar::EntryType::Fifo] {
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("evidence-{}/aaa", cli.id())).unwrap();
        header.set_size(0);
        header.set_mtime(at);
        header.set_entry_type(kind);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        names_fault(&squeezed(&[&header.as_bytes()[..], &plain].concat()), "not as `runbook evidence` writes it");
    }
    for name in ["../../etc/cron.d/x", "/etc/passwd", "evidence/../../x", "evidence//x"] {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(0);
        header.set_mtime(at);
        header.set_cksum();
        names_fault(&squeezed(&[&header.as_bytes()[..], &plain].concat()), "not as `runbook evidence` writes it");
    }
    let small = Limits { total_bytes: 4096, member_bytes: 4096, members: 5 };
    let verified = verify(Cursor::new(&bytes), None, &small);
    assert!(verified.faults[0].message.contains("larger than any bundle should be"), "{:?}", verified.faults);
    let huge = packed(&[("evidence-x/zeros".to_owned(), vec![0; 64 << 20])], at);
    assert!(huge.len() < 100_000, "a bomb is small");
    let limits = Limits { member_bytes: 1 << 20, ..Limits::default() };
    assert!(!verify(Cursor::new(&huge), Some(&AllowedSigners::default()), &limits).is_ok());
}

#[test]
fn a_run_that_has_not_ended_is_bundled_only_when_asked_and_says_so() {
    let cli = user();
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let run = cli.only_run();
    let journal = fs::read_to_string(run.join("journal.jsonl")).unwrap();
    let lines: Vec<&str> = journal.split_inclusive('\n').collect();
    fs::write(run.join("journal.jsonl"), lines[..lines.len() - 1].concat()).unwrap();
    let ledger = fs::read_to_string(cli.state().join("ledger.jsonl")).unwrap();
    fs::write(cli.state().join("ledger.jsonl"), ledger.split_inclusive('\n').take(1).collect::<String>()).unwrap();
    cli.run(&["evidence", "last", "-o", "b.tar.zst"]).ends(2).says("has not ended").says("--unfinished");
    assert!(!cli.path("b.tar.zst").exists());
    cli.run(&["evidence", "last", "-o", "b.tar.zst", "--unfinished"]).ends(0);
    cli.run(&["evidence", "verify", "b.tar.zst"]).ends(0).prints("UNFINISHED").prints("not ended");
}

#[test]
fn a_live_run_is_left_alone() {
    let cli = user();
    let (began, gate) = (cli.path("began"), cli.path("gate"));
    let script = crate::support::cli::gated(&began, &gate);
    cli.file("slow.yaml", &format!("version: 1\nname: slow\nsteps:\n  - id: a\n    run: \"{script}\"\n"));
    let live = cli.spawn(&["run", "slow.yaml"]);
    crate::support::cli::until("the step begins", || began.exists());
    cli.run(&["evidence", "last", "-o", "b.tar.zst"]).ends(14).says("is live");
    cli.run(&["evidence", "last", "-o", "b.tar.zst", "--unfinished"]).ends(14);
    fs::write(&gate, "").unwrap();
    live.wait().ends(0);
}

#[test]
fn what_a_hostile_bundle_says_never_reaches_the_terminal_as_commands() {
    let cli = user();
    let bytes = fs::read(bundle(&cli)).unwrap();
    let mut hostile = members(&bytes);
    let manifest = hostile.iter_mut().find(|(name, _)| name.ends_with("/manifest.json")).unwrap();
    let mut claims: Value = serde_json::from_slice(&manifest.1).unwrap();
    claims["name"] = "\u{1b}[2Jproven".into();
    claims["members"]["\u{1b}]0;gone"] = serde_json::json!({ "size_bytes": 1, "sha256": Digest::of(b"x") });
    claims["left_out"] = serde_json::json!({ "\u{1b}[31mleft": 7 });
    manifest.1 = serde_json::to_vec_pretty(&claims).unwrap();
    fs::write(cli.path("hostile.tar.zst"), packed(&hostile, seconds(&bytes))).unwrap();
    let ran = cli.run(&["evidence", "verify", "hostile.tar.zst"]).ends(15).prints("NOT everything holds together");
    assert!(ran.out.contains("left out") && !ran.out.contains('\u{1b}'), "{:?}", ran.out);
}
