//! What a text is: plain, a template, or exactly one expression.

use std::ops::Range;

/// Tells whether a text is a template.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Tells whether a text is exactly one `{{ … }}`, so that its value keeps its type.
#[must_use]
pub fn is_expression(text: &str) -> bool {
    expression(text).is_some()
}

/// Gives the range of the expression inside a text that is exactly one `{{ … }}`.
pub(super) fn expression(text: &str) -> Option<Range<usize>> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    if closes_early(inner) {
        return None;
    }
    let start = 2 + usize::from(inner.starts_with(['-', '+']) && inner[1..].starts_with(char::is_whitespace));
    let end = text.len() - 2 - usize::from(inner.ends_with('-') && inner.len() > 1);
    (start < end).then_some(start..end)
}

/// Tells whether a `}}` outside quotes and braces ends the expression before the end of the text.
fn closes_early(inner: &str) -> bool {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut chars = inner.chars().peekable();
    while let Some(letter) = chars.next() {
        match (quote, letter) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}') if chars.peek() == Some(&'}') => return true,
            (None, _) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_expression;

    #[test]
    fn only_a_single_pair_of_braces_keeps_its_type() {
        for text in ["{{ a }}", "{{ a.b|default('}}') }}", "{{ {'a': {}} }}", "{{a}}", "{{- a -}}"] {
            assert!(is_expression(text), "{text}");
        }
        for text in ["{{ a }}{{ b }}", " {{ a }}", "{{ a }} ", "a", "{{", "{{}}", "{{ a }}-{{ b }}"] {
            assert!(!is_expression(text), "{text}");
        }
    }
}
