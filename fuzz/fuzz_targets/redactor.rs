//! No secret, in any of the forms that are promised, survives in any text, however it is cut into chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook::base::redact::{RedactStream, Redactor, SHORTEST_SECRET};
use runbook::base::secret::SecretText;

fn holds(out: &[u8], secret: &str) -> bool {
    out.windows(secret.len()).any(|window| window == secret.as_bytes())
}

fuzz_target!(|data: (String, String, Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (first, second, before, after, cuts) = data;
    let secrets: Vec<String> =
        [first, second].into_iter().filter(|text| text.len() >= SHORTEST_SECRET && text.len() < 4096).collect();
    let redactor = Redactor::new(secrets.iter().cloned().map(SecretText::new));
    let mut text = before;
    for secret in &secrets {
        text.extend_from_slice(secret.as_bytes());
        text.extend_from_slice(&after);
        text.extend_from_slice(serde_json::to_string(secret).expect("text is JSON").as_bytes());
    }
    let whole = redactor.bytes(&text);
    let mut stream = RedactStream::default();
    let (mut chunked, mut rest) = (Vec::new(), &text[..]);
    for cut in cuts.iter().cycle().take(64 * usize::from(!cuts.is_empty())) {
        let (chunk, left) = rest.split_at(rest.len().min(usize::from(*cut)));
        stream.push(&redactor, chunk, &mut chunked);
        rest = left;
    }
    stream.push(&redactor, rest, &mut chunked);
    stream.finish(&redactor, &mut chunked);
    assert_eq!(whole, chunked, "chunks change nothing");
    for secret in secrets.iter().filter(|secret| !secret.contains('*')) {
        assert!(!holds(&whole, secret), "a secret survived");
    }
});
