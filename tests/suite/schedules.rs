//! Five thousand messages over fifty mailboxes, a thousand times, in simulated time. A seed determines each
//! schedule of faults and restarts. Delivery is the real code; the spool is in memory, and Exchange Online
//! is simulated. `tests/run` runs a thousand schedules, `cargo test` fewer. `MAILFERRY_SCHEDULES` sets the
//! number. A number in `MAILFERRY_SEED` repeats one schedule; `random` selects random schedules.

mod exchange;
mod nodes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use mailferry::base::Service;
use mailferry::base::{MessageId, Simulation, Timestamp, tls};
use mailferry::delivery::{self, Delivery, DeliveryOptions, MailboxLimits};
use mailferry::message::{Address, Envelope, Parameters, Recipient, ReversePath};
use mailferry::routing::{Filter, Key, Policy, ServerRule};
use mailferry::spool::{Content, EventKind, Intake, NewMessage, Origin, Record, State};
use mailferry::transport::smtp::{Auth, SmtpServer};
use mailferry::transport::{RemoteHost, Tls, Upstream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Memory, seed};
use exchange::{Door, Exchange, Faults, PER_MINUTE, SESSIONS};

const MAILBOXES: usize = 50;
const MESSAGES: usize = 5_000;
const SCHEDULES: u64 = 1_000;
const FEW_SCHEDULES: u64 = 50;
/// A schedule of three nodes takes ten times as long.
const NODE_SCHEDULES: u64 = 30;
const FEW_NODE_SCHEDULES: u64 = 3;

/// The time at which each schedule begins.
const BEGAN: Timestamp = Timestamp(1_800_000_000_000);

/// The time within which a schedule must end.
const END: Duration = Duration::from_secs(8 * 24 * 3_600);

/// Stories are kept longer than a schedule takes.
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The time within which the program notices that its clock was set. The clock is never set within this time
/// before a kill: the next run would take an unnoticed step forward for downtime.
const NOTICED: Duration = Duration::from_secs(10);

