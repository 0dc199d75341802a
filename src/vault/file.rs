//! Secrets from a file: its content without the final newline.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::miss::Miss;

/// No secret is larger; a path that names something else is noticed.
pub(super) const LARGEST: u64 = 1 << 20;

pub(super) fn fetch(name: &str, path: &Path) -> Result<String, Miss> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(|error| {
        let message = format!("secret `{name}`: cannot read `{shown}`");
        let miss = if error.kind() == ErrorKind::NotFound { Miss::absent(message) } else { Miss::failed(message) };
        miss.because(&error)
    })?;
    text(name, bytes)
}

/// Makes a secret of bytes: text without its final newline.
pub(super) fn text(name: &str, bytes: Vec<u8>) -> Result<String, Miss> {
    if bytes.len() as u64 > LARGEST {
        return Err(Miss::failed(format!("secret `{name}`: the value is larger than {LARGEST} bytes")));
    }
    let mut text =
        String::from_utf8(bytes).map_err(|_| Miss::failed(format!("secret `{name}`: the value is not UTF-8 text")))?;
    for end in ['\n', '\r'] {
        if text.ends_with(end) {
            text.pop();
        }
    }
    Ok(text)
}
