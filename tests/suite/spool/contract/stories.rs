//! Stories, usage and notes.

use super::*;

contract!(
    a_story_outlives_its_message_for_as_long_as_it_is_to,
    what_a_mailbox_used_and_what_is_noted_survive,
    stories_are_found_at_once_and_after_every_kind_of_end,
    without_a_history_a_message_is_found_only_while_it_waits,
);

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
