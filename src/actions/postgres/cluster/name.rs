//! Names and texts as SQL and connection strings want them.

/// An identifier: always quoted, so that no name is taken for anything else.
#[must_use]
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal; the session must have `standard_conforming_strings` on, as every server since 9.1 has.
#[must_use]
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A database's name as a connection string, so that one that looks like a connection string is none.
#[must_use]
pub(crate) fn conninfo(dbname: &str) -> String {
    format!("dbname='{}'", dbname.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Refuses what cannot be a database's name: the server would cut it silently.
///
/// # Errors
/// Fails with what is wrong with it.
pub(crate) fn dbname(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("the name of a database cannot be empty".to_owned()),
        1..=63 if !name.contains('\0') => Ok(()),
        1..=63 => Err("the name of a database cannot hold a zero byte".to_owned()),
        length => Err(format!("`{name}` has {length} bytes; the server keeps 63 of a database's name")),
    }
}

#[cfg(test)]
mod tests {
    use super::{conninfo, dbname, ident, literal};

    #[test]
    fn no_name_ends_its_quotes() {
        assert_eq!(ident(r#"a"; DROP"#), r#""a""; DROP""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(conninfo(r"host=evil 'x\"), r"dbname='host=evil \'x\\'");
    }

    #[test]
    fn a_name_the_server_would_cut_is_refused() {
        assert!(dbname(&"x".repeat(63)).is_ok() && dbname(&"x".repeat(64)).is_err() && dbname("").is_err());
    }
}
