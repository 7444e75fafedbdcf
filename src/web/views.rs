//! The pages that only show something.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::page::messages::{Found, Search};
use super::page::route::{Answer, Question};
use super::page::{self, Frame};
use super::parts::{PageParts, failed, html};
use super::sessions::PageSession;
use crate::base::{MessageId, Timestamp};
use crate::operator::day;
use crate::operator::report::{Collected, Reason};
use crate::operator::route::{Asked, RouteQuestion, explained};
use crate::operator::row::TokenRow;
use crate::operator::{ErrorKind, OperatorError, Request as Ask, reason};
use crate::spool::{Entry, Page, QueueFilter, StateFilter, Story, StoryFilter, StoryResult};

/// The number of messages on one page.
const MESSAGES: usize = 50;

/// The number of newest messages of each result, and of waiting messages, that the errors are collected from.
const ERRORS: usize = 300;

/// The number of days that the errors are collected from.
const ERROR_DAYS: u64 = 7;

const DAY: u64 = 24 * 3_600;

/// Makes a page with its frame.
pub(super) fn framed(
    parts: &PageParts,
    session: &PageSession,
    make: impl FnOnce(&Frame) -> maud::Markup,
) -> Response {
    let about = parts.operator.about();
    let frame = Frame {
        session,
        host: &about.host,
        version: &about.version,
        now: Timestamp::now(),
    };
    html(make(&frame)).into_response()
}

#[derive(serde::Deserialize)]
pub(super) struct Span {
    #[serde(default)]
    span: String,
}

pub(super) async fn overview(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Query(Span { span }): Query<Span>,
) -> Response {
    let figures = parts.operator.figures(Timestamp::now());
    match parts.operator.status().await {
        Ok(status) => framed(&parts, &session, |frame| {
            page::overview::page(frame, &status, &figures, &span)
        }),
        Err(error) => failed("The overview cannot be shown", &error),
    }
}

pub(super) async fn servers(State(parts): State<Arc<PageParts>>, session: PageSession) -> Response {
    let found = async {
        let tokens: Vec<TokenRow> = parts.operator().ask(Ask::Tokens).await?;
        Ok::<_, OperatorError>((parts.operator.status().await?, tokens))
    };
    match found.await {
        Ok((status, tokens)) => framed(&parts, &session, |frame| {
            page::servers::page(frame, &status.servers, &tokens)
        }),
        Err(error) => failed("The servers cannot be shown", &error),
    }
}

pub(super) async fn messages(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Query(search): Query<Search>,
) -> Response {
    if let Ok(id) = search.about.trim().parse::<MessageId>() {
        return Redirect::to(&format!("/messages/{id}")).into_response();
    }
    let is_about_all = search.about.is_empty() && search.user.is_empty();
    let found = match (period(&search), search.state.as_str()) {
        (Err(why), _) => Ok(Found::Wrong(why)),
        (Ok(period), "waiting" | "held" | "uncertain") if is_about_all => {
            waiting(&parts, &search, period).await
        }
        (Ok(period), _) => stories(&parts, &search, period).await,
    };
    match found {
        Ok(found) => {
            let next = next(&search, &found);
            framed(&parts, &session, |frame| {
                page::messages::page(frame, &search, &found, next.as_deref())
            })
        }
        Err(error) => failed("The messages cannot be shown", &error),
    }
}

/// Returns the address of the next page of results, if there may be one.
fn next(search: &Search, found: &Found) -> Option<String> {
    let last = match found {
        Found::Stories(stories) if stories.len() == MESSAGES => stories.last()?.record.id,
        Found::Waiting(entries) if entries.len() == MESSAGES => entries.last()?.0.record.id,
        _ => return None,
    };
    let search = Search {
        from: last.to_string(),
        ..search.clone()
    };
    Some(format!("/messages?{}", search.query()))
}

/// The beginning and the end of a period, each if it is limited.
type Period = (Option<Timestamp>, Option<Timestamp>);

/// Returns the period between the search's days; the error says which day is wrong.
fn period(search: &Search) -> Result<Period, String> {
    let bounds = |text: &str| match text {
        "" => Ok(None),
        day => day::bounds(day)
            .map(Some)
            .map_err(|error| format!("{day}: {error}")),
    };
    let (first, last) = (bounds(&search.since)?, bounds(&search.until)?);
    Ok((first.map(|day| day.0), last.map(|day| day.1)))
}