fn mailbox(number: usize) -> String {
    format!("m{number}@example.com")
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn settings(tls_config: Arc<rustls::ClientConfig>) -> delivery::DeliverySettings {
    let rule = |number| ServerRule {
        name: format!("s{number}"),
        address: Some(address(&mailbox(number))),
        filter: Filter::parse(&mailbox(number)).expect("a filter"),
        ..ServerRule::default()
    };
    let server = |number| delivery::Server {
        upstream: Arc::new(Upstream {
            name: format!("s{number}"),
            token: None,
            smtp: SmtpServer {
                remote: RemoteHost {
                    host: "exchange".into(),
                    port: 587,
                    tls: Tls::Starttls,
                    tls_config: tls_config.clone(),
                    roots: Vec::new(),
                },
                service: Service::ExchangeOnline,
                hello: "relay.example.com".into(),
                auth: Auth::XOAuth2 {
                    username: mailbox(number),
                },
            },
        }),
        limits: MailboxLimits {
            sessions: SESSIONS,
            per_minute: Some(PER_MINUTE),
            per_day: Some(10_000),
            recipients: 500,
        },
        fallback: None,
        tenant: None,
    };
    delivery::DeliverySettings {
        policy: Policy {
            servers: (0..MAILBOXES).map(rule).collect(),
            default_from: Some(address(&mailbox(0))),
            keys: vec![Key::Envelope],
            ..Policy::default()
        },
        servers: (0..MAILBOXES).map(server).collect(),
        options: DeliveryOptions {
            reports_per_hour: 3,
            ..DeliveryOptions::default()
        },
        host: "relay.example.com".into(),
        received: mailferry::message::Shown::Full,
    }
}

/// Makes a message of one mailbox. One message in ten has three recipients, and some recipients do not exist.
fn message(
    spool: &Memory,
    random: &mut StdRng,
    number: usize,
    now: Timestamp,
    bad: f64,
) -> NewMessage {
    let sender = mailbox(number % MAILBOXES);
    let count = if random.random_bool(0.1) { 3 } else { 1 };
    let recipient = |place: usize| {
        let kind = if random.random_bool(bad) { "bad" } else { "to" };
        Recipient {
            address: address(&format!("{kind}{place}.{number}@example.net")),
            parameters: Parameters::default(),
        }
    };
    let recipients = (0..count).map(recipient).collect();
    let text = format!("From: <{sender}>\r\nMessage-ID: <{number}>\r\nSubject: x\r\n\r\nHello\r\n");
    let id = spool.next_id(now);
    let record = Record {
        size: text.len() as u64,
        lane: format!("s{}", number % MAILBOXES),
        ..Record::new(
            id,
            now,
            Origin::Client {
                user: format!("user{}", number % 3),
                listener: String::new(),
                peer: "127.0.0.1".into(),
                helo: "app".into(),
                protocol: "ESMTPA".into(),
            },
            Envelope {
                sender: ReversePath::Mailbox(address(&sender)),
                parameters: Parameters::default(),
                recipients,
            },
        )
    };
    let content = Content::Memory(text.into());
    NewMessage { record, content }
}

/// The events that a seed determines.
#[derive(Default)]
struct Plan {
    faults: Faults,
    /// The share of recipients that do not exist.
    bad: f64,
    /// The lengths of the runs (seconds) after which the program is killed.
    kills: Vec<u64>,
    /// The times since the beginning at which the clock is set, and by how much.
    steps: Vec<(Duration, SignedDuration)>,
    /// The (negative) step that sets the clock back between runs.
    back: SignedDuration,
    /// The times since the beginning at which an operator retries all messages.
    retries: Vec<Duration>,
}

fn plan(random: &mut StdRng) -> Plan {
    let mut some = |most: f64| match random.random_bool(0.5) {
        true => random.random_range(0.0..most),
        false => 0.0,
    };
    let faults = Faults {
        drop_before: some(0.05),
        drop_after: some(0.02),
        stall: some(0.005),
        temporary: some(0.1),
        crowded: some(0.05),
        permanent: some(0.02),
        token: some(0.1),
        mailbox: some(0.0005),
        outage: (0, 0),
    };
    let bad = some(0.05);
    let outage = match random.random_bool(0.3) {
        true => {
            let from = random.random_range(0..600_000);
            // Some outages last longer than messages are kept.
            let long = if random.random_bool(0.05) { 6 * 24 } else { 3 };
            (from, from + random.random_range(60_000..long * 3_600_000))
        }
        false => (0, 0),
    };
    let kills = random.random_range(0..4);
    let kills = (0..kills).map(|_| random.random_range(10..450)).collect();
    let steps = match random.random_bool(0.3) {
        true => random.random_range(1..4),
        false => 0,
    };
    const MONTH: i64 = 30 * 24 * 3_600;
    let steps = (0..steps).map(|_| {
        let by = match random.random_bool(0.5) {
            true => random.random_range(-MONTH..MONTH),
            false => random.random_range(-900..900),
        };
        let at = Duration::from_secs(random.random_range(1..7_200));
        (at, SignedDuration::from_secs(by))
    });
    let steps = steps.collect();
    let back = match random.random_bool(0.2) {
        true => random.random_range(-MONTH..-3_600),
        false => 0,
    };
    let back = SignedDuration::from_secs(back);
    let retries = match random.random_bool(0.3) {
        true => random.random_range(1..40),
        false => 0,
    };
    let retries = (0..retries).map(|_| Duration::from_secs(random.random_range(1..1_800)));
    let retries = retries.collect();
    Plan {
        faults: Faults { outage, ..faults },
        bad,
        kills,
        steps,
        back,
        retries,
    }
}

/// Runs the program until all messages are done, or kills it after `life`. Returns true if it was killed.
fn run(
    spool: &Arc<Memory>,
    exchange: &Arc<Exchange>,
    settings: &dyn Fn() -> delivery::DeliverySettings,
    time: &Arc<Simulation>,
    plan: &mut Plan,
    life: Duration,
) -> bool {
    let parked = time.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(move || parked.advance_to_next())
        .build()
        .expect("a runtime");
    let killed = runtime.block_on(async {
        let clock = time.clock();
        exchange.restart();
        let door = Arc::new(Door(exchange.clone(), 0));
        let delivery = Delivery::start(spool.clone(), settings(), door, clock.clone()).await;
        let delivery = delivery.expect("starts");
        let ends = clock.steady() + life;
        while clock.steady() < ends && !(spool.is_done() && delivery.is_quiet()) {
            clock.sleep(Duration::from_secs(1)).await;
            if clock.steady() + NOTICED < ends {
                set_clock(time, &mut plan.steps);
            }
            if is_due(&mut plan.retries, clock.steady()) {
                retry_all(spool, &delivery, clock.now()).await;
            }
        }
        clock.steady() >= ends
    });
    drop(runtime);
    spool.restart();
    killed
}

/// Changes the clock by each step that is due.
fn set_clock(time: &Simulation, steps: &mut Vec<(Duration, SignedDuration)>) {
    let now = time.steady();
    let due = steps.extract_if(.., |(at, _)| *at <= now);
    due.for_each(|(_, by)| time.set(by));
}

/// True if any of these times has come. Removes the times that have come.
fn is_due(times: &mut Vec<Duration>, now: Duration) -> bool {
    times.extract_if(.., |at| *at <= now).count() > 0
}

/// Retries all messages as `queue retry --all` does.
async fn retry_all(spool: &Memory, delivery: &Delivery, now: Timestamp) {
    let pause = delivery.pause();
    spool.retry_all(now);
    let servers = delivery.servers().await;
    servers
        .iter()
        .for_each(|server| delivery.mended(&server.name));
    drop(pause);
}

struct Outcome {
    took: Duration,
    delivered: usize,
    reported: usize,
    held: usize,
}

/// Makes a spool with all messages of a schedule. Returns their records too.
fn filled(random: &mut StdRng, bad: f64) -> (Arc<Memory>, Vec<Record>) {
    let spool = Arc::new(Memory::new(HISTORY));
    let messages: Vec<NewMessage> = (0..MESSAGES)
        .map(|number| message(&spool, random, number, BEGAN, bad))
        .collect();
    let sent = messages.iter().map(|new| new.record.clone()).collect();
    wait(spool.put(messages)).expect("put");
    // They came in an earlier run.
    spool.restart();
    (spool, sent)
}

fn schedule(seed: u64, faultless: bool, tls_config: &Arc<rustls::ClientConfig>) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = match faultless {
        true => Plan::default(),
        false => plan(&mut random),
    };
    let (spool, sent) = filled(&mut random, plan.bad);
    let time = Simulation::new(BEGAN);
    let exchange = Exchange::new(seed, plan.faults, time.clock());
    let settings = || settings(tls_config.clone());
    // Messages that the server accepted, but that the program could not record before it was killed.
    let mut unwritten: HashSet<String> = HashSet::new();
    for kill in std::mem::take(&mut plan.kills) {
        let life = Duration::from_secs(kill);
        if !run(&spool, &exchange, &settings, &time, &mut plan, life) {
            break;
        }
        unwritten.extend(left_taken(&spool, &exchange, &sent));
        time.set(plan.back);
    }
    let ended = run(&spool, &exchange, &settings, &time, &mut plan, END);
    assert!(
        !ended,
        "seed {seed}: not done in {END:?}: {:?}",
        plan.faults
    );
    check(seed, &spool, &exchange, &sent, &unwritten);
    outcome(&spool, &exchange, &sent, BEGAN)
}

