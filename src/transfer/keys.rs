//! Keys: what new objects are locked with, and what an object is opened with.

use age::x25519::Recipient;

use super::TransferError;
use super::cipher::{Identities, parse_recipient};
use crate::action::{Encrypted, Kdf, Secrets};
use crate::base::secret::SecretText;
use crate::language::inventory::{Encryption, OpensslEnc, OpensslKdf};

/// PBKDF2's iterations of what is written, where the settings say nothing (OWASP, 2023).
const ITERATIONS: u32 = 600_000;

/// What new objects are encrypted with.
#[derive(Clone)]
pub(super) enum Lock {
    /// age, to public keys.
    Age(Vec<Recipient>),
    /// age, by a passphrase.
    AgePassphrase(SecretText),
    /// `openssl enc`.
    Openssl { password: SecretText, kdf: Kdf },
    /// `gpg --symmetric`.
    Gpg(SecretText),
}

/// What an object is decrypted with.
#[derive(Clone)]
pub(super) enum Opener {
    /// age, by one of these.
    Age(Identities),
    /// age, by a passphrase.
    AgePassphrase(SecretText),
    /// `openssl enc`.
    Openssl { password: SecretText, kdf: Kdf },
    /// `gpg --symmetric`.
    Gpg(SecretText),
}

impl Lock {
    /// What is appended to the name of an object, as the programs do it themselves.
    pub(super) fn suffix(&self) -> &'static str {
        match self {
            Self::Age(_) | Self::AgePassphrase(_) => ".age",
            Self::Openssl { .. } => ".enc",
            Self::Gpg(_) => ".gpg",
        }
    }

    /// The lock a store's settings ask for, and what a reader must know of it.
    pub(super) fn of(settings: &Encryption, secrets: &dyn Secrets) -> Result<(Self, Encrypted), TransferError> {
        let ways = [
            !settings.recipients.is_empty(),
            settings.passphrase.is_some(),
            settings.openssl.is_some(),
            settings.gpg.is_some(),
        ];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            let what = "`encryption` needs exactly one of `recipients`, `passphrase`, `openssl`, `gpg` to write";
            return Err(TransferError::Settings(what.to_owned()));
        }
        if let Some(name) = &settings.passphrase {
            return Ok((Self::AgePassphrase(secret(name, secrets)?), Encrypted::AgePassphrase));
        }
        if let Some(openssl) = &settings.openssl {
            let kdf = derivation(openssl)?;
            let lock = Self::Openssl { password: secret(&openssl.password, secrets)?, kdf: kdf.clone() };
            return Ok((lock, Encrypted::OpensslEnc { cipher: "aes-256-cbc".to_owned(), kdf }));
        }
        if let Some(gpg) = &settings.gpg {
            let lock = Self::Gpg(secret(&gpg.passphrase, secrets)?);
            return Ok((lock, Encrypted::GpgSymmetric { cipher: "AES256".to_owned() }));
        }
        let keys = || settings.recipients.iter().map(|recipient| recipient.key().trim());
        let recipients = keys().map(parse_recipient).collect::<Result<_, _>>().map_err(TransferError::Settings)?;
        Ok((Self::Age(recipients), Encrypted::Age { recipients: keys().map(str::to_owned).collect() }))
    }
}

/// What it means that an object cannot be unpacked though its key was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The format takes any password: it may be the key.
    Key,
    /// The key is proven: it is the object.
    Content,
}

impl Opener {
    /// What a failure behind the decryption means.
    fn doubt(&self) -> Doubt {
        match self {
            Self::Age(_) | Self::AgePassphrase(_) => Doubt::Content,
            Self::Openssl { .. } | Self::Gpg(_) => Doubt::Key,
        }
    }
}

/// Every key at hand that an object may be opened with; those of today first.
#[derive(Clone)]
pub(super) struct Ring {
    /// At least one.
    pub(super) openers: Vec<Opener>,
    /// The names of the secrets that are tried, and of those that could not be had.
    tried: Names,
}

#[derive(Clone, Default)]
struct Names {
    had: Vec<String>,
    missed: Vec<String>,
}

impl Ring {
    /// What a failure behind the decryption means.
    pub(super) fn doubt(&self) -> Doubt {
        self.openers.first().map_or(Doubt::Content, Opener::doubt)
    }

    /// Which keys there were, where it was not just one.
    pub(super) fn told(&self) -> Option<String> {
        let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let Names { had, missed } = &self.tried;
        match (had.len(), missed.as_slice()) {
            (0 | 1, []) => None,
            (_, []) => Some(format!("tried: {}", list(had))),
            (_, missed) => Some(format!("tried: {}; cannot be had: {}", list(had), list(missed))),
        }
    }

