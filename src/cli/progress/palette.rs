//! Colours, or none. Pure.

/// What a piece of text says by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Warning,
    Quiet,
    Strong,
}

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Palette {
    /// Paint at all?
    pub(super) color: bool,
}

impl Palette {
    /// `text`, which must be harmless already, in `tone`.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Warning => 33,
            Tone::Quiet => 2,
            Tone::Strong => 1,
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_there_are_no_codes() {
        assert_eq!(Palette { color: false }.paint(Tone::Bad, "x"), "x");
        assert_eq!(Palette { color: true }.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
