use super::*;
use crate::message::{Envelope, Parameters, ReversePath};
use crate::spool::{Fate, Origin, Record, State};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_000_000);
const UNTIL: Timestamp = Timestamp(2_000_000);

fn settings(folder: &Path) -> Settings {
    Settings {
        folder: folder.to_owned(),
        reserve: 0,
    }
}

fn owner() -> Owner {
    Owner::new("relay", 1, 1)
}

fn open(settings: Settings) -> Result<SqliteSpool, SpoolError> {
    SqliteSpool::open(settings, owner())
}

fn new(spool: &SqliteSpool, lane: &str, text: &str) -> New {
    let record = Record {
        id: spool.next_id(NOW),
        received: NOW,
        origin: Origin::Client {
            user: "u".into(),
            peer: "127.0.0.1".into(),
            helo: "h".into(),
            protocol: "ESMTP".into(),
        },
        envelope: Envelope {
            sender: ReversePath::Null,
            parameters: Parameters::default(),
            recipients: vec![],
        },
        size: text.len() as u64,
        lane: lane.into(),
        state: State::Queued,
        due: NOW,
        attempts: 0,
        last: None,
        uncertain: false,
    };
    New {
        record,
        content: Content::Memory(text.to_owned().into()),
    }
}

async fn claim(spool: &SqliteSpool, lane: &str, max: usize, now: Timestamp) -> Vec<MessageId> {
    let claimed = spool.claim(lane, max, now, UNTIL).await.unwrap();
    claimed.iter().map(|message| message.record.id).collect()
}

#[tokio::test]
async fn what_was_put_is_offered_fresh_and_after_a_crash_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let message = new(&spool, "a", "hello");
    let id = message.record.id;
    spool.put(vec![message]).await.unwrap();
    let fresh = spool.fresh(9);
    assert_eq!(fresh.len(), 1);
    assert!(matches!(&fresh[0].content, Some(Content::Memory(text)) if text == "hello"));
    assert!(
        claim(&spool, "a", 9, NOW).await.is_empty(),
        "a leased message is given out once"
    );
    drop(spool);
    let spool = open(settings(folder.path())).unwrap();
    assert_eq!(spool.due("a"), Some(NOW));
    assert_eq!(claim(&spool, "a", 9, NOW).await, [id]);
    assert!(matches!(spool.content(id).await.unwrap(), Content::Memory(text) if text == "hello"));
}

#[tokio::test]
async fn lanes_are_apart_and_due_times_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let messages: Vec<New> = (0..3).map(|_| new(&spool, "a", "x")).collect();
    let other = new(&spool, "b", "y");
    let other_id = other.record.id;
    spool.put(messages).await.unwrap();
    spool.put(vec![other]).await.unwrap();
    let fresh = spool.fresh(9);
    spool.release(
        fresh
            .iter()
            .map(|m| (m.record.id, m.record.lane.clone()))
            .collect(),
    );
    assert_eq!(claim(&spool, "a", 2, NOW).await.len(), 2);
    assert_eq!(spool.due("a"), Some(NOW), "one is left");
    assert_eq!(claim(&spool, "b", 9, NOW).await, [other_id]);
    let Entry { mut record, lease } = spool.get(other_id).await.unwrap();
    let (owner, until) = (owner(), UNTIL);
    assert_eq!(
        lease,
        Some(Lease { owner, until }),
        "an operator sees who has it"
    );
    record.due = NOW.after(Duration::from_secs(60));
    let later = record.due;
    spool
        .finish(
            [Finish {
                id: other_id,
                fate: Fate::Later(Box::new(record)),
                report: None,
            }]
            .into(),
        )
        .await
        .unwrap();
    assert!(claim(&spool, "b", 9, NOW).await.is_empty());
    assert_eq!(spool.get(other_id).await.unwrap().lease, None);
    assert_eq!(spool.due("b"), Some(later));
    assert_eq!(claim(&spool, "b", 9, later).await, [other_id]);
}

