//! What those who bring messages may rely on.

use super::*;

contract!(
    any_text_comes_back,
    what_is_put_together_is_accepted_together,
    a_message_whose_id_is_taken_is_refused,
    a_large_content_arrives_and_leaves_in_pieces,
    a_content_that_is_not_accepted_leaves_nothing,
);

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
