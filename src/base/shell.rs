//! Command lines as a shell reads them.

/// The words of a command, as a shell parts them.
#[must_use]
pub fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ' | '\t' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_and_backslashes_keep_a_word_together() {
        assert_eq!(
            words("-c  config_file='/etc/a b/c' --x=\"y\\\"z\" ''"),
            ["-c", "config_file=/etc/a b/c", "--x=y\"z", ""]
        );
        assert_eq!(words(""), Vec::<String>::new());
    }
}
