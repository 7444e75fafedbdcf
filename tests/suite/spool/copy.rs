//! A spool is copied to another engine, with interruptions, and back.

use std::cell::Cell;
use std::time::Duration;

use mailferry::base::{Clock, Timestamp};
use mailferry::spool::copy::{self, Copied, CopyError, CopyRefused, Named};
use mailferry::spool::{
    self, Content, Entry, NewMessage, Origin, Owner, Page, Record, State, Story, StoryFilter, Used,
    WholeSpool,
};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use super::contract::{HOUR, NOW, failure, fresh, gone, new, put, to, told_by};
use super::{Configured, Postgres, Sqlite};
use crate::support::postgresql::client;

/// More than one transaction's worth.
const MESSAGES: usize = 300;

fn owner() -> Owner {
    Owner::new("relay", 1, 1)
}

/// Fills a spool with everything that it can have.
async fn fill(spool: &dyn WholeSpool) {
    story(spool).await;
    digest(spool).await;
    for number in 0..MESSAGES {
        let mut message = new(spool, "a", &format!("message {number}"));
        message.record.envelope.recipients = vec![to("a@example.net")];
        message.record.message_id = Some(format!("<{number}@example.com>"));
        message.record.due = Timestamp(NOW.0 + 5 + number as i64);
        message.record.attempts = number as u32;
        message.record.last = Some(format!("because of {number}"));
        message.record.state = [State::Queued, State::Held][number % 2];
        put(spool, message).await;
    }
    let mut several = new(spool, "b", "to two");
    several.record.envelope.recipients = vec![to("b@example.net"), to("c@example.net")];
    several.record.uncertain = true;
    several.record.former_lane = Some("z".into());
    put(spool, several).await;
    large(spool).await;
    spool.note("hold/a", Some("why".into())).await.unwrap();
}

async fn large(spool: &dyn WholeSpool) {
    let mut message = new(spool, "a", "");
    message.record.envelope.recipients = vec![to("large@example.net")];
    let mut writer = spool.writer(message.record.id);
    for piece in 0..40u8 {
        writer.write(vec![piece; 100_000]).await.unwrap();
    }
    message.content = writer.finish().await.unwrap();
    message.record.size = message.content.size();
    message.record.sum = message.content.sum();
    put(spool, message).await;
}

async fn digest(spool: &dyn WholeSpool) {
    let mut digest = new(spool, "a", "").record;
    digest.origin = Origin::Digest;
    digest.envelope.recipients = vec![to("boss@example.net")];
    digest.due = NOW.after(HOUR);
    for line in ["one\r\n", "two\r\n"] {
        told_by(spool, &digest, line).await;
    }
}

/// A message that was delivered, with what it used.
async fn story(spool: &dyn WholeSpool) {
    let mut message = new(spool, "a", "delivered");
    message.record.envelope.recipients = vec![to("gone@example.net")];
    put(spool, message).await;
    let claimed = fresh(spool).await.pop().unwrap();
    let mut finish = gone(claimed);
    finish.events = failure("gone@example.net");
    finish.used = Some(Used {
        mailbox: "m".into(),
        at: NOW,
        last: NOW,
        messages: 3,
        recipients: 4,
    });
    spool.finish([finish].into()).await.unwrap();
}

/// Everything that a spool has, to compare it with another one.
#[derive(Debug, PartialEq)]
struct Whole {
    records: Vec<Record>,
    contents: Vec<Vec<u8>>,
    stories: Vec<Story>,
    found: Vec<Story>,
    used: Vec<Used>,
    notes: Vec<(String, String)>,
}

