//! Servers that speak S3: one in this process over a folder, one of its own for versions, locks and classes.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use runbook::action::{ActionError, Secrets, Store};
use runbook::base::secret::SecretText;
use runbook::language::inventory::{StoreCredentials, StoreEntry};
use runbook::store::Opening;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;

/// The bucket every server has.
pub const BUCKET: &str = "depot";
pub const KEY_ID: &str = "robot-of-the-tests";
pub const KEY: &str = "the-secret-access-key-of-the-robot";

/// A server over a folder, in this process, gone when it is dropped.
pub struct S3 {
    folder: TempDir,
    port: u16,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3 {
    /// Starts a server with the bucket [`BUCKET`].
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).expect("a file system"));
        service.set_auth(SimpleAuth::from_single(KEY_ID, KEY));
        let service = service.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let socket = tokio::select! {
                    accepted = listener.accept() => accepted.expect("a connection").0,
                    _ = &mut stopped => return,
                };
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let thread = std::thread::spawn(move || {
            runtime.block_on(serve);
            runtime.shutdown_background();
        });
        Self { folder, port, stop: Some(stop), thread: Some(thread) }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder with its buckets.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A store below the prefix `below`.
    pub fn entry(&self) -> StoreEntry {
        entry(&self.url())
    }

    /// Opens a store over it.
    pub fn store(&self) -> Arc<dyn Store> {
        open(&self.entry())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the inventory says of a store at a server of these tests.
pub fn entry(endpoint: &str) -> StoreEntry {
    StoreEntry {
        url: format!("s3://{BUCKET}/below"),
        endpoint: Some(endpoint.to_owned()),
        region: Some("eu-west-1".to_owned()),
        credentials: Some(StoreCredentials {
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some("key".to_owned()),
            ..StoreCredentials::default()
        }),
        ..StoreEntry::default()
    }
}

/// Opens a store.
pub fn open(entry: &StoreEntry) -> Arc<dyn Store> {
    opening(entry).open().expect("a store")
}

/// What a store is opened with.
pub fn opening(entry: &StoreEntry) -> Opening<'_> {
    Opening::new(entry, "depot", secrets())
}

/// The secrets that the entries of these tests name.
pub fn secrets() -> Arc<dyn Secrets> {
    Arc::new(Known)
}

/// Asks a server that believes everybody, without the store: to make buckets and to look behind it.
pub struct Behind(String);

impl Behind {
    /// Whoever asks the server at this address.
    pub fn at(address: &str) -> Self {
        Self(address.to_owned())
    }

    /// Asks, and gives the answer. Blocking.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str]) -> String {
        let host = self.0.trim_start_matches("http://");
        let mut lines =
            vec![format!("{method} /{path} HTTP/1.0"), format!("Host: {host}"), "Content-Length: 0".to_owned()];
        let scope = "Credential=x/20260101/us-east-1/s3/aws4_request";
        lines.push(format!("Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x"));
        lines.extend(headers.iter().map(|header| (*header).to_owned()));
        let mut socket = std::net::TcpStream::connect(host).expect("the server");
        socket.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{method} {path}: {answer}");
        answer
    }

    /// The uploads under way in [`BUCKET`].
    pub fn uploads(&self) -> Vec<String> {
        let answer = self.ask("GET", &format!("{BUCKET}?uploads"), &[]);
        answer.split("<UploadId>").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
    }
}

/// The parts of uploads under way in a server's folder.
pub fn uploads(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.contains("upload")).collect()
}

/// Secrets that never change.
struct Known;

impl Secrets for Known {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        let value = match name {
            "id" => KEY_ID.to_owned(),
            "key" => KEY.to_owned(),
            "wrong" => "another-secret-access-key".to_owned(),
            // 32 bytes in base64.
            "customer" => "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned(),
            "other_customer" => "OTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned(),
            _ => return Err(ActionError::fatal(format!("there is no secret `{name}`"))),
        };
        Ok(SecretText::new(value))
    }
}
