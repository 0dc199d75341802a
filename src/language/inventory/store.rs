//! Stores: where backups lie, how they are reached, and how they are packed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::units::{ByteSize, Span};

/// A place for backups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreEntry {
    /// `file:///absolute/path`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or
    /// `sftp://user@host:port/absolute/path`.
    pub url: String,
    /// Nothing is written to it.
    pub read_only: bool,
    /// S3: the region, for example `eu-west-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The address of a server that is not the provider's own, for example `https://minio.example.org:9000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// S3: the bucket is a part of the path and not of the host name. Default: yes with an `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// S3: the profile of the AWS tools' configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// S3: the role to take on before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    /// Who asks, when the provider's own chain of credentials shall not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<StoreCredentials>,
    /// How the server encrypts at rest: `AES256`, `{ kms: KEY }` or `{ customer: SECRET }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<ServerSideEncryption>,
    /// The storage class of new objects, as the provider names it: `STANDARD_IA`, `GLACIER` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Tags of new objects.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// S3 Object Lock of new objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// How parts are checked on the way. Default `auto`.
    #[serde(skip_serializing_if = "Checksums::is_auto")]
    pub checksums: Checksums,
    /// The regions the data may lie in; a store anywhere else is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_regions: Vec<String>,
    /// The most bytes per second, both ways together: `50MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub bandwidth: Option<ByteSize>,
    /// S3: how long nothing may come before a request is tried again. A first byte may take three times as long, a body
    /// that is sent once more for each 1.25 MiB. Default `20s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stall: Option<Span>,
    /// S3: how old a cut-off upload of the same key must be to be taken for abandoned and aborted, whoever began it; its
    /// parts are gone then. Default `7d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stale_uploads: Option<Span>,
    /// How archived objects are retrieved. Default `standard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalPolicy>,
    /// SFTP: how `ssh` is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    /// How backups are compressed. Default zstd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// How backups are encrypted before they leave this machine. Default: not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

impl StoreEntry {
    /// Its address without a slash at the end: two entries that differ in that alone are one place.
    #[must_use]
    pub fn plain_url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// The names of the secrets it mentions, for reaching it, writing to it and reading from it.
    #[must_use]
    pub fn secret_names(&self) -> Vec<&str> {
        let customer = match &self.sse {
            Some(ServerSideEncryption::Customer(secret)) => Some(secret),
            Some(ServerSideEncryption::AES256 | ServerSideEncryption::Kms(_)) | None => None,
        };
        let credentials = self.credentials.iter().flat_map(StoreCredentials::secrets);
        let encryption = self.encryption.iter().flat_map(Encryption::secrets);
        credentials.chain(customer).chain(encryption).map(String::as_str).filter(|name| !name.is_empty()).collect()
    }
}

/// An AWS role to take on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AssumedRole {
    /// Its ARN.
    pub arn: String,
    /// The external id it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The name of the session in the provider's log. Default `runbook`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
}

/// Credentials by the names of secrets; which are needed follows from the kind of store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreCredentials {
    /// S3: the secret with the access key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// S3: the secret with the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// S3: the secret with the session token of temporary credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// Azure: the storage account's name; not a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Azure: the secret with the account's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_key: Option<String>,
    /// Azure: the secret with a shared access signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sas: Option<String>,
    /// Google: the secret with the service account's JSON key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}

impl StoreCredentials {
    fn secrets(&self) -> impl Iterator<Item = &String> {
        let Self { access_key_id, secret_access_key, session_token, account: _, account_key, sas, service_account } =
            self;
        [access_key_id, secret_access_key, session_token, account_key, sas, service_account].into_iter().flatten()
    }
}

/// How the server encrypts at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerSideEncryption {
    /// With a key of the store's (SSE-S3).
    AES256,
    /// With a key of the key service (SSE-KMS), by its id or ARN.
    #[serde(rename = "kms")]
    Kms(String),
    /// With a key that is sent along each time (SSE-C): the secret holds 32 bytes in base64. Who loses it loses the data.
    #[serde(rename = "customer")]
    Customer(String),
}

/// S3 Object Lock of new objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// How long each object is locked after it was put.
    #[schemars(with = "String")]
    pub keep: Span,
    /// Sets a legal hold besides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub legal_hold: bool,
}

/// Who may lift a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Those with a special permission.
    Governance,
    /// Nobody.
    Compliance,
}

/// How parts are checked on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// CRC32C where the server takes it: asked once, remembered.
    #[default]
    Auto,
    /// CRC32C always.
    Crc32c,
    /// MD5, for servers with Object Lock that know nothing newer.
    Md5,
    /// None beside our own digests.
    None,
}

impl Checksums {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// How archived objects are retrieved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrievalPolicy {
    /// How fast: `expedited`, `standard` or `bulk`.
    pub tier: RetrievalSpeed,
    /// How many days the readable copy stays.
    #[serde(default = "one_week")]
    pub days: u32,
}

fn one_week() -> u32 {
    7
}

/// How fast an archived object is retrieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetrievalSpeed {
    /// Minutes, at the highest price; not for the deepest class.
    Expedited,
    /// Hours.
    #[default]
    Standard,
    /// Up to two days, at the lowest price.
    Bulk,
}

/// How `ssh` is called. Everything else is `ssh`'s own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SshAccess {
    /// A configuration file instead of the user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// The private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
    /// The known hosts; a host that is not in it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,
}