async fn whole(spool: &dyn WholeSpool) -> Whole {
    let page = Page {
        limit: 10_000,
        ..Page::default()
    };
    let entries: Vec<Entry> = spool.list(page).await.unwrap();
    let records: Vec<Record> = entries.into_iter().map(|entry| entry.record).collect();
    let mut contents = Vec::new();
    for record in &records {
        let mut content = Vec::new();
        let mut reader = spool
            .content(record.id)
            .await
            .unwrap()
            .open()
            .await
            .unwrap();
        reader.read_to_end(&mut content).await.unwrap();
        contents.push(content);
    }
    let about = StoryFilter {
        about: Some("gone@example.net".into()),
        ..StoryFilter::default()
    };
    Whole {
        records,
        contents,
        stories: spool.stories(StoryFilter::default(), 10_000).await.unwrap(),
        found: spool.stories(about, 10).await.unwrap(),
        used: spool.used(Timestamp(0)).await.unwrap(),
        notes: spool.notes("hold/").await.unwrap(),
    }
}

async fn opened(engine: &dyn Configured) -> Result<std::sync::Arc<dyn WholeSpool>, String> {
    let opened = spool::open(&engine.settings(HOUR), owner(), &Clock::default()).await;
    opened.map_err(|error| error.to_string())
}

async fn named(engine: &dyn Configured) -> Named {
    let settings = engine.settings(HOUR);
    spool::copyable(&settings, owner(), &Clock::default())
        .await
        .expect("opens")
}

/// Copies once; ends it at the `steps`-th transaction. Returns true if the copy is complete.
async fn copied(source: &dyn Configured, target: &dyn Configured, steps: usize) -> bool {
    let (from, to) = (named(source).await, named(target).await);
    if !copy::begin(&from, &to).await.expect("begins") {
        return true;
    }
    let (seen, stop, clock) = (Cell::new(0), Notify::new(), Clock::default());
    let so_far = |_: Copied| {
        seen.set(seen.get() + 1);
        if seen.get() == steps {
            stop.notify_one();
        }
    };
    let is_complete = tokio::select! {
        biased;
        () = stop.notified() => false,
        copied = copy::run(&from, &to, &clock, &so_far) => copied.map(|_| true).expect("copies"),
    };
    if is_complete {
        copy::end(&from, &to).await.expect("ends");
    }
    is_complete
}

async fn copy_and_back(source: &dyn Configured, target: &dyn Configured) {
    let spool = opened(source).await.expect("opens");
    fill(spool.as_ref()).await;
    let before = whole(spool.as_ref()).await;
    assert_eq!(before.records.len(), MESSAGES + 3);
    assert_eq!(before.found.len(), 1);
    spool.leave().await.unwrap();
    drop(spool);
    while !copied(source, target, 1).await {
        for engine in [source, target] {
            let refused = opened(engine).await.err().expect("is refused");
            assert!(refused.contains("to complete that"), "{refused}");
        }
    }
    assert!(copied(source, target, 1).await, "it is complete already");
    let refused = opened(source).await.err().expect("is refused");
    assert!(refused.contains("were copied to"), "{refused}");

    let spool = opened(target).await.expect("opens");
    same(spool.as_ref(), &before).await;
    spool.note("hold/b", Some("later".into())).await.unwrap();
    spool.leave().await.unwrap();
    drop(spool);

    assert!(copied(target, source, usize::MAX).await);
    let spool = opened(source).await.expect("opens");
    let mut after = before;
    after.notes.push(("hold/b".into(), "later".into()));
    same(spool.as_ref(), &after).await;
    spool.leave().await.unwrap();
}

