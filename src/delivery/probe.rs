//! "Test connection": every step of the way to a server by itself, with what was found, and where it
//! fails the most likely cause and what mends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lane::{Server, SignInName};
use super::outcome::table;
use super::scheduler::Settings;
use super::trouble;
use crate::base::Timestamp;
use crate::base::secret::ExposeSecret;
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::session::Stage;
use crate::token::{Access, Claims, clock_words};
use crate::upstream::session::open;
use crate::upstream::{self, Auth, Body, Failure, Outgoing, Session, Tls};

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

/// Where steps go as they are done. Whoever has gone loses nothing: the steps are what it is for.
pub type Steps = mpsc::Sender<Step>;

/// The longest that a step may take; a person waits for it.
const STEP: Duration = Duration::from_secs(15);

/// The longest that a message may take from MAIL to the reply to its final dot.
const MESSAGE: Duration = Duration::from_secs(60);

/// The port that TLS begins on at once (RFC 8314 §7.3).
const IMPLICIT_TLS: u16 = 465;

/// Probes the server of this name, with a message to `to` in the end where that is given; none where
/// there is no such server.
pub async fn probe_named(
    settings: &Settings,
    name: &str,
    to: Option<Address>,
    steps: &Steps,
) -> Option<()> {
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
    probe(server, letter, steps).await;
    Some(())
}

/// Goes the way to `server` until a step fails. Uses sessions of its own, beside those of delivery.
pub async fn probe(server: &Server, letter: Option<Letter>, steps: &Steps) {
    if let Err(failed) = go(server, letter, steps).await {
        let _ = steps.send(failed).await;
    }
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

async fn go(server: &Server, letter: Option<Letter>, steps: &Steps) -> Result<(), Step> {
    let done = async |step: Step| drop(steps.send(step).await);
    reach(server, steps).await?;
    let session = connect(server).await?;
    done(match session.tls() {
        Some(tls) => well("TLS", tls),
        None => well("TLS", "none, as configured"),
    })
    .await;
    done(well("EHLO", session.offers())).await;
    let access = token(server, steps).await?;
    let (mut session, signed_in) = sign_in(server, session, access.as_deref()).await?;
    done(well("AUTH", signed_in)).await;
    if let Some(letter) = letter {
        done(message(server, &mut session, letter).await).await;
    }
    session.quit().await;
    Ok(())
}

/// DNS, and a connection to see that there is a way.
async fn reach(server: &Server, steps: &Steps) -> Result<(), Step> {
    let (host, port) = (server.upstream.host.as_str(), server.upstream.port);
    let no_name = |text: String| wrong("DNS", text, Some(open::DNS_REMEDY.into()));
    let found = timeout(STEP, lookup_host((host, port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(no_name(format!("{host}: {error}"))),
        Err(_) => {
            return Err(no_name(format!(
                "{host}: no answer in {} s",
                STEP.as_secs()
            )));
        }
    };
    let ips: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    let step = well("DNS", format!("{host} is {}", ips.join(", ")));
    let _ = steps.send(step).await;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match timeout(STEP, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                let step = well("TCP", format!("{address} is open"));
                let _ = steps.send(step).await;
                return Ok(());
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer in {} s", STEP.as_secs()),
        }
    }
    Err(wrong("TCP", last, Some(open::tcp_remedy(port))))
}

/// Greeting, TLS and EHLO.
async fn connect(server: &Server) -> Result<Session, Step> {
    let upstream = &server.upstream;
    match timeout(STEP, Session::connect(upstream)).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(failure)) => {
            let name = match failure {
                Failure::Tls { .. } => "TLS",
                _ => "EHLO",
            };
            let remedy = trouble::failure_remedy(server, &failure, None);
            Err(wrong(
                name,
                failure,
                remedy.or_else(|| tls_remedy(upstream)),
            ))
        }
        Err(_) => {
            let text = format!("no answer in {} s", STEP.as_secs());
            let name = if upstream.tls == Tls::Implicit {
                "TLS"
            } else {
                "EHLO"
            };
            Err(wrong(name, text, tls_remedy(upstream)))
        }
    }
}

