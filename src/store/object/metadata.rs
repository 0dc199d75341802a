//! Metadata as the headers of a request, where names are words in lower case and values plain characters.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use object_store::{Attribute, Attributes};

/// What a name or a value begins with that could not be a header as it is.
const ENCODED: &str = "rbx_";

/// Writes metadata; what no header can hold is encoded.
pub(super) fn write(metadata: &BTreeMap<String, String>) -> Attributes {
    let pair = |(name, value): (&String, &String)| {
        let name = if is_word(name) { name.clone() } else { format!("{ENCODED}{}", hex(name)) };
        let value = if is_plain(value) { value.clone() } else { format!("{ENCODED}{}", URL_SAFE_NO_PAD.encode(value)) };
        (Attribute::Metadata(name.into()), value)
    };
    Attributes::from_iter(metadata.iter().map(pair))
}

/// Reads metadata.
pub(super) fn read(attributes: &Attributes) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (attribute, value) in attributes {
        let Attribute::Metadata(name) = attribute else { continue };
        let plain = |text: &str, decode: &dyn Fn(&str) -> Option<Vec<u8>>| {
            let decoded = text.strip_prefix(ENCODED).and_then(decode);
            decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| text.to_owned())
        };
        let name = plain(name, &unhex);
        found.insert(name, plain(value.as_ref(), &|text| URL_SAFE_NO_PAD.decode(text).ok()));
    }
    found
}

/// The storage class an object is told to have.
pub(super) fn class(attributes: &Attributes) -> Option<String> {
    attributes.get(&Attribute::StorageClass).map(|class| class.as_ref().to_owned())
}

fn is_word(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits) && !name.starts_with(ENCODED)
}

fn is_plain(value: &str) -> bool {
    let trimmed = value.trim() == value && !value.is_empty() && !value.starts_with(ENCODED);
    trimmed && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_metadata_comes_back_and_common_ones_are_readable_by_all() {
        let pairs = [
            ("sha256", "abc"),
            ("with-hyphen", "ünïcode"),
            ("Upper", ""),
            ("rbx_x", "rbx_y"),
            ("1", " spaced "),
            ("line", "a\nb"),
        ];
        let metadata: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let written = write(&metadata);
        assert_eq!(read(&written), metadata);
        assert_eq!(written.get(&Attribute::Metadata("sha256".into())).map(AsRef::as_ref), Some("abc"));
        for (name, value) in &written {
            let Attribute::Metadata(name) = name else { continue };
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
            assert!(is_plain(value.as_ref()) || value.starts_with(ENCODED), "{value:?}");
        }
    }
}
