use jiff::SignedDuration;

use super::*;
use crate::base::Simulation;
use crate::message::{Address, Envelope, Parameters, Priority, Recipient, ReversePath};
use crate::spool::{
    EventKind, Fate, Flow, Origin, QueueFilter, ShownSpool, State, StoryEvent, StoryResult,
};

const NOW: Timestamp = Timestamp(1_000_000);
const UNTIL: Timestamp = Timestamp(2_000_000);

fn settings(folder: &Path) -> SpoolSettings {
    SpoolSettings {
        folder: folder.to_owned(),
        reserve: 0,
        history: Duration::from_secs(3_600),
        ..SpoolSettings::default()
    }
}

fn owner() -> Owner {
    Owner::new("relay", 1, 1)
}

fn open(settings: SpoolSettings) -> Result<SqliteSpool, SpoolError> {
    SqliteSpool::open(settings, owner())
}

fn new(spool: &SqliteSpool, lane: &str, text: &str) -> NewMessage {
    let record = Record {
        size: text.len() as u64,
        lane: lane.into(),
        ..Record::new(
            spool.next_id(NOW),
            NOW,
            Origin::Client {
                user: "u".into(),
                listener: String::new(),
                peer: "127.0.0.1".into(),
                helo: "h".into(),
                protocol: "ESMTP".into(),
            },
            Envelope {
                sender: ReversePath::Null,
                parameters: Parameters::default(),
                recipients: vec![],
            },
        )
    };
    NewMessage {
        record,
        content: Content::Memory(text.to_owned().into()),
    }
}

fn place(lane: &str) -> Place {
    let (priority, user) = (Priority::Normal, "u".to_owned());
    Place {
        lane: lane.to_owned(),
        flow: Flow { priority, user },
    }
}

/// Returns the time at which the only flow of a lane is due.
fn due(spool: &SqliteSpool, lane: &str) -> Option<Timestamp> {
    dues(spool, lane).first().map(|(_, due)| *due)
}

fn dues(spool: &SqliteSpool, lane: &str) -> Vec<(Flow, Timestamp)> {
    let waiting = spool.shared.queue().due.all().into_iter();
    let waiting = waiting.filter(|(place, _)| place.lane == lane);
    waiting.map(|(place, due)| (place.flow, due)).collect()
}

fn take_fresh(spool: &SqliteSpool, max: usize) -> Vec<Claimed> {
    spool.shared.queue().fresh.take(max)
}

/// Returns the end of a message's claim, with the fate `Gone`.
async fn gone(spool: &SqliteSpool, id: MessageId) -> Finish {
    let record = spool.get(id).await.unwrap().record;
    Finish::new(claim_of(spool, id), Fate::Gone(Box::new(record)))
}

/// Returns the current claim on a message.
fn claim_of(spool: &SqliteSpool, id: MessageId) -> Claim {
    let number = spool.shared.queue().claims[&id].number;
    Claim { id, number }
}

async fn finish(spool: &SqliteSpool, finish: Finish) {
    spool.finish([finish].into()).await.unwrap();
}

async fn act(
    spool: &SqliteSpool,
    which: Selection,
    deed: OperatorAction,
) -> Result<usize, SpoolError> {
    spool.act(which, deed, NOW, &|_| {}).await
}

fn all() -> Selection {
    Selection::Matching(QueueFilter::default())
}

async fn claim(spool: &SqliteSpool, lane: &str, max: usize, now: Timestamp) -> Vec<MessageId> {
    let claimed = spool
        .claim(ClaimFrom::DueIn(place(lane)), max, now, UNTIL)
        .await
        .unwrap();
    claimed.iter().map(|message| message.record.id).collect()
}

