//! The answers in another tool's configuration, whichever tool it is. Pure.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::answers::SignIn;
use crate::base::Secret;
use crate::message::Address;

/// The answers in another tool's configuration, and the parts that cannot be carried over.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// The mailboxes of Microsoft 365.
    pub(super) mailboxes: Vec<Address>,
    /// Other senders that a mailbox sends as.
    pub(super) filters: Vec<(Address, String)>,
    /// The one who signs in.
    pub(super) sign_in: Option<SignIn>,
    /// The tenant.
    pub(super) tenant: Option<String>,
    /// The Microsoft cloud of the first account.
    pub(super) cloud: Option<&'static str>,
    /// The application (client) id.
    pub(super) client_id: Option<String>,
    /// The client secret of an app through which people sign in.
    pub(super) client_secret: Option<Secret>,
    /// The refresh tokens of mailboxes.
    pub(super) refresh_tokens: Vec<(Address, Secret)>,
    /// The address that apps connect to.
    pub(super) listen: Option<SocketAddr>,
    /// The mailbox of the default account.
    pub(super) default_from: Option<Address>,
    /// Networks whose clients need no password.
    pub(super) networks: Vec<IpNet>,
    /// Senders, each with the mailbox through which the other tool sends its mail. The new configuration is compared with
    /// them.
    pub(super) ways: Vec<(Address, Address)>,
    /// The parts that are not carried over, each with the reason.
    pub(super) left: Vec<String>,
}

/// The hosts of Microsoft 365 that mail is sent to, each with its cloud as the configuration writes it.
const SMTP_HOSTS: [(&str, &str); 6] = [
    ("smtp.office365.com", "worldwide"),
    ("smtp-mail.outlook.com", "worldwide"),
    ("outlook.office365.com", "worldwide"),
    ("smtp.office365.us", "usgov"),
    ("outlook-dod.office365.us", "dod"),
    ("smtp.partner.outlook.cn", "china"),
];

impl Imported {
    /// True for a host of Microsoft 365 that mail is sent to, however it is written. Takes over its cloud; hosts of another
    /// cloud than the first one's are left out.
    pub(super) fn is_at_microsoft(&mut self, host: &str) -> bool {
        let mut known = SMTP_HOSTS.iter();
        let found = known.find(|(known, _)| known.eq_ignore_ascii_case(host));
        let Some((_, cloud)) = found else {
            return false;
        };
        match (self.cloud, *cloud) {
            (None, "worldwide") => {}
            (None, cloud) => self.left.push(format!(
                "the script for Microsoft's side, which is for the worldwide cloud: {host} is in the cloud {cloud}; follow `mailferry setup \
                 --portal` in that cloud's portals"
            )),
            (Some(before), cloud) if before != cloud => {
                self.left.push(format!(
                    "{host}: it is in the cloud {cloud}, and the accounts before are in the cloud {before}; run setup for it in another folder"
                ));
                return false;
            }
            _ => {}
        }
        self.cloud = Some(cloud);
        true
    }

    /// Takes over a mailbox that sends as itself, or as this other address or domain.
    pub(super) fn takes(&mut self, mailbox: &Address, filter: Option<&str>) {
        if !self.mailboxes.contains(mailbox) {
            self.mailboxes.push(mailbox.clone());
            self.ways.push((mailbox.clone(), mailbox.clone()));
        }
        let Some(filter) = filter.filter(|filter| *filter != mailbox.as_str()) else {
            return;
        };
        let sender = match filter.contains('@') {
            true => filter.to_owned(),
            false => format!("somebody@{filter}"),
        };
        let Ok(sender) = Address::parse(&sender) else {
            return self
                .left
                .push(format!("{filter}: it is neither an address nor a domain"));
        };
        self.filters.push((mailbox.clone(), filter.to_owned()));
        self.ways.push((sender, mailbox.clone()));
    }
}
