//! The servers: state, reason and remedy, limits, tokens, and what a person can do.

use maud::{Markup, html};

use super::{Frame, document, explained, light, number};
use crate::delivery::ServerState;
use crate::operator::accounts::SignInAttempt;
use crate::operator::row::{Light, TokenRow};
use crate::operator::status::ServerRow;
use crate::transport::Step;

/// Formats the servers; `tokens` has a row for each.
pub(in crate::web) fn page(frame: &Frame, servers: &[ServerRow], tokens: &[TokenRow]) -> Markup {
    let body = html! {
        @for server in servers {
            @let token = tokens.iter().find(|row| row.server == server.name);
            (card(frame, server, token))
        }
    };
    frame.page("/servers", "Servers", true, body)
}

/// The state in a word or two.
fn state(server: &ServerRow, token: Option<&TokenRow>) -> &'static str {
    let hold = server
        .delivery
        .as_ref()
        .and_then(|state| state.hold.as_ref());
    match (server.light, hold) {
        (_, Some(_)) => "Held",
        (Light::Red, None) => "No token",
        (Light::Amber, None) => "Needs attention",
        (Light::Green, None) if token.is_none_or(|row| row.grant.is_none()) => "No token needed",
        (Light::Green, None) if server.token.starts_with("token valid") => "Token valid",
        (Light::Green, None) => "Ready",
    }
}

fn card(frame: &Frame, server: &ServerRow, token: Option<&TokenRow>) -> Markup {
    let delivery = server.delivery.as_ref();
    html! {
        article id=(server.name) aria-labelledby={ "name-" (server.name) } {
            h2 id={ "name-" (server.name) } { (server.name) }
            p { (light(server.light, state(server, token))) }
            @if let Some(reason) = &server.reason {
                div class={ "notice " (server.light.name()) } { (explained(reason)) }
            } @else if server.light == Light::Amber {
                div class="notice amber" { p { (server.token) } }
            }
            dl.facts {
                @if let Some(mailbox) = delivery.map(|state| &state.mailbox).filter(|mailbox| !mailbox.is_empty()) {
                    dt { "Mailbox" } dd { (mailbox) }
                }
                (hold(frame, delivery))
                dt { "Queue" }
                dd {
                    a href={ "/messages?state=waiting&server=" (server.name) } { (number(server.queued as u64)) " waiting" }
                    ", " (number(server.held as u64)) " held"
                    @if let Some(oldest) = server.oldest { ", the oldest accepted " (frame.ago(oldest)) }
                }
                @if let Some(row) = token { (token_facts(frame, row)) }
            }
            @if let Some(state) = delivery { (limits(frame, state)) }
            (buttons(frame, server, token))
        }
    }
}

fn hold(frame: &Frame, delivery: Option<&ServerState>) -> Markup {
    html! {
        @if let Some(hold) = delivery.and_then(|state| state.hold.as_ref()) {
            dt { "Held since" } dd { (frame.at(hold.since)) }
            dt { "Next attempt" }
            dd { @match hold.until { Some(until) => { (frame.at(until)) }, None => { "when somebody releases the server" } } }
        }
    }
}

fn token_facts(frame: &Frame, row: &TokenRow) -> Markup {
    html! {
        @if row.grant.is_some() {
            dt { "Access token" }
            dd { @match row.expires { Some(at) if frame.now < at => { "valid until " (frame.at(at)) }, _ => { (row.glance(frame.now).1) } } }
        }
        @if let Some(user) = &row.user { dt { "Signed in as" } dd { (user) } }
        @if let Some(at) = row.credential_expires {
            dt { "Client secret or certificate" }
            dd { "valid until " (frame.at(at)) }
        }
    }
}

/// The limits as bars.
fn limits(frame: &Frame, state: &ServerState) -> Markup {
    let minute = state.limits.per_minute.map(|most| most as u64);
    html! {
        dl.facts {
            (limit(&state.name, "Messages in the last minute", state.messages_of_minute as u64, minute))
            (limit(&state.name, "Recipients in the last 24 hours", state.recipients_of_day, state.limits.per_day))
            dt { "Simultaneous sessions" } dd { "at most " (state.limits.sessions) }
        }
        @if let Some(until) = state.minute_until {
            p { "The limit of a minute is used up; the next message is sent " (frame.ago(until)) "." }
        }
    }
}

