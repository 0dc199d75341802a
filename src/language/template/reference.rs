//! Which names a template reads.

use std::collections::BTreeSet;
use std::ops::Range;

use super::environment::{FUNCTIONS, environment};
use super::error::{TemplateError, TemplateErrorKind};
use super::filter::unknown_filter;
use super::measure::unmeasured;
use super::shape::{expression, is_template};

/// A name that a template reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The dotted path: `["steps", "choose", "backup"]`.
    pub path: Vec<String>,
    /// Which bytes of the text, when it is found as written.
    pub range: Option<Range<usize>>,
}

/// How a text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// A value of `with:`; a text without braces reads nothing.
    Template,
    /// A bare expression, as `when` and `that` take.
    Expression,
}

/// Gives every name that a text reads, in the order of the text.
///
/// # Errors
/// Fails on malformed templates, on filters that do not exist, and on `steps[…]`.
pub fn references(text: &str, kind: TextKind) -> Result<Vec<Reference>, TemplateError> {
    if kind == TextKind::Template && !is_template(text) {
        return Ok(Vec::new());
    }
    if let Some(error) = unmeasured(text, kind) {
        return Err(error);
    }
    let names = match kind {
        TextKind::Template => match expression(text) {
            Some(range) => of_expression(&text[range.clone()], range.start)?,
            None => environment()
                .template_from_str(text)
                .map_err(|error| TemplateError::from_engine(&error, 0))?
                .undeclared_variables(true)
                .into_iter()
                .collect(),
        },
        TextKind::Expression => of_expression(text, 0)?,
    };
    if let Some(error) = unknown_filter(text, kind) {
        return Err(error);
    }
    let mut found: Vec<Reference> = names
        .into_iter()
        .filter(|name| !FUNCTIONS.contains(&name.as_str()))
        .map(|name| Reference { range: find(text, &name), path: name.split('.').map(str::to_owned).collect() })
        .collect();
    found.sort_by_key(|reference| reference.range.clone().map_or(usize::MAX, |range| range.start));
    match found.iter().find(|reference| reference.path == ["steps"]) {
        Some(bare) => Err(indexed(bare.range.clone())),
        None => Ok(found),
    }
}

fn of_expression(text: &str, offset: usize) -> Result<BTreeSet<String>, TemplateError> {
    let compiled =
        environment().compile_expression(text).map_err(|error| TemplateError::from_engine(&error, offset))?;
    Ok(compiled.undeclared_variables(true).into_iter().collect())
}

fn indexed(range: Option<Range<usize>>) -> TemplateError {
    let error = TemplateError::new(TemplateErrorKind::Indexed, "`steps` is read other than as `steps.<id>.<output>`");
    let error = error.help("write `steps.<id>.<output>`: what a step reads must be known before anything runs");
    TemplateError { range, ..error }
}

/// Searches for a dotted name as written, at the borders of words.
fn find(text: &str, name: &str) -> Option<Range<usize>> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(name).map(|(start, _)| start..start + name.len()).find(|range| {
        let before = text[..range.start].chars().next_back();
        let after = text[range.end..].chars().next();
        !before.is_some_and(|letter| is_word(letter) || letter == '.') && !after.is_some_and(is_word)
    })
}
