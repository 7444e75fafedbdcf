//! What every engine does alike.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailferry::base::{MessageId, Timestamp};
use mailferry::message::{Address, Envelope, Parameters, Priority, Recipient, ReversePath};
use mailferry::spool::{
    Addition, Claim, ClaimFrom, Claimed, Content, DigestLines, EventKind, Fate, Finish, NewMessage,
    OperatorAction, Origin, Page, Permission, Place, QueueFilter, Record, Selection, SpoolError,
    State, StateFilter, Story, StoryEvent, StoryFilter, StoryResult, Used, WholeSpool,
};
use tokio::io::AsyncReadExt;

use super::{Engine, InMemory, Postgres, Sqlite};

pub(super) const NOW: Timestamp = Timestamp(1_000_000);
pub(super) const UNTIL: Timestamp = Timestamp(2_000_000);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// Makes a test of each function for each engine.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::InMemory::default()).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::Sqlite::new()).await;
            })+
        }
        mod postgresql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let test = concat!("spool ", stringify!($name));
                if let Some(engine) = super::Postgres::new(test).await {
                    super::$name(&engine).await;
                }
            })+
        }
    };
}

contract!(
    what_was_put_is_offered_fresh_and_after_a_crash_is_due,
    lanes_are_apart_and_due_times_are_kept,
    a_report_comes_with_the_end_of_its_message,
    a_digest_stays_for_the_lines_that_came_while_it_was_sent,
    a_claim_whose_time_has_ended_decides_nothing_once_another_has_the_message,
    the_operator_reaches_what_is_not_under_way,
    messages_of_lanes_that_are_no_more_are_routed_anew,
    a_story_outlives_its_message_for_as_long_as_it_is_to,
    what_a_mailbox_used_and_what_is_noted_survive,
    flows_are_apart_and_operators_find_what_they_mean,
    recipients_have_their_own_state,
    stories_are_found_at_once_and_after_every_kind_of_end,
    without_a_history_a_message_is_found_only_while_it_waits,
    counts_are_right_whatever_happens_to_messages,
    a_person_who_changes_many_messages_learns_how_many_so_far,
    a_large_content_arrives_and_leaves_in_pieces,
    a_content_that_is_not_accepted_leaves_nothing,
    late_messages_are_listed_page_by_page,
    any_text_comes_back,
    what_is_put_together_is_accepted_together,
    a_message_whose_id_is_taken_is_refused,
);

pub(super) fn new(spool: &dyn WholeSpool, lane: &str, text: &str) -> NewMessage {
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

pub(super) fn to(address: &str) -> Recipient {
    Recipient {
        address: Address::parse(address).unwrap(),
        parameters: Parameters::parse("NOTIFY=NEVER").unwrap(),
    }
}

/// Returns a message of this user to one recipient.
fn addressed(spool: &dyn WholeSpool, user: &str, address: &str, message_id: &str) -> NewMessage {
    let mut message = new(spool, "a", "x");
    if let Origin::Client { user: its, .. } = &mut message.record.origin {
        *its = user.into();
    }
    message.record.message_id = Some(message_id.into());
    message.record.envelope.recipients = vec![to(address)];
    message
}

pub(super) fn place(lane: &str) -> Place {
    let mut record = Record::new(
        MessageId::from_i64(0),
        NOW,
        Origin::Digest,
        Envelope {
            sender: ReversePath::Null,
            parameters: Parameters::default(),
            recipients: vec![],
        },
    );
    record.lane = lane.into();
    let mut place = record.place();
    place.flow.user = "u".into();
    place
}

pub(super) async fn put(spool: &dyn WholeSpool, message: NewMessage) -> MessageId {
    let id = message.record.id;
    spool.put(vec![message]).await.unwrap();
    id
}

pub(super) async fn fresh(spool: &dyn WholeSpool) -> Vec<Claimed> {
    spool.claim(ClaimFrom::Fresh, 9, NOW, UNTIL).await.unwrap()
}

pub(super) async fn claim_at(
    spool: &dyn WholeSpool,
    lane: &str,
    max: usize,
    now: Timestamp,
) -> Vec<Claimed> {
    let which = ClaimFrom::DueIn(place(lane));
    spool.claim(which, max, now, UNTIL).await.unwrap()
}

async fn ids_at(spool: &dyn WholeSpool, lane: &str, max: usize, now: Timestamp) -> Vec<MessageId> {
    let claimed = claim_at(spool, lane, max, now).await;
    claimed.iter().map(|it| it.record.id).collect()
}

/// Claims again until a message is due that was released in the background.
pub(super) async fn claim_soon(
    spool: &dyn WholeSpool,
    lane: &str,
    max: usize,
    now: Timestamp,
) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    while claimed.len() < max {
        claimed.extend(claim_at(spool, lane, max - claimed.len(), now).await);
        tokio::task::yield_now().await;
    }
    claimed
}

