//! Whose signature a text has (SSHSIG), as `ssh-keygen -Y verify -n runbook` tells it.
//!
//! Who is trusted stands in lines as ssh-keygen(1) describes them under ALLOWED SIGNERS; a line with an option that is
//! not understood trusts nobody.

use ssh_key::{HashAlg, PublicKey, SshSig};

/// What a signature is for; one made for another purpose does not count.
pub const NAMESPACE: &str = "runbook";

/// Who signed a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// Somebody who is trusted.
    Known {
        /// The name of the first line that trusts the key.
        principal: String,
    },
    /// The signature is sound, and nobody vouches for its key.
    Unknown {
        /// The key.
        fingerprint: String,
    },
}

/// Keys that are trusted, and whose they are.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners(Vec<(String, PublicKey)>);

/// A line of allowed signers makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct SignersError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl AllowedSigners {
    /// Reads lines of allowed signers; empty ones and comments trust nobody.
    ///
    /// # Errors
    /// Fails when a line cannot be understood in full.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, SignersError> {
        let mut signers = Vec::new();
        for (at, line) in lines.enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            signers.extend(signer(line).map_err(|what| SignersError { line: at + 1, what })?);
        }
        Ok(Self(signers))
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn principal(&self, key: &ssh_key::public::KeyData) -> Option<&str> {
        self.0.iter().find(|(_, known)| known.key_data() == key).map(|(name, _)| name.as_str())
    }
}

/// Reads one line; `None` when it trusts its key for another purpose.
fn signer(line: &str) -> Result<Option<(String, PublicKey)>, String> {
    let (principals, rest) = line.split_once(char::is_whitespace).ok_or("a key is missing")?;
    let rest = rest.trim_start();
    let (options, key) = match rest.split_once(char::is_whitespace) {
        Some((first, _)) if first.starts_with("ssh-") || first.starts_with("ecdsa-") || first.starts_with("sk-") => {
            (None, rest)
        }
        Some((first, key)) => (Some(first), key.trim_start()),
        None => return Err("a key is missing".to_owned()),
    };
    if let Some(options) = options {
        let names = options.strip_prefix("namespaces=").map(|names| names.trim_matches('"'));
        let names = names
            .filter(|names| !names.contains(['"', '=']))
            .ok_or(format!("the option `{options}` is not known here"))?;
        if !names.split(',').any(|name| name == NAMESPACE) {
            return Ok(None);
        }
    }
    let key = PublicKey::from_openssh(key).map_err(|error| error.to_string())?;
    let name = principals.split(',').next().unwrap_or(principals);
    Ok(Some((name.to_owned(), key)))
}

/// Verifies a signature over a text and tells whose it is.
///
/// # Errors
/// Says why it does not hold.
pub fn verify(text: &[u8], signature: &str, signers: &AllowedSigners) -> Result<Signer, String> {
    let signature = SshSig::from_pem(signature).map_err(|error| format!("the signature cannot be read: {error}"))?;
    let key = PublicKey::new(signature.public_key().clone(), "");
    key.verify(NAMESPACE, text, &signature).map_err(|error| format!("the signature does not fit: {error}"))?;
    Ok(match signers.principal(signature.public_key()) {
        Some(principal) => Signer::Known { principal: principal.to_owned() },
        None => Signer::Unknown { fingerprint: key.fingerprint(HashAlg::Sha256).to_string() },
    })
}
