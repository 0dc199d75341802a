//! Patterns that choose schemas and tables, as `pg_dump` understands them (manual of psql, "Patterns").
//!
//! `pg_dump` takes a pattern to exclude that fits nothing without a word: a misspelt one stores what was to be left out.

use crate::action::ActionError;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;

/// What a pattern chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Schemas.
    Schemas,
    /// Tables and what is like them.
    Tables,
}

/// The parts of a pattern between its points, each as a regular expression of the server.
fn parts(pattern: &str) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '"' && quoted && chars.next_if_eq(&'"').is_some() {
            push(&mut parts, "\"");
        } else if char == '"' {
            quoted = !quoted;
        } else if quoted && "|*+?()[]{}.^$\\".contains(char) {
            push(&mut parts, &format!("\\{char}"));
        } else if quoted {
            push(&mut parts, &char.to_string());
        } else {
            match char {
                '.' => parts.push(String::new()),
                '*' => push(&mut parts, ".*"),
                '?' => push(&mut parts, "."),
                '$' => push(&mut parts, "\\$"),
                other => push(&mut parts, &other.to_lowercase().to_string()),
            }
        }
    }
    parts
}

fn push(parts: &mut [String], text: &str) {
    if let Some(last) = parts.last_mut() {
        last.push_str(text);
    }
}

/// Tells whether a pattern fits anything in the session's database.
///
/// # Errors
/// Fails as the server says: a pattern may be no regular expression.
pub(super) async fn fits(session: &mut Session, choice: Choice, pattern: &str) -> Result<bool, ActionError> {
    let whole = |part: &str| literal(&format!("^({part})$"));
    let parts = parts(pattern);
    // A database's name may stand before; another than the session's is an error of `pg_dump`.
    let statement = match (choice, parts.as_slice()) {
        (Choice::Schemas, [.., schema]) => {
            format!("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname ~ {} COLLATE \"default\")", whole(schema))
        }
        (Choice::Tables, [.., schema, table]) => format!(
            "{TABLES} AND c.relname ~ {} COLLATE \"default\" AND n.nspname ~ {} COLLATE \"default\")",
            whole(table),
            whole(schema)
        ),
        (Choice::Tables, [table]) => {
            format!("{TABLES} AND c.relname ~ {} COLLATE \"default\" AND pg_table_is_visible(c.oid))", whole(table))
        }
        (Choice::Schemas | Choice::Tables, []) => return Ok(true),
    };
    Ok(session.value(&statement).await? == "t")
}

const TABLES: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_pattern_is_what_the_manual_says() {
        assert_eq!(parts("Audit.log_*"), ["audit", "log_.*"]);
        assert_eq!(parts("t?"), ["t."]);
        assert_eq!(parts("\"Odd.Name\".\"a\"\"b*\""), ["Odd\\.Name", "a\"b\\*"]);
        assert_eq!(parts("a$b"), ["a\\$b"]);
        assert_eq!(parts("(one|two)"), ["(one|two)"]);
    }
}
