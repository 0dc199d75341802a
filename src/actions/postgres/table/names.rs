//! Names of tables as users write them: in a list, or in one text that was taken apart at its commas.

use serde::{Deserialize as _, Deserializer};

/// Reads a list of names. What a comma within quotes took apart is put together again: a parameter holds several names in one
/// text (`users,"Odd, name"`), and whoever splits that does not look at quotes.
///
/// # Errors
/// Fails as the deserializer does.
pub(super) fn of_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Vec::<String>::deserialize(deserializer).map(whole)
}

fn whole(pieces: Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for piece in pieces {
        match names.last_mut().filter(|name| is_open(name)) {
            Some(name) => {
                name.push(',');
                name.push_str(&piece);
            }
            None => names.push(piece),
        }
    }
    names
}

/// Whether a quote was opened and not closed; two of them within quotes are one that is meant.
fn is_open(name: &str) -> bool {
    name.matches('"').count() % 2 == 1
}

/// A name as SQL would fold it, quotes included, so that only how it is written is left out: `Users` and `"Users"` are alike.
pub(super) fn bare(name: &str) -> String {
    name.chars().filter(|letter| *letter != '"').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::{bare, whole};

    #[test]
    fn a_comma_within_quotes_takes_no_name_apart() {
        let split = |text: &str| whole(text.split(',').map(str::to_owned).collect());
        assert_eq!(split("users, shop.items"), ["users", " shop.items"]);
        assert_eq!(split("\"Mixed, Case,Tab\",users"), ["\"Mixed, Case,Tab\"", "users"]);
        assert_eq!(split("a,s.\"o\"\"dd, x\""), ["a", "s.\"o\"\"dd, x\""]);
        assert_eq!(split("\"open,users"), ["\"open,users"]);
        assert_eq!(bare("public.\"Users\""), "public.users");
    }
}
