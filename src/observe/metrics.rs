//! Counters of what happens, and measurements of the present state, as OpenMetrics or in Prometheus' own text
//! format. The counters are made from the lines of the mail log, whether or not they are written.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::routing::lane;

/// Names of labels with their values.
type Labels = Vec<(&'static str, String)>;

/// Upper bounds (seconds) for the time between acceptance and delivery: from "at once" over the retries of the
/// default back-off to a day.
const DELAYS: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// The number of messages, attempts and recipients for which something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Messages that were accepted.
    pub accepted: u64,
    /// Deliveries to a server, one for each message and attempt that succeeded.
    pub delivered: u64,
    /// Attempts that failed temporarily; the message will be retried.
    pub deferred: u64,
    /// Recipients for whom a message failed.
    pub failed: u64,
    /// Recipients for whom a message bounced.
    pub bounced: u64,
}

impl Totals {
    /// Adds other totals.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.deferred += other.deferred;
        self.failed += other.failed;
        self.bounced += other.bounced;
    }

    /// Returns the difference to earlier totals.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            deferred: self.deferred.saturating_sub(earlier.deferred),
            failed: self.failed.saturating_sub(earlier.failed),
            bounced: self.bounced.saturating_sub(earlier.bounced),
        }
    }
}

/// The counters of this process.
#[derive(Default)]
struct Counters {
    registry: Registry,
    events: Family<Labels, Counter>,
    accepted: Family<Labels, Counter>,
    delivered: Family<Labels, Counter>,
    deferred: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    bounced: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    delay: Delays,
    totals: AtomicTotals,
}

#[derive(Clone)]
struct Delays(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for Delays {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(DELAYS)))
    }
}

#[derive(Default)]
struct AtomicTotals {
    accepted: AtomicU64,
    delivered: AtomicU64,
    deferred: AtomicU64,
    failed: AtomicU64,
    bounced: AtomicU64,
}

static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let mut counters = Counters::default();
    let mut registry = Registry::with_prefix("mailferry");
    let families = [
        ("events", "lines of the mail log", &counters.events),
        (
            "messages_accepted",
            "messages that were accepted from apps",
            &counters.accepted,
        ),
        (
            "messages_delivered",
            "deliveries to a server, one for each message and attempt that succeeded",
            &counters.delivered,
        ),
        (
            "messages_deferred",
            "attempts that failed temporarily",
            &counters.deferred,
        ),
        (
            "recipients_failed",
            "recipients for whom a message failed",
            &counters.failed,
        ),
        (
            "recipients_bounced",
            "recipients for whom a message bounced after a server had accepted it",
            &counters.bounced,
        ),
        (
            "messages_refused",
            "messages and commands that were refused to apps",
            &counters.refused,
        ),
        (
            "upstream_errors",
            "errors of servers; the class is throttled, slowed, held, temporary or permanent",
            &counters.errors,
        ),
    ];
    for (name, help, family) in families {
        registry.register(name, help, family.clone());
    }
    registry.register(
        "delivery_delay_seconds",
        "time from acceptance to delivery",
        counters.delay.0.clone(),
    );
    counters.registry = registry;
    counters
});

/// The counters of one event at one server, so that a lookup need not create labels.
struct Counted {
    counters: Vec<Counter>,
    total: Option<&'static AtomicU64>,
    delay: Option<Histogram>,
}

/// The counters by the text of [`CountKey`].
static COUNTED: LazyLock<DashMap<String, Counted>> = LazyLock::new(DashMap::new);

/// Returns the totals since the program started.
pub(crate) fn totals() -> Totals {
    let AtomicTotals {
        accepted,
        delivered,
        deferred,
        failed,
        bounced,
    } = &COUNTERS.totals;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Totals {
        accepted: read(accepted),
        delivered: read(delivered),
        deferred: read(deferred),
        failed: read(failed),
        bounced: read(bounced),
    }
}

/// The events of a server that are counted from zero, so that Prometheus sees the first one as an increase.
const OF_SERVER: [&str; 8] = [
    "accepted",
    "delivered",
    "deferred",
    "failed",
    "bounced",
    "server_crowded",
    "server_slowed",
    "server_held",
];

/// Shows the counters of a server, even if nothing was counted yet.
pub(crate) fn show_server(server: &str) {
    for event in OF_SERVER {
        let key = format!("{event}{server}");
        COUNTED
            .entry(key)
            .or_insert_with(|| Counted::of(event, server));
    }
}

impl Counted {
    /// Returns the counters of an event; `server` is empty if the event concerns no server.
    fn of(event: &str, server: &str) -> Self {
        let all = &*COUNTERS;
        let by_server = vec![("server", server.to_owned())];
        let of = |family: &Family<Labels, Counter>| family.get_or_create_owned(&by_server);
        let error = |class: &str| {
            let labels = vec![("server", server.to_owned()), ("class", class.to_owned())];
            all.errors.get_or_create_owned(&labels)
        };
        let labels = vec![("event", event.to_owned()), ("server", server.to_owned())];
        let mut counters = vec![all.events.get_or_create_owned(&labels)];
        let (mut total, mut delay) = (None, None);
        match event {
            "accepted" => {
                counters.push(of(&all.accepted));
                total = Some(&all.totals.accepted);
            }
            "delivered" => {
                counters.push(of(&all.delivered));
                delay = Some(all.delay.0.get_or_create_owned(&by_server));
                total = Some(&all.totals.delivered);
            }
            "deferred" => {
                counters.extend([of(&all.deferred), error("temporary")]);
                total = Some(&all.totals.deferred);
            }
            "failed" => {
                counters.extend([of(&all.failed), error("permanent")]);
                total = Some(&all.totals.failed);
            }
            "bounced" => {
                counters.push(of(&all.bounced));
                total = Some(&all.totals.bounced);
            }
            "refused" => counters.push(all.refused.get_or_create_owned(&Vec::new())),
            "server_crowded" | "external_held" => counters.push(error("throttled")),
            "server_slowed" => counters.push(error("slowed")),
            "server_held" => counters.push(error("held")),
            _ => {}
        }
        Self {
            counters,
            total,
            delay,
        }
    }

