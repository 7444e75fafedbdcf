//! Servers with a `to_filter`, and messages whose recipients take different routes.

use crate::support::{Lab, Plan, SERVER, USUAL, id_of};

const INTERNAL: &str = "internal@example.com";
const USUALLY: &str = "notifications@example.com";

/// Two servers for one sender: one for recipients in example.com, and one for all others.
fn configuration() -> String {
    let internal = SERVER
        .replace("name = \"notifications\"", "name = \"internal\"")
        .replace(
            "username = \"notifications@example.com\"",
            "username = \"internal@example.com\"",
        )
        .replace(
            "from_filter = \"notifications@example.com\"",
            "from_filter = \"notifications@example.com\"\nto_filter = \"example.com\"",
        );
    USUAL.to_owned() + &internal + SERVER
}

fn lab(configuration: &str) -> Lab {
    Lab::with(Plan {
        configuration: configuration.to_owned(),
        mailboxes: vec![INTERNAL, USUALLY],
        send_as: vec![USUALLY],
        ..Plan::default()
    })
}

const MESSAGE: &str = "From: notifications@example.com\r\nSubject: Hello\r\n\r\nHello\r\n";

#[test]
fn a_message_is_split_by_recipients_and_has_one_story() {
    let lab = lab(&configuration());
    lab.stdout(&["hold", "internal", "--reason", "a test"]);
    let mut client = lab.client();
    let to = [
        "ann@example.com",
        "jo@elsewhere.org",
        "bob@example.com",
        "mo@elsewhere.org",
    ];
    let id = id_of(&client.send(USUALLY, &to, MESSAGE));
    // The hold of one server does not delay the other recipients.
    let first = lab.delivered(1);
    assert_eq!(first[0].mailbox, USUALLY);
    assert_eq!(
        first[0].recipients,
        ["jo@elsewhere.org", "mo@elsewhere.org"]
    );
    let story = lab.wait_for("the story", || {
        let story = lab.stdout(&["trace", &id]);
        story
            .contains("delivered by notifications")
            .then_some(story)
    });
    for part in [
        "to jo@elsewhere.org, mo@elsewhere.org: through notifications, as ",
        "to ann@example.com, bob@example.com: server internal is held",
        "a test",
    ] {
        assert!(story.contains(part), "no {part:?} in:\n{story}");
    }
    lab.stdout(&["release", "internal"]);
    let both = lab.delivered(2);
    assert_eq!(both[1].mailbox, INTERNAL);
    assert_eq!(both[1].recipients, ["ann@example.com", "bob@example.com"]);
    let message_id = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("Message-ID:"));
        line.expect("a Message-ID").to_owned()
    };
    assert_eq!(message_id(&both[0].text), message_id(&both[1].text));
    lab.empties();
    let story: serde_json::Value =
        serde_json::from_str(lab.stdout(&["trace", &id, "--json"]).trim()).expect("JSON");
    let events = story["events"].as_array().expect("events");
    let delivered = events.iter().filter(|it| it["event"] == "delivered");
    assert_eq!(delivered.count(), 2, "{story}");
    assert!(!story["ended"].is_null(), "{story}");
    // The id of the part shows the same story.
    let split = events.iter().find(|it| it["event"] == "split");
    let part = split.expect("a split")["part"]
        .as_str()
        .expect("an id")
        .to_owned();
    let of_part: serde_json::Value =
        serde_json::from_str(lab.stdout(&["trace", &part, "--json"]).trim()).expect("JSON");
    assert_eq!(of_part["record"]["id"], id.as_str());
    assert_eq!(of_part["events"], story["events"]);
    // A report counts one message, and all of its recipients.
    let report = lab.stdout(&["report", "--json"]);
    let report: serde_json::Value = serde_json::from_str(report.trim()).expect("JSON");
    let counted = [&report["accepted"], &report["total"]["delivered"]];
    assert_eq!(counted, [1, 4], "{report}");
}

#[test]
fn a_large_message_is_split_too() {
    let lab = lab(&configuration());
    let mut client = lab.client();
    let body = format!("{}\r\n", "0123456789".repeat(7)).repeat(30_000);
    let to = ["ann@example.com", "jo@elsewhere.org"];
    id_of(&client.send(USUALLY, &to, &format!("{MESSAGE}{body}")));
    for message in lab.delivered(2) {
        assert!(
            message.text.trim_end().ends_with(body.trim_end()),
            "{} octets",
            message.text.len()
        );
        assert_eq!(message.recipients.len(), 1);
    }
    lab.empties();
}