#[tokio::test]
async fn a_damaged_row_stops_nothing_but_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let messages: Vec<NewMessage> = (0..3).map(|_| new(&spool, "a", "x")).collect();
    let ids: Vec<MessageId> = messages.iter().map(|new| new.record.id).collect();
    spool.put(messages).await.unwrap();
    drop(spool);
    let damage = |id: MessageId, sender: &str| {
        let database = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
        let sql = "UPDATE message SET sender = ?2 WHERE id = ?1";
        database
            .execute(sql, rusqlite::params![id.to_i64(), sender])
            .unwrap();
    };
    damage(ids[1], "no address");
    let spool = open(settings(folder.path())).unwrap();
    let claimed = spool
        .claim(ClaimFrom::DueIn(place("a")), 9, NOW, UNTIL)
        .await
        .unwrap();
    let got: Vec<MessageId> = claimed.iter().map(|it| it.record.id).collect();
    assert_eq!(got, [ids[0], ids[2]]);
    assert_eq!(due(&spool, "a"), None, "it is not due any more");
    let listed = spool
        .list(Page {
            limit: 9,
            ..Page::default()
        })
        .await
        .unwrap();
    let shown = &listed[1].record;
    assert_eq!((shown.id, shown.state), (ids[1], State::Held));
    assert!(shown.last.as_ref().unwrap().contains("queue export"));
    assert_eq!(spool.content(ids[1]).await.unwrap().size(), 1);
    let retry = act(&spool, Selection::Ids(vec![ids[1]]), OperatorAction::Retry).await;
    assert_eq!(retry.unwrap(), 0, "its record must stay as it is");
    let delete = act(&spool, Selection::Ids(vec![ids[1]]), OperatorAction::Delete).await;
    assert_eq!(delete.unwrap(), 1);
}

#[tokio::test]
async fn nothing_that_may_have_been_accepted_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let mut message = new(&spool, "a", "");
    let id = message.record.id;
    let mut writer = spool.writer(id);
    writer.write(vec![b'y'; 300 * 1024]).await.unwrap();
    message.content = writer.finish().await.unwrap();
    message.record.size = message.content.size();
    spool.put(vec![message]).await.unwrap();
    drop(spool);
    let name = format!("{id}.eml");
    let database = folder.path().join(store::FILE);
    let whole = std::fs::read(&database).unwrap();
    std::fs::write(&database, b"").unwrap();
    let refused = open(settings(folder.path()))
        .err()
        .map(|error| error.to_string());
    assert!(refused.unwrap().contains("content/ still holds 1 messages"));
    std::fs::write(&database, whole).unwrap();
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute("DELETE FROM message", []).unwrap();
    drop(connection);
    drop(open(settings(folder.path())).unwrap());
    assert!(folder.path().join("lost").join(name).exists());
}

