//! A simulated Exchange Online: mailboxes with their limits, and faults that a seed determines. It records
//! the messages that it accepts, and the rules that the sender breaks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mailferry::base::{BoxFuture, Clock, MessageId, Timestamp};
use mailferry::message::ReversePath;
use mailferry::transport::smtp::{self, Failure, Stage, Transcript};
use mailferry::transport::{
    Answer, Body, ConnectError, Interruption, Link, Outcome, Outgoing, Steps, Transport, Upstream,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The limits of a mailbox.
pub const SESSIONS: usize = 3;
pub const PER_MINUTE: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);

/// Faults that may happen, each with its probability.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub drop_before: f64,
    pub drop_after: f64,
    pub stall: f64,
    pub temporary: f64,
    pub crowded: f64,
    pub permanent: f64,
    pub token: f64,
    pub mailbox: f64,
    /// The beginning and end of the outage (milliseconds since the start of the schedule). No server is
    /// reachable in between.
    pub outage: (i64, i64),
}

/// A message that was accepted for one recipient.
#[derive(Debug, Clone)]
pub struct Taken {
    pub message: String,
    pub recipient: String,
    pub at: Timestamp,
    /// True if the 250 reply reached the sender.
    pub is_told: bool,
}

#[derive(Default)]
struct Inner {
    /// The open sessions of each mailbox: the runs of the program that opened them.
    open: HashMap<String, Vec<u64>>,
    taken: HashMap<String, Vec<Taken>>,
    /// The texts of the reports among the accepted messages, by Message-ID.
    reports: HashMap<String, Vec<String>>,
    wrong: Vec<String>,
    /// The attempts to open a session during the outage, by mailbox.
    tried: HashMap<String, usize>,
}

pub struct Exchange {
    inner: Mutex<Inner>,
    random: Mutex<StdRng>,
    faults: Faults,
    began: Timestamp,
    clock: Clock,
}

impl Exchange {
    /// Creates an Exchange. After the start it follows only the steady time of `clock`, so that it does not
    /// notice when the program's clock is set.
    pub fn new(seed: u64, faults: Faults, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            faults,
            began: clock.now(),
            clock,
        })
    }

    /// Ends all sessions, because the program that opened them was killed.
    pub fn restart(&self) {
        self.inner().open.clear();
    }

    /// Ends the sessions of a run of the program.
    pub fn close_all(&self, run: u64) {
        let mut inner = self.inner();
        let open = inner.open.values_mut();
        open.for_each(|open| open.retain(|its| *its != run));
    }

    /// Returns the accepted messages by mailbox, in order.
    pub fn taken(&self) -> HashMap<String, Vec<Taken>> {
        self.inner().taken.clone()
    }

    /// Returns the texts of the reports with this id.
    pub fn reports(&self, report: MessageId) -> Vec<String> {
        let inner = self.inner();
        // The Message-ID of a digest also contains the number of its last line.
        let is_one = |name: &String| {
            let name = name.trim_start_matches('<');
            name.split(['.', '@']).next() == Some(&report.to_string())
        };
        let reports = inner.reports.iter().filter(|(name, _)| is_one(name));
        reports.flat_map(|(_, texts)| texts.clone()).collect()
    }

    /// Returns the rules that the sender has broken.
    pub fn wrong(&self) -> Vec<String> {
        self.inner().wrong.clone()
    }

    /// Returns the most attempts to open a session of one mailbox during the outage.
    pub fn most_tries(&self) -> usize {
        self.inner().tried.values().copied().max().unwrap_or(0)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    fn now(&self) -> Timestamp {
        self.began.after(self.clock.steady())
    }

    fn hits(&self, probability: f64) -> bool {
        probability > 0.0
            && self
                .random
                .lock()
                .expect("no panic")
                .random_bool(probability)
    }

    async fn sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    /// Waits for a random network delay.
    async fn travel(&self, most: u64) {
        let time = self.random.lock().expect("no panic").random_range(20..most);
        self.sleep(Duration::from_millis(time)).await;
    }

    fn is_out(&self) -> bool {
        let since = self.now().0 - self.began.0;
        (self.faults.outage.0..self.faults.outage.1).contains(&since)
    }

    fn take(&self, mailbox: &str, message: &Outgoing<'_>, recipients: &[Answer], is_told: bool) {
        let at = self.now();
        let name = name_of(message.head);
        let mut inner = self.inner();
        if let (ReversePath::Null, Body::Memory(body)) = (message.sender, &message.body) {
            let text = String::from_utf8_lossy(body).into_owned();
            inner.reports.entry(name.clone()).or_default().push(text);
        }
        let taken = inner.taken.entry(mailbox.to_owned()).or_default();
        let accepted = message.envelope.recipients.iter().zip(recipients);
        for (recipient, _) in accepted.filter(|(_, reply)| reply.is_completion()) {
            taken.push(Taken {
                message: name.clone(),
                recipient: recipient.address.to_string(),
                at,
                is_told,
            });
        }
    }
}

/// Returns the Message-ID in a header section.
fn name_of(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Message-ID: "));
    line.expect("every message has one").to_owned()
}

/// The transport that one run of the program, with its number, uses to reach this Exchange.
pub struct Door(pub Arc<Exchange>, pub u64);

struct Visit {
    exchange: Arc<Exchange>,
    upstream: Arc<Upstream>,
    mailbox: String,
    run: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(open) = self.exchange.inner().open.get_mut(&self.mailbox)
            && let Some(place) = open.iter().position(|run| *run == self.run)
        {
            open.swap_remove(place);
        }
    }
}

