//! What an upstream's answer means, and what becomes of a message by it. Pure.
//!
//! Whatever the upstream says, at whatever stage, is judged by [`table`] and nowhere else.

pub mod reaction;
pub mod table;

use std::time::Duration;

use crate::base::Service;
use crate::session::{Reply, Stage};
pub use reaction::{Patience, Reaction, Until};
pub use table::Row;

/// The reaction to a reply.
pub fn of_reply(service: Service, stage: Stage, reply: &Reply) -> Reaction {
    table::row(service, stage, reply).reaction
}

/// The reaction to a connection that ended without a reply.
pub fn of_loss(stage: Stage) -> Reaction {
    match stage {
        Stage::FinalDot => Reaction::Uncertain,
        Stage::Connect | Stage::Tls | Stage::Greeting | Stage::Ehlo | Stage::Auth => {
            Reaction::Slowed(Patience::Minutes)
        }
        _ => Reaction::Deferred,
    }
}

/// What became of one message's recipients, by their places.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Those that have it.
    pub delivered: Vec<usize>,
    /// Those that failed, with the answer and its row.
    pub failed: Vec<(usize, Reply, &'static Row)>,
    /// Those to be tried again.
    pub deferred: Vec<usize>,
    /// Those for another transaction at once.
    pub next: Vec<usize>,
    /// The answer by which some were delivered.
    pub accepted: Option<Reply>,
    /// The last answer by which some are to be tried again.
    pub not_now: Option<Reply>,
    /// What the answers say of the mailbox, the gravest of them, with its words.
    pub mailbox: Option<(&'static Row, Reply)>,
    /// The answers that no row of the table explains.
    pub unclassified: Vec<Reply>,
}

/// Judges the replies of a service to MAIL, to each RCPT, and to DATA or the final dot.
pub fn judge(
    service: Service,
    count: usize,
    mail: &Reply,
    recipients: &[Reply],
    message: Option<&(Stage, Reply)>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mail_row = verdict.row(service, Stage::Mail, mail);
    if mail_row.reaction != Reaction::Delivered {
        (0..count).for_each(|place| verdict.put(place, mail_row, mail));
        return verdict;
    }
    // Where no recipient was accepted, pipelined DATA is refused as well, which says nothing more.
    let has_some = recipients.iter().any(Reply::is_completion);
    let message = message.filter(|_| has_some);
    let message = message.map(|(stage, reply)| (verdict.row(service, *stage, reply), reply));
    for (place, reply) in recipients.iter().enumerate() {
        let row = verdict.row(service, Stage::Rcpt, reply);
        match (row.reaction, message) {
            (Reaction::Delivered, Some((row, reply))) => verdict.put(place, row, reply),
            // Accepted, but the message was not sent: another recipient forbade it.
            (Reaction::Delivered, None) => verdict.deferred.push(place),
            _ => verdict.put(place, row, reply),
        }
    }
    // One more transaction changes nothing where this one took nobody.
    if verdict.delivered.is_empty() {
        let next = std::mem::take(&mut verdict.next);
        verdict.deferred.extend(next);
    }
    verdict
}

impl Verdict {
    /// Whether the message itself was judged. An answer about the mailbox or the tenant is not the
    /// message's fault, and no attempt at it.
    pub fn is_counted(&self) -> bool {
        let is_about_message = |row: &Row| {
            !matches!(
                row.reaction,
                Reaction::Crowded
                    | Reaction::TooFast
                    | Reaction::Held(_)
                    | Reaction::ExternalHeld(_)
            )
        };
        let row = self.mailbox.as_ref().map(|(row, _)| *row);
        row.is_none_or(is_about_message)
    }

    /// How long the mailbox is held for what it was told about this message, if it is.
    pub fn holds_for(&self) -> Option<Duration> {
        match self.mailbox.as_ref()?.0.reaction {
            Reaction::Held(until) => Some(until.lasts()),
            _ => None,
        }
    }

    fn row(&mut self, service: Service, stage: Stage, reply: &Reply) -> &'static Row {
        let row = table::row(service, stage, reply);
        if row.is_unclassified() {
            self.unclassified.push(reply.clone());
        }
        let graver = |(known, _): &(&Row, Reply)| gravity(row.reaction) > gravity(known.reaction);
        if gravity(row.reaction) > 0 && self.mailbox.as_ref().is_none_or(graver) {
            self.mailbox = Some((row, reply.clone()));
        }
        row
    }

    fn put(&mut self, place: usize, row: &'static Row, reply: &Reply) {
        match row.reaction {
            Reaction::Delivered => {
                self.delivered.push(place);
                self.accepted = Some(reply.clone());
            }
            Reaction::Failed | Reaction::FailedAndSlowed | Reaction::SenderRefused => {
                self.failed.push((place, reply.clone(), row));
            }
            Reaction::NextTransaction => {
                self.next.push(place);
                self.not_now = Some(reply.clone());
            }
            _ => {
                self.deferred.push(place);
                self.not_now = Some(reply.clone());
            }
        }
    }
}

