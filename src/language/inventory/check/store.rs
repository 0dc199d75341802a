//! What an entry of `stores` may say, beyond what a schema can.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::units::{ByteSize, Span};
use crate::language::inventory::{InventoryFile, SCHEMES, StoreLocation};

/// Settings that only some kinds of stores have. What is not here every kind has.
const ONLY: &[(&str, &[&str])] = &[
    ("region", &["s3"]),
    ("path_style", &["s3"]),
    ("profile", &["s3"]),
    ("role", &["s3"]),
    ("sse", &["s3"]),
    ("tags", &["s3"]),
    ("object_lock", &["s3"]),
    ("checksums", &["s3"]),
    ("allow_regions", &["s3"]),
    ("retrieval", &["s3"]),
    ("stall", &["s3"]),
    ("stale_uploads", &["s3"]),
    ("endpoint", &["s3", "gs", "az"]),
    ("credentials", &["s3", "gs", "az"]),
    ("storage_class", &["s3", "gs", "az"]),
    ("ssh", &["sftp"]),
];

/// An upload that is younger is never taken for abandoned.
const LEAST_STALE: Duration = Duration::from_secs(3600);

/// The credentials of each kind.
const CREDENTIALS: &[(&str, &str)] = &[
    ("access_key_id", "s3"),
    ("secret_access_key", "s3"),
    ("session_token", "s3"),
    ("account", "az"),
    ("account_key", "az"),
    ("sas", "az"),
    ("service_account", "gs"),
];

/// Where an entry names secrets.
const SECRETS: &[&str] = &[
    "/credentials/access_key_id",
    "/credentials/secret_access_key",
    "/credentials/session_token",
    "/credentials/account_key",
    "/credentials/sas",
    "/credentials/service_account",
    "/sse/customer",
    "/encryption/passphrase",
    "/encryption/openssl/password",
    "/encryption/gpg/passphrase",
];

/// Whether a text is a public key of age, as writing takes it; a private one is not shown.
fn public_key(text: &str) -> Result<(), String> {
    let text = text.trim();
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        return Err("a recipient is a private key: take it for known, and make a new one".to_owned());
    }
    let read = text.parse::<age::x25519::Recipient>();
    read.map(drop)
        .map_err(|why| format!("`{text}` is no public key of age, so nothing could be encrypted to it: {why}"))
}

/// An entry, or what an environment overrides of one.
struct Entry<'a> {
    file: &'a InventoryFile,
    pointer: &'a str,
    members: &'a Map<String, Value>,
}

impl InventoryFile {
    pub(super) fn store(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        if self.is_poisoned(pointer) {
            return;
        }
        if !members.contains_key("url") {
            let fault = Diagnostic::new(Code::MissingKey, "the key `url` is missing")
                .label(self.name_place(pointer), "needs `url`")
                .help("give a folder, `url: file:///srv/backups`, or a bucket, `url: s3://bucket/prefix`");
            faults.push(fault);
        }
        self.store_members(pointer, members, faults);
    }

    /// Checks what is there of an entry. An override without an URL is judged by that of its entry.
    pub(super) fn store_members(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        let entry = Entry { file: self, pointer, members };
        let base = || {
            let name = pointer.rsplit('/').next().unwrap_or_default();
            self.stores.get(name).and_then(|base| base.get("url"))
        };
        let own = members.get("url").and_then(Value::as_str);
        let location = own.or_else(|| base().and_then(Value::as_str)).map(str::parse::<StoreLocation>);
        match location {
            Some(Ok(location)) => entry.fits(location.scheme(), faults),
            Some(Err(error)) if own.is_some() => {
                let place = self.place(&format!("{pointer}/url"));
                faults.push(Diagnostic::new(Code::UnknownValue, error.what).at(place).help(error.help));
            }
            Some(Err(_)) | None => {}
        }
        entry.amounts(faults);
        entry.encryption(faults);
        entry.credentials(faults);
        entry.paths_and_secrets(faults);
    }
}