pub(super) fn given_back(claimed: &[Claimed]) -> Vec<(Claim, Place)> {
    claimed
        .iter()
        .map(|it| (it.claim, it.record.place()))
        .collect()
}

/// When the next message of a lane is due, for this process.
async fn due(spool: &dyn WholeSpool, lane: &str) -> Option<Timestamp> {
    let waiting = spool.waiting().await.unwrap();
    let mut waiting = waiting.into_iter().filter(|(its, _)| its.lane == lane);
    waiting.next().map(|(_, due)| due)
}

pub(super) fn gone(claimed: Claimed) -> Finish {
    Finish::new(claimed.claim, Fate::Gone(Box::new(claimed.record)))
}

pub(super) async fn finish(spool: &dyn WholeSpool, finish: Finish) {
    let lost = spool.finish([finish].into()).await.unwrap();
    assert!(lost.is_empty(), "{lost:?}");
}

async fn act(
    spool: &dyn WholeSpool,
    which: Selection,
    deed: OperatorAction,
) -> Result<usize, SpoolError> {
    spool.act(which, deed, NOW, &|_| {}).await
}

fn all() -> Selection {
    Selection::Matching(QueueFilter::default())
}

pub(super) async fn record(spool: &dyn WholeSpool, id: MessageId) -> Record {
    spool.get(id).await.unwrap().record
}

pub(super) async fn is_gone(spool: &dyn WholeSpool, id: MessageId) -> bool {
    matches!(spool.get(id).await, Err(SpoolError::Missing(_)))
}

async fn text_of(spool: &dyn WholeSpool, id: MessageId) -> String {
    match spool.content(id).await.unwrap() {
        Content::Memory(text) => String::from_utf8(text.to_vec()).unwrap(),
        Content::Stored(_) => panic!("it is small"),
    }
}

async fn found(spool: &dyn WholeSpool, filter: StoryFilter) -> Vec<MessageId> {
    let stories = spool.stories(filter, 1_000).await.unwrap();
    stories.iter().map(|story| story.record.id).collect()
}

async fn counts(spool: &dyn WholeSpool) -> Vec<(String, usize, usize)> {
    let counts = spool.counts().await.unwrap().into_iter();
    counts.map(|it| (it.server, it.queued, it.held)).collect()
}

async fn what_was_put_is_offered_fresh_and_after_a_crash_is_due(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let id = put(&*spool, new(&*spool, "a", "hello")).await;
    let claimed = fresh(&*spool).await;
    assert_eq!(claimed.len(), 1);
    assert!(matches!(&claimed[0].content, Some(Content::Memory(text)) if text == "hello"));
    assert!(
        ids_at(&*spool, "a", 9, NOW).await.is_empty(),
        "it is claimed"
    );
    drop((spool, claimed));
    engine.bury().await;
    let spool = engine.open(HOUR).await;
    while due(&*spool, "a").await.is_none() {
        spool.changed().await;
    }
    assert_eq!(due(&*spool, "a").await, Some(NOW));
    assert_eq!(ids_at(&*spool, "a", 9, NOW).await, [id]);
    assert_eq!(text_of(&*spool, id).await, "hello");
}

async fn lanes_are_apart_and_due_times_are_kept(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let messages: Vec<NewMessage> = (0..3).map(|_| new(&*spool, "a", "x")).collect();
    spool.put(messages).await.unwrap();
    let other = put(&*spool, new(&*spool, "b", "y")).await;
    spool.release(given_back(&fresh(&*spool).await));
    assert_eq!(claim_soon(&*spool, "a", 2, NOW).await.len(), 2);
    assert!(due(&*spool, "a").await <= Some(NOW), "one is left");
    let claimed = claim_soon(&*spool, "b", 1, NOW).await.remove(0);
    assert_eq!(claimed.record.id, other);
    assert_eq!(spool.get(other).await.unwrap().lease, None, "it waits");
    assert_eq!(
        spool.sending(claimed.claim, None, NOW).await.unwrap(),
        Permission::Granted
    );
    let lease = spool
        .get(other)
        .await
        .unwrap()
        .lease
        .expect("it is being sent");
    assert!(lease.owner.to_string().starts_with("relay/"));
    assert_eq!(lease.until, UNTIL);
    let later = NOW.after(Duration::from_secs(60));
    let record = Record {
        due: later,
        ..claimed.record
    };
    finish(
        &*spool,
        Finish::new(claimed.claim, Fate::Later(Box::new(record))),
    )
    .await;
    assert!(ids_at(&*spool, "b", 9, NOW).await.is_empty());
    assert_eq!(spool.get(other).await.unwrap().lease, None);
    assert_eq!(due(&*spool, "b").await, Some(later));
    assert_eq!(ids_at(&*spool, "b", 9, later).await, [other]);
}