/// What an answer says of the mailbox, from nothing to the most.
fn gravity(reaction: Reaction) -> u8 {
    match reaction {
        Reaction::Delivered
        | Reaction::Deferred
        | Reaction::NextTransaction
        | Reaction::Uncertain
        | Reaction::Failed => 0,
        Reaction::SenderRefused => 1,
        Reaction::ExternalHeld(_) => 2,
        Reaction::Crowded => 3,
        Reaction::TooFast => 4,
        Reaction::Slowed(_) | Reaction::FailedAndSlowed => 5,
        Reaction::FreshToken => 6,
        Reaction::Held(_) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge_here(
        count: usize,
        mail: &Reply,
        recipients: &[Reply],
        message: Option<&(Stage, Reply)>,
    ) -> Verdict {
        judge(Service::ExchangeOnline, count, mail, recipients, message)
    }

    fn failed(verdict: &Verdict) -> Vec<(usize, Reply)> {
        let failed = verdict.failed.iter();
        failed
            .map(|(place, reply, _)| (*place, reply.clone()))
            .collect()
    }

    fn reply(code: u16, enhanced: &'static str) -> Reply {
        Reply::new(code, enhanced, "x")
    }

    #[test]
    fn a_lost_connection_is_uncertain_only_after_the_final_dot() {
        assert_eq!(of_loss(Stage::FinalDot), Reaction::Uncertain);
        assert_eq!(of_loss(Stage::Content), Reaction::Deferred);
        assert_eq!(of_loss(Stage::Auth), Reaction::Slowed(Patience::Minutes));
    }

    #[test]
    fn recipients_have_their_own_fates() {
        let ok = reply(250, "");
        let rcpts = [
            ok.clone(),
            reply(550, "5.1.1"),
            reply(451, "4.4.7"),
            reply(452, "4.5.3"),
        ];
        let done = (Stage::FinalDot, Reply::new(250, "2.0.0", "queued"));
        let verdict = judge_here(4, &ok, &rcpts, Some(&done));
        assert_eq!(failed(&verdict), [(1, reply(550, "5.1.1"))]);
        assert_eq!((verdict.delivered, verdict.deferred), (vec![0], vec![2]));
        assert_eq!(verdict.next, [3]);
        assert_eq!(verdict.accepted, Some(done.1));
        assert_eq!(verdict.not_now, Some(reply(452, "4.5.3")));
        assert!(verdict.mailbox.is_none() && verdict.unclassified.is_empty());
    }

    #[test]
    fn another_transaction_needs_one_that_took_somebody() {
        let ok = reply(250, "");
        let verdict = judge_here(1, &ok, &[reply(452, "4.5.3")], None);
        assert_eq!((verdict.next, verdict.deferred), (vec![], vec![0]));
    }

    #[test]
    fn data_after_refused_recipients_says_nothing() {
        let need = (Stage::Data, reply(503, "5.5.2"));
        let verdict = judge_here(1, &reply(250, ""), &[reply(550, "5.1.10")], Some(&need));
        assert_eq!(verdict.failed.len(), 1);
        assert!(verdict.unclassified.is_empty());
    }

    #[test]
    fn a_refused_message_fails_for_those_that_were_accepted() {
        let ok = reply(250, "");
        let refused = (Stage::FinalDot, reply(554, "5.6.0"));
        let verdict = judge_here(2, &ok, &[ok.clone(), reply(450, "4.4.7")], Some(&refused));
        assert_eq!(failed(&verdict), [(0, refused.1)]);
        assert_eq!((verdict.deferred, verdict.unclassified.len()), (vec![1], 1));
    }

    #[test]
    fn the_gravest_word_about_the_mailbox_counts_and_not_against_the_message() {
        let ok = reply(250, "");
        let throttled = (Stage::FinalDot, reply(550, "5.2.251"));
        let verdict = judge_here(2, &ok, &[ok.clone(), reply(432, "4.3.2")], Some(&throttled));
        let (row, _) = verdict.mailbox.as_ref().unwrap();
        assert_eq!(row.name, "mailbox_blocked");
        assert!(!verdict.is_counted());
        assert_eq!(verdict.deferred, [0, 1]);
        let verdict = judge_here(1, &reply(530, "5.7.57"), &[], None);
        assert_eq!(verdict.mailbox.unwrap().0.reaction, Reaction::FreshToken);
        assert_eq!(verdict.deferred, [0]);
    }
}
