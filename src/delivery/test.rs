//! "Test connection" for an operator: takes each step of the connection to a server and finally, if
//! requested, sends a message. The message is sent and judged like any other message.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use super::desk::NotNow;
use super::desks::Desks;
use super::plan::{Plan, ServerEntry};
use super::sending::{Dispatcher, NotSent, Sendable};
use super::settings::DeliverySettings;
use super::world::World;
use crate::base::{Clock, Timestamp};
use crate::message::header::unstructured;
use crate::message::rewrite::Composed;
use crate::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use crate::routing::lane;
use crate::spool::Content;
use crate::transport::{Link, Outcome, Step, Steps, Transport};

/// The longest time from MAIL to the reply to the message's final dot. It is short, because an operator is
/// waiting.
const MESSAGE: Duration = Duration::from_secs(60);

/// The name of the last step.
const STEP: &str = "message";

/// A message of ours that is sent at once.
pub(super) struct OwnMessage {
    /// The recipient.
    pub(super) to: Address,
    /// The subject, in ASCII or not.
    pub(super) subject: String,
    /// The text, with line ends of any kind.
    pub(super) text: String,
}

impl OwnMessage {
    /// Returns the message of a test.
    fn of_test(to: Address) -> Self {
        Self {
            to,
            subject: "mailferry test".to_owned(),
            text: "The connection works: this message came through mailferry.".to_owned(),
        }
    }
}

/// Tests the connection to a server while delivery is running, even if its mailbox is held. The test message
/// counts towards the mailbox's limits. Returns false if there is no such server.
pub(super) async fn test(
    world: &Arc<World>,
    server: &str,
    to: Option<Address>,
    steps: Steps,
) -> bool {
    let plan = world.plan();
    let Some(entry) = world.entry(&plan, server) else {
        return false;
    };
    let Some(entry) = plan
        .for_own(server)
        .and_then(|name| world.entry(&plan, &name))
    else {
        let _ = steps.send(without_mailbox(entry.name())).await;
        return true;
    };
    let entry = &entry;
    let (sender, receiver) = mpsc::channel(1);
    let walking = async {
        let message = to.map(OwnMessage::of_test);
        go(&world.sender, &plan, entry, message, &sender, &world.clock).await;
        drop(sender);
    };
    let ((), is_well) = tokio::join!(walking, passed_on(receiver, steps));
    if is_well {
        world.mended(entry);
    }
    true
}

/// Runs the same test for a configuration, without a running delivery.
pub async fn test_stopped(
    settings: Arc<DeliverySettings>,
    transport: Arc<dyn Transport>,
    server: &str,
    to: Option<Address>,
    steps: &Steps,
) -> bool {
    let (desks, clock) = (Desks::default(), Clock::default());
    let plan = Plan::new(settings, &desks);
    let Some(entry) = plan.entry(server, &desks) else {
        return false;
    };
    let own = plan.for_own(server);
    let Some(entry) = own.and_then(|name| plan.entry(&name, &desks)) else {
        let _ = steps.send(without_mailbox(entry.name())).await;
        return true;
    };
    let sender = Dispatcher::new(transport, clock.clone());
    let message = to.map(OwnMessage::of_test);
    go(&sender, &plan, &entry, message, steps, &clock).await;
    true
}

/// Returns the result of a test of a server that signs in as each sender, if it is not known as whom to sign in.
fn without_mailbox(server: &str) -> Step {
    Step::wrong(
        "mailbox",
        format!("server {server} signs in as each sender, so the test needs to know a mailbox"),
        Some(format!(
            "name one: mailferry test {server}/name@example.com"
        )),
    )
}

/// Forwards each step as it is done. Returns true if all of them succeeded.
async fn passed_on(mut receiver: mpsc::Receiver<Step>, steps: Steps) -> bool {
    let mut is_well = true;
    while let Some(step) = receiver.recv().await {
        is_well &= step.well;
        let _ = steps.send(step).await;
    }
    is_well
}

async fn go(
    sender: &Dispatcher,
    plan: &Plan,
    entry: &ServerEntry,
    own: Option<OwnMessage>,
    steps: &Steps,
    clock: &Clock,
) {
    let upstream = &entry.server.upstream;
    let Some(link) = sender.transport().test(upstream, steps).await else {
        return;
    };
    let Some(own) = own else {
        return link.quit().await;
    };
    let step = match from(plan, entry) {
        Some(from) => message(sender, plan, entry, link, &from, &own, clock).await,
        None => Step::wrong(
            STEP,
            format!("{} has no address to send as", entry.name()),
            Some("set the server's `from`, or `default_from`".into()),
        ),
    };
    let _ = steps.send(step).await;
}

/// Returns an address that the server may send as.
fn from(plan: &Plan, entry: &ServerEntry) -> Option<Address> {
    if let (_, Some(mailbox)) = lane::parts(entry.name()) {
        return Some(mailbox);
    }
    let policy = &plan.settings.policy;
    let mut rules = policy.servers.iter();
    let rule = rules.find(|rule| rule.name == entry.name());
    let own = rule.and_then(|rule| rule.address.clone());
    own.or_else(|| policy.default_from.clone())
}