/// The number of nodes, the time that passes until the others take over from one that has died, and the longest time until
/// it runs again.
const NODES: usize = 3;
const BURIED: Duration = Duration::from_secs(9);
const ABSENT: u64 = 200;

/// A node, with its delivery, in its place among the nodes.
struct Running {
    node: Arc<nodes::Node>,
    delivery: Delivery,
    /// When the others take over from it, and when the next one takes its place, once it has been killed.
    killed: Option<(Duration, Duration)>,
}

/// Runs so many nodes until all messages are done. Each kill ends one of them.
fn run_nodes(
    count: usize,
    shared: &Arc<nodes::Shared>,
    settings: &dyn Fn() -> delivery::DeliverySettings,
    time: &Arc<Simulation>,
    kills: &mut Vec<(Duration, usize, u64)>,
) -> bool {
    let parked = time.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(move || parked.advance_to_next())
        .build()
        .expect("a runtime");
    let is_done = runtime.block_on(async {
        let clock = time.clock();
        let start = async || {
            let (node, door) = shared.join();
            let delivery = Delivery::start(node.clone(), settings(), door, clock.clone()).await;
            Running {
                node,
                delivery: delivery.expect("starts"),
                killed: None,
            }
        };
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(start().await);
        }
        let is_quiet = |all: &[Running]| {
            all.iter()
                .all(|it| it.killed.is_none() && it.delivery.is_quiet())
        };
        while clock.steady() < END && !(shared.memory.is_done() && is_quiet(&all)) {
            clock.sleep(Duration::from_secs(1)).await;
            let now = clock.steady();
            for (_, place, absent) in kills.extract_if(.., |(at, ..)| *at <= now) {
                let running = &mut all[place];
                if running.killed.is_none() {
                    shared.kill(&running.node);
                    let back = now + BURIED + Duration::from_secs(absent);
                    running.killed = Some((now + BURIED, back));
                }
            }
            for running in &mut all {
                match running.killed {
                    Some((buried, _)) if buried <= now && !shared.is_buried(&running.node) => {
                        shared.bury(&running.node);
                    }
                    Some((_, back)) if back <= now => *running = start().await,
                    _ => {}
                }
            }
        }
        clock.steady() < END
    });
    drop(runtime);
    is_done
}

