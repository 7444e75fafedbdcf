//! Messages: a search, and the story of each.

use maud::{Markup, html};

use super::{Frame, explained, light, number, prose};
use crate::message::{Address, ReversePath};
use crate::operator::story::{self, brief, outcome, words};
use crate::spool::{Entry, Origin, State, Story};

/// The search that a person filled in, as it stands in the page's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub(in crate::web) struct Search {
    /// An address, `@domain`, Message-ID, or id.
    pub(in crate::web) about: String,
    /// A local user.
    pub(in crate::web) user: String,
    /// A state of [`STATES`].
    pub(in crate::web) state: String,
    /// A server, for messages that wait.
    pub(in crate::web) server: String,
    /// A day: only messages received on this day or later.
    pub(in crate::web) since: String,
    /// A day: only messages received on this day or earlier.
    pub(in crate::web) until: String,
    /// The id of a message: continues the list with older ones, or for waiting ones with newer ones.
    pub(in crate::web) from: String,
}

impl Search {
    /// Returns the search as the query of an address.
    pub(in crate::web) fn query(&self) -> String {
        let all = [
            ("about", &self.about),
            ("user", &self.user),
            ("state", &self.state),
            ("server", &self.server),
            ("since", &self.since),
            ("until", &self.until),
            ("from", &self.from),
        ];
        let filled = all.into_iter().filter(|(_, value)| !value.is_empty());
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(filled)
            .finish()
    }
}

/// The states to search for, with their words.
pub(in crate::web) const STATES: [(&str, &str); 8] = [
    ("", "any"),
    ("waiting", "waiting"),
    ("held", "held until somebody acts"),
    ("uncertain", "waiting, may have arrived"),
    ("delivered", "delivered"),
    ("failed", "failed"),
    ("bounced", "bounced"),
    ("refused", "refused to the app"),
];

/// The result of a search.
pub(in crate::web) enum Found {
    /// Stories, newest first.
    Stories(Vec<Story>),
    /// Waiting messages, oldest first, each with the reason why it waits.
    Waiting(Vec<(Entry, Option<String>)>),
    /// The search itself is wrong.
    Wrong(String),
}

/// Formats a search with its result. `next` is the address of the next page of results.
pub(in crate::web) fn page(
    frame: &Frame,
    search: &Search,
    found: &Found,
    next: Option<&str>,
) -> Markup {
    let body = html! {
        (form(search))
        @match found {
            Found::Wrong(why) => div.notice role="alert" { p { (why) } },
            Found::Stories(stories) if stories.is_empty() => p { "No message was found. A message that was refused before its content is only in the log." },
            Found::Waiting(entries) if entries.is_empty() => p { "No message waits." },
            Found::Stories(stories) => (stories_table(frame, search, stories)),
            Found::Waiting(entries) => (waiting_table(frame, entries)),
        }
        @if let Some(next) = next { p { a href=(next) rel="next" { "More messages" } } }
    };
    frame.page("/messages", "Messages", true, body)
}

fn form(search: &Search) -> Markup {
    let field = |name: &str, words: &str, kind: &str, value: &str| {
        html! {
            div {
                label for=(name) { (words) }
                input id=(name) name=(name) type=(kind) value=(value);
            }
        }
    };
    html! {
        form method="get" action="/messages" role="search" {
            fieldset {
                (field("about", "Address, @domain, Message-ID or id", "search", &search.about))
                (field("user", "Sent by user", "text", &search.user))
                div {
                    label for="state" { "State" }
                    select id="state" name="state" {
                        @for (value, words) in STATES { option value=(value) selected[value == search.state] { (words) } }
                    }
                }
                (field("since", "From day", "date", &search.since))
                (field("until", "To day", "date", &search.until))
                @if !search.server.is_empty() { (field("server", "Server", "text", &search.server)) }
                button.main { "Search" }
            }
        }
    }
}

fn stories_table(frame: &Frame, search: &Search, stories: &[Story]) -> Markup {
    html! {
        table.stacked {
            thead { tr { th { "Message" } th { "Accepted" } th { "From" } th { "To" } th { "Result" } } }
            tbody { @for story in stories {
                @let record = &story.record;
                @let all = story.recipients();
                @let theirs: Vec<&Address> = all.iter().copied().filter(|to| crate::spool::filter::is(&search.about, to.as_str())).collect();
                tr {
                    th scope="row" { a href={ "/messages/" (record.id) } { (record.id) } }
                    td.short { (frame.ago(record.received)) }
                    td.address { (sender(&record.envelope.sender)) }
                    td.address { (recipients(&all)) }
                    td.text { (result(story, if theirs.is_empty() { &all } else { &theirs })) }
                }
            } }
        }
    }
}

