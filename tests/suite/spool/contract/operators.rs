//! What operators may rely on.

use super::*;

contract!(
    the_operator_reaches_what_is_not_under_way,
    flows_are_apart_and_operators_find_what_they_mean,
    counts_are_right_whatever_happens_to_messages,
    a_person_who_changes_many_messages_learns_how_many_so_far,
);

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
