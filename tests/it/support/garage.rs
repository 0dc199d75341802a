//! Garage, an S3 server of other people's making: one node in a folder of its own, ended with its guard.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

/// The region the server answers to.
pub const REGION: &str = "garage";
/// The bucket that is there.
pub const BUCKET: &str = "backups";

/// A server with one bucket and one key.
pub struct Garage {
    dir: tempfile::TempDir,
    child: Child,
    address: SocketAddr,
    access_key_id: String,
    secret_access_key: String,
}

impl Garage {
    /// Starts a server on a free port; fails the test with the line that installs it.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [s3, rpc, admin] = ports();
        let config = dir.path().join("garage.toml");
        let text = format!(
            "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{1}\"\n\
             [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"{s3}\"\n[admin]\napi_bind_addr = \"{admin}\"\n",
            dir.path().display(),
            "01".repeat(32),
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(&config)
            .arg("server")
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("no Garage: {error}; `make test-garage` builds it"));
        let (access_key_id, secret_access_key) = (format!("GK{}", "ab".repeat(12)), "cd".repeat(32));
        let garage = Self { dir, child, address: s3, access_key_id, secret_access_key };
        garage.set_up();
        garage
    }

    fn set_up(&self) {
        let started = Instant::now();
        let node = loop {
            let told = self.run(&["node", "id", "-q"]);
            let answers = self.run(&["status"]).status.success();
            let id = String::from_utf8_lossy(&told.stdout).split('@').next().unwrap_or_default().trim().to_owned();
            if answers && !id.is_empty() {
                break id;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "Garage did not start");
            std::thread::sleep(Duration::from_millis(100));
        };
        let (id, secret) = (self.access_key_id.as_str(), self.secret_access_key.as_str());
        for words in [
            vec!["layout", "assign", "-z", "dc1", "-c", "100G", &node],
            vec!["layout", "apply", "--version", "1"],
            vec!["bucket", "create", BUCKET],
            vec!["key", "import", "--yes", "-n", "runbook", id, secret],
            vec!["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", id],
        ] {
            let told = self.run(&words);
            assert!(told.status.success(), "garage {words:?}: {}", String::from_utf8_lossy(&told.stderr));
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        let config = self.dir.path().join("garage.toml");
        Command::new(program()).arg("-c").arg(config).args(words).env("RUST_LOG", "error").output().unwrap()
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key's id and the key.
    pub fn credentials(&self) -> (&str, &str) {
        (&self.access_key_id, &self.secret_access_key)
    }

    /// The uploads under way in [`BUCKET`], asked for beside the store. Blocking.
    pub fn uploads(&self) -> Vec<String> {
        let ask = async {
            let answer = self.client().list_multipart_uploads().bucket(BUCKET).send().await.expect("the uploads");
            answer.uploads().iter().map(|upload| format!("{:?} of {:?}", upload.upload_id(), upload.key())).collect()
        };
        // A thread of its own: whoever asks may be in a runtime already.
        std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            scope.spawn(move || runtime.block_on(ask)).join().expect("an answer")
        })
    }

    fn client(&self) -> aws_sdk_s3::Client {
        let keys = Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(format!("http://{}", self.address))
            .region(Region::new(REGION))
            .credentials_provider(keys)
            .force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::env::var_os("RUNBOOK_TEST_GARAGE").map_or_else(|| target.join("garage/bin/garage"), PathBuf::from)
}

/// Free ports, held together while they are chosen so that they differ.
fn ports<const N: usize>() -> [SocketAddr; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}