async fn a_report_comes_with_the_end_of_its_message(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let id = put(&*spool, new(&*spool, "a", "x")).await;
    let reports = vec![new(&*spool, "n", "report")];
    let ended = gone(fresh(&*spool).await.remove(0));
    finish(&*spool, Finish { reports, ..ended }).await;
    assert!(is_gone(&*spool, id).await);
    assert_eq!(fresh(&*spool).await[0].record.lane, "n");
    let page = Page {
        limit: 9,
        ..Page::default()
    };
    assert_eq!(spool.list(page).await.unwrap().len(), 1);
}

/// Puts a message, ends it, and adds `text` to the digest as its report.
pub(super) async fn told_by(spool: &dyn WholeSpool, digest: &Record, text: &str) {
    put(spool, new(spool, "a", "x")).await;
    let mut ended = gone(fresh(spool).await.remove(0));
    ended.lines = vec![DigestLines {
        digest: Box::new(digest.clone()),
        lines: vec![text.to_owned()],
    }];
    finish(spool, ended).await;
}

async fn a_digest_stays_for_the_lines_that_came_while_it_was_sent(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let mut digest = new(&*spool, "n", "").record;
    let id = digest.id;
    digest.origin = Origin::Digest;
    digest.due = NOW.after(Duration::from_secs(60));
    let then = digest.due;
    told_by(&*spool, &digest, "one, ").await;
    told_by(&*spool, &digest, "two").await;
    assert_eq!(text_of(&*spool, id).await, "one, two");
    assert_eq!(spool.waiting().await.unwrap(), [(digest.place(), then)]);
    let sent = async |spool: &dyn WholeSpool| {
        let which = ClaimFrom::DueIn(digest.place());
        let claimed = spool.claim(which, 9, then, UNTIL).await.unwrap().remove(0);
        let mut ended = gone(claimed);
        ended.sent_lines = spool.lines(id).await.unwrap().last().unwrap().0;
        ended
    };
    let first = sent(&*spool).await;
    told_by(&*spool, &digest, "three").await;
    let last = first.sent_lines;
    finish(&*spool, first).await;
    assert_eq!(text_of(&*spool, id).await, "three");
    assert_eq!(counts(&*spool).await, [("n".to_owned(), 1, 0)]);
    let second = sent(&*spool).await;
    assert!(second.sent_lines > last);
    let last = second.sent_lines;
    finish(&*spool, second).await;
    assert!(is_gone(&*spool, id).await);
    assert!(counts(&*spool).await.is_empty());
    told_by(&*spool, &digest, "four").await;
    assert!(
        spool.lines(id).await.unwrap()[0].0 > last,
        "a number is used once"
    );
    let which = Selection::Ids(vec![id]);
    act(&*spool, which, OperatorAction::Delete).await.unwrap();
    assert!(spool.lines(id).await.unwrap().is_empty());
}

async fn a_claim_whose_time_has_ended_decides_nothing_once_another_has_the_message(
    engine: &dyn Engine,
) {
    let spool = engine.open(HOUR).await;
    let id = put(&*spool, new(&*spool, "a", "x")).await;
    let first = fresh(&*spool).await.remove(0);
    let over = first.until;
    let which = ClaimFrom::Named(vec![id]);
    let second = spool.claim(which, 9, over, over.after(HOUR)).await;
    let second = second.unwrap().remove(0);
    assert_eq!(
        spool.renew(vec![first.claim], over).await.unwrap(),
        [first.claim]
    );
    assert_eq!(
        spool.sending(first.claim, None, NOW).await.unwrap(),
        Permission::Lost
    );
    let lost = first.claim;
    assert_eq!(spool.finish([gone(first)].into()).await.unwrap(), [lost]);
    spool.release(vec![(lost, place("a"))]);
    assert!(!is_gone(&*spool, id).await);
    let due = NOW.after(2 * HOUR);
    let later = Record {
        due,
        ..second.record
    };
    finish(
        &*spool,
        Finish::new(second.claim, Fate::Later(Box::new(later))),
    )
    .await;
    assert_eq!(record(&*spool, id).await.due, due);
}

