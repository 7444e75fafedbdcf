//! The answers of the person who sets mailferry up. Pure.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::message::Address;

/// The answers from which the configuration and the script are made.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    /// The mailboxes that mail is sent through; at least one.
    pub(super) mailboxes: Vec<MailboxAnswer>,
    /// The one who signs in: the app itself, or a person.
    pub(super) sign_in: SignIn,
    /// The tenant: its id, or one of its domains.
    pub(super) tenant: String,
    /// The Microsoft cloud, if it is not the worldwide one.
    pub(super) cloud: Option<&'static str>,
    /// The application (client) id, if it is known already.
    pub(super) client_id: Option<String>,
    /// True if the app has a client secret, with which people sign in.
    pub(super) has_client_secret: bool,
    /// The sender of mail that no mailbox may send as it is; `None` if such mail is refused.
    pub(super) default_from: Option<Address>,
    /// The address that apps connect to.
    pub(super) listen: SocketAddr,
    /// The name that apps sign in with.
    pub(super) user: String,
    /// The networks whose clients need no password.
    pub(super) networks: Vec<IpNet>,
    /// True if apps also read the mailboxes by IMAP.
    pub(super) reading: bool,
    /// True if the configuration is for the service of the Debian package.
    pub(super) is_packaged: bool,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MailboxAnswer {
    /// Its name in the configuration.
    pub(super) name: String,
    /// Its address.
    pub(super) address: Address,
    /// The addresses and domains that it sends as.
    pub(super) filter: Vec<String>,
    /// True if another tool's refresh token signs in.
    pub(super) has_refresh_token: bool,
}

/// The one who signs in at Microsoft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SignIn {
    /// mailferry itself, with a certificate.
    App,
    /// A person, once, in a browser.
    Person,
}

/// Returns the mailboxes with names, which are their local parts, made different from each other; each once. `filters` are
/// pairs of a mailbox and an address or domain that it sends as; without one it sends as itself.
pub(super) fn mailboxes(
    addresses: &[Address],
    filters: &[(Address, String)],
) -> Vec<MailboxAnswer> {
    let mut all: Vec<MailboxAnswer> = Vec::new();
    for address in addresses {
        if all.iter().any(|it| it.address == *address) {
            continue;
        }
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        let stem: String = local_part(address).chars().map(plain).collect();
        let names = (2..).map(|number| format!("{stem}-{number}"));
        let mut names = std::iter::once(stem.clone()).chain(names);
        let is_free = |name: &String| all.iter().all(|it| it.name != *name);
        let name = names.find(is_free).unwrap_or_default();
        let mut filter = vec![address.to_string()];
        let theirs = filters.iter().filter(|(mailbox, _)| mailbox == address);
        filter.extend(theirs.map(|(_, more)| more.clone()));
        all.push(MailboxAnswer {
            name,
            address: address.clone(),
            filter,
            has_refresh_token: false,
        });
    }
    all
}

fn local_part(address: &Address) -> &str {
    address.as_str().split('@').next().unwrap_or_default()
}

/// Returns the domain of an address.
pub(super) fn domain(address: &Address) -> &str {
    address.as_str().rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn mailboxes_have_different_names_and_send_as_themselves() {
        let all = [
            address("Info@a.example"),
            address("info@b.example"),
            address("bills+x@a.example"),
            address("info@b.example"),
        ];
        let filters = [(all[1].clone(), "b.example".to_owned())];
        let made = mailboxes(&all, &filters);
        let names: Vec<&str> = made.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["info", "info-2", "bills-x"]);
        assert_eq!(made[0].filter, [all[0].to_string()]);
        assert_eq!(made[1].filter, ["info@b.example", "b.example"]);
    }
}
