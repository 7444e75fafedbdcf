//! The settings in force, without secrets.

use maud::{Markup, html};

use super::Frame;
use crate::operator::settings::Section;

/// Formats the settings. `file` is the configuration file's path.
pub(in crate::web) fn page(frame: &Frame, file: &str, sections: &[Section]) -> Markup {
    let body = html! {
        p.quiet { "From " code { (file) } ", with the defaults of keys that the file does not contain. Secrets are not shown." }
        @for section in sections {
            article {
                h2 { (section.title) }
                dl.facts { @for (key, value) in &section.rows { dt { (key) } dd { (value) } } }
            }
        }
    };
    frame.page("/settings", "Settings", false, body)
}
