//! Patterns for names: `*` and `?` within one part, `**` over parts.

use schemars::JsonSchema;
use serde::Deserialize;

/// A pattern. Without a `/` it is held against the last part of a name, else against the whole name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// Whether a name fits.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        let name = if self.0.contains('/') { name } else { name.rsplit('/').next().unwrap_or(name) };
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    // The last star met, with the place in the name it has swallowed up to; `**` may swallow a `/`.
    let (mut p, mut n) = (0, 0);
    let mut stars: Vec<(usize, usize, Reach)> = Vec::new();
    loop {
        if pattern[p..].starts_with(b"**") {
            let (skip, reach) =
                if pattern[p + 2..].starts_with(b"/") { (3, Reach::Folders) } else { (2, Reach::Anything) };
            stars.push((p + skip, n, reach));
            p += skip;
            continue;
        }
        let matches = match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                stars.push((p + 1, n, Reach::Part));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(c)) => *c != b'/',
            (Some(wanted), Some(c)) => wanted == c,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if matches {
            (p, n) = (p + 1, n + 1);
            continue;
        }
        loop {
            let Some((after, swallowed, reach)) = stars.pop() else { return false };
            let Some(next) = reach.step(&name[swallowed..]) else { continue };
            stars.push((after, swallowed + next, reach));
            (p, n) = (after, swallowed + next);
            break;
        }
    }
}

/// What a star may swallow.
#[derive(Clone, Copy)]
enum Reach {
    /// A piece of one part.
    Part,
    /// Whole folders.
    Folders,
    /// Anything.
    Anything,
}

impl Reach {
    /// How many bytes more it swallows.
    fn step(self, rest: &[u8]) -> Option<usize> {
        match (self, rest.first()?) {
            (Self::Part, b'/') => None,
            (Self::Part | Self::Anything, _) => Some(1),
            (Self::Folders, _) => rest.iter().position(|c| *c == b'/').map(|at| at + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn patterns_fit_as_people_expect() {
        for (pattern, name, expected) in [
            ("*.dump", "a/b/orders.dump", true),
            ("*.dump", "orders.dump.gz", false),
            ("orders_?.dump", "orders_1.dump", true),
            ("a/*.dump", "a/x.dump", true),
            ("a/*.dump", "a/b/x.dump", false),
            ("a/**", "a/b/x.dump", true),
            ("**/x.dump", "x.dump", true),
            ("**/x.dump", "a/b/x.dump", true),
            ("**/x.dump", "a/box.dump", false),
            ("a/**/x", "a/b/c/x", true),
            ("a/**/x", "a/x", true),
            ("a/**/x", "b/x", false),
            ("*", "", true),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
        ] {
            assert_eq!(Glob(pattern.to_owned()).fits(name), expected, "{pattern} {name}");
        }
    }
}
