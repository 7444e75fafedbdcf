//! Checks the addresses that a user may send from and send to. Pure functions.

use crate::door::User;
use crate::message::{Address, Author, ReversePath};

const HEADER: &str = "header From";

/// A sender or recipient that the user may not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The user may not send as this address.
    #[error("User {user} may not send as <{address}>, the {place} (setting `senders`)")]
    Sender {
        /// The user.
        user: String,
        /// The place of the address: envelope sender or header From.
        place: &'static str,
        /// The address, or a description if there is no single address.
        address: String,
    },
    /// The user may not send to this recipient.
    #[error("User {user} may not send to <{address}> (setting `recipients`)")]
    Recipient {
        /// The user.
        user: String,
        /// The recipient.
        address: Address,
    },
}

impl NotAllowed {
    fn sender(user: &User, place: &'static str, address: impl ToString) -> Self {
        Self::Sender {
            user: user.name.clone(),
            place,
            address: address.to_string(),
        }
    }
}

/// Checks that the user may give this sender in MAIL. The null sender is always allowed: it names nobody.
pub(crate) fn sender(user: &User, sender: &ReversePath) -> Result<(), NotAllowed> {
    match sender {
        ReversePath::Null => Ok(()),
        ReversePath::Mailbox(address) => may_send_as(user, "envelope sender", address),
    }
}

/// Checks that the user may write this From. `replaced` is true if another From is sent instead. A user with
/// a `senders` list may not name several authors, because a forged author could hide behind an allowed one.
/// Such a user may write an unreadable From only if it is replaced, because another program may read an
/// address in it.
pub(crate) fn author(user: &User, author: &Author, replaced: bool) -> Result<(), NotAllowed> {
    let unread = match author {
        Author::One(mailbox) | Author::Lenient(mailbox) => {
            return may_send_as(user, HEADER, &mailbox.address);
        }
        Author::Several(_) => "several addresses",
        Author::Malformed(_) if !replaced => "an address that cannot be read",
        Author::Missing | Author::Malformed(_) => return Ok(()),
    };
    match user.senders {
        Some(_) => Err(NotAllowed::sender(user, HEADER, unread)),
        None => Ok(()),
    }
}

/// Checks that the user may send to this address.
pub(crate) fn recipient(user: &User, address: &Address) -> Result<(), NotAllowed> {
    let admits = user.recipients.as_ref().is_none_or(|to| to.admits(address));
    if admits {
        Ok(())
    } else {
        Err(NotAllowed::Recipient {
            user: user.name.clone(),
            address: address.clone(),
        })
    }
}

fn may_send_as(user: &User, place: &'static str, address: &Address) -> Result<(), NotAllowed> {
    let admits = user.senders.as_ref().is_none_or(|as_| as_.admits(address));
    if admits {
        Ok(())
    } else {
        Err(NotAllowed::sender(user, place, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Filter;

    fn user() -> User {
        User {
            senders: Filter::parse("erp@example.com, shop.example.com").unwrap(),
            recipients: Filter::parse("example.com").unwrap(),
            ..User::named("erp")
        }
    }

    fn may_say(from: &str) -> bool {
        author(&user(), &Author::of_value(from.as_bytes()), false).is_ok()
    }

    #[test]
    fn a_user_speaks_as_what_is_listed() {
        let may_send = |path: &str| sender(&user(), &ReversePath::parse(path).unwrap());
        assert_eq!(may_send("erp@EXAMPLE.com"), Ok(()));
        assert_eq!(may_send("any@shop.example.com"), Ok(()));
        assert_eq!(may_send("<>"), Ok(()));
        let refusal = may_send("boss@example.com").unwrap_err().to_string();
        assert!(refusal.contains("erp") && refusal.contains("boss@example.com"));
        assert!(may_say("The ERP <erp@example.com>"));
        assert!(!may_say("Boss <boss@example.com>"));
        assert!(!may_say("erp@example.com, boss@example.com"));
        assert!(!may_say("\"erp@example.com\" <boss@example.com>"));
        assert!(!may_say("Boss <boss@example.com> x"));
        assert_eq!(author(&user(), &Author::Malformed(None), true), Ok(()));
        assert_eq!(author(&user(), &Author::Missing, false), Ok(()));
    }

    #[test]
    fn a_user_sends_to_what_is_listed() {
        let may_reach = |text: &str| recipient(&user(), &Address::parse(text).unwrap()).is_ok();
        assert!(may_reach("ann@example.com"));
        assert!(!may_reach("ann@example.net"));
        assert!(!may_reach("ann@sub.example.com"));
        let anybody = User::named("erp");
        assert!(recipient(&anybody, &Address::parse("a@b.c").unwrap()).is_ok());
    }
}
