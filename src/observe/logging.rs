//! The destination and the format of log lines.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::format::HumanLines;
use super::maillog;
use super::mask::Masking;
use super::metrics::Counting;
use super::writer::Buffered;

/// The format of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// The table `[log]` of the configuration: the format and the level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogSettings {
    /// The format of a line.
    pub format: Format,
    /// A filter in tracing's syntax, such as `info`; the environment variable `MAILFERRY_LOG` overrides this
    /// filter.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: Format::Human,
            level: "info".into(),
        }
    }
}

/// The settings of the table `[privacy]` that concern logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogPrivacy {
    /// True if mail addresses are made unrecognisable.
    pub mask_addresses: bool,
}

static LOG: OnceLock<Buffered> = OnceLock::new();

/// Writes all lines that were logged so far. Call this before the program ends.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}

/// Starts logging to standard error. A second call changes nothing.
pub(crate) fn start(LogSettings { format, level }: &LogSettings, privacy: &LogPrivacy) {
    let filter = filter(std::env::var("MAILFERRY_LOG").ok().as_deref(), level);
    let of_maillog = Targets::new().with_target(maillog::TARGET, Level::INFO);
    let registry = tracing_subscriber::registry().with(Counting.with_filter(of_maillog));
    let masked = privacy.mask_addresses;
    let begun = if masked {
        Buffered::new(Masking(std::io::stderr()))
    } else {
        Buffered::new(std::io::stderr())
    };
    let writer = match begun {
        Ok(log) => BoxMakeWriter::new(LOG.get_or_init(|| log).clone()),
        // If the thread cannot be started, each line is written immediately.
        Err(_) if masked => BoxMakeWriter::new(|| Masking(std::io::stderr())),
        Err(_) => BoxMakeWriter::new(std::io::stderr),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Human => lines.event_format(HumanLines).with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // This fails only if a logger is already set. Then that logger stays in use.
    let _ = registry.with(lines).try_init();
}

/// Parses levels in tracing's syntax, such as `info` or `info,mail=debug`. Returns `None` if the text is
/// invalid.
pub(crate) fn levels(text: &str) -> Option<Targets> {
    // tracing itself would take a misspelt level for the name of a target.
    let words = text.split(',').filter(|part| !part.contains('='));
    let mut words = words.map(|word| word.trim().parse::<LevelFilter>());
    let read = text.parse().ok();
    read.filter(|_| words.all(|level| level.is_ok()))
}

/// Returns the levels to write: from the variable if it is valid, else from the setting if it is valid, else
/// `info`.
fn filter(variable: Option<&str>, setting: &str) -> Targets {
    let mut wanted = variable.into_iter().chain([setting]);
    let parsed = wanted.find_map(levels);
    let levels = parsed.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    // We say ourselves that the database does not answer, and only once.
    match levels.iter().any(|(target, _)| target == POOL) {
        true => levels,
        false => levels.with_target(POOL, LevelFilter::OFF),
    }
}

/// The target of the database's pool, whose lines are written only if somebody asks for them.
const POOL: &str = "deadpool.postgres";
