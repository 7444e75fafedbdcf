//! Several nodes on one database, and a database that is away.

use std::time::Duration;

use mailferry::base::Clock;
use mailferry::spool::postgres::PostgresSettings;
use mailferry::spool::{
    Contents, Fate, Finish, Intake, Manage, Notes, Permission, PostgresSpool, Quota, SpoolError,
    Stories, Upkeep, Work,
};

use super::contract::{
    HOUR, NOW, UNTIL, claim_soon, fresh, given_back, gone, is_gone, new, place, put,
};
use super::engine::identity;
use super::{Engine, Postgres};
use crate::support::postgresql::{Postgresql, client};

/// Two nodes on a database of their own.
async fn two(test: &str) -> Option<(Postgres, PostgresSpool, PostgresSpool)> {
    let engine = Postgres::new(test).await?;
    let one = engine.node(HOUR, "one").await;
    let other = engine.node(HOUR, "other").await;
    Some((engine, one, other))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_puts_another_may_send() {
    let Some((_, one, other)) = two("nodes share").await else {
        return;
    };
    let id = put(&one, new(&one, "a", "hello")).await;
    let claimed = fresh(&one).await;
    assert!(fresh(&other).await.is_empty());
    assert!(claimed_now(&other).await.is_empty(), "it is claimed");
    one.release(given_back(&claimed));
    // The other node hears of it.
    while !other
        .waiting()
        .await
        .unwrap()
        .iter()
        .any(|(its, _)| *its == place("a"))
    {
        other.changed().await;
    }
    let claimed = claim_soon(&other, "a", 1, NOW).await.remove(0);
    assert_eq!(claimed.record.id, id);
    assert!(!claimed.may_have_arrived);
    assert!(other.content(id).await.is_ok());
    assert_eq!(
        other.sending(claimed.claim, None, NOW).await.unwrap(),
        Permission::Granted
    );
    let lease = one.get(id).await.unwrap().lease.expect("it is being sent");
    assert!(lease.owner.to_string().starts_with("other/"));
    assert!(
        other
            .finish([gone(claimed)].into())
            .await
            .unwrap()
            .is_empty()
    );
    assert!(is_gone(&one, id).await);
}

async fn claimed_now(spool: &PostgresSpool) -> Vec<mailferry::spool::Claimed> {
    let which = mailferry::spool::ClaimFrom::DueIn(place("a"));
    spool.claim(which, 9, NOW, UNTIL).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_a_dead_node_may_have_arrived_only_if_it_was_being_sent() {
    let Some((engine, one, other)) = two("nodes bury").await else {
        return;
    };
    let (sent, waited) = (new(&one, "a", "x"), new(&one, "a", "y"));
    let (sent, waited) = (put(&one, sent).await, put(&one, waited).await);
    let mut claimed = fresh(&one).await;
    assert_eq!(
        one.sending(claimed[0].claim, None, NOW).await.unwrap(),
        Permission::Granted
    );
    engine.bury().await;
    let mut taken = claim_soon(&other, "a", 2, NOW).await;
    taken.sort_by_key(|it| it.record.id);
    let known: Vec<_> = taken
        .iter()
        .map(|it| (it.record.id, it.may_have_arrived))
        .collect();
    assert_eq!(known, [(sent, true), (waited, false)]);
    // The first node was only asleep. It cannot decide about the message any more.
    let lost = claimed[0].claim;
    assert_eq!(
        one.sending(claimed[1].claim, None, NOW).await.unwrap(),
        Permission::Lost
    );
    assert_eq!(
        one.finish([gone(claimed.remove(0))].into()).await.unwrap(),
        [lost]
    );
    assert!(!is_gone(&one, sent).await);
    let first = taken.remove(0);
    let later = Finish::new(first.claim, Fate::Held(Box::new(first.record)));
    assert!(other.finish([later].into()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fate_counts_if_nobody_has_claimed_the_message_meanwhile() {
    let Some((engine, one, _other)) = two("nodes late fate").await else {
        return;
    };
    let id = put(&one, new(&one, "a", "x")).await;
    let claimed = fresh(&one).await.remove(0);
    assert_eq!(
        one.sending(claimed.claim, None, NOW).await.unwrap(),
        Permission::Granted
    );
    engine.bury().await;
    assert!(one.finish([gone(claimed)].into()).await.unwrap().is_empty());
    assert!(is_gone(&one, id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_taken_for_dead_accepts_nothing_until_it_has_joined_again() {
    let Some((engine, one, other)) = two("nodes join again").await else {
        return;
    };
    engine.bury().await;
    let refused = one.put(vec![new(&one, "a", "x")]).await;
    assert!(matches!(refused, Err(SpoolError::TakenOver)), "{refused:?}");
    let message = new(&one, "a", "x");
    let id = message.record.id;
    while let Err(error) = one.put(vec![message.clone()]).await {
        assert!(matches!(error, SpoolError::TakenOver), "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(fresh(&one).await[0].record.id, id);
    assert_ne!(
        one.next_id(NOW).to_i64() & 0xff000,
        other.next_id(NOW).to_i64() & 0xff000
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_gives_its_messages_to_the_others() {
    let Some((_, one, other)) = two("nodes leave").await else {
        return;
    };
    let id = put(&one, new(&one, "a", "x")).await;
    let claimed = fresh(&one).await.remove(0);
    one.leave().await.unwrap();
    let taken = claim_soon(&other, "a", 1, NOW).await.remove(0);
    assert_eq!((taken.record.id, taken.may_have_arrived), (id, false));
    assert!(taken.claim.number > claimed.claim.number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_that_another_has_written_or_removed_a_note() {
    for value in [Some("why".to_owned()), None] {
        let Some((_, one, other)) = two("nodes note").await else {
            return;
        };
        // It may not listen yet.
        let noting = async {
            loop {
                one.note("hold/m", value.clone()).await.unwrap();
            }
        };
        tokio::select! {
            () = other.noted() => {}
            () = noting => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_was_under_way_does_not_bring_back_a_node_that_has_left() {
    let Some(engine) = Postgres::new("nodes stay away").await else {
        return;
    };
    engine.node(HOUR, "first").await.leave().await.unwrap();
    let database = client(&engine.url).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END';
        CREATE TRIGGER slow BEFORE UPDATE ON node EXECUTE FUNCTION slow()";
    database.batch_execute(slow).await.unwrap();
    let count = async |sql: &str| database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let heartbeats = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let node = engine.node(HOUR, "relay").await;
    while count(heartbeats).await == 0 {
        tokio::task::yield_now().await;
    }
    node.leave().await.unwrap();
    while count(heartbeats).await > 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        assert_eq!(count("SELECT count(*) FROM node").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_nothing_is_accepted_and_fates_wait() {
    let Some(server) = Postgresql::start("database away", "") else {
        return;
    };
    let settings = PostgresSettings {
        url: server.database().await,
        password: None,
        ca: None,
    };
    let spool = PostgresSpool::open(&settings, HOUR, identity("relay"), Clock::default())
        .await
        .unwrap();
    let id = put(&spool, new(&spool, "a", "x")).await;
    let mut claimed = fresh(&spool).await.remove(0);
    claimed.record.message_id = Some("<1@app.example>".into());
    let event = super::contract::delivered("one@x.com", NOW);
    let batch = std::sync::Arc::from([Finish {
        events: vec![event],
        ..gone(claimed)
    }]);
    for signal in ["INT", "KILL"] {
        server.stop(signal);
        let refused = new(&spool, "a", "y");
        let refused_id = refused.record.id;
        let put_away = tokio::time::timeout(Duration::from_secs(30), spool.put(vec![refused]));
        let put_away = put_away.await.expect("an answer");
        assert!(
            matches!(put_away, Err(SpoolError::Away { .. })),
            "{put_away:?}"
        );
        let away = spool.finish(std::sync::Arc::clone(&batch)).await;
        assert!(matches!(away, Err(SpoolError::Away { .. })), "{away:?}");
        server.run();
        // What was refused is not there afterwards either.
        while !matches!(spool.get(refused_id).await, Err(SpoolError::Missing(_))) {
            tokio::task::yield_now().await;
        }
    }
    let lost = loop {
        match spool.finish(std::sync::Arc::clone(&batch)).await {
            Ok(lost) => break lost,
            Err(error) => assert!(matches!(error, SpoolError::Away { .. }), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert!(lost.is_empty());
    assert_eq!(spool.story(id).await.unwrap().events.len(), 1);
    assert!(is_gone(&spool, id).await);
    put(&spool, new(&spool, "a", "z")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_has_a_version_that_other_nodes_can_ask_for() {
    let Some((_, one, other)) = two("nodes version").await else {
        return;
    };
    let [one, other] = [one, other].map(|node| node.secrets().expect("nodes keep secrets"));
    assert_eq!(one.store("a", None, vec![1]).await, Ok(Some(1)));
    assert_eq!(one.store("a", Some(1), vec![2]).await, Ok(Some(2)));
    assert_eq!(other.recent_version("a").await, Ok(Some(2)));
    assert_eq!(other.recent_version("b").await, Ok(None));
}

fn quota(most: u64, amount: u64) -> Quota {
    Quota {
        name: format!("User erp/{most}"),
        period: Duration::from_secs(3_600),
        most,
        amount,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_a_user_holds_over_all_nodes() {
    let Some((_, one, other)) = two("nodes share limits").await else {
        return;
    };
    // Each node takes some of 600 in advance, and together they take no more.
    let mut granted = 0;
    for number in 0..700 {
        let node = if number % 3 == 0 { &one } else { &other };
        let taken = node.take(&[quota(600, 1)]).await.unwrap();
        granted += u64::from(taken.is_ok());
    }
    // What a node has taken in advance is not free for the other one.
    assert!((590..=600).contains(&granted), "{granted}");
    // All or none, and the refusal names the limit.
    let both = [quota(5, 3), quota(600, 1)];
    let (place, wait) = other.take(&both).await.unwrap().unwrap_err();
    assert_eq!(place, 1);
    assert!(wait > Duration::from_secs(3_500), "{wait:?}");
    for node in [&one, &other] {
        assert_eq!(node.take(&[quota(5, 2)]).await.unwrap(), Ok(()));
    }
    assert!(one.take(&[quota(5, 2)]).await.unwrap().is_err());
    // A node that leaves gives back what it has not used.
    for _ in 0..8 {
        assert_eq!(one.take(&[quota(6_000, 1)]).await.unwrap(), Ok(()));
    }
    one.leave().await.unwrap();
    assert_eq!(other.take(&[quota(6_000, 5_992)]).await.unwrap(), Ok(()));
    other.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_format_is_converted_and_a_later_one_is_refused_unless_it_can_be_used() {
    let Some(engine) = Postgres::new("formats").await else {
        return;
    };
    let database = client(&engine.database().url).await;
    let run = async |sql: &str| database.batch_execute(sql).await.expect("runs");
    let format = async || {
        let sql = "SELECT version, oldest FROM format";
        let row = database.query_one(sql, &[]).await.expect("reads");
        (row.get::<_, i32>(0), row.get::<_, i32>(1))
    };
    engine.node(HOUR, "one").await.leave().await.unwrap();
    let present = format().await;
    run("DROP TABLE quota; UPDATE format SET version = 1").await;
    let node = engine.node(HOUR, "one").await;
    assert_eq!(node.take(&[quota(5, 2)]).await.unwrap(), Ok(()));
    assert_eq!(format().await, present);
    node.leave().await.unwrap();
    run("UPDATE format SET version = 99").await;
    engine.node(HOUR, "one").await.leave().await.unwrap();
    assert_eq!(format().await, (99, present.1));
    run("UPDATE format SET oldest = 98").await;
    let opened =
        PostgresSpool::open(&engine.database(), HOUR, identity("one"), Clock::default()).await;
    assert!(matches!(
        opened.err(),
        Some(SpoolError::Newer { found: 99, .. })
    ));
}
