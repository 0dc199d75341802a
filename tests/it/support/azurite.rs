//! A real server that speaks Azure's protocol of blobs, on a free port, gone when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use object_store::azure::MicrosoftAzureBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use runbook::action::{ActionError, Secrets};
use runbook::base::secret::SecretText;
use runbook::language::inventory::{StoreCredentials, StoreEntry};

use super::cli::until;
use super::postgres::free_port;

/// The account and the key that the server's manual tells everybody.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The server.
pub struct Azurite {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

/// Finds the program.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_runbook")).ancestors().nth(2).expect("the build folder");
    let own = target.join("azurite/node_modules/.bin/azurite-blob");
    assert!(
        own.exists(),
        "`azurite` is missing: run `.ci/setup azurite`; `cargo nextest run -E 'not test(azure)'` leaves these tests out"
    );
    own
}

impl Azurite {
    /// Starts the server with a container and waits until it answers.
    pub fn start(container: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let mut command = Command::new(program());
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--silent", "--skipApiVersionCheck"]);
        command.args(["--disableTelemetry", "--location"]).arg(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: command.spawn().expect("azurite starts"), port, _dir: dir };
        until("azurite answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server.create(container);
        server
    }

    /// Makes a container, which only the account's key may do.
    fn create(&self, container: &str) {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&runbook::base::clock::now());
        let date = date.expect("a date");
        let headers = format!("x-ms-date:{date}\nx-ms-version:2021-12-02");
        let signed =
            format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}\n/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container");
        let signature = sign(&signed);
        let url = format!("http://127.0.0.1:{}/{ACCOUNT}/{container}?restype=container", self.port);
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "-X", "PUT", &url]);
        command.args([
            "-H",
            &format!("x-ms-date: {date}"),
            "-H",
            "x-ms-version: 2021-12-02",
            "-H",
            "Content-Length: 0",
        ]);
        let output = command.args(["-H", &format!("Authorization: SharedKey {ACCOUNT}:{signature}")]).output();
        let output = output.expect("curl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// The entry of a container of it.
    pub fn entry(&self, url: &str) -> StoreEntry {
        let credentials = StoreCredentials {
            account: Some(ACCOUNT.to_owned()),
            account_key: Some("azure_key".to_owned()),
            ..StoreCredentials::default()
        };
        StoreEntry {
            url: url.to_owned(),
            endpoint: Some(self.endpoint()),
            credentials: Some(credentials),
            ..StoreEntry::default()
        }
    }
}

/// Every name in a container, the hidden ones too, asked by other means than the store's.
pub fn names(endpoint: &str, container: &str) -> Vec<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = MicrosoftAzureBuilder::new()
        .with_account(ACCOUNT)
        .with_access_key(KEY)
        .with_endpoint(endpoint.to_owned())
        .with_allow_http(true)
        .with_container_name(container)
        .build()
        .expect("a client");
    let listed = std::thread::scope(|scope| {
        let asked = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(client.list_paginated(None, PaginatedListOptions::default()))
        };
        scope.spawn(asked).join().expect("a thread")
    });
    listed.expect("a list").result.objects.iter().map(|meta| meta.location.to_string()).collect()
}

fn sign(text: &str) -> String {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&base64.decode(KEY).expect("a key")).expect("a key");
    mac.update(text.as_bytes());
    base64.encode(mac.finalize().into_bytes())
}

/// The account's key, by the name of a secret.
pub struct AccountKey;

impl AccountKey {
    /// As secrets of an inventory.
    pub fn secrets() -> Arc<dyn Secrets> {
        Arc::new(Self)
    }
}

impl Secrets for AccountKey {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        match name {
            "azure_key" => Ok(SecretText::new(KEY.to_owned())),
            other => Err(ActionError::fatal(format!("there is no secret `{other}`"))),
        }
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
