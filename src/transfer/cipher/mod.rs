//! Encryption: one format per file, each readable by the usual programs.

mod age;
mod fitting;
mod gpg;
mod openssl;
mod random;

use std::fmt::Debug;
use std::io::{self, BufRead, Read, Write};

use super::keys::{Lock, Opener};

pub(super) use self::age::{Identities, parse_recipient};
pub use self::fitting::is_known_beginning;
pub(super) use self::fitting::{Clue, decrypt_fitting};

/// What is decrypted.
pub(super) trait Source: BufRead + Debug + Send {}

impl<T: BufRead + Debug + Send> Source for T {}

/// Encrypts a stream to its end.
pub(super) fn encrypt(lock: &Lock, from: &mut (impl Read + Send), to: &mut impl Write) -> io::Result<()> {
    match lock {
        Lock::Age(recipients) => age::encrypt(recipients, from, to),
        Lock::AgePassphrase(passphrase) => age::encrypt_with_passphrase(passphrase, from, to),
        Lock::Openssl { password, kdf } => openssl::encrypt((password, kdf), from, to),
        Lock::Gpg(passphrase) => gpg::encrypt(passphrase, from, to),
    }
}

/// Decrypts a stream to its end.
fn decrypt(opener: &Opener, from: &mut impl Source, to: &mut impl Write) -> io::Result<()> {
    match opener {
        Opener::Age(identities) => age::decrypt(identities, from, to),
        Opener::AgePassphrase(passphrase) => age::decrypt_with_passphrase(passphrase, from, to),
        Opener::Openssl { password, kdf } => openssl::decrypt((password, kdf), from, to),
        Opener::Gpg(passphrase) => gpg::decrypt(passphrase, from, to),
    }
}
