//! Signatures by SSH keys (SSHSIG), such that `ssh-keygen -Y verify -n runbook` checks them without this program.
//!
//! Keys are Ed25519 and unencrypted: whoever may read the file signs. Who is trusted stands in an allowed-signers
//! file as `ssh-keygen(1)` describes it; a line with an option that is not understood trusts nobody.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use crate::base::signer::SignersError;
pub use crate::base::signer::{AllowedSigners, NAMESPACE, Signer, verify};

/// No key or signature is larger.
const LARGEST_BYTES: u64 = 64 << 10;

/// A private key that signs.
pub struct SignKey(PrivateKey);

/// A key or a signature cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others than its owner may read the key.
    #[error("the key `{}` can be read by others than its owner (mode {mode:o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key wants a passphrase.
    #[error("the key `{}` is encrypted", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is of another kind.
    #[error("the key `{}` is of kind {kind}, not ssh-ed25519", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
    },
    /// The text is no key, or signing failed.
    #[error("`{}` is no SSH key that can sign", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ssh_key::Error,
    },
    /// A line of an allowed-signers file makes no sense.
    #[error("line {line} of `{}`: {what}", path.display())]
    Signers {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl SignatureError {
    /// What to do next.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::File { .. } => "check the path and its permissions".to_owned(),
            Self::Exposed { path, .. } => format!("`chmod 600 {}`", path.display()),
            Self::Encrypted { path } => format!(
                "nobody can type its passphrase when a run ends: make a key for this purpose with `ssh-keygen -t ed25519 -N '' \
                 -f FILE`, or take the passphrase off a copy of it (`cp {0} COPY && ssh-keygen -p -N '' -f COPY`)",
                path.display()
            ),
            Self::Kind { .. } | Self::Key { .. } => {
                "make one for this purpose with `ssh-keygen -t ed25519 -N '' -f FILE`".to_owned()
            }
            Self::Signers { .. } => {
                "write `NAME ssh-ed25519 AAAA…`, as `ssh-keygen(1)` says under ALLOWED SIGNERS".to_owned()
            }
        }
    }
}

impl SignKey {
    /// Reads a private key.
    ///
    /// # Errors
    /// Fails when it cannot be read or used, or when others may read it too.
    pub fn open(path: &Path) -> Result<Self, SignatureError> {
        let own = || path.to_owned();
        let facts = std::fs::metadata(path).map_err(|source| SignatureError::File { path: own(), source })?;
        if facts.mode() & 0o077 != 0 {
            return Err(SignatureError::Exposed { path: own(), mode: facts.mode() & 0o777 });
        }
        let text = read_small(path)?;
        let key = PrivateKey::from_openssh(&text).map_err(|source| SignatureError::Key { path: own(), source })?;
        if key.is_encrypted() {
            return Err(SignatureError::Encrypted { path: own() });
        }
        match key.algorithm() {
            Algorithm::Ed25519 => Ok(Self(key)),
            other => Err(SignatureError::Kind { path: own(), kind: other.to_string() }),
        }
    }

    /// Signs a text; the same text always gets the same signature.
    ///
    /// # Errors
    /// Fails when the key cannot sign.
    pub fn sign(&self, text: &[u8]) -> Result<String, SignatureError> {
        let failed = |source| SignatureError::Key { path: PathBuf::from(self.0.comment()), source };
        let signature = self.0.sign(NAMESPACE, HashAlg::Sha512, text).map_err(failed)?;
        signature.to_pem(LineEnding::LF).map_err(failed)
    }

    /// Names the key, as `ssh-keygen -l` does.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl AllowedSigners {
    /// Reads an allowed-signers file.
    ///
    /// # Errors
    /// Fails when it cannot be read, or a line of it cannot be understood in full.
    pub fn open(path: &Path) -> Result<Self, SignatureError> {
        let text = read_small(path)?;
        let broken = |SignersError { line, what }| SignatureError::Signers { path: path.to_owned(), line, what };
        Self::parse(text.lines()).map_err(broken)
    }
}

fn read_small(path: &Path) -> Result<String, SignatureError> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_BYTES).read_to_string(&mut text))
        .map_err(|source| SignatureError::File { path: path.to_owned(), source })?;
    Ok(text)
}
