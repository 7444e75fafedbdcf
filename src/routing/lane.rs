//! The names of servers that sign in as each sender. Their mail is queued and sent by mailbox, so the name
//! of the configured server is followed by the mailbox: `staff/ann@example.com`. Pure.

use crate::message::Address;

/// Separates the server's name from the mailbox. The name of a configured server never contains it.
const SEPARATOR: char = '/';

/// Returns the name under which the mail of one mailbox is sent through a server.
pub(crate) fn of(server: &str, mailbox: &Address) -> String {
    let mailbox = format!("{}@{}", mailbox.local_part(), mailbox.domain_key());
    format!("{server}{SEPARATOR}{}", mailbox.to_ascii_lowercase())
}

/// Returns the name of the configured server.
pub(crate) fn server(name: &str) -> &str {
    parts(name).0
}

/// Returns the name of the configured server, and the mailbox if the name contains one.
pub(crate) fn parts(name: &str) -> (&str, Option<Address>) {
    match name.split_once(SEPARATOR) {
        Some((server, mailbox)) => (server, Address::parse(mailbox).ok()),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_apart() {
        let ann = Address::parse("Ann@Example.com").unwrap();
        let name = of("staff", &ann);
        assert_eq!(name, "staff/ann@example.com");
        assert_eq!(parts(&name), ("staff", Some(ann)));
        assert_eq!(parts("staff"), ("staff", None));
        assert_eq!(server("staff/a/b@example.com"), "staff");
    }
}
