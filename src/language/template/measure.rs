//! What a template may not build. The engine repeats a text or a tuple at once, up to a hundred million times, and where
//! both sides are constants already while it compiles: before fuel or the size of the result can stop it. So that is
//! refused by its form. Lists are not: the engine only notes how often one is repeated, and filters that would walk it
//! are bounded (`environment`).

use std::ops::Range;

use super::error::{TemplateError, TemplateErrorKind};
use super::reference::TextKind;

/// Multiplications in one text. Each may hold a hundred megabytes for a moment, where a variable is a text.
const TIMES: usize = 8;

/// How often a text that is written out may be repeated.
const REPEATED: u64 = 10_000;

/// A piece of code.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    /// A text in quotes.
    Quoted,
    /// A name, a keyword or a number.
    Word(&'a str),
    /// `*`, not `**`.
    Times,
    /// Any other sign.
    Sign(char),
    /// `{{` or `{%`, and their ends.
    Border,
}

/// Finds what would fill the memory.
pub(super) fn unmeasured(text: &str, kind: TextKind) -> Option<TemplateError> {
    let found = tokens(text, kind);
    let times: Vec<usize> = (0..found.len()).filter(|at| found[*at].0 == Token::Times).collect();
    let first = times.first()?;
    let refused = |at: usize, message: &str, help: &str| {
        let error = TemplateError::new(TemplateErrorKind::Budget, message).help(help);
        Some(TemplateError { range: Some(found[at].1.clone()), ..error })
    };
    if times.len() > TIMES {
        return refused(
            times[TIMES],
            "a text multiplies more often than any real one",
            "compute it in a step of its own",
        );
    }
    if let Some(at) = tuple(&found) {
        let help = "write a list, `[…]`, or multiply elsewhere";
        return refused(at, "a tuple stands beside a multiplication, which would repeat it without measure", help);
    }
    let repeats = |at: &usize| is_repeated(&found, *at) && !(times.len() == 1 && is_few(&found, *first));
    let at = times.iter().copied().find(|at| repeats(at))?;
    refused(at, "a text is repeated without measure", "write it out, or repeat it a few times by a plain number")
}