async fn the_operator_reaches_what_is_not_under_way(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let (one, two) = (new(&*spool, "a", "x"), new(&*spool, "a", "x"));
    let (first, second) = (one.record.id, two.record.id);
    spool.put(vec![one, two]).await.unwrap();
    let mut claimed = fresh(&*spool).await;
    let one = claimed.remove(0);
    finish(
        &*spool,
        Finish::new(one.claim, Fate::Held(Box::new(one.record))),
    )
    .await;
    assert_eq!(record(&*spool, first).await.state, State::Held);
    assert_eq!(act(&*spool, all(), OperatorAction::Retry).await.unwrap(), 1);
    let one = claim_at(&*spool, "", 9, NOW).await;
    assert_eq!(one[0].record.id, first, "it is routed anew");
    assert_eq!(
        act(&*spool, all(), OperatorAction::Delete).await.unwrap(),
        0
    );
    spool.release(given_back(&one));
    spool.release(given_back(&claimed));
    let delete = |id| act(&*spool, Selection::Ids(vec![id]), OperatorAction::Delete);
    while delete(first).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(delete(first).await, Err(SpoolError::Missing(id)) if id == first));
    let hold = OperatorAction::Hold("by hand".into());
    while act(&*spool, all(), hold.clone()).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        record(&*spool, second).await.last.as_deref(),
        Some("by hand")
    );
    let story = spool.story(first).await.unwrap();
    assert!(story.was_deleted() && story.ended == Some(NOW));
}

async fn messages_of_lanes_that_are_no_more_are_routed_anew(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let [kept, moved, held] = ["a", "b", "c"].map(|lane| new(&*spool, lane, "x"));
    let ids = [&kept, &moved, &held].map(|it| it.record.id);
    spool.put(vec![kept, moved, held]).await.unwrap();
    spool.release(given_back(&fresh(&*spool).await));
    let reason = vec![("c".to_owned(), "it is gone".to_owned())];
    spool
        .reroute(vec!["a".into(), "c".into()], reason)
        .await
        .unwrap();
    let claimed = claim_soon(&*spool, "", 1, NOW).await.remove(0);
    assert_eq!(claimed.record.id, ids[1]);
    assert_eq!(claimed.record.former_lane.as_deref(), Some("b"));
    let held = record(&*spool, ids[2]).await;
    assert_eq!(
        (held.state, held.last.as_deref()),
        (State::Held, Some("it is gone"))
    );
    assert_eq!(claim_soon(&*spool, "a", 1, NOW).await[0].record.id, ids[0]);
}

pub(super) fn delivered(address: &str, at: Timestamp) -> StoryEvent {
    StoryEvent {
        at,
        what: EventKind::Delivered {
            server: "a".into(),
            to: vec![Address::parse(address).unwrap()],
            reply: "250 ok".into(),
            message_id: "<sent@app.example>".into(),
            sent_as: None,
        },
    }
}

async fn a_story_outlives_its_message_for_as_long_as_it_is_to(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let id = put(
        &*spool,
        addressed(&*spool, "u", "one@x.com", "<1@app.example>"),
    )
    .await;
    assert!(spool.story(id).await.unwrap().events.is_empty());
    let claimed = fresh(&*spool).await.remove(0);
    let (claim, its) = (claimed.claim, claimed.record.clone());
    let deferred = StoryEvent {
        at: NOW,
        what: EventKind::Deferred {
            server: "a".into(),
            until: NOW.after(HOUR),
            reason: "451 later".into(),
            uncertain: false,
        },
    };
    let events = vec![deferred.clone()];
    let later = Fate::Later(Box::new(its));
    finish(
        &*spool,
        Finish {
            events,
            ..Finish::new(claim, later)
        },
    )
    .await;
    let claimed = claim_at(&*spool, "a", 1, NOW).await.remove(0);
    let at = NOW.after(Duration::from_secs(9));
    let events = vec![delivered("one@x.com", at)];
    finish(
        &*spool,
        Finish {
            events,
            ..gone(claimed)
        },
    )
    .await;
    let story = spool.story(id).await.unwrap();
    assert_eq!(story.ended, Some(at));
    assert_eq!(story.events, [deferred, delivered("one@x.com", at)]);
    let bounced = |id| Addition {
        id,
        events: vec![StoryEvent {
            at,
            what: EventKind::Bounced {
                server: "a".into(),
                to: vec![Address::parse("one@x.com").unwrap()],
                reply: "550 5.1.1 no".into(),
                report: "<report@x.com>".into(),
            },
        }],
        reports: vec![new(&*spool, "n", "a report")],
        lines: Vec::new(),
    };
    assert!(spool.extend_story(bounced(id)).await.unwrap());
    assert_eq!(spool.story(id).await.unwrap().events.len(), 3);
    assert_eq!(fresh(&*spool).await[0].record.lane, "n");
    let result = Some(StoryResult::Bounced);
    let filter = StoryFilter {
        result,
        ..StoryFilter::default()
    };
    assert_eq!(found(&*spool, filter).await, [id]);
    assert!(!spool.purge(at.after(HOUR)).await.unwrap());
    assert!(spool.story(id).await.is_ok());
    spool
        .purge(at.after(HOUR + Duration::from_secs(1)))
        .await
        .unwrap();
    assert!(matches!(spool.story(id).await, Err(SpoolError::Unknown(_))));
    assert!(!spool.extend_story(bounced(id)).await.unwrap());
    assert!(fresh(&*spool).await.is_empty());
}

