//! The spool that nodes share, in a PostgreSQL of its own: how many messages it accepts durably, compared with SQLite, with a
//! plain program that inserts the same rows, and with three nodes; how long a claim takes with a million waiting messages;
//! and how many statements an idle node sends. PostgreSQL waits for the disk, as it does by default.
//!
//! `cargo bench --bench nodes` (needs PostgreSQL; makes a database of 2 GB in the folder for temporary files, and removes it)

mod common;
#[path = "common/program.rs"]
mod program;
#[path = "common/relay.rs"]
mod relay;
#[path = "common/server.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Load, interval, median, send, verdict};
use mailferry::base::{Clock, Timestamp};
use mailferry::door::Listener;
use mailferry::spool::postgres::{NodeIdentity, PostgresSettings};
use mailferry::spool::{ClaimFrom, Owner, Place, PostgresSpool, Upkeep, Work};
use server::postgresql::{Postgresql, client};
use tokio_postgres::types::ToSql;

const ROUNDS: usize = 25;
const SESSIONS: usize = 16;
const MESSAGES: usize = 8_000;
const SIZE: usize = 4_096;
const QUEUED: usize = 1_000_000;
const CLAIMS: usize = 200;

/// The number of accounts of the idle node.
const ACCOUNTS: usize = 20;

/// How long the statements of an idle node are counted.
const IDLE: Duration = Duration::from_secs(30);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Postgresql::start("benches/nodes", "-c max_wal_size=4GB").expect("starts");
    runtime.block_on(async {
        accepting(&server).await;
        claiming(&server).await;
    });
    drop(server);
    idle(&runtime);
}

async fn node(url: &str, name: &str) -> PostgresSpool {
    let settings = PostgresSettings {
        url: url.to_owned(),
        password: None,
        ca: None,
    };
    let identity = NodeIdentity {
        owner: Owner::this_process(name),
        machine: name.to_owned(),
        lock: None,
    };
    let opened = PostgresSpool::open(&settings, Duration::ZERO, identity, Clock::default());
    opened.await.expect("opens")
}

/// Messages that listeners accept in a second, with the sessions spread over them.
async fn rate(listeners: &[&Listener]) -> f64 {
    let addresses = listeners.iter().map(|listener| listener.address());
    let servers: Option<_> = addresses.collect();
    let time = send(Load {
        servers: servers.expect("addresses"),
        sessions: SESSIONS,
        messages: MESSAGES,
        size: SIZE,
        kept: true,
        pipelining: true,
        users: 0,
    });
    MESSAGES as f64 / time.await.as_secs_f64()
}

async fn accepting(server: &Postgresql) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = server.database().await;
    let database = client(&url).await;
    let sqlite = relay::listen(relay::sqlite(folder.path()));
    let mut nodes = Vec::new();
    for name in ["one", "two", "three"] {
        nodes.push(relay::listen(Arc::new(node(&url, name).await)));
    }
    let [one, ..] = &nodes[..] else { return };
    let all: Vec<&Listener> = nodes.iter().collect();
    let (mut to_sqlite, mut to_plain, mut to_one) = (Vec::new(), Vec::new(), Vec::new());
    let mut rates = [(); 4].map(|()| Vec::new());
    for round in 0..=ROUNDS {
        let (mut ours, mut three, mut group) = (0.0, 0.0, 0);
        // Each of them comes first in every other round.
        for is_one in [round % 2 == 0, round % 2 != 0] {
            empty(&database).await;
            if is_one {
                ours = rate(&[one]).await;
                group = group_size(&database).await;
            } else {
                three = rate(&all).await;
            }
        }
        empty(&database).await;
        let plain = plain(&database, group).await;
        let sqlite = rate(&[&sqlite]).await;
        if round == 0 {
            // Files grow in the first round.
            continue;
        }
        to_sqlite.push(ours / sqlite);
        to_plain.push(ours / plain);
        to_one.push(three / ours);
        for (rates, rate) in rates.iter_mut().zip([ours, sqlite, plain, three]) {
            rates.push(rate);
        }
        println!("  round {round}: {group} messages in a transaction");
    }
    let [ours, sqlite, plain, three] = rates.map(median);
    println!(
        "  accepted per second: one node {ours:.0}, SQLite {sqlite:.0}, plain inserts {plain:.0}, three nodes {three:.0} (medians of \
         {ROUNDS})"
    );
    for (what, ratios, wanted) in [
        ("accepted by one node, ratio to SQLite", to_sqlite, 0.33),
        (
            "accepted by one node, ratio to plain inserts",
            to_plain,
            0.8,
        ),
    ] {
        let ratio = median(ratios);
        let shown = format!("{ratio:.2}");
        verdict(what, shown, &format!(">= {wanted}"), ratio >= wanted);
    }
    // They are slower only if the whole interval is below 1.
    let (low, high) = interval(&to_one);
    let shown = format!("{:.2} ({low:.2} to {high:.2})", median(to_one));
    let what = "accepted by three nodes, ratio to one";
    verdict(what, shown, ">= 1, within the interval", high >= 1.0);
}