/// Waits until the index has everything, because it is completed in the background.
async fn same(spool: &dyn WholeSpool, wanted: &Whole) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut now = whole(spool).await;
    while now.found != wanted.found && tokio::time::Instant::now() < until {
        tokio::task::yield_now().await;
        now = whole(spool).await;
    }
    assert!(now == *wanted, "{now:?}\n\n{wanted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_to_sqlite_and_back() {
    copy_and_back(&Sqlite::new(), &Sqlite::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_to_postgresql_and_back() {
    if let Some(target) = Postgres::new("spool copy").await {
        copy_and_back(&Sqlite::new(), &target).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_to_sqlite_and_back() {
    if let Some(source) = Postgres::new("spool copy").await {
        copy_and_back(&source, &Sqlite::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_ended_between_clearing_its_target_and_marking_it_goes_on() {
    let Some(target) = Postgres::new("spool copy").await else {
        return;
    };
    let source = Sqlite::new();
    let spool = opened(&target).await.expect("opens");
    fill(spool.as_ref()).await;
    let before = whole(spool.as_ref()).await;
    spool.leave().await.unwrap();
    drop(spool);
    // The target has what it had before it was copied away.
    assert!(copied(&target, &source, usize::MAX).await);
    let database = client(&target.url).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';
        CREATE TRIGGER slow BEFORE INSERT ON note EXECUTE FUNCTION slow()";
    database.batch_execute(slow).await.unwrap();
    let (from, to) = (named(&source).await, named(&target).await);
    let marking = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let is_marking = async {
        while database.query(marking, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        begun = copy::begin(&from, &to) => panic!("{}", begun.is_ok()),
        () = is_marking => {}
    }
    drop((from, to));
    // Only now: an error would end the copy in order.
    let end = format!("SELECT pg_terminate_backend(pid) FROM ({marking}) AS own (pid)");
    database.batch_execute(&end).await.unwrap();
    let usual = "DROP TRIGGER slow ON note";
    database.batch_execute(usual).await.unwrap();
    let count = database
        .query_one("SELECT count(*) FROM message", &[])
        .await;
    assert_eq!(count.unwrap().get::<_, i64>(0), 0, "it is cleared");
    for engine in [&source as &dyn Configured, &target] {
        let refused = opened(engine).await.err().expect("is refused");
        assert!(refused.contains("cannot be used"), "{refused}");
    }
    assert!(copied(&source, &target, usize::MAX).await);
    let spool = opened(&target).await.expect("opens");
    same(spool.as_ref(), &before).await;
    spool.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_in_use_is_not_copied_and_a_copy_can_be_given_up() {
    let Some(target) = Postgres::new("spool copy").await else {
        return;
    };
    let source = Sqlite::new();
    let spool = opened(&source).await.expect("opens");
    fill(spool.as_ref()).await;
    let before = whole(spool.as_ref()).await;
    let settings = source.settings(HOUR);
    let beside = spool::copyable(&settings, owner(), &Clock::default()).await;
    assert!(
        beside
            .err()
            .expect("is in use")
            .to_string()
            .contains("in use")
    );
    drop(spool);

    let node = opened(&target).await.expect("opens");
    let (from, to) = (named(&source).await, named(&target).await);
    let refused = copy::begin(&from, &to).await.expect_err("a node is alive");
    assert!(
        refused.to_string().contains("in use by the node"),
        "{refused}"
    );
    drop(from);
    drop(opened(&source).await.expect("is used as before"));
    node.leave().await.unwrap();
    drop(node);

    assert!(!copied(&source, &target, 1).await);
    let (from, to) = (named(&source).await, named(&target).await);
    copy::undo(&from, &to).await.expect("is given up");
    let again = copy::undo(&from, &to)
        .await
        .expect_err("nothing to give up");
    assert!(matches!(
        again,
        CopyError::Refused(CopyRefused::NotBegun { .. })
    ));
    drop(from);
    let spool = opened(&source).await.expect("is used as before");
    same(spool.as_ref(), &before).await;
    let spool = opened(&target).await.expect("is empty");
    assert_eq!(spool.counts().await.unwrap(), []);
    put(
        spool.as_ref(),
        NewMessage {
            content: Content::Memory("own".into()),
            ..new(spool.as_ref(), "a", "own")
        },
    )
    .await;
    spool.leave().await.unwrap();
    drop(spool);
    let (from, to) = (named(&target).await, named(&Sqlite::new()).await);
    let refused = copy::begin(&to, &from).await.expect_err("it has messages");
    assert!(refused.to_string().contains("of its own"), "{refused}");
}
