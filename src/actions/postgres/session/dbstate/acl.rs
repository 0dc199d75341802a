//! The rights on a database as the server writes them: `aclitem`s, `who=rights/by whom`. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The same rights where another role takes the place of one: it has what that had, and has given what that gave.
pub(super) fn renamed(items: &[String], (old, new): (&str, &str)) -> Vec<String> {
    let (old, new) = (quoted(old), quoted(new));
    let name = |name: &str| if name == old { new.clone() } else { name.to_owned() };
    let one = |item: &String| match parts(item) {
        Some((who, rights, by)) => format!("{}={rights}/{}", name(who), name(by)),
        None => item.clone(),
    };
    items.iter().map(one).collect()
}

/// The rights in one order, whatever order the server has them in, and each pair of roles once.
pub(super) fn ordered(items: &[String]) -> String {
    let mut all: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    let mut shown = Vec::new();
    for item in items {
        match parts(item) {
            Some((who, rights, by)) => all.entry((who, by)).or_default().extend(letters(rights)),
            None => shown.push(item.clone()),
        }
    }
    for ((who, by), mut rights) in all {
        // What may be given on is had as well.
        let given_on = rights.clone();
        rights.retain(|right| !given_on.contains(&format!("{right}*")));
        shown.push(format!("{who}={}/{by}", rights.into_iter().collect::<String>()));
    }
    shown.join(" ")
}

/// The parts of an item. Names are in quotes where they hold anything but letters, digits and `_`.
fn parts(item: &str) -> Option<(&str, &str, &str)> {
    let mut inside = false;
    let outside = |(_, letter): &(usize, char)| {
        inside ^= *letter == '"';
        !inside
    };
    let marks: Vec<(usize, char)> = item.char_indices().filter(outside).collect();
    let place = |wanted: char| marks.iter().find(|(_, mark)| *mark == wanted).map(|(at, _)| *at);
    let (equals, slash) = (place('=')?, place('/')?);
    Some((item.get(..equals)?, item.get(equals + 1..slash)?, item.get(slash + 1..)?))
}

/// Each right by itself, with the `*` of those that may be given on.
fn letters(rights: &str) -> impl Iterator<Item = String> + '_ {
    let letters = rights.char_indices().filter(|(_, letter)| *letter != '*');
    letters.map(|(at, letter)| match rights[at + letter.len_utf8()..].starts_with('*') {
        true => format!("{letter}*"),
        false => letter.to_string(),
    })
}

/// A role as an item names it.
fn quoted(role: &str) -> String {
    match role.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        true => role.to_owned(),
        false => format!("\"{}\"", role.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::{ordered, renamed};

    #[test]
    fn another_role_takes_the_place_of_one_also_where_its_name_must_be_quoted() {
        let items =
            ["=T/app".to_owned(), "app=C*Tc/app".to_owned(), "\"a=/b\"=c/app".to_owned(), "app2=c/x".to_owned()];
        let moved = renamed(&items, ("app", "it's me"));
        assert_eq!(moved, ["=T/\"it's me\"", "\"it's me\"=C*Tc/\"it's me\"", "\"a=/b\"=c/\"it's me\"", "app2=c/x"]);
        assert_eq!(renamed(&moved, ("it's me", "app")), items);
    }

    #[test]
    fn rights_are_the_same_in_any_order_and_in_one_item_or_two() {
        let one = ["r=cT/app".to_owned(), "app=C/app".to_owned()];
        let other = ["app=C/app".to_owned(), "r=T/app".to_owned(), "r=c/app".to_owned()];
        assert_eq!(ordered(&one), ordered(&other));
        let twice = ["r=cT/app".to_owned(), "r=c*/app".to_owned(), "app=C/app".to_owned()];
        assert_eq!(ordered(&twice), ordered(&["app=C/app".to_owned(), "r=c*T/app".to_owned()]));
        assert_ne!(ordered(&one), ordered(&["app=C/app".to_owned(), "r=c*T/app".to_owned()]));
    }
}
