//! Texts in the headers of a request: what is not plain ASCII travels as RFC 2047 has it (`=?UTF-8?B?…?=`), which is how
//! S3 itself gives such metadata back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

const OPEN: &str = "=?UTF-8?B?";
const CLOSE: &str = "?=";

/// Writes a text as the value of a header.
pub(super) fn write(text: &str) -> String {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if plain && text.trim() == text && !text.starts_with("=?") {
        return text.to_owned();
    }
    format!("{OPEN}{}{CLOSE}", BASE64.encode(text))
}

/// Reads the value of a header. What others wrote otherwise is given as it is.
pub(super) fn read(value: &str) -> String {
    let inner = value.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE));
    let bytes = inner.and_then(|inner| BASE64.decode(inner).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["", "plain", "a value; \"quoted\" = yes", "ünïcode", " spaces ", "a\nb", "=?UTF-8?B?eA==?="] {
            let value = write(text);
            assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value}");
            assert_eq!(read(&value), text);
        }
        assert_eq!(write("plain"), "plain");
        assert_eq!(read("=?UTF-8?Q?=C3=A4?="), "=?UTF-8?Q?=C3=A4?=");
    }
}
