//! Responses for programs: metrics, health, and the page's own files.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};

use super::access::host;
use super::page;
use super::parts::PageParts;
use crate::operator::metrics;

/// Serves the metrics, but not under the page's name from outside.
pub(super) async fn measured(State(parts): State<Arc<PageParts>>, headers: HeaderMap) -> Response {
    if host(&headers).is_some_and(|host| parts.is_own_host(host)) {
        metrics(&parts.operator, &headers).await.into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// Says that the program is running.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Says whether the program should get mail now, for a load balancer or an orchestrator. The reasons are in the
/// body, but not under the page's name from outside.
pub(super) async fn ready(State(parts): State<Arc<PageParts>>, headers: HeaderMap) -> Response {
    let reasons = match parts.operator.status().await {
        Ok(status) => status.not_ready(),
        Err(error) => vec![error.text],
    };
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    let is_own = host(&headers).is_some_and(|host| parts.is_own_host(host));
    let shown = if is_own {
        reasons.join("\n") + "\n"
    } else {
        "not ready\n".to_owned()
    };
    (StatusCode::SERVICE_UNAVAILABLE, shown).into_response()
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], page::STYLE).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript")], page::SCRIPT).into_response()
}
