//! A header section: its fields have no gap between them, and after rewriting it has exactly one author.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::base::{MessageId, Timestamp};
use mailferry::message::{
    Address, Author, Envelope, Headers, Mailbox, Parameters, ReplyTo, ReversePath, Rewriting,
    Shown, Trace, rewrite,
};
use mailferry::smtp::data::Decoder;

fuzz_target!(|input: &[u8]| {
    // The decoder has processed all input that gets here: line ends are CRLF.
    let mut message = Vec::new();
    Decoder::default().decode(input, &mut message);
    let headers = Headers::parse(&message);
    // The first line may be the `From ` line of an mbox file, before the first field.
    let mut at = headers
        .fields
        .first()
        .map_or(headers.end, |field| field.whole.start);
    for field in &headers.fields {
        assert_eq!(field.whole.start, at);
        assert!(field.name.end <= field.value.start && field.value.end <= field.whole.end);
        at = field.whole.end;
    }
    assert_eq!(headers.end, at);
    assert!(at <= headers.body && headers.body <= message.len());
    let _ = headers.author();
    let address = Address::parse("n@example.com").expect("an address");
    let name = headers.author().mailbox().map(|author| author.to_string());
    let plan = Rewriting {
        envelope_sender: ReversePath::Null,
        from: Some(Mailbox::new(name.as_deref(), address.clone())),
        is_for_another: true,
        reply_to: Some(ReplyTo::AsItCame),
    };
    let envelope = Envelope {
        sender: ReversePath::Null,
        parameters: Parameters::default(),
        recipients: Vec::new(),
    };
    let trace = Trace {
        id: MessageId::from_i64(1),
        message_id: None,
        received: Timestamp(0),
        helo: "h",
        peer: "127.0.0.1",
        protocol: "ESMTP",
        host: "relay.example",
        shown: Shown::Full,
    };
    let composed = rewrite::compose(&headers, &envelope, &plan, &trace);
    let again = Headers::parse(&composed.head);
    assert_eq!(again.body, composed.head.len());
    match again.author() {
        Author::One(author) => assert_eq!(author.address, address),
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(&composed.head)),
    }
});