#[tokio::test]
async fn only_one_opens_it_and_strays_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    assert!(matches!(
        open(settings(folder.path())),
        Err(SpoolError::InUse { .. })
    ));
    let mut arriving = spool.writer(spool.next_id(NOW));
    arriving.write(vec![b'x'; 300 * 1024]).await.unwrap();
    let mut message = new(&spool, "a", "");
    message.record.size = 300 * 1024;
    let id = message.record.id;
    // The content's file is named after the message's id, so both must have the same id.
    let mut writer = spool.writer(id);
    writer.write(vec![b'y'; 300 * 1024]).await.unwrap();
    message.content = writer.finish().await.unwrap();
    spool.put(vec![message]).await.unwrap();
    std::mem::forget(arriving);
    drop(spool);
    let spool = open(settings(folder.path())).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path().join("content"))
            .unwrap()
            .count(),
        1
    );
    assert_eq!(spool.content(id).await.unwrap().size(), 300 * 1024);
    spool
        .claim(ClaimFrom::DueIn(place("a")), 9, NOW, UNTIL)
        .await
        .unwrap();
    finish(&spool, gone(&spool, id).await).await;
    assert_eq!(
        std::fs::read_dir(folder.path().join("content"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_disk_down_to_its_reserve_takes_no_more_and_still_finishes() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let message = new(&spool, "a", "x");
    let id = message.record.id;
    spool.put(vec![message]).await.unwrap();
    drop(spool);
    let full = SpoolSettings {
        folder: folder.path().to_owned(),
        reserve: u64::MAX,
        history: Duration::ZERO,
        ..SpoolSettings::default()
    };
    let spool = open(full).unwrap();
    assert!(!spool.has_room().await);
    assert!(
        spool
            .put(vec![new(&spool, "a", "x")])
            .await
            .unwrap_err()
            .is_full()
    );
    assert_eq!(claim(&spool, "a", 9, NOW).await, [id]);
    finish(&spool, gone(&spool, id).await).await;
}

#[tokio::test]
async fn the_time_of_the_spool_goes_on_and_people_are_shown_the_wall_clock() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(open(settings(folder.path())).unwrap());
    let machine = Simulation::new(NOW);
    let clock = machine.clock();
    spool.resume_time(&clock).await.unwrap();
    let message = new(&spool, "a", "x");
    let id = message.record.id;
    spool.put(vec![message]).await.unwrap();
    let year = SignedDuration::from_hours(365 * 24);
    machine.set(year);
    spool.note_time(&clock).await.unwrap();
    machine.advance(Duration::from_secs(60));
    // The next run advances by the time that has passed on the wall clock.
    let clock = machine.clock();
    spool.resume_time(&clock).await.unwrap();
    assert_eq!(clock.now(), NOW.after(Duration::from_secs(60)));
    let shown = ShownSpool::new(spool.clone(), clock.clone());
    let record = shown.get(id).await.unwrap().record;
    assert_eq!(
        (record.received, record.due),
        (NOW.shifted(year), NOW.shifted(year))
    );
    let found = |since| QueueFilter {
        since: Some(since),
        ..QueueFilter::default()
    };
    for (since, count) in [(NOW.shifted(year), 1), (clock.wall(), 0)] {
        let filter = found(since);
        let page = Page {
            limit: 9,
            filter,
            ..Page::default()
        };
        assert_eq!(shown.list(page).await.unwrap().len(), count, "{since}");
    }
    // The wall clock was set back while nothing ran: as far as is known, no time has passed.
    machine.set(-year);
    let clock = machine.clock();
    spool.resume_time(&clock).await.unwrap();
    assert_eq!(clock.now(), NOW);
}

#[tokio::test]
async fn messages_of_the_first_format_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let message = new(&spool, "a", "hello");
    let record = serde_json::to_string(&message.record).unwrap();
    let id = message.record.id;
    drop(spool);
    for file in ["spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"] {
        let _ = std::fs::remove_file(folder.path().join(file));
    }
    let first = rusqlite::Connection::open(folder.path().join("spool.sqlite")).unwrap();
    first
        .execute_batch(
            "CREATE TABLE message (id INTEGER PRIMARY KEY, lane TEXT NOT NULL, due INTEGER NOT NULL,
                state INTEGER NOT NULL, record TEXT NOT NULL, content BLOB);
             CREATE INDEX message_due ON message (lane, due) WHERE state = 0;
             PRAGMA user_version = 1;",
        )
        .unwrap();
    let sql = "INSERT INTO message VALUES (?1, 'a', ?2, 0, ?3, x'68656c6c6f')";
    first
        .execute(sql, rusqlite::params![id.to_i64(), NOW.0, record])
        .unwrap();
    drop(first);
    let spool = open(settings(folder.path())).unwrap();
    assert_eq!(claim(&spool, "a", 9, NOW).await, [id]);
    assert!(spool.content(id).await.is_ok());
}

