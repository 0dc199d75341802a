//! A real server that speaks the protocols of AWS, on a free port, gone when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::cli::until;
use super::postgres::free_port;

/// The server.
pub struct Moto {
    child: Child,
    port: u16,
}

/// Finds the program.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_runbook")).ancestors().nth(2).expect("the build folder");
    let own = target.join("moto/bin/moto_server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || std::env::split_paths(&path).map(|dir| dir.join("moto_server")).find(|path| path.exists());
    if own.exists() { Some(own) } else { found() }.expect(
        "`moto_server` is missing: run `.ci/setup moto`; `cargo nextest run -E 'not test(aws)'` leaves these tests out",
    )
}

impl Moto {
    /// Starts the server and waits until it answers.
    pub fn start() -> Self {
        let port = free_port();
        let mut command = Command::new(program());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let moto = Self { child: command.spawn().expect("moto_server starts"), port };
        until("moto_server answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        moto
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Calls an operation of Secrets Manager in the region `eu-west-1`.
    pub async fn call(&self, operation: &str, body: &Value) -> Value {
        // Installing it again is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scope = "Credential=x/20260101/eu-west-1/secretsmanager/aws4_request";
        let request = reqwest::Client::builder().no_proxy().build().expect("a client").post(self.url());
        let request = request
            .header("x-amz-target", format!("secretsmanager.{operation}"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x"));
        let answer = request.body(body.to_string()).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Makes a bucket in the region `eu-west-1`.
    pub async fn bucket(&self, name: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let body =
            "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
        let request =
            reqwest::Client::builder().no_proxy().build().expect("a client").put(format!("{}/{name}", self.url()));
        let scope = "Credential=x/20260101/eu-west-1/s3/aws4_request";
        let header = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x");
        let request = request.header("content-type", "application/xml").header("authorization", header);
        let answer = request.body(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Makes a secret.
    pub async fn secret(&self, name: &str, value: &str) {
        self.call(
            "CreateSecret",
            &json!({ "Name": name, "SecretString": value, "ClientRequestToken": name.repeat(8) }),
        )
        .await;
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
