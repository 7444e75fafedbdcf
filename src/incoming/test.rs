//! "Test connection" of the incoming way: signs in and opens INBOX for reading only.

use super::error::NotReached;
use super::mailbox::Mailbox;
use super::protocol::ReadingProtocol;
use super::remedy;
use super::shared::{self, Shared};
use super::upstream::{self, UpstreamError};
use crate::transport::{Step, Steps, remote};

/// The name of the step that signs in.
const SIGN_IN: &str = "sign-in";

/// The name of the last step.
const INBOX: &str = "INBOX";

impl Shared {
    /// True if there is a mailbox of this server that can be read.
    pub(crate) fn has(&self, server: &str) -> bool {
        let settings = self.settings.load();
        let mailbox = settings.mailboxes.get(server);
        mailbox.is_some_and(|mailbox| mailbox.imap.is_some() || mailbox.pop3.is_some())
    }

    /// Tests the way to the mailbox of a server, by each protocol that the server is used for.
    pub(crate) async fn test(&self, server: &str, steps: &Steps) {
        let settings = self.settings.load_full();
        let Some(mailbox) = settings.mailboxes.get(server) else {
            return;
        };
        for protocol in [ReadingProtocol::Imap, ReadingProtocol::Pop3] {
            if mailbox.host(protocol).is_none() {
                continue;
            }
            match go(mailbox, protocol, steps).await {
                Ok(()) => self.works(server, protocol),
                Err(step) => drop(steps.send(step).await),
            }
        }
    }
}

async fn go(mailbox: &Mailbox, protocol: ReadingProtocol, steps: &Steps) -> Result<(), Step> {
    let Some(host) = mailbox.host(protocol) else {
        return Ok(());
    };
    let name = protocol.to_string();
    let done = async |step: Step| drop(steps.send(step).await);
    let failed = |error: NotReached| {
        let remedy = remedy::of(mailbox, protocol, &error);
        let step = match &error {
            NotReached::Token(_) => "token",
            NotReached::Upstream(UpstreamError::Refused { .. }) => SIGN_IN,
            NotReached::Paused(_) | NotReached::Upstream(_) => &name,
        };
        Step::wrong(step, error, remedy)
    };
    let signed_in = shared::reach(mailbox, protocol).await.map_err(failed)?;
    let protection = remote::protection(&signed_in.stream);
    let protection = protection.unwrap_or_else(|| "no TLS, as configured".into());
    done(Step::well(
        &name,
        format!("{}:{}, {protection}", host.host, host.port),
    ))
    .await;
    done(Step::well(
        SIGN_IN,
        format!("signed in to read {}", mailbox.address),
    ))
    .await;
    let count = upstream::inbox(protocol, host, signed_in).await;
    let count = count.map_err(|error| {
        let error = NotReached::Upstream(error);
        let remedy = remedy::of(mailbox, protocol, &error);
        Step::wrong(INBOX, error, remedy)
    })?;
    let messages = if count == 1 { "message" } else { "messages" };
    done(Step::well(INBOX, format!("{count} {messages}"))).await;
    Ok(())
}
