//! A row of the table. Pure.

use std::ops::RangeInclusive;

use crate::base::Service;
use crate::transport::smtp::reaction::Reaction;
use crate::transport::smtp::stage::Stage;

/// One kind of reply, and the reaction to it.
#[derive(Debug)]
pub struct Row {
    /// The name in logs and metrics.
    pub name: &'static str,
    /// The service whose replies have this meaning; `None` for any.
    pub(super) service: Option<Service>,
    /// The stages at which the reply has this meaning; empty for any.
    pub(super) stages: &'static [Stage],
    pub(super) codes: RangeInclusive<u16>,
    /// Enhanced codes (RFC 3463): one of them must match; empty for any.
    pub(super) enhanced: &'static [Enhanced],
    /// Phrases: one of them must be in the text, in upper or lower case; empty for any.
    pub(super) says: &'static [&'static str],
    /// The reaction.
    pub reaction: Reaction,
    /// The remedy for a person to apply; empty if nothing helps. `{mailbox}` is the mailbox that sends,
    /// `{sender}` the address it sends as, `{host}` the name that we sent in EHLO.
    pub remedy: &'static str,
}

/// Class, subject, and a range of details.
pub(super) type Enhanced = (u16, u16, RangeInclusive<u16>);

/// A row that applies to everything.
pub(super) const ANY: Row = Row {
    name: "",
    service: None,
    stages: &[],
    codes: 0..=999,
    enhanced: &[],
    says: &[],
    reaction: Reaction::Deferred,
    remedy: "",
};

/// A row that applies only to Microsoft's servers.
pub(super) const EXCHANGE: Row = Row {
    service: Some(Service::ExchangeOnline),
    ..ANY
};

impl Row {
    /// True if the row explains this reply; `text` is in lower case.
    pub(super) fn matches(
        &self,
        stage: Stage,
        code: u16,
        enhanced: Option<(u16, u16, u16)>,
        text: &str,
    ) -> bool {
        let is_one = |(class, subject, details): &Enhanced| {
            enhanced.is_some_and(|(c, s, d)| c == *class && s == *subject && details.contains(&d))
        };
        (self.stages.is_empty() || self.stages.contains(&stage))
            && self.codes.contains(&code)
            && (self.enhanced.is_empty() || self.enhanced.iter().any(is_one))
            && (self.says.is_empty() || self.says.iter().any(|words| text.contains(words)))
    }
}

/// Returns the three numbers of an enhanced code (RFC 3463 §2).
pub(super) fn parts(enhanced: &str) -> Option<(u16, u16, u16)> {
    let mut parts = enhanced.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}
