//! The log format for people: one line per event. Text values are quoted and escaped, so that programs can
//! parse the line as well, and no value can send control characters to a terminal.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes lines of the form `TIME LEVEL target: message event="..." key="value"`.
pub(super) struct HumanLines;

impl<S, N> FormatEvent<S, N> for HumanLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = LineParts::default();
        event.record(&mut parts);
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        write!(writer, " {:>5} {}:", metadata.level(), metadata.target())?;
        // A message that only repeats the event's name is omitted.
        if parts.message.replace(' ', "_") != parts.event {
            write!(writer, " {}", printable(&parts.message))?;
        }
        writeln!(writer, "{}", parts.fields)
    }
}

#[derive(Default)]
struct LineParts {
    message: String,
    event: String,
    fields: String,
}

impl LineParts {
    fn field(&mut self, field: &Field, value: impl Debug) {
        // Writing to a string does not fail.
        let _ = write!(self.fields, " {}={value:?}", field.name());
    }
}

impl Visit for LineParts {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.event = value.to_owned();
        }
        self.field(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.field(field, text);
        }
    }
}

fn printable(text: &str) -> String {
    let quoted = format!("{text:?}");
    quoted[1..quoted.len() - 1].replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_value_is_quoted_and_every_event_is_one_line() {
        let kept = Kept::default();
        let out = kept.clone();
        let lines = tracing_subscriber::fmt::layer()
            .event_format(HumanLines)
            .with_writer(move || out.clone());
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "mail", event = "delivered", to = %"a b", n = 5, "delivered");
            tracing::warn!(target: "mail", event = "held", reason = "say \"no\"\n\u{1b}[31m\u{202e}", "set aside");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[28..]).collect();
        assert_eq!(
            lines,
            [
                r#" INFO mail: event="delivered" to="a b" n=5"#,
                r#" WARN mail: set aside event="held" reason="say \"no\"\n\u{1b}[31m\u{202e}""#,
            ]
        );
    }
}