#[test]
fn a_recipient_that_no_server_takes_is_refused_before_the_message() {
    // Only the server for internal recipients is left.
    let configuration = configuration();
    let end = configuration
        .find("\n[[server]]\nname = \"notifications\"")
        .expect("the server");
    let lab = lab(&configuration[..end]);
    let mut client = lab.client();
    client.expect(&format!("MAIL FROM:<{USUALLY}>"), "250");
    client.expect("RCPT TO:<ann@example.com>", "250");
    let refused = client.expect("RCPT TO:<jo@elsewhere.org>", "550 5.7.1");
    assert!(
        refused.contains("<jo@elsewhere.org>") && refused.contains("to_filter"),
        "{refused}"
    );
    client.expect("RSET", "250");
    // The sender is admitted only for other recipients: that is known only with the header.
    client.expect("MAIL FROM:<erp@else.org>", "250");
    client.expect("RCPT TO:<ann@example.com>", "250");
    let asked = lab.stdout(&["route", "--from", USUALLY, "--to", "ann@example.com"]);
    assert!(asked.contains("internal"), "{asked}");
    let asked = lab.run(&["route", "--from", USUALLY, "--to", "jo@elsewhere.org"]);
    assert_eq!(asked.status.code(), Some(1));
}

#[test]
fn a_new_to_filter_splits_what_is_queued() {
    let lab = lab(&(USUAL.to_owned() + SERVER));
    lab.stdout(&["hold", "notifications"]);
    let mut client = lab.client();
    let id = id_of(&client.send(USUALLY, &["ann@example.com", "jo@elsewhere.org"], MESSAGE));
    lab.configure(&configuration());
    lab.stdout(&["reload"]);
    lab.stdout(&["release", "notifications"]);
    let mut mailboxes: Vec<String> = lab.delivered(2).into_iter().map(|it| it.mailbox).collect();
    mailboxes.sort();
    assert_eq!(mailboxes, [INTERNAL, USUALLY]);
    lab.empties();
    let story = lab.stdout(&["trace", &id]);
    assert!(
        story.contains("delivered by internal") && story.contains("delivered by notifications"),
        "{story}"
    );
}

/// High Volume Email: internal mail of a user goes through its account, rewritten to it.
#[test]
fn high_volume_email_gets_only_what_it_accepts() {
    let account = SERVER
        .replace(
            "name = \"notifications\"",
            "name = \"volume\"\npreset = \"high_volume_email\"",
        )
        .replace(
            "username = \"notifications@example.com\"",
            "username = \"internal@example.com\"",
        )
        .replace(
            "from_filter = \"notifications@example.com\"",
            "to_filter = \"example.com\"\nmessage_size = 2000",
        );
    let configuration = USUAL.replace(
        "default_from = \"notifications@example.com\"",
        "default_from = \"internal@example.com\"\non_mismatch = \"keep\"",
    ) + &account
        + SERVER;
    let lab = lab(&configuration);
    let mut client = lab.client();
    let from = "From: Jo <jo@erp.test>\r\nSubject: Hello\r\n\r\n";
    id_of(&client.send(
        "jo@erp.test",
        &["ann@example.com"],
        &format!("{from}Hello\r\n"),
    ));
    let delivered = lab.delivered(1).remove(0);
    assert_eq!(
        (delivered.mailbox.as_str(), delivered.sender.as_str()),
        (INTERNAL, INTERNAL)
    );
    assert!(
        delivered
            .text
            .contains("From: \"Jo\" <internal@example.com>"),
        "{}",
        delivered.text
    );
    // The account takes no other sender, not even the null sender.
    id_of(&client.send("", &["ann@example.com"], &format!("{from}Hello\r\n")));
    assert_eq!(lab.delivered(2)[1].sender, INTERNAL);
    let large = format!("{from}{}", "0123456789\r\n".repeat(200));
    client.expect("MAIL FROM:<jo@erp.test>", "250");
    client.expect("RCPT TO:<ann@example.com>", "250");
    client.expect("DATA", "354");
    client.raw(large.as_bytes());
    let said = client.expect(".", "552 5.3.4");
    assert!(said.contains("server volume takes 2000 octets"), "{said}");
    lab.empties();
}
