//! Metrics of the present state, measured when somebody asks for them.

use std::collections::BTreeMap;

use axum::http::header::{self, HeaderMap};
use axum::response::IntoResponse;

use super::ask::Operator;
use super::local::Local;
use super::request::Request;
use super::row::{Light, TokenRow};
use super::status::Status;
use crate::base::Timestamp;
use crate::observe::metrics::{Measured, MetricsFormat, render};
use crate::routing::lane;
use crate::spool::{Count, SpoolMeasures, State};

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1_000.0
}

/// Makes a measurement without labels.
fn single(name: &'static str, help: &'static str, value: Option<f64>) -> Measured {
    Measured {
        name,
        help,
        labels: &[],
        values: value.map(|value| (Vec::new(), value)).into_iter().collect(),
    }
}

/// Makes a measurement with one label.
fn labelled(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    values: impl Iterator<Item = (String, f64)>,
) -> Measured {
    let values = values.map(|(label, value)| (vec![label], value)).collect();
    Measured {
        name,
        help,
        labels,
        values,
    }
}

const SERVER: &[&str] = &["server"];

/// Returns the measurements of the whole program.
fn of_status(status: &Status, operator: &Local) -> Vec<Measured> {
    let about = &status.about;
    let oldest = status.oldest.map(|at| status.now.since(at).as_secs_f64());
    let states = || {
        status
            .servers
            .iter()
            .filter_map(|server| server.delivery.as_ref())
    };
    let sessions = about.listeners.iter().map(|listener| {
        let labels = vec![listener.name.clone(), listener.protocol.clone()];
        (labels, operator.sessions_at(&listener.name) as f64)
    });
    let has_room = f64::from(u8::from(status.takes_messages));
    vec![
        labelled(
            "build_info",
            "1; the label is the version",
            &["version"],
            [(about.version.clone(), 1.0)].into_iter(),
        ),
        Measured {
            name: "alert_active",
            help: "1 for each active alert",
            labels: &["kind", "subject"],
            values: status
                .alerts
                .iter()
                .map(|alert| (vec![alert.kind.clone(), alert.subject.clone()], 1.0))
                .collect(),
        },
        single(
            "start_time_seconds",
            "when the program started",
            Some(seconds(about.since)),
        ),
        Measured {
            name: "sessions",
            help: "sessions with apps",
            labels: &["listener", "protocol"],
            values: sessions.collect(),
        },
        single(
            "queue_oldest_age_seconds",
            "how long the oldest message of the queue has waited; 0 if the queue is empty",
            Some(oldest.unwrap_or_default()),
        ),
        single(
            "spool_has_room",
            "1 if another message can be accepted; 0 if the disk is full",
            Some(has_room),
        ),
        single(
            "spool_bytes",
            "octets that the spool takes on the disk",
            Some(status.spool_used as f64),
        ),
        single(
            "spool_disk_free_bytes",
            "octets that are free on the spool's disk",
            status.disk_free.map(|free| free as f64),
        ),
        labelled(
            "recipients_of_day",
            "recipients of the server's mailbox in the last 24 hours",
            SERVER,
            states().map(|state| (state.name.clone(), state.recipients_of_day as f64)),
        ),
        labelled(
            "recipients_of_day_limit",
            "the limit on the recipients of a day; absent if there is none",
            SERVER,
            states().filter_map(|state| Some((state.name.clone(), state.limits.per_day? as f64))),
        ),
        labelled(
            "messages_per_minute_limit",
            "the limit on the messages of a minute; absent if there is none",
            SERVER,
            states()
                .filter_map(|state| Some((state.name.clone(), state.limits.per_minute? as f64))),
        ),
        labelled(
            "messages_per_minute_used_up",
            "1 while the limit on the messages of a minute is used up",
            SERVER,
            states().map(|state| {
                (
                    state.name.clone(),
                    f64::from(u8::from(state.minute_until.is_some())),
                )
            }),
        ),
    ]
}