async fn what_a_mailbox_used_and_what_is_noted_survive(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let used = |at, messages, recipients| Used {
        mailbox: "m@x.com".into(),
        at: Timestamp(at),
        last: Timestamp(at),
        messages,
        recipients,
    };
    for (at, recipients) in [(1_200_000, 3), (1_210_000, 1), (1_800_000, 7)] {
        put(&*spool, new(&*spool, "a", "x")).await;
        let ended = gone(fresh(&*spool).await.remove(0));
        let used = Some(used(at, 1, recipients));
        finish(&*spool, Finish { used, ..ended }).await;
    }
    let never_queued = Story {
        record: new(&*spool, "a", "x").record,
        ended: Some(NOW),
        events: Vec::new(),
    };
    let id = never_queued.record.id;
    spool
        .add_story(never_queued, Some(used(1_820_000, 1, 1)))
        .await
        .unwrap();
    assert!(spool.story(id).await.is_ok());
    spool.note("hold/m", Some("why".into())).await.unwrap();
    spool.note("hold/n", Some("gone".into())).await.unwrap();
    spool.note("hold/n", None).await.unwrap();
    spool.note("hole", Some("other".into())).await.unwrap();
    drop(spool);
    engine.bury().await;
    let spool = engine.open(HOUR).await;
    let both = [
        Used {
            last: Timestamp(1_210_000),
            ..used(1_200_000, 2, 4)
        },
        Used {
            last: Timestamp(1_820_000),
            ..used(1_800_000, 2, 8)
        },
    ];
    assert_eq!(spool.used(Timestamp(0)).await.unwrap(), both);
    assert_eq!(spool.used(Timestamp(1_700_000)).await.unwrap(), both[1..]);
    let notes = spool.notes("hold/").await.unwrap();
    assert_eq!(notes, [("hold/m".to_owned(), "why".to_owned())]);
    let tomorrow = Timestamp(1_800_000).after(25 * HOUR);
    spool.purge(tomorrow).await.unwrap();
    assert!(spool.used(Timestamp(0)).await.unwrap().is_empty());
}

async fn flows_are_apart_and_operators_find_what_they_mean(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let mut bulk = new(&*spool, "a", "x");
    bulk.record.priority = Priority::Bulk;
    bulk.record.envelope.sender = ReversePath::parse("news@x.com").unwrap();
    let usual = new(&*spool, "a", "x");
    let (first, second) = (bulk.record.id, usual.record.id);
    spool.put(vec![bulk, usual]).await.unwrap();
    spool.release(given_back(&fresh(&*spool).await));
    let claimed = claim_soon(&*spool, "a", 1, NOW).await.remove(0);
    assert_eq!(claimed.record.id, second, "the other is of another flow");
    assert_eq!(
        spool.sending(claimed.claim, None, NOW).await.unwrap(),
        Permission::Granted
    );
    let found = async |filter: QueueFilter| {
        let page = Page {
            filter,
            limit: 9,
            after: None,
        };
        let listed = spool.list(page).await.unwrap();
        listed.iter().map(|it| it.record.id).collect::<Vec<_>>()
    };
    let of_state = |state| QueueFilter {
        state: Some(state),
        ..QueueFilter::default()
    };
    let of_sender = QueueFilter {
        sender: Some("@x.com".to_owned()),
        ..QueueFilter::default()
    };
    assert_eq!(found(of_sender.clone()).await, [first]);
    assert_eq!(found(of_state(StateFilter::Active)).await, [second]);
    let which = Selection::Matching(of_sender);
    let hold = OperatorAction::Hold("wait".into());
    while act(&*spool, which.clone(), hold.clone()).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(found(of_state(StateFilter::Held)).await, [first]);
    let released = act(&*spool, all(), OperatorAction::Release).await.unwrap();
    assert_eq!(released, 1, "the other is claimed");
    assert_eq!(record(&*spool, first).await.state, State::Queued);
    assert_eq!(spool.story(first).await.unwrap().events.len(), 2);
    let which = ClaimFrom::Named(vec![first, second]);
    let claimed = spool.claim(which, 9, NOW, UNTIL).await.unwrap();
    assert_eq!(claimed.len(), 1, "the other is claimed already");
}

