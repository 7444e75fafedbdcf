//! A month of history and a long queue: how long a person waits for an answer.
//!
//! `cargo bench --bench history` (makes a spool of about 3 GB below target/, and removes it)

mod common;
#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{median, processor_time, verdict};
use mailferry::base::Timestamp;
use mailferry::message::{Envelope, Parameters, Recipient, ReversePath};
use mailferry::spool::{
    ClaimFrom, Content, EventKind, Intake, Ledger, NewMessage, Origin, Owner, Record, Stories,
    Story, StoryEvent, StoryFilter, StoryResult, Work,
};
use mailferry::spool::{SpoolSettings, SqliteSpool};
use tokio::task::JoinSet;

/// Makes the filter of a search from its number.
type Filter = fn(usize) -> StoryFilter;

const MESSAGES: usize = 1_000_000;
const DAY: u64 = 24 * 3_600;
const SEARCHES: usize = 20;

fn record(spool: &SqliteSpool, number: usize, at: Timestamp) -> Record {
    Record {
        size: 256,
        lane: "n".into(),
        message_id: Some(format!("<{number}.1795701600@erp.example.com>")),
        ..Record::new(
            spool.next_id(at),
            at,
            Origin::Client {
                user: format!("user{}", number % 20),
                listener: "apps".into(),
                peer: "192.0.2.7".into(),
                helo: "erp.example.com".into(),
                protocol: "ESMTPA".into(),
            },
            Envelope {
                sender: ReversePath::parse("notifications@example.com").expect("an address"),
                parameters: Parameters::default(),
                recipients: vec![Recipient {
                    address: format!("customer{}@company{}.example", number / 3, number % 5_000)
                        .parse()
                        .expect("an address"),
                    parameters: Parameters::default(),
                }],
            },
        )
    }
}

/// Returns the story of a delivered message, or of a failed one now and then.
fn story(record: Record, number: usize) -> Story {
    let at = record.received.after(Duration::from_secs(1));
    let to = vec![record.envelope.recipients[0].address.clone()];
    let (server, message_id) = (
        "n".to_owned(),
        record.message_id.clone().unwrap_or_default(),
    );
    let what = if number.is_multiple_of(500) {
        let reply = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; recipient not found".to_owned();
        EventKind::Failed { server, to, reply }
    } else {
        EventKind::Delivered {
            server,
            to,
            reply: "250 2.0.0 OK <1.2.3.4@example.com> [Hostname=AM0PR01MB0001.example.com]"
                .to_owned(),
            message_id,
            sent_as: None,
        }
    };
    Story {
        record,
        ended: Some(at),
        events: vec![StoryEvent { at, what }],
    }
}

fn fill(runtime: &tokio::runtime::Runtime, spool: &Arc<SqliteSpool>, now: Timestamp) {
    let step = Duration::from_millis(30 * DAY * 1_000 / MESSAGES as u64);
    let begin = now.before(step * MESSAGES as u32);
    for batch in 0..MESSAGES / 1_000 {
        let numbers = batch * 1_000..(batch + 1) * 1_000;
        let mut stored = JoinSet::new();
        for number in numbers {
            let at = begin.after(step * number as u32);
            let (story, spool) = (story(record(spool, number, at), number), spool.clone());
            stored.spawn_on(
                async move { spool.add_story(story, None).await },
                runtime.handle(),
            );
        }
        for stored in runtime.block_on(stored.join_all()) {
            stored.expect("stores");
        }
    }
    println!("  {MESSAGES} stories");
    for batch in 0..MESSAGES / 1_000 {
        let numbers = batch * 1_000..(batch + 1) * 1_000;
        let messages = numbers.map(|number| NewMessage {
            record: record(spool, number, now),
            content: Content::Memory("x".repeat(256).into()),
        });
        runtime
            .block_on(spool.put(messages.collect()))
            .expect("puts");
        let fresh = spool.claim(ClaimFrom::Fresh, 1_000, now, now);
        runtime.block_on(fresh).expect("claims");
    }
    println!("  {MESSAGES} messages in the queue");
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let settings = SpoolSettings {
        folder: folder.path().join("data/spool"),
        reserve: 0,
        history: Duration::from_secs(31 * DAY),
        ..SpoolSettings::default()
    };
    let begin = Instant::now();
    let spool = SqliteSpool::open(settings, Owner::new("bench", 1, 1)).expect("opens");
    let spool = Arc::new(spool);
    fill(&runtime, &spool, Timestamp::now());
    println!("  filled in {:.1?}", begin.elapsed());
    let filters: [(&str, Filter); 6] = [
        ("an address", |n| {
            StoryFilter::about(format!(
                "customer{}@company{}.example",
                n * 1_000,
                n * 3_000 % 5_000
            ))
        }),
        ("an address that does not occur", |n| {
            StoryFilter::about(format!("nobody{n}@company1.example"))
        }),
        ("a domain", |n| {
            StoryFilter::about(format!("@company{n}.example"))
        }),
        ("a sender of every message", |_| {
            StoryFilter::about("notifications@example.com")
        }),
        ("a Message-ID", |n| {
            StoryFilter::about(format!("<{}.1795701600@erp.example.com>", n * 40_000))
        }),
        ("failed messages of a user", |n| StoryFilter {
            user: Some(format!("user{n}")),
            result: Some(StoryResult::Failed),
            ..StoryFilter::default()
        }),
    ];
    for (name, filter) in filters {
        let times = (0..SEARCHES).map(|number| {
            let begin = Instant::now();
            let found = runtime.block_on(spool.stories(filter(number), 50));
            let found = found.expect("searches").len();
            (begin.elapsed().as_secs_f64() * 1e3, found)
        });
        let (times, found): (Vec<f64>, Vec<usize>) = times.unzip();
        let (worst, time) = (times.iter().copied().fold(0.0, f64::max), median(times));
        verdict(
            &format!(
                "search for {name} ({} found), ms",
                found.iter().max().unwrap_or(&0)
            ),
            format!("{time:.1}, at most {worst:.1}"),
            "<= 100",
            time <= 100.0,
        );
    }
    drop(spool);
    pages(&runtime, folder.path());
}