/// Whether a text in quotes is an operand.
fn is_repeated(found: &[(Token<'_>, Range<usize>)], at: usize) -> bool {
    beside(found, at).any(|token| *token == Token::Quoted)
}

/// Whether the other operand is a small number that is written out.
fn is_few(found: &[(Token<'_>, Range<usize>)], at: usize) -> bool {
    let small = |word: &str| word.parse::<u64>().is_ok_and(|number| number <= REPEATED);
    let around = [at.checked_sub(2), Some(at + 2)];
    let is_power = around.into_iter().flatten().any(|at| found.get(at).is_some_and(|one| one.0 == Token::Sign('^')));
    !is_power && beside(found, at).any(|token| matches!(token, Token::Word(word) if small(word)))
}

fn beside<'a, 't>(found: &'a [(Token<'t>, Range<usize>)], at: usize) -> impl Iterator<Item = &'a Token<'t>> {
    [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|at| found.get(at)).map(|(token, _)| token)
}

/// Where a tuple is made: a comma between parentheses that call nothing, or outside any, or the filter `zip`.
fn tuple(found: &[(Token<'_>, Range<usize>)]) -> Option<usize> {
    let mut open: Vec<bool> = Vec::new();
    let mut unpacks = false;
    for (at, (token, _)) in found.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &found[at].0);
        match token {
            Token::Border => {
                open.clear();
                let trims = matches!(found.get(at + 1), Some((Token::Sign('-' | '+'), _)));
                let first = found.get(at + 1 + usize::from(trims));
                unpacks = matches!(first, Some((Token::Word("for" | "with"), _)));
            }
            Token::Word("in") => unpacks = false,
            Token::Word("zip") if before == Some(&Token::Sign('|')) => return Some(at),
            Token::Sign('(') => open.push(!is_called(before)),
            Token::Sign('[' | '{') => open.push(false),
            Token::Sign(')' | ']' | '}') => drop(open.pop()),
            Token::Sign(',') if *open.last().unwrap_or(&!unpacks) => return Some(at),
            Token::Sign(_) | Token::Word(_) | Token::Quoted | Token::Times => {}
        }
    }
    None
}

/// Whether a parenthesis after this token is that of a call, a filter or a test.
fn is_called(before: Option<&Token<'_>>) -> bool {
    match before {
        Some(Token::Word(word)) => !["in", "not", "and", "or", "if", "else", "elif", "is"].contains(word),
        Some(Token::Sign(sign)) => [')', ']'].contains(sign),
        Some(Token::Quoted | Token::Times | Token::Border) | None => false,
    }
}

/// Reads the code of a text; what stands outside it is left out.
fn tokens(text: &str, kind: TextKind) -> Vec<(Token<'_>, Range<usize>)> {
    let mut found = Vec::new();
    let mut in_code = kind == TextKind::Expression;
    let (mut at, mut braces) = (0, 0_usize);
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        let (token, length) = match in_code {
            false if rest.starts_with("{{") || rest.starts_with("{%") => {
                (in_code, braces) = (true, 0);
                (Some(Token::Border), 2)
            }
            false => (None, letter.len_utf8()),
            true if (braces == 0 && rest.starts_with("}}")) || rest.starts_with("%}") => {
                in_code = kind == TextKind::Expression;
                (Some(Token::Border), 2)
            }
            true => {
                match letter {
                    '{' => braces += 1,
                    '}' => braces = braces.saturating_sub(1),
                    _ => {}
                }
                code(rest, letter)
            }
        };
        found.extend(token.map(|token| (token, at..at + length)));
        at += length;
    }
    found
}

/// The first token of some code, and its length.
fn code(rest: &str, letter: char) -> (Option<Token<'_>>, usize) {
    match letter {
        '"' | '\'' => (Some(Token::Quoted), quoted(rest, letter)),
        '*' if rest.starts_with("**") => (Some(Token::Sign('^')), 2),
        '*' => (Some(Token::Times), 1),
        letter if letter.is_alphanumeric() || letter == '_' => {
            let end = rest.find(|one: char| !one.is_alphanumeric() && one != '_').unwrap_or(rest.len());
            (Some(Token::Word(&rest[..end])), end)
        }
        letter if letter.is_whitespace() => (None, letter.len_utf8()),
        letter => (Some(Token::Sign(letter)), letter.len_utf8()),
    }
}

/// How long a text in quotes is, both quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::{TextKind, unmeasured};

    #[test]
    fn what_is_repeated_without_measure_is_found_by_its_form() {
        for text in [
            "(0,)*10**8",
            "10**8 * (0, 1)",
            "((0,) if true else 1) * 10**8",
            "{'t': (0,)}.t * 10**8",
            "(([1]|zip([2])|list)[0]) * 10**8",
            "'x' * 10**8",
            "10**8 * 'x'",
            "params.n * 'x'",
            "'x' * 9 * 99999999",
            "'x' * 20000",
            "1*1*1*1*1*1*1*1*1*1",
        ] {
            assert!(unmeasured(text, TextKind::Expression).is_some(), "{text}");
        }
        for text in ["a {{ (0,) * 9 }}", "{% set t = 0, %}{{ t * 10**8 }}", "{% set t = (0,) %}{{ t * 10**8 }}"] {
            assert!(unmeasured(text, TextKind::Template).is_some(), "{text}");
        }
    }

    #[test]
    fn arithmetic_lists_and_texts_stay_what_they_are() {
        for text in [
            "params.size * 1024 ** 2",
            "(params.a + params.b) * 2",
            "params.mode in ('a', 'b')",
            "[0, 1] * 3",
            "'-' * 40",
            "params.list|join(', ')|length * 2",
            "'a * b, (c,)'",
            "range(1, 3)|sum * 2",
        ] {
            assert!(unmeasured(text, TextKind::Expression).is_none(), "{text}");
        }
        let text = "(1, 2) * 3 {%- for k, v in params.map|items %}{{ v * 2 }}{% endfor %}";
        assert!(unmeasured(text, TextKind::Template).is_none());
    }
}