#[tokio::test]
async fn a_spool_of_the_second_format_is_taken_over_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    database
        .execute_batch(include_str!("formats/2.sql"))
        .unwrap();
    drop(database);
    std::fs::create_dir(folder.path().join(store::CONTENTS)).unwrap();
    let file = folder.path().join("content/1m8brvw301k75.eml");
    std::fs::write(&file, "large").unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let page = Page {
        limit: 9,
        ..Page::default()
    };
    let listed = spool.list(page).await.unwrap();
    let of: Vec<&Record> = listed.iter().map(|entry| &entry.record).collect();
    let ids: Vec<String> = of.iter().map(|record| record.id.to_string()).collect();
    assert_eq!(
        ids,
        [
            "1m8brvw2sxsxn",
            "1m8brvw2tpyk7",
            "1m8brvw301k75",
            "1m8brvw3gtfnj"
        ]
    );
    let envelope = &of[0].envelope;
    assert_eq!(envelope.parameters.get("ENVID"), Some("QQ314159"));
    let to: Vec<&str> = envelope
        .recipients
        .iter()
        .map(|to| to.address.as_str())
        .collect();
    assert_eq!(to, ["one@example.net", "two@example.net"]);
    let notify = envelope.recipients[1].parameters.get("NOTIFY");
    assert_eq!(notify, Some("FAILURE,DELAY"));
    let Origin::Client { user, protocol, .. } = &of[0].origin else {
        panic!("an app sent it");
    };
    assert_eq!((user.as_str(), protocol.as_str()), ("erp", "ESMTPA"));
    assert_eq!((of[0].size, of[0].sum), (59, Some(3_299_049_991)));
    assert_eq!(of[0].received, Timestamp(1_795_691_507_801));
    assert_eq!(of[1].priority, Priority::Bulk);
    assert_eq!(of[3].state, State::Held);
    assert_eq!(of[3].last.as_deref(), Some("by hand"));
    let content = spool.content(of[0].id).await.unwrap();
    assert!(
        content
            .in_memory()
            .unwrap()
            .ends_with(b"\r\n\r\nHello.\r\n")
    );
    assert_eq!(spool.content(of[2].id).await.unwrap().size(), 5);
    let done = spool
        .stories(StoryFilter::about("done@example.net"), 9)
        .await
        .unwrap();
    assert!(matches!(
        done[0].events[0].what,
        EventKind::Delivered { .. }
    ));
    let held = spool
        .stories(StoryFilter::about("held@example.net"), 9)
        .await
        .unwrap();
    assert!(held[0].ended.is_none() && held[0].events.len() == 1);
    assert_eq!(spool.notes("hold/").await.unwrap().len(), 1);
    let used = spool.used(Timestamp(1_795_691_000_000)).await.unwrap();
    assert_eq!((used[0].messages, used[0].recipients), (1, 1));
    let waiting = spool.waiting().await.unwrap();
    assert_eq!(waiting.len(), 2, "a flow for each priority");
}

#[tokio::test]
async fn recipients_have_their_own_state() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let mut message = new(&spool, "a", "x");
    let id = message.record.id;
    let recipient = |text: &str| Recipient {
        address: Address::parse(text).unwrap(),
        parameters: Parameters::parse("NOTIFY=NEVER").unwrap(),
    };
    let [one, two, three] = ["one@x.com", "two@x.com", "three@x.com"].map(recipient);
    message.record.envelope.recipients = vec![one.clone(), two.clone(), three.clone()];
    spool.put(vec![message]).await.unwrap();
    let mut record = take_fresh(&spool, 9).remove(0).record;
    record.envelope.recipients = vec![three.clone()];
    let event = |what| StoryEvent { at: NOW, what };
    let events = vec![
        event(EventKind::Delivered {
            server: "a".into(),
            to: vec![two.address.clone()],
            reply: "250 ok".into(),
            message_id: String::new(),
            sent_as: None,
        }),
        event(EventKind::Failed {
            server: "a".into(),
            to: vec![one.address.clone()],
            reply: "550 no".into(),
        }),
    ];
    let later = Finish {
        events,
        ..Finish::new(claim_of(&spool, id), Fate::Later(Box::new(record)))
    };
    finish(&spool, later).await;
    let left = spool.get(id).await.unwrap().record.envelope.recipients;
    assert_eq!(left, [three]);
    let database = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    let sql = "SELECT address || ' ' || state || ' ' || coalesce(answer, '') FROM recipient ORDER BY place";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map((), |row| row.get(0)).unwrap();
    let rows: Vec<String> = rows.map(Result::unwrap).collect();
    assert_eq!(
        rows,
        ["two@x.com 1 250 ok", "one@x.com 2 550 no", "three@x.com 0 "]
    );
}

