//! What delivery may rely on.

use super::*;

contract!(
    what_was_put_is_offered_fresh_and_after_a_crash_is_due,
    lanes_are_apart_and_due_times_are_kept,
    a_report_comes_with_the_end_of_its_message,
    a_digest_stays_for_the_lines_that_came_while_it_was_sent,
    a_claim_whose_time_has_ended_decides_nothing_once_another_has_the_message,
    messages_of_lanes_that_are_no_more_are_routed_anew,
    recipients_have_their_own_state,
    late_messages_are_listed_page_by_page,
);

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
