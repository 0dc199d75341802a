//! A double of HashiCorp Vault, written from its API documentation: reading version 2 of the key-value store, tokens,
//! namespaces, the login of roles, and what it says when it refuses. No Vault is to be had from a package registry.

use serde_json::{Value, json};

use super::web::{Asked, Web};

/// What the double lets in.
pub const TOKEN: &str = "hvs.token-of-the-test";
pub const SECRET_ID: &str = "secret-id-of-the-test";
/// The value of `field` at `secret/app/db`.
pub const VALUE: &str = "value-from-vault";

/// Starts the double.
pub fn vault() -> Web {
    Web::start(|asked| {
        let (status, body) = answer(asked);
        (status, body.to_string())
    })
}

fn errors(status: u16, words: &[&str]) -> (u16, Value) {
    (status, json!({ "errors": words }))
}

fn answer(asked: &Asked) -> (u16, Value) {
    if asked.path == "/v1/auth/approle/login" {
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        return match (asked.method.as_str(), &body["role_id"], &body["secret_id"]) {
            ("POST" | "PUT", role, id) if role == "robot" && id == SECRET_ID => {
                (200, json!({ "auth": { "client_token": TOKEN, "lease_duration": 1200, "renewable": true } }))
            }
            _ => errors(400, &["invalid role or secret ID"]),
        };
    }
    let namespace = asked.headers.get("x-vault-namespace").map(String::as_str);
    if asked.headers.get("x-vault-token").map(String::as_str) != Some(TOKEN) || namespace == Some("theirs") {
        return errors(403, &["1 error occurred:\n\t* permission denied\n\n"]);
    }
    let kept =
        |data: Value| (200, json!({ "data": { "data": data, "metadata": { "version": 2, "destroyed": false } } }));
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/v1/secret/data/app/db") => kept(json!({ "field": VALUE, "port": 5432, "nested": {} })),
        ("GET", "/v1/team/kv/data/x") => kept(json!({ "field": "value-of-another-mount" })),
        // A version that was deleted is answered with its metadata and status 404.
        ("GET", "/v1/secret/data/app/deleted") => {
            (404, json!({ "data": { "data": null, "metadata": { "deletion_time": "2026-01-01T00:00:00Z" } } }))
        }
        ("GET", "/v1/old/data/app") => (200, json!({ "data": { "field": "of version 1" } })),
        ("GET", "/v1/sealed/data/app") => errors(503, &["Vault is sealed"]),
        ("GET", _) => errors(404, &[]),
        _ => errors(405, &["unsupported operation"]),
    }
}
