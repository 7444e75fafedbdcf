//! What an upstream's answer means: one table, one reaction for each. Pure.
//!
//! The seam for the whole table of `exchange-online.md`: whatever the upstream says, at whatever
//! stage, is judged by [`of_reply`] and nowhere else.

use crate::session::{Reply, Stage};

/// What an answer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// It is done.
    Delivered,
    /// It is tried again, by the schedule.
    Deferred,
    /// It is tried again, and may have arrived already.
    Uncertain,
    /// It has failed, for this recipient or, past RCPT, for all that were accepted.
    Failed,
    /// The token was not taken: a fresh one, once, then as [`Reaction::HoldServer`].
    FreshToken,
    /// The server needs a person; its mail stays queued.
    HoldServer,
}

/// The reaction to a reply.
pub fn of_reply(stage: Stage, reply: &Reply) -> Reaction {
    match (stage, reply.code) {
        (_, 421) => Reaction::Deferred,
        // Switched off by the administrator: another token changes nothing.
        (Stage::Auth, 535) if reply.enhanced == "5.7.139" => Reaction::HoldServer,
        (Stage::Auth, 550) if reply.enhanced == "5.7.30" => Reaction::HoldServer,
        (Stage::Auth, 535) | (Stage::Mail, 530) => Reaction::FreshToken,
        (Stage::Auth, 500..) => Reaction::HoldServer,
        // Before MAIL it is the server that says no, not to this message.
        (
            Stage::Connect | Stage::Tls | Stage::Greeting | Stage::Ehlo | Stage::Auth | Stage::End,
            _,
        ) => Reaction::Deferred,
        (_, 200..=399) => Reaction::Delivered,
        (_, 400..=499) => Reaction::Deferred,
        _ => Reaction::Failed,
    }
}

/// The reaction to a connection that ended without a reply.
pub fn of_loss(stage: Stage) -> Reaction {
    match stage {
        Stage::FinalDot => Reaction::Uncertain,
        _ => Reaction::Deferred,
    }
}

/// What became of one message's recipients.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Places of the recipients that have it.
    pub delivered: Vec<usize>,
    /// Places of those that failed, with the answer.
    pub failed: Vec<(usize, Reply)>,
    /// Places of those to be tried again.
    pub deferred: Vec<usize>,
    /// The answer by which some were delivered.
    pub accepted: Option<Reply>,
    /// The last answer by which some are to be tried again.
    pub not_now: Option<Reply>,
    /// Whether the server did not take us for signed in.
    pub unauthenticated: bool,
}

/// Judges the replies to MAIL, to each RCPT, and to DATA or the final dot.
pub fn judge(
    count: usize,
    mail: &Reply,
    recipients: &[Reply],
    message: Option<&(Stage, Reply)>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mail_says = of_reply(Stage::Mail, mail);
    if mail_says != Reaction::Delivered {
        verdict.unauthenticated = mail_says == Reaction::FreshToken;
        (0..count).for_each(|place| verdict.put(place, mail_says, mail));
        return verdict;
    }
    for (place, reply) in recipients.iter().enumerate() {
        let says = of_reply(Stage::Rcpt, reply);
        match (says, message) {
            (Reaction::Delivered, Some((stage, reply))) => {
                verdict.put(place, of_reply(*stage, reply), reply)
            }
            // Accepted, but the message was not sent: another recipient forbade it.
            (Reaction::Delivered, None) => verdict.deferred.push(place),
            (says, _) => verdict.put(place, says, reply),
        }
    }
    verdict
}

impl Verdict {
    fn put(&mut self, place: usize, reaction: Reaction, reply: &Reply) {
        match reaction {
            Reaction::Delivered => {
                self.delivered.push(place);
                self.accepted = Some(reply.clone());
            }
            Reaction::Failed => self.failed.push((place, reply.clone())),
            _ => {
                self.deferred.push(place);
                self.not_now = Some(reply.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, enhanced: &'static str) -> Reply {
        Reply::new(code, enhanced, "x")
    }

    #[test]
    fn the_table() {
        let cases = [
            (Stage::Auth, reply(535, "5.7.3"), Reaction::FreshToken),
            (Stage::Auth, reply(535, "5.7.139"), Reaction::HoldServer),
            (Stage::Auth, reply(550, "5.7.30"), Reaction::HoldServer),
            (Stage::Auth, reply(504, "5.7.4"), Reaction::HoldServer),
            (Stage::Auth, reply(451, "4.7.0"), Reaction::Deferred),
            (Stage::Greeting, reply(554, ""), Reaction::Deferred),
            (Stage::Mail, reply(530, "5.7.57"), Reaction::FreshToken),
            (Stage::Mail, reply(550, "5.1.8"), Reaction::Failed),
            (Stage::Rcpt, reply(450, "4.2.0"), Reaction::Deferred),
            (Stage::Rcpt, reply(550, "5.1.1"), Reaction::Failed),
            (Stage::FinalDot, reply(250, "2.0.0"), Reaction::Delivered),
            (Stage::FinalDot, reply(421, "4.3.2"), Reaction::Deferred),
            (Stage::FinalDot, reply(554, "5.2.252"), Reaction::Failed),
        ];
        for (stage, reply, expected) in cases {
            assert_eq!(of_reply(stage, &reply), expected, "{stage} {reply}");
        }
        assert_eq!(of_loss(Stage::FinalDot), Reaction::Uncertain);
        assert_eq!(of_loss(Stage::Content), Reaction::Deferred);
    }

    #[test]
    fn recipients_have_their_own_fates() {
        let ok = reply(250, "");
        let rcpts = [ok.clone(), reply(550, "5.1.1"), reply(451, "4.2.0")];
        let done = (Stage::FinalDot, Reply::new(250, "2.0.0", "queued"));
        let verdict = judge(3, &ok, &rcpts, Some(&done));
        assert_eq!((verdict.delivered, verdict.deferred), (vec![0], vec![2]));
        assert_eq!(verdict.failed, [(1, reply(550, "5.1.1"))]);
        assert_eq!(verdict.accepted, Some(done.1));
        assert_eq!(verdict.not_now, Some(reply(451, "4.2.0")));
    }

    #[test]
    fn a_refused_message_fails_for_those_that_were_accepted() {
        let ok = reply(250, "");
        let refused = (Stage::FinalDot, reply(554, "5.6.0"));
        let verdict = judge(2, &ok, &[ok.clone(), reply(450, "")], Some(&refused));
        assert_eq!(verdict.failed, [(0, refused.1)]);
        assert_eq!(verdict.deferred, [1]);
        let verdict = judge(2, &reply(530, "5.7.57"), &[], None);
        assert!(verdict.unauthenticated && verdict.deferred == [0, 1]);
    }
}