async fn recipients_have_their_own_state(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let mut message = new(&*spool, "a", "x");
    let [one, two, three] = ["one@x.com", "two@x.com", "three@x.com"].map(to);
    message.record.envelope.recipients = vec![one.clone(), two.clone(), three.clone()];
    let id = put(&*spool, message).await;
    let claimed = fresh(&*spool).await.remove(0);
    let mut left = claimed.record;
    left.envelope.recipients = vec![three.clone()];
    let failed = StoryEvent {
        at: NOW,
        what: EventKind::Failed {
            server: "a".into(),
            to: vec![one.address.clone()],
            reply: "550 no".into(),
        },
    };
    let events = vec![delivered("two@x.com", NOW), failed];
    let later = Finish::new(claimed.claim, Fate::Later(Box::new(left)));
    finish(&*spool, Finish { events, ..later }).await;
    assert_eq!(
        record(&*spool, id).await.envelope.recipients,
        std::slice::from_ref(&three)
    );
    let claimed = claim_at(&*spool, "a", 1, NOW).await.remove(0);
    assert_eq!(claimed.record.envelope.recipients, [three]);
    let story = spool.story(id).await.unwrap();
    assert_eq!(story.recipients().len(), 3);
}

/// Checks that each message is found by each of its properties and by no other.
async fn check_search(spool: &dyn WholeSpool, [one, two, failed]: [MessageId; 3]) {
    let about = |text: &str| found(spool, StoryFilter::about(text));
    assert_eq!(about("ONE@x.com").await, [one]);
    assert_eq!(about("@X.com").await, [failed, two, one]);
    assert_eq!(about("<Two@App.Example>").await, [two]);
    assert_eq!(about("two@app.example").await, [two]);
    assert_eq!(about("\"o'brien j\"@x.com").await, [two]);
    assert_eq!(about("@y.com").await, []);
    let user = |user: &str| {
        let user = Some(user.to_owned());
        let filter = StoryFilter {
            user,
            ..StoryFilter::default()
        };
        found(spool, filter)
    };
    assert_eq!(user("erp").await, [failed, one]);
    assert_eq!(user("one@x.com").await, [two], "a user, not an address");
    let both = StoryFilter {
        user: Some("erp".into()),
        ..StoryFilter::about("one@x.com")
    };
    assert_eq!(found(spool, both).await, [one]);
    let result = |result| {
        let result = Some(result);
        let filter = StoryFilter {
            result,
            ..StoryFilter::default()
        };
        found(spool, filter)
    };
    assert_eq!(result(StoryResult::Failed).await, [failed]);
    assert_eq!(result(StoryResult::Waiting).await, [two, one]);
    assert_eq!(result(StoryResult::Bounced).await, []);
    let below = StoryFilter {
        below: Some(two),
        ..StoryFilter::about("@x.com")
    };
    assert_eq!(found(spool, below).await, [one]);
    let backwards = StoryFilter {
        since: Some(UNTIL),
        before: Some(NOW),
        ..StoryFilter::about("@x.com")
    };
    assert_eq!(found(spool, backwards).await, []);
    assert_eq!(
        found(spool, StoryFilter::default()).await,
        [failed, two, one]
    );
}

pub(super) fn failure(address: &str) -> Vec<StoryEvent> {
    let what = EventKind::Failed {
        server: "a".into(),
        to: vec![Address::parse(address).unwrap()],
        reply: "550 5.1.1 no".into(),
    };
    vec![StoryEvent { at: NOW, what }]
}

