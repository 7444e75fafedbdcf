//! Where log lines go and how they look.

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::maillog;
use super::mask::Masking;
use super::metrics::Counting;

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// How logs look, and what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// How a line looks.
    pub format: Format,
    /// A filter as tracing reads it, such as `info`; the variable `MAILFERRY_LOG` wins over it.
    pub level: String,
    /// Whether mail addresses are made unrecognisable.
    pub mask_addresses: bool,
}

/// Begins to log to standard error. A second call changes nothing.
pub fn start(settings: &Settings) {
    let Settings {
        format,
        level,
        mask_addresses,
    } = settings;
    let filter = EnvFilter::try_from_env("MAILFERRY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let of_maillog = Targets::new().with_target(maillog::TARGET, Level::INFO);
    let registry = tracing_subscriber::registry().with(Counting::begin().with_filter(of_maillog));
    let writer = match mask_addresses {
        true => BoxMakeWriter::new(|| Masking(std::io::stderr())),
        false => BoxMakeWriter::new(std::io::stderr),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Human => lines.with_ansi(false).with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // It only fails where something logs already, which is as good.
    let _ = registry.with(lines).try_init();
}