async fn empty(database: &tokio_postgres::Client) {
    let sql = "TRUNCATE message, mention; CHECKPOINT";
    database.batch_execute(sql).await.expect("empties");
}

/// How many messages a transaction had, on average.
async fn group_size(database: &tokio_postgres::Client) -> usize {
    let sql = "SELECT round(count(*)::numeric / count(DISTINCT xmin::text))::bigint FROM message";
    let row = database.query_one(sql, &[]).await.expect("counts");
    row.get::<_, i64>(0).max(1) as usize
}

/// Inserts the same rows in groups of this size, one transaction after the other, with the usual statement for arrays. Returns
/// the messages per second.
async fn plain(database: &tokio_postgres::Client, group: usize) -> f64 {
    const MESSAGE: &str = "
        INSERT INTO message (id, lane, flow, due, state, received, sender, parameters, about, listener, peer, helo,
            protocol, size, sum, attempts, last, uncertain, warned, holds, former_lane, recipient, recipient_parameters,
            message_id, node, claim, content)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::bigint[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[],
            $16::integer[], $17::text[], $18::boolean[], $19::boolean[], $20::integer[], $21::text[], $22::text[],
            $23::text[], $24::text[], $25::bigint[], $26::bigint[], $27::bytea[])";
    const MENTION: &str = "
        INSERT INTO mention (id, tokens)
        SELECT id, string_to_array('<load@example.com> @example.com @example.net notifications@example.com \
                           someone@example.net user:load', ' ') FROM unnest($1::bigint[]) AS new (id)";
    let (message, mention) = (
        database.prepare(MESSAGE).await.expect("prepares"),
        database.prepare(MENTION).await.expect("prepares"),
    );
    let content = common::message(SIZE);
    let begin = Instant::now();
    let mut next = 1;
    while next <= MESSAGES as i64 {
        let ids: Vec<i64> = (next..next + group as i64).collect();
        next += group as i64;
        let (nothing, no) = (vec![None::<&str>; group], vec![false; group]);
        let text = |text: &'static str| vec![text; group];
        let (whole, one) = (vec![Some(0i64); group], vec![1i64; group]);
        let (sizes, zeros) = (vec![content.len() as i64; group], vec![0i32; group]);
        let values: [&(dyn ToSql + Sync); 27] = [
            &ids,
            &text("n"),
            &text("nload"),
            &ids,
            &vec![0i16; group],
            &ids,
            &text("notifications@example.com"),
            &text(""),
            &nothing,
            &text("127.0.0.1:2525"),
            &text("127.0.0.1"),
            &text("load"),
            &text("ESMTP"),
            &sizes,
            &whole,
            &zeros,
            &nothing,
            &no,
            &no,
            &zeros,
            &nothing,
            &text("someone@example.net"),
            &text(""),
            &text("<load@example.com>"),
            &one,
            &one,
            &vec![&content[..]; group],
        ];
        let (begun, stored, mentioned, committed) = tokio::join!(
            biased;
            database.batch_execute("BEGIN"),
            database.execute(&message, &values),
            database.execute(&mention, &values[..1]),
            database.batch_execute("COMMIT"),
        );
        begun.and(committed).expect("commits");
        stored.and(mentioned).expect("inserts");
    }
    MESSAGES as f64 / begin.elapsed().as_secs_f64()
}

