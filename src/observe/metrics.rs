//! Counters and measurements in Prometheus' text format: the mail log's events as they happen, and the
//! state at the moment of the request.

use std::cell::RefCell;
use std::sync::{LazyLock, OnceLock};

use dashmap::DashMap;
use metrics::{Counter, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The metric with the number of mail log lines since the program started, by event and server.
const EVENTS: &str = "mailferry_events_total";

static COUNTED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Counts the mail log's events, whether or not they are written.
#[derive(Default)]
pub(super) struct Counting;

impl Counting {
    /// Starts counting. The process has a single set of counters, however often this is called.
    pub(super) fn begin() -> Self {
        COUNTED.get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // This fails if another recorder is already set. Then that recorder counts the events.
            let _ = metrics::set_global_recorder(recorder);
            metrics::describe_counter!(EVENTS, "lines of the mail log");
            handle
        });
        Self
    }
}

/// The counters, stored by the text of [`CountKey`], so that a lookup need not create labels.
static COUNTERS: LazyLock<DashMap<String, Counter>> = LazyLock::new(DashMap::new);

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static SEEN: RefCell<CountKey> = RefCell::default();
        }
        SEEN.with_borrow_mut(|seen| {
            seen.key.clear();
            seen.event = 0;
            event.record(seen);
            seen.count();
        });
    }
}

/// Returns the number of events of a kind since the program started, of all servers.
pub(crate) fn counted(event: &str) -> u64 {
    let text = COUNTED.get().map(PrometheusHandle::render);
    let start = format!("{EVENTS}{{event=\"{event}\",");
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with(&start));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// The key of one count: the event, then the server, which is empty if the event concerns no server.
#[derive(Default)]
struct CountKey {
    key: String,
    /// The position at which the event ends in the key.
    event: usize,
}

impl CountKey {
    fn count(&self) {
        if let Some(counter) = COUNTERS.get(&self.key) {
            return counter.increment(1);
        }
        let (event, server) = self.key.split_at(self.event);
        let (event, server) = (event.to_owned(), server.to_owned());
        let counter = metrics::counter!(EVENTS, "event" => event, "server" => server);
        counter.increment(1);
        COUNTERS.insert(self.key.clone(), counter);
    }
}

impl Visit for CountKey {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => {
                self.key.insert_str(0, value);
                self.event = value.len();
            }
            "server" => self.key.push_str(value),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// A measurement of the present state: a name, its meaning, and the value for each label.
pub(crate) struct Measured {
    /// The name in Prometheus' style, with the unit last.
    pub name: &'static str,
    /// The meaning in words.
    pub help: &'static str,
    /// The label that distinguishes the values; empty if there is only one value.
    pub label: &'static str,
    /// The measured value for each value of the label.
    pub values: Vec<(String, f64)>,
}

/// Writes all counters and measurements as text.
pub(crate) fn render(measured: Vec<Measured>) -> String {
    // Each call uses a new recorder, so that outdated values do not remain.
    let recorder = PrometheusBuilder::new().build_recorder();
    measured.iter().for_each(|it| measure(&recorder, it));
    let counted = COUNTED.get().map(PrometheusHandle::render);
    counted.unwrap_or_default() + &recorder.handle().render()
}

fn measure(recorder: &PrometheusRecorder, measured: &Measured) {
    let name = KeyName::from(measured.name);
    recorder.describe_gauge(name, None::<Unit>, SharedString::from(measured.help));
    let metadata = Metadata::new(module_path!(), Level::INFO, None);
    for (label, value) in &measured.values {
        let labels = match measured.label {
            "" => Vec::new(),
            name => vec![Label::new(name, label.clone())],
        };
        let key = Key::from_parts(measured.name, labels);
        recorder.register_gauge(&key, &metadata).set(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_prometheus_reads() {
        let text = render(vec![Measured {
            name: "mailferry_server_held",
            help: "1 where it is not used for now",
            label: "server",
            values: vec![("a\"b".into(), 1.0), ("c".into(), 0.0)],
        }]);
        assert!(
            text.contains("# TYPE mailferry_server_held gauge"),
            "{text}"
        );
        assert!(
            text.contains("mailferry_server_held{server=\"a\\\"b\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("mailferry_server_held{server=\"c\"} 0"),
            "{text}"
        );
    }
}