/// Returns the measurements of the spool by server and state. A server without messages has zeros.
fn of_spool(
    measures: &SpoolMeasures,
    counts: &[Count],
    rows: &[TokenRow],
    now: Timestamp,
) -> Vec<Measured> {
    let mut oldest: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for (name, state, at) in &measures.oldest {
        let state = match state {
            State::Queued => "queued",
            State::Held => "held",
        };
        let labels = vec![lane::server(name).to_owned(), state.to_owned()];
        let age = oldest.entry(labels).or_default();
        *age = age.max(now.since(*at).as_secs_f64());
    }
    let none = rows.iter().map(|row| (row.server.clone(), 0.0));
    let by_server = |of: fn(&Count) -> usize| {
        let mut sums: BTreeMap<String, f64> = none.clone().collect();
        for count in counts {
            *sums
                .entry(lane::server(&count.server).to_owned())
                .or_default() += of(count) as f64;
        }
        sums.into_iter()
    };
    vec![
        Measured {
            name: "messages_oldest_age_seconds",
            help: "how long the oldest message of a server has waited, by state; up to 30 seconds out of date",
            labels: &["server", "state"],
            values: oldest.into_iter().collect(),
        },
        labelled(
            "messages_queued",
            "messages waiting for their next attempt or being sent; the label server is empty for messages that will be routed again",
            SERVER,
            by_server(|count| count.queued),
        ),
        labelled(
            "messages_held",
            "messages held until a person acts",
            SERVER,
            by_server(|count| count.held),
        ),
    ]
}

/// Returns the measurements of servers and app registrations.
fn of_rows(rows: &[TokenRow], now: Timestamp) -> Vec<Measured> {
    let is_held = |row: &TokenRow| f64::from(u8::from(row.held.is_some()));
    let needs_sign_in = |row: &TokenRow| f64::from(u8::from(row.needs_sign_in(now)));
    let light = |row: &TokenRow| match row.glance(now).0 {
        Light::Green => 2.0,
        Light::Amber => 1.0,
        Light::Red => 0.0,
    };
    let credential = |row: &TokenRow| Some((row.oauth.clone()?, seconds(row.credential_expires?)));
    let mut credentials: Vec<(String, f64)> = rows.iter().filter_map(credential).collect();
    credentials.dedup();
    let by_server = |name, help, value: &dyn Fn(&TokenRow) -> f64| {
        labelled(
            name,
            help,
            SERVER,
            rows.iter().map(|row| (row.server.clone(), value(row))),
        )
    };
    vec![
        labelled(
            "credential_expiry_timestamp_seconds",
            "when the client secret or certificate of an app registration expires",
            &["oauth"],
            credentials.into_iter(),
        ),
        labelled(
            "token_expiry_timestamp_seconds",
            "when the present access token expires",
            SERVER,
            rows.iter()
                .filter_map(|row| Some((row.server.clone(), seconds(row.expires?)))),
        ),
        by_server(
            "token_state",
            "2 green: all is well; 1 amber: look at it; 0 red: nothing can be sent",
            &light,
        ),
        by_server(
            "token_needs_sign_in",
            "1 if a person has to sign in",
            &needs_sign_in,
        ),
        by_server(
            "server_held",
            "1 if the server is held and not used for now",
            &is_held,
        ),
    ]
}

/// Returns the response to a request for the metrics.
pub(crate) async fn metrics(operator: &Local, headers: &HeaderMap) -> impl IntoResponse + use<> {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = MetricsFormat::accepted(accept.unwrap_or_default());
    let text = text(operator, format).await;
    ([(header::CONTENT_TYPE, format.content_type())], text)
}

/// Returns all metrics as text. A value that is not available now is omitted.
async fn text(operator: &Local, format: MetricsFormat) -> String {
    let now = Timestamp::now();
    let asked: &dyn Operator = operator;
    let rows: Vec<TokenRow> = asked.ask(Request::Tokens).await.unwrap_or_default();
    let mut measured = of_rows(&rows, now);
    if let Ok(spool) = operator.spool()
        && let (Ok(counts), Ok(measures)) = (spool.counts().await, spool.measures().await)
    {
        measured.extend(of_spool(&measures, &counts, &rows, now));
    }
    if let Ok(status) = operator.status().await {
        measured.extend(of_status(&status, operator));
    }
    render(measured, format)
}