async fn stories_are_found_at_once_and_after_every_kind_of_end(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let quoted = "\"o'brien j\"@x.com";
    let messages = [
        addressed(&*spool, "erp", "one@x.com", "<one@app.example>"),
        addressed(&*spool, "one@x.com", quoted, "<two@app.example>"),
        addressed(&*spool, "erp", "failed@x.com", "<three@app.example>"),
    ];
    let ids = messages.each_ref().map(|message| message.record.id);
    spool.put(messages.into()).await.unwrap();
    let mut claimed = fresh(&*spool).await;
    let last = claimed.remove(2);
    let events = failure("failed@x.com");
    finish(
        &*spool,
        Finish {
            events,
            ..gone(last)
        },
    )
    .await;
    check_search(&*spool, ids).await;
    drop((spool, claimed));
    engine.bury().await;
    let spool = engine.open(HOUR).await;
    check_search(&*spool, ids).await;
    let over = NOW.after(HOUR + Duration::from_secs(1));
    spool.purge(over).await.unwrap();
    assert_eq!(found(&*spool, StoryFilter::about("failed@x.com")).await, []);
    assert_eq!(found(&*spool, StoryFilter::about("@x.com")).await.len(), 2);
}

async fn without_a_history_a_message_is_found_only_while_it_waits(engine: &dyn Engine) {
    let spool = engine.open(Duration::ZERO).await;
    let id = put(
        &*spool,
        addressed(&*spool, "erp", "one@x.com", "<1@app.example>"),
    )
    .await;
    assert_eq!(found(&*spool, StoryFilter::about("one@x.com")).await, [id]);
    let events = failure("one@x.com");
    let ended = gone(fresh(&*spool).await.remove(0));
    finish(&*spool, Finish { events, ..ended }).await;
    assert_eq!(found(&*spool, StoryFilter::about("one@x.com")).await, []);
    assert!(matches!(spool.story(id).await, Err(SpoolError::Unknown(_))));
}

async fn counts_are_right_whatever_happens_to_messages(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let messages: Vec<NewMessage> = (0..4).map(|_| new(&*spool, "a", "x")).collect();
    let ids: Vec<MessageId> = messages.iter().map(|new| new.record.id).collect();
    spool.put(messages).await.unwrap();
    let a = |queued, held| ("a".to_owned(), queued, held);
    assert_eq!(counts(&*spool).await, [a(4, 0)]);
    let mut claimed = fresh(&*spool).await;
    finish(&*spool, gone(claimed.remove(0))).await;
    let one = claimed.remove(0);
    let mut held = Finish::new(one.claim, Fate::Held(Box::new(one.record)));
    held.reports = vec![new(&*spool, "b", "report")];
    finish(&*spool, held).await;
    let b = |queued| ("b".to_owned(), queued, 0);
    assert_eq!(counts(&*spool).await, [a(2, 1), b(1)]);
    let one = claimed.remove(0);
    let moved = Record {
        lane: "b".into(),
        ..one.record
    };
    finish(
        &*spool,
        Finish::new(one.claim, Fate::Later(Box::new(moved))),
    )
    .await;
    let which = Selection::Ids(vec![ids[1]]);
    act(&*spool, which, OperatorAction::Release).await.unwrap();
    let none = |queued| (String::new(), queued, 0);
    assert_eq!(counts(&*spool).await, [none(1), a(1, 0), b(2)]);
    spool.reroute(vec!["b".into()], Vec::new()).await.unwrap();
    assert_eq!(counts(&*spool).await, [none(2), b(2)]);
    let oldest = &spool.measures().await.unwrap().oldest;
    assert_eq!(oldest.len(), 2);
    finish(&*spool, gone(claimed.remove(0))).await;
    assert_eq!(counts(&*spool).await, [none(1), b(2)]);
}

async fn a_person_who_changes_many_messages_learns_how_many_so_far(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let messages = (0..2_500).map(|_| {
        let mut message = new(&*spool, "a", "x");
        message.record.due = UNTIL;
        message
    });
    spool.put(messages.collect()).await.unwrap();
    let told = Mutex::new(Vec::new());
    let so_far = |count| told.lock().unwrap().push(count);
    let deed = OperatorAction::Hold("many".into());
    let count = spool.act(all(), deed, NOW, &so_far).await.unwrap();
    assert_eq!(count, 2_500);
    assert_eq!(told.into_inner().unwrap(), [1_000, 2_000, 2_500]);
}

async fn written(spool: &dyn WholeSpool, id: MessageId, octets: usize) -> (Content, Vec<u8>) {
    let text: Vec<u8> = (0..octets).map(|place| (place * 7 % 251) as u8).collect();
    let mut writer = spool.writer(id);
    for piece in text.chunks(100_000) {
        writer.write(piece.to_vec()).await.unwrap();
    }
    (writer.finish().await.unwrap(), text)
}

