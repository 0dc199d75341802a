//! Rendering whole argument trees, and evaluating bare expressions.

use std::collections::BTreeSet;
use std::io;

use minijinja::value::ValueKind;
use serde_json::{Map, Value};

use super::environment::{MAX_OUTPUT, environment};
use super::error::{TemplateError, TemplateErrorKind};
use super::measure::unmeasured;
use super::reference::TextKind;
use super::scope::Scope;
use super::shape::{expression, is_template};
use crate::base::secret::{TOKEN_CLOSE, TOKEN_OPEN};

/// A rendered value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The value; secrets stand in it as tokens.
    pub value: Value,
    /// The names of these secrets.
    pub secrets: BTreeSet<String>,
}

/// Renders every template in a JSON tree; keys of mappings are never templates.
///
/// # Errors
/// Stops at the first fault and names its place by JSON pointer and byte range.
pub fn render(value: &Value, scope: &Scope) -> Result<Rendered, TemplateError> {
    let mut renderer = Renderer { scope, context: scope.context(), secrets: BTreeSet::new(), left: MAX_OUTPUT };
    let value = renderer.tree(value, "")?;
    Ok(Rendered { value, secrets: renderer.secrets })
}

/// Evaluates a bare expression such as a step's `when`.
///
/// # Errors
/// An undefined result is an error, and so is one that holds a secret.
pub fn evaluate(expression: &str, scope: &Scope) -> Result<Value, TemplateError> {
    let mut renderer = Renderer { scope, context: scope.context(), secrets: BTreeSet::new(), left: MAX_OUTPUT };
    if let Some(error) = unmeasured(expression, TextKind::Expression) {
        return Err(error);
    }
    let value = renderer.expression(expression, 0)?;
    if renderer.secrets.is_empty() {
        return Ok(value);
    }
    Err(TemplateError::new(TemplateErrorKind::Secret, "the result of an expression may not hold a secret"))
}

struct Renderer<'a> {
    scope: &'a Scope,
    context: minijinja::Value,
    secrets: BTreeSet<String>,
    left: usize,
}

impl Renderer<'_> {
    fn tree(&mut self, value: &Value, pointer: &str) -> Result<Value, TemplateError> {
        match value {
            Value::String(text) => self.text(text).map_err(|error| error.under(pointer)),
            Value::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{pointer}/{index}");
                    let rendered = self.tree(item, &path)?;
                    if rendered.is_null() && !item.is_null() {
                        let error = TemplateError::new(TemplateErrorKind::NotText, "a null stands in a list");
                        return Err(error.under(&path).help("a null can be left out only as the value of a key"));
                    }
                    list.push(rendered);
                }
                Ok(Value::Array(list))
            }
            Value::Object(map) => {
                let mut out = Map::new();
                for (key, item) in map {
                    let path = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                    let rendered = self.tree(item, &path)?;
                    if !rendered.is_null() || item.is_null() {
                        out.insert(key.clone(), rendered);
                    }
                }
                Ok(Value::Object(out))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }

    fn text(&mut self, text: &str) -> Result<Value, TemplateError> {
        if !is_template(text) {
            return Ok(Value::String(text.to_owned()));
        }
        if let Some(error) = unmeasured(text, TextKind::Template) {
            return Err(error);
        }
        if let Some(range) = expression(text) {
            let offset = range.start;
            return self.expression(&text[range], offset);
        }
        let engine = |error: &minijinja::Error| TemplateError::from_engine(error, 0);
        let template = environment().template_from_str(text).map_err(|error| engine(&error))?;
        let mut out = Capped { bytes: Vec::new(), left: self.left };
        template.render_captured_to(self.context.clone(), &mut out).map_err(|error| engine(&error))?;
        self.left = out.left;
        let rendered = String::from_utf8(out.bytes)
            .map_err(|_| TemplateError::new(TemplateErrorKind::Failed, "the result is not text"))?;
        self.note_secrets(&rendered)?;
        Ok(Value::String(rendered))
    }

    fn expression(&mut self, source: &str, offset: usize) -> Result<Value, TemplateError> {
        let engine = |error: &minijinja::Error| TemplateError::from_engine(error, offset);
        let compiled = environment().compile_expression(source).map_err(|error| engine(&error))?;
        let value = compiled.eval(self.context.clone()).map_err(|error| engine(&error))?;
        let trimmed = source.trim();
        if value.is_undefined() {
            let error = TemplateError::new(TemplateErrorKind::Undefined, format!("`{trimmed}` is undefined"));
            let start = offset + source.find(trimmed).unwrap_or(0);
            return Err(TemplateError { range: Some(start..start + trimmed.len()), ..error });
        }
        if value.kind() == ValueKind::Number && f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite()) {
            return Err(TemplateError::new(TemplateErrorKind::Failed, format!("`{trimmed}` is not a finite number")));
        }
        let value = bounded(&value)?;
        self.take(&value)?;
        Ok(value)
    }

    /// Charges a value against the budget and notes the secrets in its texts.
    fn take(&mut self, value: &Value) -> Result<(), TemplateError> {
        match value {
            Value::String(text) => {
                self.left = self.left.checked_sub(text.len()).ok_or_else(too_large)?;
                self.note_secrets(text)
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.take(item)),
            Value::Object(map) => map.iter().try_for_each(|(key, item)| {
                self.left = self.left.checked_sub(key.len()).ok_or_else(too_large)?;
                self.take(item)
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.left = self.left.checked_sub(1).ok_or_else(too_large)?;
                Ok(())
            }
        }
    }

    /// Every token must be whole and name a declared secret; else a filter has changed it.
    fn note_secrets(&mut self, text: &str) -> Result<(), TemplateError> {
        let mut rest = text;
        while let Some(at) = rest.find([TOKEN_OPEN, TOKEN_CLOSE]) {
            let body = rest[at..].strip_prefix(TOKEN_OPEN);
            let name = body.and_then(|body| body.split_once(TOKEN_CLOSE));
            match name {
                Some((name, tail)) if self.scope.has_secret(name) => {
                    self.secrets.insert(name.to_owned());
                    rest = tail;
                }
                Some(_) | None => {
                    let error = TemplateError::new(TemplateErrorKind::Secret, "a filter or operator changes a secret");
                    return Err(error.help("pass the secret on whole, as `{{ secrets.name }}`"));
                }
            }
        }
        Ok(())
    }
}

/// Longest JSON of a value of `MAX_OUTPUT` bytes: every one of them may be escaped.
const LONGEST_JSON: usize = 6 * MAX_OUTPUT;

/// Reads out a value, which may be a list that repeats itself without end, as far as the budget can hold it.
fn bounded(value: &minijinja::Value) -> Result<Value, TemplateError> {
    let mut out = Capped { bytes: Vec::new(), left: LONGEST_JSON };
    serde_json::to_writer(&mut out, value)
        .and_then(|()| serde_json::from_slice(&out.bytes))
        .map_err(|error| TemplateError::new(TemplateErrorKind::Failed, error.to_string()))
}

fn too_large() -> TemplateError {
    TemplateError::new(TemplateErrorKind::Budget, "the result is larger than 1 MiB")
}

struct Capped {
    bytes: Vec<u8>,
    left: usize,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => {
                self.left = left;
                self.bytes.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => Err(io::Error::other("the result is larger than 1 MiB")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
