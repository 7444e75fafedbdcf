//! The tokens by which people find messages: whole addresses, domains, Message-IDs and users. Both engines store them
//! in an index. Pure.

use super::{EventKind, Origin, Record, Story, StoryFilter, StoryResult};
use crate::message::Address;

/// Tokens of which a story must have at least one.
#[derive(Debug)]
pub(super) struct Wanted(Vec<String>);

impl Wanted {
    /// One token.
    #[cfg(test)]
    pub(super) fn one(token: String) -> Self {
        Self(vec![token])
    }

    /// The tokens.
    pub(super) fn tokens(&self) -> &[String] {
        &self.0
    }
}

/// Returns the tokens that a story must have to match a filter.
pub(super) fn wanted(filter: &StoryFilter) -> Vec<Wanted> {
    // A Message-ID looks like an address, and people write both with or without angle brackets.
    let about = filter.about.iter().map(|about| {
        let bare = about.trim_matches(['<', '>']);
        Wanted(vec![token(bare), token(&format!("<{bare}>"))])
    });
    let user = filter
        .user
        .iter()
        .map(|user| Wanted(vec![token_of_user(user)]));
    about.chain(user).collect()
}

/// Returns the tokens of a message that was just accepted.
pub(super) fn tokens(record: &Record) -> String {
    let recipients = record.envelope.recipients.iter();
    let message_ids = record.message_id.iter().map(String::as_str);
    joined(record, recipients.map(|it| &it.address), message_ids)
}

/// Returns the tokens of a story.
pub(super) fn tokens_of(story: &Story) -> String {
    let sent_as = story.events.iter().filter_map(|event| match &event.what {
        EventKind::Delivered { message_id, .. } => Some(message_id.as_str()),
        _ => None,
    });
    let own = story.record.message_id.iter().map(String::as_str);
    joined(
        &story.record,
        story.recipients().into_iter(),
        own.chain(sent_as),
    )
}

fn joined<'a>(
    record: &'a Record,
    recipients: impl Iterator<Item = &'a Address>,
    message_ids: impl Iterator<Item = &'a str>,
) -> String {
    let addresses = record
        .envelope
        .sender
        .address()
        .into_iter()
        .chain(recipients);
    let mut tokens: Vec<String> = Vec::new();
    for address in addresses.map(Address::as_str) {
        tokens.push(token(address));
        let domain = address.rfind('@').map(|at| token(&address[at..]));
        tokens.extend(domain);
    }
    if let Origin::Client { user, .. } = &record.origin
        && !user.is_empty()
    {
        tokens.push(token_of_user(user));
    }
    tokens.extend(message_ids.map(token));
    tokens.sort_unstable();
    tokens.dedup();
    tokens.join(" ")
}

/// Converts a text to one token: lower case, with a replacement for each ASCII character that the tokenizer of SQLite's
/// table takes for a separator. Different texts may have the same token, so a search compares the texts.
pub(super) fn token(text: &str) -> String {
    let is_separator = |letter: char| {
        letter.is_ascii() && !letter.is_ascii_alphanumeric() && !"@.-_+=<>:".contains(letter)
    };
    text.to_lowercase().replace(is_separator, "\u{fffd}")
}

/// Returns the token of a user. It differs from that of an address, because a user's name may be an address.
fn token_of_user(user: &str) -> String {
    format!("user:{}", token(user))
}

const FAILED: &str = "failed";
const BOUNCED: &str = "bounced";
const REFUSED: &str = "refused";

/// The results that people look for, under the names that the index stores. Most messages have none of them.
pub(super) const RESULTS: [&str; 3] = [FAILED, BOUNCED, REFUSED];

/// Returns the result that an event gives its message, if people look for it.
pub(super) fn result_of(event: &EventKind) -> Option<&'static str> {
    match event {
        EventKind::Failed { .. } => Some(FAILED),
        EventKind::Bounced { .. } => Some(BOUNCED),
        EventKind::Refused { .. } => Some(REFUSED),
        _ => None,
    }
}

/// Returns the name in the index of the result that a filter wants, if the index has it.
pub(super) fn wanted_result(filter: &StoryFilter) -> Option<&'static str> {
    match filter.result? {
        StoryResult::Failed => Some(FAILED),
        StoryResult::Bounced => Some(BOUNCED),
        StoryResult::Refused => Some(REFUSED),
        _ => None,
    }
}
