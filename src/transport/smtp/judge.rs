//! Judges an upstream's replies: their meaning for the recipients of a message and for the mailbox. Pure.
//!
//! Every reply of the upstream, at every stage, is judged by [`table`] and nowhere else.

use super::failure::Failure;
use super::reaction::Reaction;
use super::remedy::{remedy, with_remedy};
use super::session::Transcript;
use super::stage::Stage;
use super::table::{self, Row};
use super::wait;
use crate::message::Address;
use crate::transport::answer::Answer;
use crate::transport::finding::{Finding, Patience};
use crate::transport::outcome::{FailedRecipient, Interruption, Outcome, Progress};
use crate::transport::outgoing::Outgoing;
use crate::transport::upstream::Upstream;

/// Returns the reaction to a connection that ended without a reply.
pub(crate) fn of_loss(stage: Stage) -> Reaction {
    match stage {
        Stage::FinalDot => Reaction::Uncertain,
        Stage::Connect | Stage::Tls | Stage::Greeting | Stage::Ehlo | Stage::Auth => {
            Reaction::Slowed(Patience::Minutes)
        }
        _ => Reaction::Deferred,
    }
}

/// Returns the reaction to a failure.
pub(super) fn reaction(upstream: &Upstream, failure: &Failure) -> Reaction {
    match failure.answer() {
        Some(answer) => table::row(upstream.smtp.service, failure.stage(), answer).reaction,
        None => of_loss(failure.stage()),
    }
}

/// Returns the interruption for a session that could not begin, or that ended early.
pub fn interruption(upstream: &Upstream, failure: &Failure) -> Interruption {
    let reason = failure.to_string();
    let reaction = reaction(upstream, failure);
    let finding = match (failure.answer(), reaction) {
        (Some(answer), _) => {
            let row = table::row(upstream.smtp.service, failure.stage(), answer);
            finding(upstream, row, answer, &reason, None)
        }
        (None, Reaction::Slowed(patience)) => Some(Finding::Slowed(patience, reason.clone())),
        (None, _) => None,
    };
    Interruption {
        reason,
        answer: failure.answer().cloned(),
        finding,
        progress: match failure.stage() {
            Stage::FinalDot if reaction == Reaction::Uncertain => Progress::MayHaveArrived,
            Stage::Mail => Progress::Unanswered,
            _ => Progress::UnderWay,
        },
    }
}

/// Returns the outcome that follows from the replies to a message.
pub fn outcome(upstream: &Upstream, message: &Outgoing, replies: &Transcript) -> Outcome {
    let mut judging = Judging {
        upstream,
        sender: message.sender.address(),
        author: message.sender.address().or(message.author),
        gravest: None,
        outcome: Outcome {
            confirms: replies.offers_dsn,
            ..Outcome::default()
        },
    };
    judging.judge(message.envelope.recipients.len(), replies);
    judging.end()
}

/// Returns what a reply shows about the mailbox, if anything. The reason begins with `said`; `sender` is the
/// address that the message was sent as.
fn finding(
    upstream: &Upstream,
    row: &Row,
    answer: &Answer,
    said: &str,
    sender: Option<&Address>,
) -> Option<Finding> {
    let remedy = remedy(upstream, row, sender);
    let reason = with_remedy(said, &remedy);
    Some(match row.reaction {
        Reaction::Crowded => Finding::Crowded(reason),
        Reaction::TooFast => Finding::TooFast(reason),
        Reaction::Slowed(patience) => Finding::Slowed(patience, reason),
        Reaction::FailedAndSlowed => Finding::Slowed(Patience::Minutes, reason),
        Reaction::ExternalHeld(time) => Finding::ExternalHeld(time, reason),
        Reaction::FreshToken => Finding::TokenRefused(reason),
        Reaction::Held(until) => Finding::Held(until, reason),
        Reaction::SenderRefused => Finding::SenderRefused {
            sender: sender?.clone(),
            answer: answer.clone(),
            remedy,
        },
        _ => return None,
    })
}

struct Judging<'a> {
    upstream: &'a Upstream,
    sender: Option<&'a Address>,
    author: Option<&'a Address>,
    /// The reply with the gravest finding about the mailbox.
    gravest: Option<(&'static Row, Answer)>,
    outcome: Outcome,
}

