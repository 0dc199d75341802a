//! `openssl enc -aes-256-cbc -salt`: `Salted__`, eight bytes of salt, CBC with PKCS#7 padding (openssl-enc(1)).
//!
//! The format proves nothing: a wrong password or a flipped bit gives other bytes. The digests around it do.

use std::io::{self, BufRead, Write};

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{Block, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use zeroize::Zeroizing;

use super::super::broken::Broken;
use super::super::flow::BLOCK_BYTES;
use super::random;
use crate::action::Kdf;
use crate::base::secret::SecretText;
use crate::language::inventory::OpensslDigest;

const MAGIC: &[u8; 8] = b"Salted__";
const CIPHER_BLOCK_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

type Derived = Zeroizing<[u8; KEY_BYTES + CIPHER_BLOCK_BYTES]>;

pub(super) fn encrypt(
    (password, kdf): (&SecretText, &Kdf),
    from: &mut impl io::Read,
    to: &mut impl Write,
) -> io::Result<()> {
    let salt = random::bytes::<8>();
    let derived = derive(password, kdf, salt);
    let mut cipher = cbc::Encryptor::<Aes256>::new_from_slices(&derived[..KEY_BYTES], &derived[KEY_BYTES..])
        .map_err(io::Error::other)?;
    to.write_all(MAGIC)?;
    to.write_all(&salt)?;
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut filled = 0;
    loop {
        let count = from.read(&mut buffer[filled..])?;
        filled += count;
        if count == 0 {
            break;
        }
        let whole = filled - filled % CIPHER_BLOCK_BYTES;
        let (blocks, _) = Block::<cbc::Encryptor<Aes256>>::slice_as_chunks_mut(&mut buffer[..whole]);
        cipher.encrypt_blocks(blocks);
        to.write_all(&buffer[..whole])?;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    to.write_all(&cipher.encrypt_padded_vec::<Pkcs7>(&buffer[..filled]))
}

pub(super) fn decrypt(
    (password, kdf): (&SecretText, &Kdf),
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> io::Result<()> {
    let mut head = [0; 16];
    from.read_exact(&mut head).map_err(|_| Broken::damaged("it is shorter than the head of `openssl enc`"))?;
    let Some(salt) = head.strip_prefix(MAGIC).and_then(|salt| <[u8; 8]>::try_from(salt).ok()) else {
        return Err(Broken::damaged("it does not begin with `Salted__`, so `openssl enc` has not made it").into());
    };
    let derived = derive(password, kdf, salt);
    let mut cipher = cbc::Decryptor::<Aes256>::new_from_slices(&derived[..KEY_BYTES], &derived[KEY_BYTES..])
        .map_err(io::Error::other)?;
    let (mut buffer, mut filled) = (vec![0; BLOCK_BYTES], 0);
    loop {
        let count = from.read(&mut buffer[filled..])?;
        filled += count;
        if count == 0 {
            break;
        }
        // The last block holds the padding: it waits until it is known to be the last one.
        let whole = filled.saturating_sub(1) / CIPHER_BLOCK_BYTES * CIPHER_BLOCK_BYTES;
        let (blocks, _) = Block::<cbc::Decryptor<Aes256>>::slice_as_chunks_mut(&mut buffer[..whole]);
        cipher.decrypt_blocks(blocks);
        to.write_all(&buffer[..whole])?;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    if filled != CIPHER_BLOCK_BYTES {
        return Err(Broken::damaged("it is cut off: its size is no whole number of cipher blocks").into());
    }
    let last = cipher.decrypt_padded_vec::<Pkcs7>(&buffer[..filled]);
    to.write_all(&last.map_err(|_| Broken::undecided("its last block does not decrypt to a padding"))?)
}

/// Key and initialization vector.
fn derive(password: &SecretText, kdf: &Kdf, salt: [u8; 8]) -> Derived {
    let password = password.reveal().as_bytes();
    let mut derived = Derived::new([0; KEY_BYTES + CIPHER_BLOCK_BYTES]);
    match kdf {
        Kdf::Pbkdf2 { digest: OpensslDigest::Sha256, iterations } => {
            pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password, &salt, *iterations, derived.as_mut_slice());
        }
        Kdf::Pbkdf2 { digest: OpensslDigest::Md5, iterations } => {
            pbkdf2::pbkdf2_hmac::<md5::Md5>(password, &salt, *iterations, derived.as_mut_slice());
        }
        Kdf::BytesToKey { digest: OpensslDigest::Sha256 } => bytes_to_key::<sha2::Sha256>(password, salt, &mut derived),
        Kdf::BytesToKey { digest: OpensslDigest::Md5 } => bytes_to_key::<md5::Md5>(password, salt, &mut derived),
    }
    derived
}

/// EVP_BytesToKey(3) with one iteration.
fn bytes_to_key<D: sha2::Digest>(password: &[u8], salt: [u8; 8], derived: &mut Derived) {
    let mut before = Zeroizing::new(Vec::new());
    let mut filled = 0;
    while filled < derived.len() {
        let digest = D::new().chain_update(&*before).chain_update(password).chain_update(salt).finalize();
        let count = digest.len().min(derived.len() - filled);
        derived[filled..filled + count].copy_from_slice(&digest[..count]);
        filled += count;
        before = Zeroizing::new(digest.to_vec());
    }
}
