//! Diagnostics for machines, and the long text of a code.

use serde_json::{Value, json};

use super::{Code, Diagnostics, Sources};

/// Gives all findings as data: code, severity, message, help, and labels with file, line, column and bytes.
#[must_use]
pub fn to_json(diagnostics: &Diagnostics, sources: &Sources) -> Value {
    let findings = diagnostics.iter().map(|diagnostic| {
        let labels: Vec<Value> = diagnostic
            .labels
            .iter()
            .map(|label| {
                let (line, column) = sources.line_column(label.place).unzip();
                json!({
                    "file": sources.get(label.place.source).map(|file| &file.name),
                    "line": line,
                    "column": column,
                    "start": label.place.span.start,
                    "len": label.place.span.len,
                    "text": label.text,
                })
            })
            .collect();
        json!({
            "code": diagnostic.code.as_str(),
            "severity": diagnostic.severity,
            "title": diagnostic.code.title(),
            "message": diagnostic.message,
            "help": diagnostic.help,
            "labels": labels,
        })
    });
    Value::Array(findings.collect())
}

/// Finds a code by its text, in any case.
#[must_use]
pub fn find_code(text: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(text.trim()))
}

/// Gives the long text of a code; `None` when there is no such code.
#[must_use]
pub fn explain(text: &str) -> Option<String> {
    let code = find_code(text)?;
    let body: Vec<&str> = code.explanation().lines().map(str::trim).collect();
    let severity = match code.severity() {
        super::Severity::Error => "error",
        super::Severity::Warning => "warning; an error under `--strict`",
        super::Severity::Note => "note; never an error",
    };
    Some(format!("{}: {} ({severity})\n\n{}\n", code.as_str(), code.title(), body.join("\n")))
}

/// Gives the code that is nearest to a text that is none.
#[must_use]
pub fn near_code(text: &str) -> Option<&'static str> {
    let wanted = text.trim().to_ascii_uppercase();
    let distance = |code: &Code| strsim::damerau_levenshtein(&wanted, code.as_str());
    let near = Code::ALL.iter().min_by_key(|code| distance(code))?;
    (distance(near) <= 2).then(|| near.as_str())
}

#[cfg(test)]
mod tests {
    use super::{explain, near_code};
    use crate::base::diagnostic::Code;

    #[test]
    fn every_code_is_unique_and_explained() {
        let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(explain(code.as_str()).is_some_and(|text| text.len() > 40), "{code:?}");
        }
    }

    #[test]
    fn a_mistyped_code_has_a_neighbour() {
        assert_eq!(explain("RB9999"), None);
        assert_eq!(near_code("rb010"), Some("RB0101"));
        assert_eq!(near_code("hello"), None);
    }
}