/// What most likely mends a conversation that does not begin.
fn tls_remedy(upstream: &upstream::Settings) -> Option<String> {
    let remedy = match (upstream.tls, upstream.port) {
        (Tls::Starttls | Tls::None, IMPLICIT_TLS) => {
            "nothing came in clear: this port expects TLS at once, so set the server's `tls` to \"implicit\""
        }
        (Tls::Starttls | Tls::None, _) => {
            "check the server's `host` and `port`: is it a submission server? If the port expects TLS at once, set `tls` \
             to \"implicit\""
        }
        (Tls::Implicit, _) => {
            "check the server's `port` and `tls`: implicit TLS is on port 465, STARTTLS on 587"
        }
    };
    Some(remedy.to_owned())
}

/// Signs in over `session`: for a shared mailbox as the person whose token it is, else, over another
/// session, by the mailbox's name. Says whose name was taken.
async fn sign_in(
    server: &Server,
    mut session: Session,
    access: Option<&Access>,
) -> Result<(Session, String), Step> {
    let token = access.map(|access| &access.token);
    let failed = |failure: Failure| {
        let commands = || trouble::permit_commands(server, &failure, access?);
        let remedy = trouble::failure_remedy(server, &failure, None);
        let remedy = commands().or(remedy);
        wrong("AUTH", failure, remedy)
    };
    let in_time = async |session: &mut Session, name: SignInName| {
        let upstream = server.upstream_as(name);
        let signed_in = timeout(STEP, session.sign_in(&upstream, token)).await;
        let late = || wrong("AUTH", format!("no answer in {} s", STEP.as_secs()), None);
        signed_in.map_err(|_| late())
    };
    let failure = match in_time(&mut session, SignInName::Person).await? {
        Ok(()) => return Ok((session, signed_in(server, SignInName::Person))),
        Err(failure) => failure,
    };
    if server.person().is_none() {
        return Err(failed(failure));
    }
    let mut session = connect(server).await?;
    match in_time(&mut session, SignInName::Mailbox).await? {
        Ok(()) => Ok((session, signed_in(server, SignInName::Mailbox))),
        Err(_) => Err(failed(failure)),
    }
}

fn signed_in(server: &Server, name: SignInName) -> String {
    match (&server.upstream.auth, server.person(), name) {
        (Auth::None, ..) => "none, as configured".into(),
        (Auth::Plain { username, .. }, ..) => format!("PLAIN as {username}"),
        (Auth::Login { username, .. }, ..) => format!("LOGIN as {username}"),
        (Auth::XOAuth2 { username }, None, _) => format!("XOAUTH2 as {username}"),
        (Auth::XOAuth2 { username }, Some(person), SignInName::Person) => {
            format!("XOAUTH2 as {person}, who sends as {username}; the limits of {person} count")
        }
        (Auth::XOAuth2 { username }, Some(person), SignInName::Mailbox) => {
            format!("XOAUTH2 as {username}, by the token of {person}")
        }
    }
}

/// A new token, where the server needs one, since one at hand would hide that the app is refused by
/// now; what it says of itself, not the token.
async fn token(server: &Server, steps: &Steps) -> Result<Option<Arc<Access>>, Step> {
    let Some(source) = &server.token else {
        return Ok(None);
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
            let step = Step {
                remedy: clock_words(),
                ..well("token", text)
            };
            let _ = steps.send(step).await;
            Ok(Some(access))
        }
        Err(error) => Err(wrong("token", error, clock_words())),
    }
}

async fn message(server: &Server, session: &mut Session, letter: Letter) -> Step {
    let Letter { from, to, nonce } = letter;
    let head = format!(
        "Date: {}\r\nFrom: {from}\r\nTo: {to}\r\nSubject: mailferry test\r\nMessage-ID: <{nonce:016x}.mailferry@{}>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        Timestamp::now().rfc5322(),
        from.domain(),
    );
    let sender = ReversePath::Mailbox(from.clone());
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
    let transcript = match timeout(MESSAGE, session.send(outgoing)).await {
        Ok(Ok(transcript)) => transcript,
        Ok(Err(failure)) => {
            let remedy = trouble::failure_remedy(server, &failure, Some(&from));
            return wrong("message", failure, remedy);
        }
        Err(_) => {
            let text = format!("no answer in {} s", MESSAGE.as_secs());
            return wrong("message", text, None);
        }
    };
    let (stage, reply) = transcript.decisive();
    if stage == Stage::FinalDot && reply.is_completion() {
        return well("message", format!("to {to}: {reply}"));
    }
    let row = table::row(server.upstream.service, stage, &reply);
    let remedy = trouble::remedy(server, row, Some(&from));
    wrong("message", reply, Some(remedy).filter(|it| !it.is_empty()))
}
