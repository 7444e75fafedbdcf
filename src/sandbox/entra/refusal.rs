//! The fields that an endpoint receives, and its refusals.

use std::collections::HashMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::base::Timestamp;

/// The fields of a form.
pub(super) type Fields = HashMap<String, String>;

/// `error`, the AADSTS number, and the description.
pub(super) type EntraRefusal = (&'static str, u32, &'static str);

pub(super) fn refused((error, code, description): EntraRefusal, now: Timestamp) -> Response {
    let body = json!({
        "error": error, "error_description": description, "error_codes": [code],
        "correlation_id": "00000000-0000-0000-0000-000000000000",
        "timestamp": now.to_string(),
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