fn lost(stage: Stage) -> Failure {
    Failure::Lost {
        host: "exchange".into(),
        stage,
        reason: "simulated".into(),
    }
}

fn refused(stage: Stage, reply: Answer) -> Failure {
    Failure::Refused {
        host: "exchange".into(),
        stage,
        answer: reply,
        detail: None,
    }
}

impl Transport for Door {
    fn test<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        _: &'a Steps,
    ) -> BoxFuture<'a, Option<Box<dyn Link>>> {
        Box::pin(async move { self.open(upstream, false).await.ok() })
    }

    fn open<'a>(
        &'a self,
        upstream: &'a Arc<Upstream>,
        _: bool,
    ) -> BoxFuture<'a, Result<Box<dyn Link>, Interruption>> {
        let visit = self.visit(upstream);
        Box::pin(async move {
            let visit = visit.await;
            visit.map_err(|failure| smtp::interruption(upstream, &failure))
        })
    }
}

impl Door {
    fn visit(
        &self,
        upstream: &Arc<Upstream>,
    ) -> impl Future<Output = Result<Box<dyn Link>, Failure>> + use<> {
        let (exchange, run) = (self.0.clone(), self.1);
        let mailbox = upstream.smtp.auth.username().unwrap_or_default().to_owned();
        let upstream = upstream.clone();
        async move {
            exchange.travel(200).await;
            if exchange.is_out() {
                *exchange.inner().tried.entry(mailbox).or_default() += 1;
                return Err(Failure::Connect(ConnectError::Unreachable {
                    host: "exchange".into(),
                    port: 587,
                    reason: "simulated".into(),
                }));
            }
            if exchange.hits(exchange.faults.token) {
                let words = "Authentication unsuccessful";
                return Err(refused(Stage::Auth, Answer::new(535, "5.7.3", words)));
            }
            let mut inner = exchange.inner();
            let open = inner.open.entry(mailbox.clone()).or_default();
            open.push(run);
            if open.len() > SESSIONS {
                let words = format!("{mailbox} has {} sessions", open.len());
                inner.wrong.push(words);
            }
            drop(inner);
            let visit = Visit {
                exchange,
                upstream,
                mailbox,
                run,
            };
            Ok(Box::new(visit) as Box<dyn Link>)
        }
    }
}

impl Visit {
    async fn replies(&self, message: &Outgoing<'_>) -> Result<Transcript, Failure> {
        let exchange = &self.exchange;
        let faults = exchange.faults;
        exchange.travel(600).await;
        let words =
            |code, enhanced: &'static str, text: &'static str| Answer::new(code, enhanced, text);
        let mut answer = Transcript {
            mail: words(250, "2.1.0", "Sender OK"),
            recipients: Vec::new(),
            message: None,
            offers_dsn: true,
        };
        if exchange.is_out() || exchange.hits(faults.drop_before) {
            return Err(lost(Stage::Content));
        }
        if exchange.hits(faults.stall) {
            exchange.sleep(Duration::from_secs(600)).await;
            return Err(lost(Stage::FinalDot));
        }
        if exchange.hits(faults.mailbox) {
            answer.mail = words(550, "5.2.251", "throttled due to continuous errors");
            return Ok(answer);
        }
        for recipient in &message.envelope.recipients {
            let is_bad = recipient.address.as_str().starts_with("bad");
            answer.recipients.push(match is_bad {
                true => words(550, "5.1.10", "Recipient not found"),
                false if exchange.hits(faults.temporary) => words(450, "4.4.317", "busy"),
                false => words(250, "2.1.5", "Recipient OK"),
            });
        }
        if !answer.recipients.iter().any(Answer::is_completion) {
            return Ok(answer);
        }
        let last = if exchange.hits(faults.crowded) {
            words(432, "4.3.2", "Concurrent connections limit exceeded")
        } else if exchange.hits(faults.temporary) {
            words(451, "4.7.0", "Temporary server error")
        } else if exchange.hits(faults.permanent) {
            words(554, "5.6.0", "Corrupt message content")
        } else {
            let dropped = exchange.hits(faults.drop_after);
            let (mailbox, told) = (&self.mailbox, !dropped);
            exchange.take(mailbox, message, &answer.recipients, told);
            if dropped {
                return Err(lost(Stage::FinalDot));
            }
            words(250, "2.0.0", "OK")
        };
        answer.message = Some((Stage::FinalDot, last));
        Ok(answer)
    }
}

impl Link for Visit {
    fn send<'a>(
        &'a mut self,
        message: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Outcome, Interruption>> {
        Box::pin(async move {
            match self.replies(&message).await {
                Ok(replies) => Ok(smtp::outcome(&self.upstream, &message, &replies)),
                Err(failure) => Err(smtp::interruption(&self.upstream, &failure)),
            }
        })
    }

    fn is_spent(&self) -> bool {
        false
    }

    fn is_alive(&mut self) -> BoxFuture<'_, bool> {
        let is_alive = !self.exchange.is_out();
        Box::pin(std::future::ready(is_alive))
    }

    fn quit(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}

/// Returns the first time at which a mailbox exceeded its limit per minute. Counts only the messages that
/// `counts` selects.
pub fn too_fast(taken: &[Taken], counts: impl Fn(&Taken) -> bool) -> Option<Timestamp> {
    let mut messages: Vec<&Taken> = taken.iter().filter(|taken| counts(taken)).collect();
    messages.dedup_by(|a, b| a.message == b.message && a.at == b.at);
    let over = messages.windows(PER_MINUTE + 1);
    let mut over = over.filter(|w| w[PER_MINUTE].at.since(w[0].at) < MINUTE);
    over.next().map(|window| window[PER_MINUTE].at)
}
