//! Both directions against the usual programs: what is packed here they read, what they pack is read here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runbook::action::{Compressed, Encrypted, Kdf};
use runbook::base::Digest;
use runbook::language::inventory::{
    CompressionFormat, Encryption, GpgSymmetric, OpensslDigest, OpensslEnc, OpensslKdf, StoreEntry,
};
use runbook::transfer::{Encoding, Expected};

use crate::support::parcel::{Parcel, Safe, age_keys, compressed, content, facts, pack, to_recipients, unpack};

const PASSWORD: &str = "correct horse battery staple";
/// Nothing, next to nothing, around the borders of blocks, and some more.
const SIZES: [usize; 9] = [0, 1, 15, 16, 65_535, 65_536, 1 << 20, (4 << 20) + 1, 9_000_001];

fn openssl(kdf: OpensslKdf, digest: OpensslDigest, iterations: Option<u32>) -> Encryption {
    let openssl = OpensslEnc { password: "word".to_owned(), kdf, digest, iterations };
    Encryption { openssl: Some(openssl), ..Encryption::default() }
}

fn encrypted(encryption: Encryption) -> StoreEntry {
    StoreEntry { encryption: Some(encryption), ..compressed(CompressionFormat::None) }
}

/// Runs a program with these bytes on its standard input.
fn through(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("`{program}` cannot be started ({error}): .ci/setup escape installs it"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {said}", output.status);
    output.stdout
}

/// What a foreign program has made, with what a manifest would say of it.
fn foreign(stored: Vec<u8>, encoding: &Encoding, plain: &[u8]) -> Parcel {
    let expected = Expected { stored: facts(&stored), plain: facts(plain).into() };
    Parcel { stored, encoding: encoding.clone(), expected }
}

fn compression(format: CompressionFormat) -> Encoding {
    Encoding { compression: Some(Compressed { format, level: None }), encryption: None }
}

fn encryption(how: Encrypted) -> Encoding {
    Encoding { compression: None, encryption: Some(how) }
}

#[tokio::test]
async fn zstd_gzip_and_lz4_read_what_is_packed_and_are_read() {
    let safe = Safe::default();
    let programs: [(CompressionFormat, &str, &[&[&str]]); 3] = [
        (
            CompressionFormat::Zstd,
            "zstd",
            &[&["-q", "-c"], &["-q", "-c", "-19", "--no-check"], &["-q", "-c", "-T2", "-1"]],
        ),
        (CompressionFormat::Gzip, "gzip", &[&["-c"], &["-c", "-9"]]),
        (CompressionFormat::Lz4, "lz4", &[&["-q", "-c"], &["-q", "-c", "-9", "--content-size", "-BD"]]),
    ];
    for (format, program, ways) in programs {
        let entry = compressed(format);
        for size_bytes in SIZES {
            let plain = content(size_bytes, 11);
            let ours = pack(&entry, &safe, &plain).await;
            assert!(
                through(program, &["-d", "-c"], &ours.stored) == plain,
                "{program} reads {size_bytes} bytes of ours"
            );
            for way in ways {
                let theirs = foreign(through(program, way, &plain), &compression(format), &plain);
                let found = unpack(&entry, &safe, &theirs).await;
                assert!(found.is_ok_and(|found| found == plain), "{program} {way:?}, {size_bytes} bytes");
            }
        }
        let twice = [through(program, ways[0], b"one "), through(program, ways[0], b"two")].concat();
        let found = unpack(&entry, &safe, &foreign(twice, &compression(format), b"one two")).await;
        assert_eq!(found.unwrap(), b"one two", "{program}: files one after another");
    }
}

#[tokio::test]
async fn openssl_reads_what_is_encrypted_and_is_read() {
    let safe = Safe::default().with("word", PASSWORD);
    let word = format!("pass:{PASSWORD}");
    let pbkdf2 = |digest, iterations| Kdf::Pbkdf2 { digest, iterations };
    let ways: [(Encryption, Kdf, &[&str]); 5] = [
        (
            openssl(OpensslKdf::Pbkdf2, OpensslDigest::Sha256, None),
            pbkdf2(OpensslDigest::Sha256, 600_000),
            &["-pbkdf2", "-iter", "600000", "-md", "sha256"],
        ),
        (
            openssl(OpensslKdf::Pbkdf2, OpensslDigest::Sha256, Some(10_000)),
            pbkdf2(OpensslDigest::Sha256, 10_000),
            &["-pbkdf2"],
        ),
        (
            openssl(OpensslKdf::Pbkdf2, OpensslDigest::Md5, Some(3)),
            pbkdf2(OpensslDigest::Md5, 3),
            &["-pbkdf2", "-iter", "3", "-md", "md5"],
        ),
        (
            openssl(OpensslKdf::Legacy, OpensslDigest::Sha256, None),
            Kdf::BytesToKey { digest: OpensslDigest::Sha256 },
            &["-md", "sha256"],
        ),
        (
            openssl(OpensslKdf::Legacy, OpensslDigest::Md5, None),
            Kdf::BytesToKey { digest: OpensslDigest::Md5 },
            &["-md", "md5"],
        ),
    ];
    for (settings, kdf, way) in ways {
        let entry = encrypted(settings);
        let how = encryption(Encrypted::OpensslEnc { cipher: "aes-256-cbc".to_owned(), kdf });
        for size_bytes in SIZES {
            let plain = content(size_bytes, 12);
            let common = ["enc", "-aes-256-cbc", "-pass", &word];
            let ours = pack(&entry, &safe, &plain).await;
            assert_eq!(ours.encoding, how);
            let read = through("openssl", &[&common[..], &["-d"], way].concat(), &ours.stored);
            assert!(read == plain, "openssl {way:?} reads {size_bytes} bytes of ours");
            let theirs = through("openssl", &[&common[..], &["-e", "-salt"], way].concat(), &plain);
            let found = unpack(&entry, &safe, &foreign(theirs, &how, &plain)).await;
            assert!(found.is_ok_and(|found| found == plain), "openssl {way:?}, {size_bytes} bytes");
        }
    }
}

/// A home of gpg whose agent is stopped when it is dropped.
struct Keyring(tempfile::TempDir);

impl Keyring {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(home)
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let home = self.0.path().to_str().unwrap();
        let common = ["--homedir", home, "--batch", "--yes", "--quiet", "--no-symkey-cache"];
        let word = ["--pinentry-mode", "loopback", "--passphrase", PASSWORD];
        through("gpg", &[&common[..], &word, arguments].concat(), input)
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).status();
    }
}

