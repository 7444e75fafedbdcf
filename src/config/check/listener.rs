//! `[[listener]]`: the sockets that apps connect to, and their rules.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use toml::Spanned;

use super::checker::Checker;
use super::user::limit;
use crate::base::certificate::{self, Files};
use crate::base::written::Network;
use crate::config::secret::{SecretError, check_mode};
use crate::config::text::{self, ListenerAuth, Protocol, TlsMode};
use crate::config::{ListenerConfig, ServiceConfig};
use crate::door::usage::Unit;
use crate::door::{BareNewlines, Endpoint, ListenerCertificate, ListenerTls, Socket, User};
use crate::incoming::ReadingProtocol;
use crate::message::Address;
use crate::observe::maillog;
use crate::platform::connection::EVERYBODY;
use crate::routing::ServerRule;
use crate::smtp;
use crate::submission;

impl Checker<'_> {
    pub(super) fn listeners(
        &mut self,
        file: &text::File,
        users: &[User],
        rules: &[ServerRule],
        host: &str,
    ) -> Vec<ListenerConfig> {
        if file.listener.is_empty() {
            self.problem(
                0..0,
                "[[listener]]",
                "there is none; add one with address = \"127.0.0.1:2525\"",
            );
        }
        let mut built: Vec<ListenerConfig> = Vec::new();
        let postmaster = postmaster(file, rules);
        for listener in &file.listener {
            self.servers_of(
                &listener.servers,
                rules,
                "[[listener]] servers",
                place_of(listener),
            );
            let Some(socket) = self.socket(listener) else {
                continue;
            };
            self.is_new(listener, &socket, &built);
            let shared = (host, postmaster.as_ref(), largest(rules));
            built.push(self.built(file, listener, socket, users, shared));
        }
        built
    }

    fn socket(&mut self, listener: &text::ListenerTable) -> Option<Socket> {
        if let Some(path) = &listener.socket {
            return self.local_socket(listener, path);
        }
        if let Some(mode) = &listener.socket_mode {
            let text =
                "it has no effect without `socket`; add socket = \"PATH\", or remove the key";
            self.problem(mode.span(), "[[listener]] socket_mode", text);
        }
        match (&listener.address, &listener.systemd) {
            (Some(address), None) => Some(Socket::Address {
                address: *address.get_ref(),
                only_v6: listener.only_ipv6,
            }),
            (None, Some(name)) => Some(Socket::Systemd(name.get_ref().clone())),
            (Some(_), Some(name)) => {
                let text = "the address of a systemd socket is set in its .socket unit; remove one of the keys, address or systemd";
                self.problem(name.span(), "[[listener]] systemd", text);
                None
            }
            (None, None) => {
                let span = listener.name.as_ref().map_or(0..0, |name| name.span());
                let text = "it has no address; add address = \"127.0.0.1:2525\", socket = \"PATH\" for programs on this machine, or systemd = \"NAME\" for a socket that systemd passes";
                self.problem(span, "[[listener]]", text);
                None
            }
        }
    }

    /// Returns a local socket, for programs on this machine such as `mailferry sendmail`.
    fn local_socket(
        &mut self,
        listener: &text::ListenerTable,
        path: &Spanned<String>,
    ) -> Option<Socket> {
        let others = [
            ("address", listener.address.is_some()),
            ("systemd", listener.systemd.is_some()),
            ("proxies", !listener.proxies.is_empty()),
            ("certificate", listener.certificate.is_some()),
            ("networks", listener.networks.is_some()),
        ];
        for (key, _) in others.iter().filter(|(_, is_written)| *is_written) {
            let text = "a local socket has none; remove one of the keys, this or `socket`";
            self.problem(path.span(), &format!("[[listener]] {key}"), text);
        }
        let octal = |mode: &Spanned<String>| {
            let read = u32::from_str_radix(mode.get_ref(), 8).ok();
            let read = read.filter(|mode| mode & !0o777 == 0);
            read.ok_or("write permission bits such as \"0666\" (everybody) or \"0660\" (a group)")
        };
        let mode = match &listener.socket_mode {
            Some(mode) => self.ok(octal(mode), mode.span(), "[[listener]] socket_mode")?,
            None => EVERYBODY,
        };
        Some(Socket::Path {
            path: self.beside(path.get_ref()),
            mode,
        })
    }

    fn is_new(
        &mut self,
        listener: &text::ListenerTable,
        socket: &Socket,
        others: &[ListenerConfig],
    ) {
        let span = place_of(listener);
        let others = others.iter().map(|other| &other.endpoint);
        let mut sockets = others.clone();
        if let Some(other) = sockets.find(|other| other.socket.overlaps(socket)) {
            let text = format!(
                "{socket} overlaps the socket of the listener {:?}; remove one{}",
                other.name,
                if overlap_by_ipv4(&other.socket, socket) {
                    ", or write only_ipv6 = true beside the address [::]"
                } else {
                    ""
                }
            );
            self.problem(span.clone(), "[[listener]] address", text);
        }
        let name = name_of(listener, socket);
        let mut names = others;
        if names.any(|other| other.name == name) && listener.name.is_some() {
            let text = format!("there are two listeners named {name:?}; rename one");
            self.problem(span, "[[listener]] name", text);
        }
    }

    fn built(
        &mut self,
        file: &text::File,
        listener: &text::ListenerTable,
        socket: Socket,
        users: &[User],
        (host, postmaster, largest): (&str, Option<&Address>, u64),
    ) -> ListenerConfig {
        let name = name_of(listener, &socket);
        let allowed = self.users_of(listener, users);
        let on_loopback = match &socket {
            Socket::Address { address, .. } => address.ip().is_loopback(),
            Socket::Path { .. } => true,
            Socket::Systemd(_) => false,
        };
        let plaintext_auth = on_loopback || listener.allow_plaintext;
        let tls = self.tls_of(listener);
        let mode = mode(listener, plaintext_auth);
        let here = |user: &&User| {
            allowed
                .as_ref()
                .is_none_or(|names| names.contains(&user.name))
        };
        let by_password = listener.auth != ListenerAuth::Network
            && users.iter().filter(here).any(|user| user.hash.is_some());
        if mode == TlsMode::None && !plaintext_auth && (by_password || listener.tls.is_none()) {
            // If nobody signs in, no password crosses the network. Even so, the file must say `tls = "none"`
            // explicitly.
            let remedy = if listener.auth != ListenerAuth::Network {
                "passwords would cross the network unencrypted; add tls = \"required\", or write allow_plaintext = true"
            } else {
                "mail would cross the network unencrypted; add tls = \"starttls\", or write tls = \"none\""
            };
            let message = format!("{socket} is not on loopback and has no TLS, so {remedy}");
            self.problem(place_of(listener), "[[listener]] address", message);
        }
        let reading = reading(listener);
        match reading {
            Some(protocol) => self.somebody_may_read(listener, protocol, users.iter().filter(here)),
            None => {
                self.somebody_may_send(file, listener, users.iter().filter(here), by_password);
            }
        }
        let is_by_network = listener.auth != ListenerAuth::Password && reading.is_none();
        if is_by_network && !on_loopback && listener.networks.is_none() {
            self.everybody_may_send(&name, users.iter().filter(here));
        }
        let limits = &file.limits;
        let session = smtp::SessionSettings {
            host: host.to_owned(),
            message_size: listener
                .message_size
                .unwrap_or(limits.message_size)
                .min(largest),
            recipients: limits.recipients,
            commands: limits.commands,
            errors: limits.errors,
            reject_bare_newlines: limits.bare_newlines == BareNewlines::Reject,
            offers_auth: by_password,
            bare_lf: listener.bare_lf_commands,
            postmaster: postmaster.cloned(),
        };
        let rate = limit(
            "messages_per_minute",
            Unit::Messages,
            Duration::from_secs(60),
            listener.messages_per_minute,
        );
        let endpoint = Endpoint {
            tls: tls.map(|certificate| ListenerTls {
                certificate,
                implicit: mode == TlsMode::Implicit,
            }),
            plaintext: matches!(mode, TlsMode::None | TlsMode::Starttls),
            plaintext_auth,
            by_password,
            by_network: is_by_network,
            users: allowed,
            networks: listener.networks.as_deref().map(Network::ranges),
            sessions: listener.sessions.unwrap_or(limits.sessions),
            limits: rate.into_iter().collect(),
            early_talkers: listener.refuse_early_talkers.map(|pause| pause.0),
            proxies: Network::ranges(&listener.proxies),
            name,
            socket,
        };
        let submission = submission::SubmissionOptions {
            session: Arc::new(session),
            priority: listener.priority,
            assume_from: self.address(&listener.assume_from, "[[listener]] assume_from"),
        };
        let service = match reading {
            Some(protocol) => ServiceConfig::Incoming(protocol),
            None => ServiceConfig::Submission(submission),
        };
        ListenerConfig { endpoint, service }
    }

    /// Checks that a listener for reading admits a user who may read a mailbox, and has no keys that are for
    /// sending.
    fn somebody_may_read<'u>(
        &mut self,
        listener: &text::ListenerTable,
        protocol: ReadingProtocol,
        mut admitted: impl Iterator<Item = &'u User>,
    ) {
        let place = place_of(listener);
        for (key, is_written) in [
            ("servers", listener.servers.is_some()),
            ("message_size", listener.message_size.is_some()),
            (
                "messages_per_minute",
                listener.messages_per_minute.is_some(),
            ),
            ("priority", listener.priority.is_some()),
            ("bare_lf_commands", listener.bare_lf_commands),
            ("assume_from", listener.assume_from.is_some()),
        ] {
            if is_written {
                let text =
                    format!("it is for SMTP, and this listener speaks {protocol}; remove it");
                self.problem(place.clone(), &format!("[[listener]] {key}"), text);
            }
        }
        if listener.auth == ListenerAuth::Network {
            let text = format!("{protocol} has no sign-in by network; remove the key");
            self.problem(place.clone(), "[[listener]] auth", text);
        }
        if !admitted.any(|user| user.hash.is_some() && !user.mailboxes.is_empty()) {
            let text = "nobody may read here; give a user of this listener a password, and mailboxes = [\"SERVER\"]";
            self.problem(place, "[[listener]] users", text);
        }
    }

    /// Checks that a listener admits at least one user, and that for each of its users there is a server that
    /// both the user and the listener allow.
    fn somebody_may_send<'u>(
        &mut self,
        file: &text::File,
        listener: &text::ListenerTable,
        admitted: impl Iterator<Item = &'u User> + Clone,
        by_password: bool,
    ) {
        let by_network = listener.auth != ListenerAuth::Password
            && admitted.clone().any(|user| !user.networks.is_empty());
        let named = listener.users.as_ref().map(Vec::len);
        let are_known = named.is_none_or(|named| named == admitted.clone().count());
        // A user with neither a password nor networks is reported as a problem of the user instead.
        let have_ways = |user: &User| user.hash.is_some() || !user.networks.is_empty();
        let have_ways = admitted.clone().all(have_ways);
        if are_known && have_ways && !by_password && !by_network {
            let text = "nobody may send here; give a user of this listener a password (for auth = \"password\" or \"either\") \
                        or networks (for \"network\" or \"either\")";
            self.problem(place_of(listener), "[[listener]] users", text);
        }
        let (Some(here), Some(_)) = (&listener.servers, &listener.users) else {
            return;
        };
        let is_here = |name: &str| here.iter().any(|server| server.get_ref() == name);
        let is_admitted =
            |user: &&text::UserTable| admitted.clone().any(|it| it.name == *user.name.get_ref());
        for user in file.user.iter().filter(is_admitted) {
            let own = user.server.iter().chain(user.servers.iter().flatten());
            let own: Vec<&str> = own.map(|server| server.get_ref().as_str()).collect();
            if !own.is_empty() && !own.iter().any(|server| is_here(server)) {
                let text = format!(
                    "user {:?} may use {} only, and none of those servers is in this list; add one of them here, or let the user use a server of this list",
                    user.name.get_ref(),
                    own.join(", ")
                );
                self.problem(place_of(listener), "[[listener]] servers", text);
            }
        }
    }

    /// Warns of a user's network that is wider than the widest private network (10.0.0.0/8 by RFC 1918 §3,
    /// fc00::/7 by RFC 4193 §3.1), because it includes strangers' machines.
    fn everybody_may_send<'u>(&mut self, name: &str, admitted: impl Iterator<Item = &'u User>) {
        for user in admitted {
            let is_wide = |network: &&IpNet| {
                network.prefix_len() < if network.addr().is_ipv4() { 8 } else { 7 }
            };
            if let Some(network) = user.networks.iter().find(is_wide) {
                self.warnings.push(format!(
                    "[[user]] {:?} networks: anybody in {network} who reaches the listener {name:?} can send without a password; \
                     write the networks of your own machines, or auth = \"password\" at the listener",
                    user.name
                ));
            }
        }
    }

    fn users_of(
        &mut self,
        listener: &text::ListenerTable,
        users: &[User],
    ) -> Option<HashSet<String>> {
        let names = listener.users.as_ref()?;
        for name in names {
            if !users.iter().any(|user| user.name == *name.get_ref()) {
                let text = format!("there is no [[user]] named {:?}", name.get_ref());
                self.problem(name.span(), "[[listener]] users", text);
            }
        }
        Some(names.iter().map(|name| name.get_ref().clone()).collect())
    }

    fn tls_of(&mut self, listener: &text::ListenerTable) -> Option<ListenerCertificate> {
        let wanted = listener.tls.as_ref().map(|tls| *tls.get_ref());
        match (&listener.certificate, &listener.key) {
            (Some(chain), Some(key)) if wanted != Some(TlsMode::None) => {
                let files = Files {
                    chain: self.beside(chain.get_ref()),
                    key: self.beside(key.get_ref()),
                };
                if let Err(exposed @ SecretError::Exposed { .. }) = check_mode(&files.key) {
                    self.warnings.push(format!("[[listener]] key: {exposed}"));
                }
                let config = certificate::server_config(vec![files], maillog::certificate_taken);
                let config = self.ok(config, chain.span(), "[[listener]] certificate");
                // If the certificate is unusable, the problem is already recorded, and the value here is not
                // used.
                Some(config.map_or(ListenerCertificate::SelfSigned, |it| {
                    ListenerCertificate::Ready(Arc::new(it))
                }))
            }
            (None, None) => wanted
                .filter(|tls| *tls != TlsMode::None)
                .map(|_| ListenerCertificate::SelfSigned),
            (Some(only), None) => {
                let text = "a certificate needs its key; add key = \"FILE\"";
                self.problem(only.span(), "[[listener]] certificate", text);
                None
            }
            (None, Some(only)) => {
                let text = "a key needs its certificate; add certificate = \"FILE\"";
                self.problem(only.span(), "[[listener]] key", text);
                None
            }
            (Some(chain), Some(_)) => {
                let text = "tls = \"none\" uses no certificate; remove the key tls, or certificate and key";
                self.problem(chain.span(), "[[listener]] certificate", text);
                None
            }
        }
    }
}

