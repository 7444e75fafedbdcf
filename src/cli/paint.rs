//! Colours at a terminal.

use std::io::IsTerminal;

use crate::operator::row::Light;

/// The variable by which people say that they want no colours (no-color.org).
const NO_COLOR: &str = "NO_COLOR";

/// Returns a text in the colour of a state, if standard output is a terminal that may show colours.
pub(super) fn painted(light: Light, text: &str) -> String {
    let refuses = std::env::var_os(NO_COLOR).is_some_and(|value| !value.is_empty());
    if refuses || !std::io::stdout().is_terminal() {
        return text.to_owned();
    }
    let code = match light {
        Light::Green => 32,
        Light::Amber => 33,
        Light::Red => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
