//! Colours of a terminal, or none.

/// What a piece of text means, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// In order.
    Good,
    /// Went wrong.
    Bad,
    /// Worth a look.
    Warn,
    /// Goes on now.
    Active,
    /// Less important.
    Quiet,
    /// More important.
    Strong,
    /// A banner that cannot be overlooked: a drill, a protected environment.
    Banner,
}

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Palette {
    /// No colour: not a terminal, or `NO_COLOR`.
    #[default]
    Plain,
    /// The sixteen colours that follow the terminal's own theme.
    Ansi,
}

impl Palette {
    /// Gives the text in the colour of its tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Warn => "33",
            Tone::Active => "36",
            Tone::Quiet => "2",
            Tone::Strong => "1",
            Tone::Banner => "1;7",
        };
        match self {
            Self::Ansi if !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Ansi | Self::Plain => text.to_owned(),
        }
    }
}
