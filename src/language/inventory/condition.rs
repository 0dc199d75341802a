//! Expectations on one value: `> 0`, `= 42`, `>= 1.5`, `= true`, `!= ''`, `= 'text'`.

use std::cmp::Ordering;
use std::str::FromStr;

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    relation: Relation,
    operand: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    Unequal,
    AtLeast,
    Greater,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Number(f64),
    Whole(i128),
    Text(String),
}

/// The text is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no expectation; write for example `> 0`, `= 42`, `= true` or `= 'text'`")]
pub struct ParseExpectationError(String);

const RELATIONS: [(&str, Relation); 7] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("!=", Relation::Unequal),
    ("<>", Relation::Unequal),
    (">", Relation::Greater),
    ("<", Relation::Less),
    ("=", Relation::Equal),
];

impl FromStr for Expectation {
    type Err = ParseExpectationError;

    /// # Errors
    /// Fails for a text without relation or operand.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseExpectationError(text.to_owned());
        let trimmed = text.trim();
        let (sign, relation) = RELATIONS.iter().find(|(sign, _)| trimmed.starts_with(sign)).copied().ok_or_else(bad)?;
        let rest = trimmed[sign.len()..].trim();
        if let Some(quoted) = rest.strip_prefix('\'') {
            let inner = quoted.strip_suffix('\'').ok_or_else(bad)?;
            return Ok(Self { relation, operand: Operand::Text(inner.replace("''", "'")) });
        }
        // PostgreSQL writes a truth value as one letter.
        if let "true" | "false" = rest {
            return Ok(Self { relation, operand: Operand::Text(rest[..1].to_owned()) });
        }
        let operand = match rest.parse::<i128>() {
            Ok(whole) => Operand::Whole(whole),
            Err(_) => Operand::Number(rest.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(bad)?),
        };
        Ok(Self { relation, operand })
    }
}

impl Expectation {
    /// Tells whether a value, as the server writes it, is what was expected. NULL never is.
    #[must_use]
    pub fn holds(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return false };
        let order = match &self.operand {
            Operand::Text(text) => Some(value.cmp(text.as_str())),
            Operand::Whole(whole) => match value.trim().parse::<i128>() {
                Ok(found) => Some(found.cmp(whole)),
                #[expect(clippy::cast_precision_loss, reason = "the found value is a fraction already")]
                Err(_) => value.trim().parse::<f64>().ok().and_then(|found| found.partial_cmp(&(*whole as f64))),
            },
            Operand::Number(number) => value.trim().parse::<f64>().ok().and_then(|found| found.partial_cmp(number)),
        };
        order.is_some_and(|order| self.relation.admits(order))
    }
}

impl Relation {
    fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::AtLeast => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    fn holds(expectation: &str, value: &str) -> bool {
        expectation.parse::<Expectation>().unwrap().holds(Some(value))
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(holds("> 0", "10") && !holds("> 0", "0") && holds(">= 1.5", "1.50"));
        assert!(holds("= 170141183460469231731687303715884105727", "170141183460469231731687303715884105727"));
        assert!(holds("< 2", "1.5") && !holds("= 42", "forty-two"));
    }

    #[test]
    fn quoted_operands_are_compared_as_text() {
        assert!(holds("!= ''", "x") && !holds("!= ''", "") && holds("= 'it''s'", "it's"));
    }

    #[test]
    fn truth_is_compared_as_the_server_writes_it() {
        assert!(holds("= true", "t") && holds("!= true", "f") && !holds("= false", "t"));
    }

    #[test]
    fn null_meets_no_expectation() {
        assert!(!"!= 1".parse::<Expectation>().unwrap().holds(None));
    }

    #[test]
    fn what_has_no_relation_or_operand_is_refused() {
        for text in ["", "0", "> ", "= 'open", "~ 1", "> many", "> inf"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