/// A schedule of several nodes that die and come back.
fn schedule_nodes(seed: u64, tls_config: &Arc<rustls::ClientConfig>) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let plan = plan(&mut random);
    let mut kills: Vec<(Duration, usize, u64)> = (0..random.random_range(0..8))
        .map(|_| {
            let at = Duration::from_secs(random.random_range(1..450));
            (
                at,
                random.random_range(0..NODES),
                random.random_range(0..ABSENT),
            )
        })
        .collect();
    let (memory, sent) = filled(&mut random, plan.bad);
    let time = Simulation::new(BEGAN);
    let exchange = Exchange::new(seed, plan.faults, time.clock());
    let shared = nodes::Shared::new(memory.clone(), exchange.clone(), time.clock());
    let settings = || settings(tls_config.clone());
    let is_done = run_nodes(NODES, &shared, &settings, &time, &mut kills);
    assert!(
        is_done,
        "seed {seed}: not done in {END:?}: {:?}",
        plan.faults
    );
    // Messages that the server may have accepted from a node that died before it could record that.
    let died_with = shared.unwritten();
    let taken = exchange.taken().into_values().flatten();
    let unwritten = taken.map(|taken| taken.message);
    let unwritten = unwritten.filter(|name| died_with.contains(&id_of(name, &sent)));
    let unwritten = unwritten.collect();
    check(seed, &memory, &exchange, &sent, &unwritten);
    outcome(&memory, &exchange, &sent, BEGAN)
}

#[test]
fn whichever_nodes_die_each_message_has_one_end() {
    let all = std::env::var("MAILFERRY_TESTS").is_ok_and(|value| value == "all");
    let tls_config = tls_config();
    let usual = if all {
        NODE_SCHEDULES
    } else {
        FEW_NODE_SCHEDULES
    };
    every_schedule(usual, &|seed| schedule_nodes(seed, &tls_config));
}

/// Returns how often a mailbox was tried in an outage of an hour: the one that was tried most.
fn tries_in_an_outage(count: usize, tls_config: &Arc<rustls::ClientConfig>) -> usize {
    let faults = Faults {
        outage: (0, 3_600_000),
        ..Faults::default()
    };
    let (memory, _) = filled(&mut StdRng::seed_from_u64(seed()), 0.0);
    let time = Simulation::new(BEGAN);
    let exchange = Exchange::new(seed(), faults, time.clock());
    let shared = nodes::Shared::new(memory, exchange.clone(), time.clock());
    let settings = || settings(tls_config.clone());
    assert!(run_nodes(count, &shared, &settings, &time, &mut Vec::new()));
    exchange.most_tries()
}