    fn count(&self, seconds: f64) {
        self.counters.iter().for_each(|counter| {
            counter.inc();
        });
        if let Some(total) = self.total {
            total.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(delay) = &self.delay {
            delay.observe(seconds);
        }
    }
}

/// Counts the mail log's events, whether or not they are written.
#[derive(Default)]
pub(super) struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static SEEN: RefCell<CountKey> = RefCell::default();
        }
        SEEN.with_borrow_mut(|seen| {
            seen.key.clear();
            (seen.event, seen.seconds) = (0, 0.0);
            event.record(seen);
            seen.count();
        });
    }
}

/// The key of one count: the event, then the server, which is empty if the event concerns no server.
#[derive(Default)]
struct CountKey {
    key: String,
    /// The position at which the event ends in the key.
    event: usize,
    /// The time that the event's message took.
    seconds: f64,
}

impl CountKey {
    fn count(&self) {
        if let Some(counted) = COUNTED.get(&self.key) {
            return counted.count(self.seconds);
        }
        let (event, server) = self.key.split_at(self.event);
        let counted = Counted::of(event, server);
        counted.count(self.seconds);
        COUNTED.insert(self.key.clone(), counted);
    }
}

impl Visit for CountKey {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => {
                self.key.insert_str(0, value);
                self.event = value.len();
            }
            // A label for each mailbox would make too many time series.
            "server" => self.key.push_str(lane::server(value)),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "seconds" {
            self.seconds = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// A measurement of the present state: a name, its meaning, and the value for each combination of labels.
pub(crate) struct Measured {
    /// The name in Prometheus' style, without the prefix `mailferry_`, with the unit last.
    pub name: &'static str,
    /// The meaning in words.
    pub help: &'static str,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The measured values, with the values of the labels.
    pub values: Vec<(Vec<String>, f64)>,
}

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own text format 0.0.4.
    Prometheus,
}

impl MetricsFormat {
    /// Chooses the format by the value of a request's field Accept.
    pub(crate) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns the value of a response's field Content-Type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes all counters and measurements as text.
pub(crate) fn render(measured: Vec<Measured>, format: MetricsFormat) -> String {
    // Each call uses a new registry, so that outdated values do not remain.
    let mut registry = Registry::with_prefix("mailferry");
    for Measured {
        name,
        help,
        labels,
        values,
    } in measured
    {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (of, value) in values {
            let labels = labels.iter().copied().zip(of).collect();
            family.get_or_create(&labels).set(value);
        }
        registry.register(name, help, family);
    }
    let mut written = String::new();
    let counters = &COUNTERS.registry;
    let done = match format {
        MetricsFormat::OpenMetrics => text::encode_registry(&mut written, counters)
            .and_then(|()| text::encode_registry(&mut written, &registry))
            .and_then(|()| text::encode_eof(&mut written)),
        MetricsFormat::Prometheus => prometheus_text::encode(&mut written, counters)
            .and_then(|()| prometheus_text::encode(&mut written, &registry)),
    };
    done.expect("a String takes any text");
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_have_their_own_end_and_type() {
        let measured = || {
            vec![Measured {
                name: "server_held",
                help: "1 if it is not used for now",
                labels: &["server"],
                values: vec![(vec!["a\"b".into()], 1.0), (vec!["c".into()], 0.0)],
            }]
        };
        let text = render(measured(), MetricsFormat::Prometheus);
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
        assert!(!text.contains("# EOF"), "{text}");
        let text = render(measured(), MetricsFormat::OpenMetrics);
        assert!(text.ends_with("# EOF\n"), "{text}");
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(MetricsFormat::accepted(accept), MetricsFormat::OpenMetrics);
        assert_eq!(MetricsFormat::accepted("*/*"), MetricsFormat::Prometheus);
    }

    #[test]
    fn an_event_is_counted_by_server_and_class() {
        let before = totals();
        Counted::of("failed", "metrics-test").count(0.0);
        Counted::of("delivered", "metrics-test").count(0.7);
        let text = render(Vec::new(), MetricsFormat::Prometheus);
        for line in [
            "mailferry_recipients_failed_total{server=\"metrics-test\"} 1",
            "mailferry_upstream_errors_total{server=\"metrics-test\",class=\"permanent\"} 1",
            "mailferry_delivery_delay_seconds_bucket{server=\"metrics-test\",le=\"1\"} 1",
            "mailferry_delivery_delay_seconds_bucket{server=\"metrics-test\",le=\"0.5\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let new = totals().since(&before);
        assert!(new.failed >= 1 && new.delivered >= 1);
    }
}