/// Returns the configured mode, or else a default. Without a certificate the default is no TLS. With a
/// certificate, STARTTLS is offered if passwords may be sent in plaintext; otherwise it is required.
fn mode(listener: &text::ListenerTable, plaintext_auth: bool) -> TlsMode {
    let has_certificate = listener.certificate.is_some();
    match &listener.tls {
        Some(tls) => *tls.get_ref(),
        None if !has_certificate => TlsMode::None,
        None if plaintext_auth => TlsMode::Starttls,
        None => TlsMode::Required,
    }
}

/// Returns the protocol of a listener by which apps read mail; `None` for SMTP.
fn reading(listener: &text::ListenerTable) -> Option<ReadingProtocol> {
    match listener.protocol.as_ref()?.get_ref() {
        Protocol::Smtp => None,
        Protocol::Imap => Some(ReadingProtocol::Imap),
        Protocol::Pop3 => Some(ReadingProtocol::Pop3),
    }
}

/// Returns the listener's position in the file.
fn place_of(listener: &text::ListenerTable) -> Range<usize> {
    let address = listener.address.as_ref().map(|address| address.span());
    let systemd = listener.systemd.as_ref().map(|name| name.span());
    address.or(systemd).unwrap_or(0..0)
}

/// Returns the size in octets of the largest message that a server takes. Apps see it as SIZE (RFC 1870), so that they
/// need not send what would be refused.
fn largest(rules: &[ServerRule]) -> u64 {
    let sizes = rules
        .iter()
        .map(|rule| rule.message_size.unwrap_or(u64::MAX));
    sizes.max().unwrap_or(u64::MAX)
}

