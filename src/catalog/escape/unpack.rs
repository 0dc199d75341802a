//! How the stored bytes of an object become the plain ones, in a shell's words.

use std::collections::BTreeSet;

use crate::action::by_hand::quoted;
use crate::action::{Encoding, Encrypted, Kdf};
use crate::catalog::ManifestObject;
use crate::language::inventory::{CompressionFormat, OpensslDigest};

/// The programs that an encoding needs.
pub(super) fn programs(encoding: &Encoding) -> BTreeSet<&'static str> {
    let cipher = encoding.encryption.as_ref().map(|encrypted| match encrypted {
        Encrypted::Age { .. } | Encrypted::AgePassphrase => "age",
        Encrypted::OpensslEnc { .. } => "openssl",
        Encrypted::GpgSymmetric { .. } => "gpg",
    });
    let format = encoding.compression.as_ref().and_then(|compressed| match compressed.format {
        CompressionFormat::Zstd => Some("zstd"),
        CompressionFormat::Gzip => Some("gzip"),
        CompressionFormat::Lz4 => Some("lz4"),
        CompressionFormat::None => None,
    });
    cipher.into_iter().chain(format).collect()
}

/// The command that decrypts standard input, as one would type it; keys stand as shell variables.
pub(super) fn decrypt(encrypted: &Encrypted) -> String {
    match encrypted {
        Encrypted::Age { .. } => r#"age -d -i "$identity""#.to_owned(),
        Encrypted::AgePassphrase => "age -d".to_owned(),
        Encrypted::OpensslEnc { cipher, kdf } => {
            let kdf = match kdf {
                Kdf::Pbkdf2 { digest, iterations } => format!("-pbkdf2 -iter {iterations} -md {}", digest_name(*digest)),
                Kdf::BytesToKey { digest } => format!("-md {}", digest_name(*digest)),
            };
            format!(r#"openssl enc -d -{} {kdf} ${{password:+-pass}} ${{password:+"file:$password"}}"#, quoted(cipher))
        }
        Encrypted::GpgSymmetric { .. } => {
            r#"gpg --quiet ${password:+--batch} ${password:+--pinentry-mode} ${password:+loopback} ${password:+--passphrase-file} ${password:+"$password"} -d"#
                .to_owned()
        }
    }
}

/// The command that decompresses standard input; `None` for bytes that are not compressed.
pub(super) fn decompress(format: CompressionFormat) -> Option<&'static str> {
    match format {
        CompressionFormat::Zstd => Some("zstd -q -d -c"),
        CompressionFormat::Gzip => Some("gzip -d -c"),
        CompressionFormat::Lz4 => Some("lz4 -q -d -c"),
        CompressionFormat::None => None,
    }
}

/// The commands of an encoding, the first one first; none for plain bytes.
pub(super) fn commands(encoding: &Encoding) -> Vec<String> {
    let decrypts = encoding.encryption.as_ref().map(decrypt);
    let decompresses = encoding.compression.as_ref().and_then(|compressed| decompress(compressed.format));
    decrypts.into_iter().chain(decompresses.map(str::to_owned)).collect()
}

/// A pipeline that writes the plain bytes of an object to standard output. A stage that fails leaves a mark,
/// since a pipeline's own exit code is that of its last stage.
pub(super) fn pipeline(object: &ManifestObject) -> String {
    let mut stages: Vec<String> =
        commands(&object.encoding).into_iter().map(|command| format!("{{ {command} || broken; }}")).collect();
    if stages.is_empty() {
        stages.push("{ cat || broken; }".to_owned());
    }
    let from = format!(" <\"$here\"/{}", quoted(&object.name));
    stages[0].push_str(&from);
    stages.join(" | ")
}

fn digest_name(digest: OpensslDigest) -> &'static str {
    match digest {
        OpensslDigest::Sha256 => "sha256",
        OpensslDigest::Md5 => "md5",
    }
}