/// How backups are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compression {
    /// The format. Default `zstd`.
    pub format: CompressionFormat,
    /// How hard: zstd 1 to 19 (default 3), gzip 1 to 9 (default 6), nothing else has levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<i32>,
}

/// A format of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompressionFormat {
    /// Zstandard, a frame per chunk.
    #[default]
    Zstd,
    /// gzip, a member per chunk.
    Gzip,
    /// LZ4 frames.
    Lz4,
    /// None.
    None,
}

/// How backups are encrypted before they leave this machine. To write, exactly one of `recipients`,
/// `passphrase`, `openssl` and `gpg`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Encryption {
    /// age: the public keys of those who can read it. At least two, one of them kept offline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Recipient>,
    /// age: the secret with a passphrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// `openssl enc -aes-256-cbc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openssl: Option<OpensslEnc>,
    /// `gpg --symmetric`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpg: Option<GpgSymmetric>,
    /// The secrets with age identities (`AGE-SECRET-KEY-1…`) to read with, the first that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// What older backups were made with, by method: nothing is written with these. Keep an entry for as long as a
    /// backup of its time is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierKeys>,
}

impl Encryption {
    /// The names of its secrets, to write and to read.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let Self { recipients: _, passphrase, openssl, gpg, identities, earlier } = self;
        let passwords = openssl.iter().map(|openssl| &openssl.password).chain(gpg.iter().map(|gpg| &gpg.passphrase));
        passphrase.iter().chain(passwords).chain(identities).chain(earlier.iter().flat_map(EarlierKeys::secrets))
    }

    /// The names of the secrets whose words are the key that is written with.
    pub fn passwords(&self) -> impl Iterator<Item = &String> {
        let openssl = self.openssl.iter().map(|openssl| &openssl.password);
        self.passphrase.iter().chain(openssl).chain(self.gpg.iter().map(|gpg| &gpg.passphrase))
    }

    /// Forgets every key that `has` says cannot be had, also when none is left: what is encrypted with it is read nowhere
    /// with this.
    pub fn forget(&mut self, has: impl Fn(&str) -> bool) {
        self.keep_readable(&has);
        self.identities.retain(|name| has(name));
        self.passphrase = self.passphrase.take().filter(|name| has(name));
        self.openssl = self.openssl.take().filter(|openssl| has(&openssl.password));
        self.gpg = self.gpg.take().filter(|gpg| has(&gpg.passphrase));
    }

    /// Forgets the keys to read with that `has` says cannot be had, as long as others are left. What writing needs
    /// stays.
    pub fn keep_readable(&mut self, has: impl Fn(&str) -> bool) {
        for earlier in &mut self.earlier {
            earlier.passphrase = earlier.passphrase.take().filter(|name| has(name));
            earlier.openssl = earlier.openssl.take().filter(|openssl| has(&openssl.password));
            earlier.gpg = earlier.gpg.take().filter(|gpg| has(&gpg.passphrase));
            earlier.identities.retain(|name| has(name));
        }
        self.earlier.retain(|earlier| *earlier != EarlierKeys::default());
        let older = self.earlier.iter().any(|earlier| !earlier.identities.is_empty());
        if older || self.identities.iter().any(|name| has(name)) {
            self.identities.retain(|name| has(name));
        }
    }
}

/// Keys that older backups were made with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlierKeys {
    /// age: the secrets with identities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// age: the secret with a passphrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// `openssl enc -aes-256-cbc`. How the key was derived stands in the manifest of a backup; what is said here counts
    /// for files of other programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openssl: Option<OpensslEnc>,
    /// `gpg --symmetric`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpg: Option<GpgSymmetric>,
}

impl EarlierKeys {
    /// The names of its secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let Self { identities, passphrase, openssl, gpg } = self;
        let passwords = openssl.iter().map(|openssl| &openssl.password).chain(gpg.iter().map(|gpg| &gpg.passphrase));
        identities.iter().chain(passphrase).chain(passwords)
    }
}

/// The public key of somebody who can read a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Recipient {
    /// The key alone.
    Key(String),
    /// The key and who holds the other half.
    Named(NamedRecipient),
}

/// A public key and who holds the other half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedRecipient {
    /// The key, `age1…`.
    pub key: String,
    /// Who holds its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The identity is kept away from every machine that can be lost together with the data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
}

impl Recipient {
    /// The public key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Key(key) => key,
            Self::Named(named) => &named.key,
        }
    }

    /// Whether its identity is said to be kept offline.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        match self {
            Self::Key(_) => false,
            Self::Named(named) => named.offline,
        }
    }
}

/// `openssl enc -aes-256-cbc`: readable everywhere, but without proof against changes; our digests stand around it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpensslEnc {
    /// The secret with the password.
    pub password: String,
    /// How the key is derived. Default `pbkdf2`.
    pub kdf: OpensslKdf,
    /// The digest of the derivation. Default `sha256`.
    pub digest: OpensslDigest,
    /// PBKDF2's iterations. Default 600,000 to write; openssl's own default is 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u32>,
}

/// How `openssl enc` derives its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpensslKdf {
    /// `-pbkdf2`.
    #[default]
    Pbkdf2,
    /// `EVP_BytesToKey` with one iteration, without `-pbkdf2`: weak, for what is there already.
    Legacy,
}

/// A digest of `openssl enc -md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpensslDigest {
    /// The default since OpenSSL 1.1.0.
    #[default]
    Sha256,
    /// The default before.
    Md5,
}

/// `gpg --symmetric --cipher-algo AES256`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpgSymmetric {
    /// The secret with the passphrase.
    pub passphrase: String,
}