/// Starts the program, and loads each page as a person's browser does. Nothing can be sent, so the queue stays.
fn pages(runtime: &tokio::runtime::Runtime, folder: &Path) {
    mailferry::base::tls::install_provider();
    let (port, page) = (program::free_port(), program::free_port());
    let closed = program::free_port();
    std::fs::write(folder.join("ca.pem"), program::certificate()).expect("writes");
    program::configuration(folder, closed, "https://localhost:1/token", port, "");
    let file = folder.join("mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let web = format!("[web]\naddress = \"127.0.0.1:{page}\"\n[[listener]]");
    std::fs::write(&file, text.replacen("[[listener]]", &web, 1)).expect("writes");
    let relay = program::serve(folder, port);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(program::PROGRAM);
        command.args(arguments).arg("--config").arg(&file);
        command.output().expect("runs").stdout
    };
    let link = String::from_utf8(run(&["web", "--no-browser"])).expect("text");
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let http = http.expect("a client");
    let entered = runtime
        .block_on(http.get(link.trim()).send())
        .expect("answers");
    let cookie = entered.headers()["set-cookie"]
        .to_str()
        .expect("text")
        .to_owned();
    let base = link.split("/in/").next().expect("a base").to_owned();
    let load = |path: &str| {
        let request = http.get(format!("{base}{path}")).header("cookie", &cookie);
        let body = async { request.send().await?.error_for_status()?.text().await };
        runtime.block_on(body).expect("a page").len()
    };
    let list = [
        "/",
        "/?span=month",
        "/servers",
        "/messages",
        "/messages?state=waiting",
        "/messages?state=failed",
        "/messages?about=customer1000@company0.example",
        "/route?from=jane@example.com",
        "/errors",
        "/settings",
    ];
    for path in list {
        load(path);
        let times = (0..SEARCHES).map(|_| {
            let begin = Instant::now();
            load(path);
            begin.elapsed().as_secs_f64() * 1e3
        });
        let time = median(times.collect());
        verdict(
            &format!("page {path}, ms"),
            format!("{time:.1}"),
            "<= 50",
            time <= 50.0,
        );
    }
    let times = (0..SEARCHES).map(|_| {
        let begin = Instant::now();
        run(&["status"]);
        begin.elapsed().as_secs_f64() * 1e3
    });
    let time = median(times.collect());
    verdict(
        "`mailferry status`, with the start of the process, ms",
        format!("{time:.1}"),
        "<= 50",
        time <= 50.0,
    );
    let scrapes = 100;
    let before = processor_time(relay.0.id());
    for _ in 0..scrapes {
        load("/metrics");
    }
    let used = (processor_time(relay.0.id()) - before) * 1e3 / f64::from(scrapes);
    verdict(
        "processor time of a scrape of the metrics, ms",
        format!("{used:.2}"),
        "<= 10",
        used <= 10.0,
    );
}
