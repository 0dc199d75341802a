//! The difference of two texts, line by line, as `diff -u` writes it.

use std::fmt::Write as _;

/// Lines of agreement shown around a difference.
const CONTEXT: usize = 3;

/// The largest table that is filled for the smallest difference; above it, all of the middle is replaced.
const MOST_CELLS: usize = 4_000_000;

/// What becomes of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// Writes what turns `old` into `new`; empty when they are equal.
#[must_use]
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lines = compared(&old, &new);
    let mut text = String::new();
    let mut at = 0;
    while let Some(first) = lines[at..].iter().position(|line| !matches!(line, Line::Same(_))) {
        let start = (at + first).saturating_sub(CONTEXT).max(at);
        let end = hunk_end(&lines, at + first);
        hunk(&lines, start..end, &mut text);
        at = end;
    }
    text
}

/// Where a hunk ends: behind the last difference that is near enough to the one before.
fn hunk_end(lines: &[Line<'_>], first: usize) -> usize {
    let mut last = first;
    for (at, line) in lines.iter().enumerate().skip(first) {
        match line {
            Line::Same(_) if at - last > 2 * CONTEXT => break,
            Line::Same(_) => {}
            Line::Gone(_) | Line::New(_) => last = at,
        }
    }
    (last + 1 + CONTEXT).min(lines.len())
}

fn hunk(lines: &[Line<'_>], range: std::ops::Range<usize>, text: &mut String) {
    let count = |lines: &[Line<'_>]| {
        let new = lines.iter().filter(|line| !matches!(line, Line::Gone(_))).count();
        let old = lines.iter().filter(|line| !matches!(line, Line::New(_))).count();
        (old, new)
    };
    let (old_before, new_before) = count(&lines[..range.start]);
    let (old, new) = count(&lines[range.clone()]);
    let start = |before: usize, of: usize| if of == 0 { before } else { before + 1 };
    let _ = writeln!(text, "@@ -{},{old} +{},{new} @@", start(old_before, old), start(new_before, new));
    for line in &lines[range] {
        let _ = match line {
            Line::Same(line) => writeln!(text, " {line}"),
            Line::Gone(line) => writeln!(text, "-{line}"),
            Line::New(line) => writeln!(text, "+{line}"),
        };
    }
}

fn compared<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let before = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[before..], &new[before..]);
    let after = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut lines: Vec<Line<'a>> = old[..before].iter().map(|line| Line::Same(line)).collect();
    middle(&old_rest[..old_rest.len() - after], &new_rest[..new_rest.len() - after], &mut lines);
    lines.extend(old[old.len() - after..].iter().map(|line| Line::Same(line)));
    lines
}

/// The longest common subsequence of what differs.
fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    if old.len().saturating_mul(width) > MOST_CELLS {
        lines.extend(old.iter().map(|line| Line::Gone(line)));
        lines.extend(new.iter().map(|line| Line::New(line)));
        return;
    }
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = if old[i] == new[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
    }

    #[test]
    fn a_changed_line_is_shown_between_its_neighbours() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        assert_eq!(unified(old, new), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    }

    #[test]
    fn distant_changes_are_hunks_of_their_own_and_near_ones_are_not() {
        let old: String = (1..=40).map(|n| format!("{n}\n")).collect();
        let new = old.replace("\n5\n", "\nfive\n").replace("\n9\n", "\n").replace("\n30\n", "\n30\nmore\n");
        let told = unified(&old, &new);
        assert_eq!(told.matches("@@ -").count(), 2, "{told}");
        assert!(told.contains("@@ -2,11 +2,10 @@") && told.contains("@@ -28,6 +27,7 @@"), "{told}");
    }

    #[test]
    fn everything_new_begins_at_nothing() {
        assert_eq!(unified("", "a\n"), "@@ -0,0 +1,1 @@\n+a\n");
    }
}
