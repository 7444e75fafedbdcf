//! Asks routing which server a message would take.

use maud::{Markup, html};

use super::Frame;
use crate::operator::route::{RefusedMail, RouteSettings};

/// The question, as it stands in the page's address.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub(in crate::web) struct Question {
    pub(in crate::web) from: Option<String>,
    pub(in crate::web) header_from: String,
    pub(in crate::web) to: String,
    pub(in crate::web) user: String,
    pub(in crate::web) listener: String,
}

/// The answer: the decision in words, one line per field, or the refusal, or what is wrong with the question.
pub(in crate::web) enum Answer {
    Sent(String),
    Refused(RefusedMail),
    Wrong(String),
}

/// Formats the question, and the answer if something was asked.
pub(in crate::web) fn page(
    frame: &Frame,
    settings: &RouteSettings,
    question: &Question,
    answer: Option<&Answer>,
) -> Markup {
    let users = settings.users.iter().map(|user| user.name.as_str());
    let listeners = settings
        .listeners
        .iter()
        .map(|it| it.endpoint.name.as_str());
    let body = html! {
        p { "Which server would send a message with this sender, and what would be rewritten? Nothing is sent." }
        form method="get" action="/route" {
            fieldset {
                div {
                    label for="from" { "Envelope sender (MAIL FROM)" }
                    input id="from" name="from" value=(question.from.as_deref().unwrap_or_default()) autocomplete="off";
                }
                div {
                    label for="header_from" { "From header, if it differs" }
                    input id="header_from" name="header_from" value=(question.header_from) autocomplete="off";
                }
                div {
                    label for="to" { "Recipient, if a server has a to_filter" }
                    input id="to" name="to" value=(question.to) autocomplete="off";
                }
                (choice("user", "User", "any user", users.collect(), &question.user))
                (choice("listener", "Listener", "any listener", listeners.collect(), &question.listener))
                button.main { "Ask" }
            }
        }
        @if let Some(answer) = answer {
            div role="status" {
                @match answer {
                    Answer::Sent(text) => {
                        h2 { "It would be sent" }
                        dl.facts { @for (name, value) in text.lines().filter_map(|line| line.split_once(':')) { dt { (name) } dd { (value.trim()) } } }
                    },
                    Answer::Refused(refused) => {
                        h2 { "It would be refused" }
                        dl.facts { dt { "Reply to the app" } dd { (refused.reply) } dt { "Because" } dd { (refused.reason) } }
                    },
                    Answer::Wrong(why) => div.notice { p { (why) } },
                }
            }
        }
    };
    frame.page("/route", "Who would send this?", false, body)
}

fn choice(name: &str, words: &str, any: &str, all: Vec<&str>, chosen: &str) -> Markup {
    html! {
        div {
            label for=(name) { (words) }
            select id=(name) name=(name) {
                option value="" { (any) }
                @for one in all { option value=(one) selected[one == chosen] { (one) } }
            }
        }
    }
}