fn waiting_table(frame: &Frame, entries: &[(Entry, Option<String>)]) -> Markup {
    html! {
        table.stacked {
            thead { tr { th { "Message" } th { "Accepted" } th { "From" } th { "To" } th { "Server" } th { "Why it waits" } } }
            tbody { @for (Entry { record, .. }, reason) in entries {
                @let all: Vec<&Address> = record.envelope.recipients.iter().map(|to| &to.address).collect();
                tr {
                    th scope="row" { a href={ "/messages/" (record.id) } { (record.id) } }
                    td.short { (frame.ago(record.received)) }
                    td.address { (sender(&record.envelope.sender)) }
                    td.address { (recipients(&all)) }
                    td { (record.lane) }
                    td.text { (prose(reason.as_deref().unwrap_or("being sent"))) }
                }
            } }
        }
    }
}

fn sender(sender: &ReversePath) -> String {
    match sender.address() {
        Some(address) => address.to_string(),
        None => "<>".to_owned(),
    }
}

/// The result for these recipients: a light, and what happened in a few words.
fn result(story: &Story, asked: &[&Address]) -> Markup {
    light(story::light(story, asked), &brief(story, asked))
}

/// The first recipients, and the number of further ones.
fn recipients(all: &[&Address]) -> Markup {
    html! {
        @for (place, to) in all.iter().take(3).enumerate() { @if place > 0 { ", " } (to) }
        @if all.len() > 3 { " and " (all.len() - 3) " more" }
    }
}

/// Formats a message's story. `entry` is the message if it is in the queue, with the reasons why it waits.
pub(in crate::web) fn story(
    frame: &Frame,
    story: &Story,
    entry: Option<&(Entry, Vec<String>)>,
) -> Markup {
    let record = &story.record;
    let all = story.recipients();
    let body = html! {
        p { strong { (outcome(story, &all)) } }
        @if let Some((entry, reasons)) = entry { (waits(frame, entry, reasons)) }
        dl.facts {
            dt { "Accepted" } dd { (frame.at(record.received)) }
            (origin(&record.origin))
            dt { "Sender" } dd { "<" (record.envelope.sender) ">" }
            dt { "Recipients" } dd { @for to in &all { (to) br; } }
            dt { "Size" } dd { (number(record.size)) " octets" }
            @if let Some(id) = &record.message_id { dt { "Message-ID" } dd { (id) } }
        }
        h2 { "What happened" }
        ol {
            li { (frame.at(record.received)) ": " @if story.was_refused() { "received from the app" } @else { "accepted from the app" } }
            @for event in &story.events { li { (frame.at(event.at)) ": " (words(&event.what)) } }
        }
    };
    frame.page("/messages", &format!("Message {}", record.id), true, body)
}

fn origin(origin: &Origin) -> Markup {
    html! {
        @match origin {
            Origin::Client { user, listener, peer, helo, protocol } => {
                dt { "Sent by" } dd { "user " strong { (user) } " from " (helo) " [" (peer) "], " (protocol) @if !listener.is_empty() { ", at listener " (listener) } }
            },
            Origin::Report(about) => { dt { "Sent by" } dd { "mailferry, a report about " a href={ "/messages/" (about) } { (about) } } },
            Origin::Digest => { dt { "Sent by" } dd { "mailferry, a digest of reports" } },
        }
    }
}

/// Why a message waits, and what a person can do.
fn waits(frame: &Frame, entry: &Entry, reasons: &[String]) -> Markup {
    let record = &entry.record;
    let id = record.id;
    let is_held = record.state == State::Held;
    let action = |name: &str, words: &str, class: &str| {
        frame.button(
            &format!("/messages/{id}/{name}"),
            words,
            &format!("{words} message {id}"),
            class,
        )
    };
    html! {
        div.notice {
            h3 { @if is_held { "Held until somebody acts" } @else { "Waits" } }
            @for reason in reasons { (explained(reason)) }
            @if record.uncertain { p { "An attempt ended before the final reply arrived: the message may already have been delivered." } }
            @if !is_held && entry.lease.is_none() && record.due > frame.now { p { "Next attempt: " (frame.at(record.due)) } }
        }
        @if frame.may_act() {
            div.buttons {
                (action("retry", "Retry", "main"))
                @if is_held { (action("release", "Release", "")) } @else { (action("hold", "Hold", "")) }
                a.button href={ "/messages/" (id) "/export" } download { "Export as .eml" }
                (action("delete", "Delete", "danger"))
            }
        }
    }
}

/// Asks before a message is deleted.
pub(in crate::web) fn confirm_delete(frame: &Frame, id: &str) -> Markup {
    let body = html! {
        p { "The message is removed from the queue. Nobody is notified, and it cannot be brought back." }
        div.buttons {
            form.inline method="post" action={ "/messages/" (id) "/delete" } {
                (frame.token())
                input type="hidden" name="sure" value="yes";
                button.danger { "Delete the message" }
            }
            a.button href={ "/messages/" (id) } { "Keep it" }
        }
    };
    frame.page("/messages", &format!("Delete message {id}?"), false, body)
}