impl Entry<'_> {
    fn text(&self, path: &str) -> Option<&str> {
        let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        let value = self.members.get(first)?;
        if rest.is_empty() { value.as_str() } else { value.pointer(&format!("/{rest}"))?.as_str() }
    }

    fn fault(&self, code: Code, path: &str, message: String) -> Diagnostic {
        Diagnostic::new(code, message).at(self.file.place(&format!("{}{path}", self.pointer)))
    }

    /// Settings that mean nothing for this kind of store are mistakes: somebody relies on them.
    fn fits(&self, scheme: &str, faults: &mut Diagnostics) {
        for (key, kinds) in ONLY {
            if self.members.contains_key(*key) && !kinds.contains(&scheme) {
                let message = format!("`{key}` means nothing for a `{scheme}://` store");
                let help = format!("remove it; only `{}://` stores have it", kinds.join("://`, `"));
                faults.push(self.fault(Code::BadCombination, &format!("/{key}"), message).help(help));
            }
        }
        let given = self.members.get("credentials").and_then(Value::as_object);
        let has = ONLY.iter().any(|(key, kinds)| *key == "credentials" && kinds.contains(&scheme));
        for (key, kind) in CREDENTIALS {
            if has && *kind != scheme && given.is_some_and(|given| given.contains_key(*key)) {
                let message = format!("`{key}` is no credential of a `{scheme}://` store");
                let own: Vec<&str> =
                    CREDENTIALS.iter().filter(|(_, kind)| *kind == scheme).map(|(key, _)| *key).collect();
                let fault = self.fault(Code::BadCombination, &format!("/credentials/{key}"), message);
                faults.push(fault.help(format!("a `{scheme}://` store takes `{}`", own.join("`, `"))));
            }
        }
        if let Some(endpoint) = self.text("/endpoint").filter(|_| SCHEMES.contains(&scheme))
            && !endpoint.starts_with("https://")
            && !endpoint.starts_with("http://")
        {
            let fault =
                self.fault(Code::UnknownValue, "/endpoint", format!("`{endpoint}` is not the address of a server"));
            faults.push(fault.help(format!("write it with its protocol: `https://{endpoint}`")));
        }
    }

    fn amounts(&self, faults: &mut Diagnostics) {
        let rate = self.text("/bandwidth").and_then(|text| text.parse().ok());
        if rate == Some(ByteSize(0)) {
            let fault = self.fault(Code::UnknownValue, "/bandwidth", "a bandwidth of 0 lets nothing pass".to_owned());
            faults.push(fault.help("remove it for no limit, or give bytes per second: `50MiB`"));
        }
        let stall = self.text("/stall").and_then(|text| text.parse().ok());
        if stall.is_some_and(|stall: Span| stall.0.is_zero()) {
            let fault = self.fault(Code::UnknownValue, "/stall", "a `stall` of no time lets nothing pass".to_owned());
            faults.push(fault.help("remove it for the default, or say how long nothing may come: `20s`"));
        }
        let stale = self.text("/stale_uploads").and_then(|text| text.parse().ok());
        if stale.is_some_and(|stale: Span| stale.0 < LEAST_STALE) {
            let message = "uploads so young may still be under way".to_owned();
            let fault = self.fault(Code::UnknownValue, "/stale_uploads", message);
            faults.push(fault.help("give at least `1h`, and more than the longest upload takes"));
        }
        let keep = self.text("/object_lock/keep").and_then(|text| text.parse().ok());
        if keep.is_some_and(|keep: Span| keep.0.is_zero()) {
            let message = "a lock of no time protects nothing".to_owned();
            let fault = self.fault(Code::UnknownValue, "/object_lock/keep", message);
            faults.push(fault.help("say how long: `30d`; or remove `object_lock`"));
        }
    }

    /// One way to write.
    fn encryption(&self, faults: &mut Diagnostics) {
        let Some(encryption) = self.members.get("encryption").and_then(Value::as_object) else { return };
        let ways: Vec<&str> = ["recipients", "passphrase", "openssl", "gpg"]
            .into_iter()
            .filter(|way| encryption.contains_key(*way))
            .collect();
        if let [first, second, ..] = ways[..] {
            let place = |way: &str| self.file.place(&format!("{}/encryption/{way}", self.pointer));
            let message = format!("a store encrypts in one way, here are {}", ways.len());
            let fault = Diagnostic::new(Code::BadCombination, message)
                .label(place(second), "excludes the other")
                .label(place(first), "given here");
            faults.push(fault.help("keep one of `recipients`, `passphrase`, `openssl`, `gpg`"));
        }
        for (index, recipient) in
            encryption.get("recipients").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let Some(key) = recipient.as_str().or_else(|| recipient.get("key")?.as_str()) else { continue };
            if let Err(what) = public_key(key) {
                let path = if recipient.is_string() { String::new() } else { "/key".to_owned() };
                // A restore needs none of them, and must not wait for one to be mended.
                let fault = self.fault(Code::UnknownValue, &format!("/encryption/recipients/{index}{path}"), what);
                let fault = fault.as_warning();
                faults.push(
                    fault.help("write a public key as `age-keygen -y IDENTITY` prints it: `age1…`, 62 characters"),
                );
            }
        }
    }

    /// Credentials that are only whole together, or exclude each other.
    fn credentials(&self, faults: &mut Diagnostics) {
        let Some(given) = self.members.get("credentials").and_then(Value::as_object) else { return };
        for (one, other) in [
            ("access_key_id", "secret_access_key"),
            ("secret_access_key", "access_key_id"),
            ("session_token", "access_key_id"),
            ("account_key", "account"),
            ("sas", "account"),
        ] {
            if given.contains_key(one) && !given.contains_key(other) {
                let message = format!("`{one}` needs `{other}` besides");
                let fault = self.fault(Code::MissingKey, &format!("/credentials/{one}"), message);
                faults.push(fault.help(format!("add `{other}`, or remove `credentials` for the provider's own chain")));
            }
        }
        if given.contains_key("account_key") && given.contains_key("sas") {
            let place = |key: &str| self.file.place(&format!("{}/credentials/{key}", self.pointer));
            let fault = Diagnostic::new(Code::BadCombination, "a store takes only one of `account_key`, `sas`")
                .label(place("sas"), "excludes the other")
                .label(place("account_key"), "given here");
            faults.push(fault.help("remove one of them; the signature can do less, which is better"));
        }
    }

    fn paths_and_secrets(&self, faults: &mut Diagnostics) {
        if let Some(ssh) = self.members.get("ssh").and_then(Value::as_object) {
            for key in ["config", "identity", "known_hosts"] {
                self.file.absolute(&format!("{}/ssh", self.pointer), key, ssh, faults);
            }
        }
        for path in SECRETS {
            if let Some(name) = self.text(path) {
                self.file.known(Code::UnknownSecret, name, &format!("{}{path}", self.pointer), faults);
            }
        }
        let encryption = self.members.get("encryption");
        if let Some(keys) = encryption {
            self.identities(keys, "/encryption", faults);
        }
        let earlier = encryption.and_then(|encryption| encryption.get("earlier")).and_then(Value::as_array);
        for (index, keys) in earlier.into_iter().flatten().enumerate() {
            self.earlier(keys, &format!("/encryption/earlier/{index}"), faults);
        }
    }

    fn identities(&self, keys: &Value, at: &str, faults: &mut Diagnostics) {
        let names = keys.get("identities").and_then(Value::as_array);
        for (index, name) in names.into_iter().flatten().enumerate() {
            if let Some(name) = name.as_str() {
                let pointer = format!("{}{at}/identities/{index}", self.pointer);
                self.file.known(Code::UnknownSecret, name, &pointer, faults);
            }
        }
    }

    /// An entry of `earlier` names keys that are declared, and at least one.
    fn earlier(&self, keys: &Value, at: &str, faults: &mut Diagnostics) {
        if keys.as_object().is_some_and(Map::is_empty) {
            let fault = self.fault(Code::MissingKey, at, "it names no key, so it reads nothing".to_owned());
            faults.push(fault.help("give `identities`, `passphrase`, `openssl` or `gpg`, or remove the entry"));
        }
        for path in ["/passphrase", "/openssl/password", "/gpg/passphrase"] {
            if let Some(name) = keys.pointer(path).and_then(Value::as_str) {
                self.file.known(Code::UnknownSecret, name, &format!("{}{at}{path}", self.pointer), faults);
            }
        }
        self.identities(keys, at, faults);
    }
}