impl Judging<'_> {
    fn judge(&mut self, count: usize, replies: &Transcript) {
        let mail = self.row(Stage::Mail, &replies.mail);
        if mail.reaction != Reaction::Delivered {
            (0..count).for_each(|place| self.put(place, mail, &replies.mail));
            return;
        }
        // If no recipient was accepted, pipelined DATA is refused as well. That refusal adds no
        // information.
        let has_some = replies.recipients.iter().any(Answer::is_completion);
        let message = replies.message.as_ref().filter(|_| has_some);
        let message = message.map(|(stage, answer)| (self.row(*stage, answer), answer));
        for (place, answer) in replies.recipients.iter().enumerate() {
            let row = self.row(Stage::Rcpt, answer);
            match (row.reaction, message) {
                (Reaction::Delivered, Some((row, answer))) => self.put(place, row, answer),
                // Accepted, but the message was not sent because another recipient was refused.
                (Reaction::Delivered, None) => self.outcome.deferred.push(place),
                _ => self.put(place, row, answer),
            }
        }
        // If this transaction delivered to no recipient, another one right away would not help.
        if self.outcome.delivered.is_empty() {
            let next = std::mem::take(&mut self.outcome.next);
            self.outcome.deferred.extend(next);
        }
    }

    fn row(&mut self, stage: Stage, answer: &Answer) -> &'static Row {
        let row = table::row(self.upstream.smtp.service, stage, answer);
        if table::is_unclassified(row) {
            self.outcome.unclassified.push(answer.clone());
        }
        let graver = |(known, _): &(&Row, Answer)| gravity(row.reaction) > gravity(known.reaction);
        if gravity(row.reaction) > 0 && self.gravest.as_ref().is_none_or(graver) {
            self.gravest = Some((row, answer.clone()));
        }
        row
    }

    fn put(&mut self, place: usize, row: &'static Row, answer: &Answer) {
        let outcome = &mut self.outcome;
        match row.reaction {
            Reaction::Delivered => {
                outcome.delivered.push(place);
                outcome.accepted.get_or_insert_with(|| answer.clone());
            }
            Reaction::Failed | Reaction::FailedAndSlowed | Reaction::SenderRefused => {
                outcome.failed.push(FailedRecipient {
                    place,
                    answer: answer.clone(),
                    remedy: remedy(self.upstream, row, self.author),
                });
            }
            reaction => {
                let places = match reaction {
                    Reaction::NextTransaction => &mut outcome.next,
                    _ => &mut outcome.deferred,
                };
                places.push(place);
                outcome.wait = outcome.wait.max(wait::asked_for(answer));
                outcome.not_now = Some(answer.clone());
            }
        }
    }

    fn end(mut self) -> Outcome {
        self.outcome.finding = self.gravest.as_ref().and_then(|(row, answer)| {
            finding(self.upstream, row, answer, &answer.to_string(), self.sender)
        });
        self.outcome
    }
}