#[tokio::test]
async fn format_3_is_read_and_its_recipients_stay_in_their_table() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let to = |text: &str| {
        let mut message = new(&spool, "a", "x");
        let address = Address::parse(text).unwrap();
        let parameters = Parameters::default();
        message.record.envelope.recipients = vec![Recipient {
            address,
            parameters,
        }];
        message
    };
    let messages = ["one@x.com", "two@x.com", "three@x.com"].map(to);
    let records = messages.each_ref().map(|message| message.record.clone());
    let [one, two, three] = messages;
    spool.put(vec![one, two]).await.unwrap();
    drop(spool);
    let file = folder.path().join(store::FILE);
    let earlier = "
        INSERT INTO recipient SELECT id, 0, recipient, recipient_parameters, 0, NULL FROM message;
        ALTER TABLE message DROP COLUMN recipient;
        ALTER TABLE message DROP COLUMN recipient_parameters;
        ALTER TABLE message DROP COLUMN message_id;
        DROP TABLE mention;
        DROP TABLE result;
        PRAGMA user_version = 3;";
    let database = rusqlite::Connection::open(file).unwrap();
    database.execute_batch(earlier).unwrap();
    drop(database);
    let spool = open(settings(folder.path())).unwrap();
    spool.put(vec![three]).await.unwrap();
    let which = ClaimFrom::DueIn(place("a"));
    let claimed = spool.claim(which, 1, NOW, NOW).await.unwrap().remove(0);
    assert_eq!(claimed.record, records[0]);
    let later = Finish::new(claimed.claim, Fate::Later(Box::new(claimed.record)));
    finish(&spool, later).await;
    for record in records {
        assert_eq!(spool.get(record.id).await.unwrap().record, record);
    }
}

/// Returns a message of this user to one recipient.
fn addressed(spool: &SqliteSpool, user: &str, to: &str, message_id: &str) -> NewMessage {
    let mut message = new(spool, "a", "x");
    if let Origin::Client { user: its, .. } = &mut message.record.origin {
        *its = user.into();
    }
    message.record.message_id = Some(message_id.into());
    message.record.envelope.recipients = vec![Recipient {
        address: Address::parse(to).unwrap(),
        parameters: Parameters::default(),
    }];
    message
}

async fn found(spool: &SqliteSpool, filter: StoryFilter) -> Vec<MessageId> {
    let stories = spool.stories(filter, 1_000).await.unwrap();
    stories.iter().map(|story| story.record.id).collect()
}