#[tokio::test]
async fn a_report_comes_with_the_end_of_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let message = new(&spool, "a", "x");
    let (id, report) = (message.record.id, new(&spool, "n", "report"));
    spool.put(vec![message]).await.unwrap();
    spool.fresh(9);
    spool
        .finish(
            [Finish {
                id,
                fate: Fate::Gone,
                report: Some(report),
            }]
            .into(),
        )
        .await
        .unwrap();
    assert!(matches!(spool.get(id).await, Err(SpoolError::Missing(_))));
    assert_eq!(spool.fresh(9)[0].record.lane, "n");
    assert_eq!(
        spool
            .list(Page {
                after: None,
                limit: 9
            })
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn the_operator_reaches_what_is_not_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let (one, two) = (new(&spool, "a", "x"), new(&spool, "a", "x"));
    let (first, second) = (one.record.id, two.record.id);
    spool.put(vec![one, two]).await.unwrap();
    let record = spool.fresh(9).remove(0).record;
    spool
        .finish(
            [Finish {
                id: first,
                fate: Fate::Held(Box::new(record)),
                report: None,
            }]
            .into(),
        )
        .await
        .unwrap();
    assert_eq!(spool.get(first).await.unwrap().record.state, State::Held);
    assert_eq!(spool.retry(Selection::All, NOW).await.unwrap(), 1);
    assert_eq!(
        claim(&spool, "", 9, NOW).await,
        [first],
        "it is routed anew"
    );
    assert_eq!(spool.delete(Selection::All).await.unwrap(), 0);
    spool.release(vec![(first, "".into()), (second, "a".into())]);
    assert_eq!(spool.delete(Selection::Ids(vec![first])).await.unwrap(), 1);
    assert!(spool.delete(Selection::Ids(vec![first])).await.is_err());
}

#[tokio::test]
async fn only_one_opens_it_and_strays_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    assert!(matches!(
        open(settings(folder.path())),
        Err(SpoolError::InUse { .. })
    ));
    let mut writer = spool.writer(spool.next_id(NOW));
    writer.write(vec![b'x'; 300 * 1024]).await.unwrap();
    let kept = writer.finish().await.unwrap();
    let mut message = new(&spool, "a", "");
    message.record.size = kept.size();
    let id = message.record.id;
    // The content carries its own name; the row must carry the same.
    let mut writer = spool.writer(id);
    writer.write(vec![b'y'; 300 * 1024]).await.unwrap();
    message.content = writer.finish().await.unwrap();
    spool.put(vec![message]).await.unwrap();
    std::mem::forget(kept);
    drop(spool);
    let spool = open(settings(folder.path())).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path().join("content"))
            .unwrap()
            .count(),
        1
    );
    assert_eq!(spool.content(id).await.unwrap().size(), 300 * 1024);
    spool.claim("a", 9, NOW, UNTIL).await.unwrap();
    spool
        .finish(
            [Finish {
                id,
                fate: Fate::Gone,
                report: None,
            }]
            .into(),
        )
        .await
        .unwrap();
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
    let full = Settings {
        folder: folder.path().to_owned(),
        reserve: u64::MAX,
    };
    let spool = open(full).unwrap();
    assert!(!spool.has_room());
    assert!(
        spool
            .put(vec![new(&spool, "a", "x")])
            .await
            .unwrap_err()
            .is_full()
    );
    assert_eq!(claim(&spool, "a", 9, NOW).await, [id]);
    spool
        .finish(
            [Finish {
                id,
                fate: Fate::Gone,
                report: None,
            }]
            .into(),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn messages_of_lanes_that_are_no_more_are_routed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(settings(folder.path())).unwrap();
    let message = new(&spool, "old", "x");
    let id = message.record.id;
    spool.put(vec![message]).await.unwrap();
    spool.release(
        spool
            .fresh(9)
            .iter()
            .map(|m| (m.record.id, m.record.lane.clone()))
            .collect(),
    );
    spool.reroute(vec!["new".into()]).await.unwrap();
    assert_eq!(claim(&spool, "", 9, NOW).await, [id]);
    assert_eq!(spool.get(id).await.unwrap().record.lane, "");
}
