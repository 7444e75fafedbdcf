//! The problems of a configuration, each with its remedy.

use std::ops::Range;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line number, starting at 1.
    pub line: usize,
    /// The key, with its table.
    pub key: String,
    /// The problem, and how to fix it.
    pub text: String,
}

/// The reason why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The reason, and the remedy.
        reason: String,
    },
    /// The file has problems.
    #[error("{}", shown(path, problems))]
    Wrong {
        /// The file.
        path: String,
        /// All problems that were found.
        problems: Vec<Problem>,
    },
}

fn shown(path: &str, problems: &[Problem]) -> String {
    let line = |p: &Problem| format!("{path}:{}: {}: {}", p.line, p.key, p.text);
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the line number of a position in the text. The first line has the number 1.
pub(crate) fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text[..span.start.min(text.len())].matches('\n').count()
}

/// Turns an error of the TOML reader into a problem. The key is taken from the error's line.
pub(crate) fn of_toml(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let line = line_of(text, &span);
    let content = text.lines().nth(line - 1).unwrap_or_default();
    let key = content.split('=').next().unwrap_or_default().trim();
    let above = text.lines().take(line - 1);
    let table = above.filter(|line| line.starts_with('[')).last();
    let is_in_table = !content.starts_with('[');
    Problem {
        line,
        key: match table.filter(|_| is_in_table) {
            Some(table) => format!("{} {key}", table.trim()),
            None => key.to_owned(),
        },
        text: if is_single(content, error.message()) {
            format!(
                "this table may occur several times; write [{}]",
                content.trim()
            )
        } else {
            with_remedy(error.message())
        },
    }
}

/// True if the file has `[listener]` instead of `[[listener]]`.
fn is_single(content: &str, message: &str) -> bool {
    let is_table = content.starts_with('[') && !content.starts_with("[[");
    is_table && message.contains("map, expected a sequence")
}

/// Translates serde's message for a wrong type, `invalid type: FOUND, expected KIND`, into TOML's words.
fn wrong_kind(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, kind) = rest.rsplit_once(", expected ")?;
    let found = match found {
        "sequence" => "a list",
        "map" => "a table",
        found => found,
    };
    let kind = match kind {
        "u64" | "u32" | "usize" => "a whole number",
        "u16" => "a whole number from 0 to 65535",
        "socket address" => {
            "an IP address and a port in quotes, such as \"127.0.0.1:2525\" or \"[::]:25\""
        }
        "a string" => "text in quotes, such as \"one\" or \"one, two\"",
        "a sequence" => "a list, such as [\"one\", \"two\"]",
        kind => kind,
    };
    Some(format!("this is {found}; write {kind}"))
}

/// The similarity of two names (Jaro-Winkler, 0 to 1) from which on one is probably a misspelling of the other.
const SIMILAR: f64 = 0.85;

/// Returns the name that was probably meant by `written`: the most similar of the names between backticks in
/// `expected`, if it is similar enough.
fn nearest<'e>(written: &str, expected: &'e str) -> Option<&'e str> {
    let written = written.trim_matches('`').replace('-', "_").to_lowercase();
    let names = expected.split('`').skip(1).step_by(2);
    let rated = names.map(|name| (strsim::jaro_winkler(&written, name), name));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= SIMILAR).then_some(best.1)
}

fn with_remedy(message: &str) -> String {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (field, expected) = rest.split_once(", ").unwrap_or((rest, ""));
        let expected = expected.replace("expected ", "");
        return match nearest(field, &expected) {
            Some(near) => format!(
                "there is no key {field} here; did you mean `{near}`? Otherwise remove it, or write {expected}"
            ),
            None => format!("there is no key {field} here; remove it, or write {expected}"),
        };
    }
    if message.starts_with("missing field ") {
        return format!("{message}: add it");
    }
    if let Some(message) = wrong_kind(message) {
        return message;
    }
    // Our own messages already say what to write.
    if message.starts_with("invalid value") {
        return message.to_owned();
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (written, expected) = rest.split_once(", ").unwrap_or((rest, ""));
        let near = nearest(written, expected);
        let meant = near.map_or(String::new(), |near| {
            format!("did you mean `{near}`? Otherwise ")
        });
        return format!("{message}; {meant}write one of these");
    }
    if message.starts_with("invalid socket address") {
        return "it must be an IP address and a port, such as \"127.0.0.1:2525\" or \"[::]:25\""
            .into();
    }
    if message.contains("; ") {
        message.to_owned()
    } else {
        format!("{message}; correct the TOML there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_is_recognized_and_a_strange_one_is_not() {
        let expected = "one of `address`, `client_secret`, `from_filter`, `default_from`";
        let near = |written| nearest(written, expected);
        assert_eq!(near("`adress`"), Some("address"));
        assert_eq!(near("`from-filter`"), Some("from_filter"));
        assert_eq!(near("`From_Filtr`"), Some("from_filter"));
        assert_eq!(near("`clientsecret`"), Some("client_secret"));
        assert_eq!(near("`colour`"), None);
        assert_eq!(nearest("`x`", ""), None);
    }
}