/// Waits until the writer has indexed the messages that it found when it started.
async fn indexed(spool: &SqliteSpool) {
    while found(spool, StoryFilter::about("@x.com")).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Ends a message with a permanent failure.
async fn fail(spool: &SqliteSpool, id: MessageId, to: &str) {
    let what = EventKind::Failed {
        server: "a".into(),
        to: vec![Address::parse(to).unwrap()],
        reply: "550 5.1.1 no".into(),
    };
    let events = vec![StoryEvent { at: NOW, what }];
    let gone = gone(spool, id).await;
    finish(spool, Finish { events, ..gone }).await;
}

/// Checks that the index has each message, by each kind of property.
async fn check_index(spool: &SqliteSpool, [one, two, failed]: [MessageId; 3]) {
    let about = |text: &str| found(spool, StoryFilter::about(text));
    assert_eq!(about("ONE@x.com").await, [one]);
    assert_eq!(about("@X.com").await, [failed, two, one]);
    assert_eq!(about("<Two@App.Example>").await, [two]);
    let of_user = StoryFilter {
        user: Some("erp".into()),
        ..StoryFilter::default()
    };
    assert_eq!(found(spool, of_user).await, [failed, one]);
    let of_result = StoryFilter {
        result: Some(StoryResult::Failed),
        ..StoryFilter::default()
    };
    assert_eq!(found(spool, of_result).await, [failed]);
}

#[tokio::test]
async fn the_index_has_every_message_after_a_restart_a_crash_and_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let messages = [
        addressed(&spool, "erp", "one@x.com", "<one@app.example>"),
        addressed(
            &spool,
            "one@x.com",
            "\"o'brien j\"@x.com",
            "<two@app.example>",
        ),
        addressed(&spool, "erp", "failed@x.com", "<three@app.example>"),
    ];
    let ids = messages.each_ref().map(|message| message.record.id);
    spool.put(messages.into()).await.unwrap();
    fail(&spool, ids[2], "failed@x.com").await;
    check_index(&spool, ids).await;
    drop(spool);
    let spool = open(settings(folder.path())).unwrap();
    assert_eq!(spool.shared.unindexed.len(), 0);
    check_index(&spool, ids).await;
    drop(spool);
    // A crash before the messages were indexed.
    let database = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    let empty = "DELETE FROM mention WHERE rowid IN (SELECT id FROM mention_docsize);";
    database.execute_batch(empty).unwrap();
    let spool = open(settings(folder.path())).unwrap();
    indexed(&spool).await;
    check_index(&spool, ids).await;
    drop(spool);
    let earlier = "
        ALTER TABLE message DROP COLUMN message_id;
        DROP TABLE mention;
        DROP TABLE result;
        DELETE FROM note;
        PRAGMA user_version = 4;";
    database.execute_batch(earlier).unwrap();
    let spool = open(settings(folder.path())).unwrap();
    indexed(&spool).await;
    assert_eq!(found(&spool, StoryFilter::about("@x.com")).await.len(), 3);
    let over = NOW.after(Duration::from_secs(3_601));
    spool.purge(over).await.unwrap();
    assert_eq!(found(&spool, StoryFilter::about("failed@x.com")).await, []);
    let mut left = database
        .prepare("SELECT count(*) FROM mention_docsize, (SELECT count(*) FROM result)")
        .unwrap();
    let left: i64 = left.query_row((), |row| row.get(0)).unwrap();
    assert_eq!(left, 2, "the messages that wait");
}

#[tokio::test]
async fn without_a_history_a_message_is_found_only_while_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let history = Duration::ZERO;
    let settings = SpoolSettings {
        history,
        ..settings(folder.path())
    };
    let spool = open(settings).unwrap();
    let message = addressed(&spool, "erp", "one@x.com", "<one@app.example>");
    let id = message.record.id;
    spool.put(vec![message]).await.unwrap();
    assert_eq!(found(&spool, StoryFilter::about("one@x.com")).await, [id]);
    finish(&spool, gone(&spool, id).await).await;
    assert_eq!(found(&spool, StoryFilter::about("one@x.com")).await, []);
    assert_eq!(spool.shared.unindexed.len(), 0);
}

#[tokio::test]
async fn only_so_many_refused_messages_are_kept_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    for number in 0..REFUSED + 5 {
        let record = addressed(&spool, "erp", "one@x.com", &format!("<{number}@x>")).record;
        let what = EventKind::Refused {
            reply: "550 5.7.1 no".into(),
        };
        let events = vec![StoryEvent { at: NOW, what }];
        spool.refused(Story {
            record,
            ended: Some(NOW),
            events,
        });
    }
    spool.note("any", None).await.unwrap();
    let refused = StoryFilter {
        result: Some(StoryResult::Refused),
        ..StoryFilter::default()
    };
    let kept = spool.stories(refused, 2 * REFUSED).await.unwrap();
    assert_eq!(kept.len(), REFUSED);
}

