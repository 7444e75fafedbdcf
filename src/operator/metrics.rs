//! Metrics of servers and app registrations, measured when somebody asks for them.

use super::ask::Operator;
use super::local::Local;
use super::request::Request;
use super::row::{Light, TokenRow};
use crate::base::Timestamp;
use crate::observe::metrics::{Measured, render};
use crate::spool::Count;

/// Returns the text for Prometheus.
fn text(rows: &[TokenRow], counts: &[Count], now: Timestamp) -> String {
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
    render(vec![
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
    ])
}

/// Returns the text for Prometheus, with the present state. A value that is not available now is omitted.
pub(crate) async fn metrics(operator: &Local) -> String {
    let counts = match operator.spool() {
        Ok(spool) => spool.counts().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let operator: &dyn Operator = operator;
    let rows: Vec<TokenRow> = operator.ask(Request::Tokens).await.unwrap_or_default();
    text(&rows, &counts, Timestamp::now())
}