    /// What opens an object that was encrypted like this, of the keys a store's settings name.
    pub(super) fn of(how: &Encrypted, keys: Option<&Encryption>, secrets: &dyn Secrets) -> Result<Self, TransferError> {
        let none = Encryption::default();
        let keys = keys.unwrap_or(&none);
        let earlier = || keys.earlier.iter();
        match how {
            Encrypted::Age { .. } => {
                let names = keys.identities.iter().chain(earlier().flat_map(|earlier| &earlier.identities));
                let (found, tried) = take("identities", names, |name| identity(name, secrets))?;
                let mut all = Identities::none();
                found.into_iter().for_each(|more| all.append(more));
                Ok(Self { openers: vec![Opener::Age(all)], tried })
            }
            Encrypted::AgePassphrase => {
                let names = keys.passphrase.iter().chain(earlier().filter_map(|earlier| earlier.passphrase.as_ref()));
                let take = take("passphrase", names, |name| secret(name, secrets).map(Opener::AgePassphrase));
                take.map(|(openers, tried)| Self { openers, tried })
            }
            Encrypted::OpensslEnc { cipher, kdf } => {
                if cipher != "aes-256-cbc" {
                    let what = format!("the cipher `{cipher}` of `openssl enc` cannot be read here");
                    return Err(TransferError::Settings(what));
                }
                let all = keys.openssl.iter().chain(earlier().filter_map(|earlier| earlier.openssl.as_ref()));
                let opener = |password| Opener::Openssl { password, kdf: kdf.clone() };
                let names = all.map(|openssl| &openssl.password);
                let take = take("openssl", names, |name| secret(name, secrets).map(opener));
                take.map(|(openers, tried)| Self { openers, tried })
            }
            Encrypted::GpgSymmetric { .. } => {
                let all = keys.gpg.iter().chain(earlier().filter_map(|earlier| earlier.gpg.as_ref()));
                let names = all.map(|gpg| &gpg.passphrase);
                let take = take("gpg", names, |name| secret(name, secrets).map(Opener::Gpg));
                take.map(|(openers, tried)| Self { openers, tried })
            }
        }
    }
}

/// Takes every key that can be had; one is enough.
fn take<'a, T>(
    kind: &str,
    names: impl Iterator<Item = &'a String>,
    fetch: impl Fn(&str) -> Result<T, TransferError>,
) -> Result<(Vec<T>, Names), TransferError> {
    let (mut found, mut tried, mut failed) = (Vec::new(), Names::default(), None);
    for name in names {
        match fetch(name) {
            Ok(key) => {
                found.push(key);
                tried.had.push(name.clone());
            }
            Err(error) => {
                failed.get_or_insert(error);
                tried.missed.push(name.clone());
            }
        }
    }
    match failed {
        Some(error) if found.is_empty() => Err(error),
        None if found.is_empty() => Err(unnamed(kind)),
        Some(_) | None => Ok((found, tried)),
    }
}

/// The public keys that belong to the identities in a secret.
///
/// # Errors
/// Fails when the secret cannot be had or holds something else; the message never shows it.
pub fn public_keys(name: &str, secrets: &dyn Secrets) -> Result<Vec<String>, TransferError> {
    Ok(identity(name, secrets)?.recipients())
}

fn identity(name: &str, secrets: &dyn Secrets) -> Result<Identities, TransferError> {
    let refuse = |why| TransferError::Settings(format!("the secret `{name}` is no age identity: {why}"));
    Identities::parse(&secret(name, secrets)?).map_err(refuse)
}

/// Makes sure that a secret holds a password.
///
/// # Errors
/// Fails when the secret cannot be had or is empty.
pub fn has_password(name: &str, secrets: &dyn Secrets) -> Result<(), TransferError> {
    secret(name, secrets).map(drop)
}

/// A secret's text without the line end that files have.
fn secret(name: &str, secrets: &dyn Secrets) -> Result<SecretText, TransferError> {
    let text = secrets.get(name)?;
    let trimmed = text.reveal().trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() {
        return Err(TransferError::Settings(format!("the secret `{name}` is empty")));
    }
    Ok(SecretText::new(trimmed.to_owned()))
}

fn unnamed(key: &str) -> TransferError {
    TransferError::Settings(format!(
        "the object is encrypted, and the store's `encryption` names no `{key}`, nor do its `earlier` ones"
    ))
}

fn derivation(openssl: &OpensslEnc) -> Result<Kdf, TransferError> {
    let digest = openssl.digest;
    match (openssl.kdf, openssl.iterations) {
        (OpensslKdf::Pbkdf2, Some(0)) => Err(TransferError::Settings("`iterations` must be at least 1".to_owned())),
        (OpensslKdf::Pbkdf2, iterations) => Ok(Kdf::Pbkdf2 { digest, iterations: iterations.unwrap_or(ITERATIONS) }),
        (OpensslKdf::Legacy, Some(_)) => {
            Err(TransferError::Settings("`iterations` has no meaning with `kdf: legacy`: it has one".to_owned()))
        }
        (OpensslKdf::Legacy, None) => Ok(Kdf::BytesToKey { digest }),
    }
}
