//! "Test connection": tests every step of the way to a server separately. Reports the result of each step
//! and, on a failure, the most likely cause and its remedy. The signed-in session can then send
//! a message, as in delivery.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::failure::Failure;
use super::remedy;
use super::server::{Auth, SmtpServer};
use super::session::Session;
use super::sign_in::SignInName;
use crate::base::secret::ExposeSecret;
use crate::token::{Access, Claims, clock_words};
use crate::transport::remote::{self, ConnectError, Tls};
use crate::transport::step::{Step, Steps};
use crate::transport::upstream::Upstream;

/// The longest time that a step may take; a person waits for it.
const STEP: Duration = Duration::from_secs(15);

/// The port for implicit TLS (RFC 8314 §7.3).
const IMPLICIT_TLS: u16 = 465;

/// Runs the steps until one fails. Returns the signed-in session if none fails.
pub(super) async fn go(upstream: &Upstream, steps: &Steps) -> Option<Session> {
    match walk(upstream, steps).await {
        Ok(session) => Some(session),
        Err(failed) => {
            let _ = steps.send(failed).await;
            None
        }
    }
}

async fn walk(upstream: &Upstream, steps: &Steps) -> Result<Session, Step> {
    let done = async |step: Step| drop(steps.send(step).await);
    reach(upstream, steps).await?;
    let session = connect(upstream).await?;
    done(match session.tls() {
        Some(tls) => Step::well("TLS", tls),
        None => Step::well("TLS", "none, as configured"),
    })
    .await;
    done(Step::well("EHLO", session.offers())).await;
    let access = token(upstream, steps).await?;
    let (session, signed_in) = sign_in(upstream, session, access.as_deref()).await?;
    done(Step::well("AUTH", signed_in)).await;
    Ok(session)
}

/// Tests DNS, and opens a connection to see if the server can be reached.
async fn reach(upstream: &Upstream, steps: &Steps) -> Result<(), Step> {
    let (host, port) = (
        upstream.smtp.remote.host.as_str(),
        upstream.smtp.remote.port,
    );
    let no_name = |text: String| Step::wrong("DNS", text, Some(remote::DNS_REMEDY.into()));
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
    let step = Step::well("DNS", format!("{host} is {}", ips.join(", ")));
    let _ = steps.send(step).await;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match timeout(STEP, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                let step = Step::well("TCP", format!("{address} is open"));
                let _ = steps.send(step).await;
                return Ok(());
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer in {} s", STEP.as_secs()),
        }
    }
    Err(Step::wrong("TCP", last, Some(remote::tcp_remedy(port))))
}

/// Tests greeting, TLS and EHLO.
async fn connect(upstream: &Upstream) -> Result<Session, Step> {
    match timeout(STEP, Session::connect(&upstream.smtp)).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(failure)) => {
            let name = match failure {
                Failure::Connect(ConnectError::Tls { .. }) => "TLS",
                _ => "EHLO",
            };
            let remedy = remedy::of_failure(upstream, &failure);
            Err(Step::wrong(
                name,
                failure,
                remedy.or_else(|| tls_remedy(&upstream.smtp)),
            ))
        }
        Err(_) => {
            let text = format!("no answer in {} s", STEP.as_secs());
            let name = if upstream.smtp.remote.tls == Tls::Implicit {
                "TLS"
            } else {
                "EHLO"
            };
            Err(Step::wrong(name, text, tls_remedy(&upstream.smtp)))
        }
    }
}

/// Returns the most likely remedy if the conversation does not start.
fn tls_remedy(server: &SmtpServer) -> Option<String> {
    let remedy = match (server.remote.tls, server.remote.port) {
        (Tls::Starttls | Tls::None, IMPLICIT_TLS) => {
            "port 465 expects TLS from the start: set the server's `tls` to \"implicit\""
        }
        (Tls::Starttls | Tls::None, _) => {
            "check the server's `host` and `port`: is it a submission server? If the port expects TLS from the start, set `tls` \
             to \"implicit\""
        }
        (Tls::Implicit, _) => {
            "check the server's `port` and `tls`: implicit TLS is on port 465, STARTTLS on 587"
        }
    };
    Some(remedy.to_owned())
}

/// Signs in over `session`. For a shared mailbox, first tries the person's name, then, over a new session,
/// the mailbox's name. Also returns a text with the name that was accepted.
async fn sign_in(
    upstream: &Upstream,
    mut session: Session,
    access: Option<&Access>,
) -> Result<(Session, String), Step> {
    let token = access.map(|access| &access.token);
    let failed = |failure: Failure| {
        let commands = || remedy::permit_commands(upstream, &failure, access?);
        let remedy = remedy::of_failure(upstream, &failure);
        let remedy = commands().or(remedy);
        Step::wrong("AUTH", failure, remedy)
    };
    let in_time = async |session: &mut Session, name: SignInName| {
        let server = name.server(upstream);
        let signed_in = timeout(STEP, session.sign_in(&server, token)).await;
        let late = || Step::wrong("AUTH", format!("no answer in {} s", STEP.as_secs()), None);
        signed_in.map_err(|_| late())
    };
    let failure = match in_time(&mut session, SignInName::Person).await? {
        Ok(()) => return Ok((session, signed_in(upstream, SignInName::Person))),
        Err(failure) => failure,
    };
    if upstream.person().is_none() {
        return Err(failed(failure));
    }
    let mut session = connect(upstream).await?;
    match in_time(&mut session, SignInName::Mailbox).await? {
        Ok(()) => Ok((session, signed_in(upstream, SignInName::Mailbox))),
        Err(_) => Err(failed(failure)),
    }
}

fn signed_in(upstream: &Upstream, name: SignInName) -> String {
    match (&upstream.smtp.auth, upstream.person(), name) {
        (Auth::None, ..) => "none, as configured".into(),
        (Auth::Plain { username, .. }, ..) => format!("PLAIN as {username}"),
        (Auth::Login { username, .. }, ..) => format!("LOGIN as {username}"),
        (Auth::XOAuth2 { username }, None, _) => format!("XOAUTH2 as {username}"),
        (Auth::XOAuth2 { username }, Some(person), SignInName::Person) => {
            format!("XOAUTH2 as {person}, who sends as {username}; the limits of {person} apply")
        }
        (Auth::XOAuth2 { username }, Some(person), SignInName::Mailbox) => {
            format!("XOAUTH2 as {username}, with the token of {person}")
        }
    }
}

/// Requests a new token if the server needs a token: a cached one would hide that no new ones are issued. The
/// step shows the token's claims, not the token.
async fn token(upstream: &Upstream, steps: &Steps) -> Result<Option<Arc<Access>>, Step> {
    let Some(source) = &upstream.token else {
        return Ok(None);
    };
    // A person who runs the test has probably corrected something.
    source.clear_failure();
    match source.anew().await {
        Ok(access) => {
            let claims = Claims::of(access.token.expose_secret()).map(|claims| claims.to_string());
            let opaque = || format!("opaque, valid until {}", access.expires);
            let text = claims
                .filter(|text| !text.is_empty())
                .unwrap_or_else(opaque);
            let step = Step {
                remedy: clock_words(),
                ..Step::well("token", text)
            };
            let _ = steps.send(step).await;
            Ok(Some(access))
        }
        Err(error) => Err(Step::wrong("token", error, clock_words())),
    }
}