/// Ranks reactions by what they mean for the mailbox: 0 for no finding, higher for graver findings.
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
    use crate::message::{Envelope, Parameters, Recipient, ReversePath};
    use crate::transport::outgoing::Body;

    fn judged(
        count: usize,
        mail: &Answer,
        recipients: &[Answer],
        message: Option<(Stage, Answer)>,
    ) -> Outcome {
        let recipient = Recipient {
            address: Address::parse("to@x.com").unwrap(),
            parameters: Parameters::default(),
        };
        let envelope = Envelope {
            sender: ReversePath::Null,
            parameters: Parameters::default(),
            recipients: vec![recipient; count],
        };
        let message_of = Outgoing {
            sender: &ReversePath::Null,
            author: None,
            envelope: &envelope,
            head: b"",
            body: Body::Memory(bytes::Bytes::new()),
            utf8_header: false,
            all_or_none: false,
        };
        let replies = Transcript {
            mail: mail.clone(),
            recipients: recipients.to_vec(),
            message,
            offers_dsn: true,
        };
        outcome(&Upstream::of_exchange(), &message_of, &replies)
    }

    fn failed(outcome: &Outcome) -> Vec<(usize, Answer)> {
        let failed = outcome.failed.iter();
        failed
            .map(|refused| (refused.place, refused.answer.clone()))
            .collect()
    }

    fn answer(code: u16, enhanced: &'static str) -> Answer {
        Answer::new(code, enhanced, "x")
    }

    #[test]
    fn a_lost_connection_is_uncertain_only_after_the_final_dot() {
        assert_eq!(of_loss(Stage::FinalDot), Reaction::Uncertain);
        assert_eq!(of_loss(Stage::Content), Reaction::Deferred);
        assert_eq!(of_loss(Stage::Auth), Reaction::Slowed(Patience::Minutes));
        for (stage, progress) in [
            (Stage::FinalDot, Progress::MayHaveArrived),
            (Stage::Content, Progress::UnderWay),
            (Stage::Mail, Progress::Unanswered),
        ] {
            let failure = Failure::Lost {
                host: "x".into(),
                stage,
                reason: "gone".into(),
            };
            let interruption = interruption(&Upstream::of_exchange(), &failure);
            assert_eq!(interruption.progress, progress, "{stage}");
            assert_eq!(interruption.finding, None);
        }
    }

    #[test]
    fn recipients_have_their_own_fates() {
        let ok = answer(250, "");
        let rcpts = [
            ok.clone(),
            answer(550, "5.1.1"),
            answer(451, "4.4.7"),
            answer(452, "4.5.3"),
        ];
        let done = Answer::new(250, "2.0.0", "queued");
        let outcome = judged(4, &ok, &rcpts, Some((Stage::FinalDot, done.clone())));
        assert_eq!(failed(&outcome), [(1, answer(550, "5.1.1"))]);
        assert_eq!((outcome.delivered, outcome.deferred), (vec![0], vec![2]));
        assert_eq!(outcome.next, [3]);
        assert_eq!(outcome.accepted, Some(done));
        assert_eq!(outcome.not_now, Some(answer(452, "4.5.3")));
        assert!(outcome.finding.is_none() && outcome.unclassified.is_empty());
    }

    #[test]
    fn another_transaction_needs_one_that_took_somebody() {
        let ok = answer(250, "");
        let outcome = judged(1, &ok, &[answer(452, "4.5.3")], None);
        assert_eq!((outcome.next, outcome.deferred), (vec![], vec![0]));
    }

    #[test]
    fn data_after_refused_recipients_says_nothing() {
        let need = (Stage::Data, answer(503, "5.5.2"));
        let outcome = judged(1, &answer(250, ""), &[answer(550, "5.1.10")], Some(need));
        assert_eq!(outcome.failed.len(), 1);
        assert!(outcome.unclassified.is_empty());
    }

    #[test]
    fn a_refused_message_fails_for_those_that_were_accepted() {
        let ok = answer(250, "");
        let refused = (Stage::FinalDot, answer(554, "5.6.0"));
        let rcpts = [ok.clone(), answer(450, "4.4.7")];
        let outcome = judged(2, &ok, &rcpts, Some(refused.clone()));
        assert_eq!(failed(&outcome), [(0, refused.1)]);
        assert_eq!((outcome.deferred, outcome.unclassified.len()), (vec![1], 1));
    }

    #[test]
    fn the_gravest_finding_about_the_mailbox_counts_and_not_against_the_message() {
        let ok = answer(250, "");
        let throttled = (Stage::FinalDot, answer(550, "5.2.251"));
        let rcpts = [ok.clone(), answer(432, "4.3.2")];
        let outcome = judged(2, &ok, &rcpts, Some(throttled));
        assert!(matches!(&outcome.finding, Some(Finding::Held(..))));
        assert!(!outcome.is_counted());
        assert_eq!(outcome.deferred, [0, 1]);
        let outcome = judged(1, &answer(530, "5.7.57"), &[], None);
        assert!(matches!(&outcome.finding, Some(Finding::TokenRefused(_))));
        assert_eq!(outcome.deferred, [0]);
    }

    #[test]
    fn a_message_to_all_or_none_is_decided_by_a_refusal_for_now_first() {
        let ok = answer(250, "");
        let rcpts = [answer(550, "5.1.1"), answer(451, "4.4.7")];
        let outcome = judged(2, &ok, &rcpts, None);
        assert_eq!(outcome.decisive(), Some(&answer(451, "4.4.7")));
    }
}
