//! What packing and unpacking cost: one pass of ours with both digests, against the program for the same format.
//!
//! `cargo bench --bench transfer -- [FOLDER] [--mib N] [--turns N]`; the input lies in the folder, the output is thrown away.

#![expect(clippy::disallowed_methods, reason = "a benchmark writes its own inputs")]

#[path = "measure/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod measure;
#[path = "measure/process.rs"]
mod process;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use runbook::action::{ActionError, PlainFacts, Secrets};
use runbook::base::clock;
use runbook::base::secret::SecretText;
use runbook::language::inventory::{Compression, CompressionFormat, Encryption, OpensslEnc, Recipient, StoreEntry};
use runbook::transfer::{Expected, Packing, Unpacking};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use measure::{Times, build, quiet, timed};
use process::{cpu_seconds, forget_peak, peak_mib};

struct Keys(String);

impl Secrets for Keys {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        Ok(SecretText::new(if name == "identity" { self.0.clone() } else { "correct horse".to_owned() }))
    }
}

/// One format, and the program that packs and unpacks it.
struct Case {
    name: &'static str,
    entry: StoreEntry,
    program: &'static str,
    pack: Vec<String>,
    unpack: Vec<String>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, usual: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (mib, turns) = (number("--mib", 512), number("--turns", 5));
    let folder = args.first().filter(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(&folder).expect("the folder is writable");
    let input = dir.path().join("input");
    write_input(&input, mib << 20);
    println!("transfer, {}, {mib} MiB, {turns} turns each, input in {}", build(), folder.display());
    println!("ours includes SHA-256 of the plain and of the stored bytes; the programs make no digest");
    println!("{:16} {:>9} {:>9} {:>7} {:>8} {:>8}  peak", "", "ours", "program", "ratio", "CPU", "CPU");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let identity = age::x25519::Identity::generate();
    let keys = Keys(identity.to_string().expose_secret().to_owned());
    for case in cases(&identity, dir.path()) {
        if quiet("sh").args(["-c", &format!("command -v {}", case.program)]).status().is_ok_and(|found| found.success())
        {
            runtime.block_on(compare(&case, &keys, (&input, turns)));
        } else {
            println!("{:16} `{}` is not installed", case.name, case.program);
        }
    }
}

fn cases(identity: &age::x25519::Identity, dir: &Path) -> Vec<Case> {
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let compressed =
        |format| StoreEntry { compression: Some(Compression { format, level: None }), ..StoreEntry::default() };
    let key_file = dir.join("key");
    std::fs::write(&key_file, identity.to_string().expose_secret()).expect("writes");
    let recipient = identity.to_public().to_string();
    let age = Encryption {
        recipients: vec![Recipient::Key(recipient.clone())],
        identities: vec!["identity".to_owned()],
        ..Encryption::default()
    };
    let openssl = OpensslEnc { password: "word".to_owned(), ..OpensslEnc::default() };
    let openssl = Encryption { openssl: Some(openssl), ..Encryption::default() };
    let bare = |encryption| StoreEntry { encryption: Some(encryption), ..compressed(CompressionFormat::None) };
    let gzip = |name, program| Case {
        name,
        entry: compressed(CompressionFormat::Gzip),
        program,
        pack: strings(&["-6", "-c"]),
        unpack: strings(&["-d", "-c"]),
    };
    let enc = ["enc", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-pass", "pass:correct horse"];
    vec![
        Case {
            name: "zstd -T0 -3",
            entry: compressed(CompressionFormat::Zstd),
            program: "zstd",
            pack: strings(&["-q", "-T0", "-3", "-c"]),
            unpack: strings(&["-q", "-d", "-c"]),
        },
        gzip("gzip -6", "gzip"),
        gzip("pigz -6", "pigz"),
        Case {
            name: "lz4",
            entry: compressed(CompressionFormat::Lz4),
            program: "lz4",
            pack: strings(&["-q", "-c"]),
            unpack: strings(&["-q", "-d", "-c"]),
        },
        Case {
            name: "age",
            entry: bare(age),
            program: "age",
            pack: strings(&["-e", "-r", &recipient]),
            unpack: strings(&["-d", "-i", &key_file.to_string_lossy()]),
        },
        Case {
            name: "openssl enc",
            entry: bare(openssl),
            program: "openssl",
            pack: strings(&[&enc[..], &["-e"]].concat()),
            unpack: strings(&[&enc[..], &["-d"]].concat()),
        },
    ]
}

async fn compare(case: &Case, keys: &Keys, (input, turns): (&Path, u64)) {
    let packing = Packing::of(&case.entry, keys).expect("settings");
    let stored = input.with_file_name("stored");
    let expected = pack(&packing, input, Some(&stored)).await;
    let unpacking = Unpacking::of(packing.encoding(), case.entry.encryption.as_ref(), keys).expect("keys");
    let mib = expected.plain.size_bytes as f64 / f64::from(1 << 20);
    for (what, arguments, from) in [("pack", &case.pack, input), ("unpack", &case.unpack, stored.as_path())] {
        let (mut ours, mut theirs, mut cpu) = (Times::new(), Times::new(), (0.0, 0.0));
        forget_peak();
        for _ in 0..turns {
            let (before, began) = (cpu_seconds(), clock::monotonic());
            match what {
                "pack" => {
                    pack(&packing, from, None).await;
                }
                _ => unpack(&unpacking, from, expected).await,
            }
            ours.add(began.elapsed());
            let between = cpu_seconds();
            let mut command = quiet(case.program);
            command.args(arguments).stdin(File::open(from).expect("opens"));
            theirs.add(timed(command));
            let after = cpu_seconds();
            cpu = (cpu.0 + between.0 - before.0, cpu.1 + after.1 - between.1);
        }
        let rate = |times: &Times| mib / times.median_ms() * 1e3;
        println!(
            "{:16} {:>5.0} MiB/s {:>5.0} MiB/s {:>5.2} {:>6.2} s {:>6.2} s  {} MiB",
            format!("{} {what}", case.name),
            rate(&ours),
            rate(&theirs),
            rate(&ours) / rate(&theirs),
            cpu.0 / turns as f64,
            cpu.1 / turns as f64,
            peak_mib()
        );
    }
}

async fn pack(packing: &Packing, input: &Path, output: Option<&Path>) -> Expected {
    let source = tokio::fs::File::open(input).await.expect("opens");
    let (mut body, packed) = packing.seal(Box::new(source)).split();
    let mut target = tokio::fs::File::create(output.unwrap_or(Path::new("/dev/null"))).await.expect("creates");
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = body.read(&mut buffer).await.expect("packs");
        if count == 0 {
            break;
        }
        if output.is_some() {
            target.write_all(&buffer[..count]).await.expect("writes");
        }
    }
    target.flush().await.expect("flushes");
    let packed = packed().expect("read to the end");
    let stored = PlainFacts { size_bytes: packed.stored_size_bytes, sha256: packed.stored_sha256 };
    Expected { stored, plain: packed.plain }
}

async fn unpack(unpacking: &Unpacking, stored: &Path, expected: Expected) {
    let source = tokio::fs::File::open(stored).await.expect("opens");
    let mut body = unpacking.open(Box::new(source), expected);
    let mut buffer = vec![0; 1 << 20];
    while body.read(&mut buffer).await.expect("unpacks") > 0 {}
}

/// Rows as a database has them: words that repeat, numbers that do not.
fn write_input(path: &Path, size_bytes: u64) {
    let mut file = BufWriter::new(File::create(path).expect("creates"));
    let (mut written, mut state) = (0, 1_u64);
    let words = ["customer", "order", "shipped", "pending", "2026-11-21", "Europe/Berlin", "EUR", "invoice"];
    while written < size_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = words[(state >> 61) as usize];
        let row = format!("{}\t{word}\t{:016x}\t{}\n", written, state, (state >> 33) % 1000);
        file.write_all(row.as_bytes()).expect("writes");
        written += row.len() as u64;
    }
    file.flush().expect("flushes");
}
