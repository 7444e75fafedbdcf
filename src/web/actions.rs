//! The actions of an administrator. Each action leaves a line in the log, with who did it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use tokio::sync::mpsc;

use super::access::OwnForm;
use super::parts::{PageParts, failed, html};
use super::sessions::PageSession;
use super::views::{framed, no_message};
use super::{page, serve};
use crate::base::MessageId;
use crate::message::Address;
use crate::observe::maillog;
use crate::operator::accounts::{SignInAttempt, SignInOptions, SignInProgress, SignInWay};
use crate::operator::{OperatorError, Request as Ask};
use crate::spool::{OperatorAction, Selection};
use crate::transport::Step;

pub(super) async fn connect(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(server): Path<String>,
    _: OwnForm,
) -> Response {
    let wish = SignInOptions {
        way: SignInWay::Usual,
        anybody: false,
    };
    let asked = Ask::Connect {
        server: server.clone(),
        wish,
    };
    let begun: Result<SignInAttempt, OperatorError> = parts.operator().ask(asked).await;
    maillog::page_action(&session.name, "connect", &server);
    match begun {
        Ok(attempt) => {
            let id = attempt.id.clone();
            let mut attempts = parts.attempts();
            attempts.retain(|id, _| matches!(parts.look(id), SignInProgress::Waiting));
            attempts.insert(id.clone(), (server, attempt));
            Redirect::to(&format!("/sign-in/{id}")).into_response()
        }
        Err(error) => failed("Not connected", &error),
    }
}

/// Shows a sign-in while it waits for the person.
pub(super) async fn sign_in(
    State(parts): State<Arc<PageParts>>,
    _: PageSession,
    Path(id): Path<String>,
) -> Response {
    let known = parts.attempts().get(&id).cloned();
    let Some((server, attempt)) = known else {
        return Redirect::to("/servers").into_response();
    };
    match parts.look(&id) {
        SignInProgress::Waiting => html(page::servers::waiting(&server, &attempt)).into_response(),
        SignInProgress::Done(_) => {
            parts.attempts().remove(&id);
            Redirect::to("/servers").into_response()
        }
        SignInProgress::Failed(reason) => {
            parts.attempts().remove(&id);
            html(page::notice("Not connected", &reason)).into_response()
        }
    }
}

/// More than the number of steps of a test, for sending and reading together.
const STEPS: usize = 64;

#[derive(serde::Deserialize)]
pub(super) struct TestForm {
    #[serde(default)]
    to: String,
}

/// Tests a server. The response grows with each step that is done.
pub(super) async fn test(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(server): Path<String>,
    OwnForm(TestForm { to }): OwnForm<TestForm>,
) -> Response {
    let to: Option<Address> = match to.trim() {
        "" => None,
        to => match to.parse() {
            Ok(to) => Some(to),
            Err(error) => return failed("Not tested", &OperatorError::no(error)),
        },
    };
    maillog::page_action(&session.name, "test", &server);
    let (sender, body) = mpsc::channel(STEPS);
    tokio::spawn(async move {
        // A send fails only if the browser has gone; the test goes on all the same.
        let _ = sender.try_send(page::servers::test_begins(&server));
        let mut is_well = true;
        let shown = |step: Step| {
            is_well &= step.well;
            let _ = sender.try_send(page::servers::step(&step));
        };
        let done = parts.operator().each(Ask::Test { server, to }, shown).await;
        let words = done.err().map(|error| error.text);
        let end = page::servers::test_ends(is_well, words.as_deref());
        let _ = sender.send(end).await;
    });
    Html(serve::stream(body)).into_response()
}

#[derive(serde::Deserialize)]
pub(super) struct HoldForm {
    #[serde(default)]
    reason: String,
}

/// Returns the reason of a hold, with the person who holds.
fn reason_of(session: &PageSession, reason: &str) -> String {
    match reason.trim() {
        "" => format!("by {} on the page", session.name),
        reason => format!("{reason} (by {} on the page)", session.name),
    }
}

pub(super) async fn hold(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(server): Path<String>,
    OwnForm(HoldForm { reason }): OwnForm<HoldForm>,
) -> Response {
    let reason = reason_of(&session, &reason);
    let request = Ask::Hold {
        server: server.clone(),
        reason: Some(reason),
    };
    let done: Result<(), OperatorError> = parts.operator().ask(request).await;
    back_to_server(&session, "hold", &server, done)
}

pub(super) async fn release(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(server): Path<String>,
    _: OwnForm,
) -> Response {
    let request = Ask::Release {
        server: server.clone(),
    };
    let done: Result<bool, OperatorError> = parts.operator().ask(request).await;
    back_to_server(&session, "release", &server, done.map(drop))
}

fn back_to_server(
    session: &PageSession,
    action: &str,
    server: &str,
    done: Result<(), OperatorError>,
) -> Response {
    match done {
        Ok(()) => {
            maillog::page_action(&session.name, action, server);
            Redirect::to("/servers").into_response()
        }
        Err(error) => failed("Not done", &error),
    }
}

/// Applies an action to one message.
pub(super) async fn act(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path((id, action)): Path<(String, String)>,
    _: OwnForm,
) -> Response {
    let deed = match action.as_str() {
        "retry" => OperatorAction::Retry,
        "release" => OperatorAction::Release,
        "hold" => OperatorAction::Hold(reason_of(&session, "")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match apply(&parts, &session, &id, &action, deed).await {
        Ok(()) => Redirect::to(&format!("/messages/{id}")).into_response(),
        Err(error) => no_message(&error),
    }
}

async fn apply(
    parts: &PageParts,
    session: &PageSession,
    id: &str,
    action: &str,
    deed: OperatorAction,
) -> Result<(), OperatorError> {
    let message: MessageId = id.parse().map_err(OperatorError::no)?;
    let which = Selection::Ids(vec![message]);
    let count: usize = parts.operator().ask(Ask::Act { which, deed }).await?;
    if count == 0 {
        let text = "The message was not changed: it is being sent, or it is in that state already.";
        return Err(OperatorError::no(text));
    }
    maillog::page_action(&session.name, action, id);
    Ok(())
}

#[derive(serde::Deserialize)]
pub(super) struct Sure {
    #[serde(default)]
    sure: String,
}

/// Deletes a message, once the person has confirmed it.
pub(super) async fn delete(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(id): Path<String>,
    OwnForm(Sure { sure }): OwnForm<Sure>,
) -> Response {
    if sure != "yes" {
        return framed(&parts, &session, |frame| {
            page::messages::confirm_delete(frame, &id)
        });
    }
    match apply(&parts, &session, &id, "delete", OperatorAction::Delete).await {
        Ok(()) => Redirect::to(&format!("/messages/{id}")).into_response(),
        Err(error) => no_message(&error),
    }
}

/// Sends a message as the app sent it, as a file.
pub(super) async fn export(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(id): Path<String>,
) -> Response {
    let content = async {
        let id: MessageId = id.parse().map_err(OperatorError::no)?;
        let content = parts.operator.spool()?.content(id).await?;
        Ok::<_, OperatorError>((id, content.open().await?))
    };
    match content.await {
        Ok((id, content)) => {
            maillog::page_action(&session.name, "export", &id.to_string());
            let fields = [
                (header::CONTENT_TYPE, "message/rfc822".to_owned()),
                (
                    header::CONTENT_DISPOSITION,
                    format!("attachment; filename=\"{id}.eml\""),
                ),
            ];
            (fields, Body::new(serve::reader(content))).into_response()
        }
        Err(error) => no_message(&error),
    }
}
