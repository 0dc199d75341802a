//! Whole documents: to a file, or to standard output.

use std::path::Path;

use serde::Serialize;

use super::{Exit, Failure};

/// Writes a document to a file or to standard output.
pub fn write(text: &str, file: Option<&Path>) -> Result<(), Failure> {
    use std::io::Write as _;
    let written = match file {
        #[expect(clippy::disallowed_methods, reason = "a document that can be made again")]
        Some(path) => std::fs::write(path, text),
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .and_then(|()| if text.ends_with('\n') { Ok(()) } else { std::io::stdout().write_all(b"\n") }),
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let shown = file.map_or_else(|| "standard output".to_owned(), |path| format!("`{}`", path.display()));
            Err(Failure::new(Exit::Usage, format!("{shown} cannot be written")).because(&error))
        }
        _ => Ok(()),
    }
}

/// Writes a value as JSON to standard output.
pub fn write_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
    write(&text, None)
}
