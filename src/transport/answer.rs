//! An upstream's reply. Pure.

use std::borrow::Cow;

/// An upstream's reply: code, enhanced code, text. Lines of the text are separated by `\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The three digits of RFC 5321 §4.2.
    pub code: u16,
    /// The enhanced code (RFC 3463), empty if the reply has none.
    pub enhanced: Cow<'static, str>,
    /// The text.
    pub text: Cow<'static, str>,
}

impl Answer {
    /// Creates a reply with this code, enhanced code and text.
    pub fn new(
        code: u16,
        enhanced: impl Into<Cow<'static, str>>,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            enhanced: enhanced.into(),
            text: text.into(),
        }
    }

    /// True if this is a positive completion reply, 2yz (RFC 5321 §4.2.1): the command has succeeded.
    pub fn is_completion(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// True if this is a transient negative reply, 4yz.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.enhanced.is_empty() {
            write!(f, " {}", self.enhanced)?;
        }
        write!(f, " {}", self.text.replace('\n', " "))
    }
}
