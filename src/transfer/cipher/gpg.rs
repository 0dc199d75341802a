//! `gpg --symmetric`: OpenPGP (RFC 4880) with SEIPD version 1 and AES-256, as every GnuPG reads it.
//!
//! Written without compression of its own; read with any, in ASCII armour too. Its own check (MDC) stands at the
//! end of the stream: what was read before is not proven.

use std::io::{self, Read, Write};

use pgp::composed::{DecryptionOptions, Message, MessageBuilder, TheRing};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::types::{Password, Seipdv1ReadMode, StringToKey};
use ssh_key::rand_core::OsRng;

use super::super::broken::Broken;
use super::Source;
use crate::base::secret::SecretText;

/// 16 Mi bytes are digested for a key (RFC 4880, 3.7.1.3).
const ITERATED_COUNT: u8 = 224;

pub(super) fn encrypt(passphrase: &SecretText, from: &mut (impl Read + Send), to: &mut impl Write) -> io::Result<()> {
    let mut message = MessageBuilder::from_reader("", from).seipd_v1(OsRng, SymmetricKeyAlgorithm::AES256);
    let to_key = StringToKey::new_iterated(OsRng, HashAlgorithm::Sha256, ITERATED_COUNT);
    message.encrypt_with_password(to_key, &password(passphrase)).map_err(io::Error::other)?;
    message.to_writer(OsRng, to).map_err(io::Error::other)
}

pub(super) fn decrypt(passphrase: &SecretText, from: &mut impl Source, to: &mut impl Write) -> io::Result<()> {
    let armoured = from.fill_buf()?.starts_with(b"-----BEGIN PGP");
    let message = if armoured {
        Message::from_armor(&mut *from).map(|(message, _)| message)
    } else {
        Message::from_bytes(&mut *from)
    };
    let message = message.map_err(|error| Broken::damaged(format!("it is no message of gpg: {error}")))?;
    if !message.is_encrypted() {
        return Err(Broken::damaged("it is a message of gpg, but not encrypted").into());
    }
    let key = password(passphrase);
    let ring = TheRing {
        message_password: vec![&key],
        decrypt_options: DecryptionOptions::new().enable_gnupg_aead().set_seipdv1_read_mode(Seipdv1ReadMode::Streaming),
        ..TheRing::default()
    };
    let undecided = |error: pgp::errors::Error| Broken::undecided(format!("gpg's format says: {error}"));
    let (mut plain, _) = message.decrypt_the_ring(ring, true).map_err(undecided)?;
    if plain.is_compressed() {
        plain = plain.decompress().map_err(undecided)?;
    }
    io::copy(&mut plain, to).map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => error,
        _ => Broken::undecided(format!("gpg's own check fails: {error}")).into(),
    })
}

fn password(text: &SecretText) -> Password {
    Password::from(text.reveal())
}