#[test]
fn several_nodes_try_a_server_that_is_away_hardly_more_often_than_one() {
    let tls_config = tls_config();
    let [one, three] = [1, NODES].map(|count| tries_in_an_outage(count, &tls_config));
    assert!(
        three <= one + 2 * NODES,
        "one node {one} times, three {three}"
    );
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

fn name(place: usize) -> String {
    format!("<{place}>")
}

/// Returns the Message-IDs of the messages that the server has accepted and that are still in the spool. A
/// report's Message-ID contains the report's id in the spool.
fn left_taken(spool: &Memory, exchange: &Exchange, sent: &[Record]) -> Vec<String> {
    let is_left = |name: &String| spool.left(id_of(name, sent)).is_some();
    let taken = exchange.taken().into_values().flatten();
    taken.map(|taken| taken.message).filter(is_left).collect()
}

/// Returns the id in the spool of the message with this Message-ID.
fn id_of(name: &str, sent: &[Record]) -> MessageId {
    let inner = name.trim_matches(['<', '>']);
    match inner.split_once('@') {
        // A digest's id is followed by the number of its last line.
        Some((id, _)) => id
            .split('.')
            .next()
            .and_then(|id| id.parse().ok())
            .expect("an id"),
        None => sent[inner.parse::<usize>().expect("a number")].id,
    }
}

/// Checks that each message ends in exactly one way for each recipient (delivered, reported or held), except
/// that an uncertain message may end in several; that only uncertain messages are sent twice; and that no
/// mailbox exceeds its limits.
fn check(
    seed: u64,
    spool: &Memory,
    exchange: &Exchange,
    sent: &[Record],
    unwritten: &HashSet<String>,
) {
    assert_eq!(exchange.wrong(), Vec::<String>::new(), "seed {seed}");
    let taken = exchange.taken();
    let mut arrived: HashMap<(&str, &str), (usize, bool)> = HashMap::new();
    for (mailbox, taken) in &taken {
        let counts = |one: &exchange::Taken| !unwritten.contains(&one.message);
        let fast = exchange::too_fast(taken, counts);
        assert!(
            fast.is_none(),
            "seed {seed}: {mailbox} sent too fast at {fast:?}"
        );
        for one in taken {
            let entry = arrived.entry((&one.message, &one.recipient)).or_default();
            entry.0 += 1;
            entry.1 |= !one.is_told;
        }
    }
    for ((name, to), (count, was_dropped)) in &arrived {
        assert!(
            *count == 1 || *was_dropped || unwritten.contains(*name),
            "seed {seed}: {name} to {to} was taken {count} times"
        );
    }
    for (place, record) in sent.iter().enumerate() {
        let name = name(place);
        let failed = failed(spool, record.id);
        let reports = reports(spool, exchange, record.id);
        for to in &failed {
            assert!(
                reports.iter().any(|report| report.contains(to)),
                "seed {seed}: no report of {name} names {to}: {:?}",
                spool.events(record.id)
            );
        }
        let left = spool.left(record.id);
        for recipient in &record.envelope.recipients {
            let to = recipient.address.as_str();
            let (count, was_dropped) = arrived
                .get(&(name.as_str(), to))
                .copied()
                .unwrap_or_default();
            let is_held = left.as_ref().is_some_and(|left| {
                let mut all = left.envelope.recipients.iter();
                left.state == State::Held && all.any(|r| r.address == recipient.address)
            });
            let ends =
                usize::from(count > 0) + usize::from(failed.contains(to)) + usize::from(is_held);
            let uncertain = was_dropped || unwritten.contains(&name);
            let said = format!(
                "seed {seed}: {name} to {to}: taken {count} times, failed {}, held {is_held}, uncertain {uncertain}: {:?}",
                failed.contains(to),
                spool.events(record.id)
            );
            assert!(ends >= 1, "{said}");
            assert!(ends == 1 || uncertain, "{said}");
        }
        assert!(
            left.is_none_or(|left| left.state == State::Held),
            "seed {seed}: {name} is still queued"
        );
    }
}

/// Returns the texts of the reports about a message: the reports that reached the sender, and the reports
/// that are still in the spool, where an operator can see them.
fn reports(spool: &Memory, exchange: &Exchange, id: MessageId) -> Vec<String> {
    let of = |event: mailferry::spool::StoryEvent| match event.what {
        EventKind::Reported { report, .. } => {
            let mut texts = exchange.reports(report);
            texts.extend(spool.text(report));
            texts
        }
        _ => Vec::new(),
    };
    spool.events(id).into_iter().flat_map(of).collect()
}

/// Returns the failed recipients that were reported to the sender.
fn failed(spool: &Memory, id: MessageId) -> HashSet<String> {
    let events = spool.events(id);
    let is_reported = events
        .iter()
        .any(|event| matches!(event.what, EventKind::Reported { .. }));
    let to = events.iter().flat_map(|event| match &event.what {
        EventKind::Failed { to, .. } if is_reported => to.as_slice(),
        _ => &[],
    });
    to.map(|address| address.to_string()).collect()
}

fn outcome(spool: &Memory, exchange: &Exchange, sent: &[Record], began: Timestamp) -> Outcome {
    let taken = exchange.taken();
    let last = taken.values().flatten().map(|taken| taken.at).max();
    let count = |is: &dyn Fn(&Record) -> bool| sent.iter().filter(|record| is(record)).count();
    let held = count(&|record| spool.left(record.id).is_some());
    let reported = count(&|record| !failed(spool, record.id).is_empty());
    Outcome {
        took: last.unwrap_or(began).since(began),
        delivered: sent.len() - held - reported,
        reported,
        held,
    }
}

/// Stops the other threads when one thread ends, so that they do not continue after a failure.
struct StopAll<'a>(&'a AtomicU64, u64);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}

