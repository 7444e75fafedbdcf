//! "Test connection": every step of the way to a server by itself, with what was found, and where it
//! fails the most likely cause and what mends it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::lane::Server;
use super::outcome::table;
use super::scheduler::Settings;
use super::trouble;
use crate::base::Timestamp;
use crate::base::limits::upstream as wait;
use crate::base::secret::ExposeSecret;
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::session::Stage;
use crate::token::{Access, Claims};
use crate::upstream::session::Body;
use crate::upstream::{Auth, Failure, Outgoing, Session, Tls};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name: DNS, TCP, TLS, EHLO, token, AUTH, message.
    pub name: String,
    /// Whether it went well.
    pub well: bool,
    /// What was found, or what went wrong.
    pub text: String,
    /// What mends it, where it went wrong and the text does not say.
    pub remedy: Option<String>,
}

/// A message to send in the end.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Whom it is from: an address that the server may send as.
    pub from: Address,
    /// Whom it is for.
    pub to: Address,
    /// Makes its Message-ID single.
    pub nonce: u64,
}

/// Probes the server of this name, with a message to `to` in the end where that is given; none where
/// there is no such server.
pub async fn probe_named(
    settings: &Settings,
    name: &str,
    to: Option<Address>,
) -> Option<Vec<Step>> {
    let server = settings.servers.iter().find(|server| server.name == name)?;
    let rule = settings
        .policy
        .servers
        .iter()
        .find(|rule| rule.name == name);
    let from = rule.and_then(|rule| rule.address.clone());
    let from = from.or_else(|| settings.policy.default_from.clone());
    let letter = to.zip(from).map(|(to, from)| Letter {
        from,
        to,
        nonce: rand::random(),
    });
    Some(probe(server, letter).await)
}

/// Goes the way to `server` until a step fails. Uses sessions of its own, beside those of delivery.
pub async fn probe(server: &Server, letter: Option<Letter>) -> Vec<Step> {
    let mut steps = Vec::new();
    // The steps are what it is for; how far it came stands in them.
    let _ = go(server, letter, &mut steps).await;
    steps
}

fn well(name: &str, text: impl ToString) -> Step {
    Step {
        name: name.to_owned(),
        well: true,
        text: text.to_string(),
        remedy: None,
    }
}

fn wrong(name: &str, text: impl ToString, remedy: Option<String>) -> Step {
    Step {
        well: false,
        remedy,
        ..well(name, text)
    }
}

async fn go(server: &Server, letter: Option<Letter>, steps: &mut Vec<Step>) -> Option<()> {
    reach(server, steps).await?;
    let mut session = connect(server, steps).await?;
    let access = token(server, steps).await?;
    let token = access.as_ref().map(|access| &access.token);
    match session.sign_in(&server.upstream, token).await {
        Ok(()) => steps.push(well("AUTH", signed_in(&server.upstream.auth))),
        Err(failure) => {
            let remedy = failure
                .reply()
                .map(|reply| table::row(Stage::Auth, reply))
                .map(|row| trouble::remedy(&server.upstream.auth, row, None))
                .filter(|remedy| !remedy.is_empty());
            steps.push(wrong("AUTH", failure, remedy));
            return None;
        }
    }
    if let Some(letter) = letter {
        steps.push(message(&mut session, letter).await);
    }
    session.quit().await;
    Some(())
}

/// DNS, and a connection to see that there is a way.
async fn reach(server: &Server, steps: &mut Vec<Step>) -> Option<()> {
    let (host, port) = (server.upstream.host.as_str(), server.upstream.port);
    let found = timeout(wait::CONNECT, lookup_host((host, port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let remedy = "check the server's `host`, and DNS on this machine";
            steps.push(wrong(
                "DNS",
                format!("{host}: {error}"),
                Some(remedy.into()),
            ));
            return None;
        }
        Err(_) => {
            let remedy = "check DNS on this machine (/etc/resolv.conf)";
            steps.push(wrong(
                "DNS",
                format!("{host}: no answer"),
                Some(remedy.into()),
            ));
            return None;
        }
    };
    let ips: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    steps.push(well("DNS", format!("{host} is {}", ips.join(", "))));
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match timeout(wait::CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                steps.push(well("TCP", format!("{address} is open")));
                return Some(());
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer in {} s", wait::CONNECT.as_secs()),
        }
    }
    let remedy = format!(
        "let this machine reach TCP port {port} outwards (firewall, provider); check the server's `host` and `port`"
    );
    steps.push(wrong("TCP", last, Some(remedy)));
    None
}