async fn a_large_content_arrives_and_leaves_in_pieces(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let mut message = new(&*spool, "a", "");
    let id = message.record.id;
    let (content, text) = written(&*spool, id, 3_300_000).await;
    (message.record.size, message.record.sum) = (content.size(), content.sum());
    message.content = content;
    put(&*spool, message).await;
    let claimed = fresh(&*spool).await.remove(0);
    let read = async |content: Content| {
        let mut all = Vec::new();
        let mut reader = content.open().await.unwrap();
        reader.read_to_end(&mut all).await.unwrap();
        all
    };
    assert!(read(claimed.content.clone().unwrap()).await == text);
    spool.release(given_back(&[claimed]));
    let claimed = claim_soon(&*spool, "a", 1, NOW).await.remove(0);
    assert!(read(spool.content(id).await.unwrap()).await == text);
    assert_eq!(claimed.record.size, 3_300_000);
    let later = Fate::Later(Box::new(claimed.record.clone()));
    finish(&*spool, Finish::new(claimed.claim, later)).await;
    drop(claimed);
    assert!(read(spool.content(id).await.unwrap()).await == text);
    let claimed = claim_at(&*spool, "a", 1, NOW).await.remove(0);
    finish(&*spool, gone(claimed)).await;
    assert!(matches!(
        spool.content(id).await,
        Err(SpoolError::Missing(_))
    ));
    assert_eq!(engine.contents().await, 0);
}

async fn a_content_that_is_not_accepted_leaves_nothing(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let id = spool.next_id(NOW);
    let (content, _) = written(&*spool, id, 1_500_000).await;
    let copy = content.clone();
    drop(content);
    assert!(copy.open().await.is_ok());
    let mut half = spool.writer(spool.next_id(NOW));
    half.write(vec![b'x'; 2_000_000]).await.unwrap();
    assert!(engine.contents().await > 0);
    drop((half, copy));
    while engine.contents().await > 0 {
        tokio::task::yield_now().await;
    }
}

async fn late_messages_are_listed_page_by_page(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let messages: Vec<NewMessage> = (0..5).map(|_| new(&*spool, "a", "x")).collect();
    let ids: Vec<MessageId> = messages.iter().map(|new| new.record.id).collect();
    spool.put(messages).await.unwrap();
    let hold = fresh(&*spool).await.remove(0);
    finish(
        &*spool,
        Finish::new(hold.claim, Fate::Held(Box::new(hold.record))),
    )
    .await;
    let late = async |after, before| {
        let late = spool.late(after, before, 3).await.unwrap();
        late.iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(late(None, UNTIL).await, ids[1..4]);
    assert_eq!(late(Some(ids[3]), UNTIL).await, ids[4..]);
    assert!(late(None, NOW).await.is_empty());
}

async fn any_text_comes_back(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let mut message = addressed(&*spool, "ü\u{1f}'\"\\ %_", "\"a b\"@x.com", "<ü@x>");
    let lane = "staff/\u{1f600}@x.com".to_owned();
    message.record.lane = lane.clone();
    message.record.last = Some("it's \u{7} \\N \"quoted\"\r\n".into());
    message.content = Content::Memory(vec![0, 255, b'\\', 13, 10].into());
    let kept = message.record.clone();
    let id = put(&*spool, message).await;
    assert_eq!(record(&*spool, id).await, kept);
    assert_eq!(
        spool.content(id).await.unwrap().in_memory().unwrap()[..],
        [0, 255, b'\\', 13, 10]
    );
    spool.release(given_back(&fresh(&*spool).await));
    let mut claimed = Vec::new();
    while claimed.is_empty() {
        let which = ClaimFrom::DueIn(kept.place());
        claimed = spool.claim(which, 9, NOW, UNTIL).await.unwrap();
    }
    assert_eq!(claimed[0].record, kept);
}

async fn what_is_put_together_is_accepted_together(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let spool: &Arc<dyn WholeSpool> = &spool;
    let puts = (0..200).map(|number| {
        let spool = spool.clone();
        tokio::spawn(async move {
            let text = format!("message {number}");
            let both = vec![new(&*spool, "a", &text), new(&*spool, "b", &text)];
            spool.put(both).await.unwrap();
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    let both = [("a".to_owned(), 200, 0), ("b".to_owned(), 200, 0)];
    assert_eq!(counts(&**spool).await, both);
}

async fn a_message_whose_id_is_taken_is_refused(engine: &dyn Engine) {
    let spool = engine.open(HOUR).await;
    let first = new(&*spool, "a", "first");
    let mut second = new(&*spool, "a", "second");
    second.record.id = first.record.id;
    let id = put(&*spool, first).await;
    assert!(spool.put(vec![second]).await.is_err(), "250 would be a lie");
    assert_eq!(text_of(&*spool, id).await, "first");
}