fn limit(server: &str, name: &str, used: u64, most: Option<u64>) -> Markup {
    html! {
        dt { (name) }
        dd {
            @match most {
                None => { "no limit" },
                Some(most) => {
                    meter min="0" max=(most) high=(most * 9 / 10) value=(used.min(most)) aria-label={ (name) " of " (server) } {}
                    small { (number(used)) " of " (number(most)) }
                },
            }
        }
    }
}

fn buttons(frame: &Frame, server: &ServerRow, token: Option<&TokenRow>) -> Markup {
    let name = &server.name;
    let is_by_user = token.is_some_and(|row| row.grant.is_some_and(|grant| grant.is_by_user()));
    let has_signed_in = token.is_some_and(|row| row.origin.is_some());
    let is_held = server
        .delivery
        .as_ref()
        .is_some_and(|state| state.hold.is_some());
    html! {
        @if frame.may_act() {
            div.buttons {
                @if is_by_user {
                    @let words = if has_signed_in { "Connect again" } else { "Connect" };
                    @let class = if has_signed_in && server.light != Light::Red { "" } else { "main" };
                    (frame.button(&format!("/connect/{name}"), words, &format!("{words} {name}"), class))
                }
                @if server.delivery.is_some() {
                    @if is_held {
                        (frame.button(&format!("/servers/{name}/release"), "Release", &format!("Release {name}"), ""))
                    }
                }
            }
            @if server.delivery.is_some() && !is_held {
                form method="post" action={ "/servers/" (name) "/hold" } {
                    (frame.token())
                    div.buttons {
                        div {
                            label for={ "reason-" (name) } { "Reason to hold it (optional)" }
                            input id={ "reason-" (name) } name="reason" autocomplete="off";
                        }
                        button aria-label={ "Hold " (name) } { "Hold" }
                    }
                }
            }
            form method="post" action={ "/test/" (name) } {
                (frame.token())
                div.buttons {
                    div {
                        label for={ "to-" (name) } { "Send a test message to (optional)" }
                        input id={ "to-" (name) } name="to" type="email" autocomplete="off";
                    }
                    button aria-label={ "Test " (name) } { "Test" }
                }
            }
        }
    }
}

/// Formats a sign-in that waits for the person.
pub(in crate::web) fn waiting(server: &str, attempt: &SignInAttempt) -> Markup {
    document(
        "Sign in",
        Some("2"),
        html! {
            main #main {
                h1 { "Connect " (server) }
                p { "Sign in" @if let Some(user) = &attempt.user { " as " strong { (user) } } " at the provider, and confirm." }
                @if let Some(code) = &attempt.user_code { p { "The code to enter there: " code.large { (code) } } }
                p { a class="button main" href=(attempt.url) target="_blank" rel="noopener" { "Sign in at the provider" } }
                p { "Waiting for the sign-in. This page updates by itself." }
            }
        },
    )
}

/// The page of a test, before its first step. The steps follow as they are done, then [`test_ends`].
pub(in crate::web) fn test_begins(server: &str) -> String {
    let page = document(
        "Test",
        None,
        html! {
            main #main {
                h1 { "Test of " (server) }
                table.stacked { thead { tr { th { "Result" } th { "Step" } th { "Details" } } } tbody {} }
            }
        },
    );
    let page = page.into_string();
    // Names are escaped, so this is the table's own end.
    let begin = page.split_once("</tbody>").map(|(begin, _)| begin);
    begin.unwrap_or_default().to_owned()
}

/// One step of a test, as a row of its table.
pub(in crate::web) fn step(step: &Step) -> String {
    let (state, words) = if step.well {
        (Light::Green, "ok")
    } else {
        (Light::Red, "failed")
    };
    let row = html! {
        tr {
            td { (light(state, words)) }
            td { strong { (step.name) } }
            td { (step.text) @if let Some(remedy) = &step.remedy { (explained(remedy)) } }
        }
    };
    row.into_string()
}

/// The end of the page of a test.
pub(in crate::web) fn test_ends(is_well: bool, words: Option<&str>) -> String {
    let verdict = if is_well {
        "All steps succeeded."
    } else {
        "The test failed."
    };
    let end = html! {
        p role="status" { strong { (words.unwrap_or(verdict)) } }
        p { a href="/servers" { "Back to the servers" } }
    };
    format!("</tbody></table>{}</main></body></html>", end.into_string())
}