/// Greeting, TLS and EHLO.
async fn connect(server: &Server, steps: &mut Vec<Step>) -> Option<Session> {
    match Session::connect(&server.upstream).await {
        Ok(session) => {
            steps.push(match session.tls() {
                Some(tls) => well("TLS", tls),
                None => well("TLS", "none, as configured"),
            });
            steps.push(well("EHLO", session.offers()));
            Some(session)
        }
        Err(failure) => {
            let (name, remedy) = match (&failure, server.upstream.tls) {
                (Failure::Tls { .. }, _) => (
                    "TLS",
                    "check `host` and `tls`; where something on the way opens TLS on purpose, name its certificate in the server's `ca`",
                ),
                (_, Tls::Implicit) => (
                    "EHLO",
                    "check `port` and `tls`: implicit TLS is on port 465, STARTTLS on 587",
                ),
                _ => (
                    "EHLO",
                    "check `host` and `port`: is it a submission server?",
                ),
            };
            steps.push(wrong(name, failure, Some(remedy.into())));
            None
        }
    }
}

/// A new token, where the server needs one, since one at hand would hide that the app is refused by
/// now; what it says of itself, not the token.
async fn token(server: &Server, steps: &mut Vec<Step>) -> Option<Option<Arc<Access>>> {
    let Some(source) = &server.token else {
        return Some(None);
    };
    // Whoever tests has mended something.
    source.forgive();
    match source.anew().await {
        Ok(access) => {
            let claims = Claims::of(access.token.expose_secret()).map(|claims| claims.to_string());
            let opaque = || format!("opaque, until {}", access.expires);
            let text = claims
                .filter(|text| !text.is_empty())
                .unwrap_or_else(opaque);
            steps.push(well("token", text));
            Some(Some(access))
        }
        Err(error) => {
            steps.push(wrong("token", error, None));
            None
        }
    }
}

fn signed_in(auth: &Auth) -> String {
    match auth {
        Auth::None => "none, as configured".into(),
        Auth::Plain { username, .. } => format!("PLAIN as {username}"),
        Auth::Login { username, .. } => format!("LOGIN as {username}"),
        Auth::XOAuth2 { username } => format!("XOAUTH2 as {username}"),
    }
}

async fn message(session: &mut Session, letter: Letter) -> Step {
    let Letter { from, to, nonce } = letter;
    let head = format!(
        "Date: {}\r\nFrom: {from}\r\nTo: {to}\r\nSubject: mailferry test\r\nMessage-ID: <{nonce:016x}.mailferry@{}>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        Timestamp::now().rfc5322(),
        from.domain(),
    );
    let sender = ReversePath::Mailbox(from);
    let recipient = Recipient {
        address: to.clone(),
        parameters: Parameters::default(),
    };
    let envelope = Envelope {
        sender: sender.clone(),
        parameters: Parameters::default(),
        recipients: vec![recipient],
    };
    let outgoing = Outgoing {
        sender: &sender,
        envelope: &envelope,
        head: head.as_bytes(),
        body: Body::Memory(Bytes::from_static(
            b"The connection works: this came through mailferry.\r\n",
        )),
        utf8_header: !head.is_ascii(),
        all_or_none: true,
    };
    match session.send(outgoing).await {
        Ok(transcript) => {
            let last = transcript.message.map(|(_, reply)| reply);
            let refused = transcript
                .recipients
                .into_iter()
                .find(|reply| !reply.is_completion());
            let refused = Some(transcript.mail)
                .filter(|reply| !reply.is_completion())
                .or(refused);
            match (refused, last) {
                (None, Some(reply)) if reply.is_completion() => {
                    well("message", format!("to {to}: {reply}"))
                }
                (refused, last) => {
                    let reply = refused
                        .or(last)
                        .map_or("no reply".to_owned(), |reply| reply.to_string());
                    let is_send_as = reply.contains("5.7.60") || reply.contains("5.2.252");
                    let remedy = "give the account Send As of the address (Exchange admin center, Mailbox delegation)";
                    wrong("message", reply, is_send_as.then(|| remedy.into()))
                }
            }
        }
        Err(failure) => wrong("message", failure, None),
    }
}