fn name_of(listener: &text::ListenerTable, socket: &Socket) -> String {
    match &listener.name {
        Some(name) => name.get_ref().clone(),
        None => socket.to_string(),
    }
}

/// True if one socket is IPv4 and the other is IPv6.
fn overlap_by_ipv4(one: &Socket, other: &Socket) -> bool {
    let is_v4 = |socket: &Socket| match socket {
        Socket::Address { address, .. } => Some(address.is_ipv4()),
        Socket::Systemd(_) | Socket::Path { .. } => None,
    };
    is_v4(one) != is_v4(other)
}

/// Returns the address that the recipient `<Postmaster>` stands for: postmaster at the domain of
/// `default_from`, else at `catchall_domain`, else at the domain of the first server address.
fn postmaster(file: &text::File, rules: &[ServerRule]) -> Option<Address> {
    let from = file.sender.default_from.as_ref();
    let of_default = from.and_then(|from| Some(from.get_ref().split_once('@')?.1));
    let of_catchall = file.sender.catchall_domain.as_ref();
    let of_servers = rules.iter().find_map(|rule| rule.address.as_ref());
    let domain = of_default
        .or(of_catchall.map(|domain| domain.get_ref().as_str()))
        .or(of_servers.map(|address| address.domain()))?;
    Address::parse(&format!("postmaster@{domain}")).ok()
}