async fn message(
    sender: &Dispatcher,
    plan: &Plan,
    entry: &ServerEntry,
    link: Box<dyn Link>,
    from: &Address,
    own: &OwnMessage,
    clock: &Clock,
) -> Step {
    let admission = match entry.desk.admit_test(clock.now()) {
        Ok(admission) => admission,
        Err(NotNow::UsedUp(until)) => {
            link.quit().await;
            let until = clock.shown(until);
            let text = format!("not sent: the mailbox has used up its sending limit until {until}");
            return Step::wrong(STEP, text, None);
        }
        Err(NotNow::Held) => {
            link.quit().await;
            return Step::wrong(STEP, "not sent: the mailbox is held", None);
        }
    };
    let sender_path = ReversePath::Mailbox(from.clone());
    let envelope = Envelope {
        sender: sender_path.clone(),
        parameters: Parameters::default(),
        recipients: vec![Recipient {
            address: own.to.clone(),
            parameters: Parameters::default(),
        }],
    };
    let composed = Composed {
        head: head(from, own, clock.wall(), rand::random(), &plan.settings.host),
        body: 0,
    };
    let letter = Sendable {
        sender: &sender_path,
        author: Some(from),
        envelope: &envelope,
        composed: &composed,
        content: &Content::Memory(body(&own.text)),
        all_or_none: true,
    };
    let mut seat = entry.desk.sessions.beside(link, &entry.server.upstream);
    let sent = timeout(MESSAGE, sender.send(entry, &mut seat, &letter)).await;
    if let Some(link) = seat.take() {
        link.quit().await;
    }
    let reached = matches!(&sent, Ok(Ok(outcome)) if !outcome.delivered.is_empty());
    entry.desk.settle(admission, usize::from(reached));
    match sent {
        Ok(Ok(outcome)) => judged(&outcome, &own.to),
        Ok(Err(NotSent::Interrupted(interruption))) => {
            let finding = interruption.finding.map(|finding| finding.reason());
            Step::wrong(STEP, finding.unwrap_or(interruption.reason), None)
        }
        Ok(Err(NotSent::Spool(error))) => Step::wrong(STEP, error, None),
        Err(_) => Step::wrong(STEP, format!("no answer in {} s", MESSAGE.as_secs()), None),
    }
}

fn head(from: &Address, own: &OwnMessage, now: Timestamp, nonce: u64, host: &str) -> Vec<u8> {
    let (to, subject) = (&own.to, unstructured(&own.subject, "Subject: ".len()));
    format!(
        "Date: {}\r\nFrom: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{nonce:016x}.mailferry@{host}>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\
         Auto-Submitted: auto-generated\r\n\r\n",
        now.rfc5322(),
    )
    .into_bytes()
}

/// Encodes a text as lines of base64 (RFC 2045 §6.8), so that any text passes any server.
fn body(text: &str) -> Bytes {
    let text: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
    let encoded = BASE64_STANDARD.encode(text);
    let lines = encoded.as_bytes().chunks(76);
    lines
        .flat_map(|line| [line, b"\r\n"])
        .flatten()
        .copied()
        .collect()
}

/// Sends a message of ours at once, even if the server is held. It counts towards the mailbox's limits. The error
/// says why it was not sent.
pub(super) async fn send_own(
    world: &Arc<World>,
    server: &str,
    own: OwnMessage,
) -> Result<(), String> {
    let plan = world.plan();
    let entry = plan
        .for_own(server)
        .and_then(|name| world.entry(&plan, &name));
    let entry = entry.ok_or("there is no such server for sending, or no address to send as")?;
    let (sender, mut receiver) = mpsc::channel(1);
    let walking = async {
        go(
            &world.sender,
            &plan,
            &entry,
            Some(own),
            &sender,
            &world.clock,
        )
        .await;
        drop(sender);
    };
    let last = async {
        let mut last = None;
        while let Some(step) = receiver.recv().await {
            last = Some(step);
        }
        last
    };
    match tokio::join!(walking, last).1 {
        Some(step) if step.well && step.name == STEP => Ok(()),
        Some(step) => Err(format!("{}: {}", step.name, step.text)),
        None => Err("not sent".to_owned()),
    }
}

/// Returns the result of the test message, with the remedy if it failed.
fn judged(outcome: &Outcome, to: &Address) -> Step {
    if let (Some(answer), false) = (&outcome.accepted, outcome.delivered.is_empty()) {
        return Step::well(STEP, format!("to {to}: {answer}"));
    }
    if let Some(refused) = outcome.failed.first() {
        let remedy = Some(refused.remedy.clone()).filter(|remedy| !remedy.is_empty());
        return Step::wrong(STEP, &refused.answer, remedy);
    }
    if let Some(finding) = &outcome.finding {
        return Step::wrong(STEP, finding.reason(), None);
    }
    let answer = outcome.not_now.as_ref().map(ToString::to_string);
    Step::wrong(STEP, answer.unwrap_or_default(), None)
}
