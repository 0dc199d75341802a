//! Messages of the server, taken apart (manual, "Message Formats").

use bytes::{Buf, Bytes};

use crate::action::ActionError;

/// One message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its kind.
    pub(super) tag: u8,
    /// What follows the length.
    pub(super) body: Bytes,
}

/// What the server says when it refuses or warns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Complaint {
    /// How bad it is, in English whatever the server speaks.
    pub(crate) severity: String,
    /// The SQLSTATE.
    pub(crate) code: String,
    /// The message.
    pub(crate) message: String,
    /// What it adds.
    pub(crate) detail: Option<String>,
    /// What it advises.
    pub(crate) hint: Option<String>,
    /// The function of the server's own source that says it.
    pub(crate) routine: String,
}

impl Complaint {
    /// Reads the fields of an `ErrorResponse` or a `NoticeResponse`.
    pub(super) fn parse(mut body: Bytes) -> Self {
        let mut complaint = Self::default();
        while body.first().is_some_and(|kind| *kind != 0) {
            let kind = body.get_u8();
            let Some(value) = text(&mut body) else { break };
            match kind {
                b'V' => complaint.severity = value,
                b'C' => complaint.code = value,
                b'M' => complaint.message = value,
                b'D' => complaint.detail = Some(value),
                b'H' => complaint.hint = Some(value),
                b'R' => complaint.routine = value,
                _ => {}
            }
        }
        complaint
    }

    /// As a step's error. What passes by itself is worth another try.
    pub(super) fn into_error(self, shown: &str) -> ActionError {
        let Self { code, message, detail, hint, .. } = self;
        let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
        // Classes of the manual's "PostgreSQL Error Codes": connection, resources, intervention, system, lost WAL.
        let passing = ["08", "53", "57", "58", "55"].iter().any(|class| code.starts_with(class));
        let fact = format!("{shown} refuses: {message}{detail}");
        let error = if passing { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
        match hint {
            _ if code.starts_with("28") => error.help(
                "allow the role replication from here: `ALTER ROLE … REPLICATION`, and a line with `replication` as its \
                 database in `pg_hba.conf`",
            ),
            Some(hint) => error.help(hint),
            None => error,
        }
    }
}

/// Takes a text that ends with a zero byte.
pub(super) fn text(body: &mut Bytes) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let value = body.split_to(end);
    body.advance(1);
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// Reads the values of a row.
pub(super) fn row(mut body: Bytes) -> Option<Vec<Option<String>>> {
    let count = body.try_get_u16().ok()?;
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let length = body.try_get_i32().ok()?;
        let value = match usize::try_from(length) {
            Ok(length) if length <= body.len() => Some(String::from_utf8_lossy(&body.split_to(length)).into_owned()),
            Ok(_) => return None,
            Err(_) => None,
        };
        values.push(value);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_its_values_and_a_short_one_is_none() {
        let bytes = Bytes::from_static(b"\0\x02\0\0\0\x020/\xff\xff\xff\xff");
        assert_eq!(row(bytes.clone()), Some(vec![Some("0/".to_owned()), None]));
        assert_eq!(row(bytes.slice(..7)), None);
    }

    #[test]
    fn a_complaint_is_read_whatever_else_it_says() {
        let body =
            Bytes::from_static(b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry\0Zother\0RClientAuthentication\0\0");
        let complaint = Complaint::parse(body);
        assert_eq!((complaint.severity.as_str(), complaint.routine.as_str()), ("FATAL", "ClientAuthentication"));
        assert_eq!((complaint.code.as_str(), complaint.message.as_str()), ("28000", "no pg_hba.conf entry"));
        let error = complaint.into_error("database `main`");
        assert!(error.info().help.as_deref().is_some_and(|help| help.contains("pg_hba.conf")));
    }
}
