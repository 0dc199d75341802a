//! The escape hatch: backups are restored by `restore.sh` alone, run by a plain POSIX shell without this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use runbook::action::{Compressed, Encoding, Encrypted, Kdf, PlainFacts, PutOptions, Store};
use runbook::base::Digest;
use runbook::catalog::{Backup, BackupPlace, Manifest, ManifestObject, ObjectRole, commit};
use runbook::language::inventory::{CompressionFormat, OpensslDigest, StoreEntry};

use crate::support::program::need;

const PASSWORD: &str = "correct horse";

/// A folder with what is backed up, a store, and keys.
struct Desk {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Desk {
    fn new() -> Self {
        for program in ["dash", "zstd", "lz4", "age", "age-keygen", "openssl", "gpg"] {
            need(program, "escape");
        }
        let dir = tempfile::Builder::new().prefix("rbesc").tempdir_in("/tmp").unwrap();
        let entry =
            StoreEntry { url: format!("file://{}", dir.path().join("store").display()), ..StoreEntry::default() };
        let store = runbook::store::Opening::plain(&entry, "desk").open().unwrap();
        let desk = Self { dir, store };
        desk.sh("mkdir -p 'data/media/sub dir/empty' gnupg && chmod 700 gnupg");
        desk.sh("printf 'one\\n' >'data/media/a b.txt'; head -c 300000 /dev/urandom >'data/media/sub dir/x'; ln -s '../a b.txt' 'data/media/sub dir/link'");
        desk.sh("printf 'orders\\n' >\"data/it's \\$5.txt\"; tar -cf data/media.tar -C data/media .");
        desk.sh(&format!("umask 077; printf '{PASSWORD}\\n' >password; printf 'wrong\\n' >wrong; age-keygen -o id 2>/dev/null; age-keygen -o other 2>/dev/null"));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sh(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.arg("-euc").arg(script).current_dir(self.dir.path()).env("GNUPGHOME", self.path("gnupg"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stores a file as a shell command packs it.
    async fn object(&self, place: &BackupPlace, from: &str, (pack, suffix, encoding): &Way) -> ManifestObject {
        let plain = fs::read(self.path("data").join(from)).unwrap();
        let input = self.path("input");
        fs::write(&input, &plain).unwrap();
        self.sh(&format!("{{ {pack}; }} <input >packed"));
        let stored = fs::read(self.path("packed")).unwrap();
        let name = format!("{from}{suffix}");
        let (size, sha256) = (stored.len() as u64, Digest::of(&stored));
        let key = place.key(&name).unwrap();
        self.store.put(&key, Box::new(std::io::Cursor::new(stored)), PutOptions::default()).await.unwrap();
        let facts = PlainFacts { size_bytes: plain.len() as u64, sha256: Digest::of(&plain) };
        ManifestObject {
            encoding: encoding.clone(),
            plain: (!encoding.is_plain()).then_some(facts.into()),
            archive_of: from.strip_suffix(".tar").map(str::to_owned),
            ..ManifestObject::new(name, size, sha256, ObjectRole::File)
        }
    }

    /// A committed backup of a file and a folder, packed in one way.
    async fn backup(&self, id: &str, way: &Way) -> Backup {
        let at = "2026-01-28T14:30:02Z".parse().unwrap();
        let mut manifest = Manifest::new(id, "files", "media", (at, at));
        let place = BackupPlace::of("media", &manifest);
        manifest.objects =
            vec![self.object(&place, "it's $5.txt", way).await, self.object(&place, "media.tar", way).await];
        commit(self.store.as_ref(), "media", manifest).await.unwrap()
    }

    /// Takes a copy of a backup's folder away, as from a dead site.
    fn taken(&self, backup: &Backup) -> PathBuf {
        let folder = backup.place().folder();
        let away = self.path("away").join(&backup.manifest.id);
        self.sh(&format!("mkdir -p away && cp -R 'store/{folder}' '{}'", away.display()));
        away
    }

    /// Runs the script with a plain environment.
    fn restore(&self, folder: &Path, args: &[&str]) -> Output {
        let mut command = Command::new("dash");
        command.arg(folder.join("restore.sh")).args(args).current_dir("/").env_clear();
        command.env("PATH", "/usr/bin:/bin").env("GNUPGHOME", self.path("gnupg"));
        command.output().unwrap()
    }
}

/// How the test packs an object: a command, what its name gets, and what the manifest says of it.
type Way = (String, &'static str, Encoding);

fn way(pack: &str, suffix: &'static str, (format, encryption): (CompressionFormat, Option<Encrypted>)) -> Way {
    let compression = (format != CompressionFormat::None).then_some(Compressed { format, level: None });
    (pack.to_owned(), suffix, Encoding { compression, encryption })
}

fn openssl(kdf: Kdf) -> Option<Encrypted> {
    Some(Encrypted::OpensslEnc { cipher: "aes-256-cbc".to_owned(), kdf })
}

fn plain() -> Way {
    way("cat", "", (CompressionFormat::None, None))
}

fn age() -> Way {
    let recipients = vec!["age1test".to_owned()];
    way(
        "zstd -q -c | age -r $(age-keygen -y id)",
        ".zst.age",
        (CompressionFormat::Zstd, Some(Encrypted::Age { recipients })),
    )
}

fn ways() -> Vec<(&'static str, Way)> {
    let pbkdf2 = Kdf::Pbkdf2 { digest: OpensslDigest::Sha256, iterations: 10_001 };
    let legacy = Kdf::BytesToKey { digest: OpensslDigest::Md5 };
    let gpg =
        "gpg --batch --quiet --pinentry-mode loopback --passphrase-file password --symmetric --cipher-algo AES256";
    vec![
        ("plain", plain()),
        ("zstd", way("zstd -q -c", ".zst", (CompressionFormat::Zstd, None))),
        ("lz4", way("lz4 -q -c", ".lz4", (CompressionFormat::Lz4, None))),
        ("age", age()),
        (
            "pbkdf2",
            way(
                "gzip -c | openssl enc -aes-256-cbc -pbkdf2 -iter 10001 -md sha256 -pass file:password",
                ".gz.enc",
                (CompressionFormat::Gzip, openssl(pbkdf2)),
            ),
        ),
        (
            "legacy",
            way(
                "openssl enc -aes-256-cbc -md md5 -pass file:password 2>/dev/null",
                ".enc",
                (CompressionFormat::None, openssl(legacy)),
            ),
        ),
        (
            "gpg",
            way(gpg, ".gpg", (CompressionFormat::None, Some(Encrypted::GpgSymmetric { cipher: "AES256".to_owned() }))),
        ),
    ]
}

/// The options that read what was packed so.
fn keys(desk: &Desk, encoding: &Encoding) -> Vec<String> {
    let file = |name: &str| desk.path(name).display().to_string();
    match encoding.encryption {
        None => Vec::new(),
        Some(Encrypted::Age { .. }) => vec!["--identity".to_owned(), file("id")],
        Some(_) => vec!["--password-file".to_owned(), file("password")],
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn every_packing_is_restored_by_a_shell_and_the_usual_programs() {
    let desk = Desk::new();
    for (id, way) in ways() {
        let backup = desk.backup(id, &way).await;
        let folder = desk.taken(&backup);
        desk.sh(&format!("cd '{}' && sha256sum --strict --quiet -c SHA256SUMS", folder.display()));
        let target = desk.path(&format!("restored {id}"));
        let mut args = keys(&desk, &way.2);
        args.push(target.display().to_string());
        let output = desk.restore(&folder, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{id}: {}", said(&output));
        desk.sh(&format!(
            "diff -r data/media 'restored {id}/media' && cmp \"data/it's \\$5.txt\" \"restored {id}/it's \\$5.txt\""
        ));
        assert!(target.join("media/sub dir/empty").is_dir());
        let page = fs::read_to_string(folder.join("RESTORE.md")).unwrap();
        assert!(
            page.contains("sh restore.sh") && page.contains(&backup.manifest.objects[0].sha256.to_string()),
            "{page}"
        );
    }
}

#[tokio::test]
async fn the_script_writes_nothing_when_the_backup_is_damaged_or_the_target_exists() {
    let desk = Desk::new();
    let backup = desk.backup("plain", &plain()).await;
    let taken = || {
        desk.sh("rm -rf away");
        desk.taken(&backup)
    };
    let target = desk.path("target");
    let refused = |folder: &Path, why: &str| {
        let output = desk.restore(folder, &[target.to_str().unwrap()]);
        assert!(!output.status.success() && said(&output).contains(why), "{why}: {}", said(&output));
        assert!(!target.join("media").exists() && !desk.path(".target.restoring").exists(), "{why}");
    };
    for damage in ["printf x >>media.tar", "rm media.tar", "cp \"it's \\$5.txt\" media.tar", ": >media.tar"] {
        let folder = taken();
        desk.sh(&format!("cd '{}' && {damage}", folder.display()));
        refused(&folder, "damaged");
    }
    fs::create_dir(&target).unwrap();
    refused(&taken(), "exists");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[tokio::test]
async fn a_wrong_key_leaves_no_target() {
    let desk = Desk::new();
    for (id, option, key) in
        [("age", "--identity", "other"), ("pbkdf2", "--password-file", "wrong"), ("gpg", "--password-file", "wrong")]
    {
        let way = ways().into_iter().find(|(name, _)| *name == id).unwrap().1;
        let folder = desk.taken(&desk.backup(id, &way).await);
        let (target, key) = (desk.path(&format!("out-{id}")), desk.path(key));
        let output = desk.restore(&folder, &[option, key.to_str().unwrap(), target.to_str().unwrap()]);
        assert!(!output.status.success() && !target.exists(), "{id}: {}", said(&output));
        assert!(said(&output).contains("wrong key"), "{id}: {}", said(&output));
    }
}

#[tokio::test]
async fn a_forgotten_identity_is_asked_for_before_anything_is_written() {
    let desk = Desk::new();
    let folder = desk.taken(&desk.backup("age", &age()).await);
    let output = desk.restore(&folder, &[desk.path("out").to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("--identity FILE"), "{}", said(&output));
    assert!(!desk.path(".out.restoring").exists());
}

#[tokio::test]
async fn values_of_the_manifest_are_never_commands_of_the_script() {
    let desk = Desk::new();
    let hostile = "x\n$(touch /tmp/rb-hostile)`touch /tmp/rb-hostile`'\"; touch /tmp/rb-hostile #";
    let at = "2026-01-28T14:30:02Z".parse().unwrap();
    let mut manifest = Manifest::new("plain", "files", hostile, (at, at));
    manifest.label = Some(hostile.to_owned());
    let place = BackupPlace::of("media", &manifest);
    manifest.objects = vec![desk.object(&place, "media.tar", &plain()).await];
    manifest.objects[0].archive_of = Some("a'$(touch away/rb-hostile)`id`".to_owned());
    let backup = commit(desk.store.as_ref(), "media", manifest).await.unwrap();
    let target = desk.path("target");
    let output = desk.restore(&desk.taken(&backup), &[target.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!Path::new("/tmp/rb-hostile").exists());
    assert!(target.join("a'$(touch away/rb-hostile)`id`/a b.txt").is_file());
}
