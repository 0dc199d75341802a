//! What our client of S3 costs against `curl` and the AWS command line, on one server.
//!
//! `cargo bench --bench s3_client -- [FOLDER] [--mib N] [--turns N]`; the server (s3s-fs) is a process of its own, with its
//! buckets in the folder and without TLS. Random bytes: nothing compresses. What is read is thrown away.

#![expect(clippy::disallowed_methods, reason = "a benchmark starts the programs it compares")]

#[path = "measure/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod measure;
#[path = "measure/process.rs"]
mod process;
#[path = "../tests/it/support/s3.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod s3;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use runbook::action::{ObjectKey, PutOptions, Store};
use runbook::base::clock;
use tokio::io::AsyncReadExt as _;

use measure::{RUNBOOK, Times, build, quiet, timed, write};
use process::{cpu_seconds, forget_peak, peak_mib};

const SERVE: &str = "--serve";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == SERVE) {
        return serve();
    }
    let number = |flag: &str, usual: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (mib, turns) = (number("--mib", 1024), number("--turns", 3));
    let folder = args.first().filter(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(&folder).expect("the folder is writable");
    let input = dir.path().join("input");
    let mut random = File::open("/dev/urandom").expect("random bytes").take(mib << 20);
    std::io::copy(&mut random, &mut File::create(&input).expect("creates")).expect("writes");
    let server = Server::start(dir.path());
    println!("s3_client, {}, {mib} MiB, {turns} turns each, in {}", build(), folder.display());
    println!("{:44} {:>30} {:>8}  peak", "", "wall", "CPU");
    large(&server, &input, turns);
    small(&server, dir.path(), turns * 5);
}

/// The server, for whoever has started this process, until its input ends.
fn serve() {
    let server = s3::S3::start();
    println!("{}", server.url());
    let _ = std::io::stdin().read(&mut [0]);
}

/// A server in a process of its own, ended when this is dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(SERVE).env("TMPDIR", dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut url).expect("its address");
        Self { child, url: url.trim().to_owned() }
    }

    /// A command of `curl` for an object.
    fn curl(&self, object: &str, more: &[&str]) -> Command {
        let mut command = quiet("curl");
        let user = format!("{}:{}", s3::KEY_ID, s3::KEY);
        command.args(["-sf", "--aws-sigv4", "aws:amz:eu-west-1:s3", "--user", &user]);
        command.args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-o", "/dev/null"]).args(more);
        command.arg(format!("{}/{}/{object}", self.url, s3::BUCKET));
        command
    }

    /// A command of the AWS command line.
    fn aws(&self, args: &[&str]) -> Command {
        let mut command = quiet("aws");
        command.args(["--endpoint-url", &self.url, "s3", "cp"]).args(args).env("AWS_REGION", "eu-west-1");
        command.env("AWS_ACCESS_KEY_ID", s3::KEY_ID).env("AWS_SECRET_ACCESS_KEY", s3::KEY);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What one way has cost.
struct Row {
    name: String,
    times: Times,
    cpu: f64,
    peak: Option<u64>,
}

impl Row {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), times: Times::new(), cpu: 0.0, peak: None }
    }

    fn program(&mut self, command: Command) {
        let before = cpu_seconds().1;
        self.times.add(timed(command));
        self.cpu += cpu_seconds().1 - before;
    }

    fn ours(&mut self, work: impl FnOnce()) {
        forget_peak();
        let (before, began) = (cpu_seconds().0, clock::monotonic());
        work();
        self.times.add(began.elapsed());
        self.cpu += cpu_seconds().0 - before;
        self.peak = self.peak.max(Some(peak_mib()));
    }

    fn print(&self, turns: u64) {
        let peak = self.peak.map_or_else(String::new, |peak| format!("{peak} MiB"));
        println!("{:44} {:>30} {:>6.2} s  {peak}", self.name, self.times.to_string(), self.cpu / turns as f64);
    }
}

fn is_there(program: &str) -> bool {
    quiet("sh").args(["-c", &format!("{program} --version")]).status().is_ok_and(|ended| ended.success())
}

/// One object of many bytes, there and back.
fn large(server: &Server, input: &Path, turns: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let store = s3::open(&s3::entry(&server.url));
    let (file, bucket) = (input.display().to_string(), s3::BUCKET);
    let mut rows = [
        "put: ours, with SHA-256 and CRC32C",
        "put: curl, one unsigned stream",
        "put: aws s3 cp",
        "get: ours",
        "get: curl, one stream",
        "get: aws s3 cp",
    ]
    .map(Row::new);
    let has_aws = is_there("aws");
    for _ in 0..turns {
        rows[0].ours(|| runtime.block_on(put(&store, input)));
        rows[1].program(server.curl("curl", &["-T", &file]));
        rows[3].ours(|| runtime.block_on(get(&store)));
        rows[4].program(server.curl("curl", &[]));
        if has_aws {
            rows[2].program(server.aws(&[&file, &format!("s3://{bucket}/aws")]));
            rows[5].program(server.aws(&[&format!("s3://{bucket}/aws"), "/dev/null"]));
        }
    }
    for row in rows.iter().filter(|row| has_aws || !row.name.contains("aws")) {
        row.print(turns);
    }
}

fn key() -> ObjectKey {
    "ours".parse().expect("a key")
}

async fn put(store: &Arc<dyn Store>, input: &Path) {
    let body = tokio::fs::File::open(input).await.expect("opens");
    store.put(&key(), Box::new(body), PutOptions::default()).await.expect("puts");
}

async fn get(store: &Arc<dyn Store>) {
    let mut body = store.get(&key()).await.expect("gets");
    let mut buffer = vec![0; 1 << 20];
    while body.read(&mut buffer).await.expect("reads") > 0 {}
}

/// One object of a few bytes, by a process that starts for it.
fn small(server: &Server, dir: &Path, turns: u64) {
    let (file, config) = (dir.join("00000002.history"), dir.join("wal.json"));
    write(&file, "1\t0/3000000\tno recovery target specified\n");
    for (name, text) in [("id", s3::KEY_ID), ("key", s3::KEY)] {
        write(&dir.join(name), text);
    }
    let store = serde_json::to_value(s3::entry(&server.url)).expect("settings");
    let secrets = serde_json::json!({ "id": { "file": "id" }, "key": { "file": "key" } });
    let settings =
        serde_json::json!({ "store": store, "prefix": "main", "system_id": "7423456789012345678", "secrets": secrets });
    write(&config, &settings.to_string());
    let (config, shown) = (config.display().to_string(), file.display().to_string());
    let mut ours = Row::new("a history file: runbook wal push, and there");
    let (mut curl, mut aws) = (Row::new("a history file: curl -T"), Row::new("a history file: aws s3 cp"));
    let has_aws = is_there("aws");
    for turn in 0..turns {
        let mut push = quiet(RUNBOOK);
        push.args(["wal", "push", "--config", &config, &shown]);
        ours.program(push);
        curl.program(server.curl("small", &["-T", &shown]));
        if has_aws && turn % 5 == 0 {
            aws.program(server.aws(&[&shown, &format!("s3://{}/small", s3::BUCKET)]));
        }
    }
    ours.print(turns);
    curl.print(turns);
    if has_aws {
        aws.print(turns.div_ceil(5));
    }
}
