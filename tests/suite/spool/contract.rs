//! What every engine does alike, for each kind of caller.

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

mod intake;
mod operators;
mod stories;
mod work;

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

pub(super) fn failure(address: &str) -> Vec<StoryEvent> {
    let what = EventKind::Failed {
        server: "a".into(),
        to: vec![Address::parse(address).unwrap()],
        reply: "550 5.1.1 no".into(),
    };
    vec![StoryEvent { at: NOW, what }]
}
