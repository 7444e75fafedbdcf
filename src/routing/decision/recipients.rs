//! Routing by recipient: servers with a `to_filter` take mail only to the recipients that it admits, so the
//! recipients of one message may take different routes.

use super::{Decision, NotRouted, Refusal};
use crate::message::{Address, Author, ReversePath};
use crate::routing::policy::{Caller, Policy};

impl Policy {
    /// True if the route of a message depends on its recipients.
    pub fn routes_by_recipient(&self) -> bool {
        self.servers.iter().any(|server| server.to.is_some())
    }

    /// Chooses the routes of a message. Returns each decision with the indexes of the recipients for which it
    /// is made, in the order of the first of these recipients.
    pub fn decide_each<'r>(
        &self,
        sender: &ReversePath,
        author: &Author,
        caller: Caller,
        recipients: impl ExactSizeIterator<Item = &'r Address>,
    ) -> Vec<(Decision, Vec<usize>)> {
        if !self.routes_by_recipient() {
            let all = (0..recipients.len()).collect();
            return vec![(self.decide(sender, author, caller), all)];
        }
        let mut groups: Vec<(Decision, Vec<usize>)> = Vec::new();
        for (place, recipient) in recipients.enumerate() {
            let caller = Caller {
                recipient: Some(recipient),
                ..caller
            };
            let decision = self.decide(sender, author, caller);
            match groups
                .iter_mut()
                .find(|(known, _)| is_same(known, &decision))
            {
                Some((Decision::Refused(known), places)) => {
                    if let Decision::Refused(other) = decision {
                        known.add(other);
                    }
                    places.push(place);
                }
                Some((_, places)) => places.push(place),
                None => groups.push((decision, vec![place])),
            }
        }
        groups
    }

    /// Decides at RCPT about a recipient. Returns a refusal only if no header From could change the decision.
    pub fn refuses_at_rcpt(
        &self,
        sender: &ReversePath,
        recipient: &Address,
        caller: Caller,
    ) -> Option<NotRouted> {
        let caller = Caller {
            recipient: Some(recipient),
            ..caller
        };
        let is_taken = self.servers.iter().any(|server| caller.may_use(server));
        if !self.routes_by_recipient() || is_taken && self.refuses_at_mail(sender, caller).is_none()
        {
            return None;
        }
        Some(NotRouted::Recipients {
            sender: format!("<{sender}>"),
            recipients: format!("<{recipient}>"),
            is_taken,
        })
    }

    /// Returns the refusal of a sender, with the recipient if routing depends on it.
    pub(super) fn with_recipient(&self, refused: NotRouted, caller: &Caller) -> NotRouted {
        match (refused, caller.recipient) {
            (NotRouted::Sender { sender, .. }, Some(recipient)) => NotRouted::Recipients {
                sender: format!("<{sender}>"),
                recipients: format!("<{recipient}>"),
                is_taken: self.servers.iter().any(|server| caller.may_use(server)),
            },
            (refused, _) => refused,
        }
    }
}

/// True if two recipients share one route, or are refused for the same reason.
fn is_same(one: &Decision, other: &Decision) -> bool {
    let cause = |refusal: &Refusal| match &refusal.why {
        NotRouted::Recipients {
            sender, is_taken, ..
        } => Some((sender.clone(), *is_taken)),
        _ => None,
    };
    match (one, other) {
        (Decision::Refused(one), Decision::Refused(other)) => {
            one == other || cause(one).is_some() && cause(one) == cause(other)
        }
        _ => one == other,
    }
}

impl Refusal {
    /// Adds the recipients of a refusal with the same cause.
    fn add(&mut self, other: Self) {
        if let (
            NotRouted::Recipients { recipients, .. },
            NotRouted::Recipients {
                recipients: more, ..
            },
        ) = (&mut self.why, other.why)
        {
            recipients.push_str(", ");
            recipients.push_str(&more);
        }
    }
}
