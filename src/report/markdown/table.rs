//! Tables and words of Markdown that nothing in them can break.

use std::fmt::Write as _;

use crate::report::mask_text;
use crate::report::phrase::one_line;

/// A table of GitHub's kind, which Jira reads as well.
pub(super) struct Table(String);

impl Table {
    pub(super) fn new(columns: &[&str]) -> Self {
        let mut table = Self(String::new());
        table.row(columns);
        table.row(&vec!["---"; columns.len()]);
        table
    }

    /// Adds a row of cells that are Markdown already.
    pub(super) fn row(&mut self, cells: &[&str]) {
        for cell in cells {
            let _ = write!(self.0, "| {cell} ");
        }
        self.0.push_str("|\n");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Text on one line that stands for itself; what is in backticks stays code.
pub(super) fn word(text: &str) -> String {
    let text = one_line(text);
    let whole = text.matches('`').count() % 2 == 0;
    let mut out = String::with_capacity(text.len());
    for (at, part) in text.split('`').enumerate() {
        if at > 0 {
            out.push_str(if whole { "`" } else { "\\`" });
        }
        for c in part.chars() {
            match c {
                // A bar ends a cell even in code.
                '|' => out.push_str("\\|"),
                '<' if at % 2 == 0 || !whole => out.push_str("&lt;"),
                '\\' | '*' | '_' | '[' | ']' | '#' | '~' | '{' | '}' if at % 2 == 0 || !whole => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
    }
    out
}

/// Text as a block, fenced by more backticks than it holds.
pub(super) fn quoted(text: &str) -> String {
    let text = mask_text(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("\n{fence}text\n{text}\n{fence}\n")
}