fn tls_config() -> Arc<rustls::ClientConfig> {
    tls::install_provider();
    Arc::new(tls::client_config(&Vec::new()).expect("TLS"))
}

#[test]
fn without_faults_no_time_is_lost() {
    let Outcome {
        took, delivered, ..
    } = schedule(1, true, &tls_config());
    assert_eq!(delivered, MESSAGES);
    // A mailbox has 100 messages: the first 30 are sent at once, the last of four batches three minutes later.
    let shortest =
        Duration::from_secs(((MESSAGES / MAILBOXES).div_ceil(PER_MINUTE) as u64 - 1) * 60);
    let share = took.as_secs_f64() / shortest.as_secs_f64();
    println!("last delivery after {took:?}, {share:.3} times the minimum");
    assert!(share <= 1.05, "{took:?} for {shortest:?}");
}

#[test]
fn whatever_goes_wrong_each_message_has_one_end() {
    let all = std::env::var("MAILFERRY_TESTS").is_ok_and(|value| value == "all");
    let tls_config = tls_config();
    every_schedule(if all { SCHEDULES } else { FEW_SCHEDULES }, &|seed| {
        schedule(seed, false, &tls_config)
    });
}

/// Runs schedules on all processors: the `usual` number, or what the environment says.
fn every_schedule(usual: u64, schedule: &(dyn Fn(u64) -> Outcome + Sync)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("MAILFERRY_SEED") {
        schedule(seed);
        return;
    }
    let count = number("MAILFERRY_SCHEDULES").unwrap_or(usual);
    let base = seed();
    let next = AtomicU64::new(0);
    let sums: [AtomicU64; 3] = Default::default();
    let work = || {
        let _stop = StopAll(&next, count);
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return;
            }
            let outcome = schedule(base + turn);
            for (sum, part) in sums
                .iter()
                .zip([outcome.delivered, outcome.reported, outcome.held])
            {
                sum.fetch_add(part as u64, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let [delivered, reported, held] = sums.map(AtomicU64::into_inner);
    println!(
        "{count} schedules from seed {base}: {delivered} delivered, {reported} reported, {held} held"
    );
    assert_eq!(delivered + reported + held, count * MESSAGES as u64);
}
