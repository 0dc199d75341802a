//! The keys of a step: given as arguments, or those of a store's settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{ActionError, Encoding, Encrypted, Kdf, Late, ParamFault, RunContext, Secrets, StoreRef};
use crate::actions::store::transfer_failed;
use crate::base::secret::SecretText;
use crate::language::inventory::{
    Compression, CompressionFormat, Encryption, GpgSymmetric, OpensslDigest, OpensslEnc, OpensslKdf, Recipient,
    StoreEntry,
};
use crate::transfer::{Packing, Unpacking};

/// How something is or becomes encrypted. To encrypt, exactly one of `recipients`, `passphrase`, `openssl`, `gpg` and
/// `store`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// As the settings of this store say.
    pub store: Option<StoreRef>,
    /// age: the public keys of those who can read it.
    pub recipients: Vec<String>,
    /// age: the identities to read with, `AGE-SECRET-KEY-1…`; the first that fits counts.
    pub identities: Vec<Late<SecretText>>,
    /// age: a passphrase.
    pub passphrase: Option<Late<SecretText>>,
    /// `openssl enc -aes-256-cbc`.
    pub openssl: Option<Openssl>,
    /// `gpg --symmetric`.
    pub gpg: Option<Gpg>,
}

/// `openssl enc`: such a file does not say how its key was derived.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Openssl {
    /// The password.
    pub password: Late<SecretText>,
    /// How the key is derived. Default `pbkdf2`.
    #[serde(default)]
    pub kdf: OpensslKdf,
    /// The digest of the derivation. Default `sha256`.
    #[serde(default)]
    pub digest: OpensslDigest,
    /// PBKDF2's iterations. Default 600,000 to write, and openssl's own 10,000 to read what has no note.
    #[serde(default)]
    pub iterations: Option<u32>,
}

/// `gpg --symmetric`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpg {
    /// The passphrase.
    pub passphrase: Late<SecretText>,
}

const OPENSSL_ITERATIONS: u32 = 10_000;
const PASSPHRASE: &str = "argument passphrase";
const PASSWORD: &str = "argument openssl.password";
const GPG: &str = "argument gpg.passphrase";

/// Secrets that were given as arguments, then those of the run.
struct Given {
    values: BTreeMap<String, SecretText>,
    others: Arc<dyn Secrets>,
}

impl Secrets for Given {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        self.values.get(name).cloned().map_or_else(|| self.others.get(name), Ok)
    }
}

/// Keys at hand.
pub(super) struct AtHand {
    encryption: Encryption,
    secrets: Given,
}

impl Keys {
    fn ways(&self) -> usize {
        [
            self.store.is_some(),
            !self.recipients.is_empty(),
            self.passphrase.is_some(),
            self.openssl.is_some(),
            self.gpg.is_some(),
        ]
        .into_iter()
        .filter(|way| *way)
        .count()
    }

    /// Judges keys to encrypt with; `at` is their pointer inside `with`.
    pub(super) fn writing_fault(&self, at: &str) -> Option<ParamFault> {
        let what = "exactly one of `recipients`, `passphrase`, `openssl`, `gpg` and `store` is wanted";
        (self.ways() != 1).then(|| ParamFault::new(at, what))
    }

    /// Judges keys to decrypt with.
    pub(super) fn reading_fault(&self, at: &str) -> Option<ParamFault> {
        let reads = self.ways() > usize::from(!self.recipients.is_empty()) || !self.identities.is_empty();
        let what = "one of `identities`, `passphrase`, `openssl`, `gpg` and `store` is wanted";
        (!reads).then(|| ParamFault::new(at, what))
    }

    /// Whether what is encrypted with these can be read with them too.
    pub(super) fn can_read(&self) -> bool {
        self.reading_fault("").is_none()
    }

    /// Takes the keys at hand.
    pub(super) fn at_hand(&self, cx: &RunContext) -> Result<AtHand, ActionError> {
        let mut values = BTreeMap::new();
        let mut keep = |name: String, value: &Late<SecretText>| -> Result<String, ActionError> {
            values.insert(name.clone(), value.get()?.clone());
            Ok(name)
        };
        let stored = self.store.as_ref().map(|store| of_store(store, cx)).transpose()?;
        let mut encryption = stored.unwrap_or_default();
        encryption.recipients.extend(self.recipients.iter().cloned().map(Recipient::Key));
        for (at, identity) in self.identities.iter().enumerate() {
            encryption.identities.push(keep(format!("argument identities/{at}"), identity)?);
        }
        if let Some(passphrase) = &self.passphrase {
            encryption.passphrase = Some(keep(PASSPHRASE.to_owned(), passphrase)?);
        }
        if let Some(openssl) = &self.openssl {
            encryption.openssl = Some(OpensslEnc {
                password: keep(PASSWORD.to_owned(), &openssl.password)?,
                kdf: openssl.kdf,
                digest: openssl.digest,
                iterations: openssl.iterations,
            });
        }
        if let Some(gpg) = &self.gpg {
            encryption.gpg = Some(GpgSymmetric { passphrase: keep(GPG.to_owned(), &gpg.passphrase)? });
        }
        Ok(AtHand { encryption, secrets: Given { values, others: Arc::clone(&cx.about.secrets) } })
    }

    /// How a file without a note must have been made, if it can be read with these keys.
    pub(super) fn encoding(&self) -> Encoding {
        let encryption = match (&self.openssl, &self.gpg, &self.passphrase) {
            (Some(openssl), _, _) => {
                let kdf = match openssl.kdf {
                    OpensslKdf::Pbkdf2 => Kdf::Pbkdf2 {
                        digest: openssl.digest,
                        iterations: openssl.iterations.unwrap_or(OPENSSL_ITERATIONS),
                    },
                    OpensslKdf::Legacy => Kdf::BytesToKey { digest: openssl.digest },
                };
                Encrypted::OpensslEnc { cipher: "aes-256-cbc".to_owned(), kdf }
            }
            (None, Some(_), _) => Encrypted::GpgSymmetric { cipher: "AES256".to_owned() },
            (None, None, Some(_)) => Encrypted::AgePassphrase,
            (None, None, None) => Encrypted::Age { recipients: self.recipients.clone() },
        };
        Encoding { encryption: Some(encryption), ..Encoding::default() }
    }

    /// Whether a wrong key or a changed byte is noticed without a digest: not by `openssl enc`.
    pub(super) fn authenticates(&self) -> bool {
        self.openssl.is_none()
    }
}

fn of_store(store: &StoreRef, cx: &RunContext) -> Result<Encryption, ActionError> {
    let entry = cx.about.inventory.stores.get(store.as_str());
    entry.and_then(|entry| entry.encryption.clone()).ok_or_else(|| {
        ActionError::fatal(format!("store `{}` has no `encryption` in the inventory", store.as_str()))
            .help("give `recipients`, a `passphrase`, `openssl` or `gpg` here")
    })
}

impl AtHand {
    /// Makes the way in.
    pub(super) fn packing(&self, compression: CompressionFormat) -> Result<Packing, ActionError> {
        let compression = Some(Compression { format: compression, level: None });
        let entry = StoreEntry { compression, encryption: Some(self.encryption.clone()), ..StoreEntry::default() };
        Packing::of(&entry, &self.secrets).map_err(transfer_failed)
    }

    /// Makes the way back.
    pub(super) fn unpacking(&self, encoding: &Encoding) -> Result<Unpacking, ActionError> {
        Unpacking::of(encoding, Some(&self.encryption), &self.secrets).map_err(transfer_failed)
    }
}