#[tokio::test]
async fn gpg_reads_what_is_encrypted_and_is_read() {
    let (safe, keyring) = (Safe::default().with("word", PASSWORD), Keyring::new());
    let gpg = GpgSymmetric { passphrase: "word".to_owned() };
    let entry = encrypted(Encryption { gpg: Some(gpg), ..Encryption::default() });
    let how = encryption(Encrypted::GpgSymmetric { cipher: "AES256".to_owned() });
    let ways: [&[&str]; 4] = [
        &["--cipher-algo", "AES256", "-c"],
        &["--cipher-algo", "AES256", "-z", "0", "-c"],
        &["--compress-algo", "zlib", "--armor", "-c"],
        &["--cipher-algo", "AES128", "--s2k-count", "65536", "-c"],
    ];
    for size_bytes in [0, 1, 65_536, (1 << 20) + 1, 9_000_001] {
        let plain = content(size_bytes, 13);
        let ours = pack(&entry, &safe, &plain).await;
        assert!(keyring.gpg(&["-d"], &ours.stored) == plain, "gpg reads {size_bytes} bytes of ours");
        for way in ways {
            let found = unpack(&entry, &safe, &foreign(keyring.gpg(way, &plain), &how, &plain)).await;
            assert!(
                found.as_ref().is_ok_and(|found| *found == plain),
                "gpg {way:?}, {size_bytes} bytes: {:?}",
                found.err()
            );
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn age_reads_what_is_encrypted_and_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let ((identity, recipient), (other_identity, other)) = (age_keys(), age_keys());
    let (first, second) = (write(folder.path(), "first", &identity), write(folder.path(), "second", &other_identity));
    let safe = Safe::default().with("identity", &identity);
    let entry = encrypted(to_recipients(&[&recipient, &other]));
    let how = encryption(Encrypted::Age { recipients: vec![recipient.clone(), other.clone()] });
    for size_bytes in SIZES {
        let plain = content(size_bytes, 14);
        let ours = pack(&entry, &safe, &plain).await;
        for key in [&first, &second] {
            let read = through("age", &["-d", "-i", key.to_str().unwrap()], &ours.stored);
            assert!(read == plain, "age reads {size_bytes} bytes of ours");
        }
        let theirs = through("age", &["-e", "-r", &other, "-r", &recipient], &plain);
        let found = unpack(&entry, &safe, &foreign(theirs, &how, &plain)).await;
        assert!(found.is_ok_and(|found| found == plain), "age, {size_bytes} bytes");
    }
}

#[tokio::test]
async fn compressed_and_encrypted_is_read_by_one_program_after_the_other() {
    let safe = Safe::default().with("word", PASSWORD);
    let word = format!("pass:{PASSWORD}");
    let settings = openssl(OpensslKdf::Pbkdf2, OpensslDigest::Sha256, None);
    let entry = StoreEntry { encryption: Some(settings), ..StoreEntry::default() };
    let plain = content(5_000_000, 15);
    let ours = pack(&entry, &safe, &plain).await;
    let arguments = ["enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-pass", &word];
    let read = through("zstd", &["-d", "-c"], &through("openssl", &arguments, &ours.stored));
    assert!(read == plain);
    let summed = String::from_utf8(through("sha256sum", &[], &ours.stored)).unwrap();
    assert_eq!(summed.split_whitespace().next().unwrap(), ours.expected.stored.sha256.to_string());
    assert_eq!(ours.expected.plain.sha256, Some(Digest::of(&plain)));
}