fn filled(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

async fn stories(
    parts: &PageParts,
    search: &Search,
    period: Period,
) -> Result<Found, OperatorError> {
    let (since, before) = period;
    let filter = StoryFilter {
        about: filled(&search.about),
        user: filled(&search.user),
        result: match search.state.as_str() {
            "delivered" => Some(StoryResult::Delivered),
            "failed" => Some(StoryResult::Failed),
            "bounced" => Some(StoryResult::Bounced),
            "refused" => Some(StoryResult::Refused),
            "waiting" => Some(StoryResult::Waiting),
            "held" => Some(StoryResult::Held),
            "uncertain" => Some(StoryResult::Uncertain),
            _ => None,
        },
        since,
        before,
        below: search.from.parse().ok(),
    };
    let request = Ask::Stories {
        filter,
        limit: MESSAGES,
    };
    Ok(Found::Stories(parts.operator().ask(request).await?))
}

async fn waiting(
    parts: &PageParts,
    search: &Search,
    period: Period,
) -> Result<Found, OperatorError> {
    let (since, before) = period;
    let page = Page {
        after: search.from.parse().ok(),
        limit: MESSAGES,
        filter: QueueFilter {
            server: filled(&search.server),
            state: match search.state.as_str() {
                "held" => Some(StateFilter::Held),
                "uncertain" => Some(StateFilter::Uncertain),
                _ => None,
            },
            since,
            before,
            ..QueueFilter::default()
        },
    };
    let entries: Vec<Entry> = parts.operator().ask(Ask::List(page)).await?;
    let (servers, now) = (Some(parts.operator.servers().await?), Timestamp::now());
    let entries = entries.into_iter().map(|entry| {
        let reason = reason::reason(&entry, &servers, now);
        (entry, reason)
    });
    Ok(Found::Waiting(entries.collect()))
}

/// Responds that there is no such message.
pub(super) fn no_message(error: &OperatorError) -> Response {
    let status = match error.kind {
        ErrorKind::No => StatusCode::NOT_FOUND,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let page = page::notice("This message cannot be shown", &error.text);
    (status, html(page)).into_response()
}

pub(super) async fn message(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Path(id): Path<String>,
) -> Response {
    let found = async {
        let id: MessageId = id.parse().map_err(OperatorError::no)?;
        let story: Story = parts.operator().ask(Ask::Story(id)).await?;
        if story.ended.is_some() {
            return Ok((story, None));
        }
        // The message may have left the queue meanwhile.
        let entry = match parts.operator().ask::<Entry>(Ask::Show(id)).await {
            Err(error) if error.kind == ErrorKind::No => None,
            entry => Some(entry?),
        };
        let servers = Some(parts.operator.servers().await?);
        let entry = entry.map(|entry| {
            let reason = reason::reason(&entry, &servers, Timestamp::now());
            (entry, reason.into_iter().collect())
        });
        Ok((story, entry))
    };
    match found.await {
        Ok((story, entry)) => framed(&parts, &session, |frame| {
            page::messages::story(frame, &story, entry.as_ref())
        }),
        Err(error) => no_message(&error),
    }
}

pub(super) async fn route(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
    Query(question): Query<Question>,
) -> Response {
    let live = parts.live.load_full();
    let asked = question.from.as_ref().map(|from| Asked {
        user: filled(&question.user),
        listener: filled(&question.listener),
        from: from.trim().to_owned(),
        header_from: filled(&question.header_from),
        to: filled(&question.to),
    });
    let answer = asked.map(|asked| match RouteQuestion::of(&asked, &live.route) {
        Err(why) => Answer::Wrong(why),
        Ok(question) => match question.decide(&live.route.policy) {
            Ok(route) => {
                let header = question.header.as_deref();
                Answer::Sent(explained(&route, &question.sender, header))
            }
            Err(refused) => Answer::Refused(refused),
        },
    });
    framed(&parts, &session, |frame| {
        page::route::page(frame, &live.route, &question, answer.as_ref())
    })
}

pub(super) async fn errors(State(parts): State<Arc<PageParts>>, session: PageSession) -> Response {
    let found =
        async { Ok::<_, OperatorError>((parts.operator.status().await?, reasons(&parts).await?)) };
    match found.await {
        Ok((status, reasons)) => framed(&parts, &session, |frame| {
            page::errors::page(frame, &status.servers, &reasons, ERROR_DAYS)
        }),
        Err(error) => failed("The errors cannot be shown", &error),
    }
}

/// Collects the errors of recent messages.
async fn reasons(parts: &PageParts) -> Result<Vec<Reason>, OperatorError> {
    let now = Timestamp::now();
    let since = now.before(std::time::Duration::from_secs(ERROR_DAYS * DAY));
    let mut collected = Collected::default();
    let results = [
        StoryResult::Failed,
        StoryResult::Bounced,
        StoryResult::Refused,
        StoryResult::Waiting,
    ];
    let mut seen = std::collections::HashSet::new();
    for result in results {
        let filter = StoryFilter {
            result: Some(result),
            since: Some(since),
            ..StoryFilter::default()
        };
        let request = Ask::Stories {
            filter,
            limit: ERRORS,
        };
        let stories: Vec<Story> = parts.operator().ask(request).await?;
        for story in stories.iter().filter(|story| seen.insert(story.record.id)) {
            collected.add(story);
        }
    }
    Ok(collected.report(since, now).reasons)
}

pub(super) async fn settings(
    State(parts): State<Arc<PageParts>>,
    session: PageSession,
) -> Response {
    let live = parts.live.load_full();
    let about = parts.operator.about();
    framed(&parts, &session, |frame| {
        page::settings::page(frame, &about.configuration, &live.sections)
    })
}
