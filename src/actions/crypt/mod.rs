//! Encryption of single files and objects: age, `openssl enc`, gpg, by `transfer`.
//!
//! Beside each result lies a note, `NAME.runbook.json`: how it was made, and the digests of its stored and its plain
//! bytes, but never a key. With it nothing has to be guessed, and `openssl enc` files are proven too.

mod decrypt;
mod delivery;
mod encrypt;
mod keys;
mod note;
mod rotate;

pub use decrypt::{Decrypt, DecryptOutput, DecryptParams};
pub use encrypt::{Encrypt, EncryptOutput, EncryptParams};
pub use keys::{Gpg, Keys, Openssl};
pub use rotate::{Rotate, RotateOutput, RotateParams};
