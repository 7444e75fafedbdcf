//! Metrics of servers and app registrations, measured when somebody asks for them.

use super::ask::Operator;
use super::local::Local;
use super::request::Request;
use super::row::{Light, TokenRow};
use super::status::Status;
use crate::base::Timestamp;
use crate::observe::metrics::{Measured, render};
use crate::spool::Count;

/// Measurements of the whole program. A label without a name belongs to a value that needs none.
fn of_status(status: &Status) -> Vec<Measured> {
    let seconds = |at: Timestamp| at.0 as f64 / 1_000.0;
    let alone = |value: f64| vec![(String::new(), value)];
    let oldest = status.oldest.map(|at| status.now.since(at).as_secs_f64());
    let states = || {
        status
            .servers
            .iter()
            .filter_map(|server| server.delivery.as_ref())
    };
    let recipients = states().map(|state| (state.name.clone(), state.recipients_of_day as f64));
    let limits =
        states().filter_map(|state| Some((state.name.clone(), state.limits.per_day? as f64)));
    vec![
        Measured {
            name: "mailferry_build_info",
            help: "1; the label is the version",
            label: "version",
            values: vec![(status.about.version.clone(), 1.0)],
        },
        Measured {
            name: "mailferry_start_time_seconds",
            help: "when the program started",
            label: "",
            values: alone(seconds(status.about.since)),
        },
        Measured {
            name: "mailferry_queue_oldest_age_seconds",
            help: "how long the oldest message of the queue has waited; 0 if the queue is empty",
            label: "",
            values: alone(oldest.unwrap_or_default()),
        },
        Measured {
            name: "mailferry_spool_has_room",
            help: "1 if another message can be accepted; 0 if the disk is full",
            label: "",
            values: alone(f64::from(u8::from(status.takes_messages))),
        },
        Measured {
            name: "mailferry_recipients_of_day",
            help: "recipients of the server's mailbox in the last 24 hours",
            label: "server",
            values: recipients.collect(),
        },
        Measured {
            name: "mailferry_recipients_of_day_limit",
            help: "the limit on them; absent if there is none",
            label: "server",
            values: limits.collect(),
        },
    ]
}

/// Returns the measurements of servers and app registrations.
fn of_rows(rows: &[TokenRow], counts: &[Count], now: Timestamp) -> Vec<Measured> {
    let messages = |of: fn(&Count) -> usize| {
        let values = counts.iter();
        values
            .map(|count| (count.server.clone(), of(count) as f64))
            .collect()
    };
    let seconds = |at: Timestamp| at.0 as f64 / 1_000.0;
    let server = |row: &TokenRow| row.server.clone();
    let is_held = |row: &TokenRow| f64::from(u8::from(row.held.is_some()));
    let light = |row: &TokenRow| match row.glance(now).0 {
        Light::Green => 2.0,
        Light::Amber => 1.0,
        Light::Red => 0.0,
    };
    let mut credentials: Vec<(String, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.oauth.clone()?, seconds(row.credential_expires?))))
        .collect();
    credentials.dedup();
    vec![
        Measured {
            name: "mailferry_credential_expiry_timestamp_seconds",
            help: "when the client secret or certificate of an app registration expires",
            label: "oauth",
            values: credentials,
        },
        Measured {
            name: "mailferry_token_expiry_timestamp_seconds",
            help: "when the present access token expires",
            label: "server",
            values: rows
                .iter()
                .filter_map(|row| Some((server(row), seconds(row.expires?))))
                .collect(),
        },
        Measured {
            name: "mailferry_token_state",
            help: "2 green: all is well; 1 amber: look at it; 0 red: nothing can be sent",
            label: "server",
            values: rows.iter().map(|row| (server(row), light(row))).collect(),
        },
        Measured {
            name: "mailferry_messages_queued",
            help: "messages waiting for their next attempt or being sent; the label server is empty for messages that will be routed again",
            label: "server",
            values: messages(|count| count.queued),
        },
        Measured {
            name: "mailferry_messages_held",
            help: "messages held until a person acts",
            label: "server",
            values: messages(|count| count.held),
        },
        Measured {
            name: "mailferry_server_held",
            help: "1 if the server is held and not used for now",
            label: "server",
            values: rows.iter().map(|row| (server(row), is_held(row))).collect(),
        },
    ]
}

/// Returns the text for Prometheus, with the present state. A value that is not available now is omitted.
pub(crate) async fn metrics(operator: &Local) -> String {
    let counts = match operator.spool() {
        Ok(spool) => spool.counts().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let status = operator.status().await.ok();
    let operator: &dyn Operator = operator;
    let rows: Vec<TokenRow> = operator.ask(Request::Tokens).await.unwrap_or_default();
    let mut measured = of_rows(&rows, &counts, Timestamp::now());
    measured.extend(status.iter().flat_map(of_status));
    render(measured)
}
