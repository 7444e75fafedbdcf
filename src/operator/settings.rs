//! The settings in force, for people to read.

use std::fmt::Display;

/// The settings of one table of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// The table, such as `[spool]` or `[[server]] notifications`.
    pub(crate) title: String,
    /// The keys with their values, without secrets.
    pub(crate) rows: Vec<(&'static str, String)>,
}

impl Section {
    /// Creates a section without settings.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a key and its value.
    pub(crate) fn add(&mut self, key: &'static str, value: impl Display) {
        self.rows.push((key, value.to_string()));
    }

    /// Adds a key that may have no value; `none` says what that means.
    pub(crate) fn add_or(&mut self, key: &'static str, value: Option<impl Display>, none: &str) {
        let value = value.map(|value| value.to_string());
        self.rows
            .push((key, value.unwrap_or_else(|| none.to_owned())));
    }
}
