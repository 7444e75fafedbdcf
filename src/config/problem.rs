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

fn with_remedy(message: &str) -> String {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (field, expected) = rest.split_once(", ").unwrap_or((rest, ""));
        return format!(
            "there is no key {field} here; remove it, or write {}",
            expected.replace("expected ", "")
        );
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
    if message.starts_with("unknown variant") {
        return format!("{message}; write one of these");
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
