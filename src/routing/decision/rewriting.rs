//! The addresses that a message is sent as, once its server is known.

use super::choice::Choice;
use super::{NotRouted, Reason, Refusal};
use crate::message::{Address, Author, Mailbox, ReversePath};
use crate::routing::policy::{NullSender, OnMismatch, Policy, ServerRule};

impl Policy {
    /// Returns the From that replaces the existing one, or `None` if the existing From stays.
    pub(super) fn rewritten_from(
        &self,
        choice: &Choice,
        author: &Author,
        default_from: Option<&Address>,
    ) -> Result<Option<Mailbox>, Refusal> {
        let Choice {
            server,
            identity,
            reason,
        } = choice;
        let is_pinned_free = *reason == Reason::Pinned && server.filter.is_none();
        let by_filter = matches!(
            reason,
            Reason::Pinned | Reason::Address(..) | Reason::Domain(..)
        );
        let address = author.mailbox().map(|mailbox| &mailbox.address);
        let on_mismatch = match self.on_mismatch {
            // The server would refuse the From.
            OnMismatch::Keep if server.sends_only_as_itself => OnMismatch::Rewrite,
            other => other,
        };
        let stays = match author {
            Author::Missing => false,
            _ if is_pinned_free => true,
            Author::Malformed(_) if by_filter && on_mismatch == OnMismatch::Reject => {
                return Err(mismatch(server, address));
            }
            Author::Malformed(_) => false,
            _ if by_filter => match (address.is_some_and(|a| server.admits(a)), on_mismatch) {
                (true, _) | (false, OnMismatch::Keep) => true,
                (false, OnMismatch::Rewrite) => false,
                (false, OnMismatch::Reject) => return Err(mismatch(server, address)),
            },
            _ if *reason == Reason::LastResort && on_mismatch == OnMismatch::Keep => true,
            _ if *reason == Reason::Unfiltered && default_from.is_none() => true,
            _ => address.is_some() && address == identity.as_ref(),
        };
        if stays {
            return Ok(match author {
                Author::Lenient(mailbox) => Some(mailbox.clone()),
                _ => None,
            });
        }
        match identity {
            Some(identity) => Ok(Some(encapsulated(author, identity))),
            None => Err(Refusal {
                why: NotRouted::NoIdentity(server.name.clone()),
                reason: Reason::NoIdentity,
            }),
        }
    }

    /// Returns the mailbox that a server which signs in as each sender uses: the address that the message is sent
    /// as. `None` for other servers.
    pub(super) fn mailbox(
        choice: &Choice,
        author: &Author,
        from: Option<&Mailbox>,
    ) -> Result<Option<Address>, Refusal> {
        let server = choice.server;
        if !server.is_per_sender {
            return Ok(None);
        }
        let speaks_as = from.or(author.mailbox()).map(|mailbox| &mailbox.address);
        let admitted = |address: &&Address| server.admits(address);
        let mailbox = speaks_as.filter(admitted);
        let mailbox = mailbox.or(choice.identity.as_ref().filter(admitted));
        match mailbox {
            Some(mailbox) => Ok(Some(mailbox.clone())),
            None => Err(Refusal {
                why: NotRouted::NoMailbox(server.name.clone()),
                reason: Reason::NoIdentity,
            }),
        }
    }

    /// Returns the reverse-path to send. The original is replaced if the server does not admit it, or if it
    /// is the author's address and From was rewritten.
    pub(super) fn rewritten_sender(
        &self,
        choice: &Choice,
        sender: &ReversePath,
        author: &Author,
        from: Option<&Mailbox>,
    ) -> ReversePath {
        let Some(address) = sender.address() else {
            let null_sender = match choice.server.sends_only_as_itself {
                true => NullSender::Identity,
                false => self.null_sender,
            };
            return match (null_sender, &choice.identity) {
                (NullSender::Identity, Some(identity)) => ReversePath::Mailbox(identity.clone()),
                _ => ReversePath::Null,
            };
        };
        let old_author = author.mailbox().map(|mailbox| &mailbox.address);
        let left_with_from = from.is_some() && old_author == Some(address);
        let speaks_as = from
            .map(|mailbox| &mailbox.address)
            .or(old_author)
            .or(choice.identity.as_ref());
        match speaks_as {
            Some(new) if left_with_from || !choice.server.admits(address) => {
                ReversePath::Mailbox(new.clone())
            }
            _ => sender.clone(),
        }
    }
}

fn mismatch(server: &ServerRule, author: Option<&Address>) -> Refusal {
    let author = author.map_or("The header From".to_owned(), |author| format!("<{author}>"));
    Refusal {
        why: NotRouted::From {
            author,
            server: server.name.clone(),
        },
        reason: Reason::FromNotAdmitted,
    }
}

/// Returns the identity with the author's name, or with the author's local part if there is no name.
fn encapsulated(author: &Author, identity: &Address) -> Mailbox {
    match author {
        Author::One(mailbox) | Author::Lenient(mailbox) | Author::Several(Some(mailbox)) => {
            mailbox.encapsulated_in(identity)
        }
        Author::Malformed(name) => Mailbox::new(name.as_deref(), identity.clone()),
        Author::Missing | Author::Several(None) => Mailbox::new(None, identity.clone()),
    }
}
