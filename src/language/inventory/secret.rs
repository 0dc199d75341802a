//! Where secrets come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A secret: one source, or several of which the first that answers counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretEntry {
    /// One source.
    One(SecretSpec),
    /// Several, asked in this order.
    FirstOf(Vec<SecretSpec>),
}

impl SecretEntry {
    /// Gives the sources in the order they are asked.
    #[must_use]
    pub fn sources(&self) -> &[SecretSpec] {
        match self {
            Self::One(spec) => std::slice::from_ref(spec),
            Self::FirstOf(specs) => specs,
        }
    }
}

impl From<SecretSpec> for SecretEntry {
    fn from(spec: SecretSpec) -> Self {
        Self::One(spec)
    }
}

/// One source of a secret. Exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretSpec {
    /// A variable of the engine's environment.
    Env(String),
    /// The content of a file, without its final newline.
    File(PathBuf),
    /// The standard output of a command, without its final newline.
    Command(Vec<String>),
    /// Asked at the terminal.
    Prompt(bool),
    /// A secret of AWS Secrets Manager.
    Aws(AwsSecret),
    /// A field of a secret in a key-value store (version 2) of HashiCorp Vault.
    Vault(Box<VaultSecret>),
}

/// A secret of AWS Secrets Manager. Credentials are found as the AWS tools find them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsSecret {
    /// Its name or ARN.
    pub secret: String,
    /// The member of a secret that is a JSON object; absent: the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The region; default as the AWS tools find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another endpoint than the region's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Which version; default `AWSCURRENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_stage: Option<String>,
}

/// A field of a secret in a key-value store (version 2) of HashiCorp Vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultSecret {
    /// The secret's path below the mount, without `data/`.
    pub path: String,
    /// The field.
    pub field: String,
    /// The mount of the store. Default `secret`.
    #[serde(default = "VaultSecret::default_mount")]
    pub mount: String,
    /// The server. Default `$VAULT_ADDR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where the token is. Default `$VAULT_TOKEN`, else `~/.vault-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Credential>,
    /// Log in with a role instead of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approle: Option<AppRole>,
    /// The namespace. Default `$VAULT_NAMESPACE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A PEM file of authorities that may sign the server's certificate, besides the system's. Default `$VAULT_CACERT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl VaultSecret {
    fn default_mount() -> String {
        "secret".to_owned()
    }
}

/// The role that logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The role's id.
    pub role_id: String,
    /// Where its secret id is.
    pub secret_id: Credential,
    /// The mount of the login. Default `approle`.
    #[serde(default = "AppRole::default_mount")]
    pub mount: String,
}

impl AppRole {
    fn default_mount() -> String {
        "approle".to_owned()
    }
}

/// What opens the door to secrets. Exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// A variable of the engine's environment.
    Env(String),
    /// The content of a file, without its final newline.
    File(PathBuf),
}
