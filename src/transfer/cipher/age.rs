//! age (age-encryption.org/v1): to X25519 recipients or by a passphrase, in authenticated chunks of 64 KiB.

use std::io::{self, BufRead, BufReader, Read, Write};

use age::secrecy::SecretString;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};

use super::super::broken::Broken;
use crate::base::secret::SecretText;

/// scrypt's work factor as the `age` program has it: about a second and 256 MiB.
const WORK_FACTOR: u8 = 18;
/// The most work that is done to read; the `age` program's own limit.
const MOST_WORK_FACTOR: u8 = 22;

/// The private keys to read with.
#[derive(Clone)]
pub(in crate::transfer) struct Identities(Vec<Identity>);

impl Identities {
    /// Reads the text of a secret: `AGE-SECRET-KEY-1…` on lines of their own, with comments as `age-keygen` writes
    /// them. The error never shows the text.
    pub(in crate::transfer) fn parse(text: &SecretText) -> Result<Self, &'static str> {
        let lines = text.reveal().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut found = Vec::new();
        for line in lines {
            found.push(line.parse::<Identity>().map_err(|_| explain(line))?);
        }
        if found.is_empty() { Err("it is empty") } else { Ok(Self(found)) }
    }

    /// Puts others behind these.
    pub(in crate::transfer) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// No identity at all.
    pub(in crate::transfer) fn none() -> Self {
        Self(Vec::new())
    }

    /// The public halves.
    pub(in crate::transfer) fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|identity| identity.to_public().to_string()).collect()
    }
}

/// What a text is that is no identity, without showing it.
fn explain(line: &str) -> &'static str {
    let kinds = [
        ("age1", "it is a public key (`age1…`), not an identity (`AGE-SECRET-KEY-1…`)"),
        ("AGE-PLUGIN-", "it is an identity of an age plugin, which cannot be used here"),
        ("-----BEGIN OPENSSH", "it is an SSH key; make an identity with `age-keygen`"),
        ("-----BEGIN AGE ENCRYPTED", "it is an identity that is itself encrypted; decrypt it with `age -d` first"),
        ("AGE-SECRET-KEY-1", "it begins as an age identity, but its checksum is wrong: it was cut or altered"),
    ];
    let fits = kinds.iter().find(|(start, _)| line.starts_with(start));
    fits.map_or("it is no age identity: one begins with `AGE-SECRET-KEY-1`", |(_, what)| what)
}

/// Reads a public key.
pub(in crate::transfer) fn parse_recipient(text: &str) -> Result<Recipient, String> {
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        // The text is a secret that must not be shown.
        return Err("a recipient is a private key (`AGE-SECRET-KEY-…`): only the public one (`age1…`) belongs there; \
                    take the private key for known, make a new one"
            .to_owned());
    }
    text.parse().map_err(|why| format!("`{text}` is no public key of age: {why}"))
}

pub(super) fn encrypt(recipients: &[Recipient], from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    seal(Encryptor::with_recipients(recipients).map_err(io::Error::other)?, from, to)
}

pub(super) fn encrypt_with_passphrase(
    passphrase: &SecretText,
    from: &mut impl Read,
    to: &mut impl Write,
) -> io::Result<()> {
    let mut recipient = age::scrypt::Recipient::new(secret(passphrase));
    recipient.set_work_factor(WORK_FACTOR);
    let recipients = std::iter::once(&recipient as &dyn age::Recipient);
    seal(Encryptor::with_recipients(recipients).map_err(io::Error::other)?, from, to)
}

fn seal(encryptor: Encryptor, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut sealed = encryptor.wrap_output(to)?;
    io::copy(from, &mut sealed)?;
    sealed.finish().map(drop)
}

pub(super) fn decrypt(identities: &Identities, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    let identities = identities.0.iter().map(|identity| identity as &dyn age::Identity);
    open(identities, from, to)
}

pub(super) fn decrypt_with_passphrase(
    passphrase: &SecretText,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> io::Result<()> {
    let mut identity = age::scrypt::Identity::new(secret(passphrase));
    identity.set_max_work_factor(MOST_WORK_FACTOR);
    open(std::iter::once(&identity as &dyn age::Identity), from, to)
}

fn open<'a>(
    identities: impl Iterator<Item = &'a dyn age::Identity>,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> io::Result<()> {
    let decryptor = Decryptor::new_buffered(from).map_err(|error| meaning(&error))?;
    let plain = decryptor.decrypt(identities).map_err(|error| meaning(&error))?;
    let mut plain = BufReader::with_capacity(64 << 10, plain);
    let copied = io::copy(&mut plain, to);
    copied.map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => error,
        _ => Broken::damaged(format!("an encrypted chunk fails its check or is cut off: {error}")).into(),
    })
}

fn meaning(error: &DecryptError) -> io::Error {
    let broken = match error {
        DecryptError::NoMatchingKeys => Broken::wrong_key("none of the identities belongs to one of its recipients"),
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            Broken::wrong_key("the passphrase does not fit")
        }
        DecryptError::ExcessiveWork { required, target } => {
            Broken::wrong_key(format!("its scrypt work factor {required} is far above {target}, so it is not tried"))
        }
        DecryptError::InvalidMac => Broken::damaged("the age header does not match its own check"),
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => Broken::damaged("it is no age file"),
        other => Broken::damaged(format!("its age header cannot be read: {other}")),
    };
    broken.into()
}

fn secret(text: &SecretText) -> SecretString {
    SecretString::from(text.reveal().to_owned())
}