/// Returns the counts that the spool keeps in memory, after checking that the database has the same counts.
async fn counts(spool: &SqliteSpool, folder: &Path) -> Vec<(String, usize, usize)> {
    let known = spool.counts().await.unwrap();
    let counted = Store::open(folder).unwrap().counts().unwrap().all();
    assert_eq!(known, counted);
    let count = |count: Count| (count.server, count.queued, count.held);
    known.into_iter().map(count).collect()
}

#[tokio::test]
async fn counts_are_right_whatever_happens_to_messages() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, path) = (open(settings(folder.path())).unwrap(), folder.path());
    let messages: Vec<NewMessage> = (0..5).map(|_| new(&spool, "a", "x")).collect();
    let ids: Vec<MessageId> = messages.iter().map(|new| new.record.id).collect();
    spool.put(messages).await.unwrap();
    let a = |queued, held| ("a".to_owned(), queued, held);
    assert_eq!(counts(&spool, path).await, [a(5, 0)]);
    let mut records: Vec<Record> = take_fresh(&spool, 9)
        .into_iter()
        .map(|it| it.record)
        .collect();
    finish(&spool, gone(&spool, ids[0]).await).await;
    let held = Fate::Held(Box::new(records.remove(1)));
    let mut held = Finish::new(claim_of(&spool, ids[1]), held);
    held.reports = vec![new(&spool, "b", "report")];
    finish(&spool, held).await;
    let b = ("b".to_owned(), 1, 0);
    assert_eq!(counts(&spool, path).await, [a(3, 1), b.clone()]);
    let mut moved = records.remove(1);
    moved.lane = "b".into();
    let later = Fate::Later(Box::new(moved));
    finish(&spool, Finish::new(claim_of(&spool, ids[2]), later)).await;
    act(
        &spool,
        Selection::Ids(vec![ids[1]]),
        OperatorAction::Release,
    )
    .await
    .unwrap();
    let none = (String::new(), 1, 0);
    let b = ("b".to_owned(), 2, 0);
    assert_eq!(counts(&spool, path).await, [none, a(2, 0), b]);
    // While two messages are being sent, their server is removed from the configuration.
    spool.reroute(vec!["b".into()], Vec::new()).await.unwrap();
    assert_eq!(counts(&spool, path).await[0], (String::new(), 3, 0));
    finish(&spool, gone(&spool, ids[3]).await).await;
    let all = all();
    act(&spool, all.clone(), OperatorAction::Hold("why not".into()))
        .await
        .unwrap();
    let at_rest = counts(&spool, path).await;
    assert_eq!(at_rest, [(String::new(), 1, 1), ("b".to_owned(), 1, 1)]);
    spool.release(vec![(claim_of(&spool, ids[4]), place("a"))]);
    act(&spool, all, OperatorAction::Delete).await.unwrap();
    assert_eq!(
        counts(&spool, path).await,
        [("b".to_owned(), 1, 0)],
        "the claimed report"
    );
}

#[tokio::test]
async fn what_is_released_while_another_claim_looks_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    spool.put(vec![new(&spool, "a", "x")]).await.unwrap();
    let claimed = take_fresh(&spool, 9).remove(0).claim;
    let announced = spool.shared.queue().due.announced();
    // A search, which began before the release, missed the message and found nothing else.
    spool.release(vec![(claimed, place("a"))]);
    spool
        .shared
        .queue()
        .due
        .record_next(&place("a"), None, announced);
    assert_eq!(due(&spool, "a"), Some(Timestamp(0)));
    assert_eq!(claim(&spool, "a", 9, NOW).await, [claimed.id]);
    assert_eq!(due(&spool, "a"), None, "nothing else waits");
}
