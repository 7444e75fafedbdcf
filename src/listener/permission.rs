//! Who may send as whom, and where to. Pure.

use crate::message::{Address, Author, ReversePath};
use crate::session::Reply;

use super::User;

const HEADER: &str = "header From";

/// Whether the user may say this in MAIL. The null sender speaks for nobody.
pub fn sender(user: &User, sender: &ReversePath) -> Result<(), Reply> {
    match sender {
        ReversePath::Null => Ok(()),
        ReversePath::Mailbox(address) => speaks_as(user, "envelope sender", address),
    }
}

/// Whether the user may say this in From, which leaves as it is unless it is `replaced`. Several authors
/// cannot be told from one that hides behind another; nor can what we do not understand, and others may.
pub fn author(user: &User, author: &Author, replaced: bool) -> Result<(), Reply> {
    let unread = match author {
        Author::One(mailbox) | Author::Lenient(mailbox) => {
            return speaks_as(user, HEADER, &mailbox.address);
        }
        Author::Several(_) => "several addresses",
        Author::Malformed(_) if !replaced => "an address that cannot be read",
        Author::Missing | Author::Malformed(_) => return Ok(()),
    };
    match user.senders {
        Some(_) => Err(Reply::sender_not_allowed(&user.name, HEADER, &unread)),
        None => Ok(()),
    }
}

/// Whether the user may send there.
pub fn recipient(user: &User, address: &Address) -> Result<(), Reply> {
    let admits = user.recipients.as_ref().is_none_or(|to| to.admits(address));
    match admits {
        true => Ok(()),
        false => Err(Reply::recipient_not_allowed(&user.name, address)),
    }
}

fn speaks_as(user: &User, place: &str, address: &Address) -> Result<(), Reply> {
    let admits = user.senders.as_ref().is_none_or(|as_| as_.admits(address));
    match admits {
        true => Ok(()),
        false => Err(Reply::sender_not_allowed(&user.name, place, address)),
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