async fn claiming(server: &Postgresql) {
    let url = server.database().await;
    let spool = node(&url, "claims").await;
    let database = client(&url).await;
    let begin = Instant::now();
    let fill = format!(
        "INSERT INTO message (id, lane, flow, due, state, received, sender, parameters, about, listener, peer, helo, protocol,
            size, sum, attempts, last, uncertain, warned, holds, former_lane, recipient, recipient_parameters, message_id,
            node, claim, content)
        SELECT id, 'n', 'nuser' || id % 20, id::bigint * 7919 % 1000000, 0, id, 'notifications@example.com', '', NULL,
            '127.0.0.1:2525', '127.0.0.1', 'app', 'ESMTPA', 300, NULL, 0, NULL, false, false, 0, NULL,
            'someone' || id || '@example.net', '', '<' || id || '@example.com>', NULL, 0,
            convert_to(repeat('x', 300), 'UTF8')
        FROM generate_series(1, {QUEUED}) AS new (id); ANALYZE message"
    );
    database.batch_execute(&fill).await.expect("fills");
    println!(
        "  {QUEUED} messages queued in {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    let (mut times, now) = (Vec::new(), Timestamp::now());
    for number in 0..CLAIMS {
        let place = Place {
            lane: "n".into(),
            flow: mailferry::spool::Flow::of_key(&format!("nuser{}", number % 20)),
        };
        let begin = Instant::now();
        let until = now.after(Duration::from_secs(900));
        let claimed = spool.claim(ClaimFrom::DueIn(place), 1, now, until).await;
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
        assert_eq!(claimed.expect("claims").len(), 1);
    }
    let time = median(times);
    verdict(
        "claim of the next due with 1,000,000 queued, median",
        format!("{time:.2} ms"),
        "< 2 ms",
        time < 2.0,
    );
    spool.leave().await.expect("leaves");
}

/// A server with an account of its own.
fn server_with_account(number: usize, token_url: &str) -> String {
    format!(
        "[oauth.o{number}]\ntenant = \"contoso\"\nclient_id = \"sandbox-app\"\nclient_secret = {{ env = \"BENCH_SECRET\" }}\n\
         token_url = \"{token_url}\"\nca = \"ca.pem\"\n\
         [[server]]\nname = \"n{number}\"\nusername = \"user@{number}.example.com\"\nfrom_filter = \"{number}.example.com\"\n\
         oauth = \"o{number}\"\ngrant = \"client_credentials\"\n"
    )
}

/// Counts the statements of the whole program while it has nothing to do.
fn idle(runtime: &tokio::runtime::Runtime) {
    let options = "-c log_min_duration_statement=0";
    let server = Postgresql::start("benches/nodes", options).expect("starts");
    let url = runtime.block_on(server.database());
    let sandbox = runtime.block_on(program::sandbox());
    let folder = tempfile::tempdir().expect("a folder");
    let (path, port) = (folder.path(), program::free_port());
    std::fs::write(path.join("ca.pem"), &sandbox.ca).expect("writes");
    let smtp = sandbox.addresses.smtp.port();
    program::configuration(path, smtp, &sandbox.token_url(), port, "");
    let file = path.join("mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    std::fs::write(path.join("vault.key"), key).expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path.join("vault.key"), mode).expect("is private");
    let key = "vault_key = { file = \"vault.key\" }\n";
    let accounts = (1..ACCOUNTS).map(|number| server_with_account(number, &sandbox.token_url()));
    let accounts: String = accounts.collect();
    let spool = format!("\n[spool]\npostgresql = {{ url = \"{url}\" }}\n");
    std::fs::write(&file, key.to_owned() + &text + &accounts + &spool).expect("writes");
    let process = program::serve(path, port);
    std::thread::sleep(Duration::from_secs(5));
    let count = || {
        let log = server.log();
        log.lines().filter(|line| line.contains("execute ")).count()
    };
    let before = count();
    std::thread::sleep(IDLE);
    let rate = (count() - before) as f64 / IDLE.as_secs_f64();
    drop(process);
    verdict(
        "statements of an idle node in a second",
        format!("{rate:.2}"),
        "< 2",
        rate < 2.0,
    );
}
