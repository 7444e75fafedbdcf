//! A server that signs in as each sender: `username = "{from}"`.

use crate::support::{Lab, Plan, SERVER, USUAL, id_of};

const MAILBOXES: [&str; 3] = [
    "notifications@example.com",
    "ann@example.com",
    "bob@example.com",
];

fn configuration() -> String {
    let server = SERVER
        .replace("name = \"notifications\"", "name = \"staff\"")
        .replace(
            "username = \"notifications@example.com\"",
            "username = \"{from}\"",
        )
        .replace(
            "from_filter = \"notifications@example.com\"",
            "from_filter = \"example.com\"",
        )
        .replace("messages_per_minute = 0", "messages_per_minute = 10")
        .replace("recipients_per_day = 0", "recipients_per_day = 1000");
    USUAL.to_owned() + &server
}

fn lab() -> Lab {
    Lab::with(Plan {
        configuration: configuration(),
        mailboxes: MAILBOXES.to_vec(),
        ..Plan::default()
    })
}

fn from(sender: &str) -> String {
    format!("From: {sender}\r\nSubject: Hello\r\n\r\nHello\r\n")
}

/// Returns what `servers --json` prints of each server with a name that begins like this.
fn rows(lab: &Lab, prefix: &str) -> Vec<serde_json::Value> {
    let listed = lab.stdout(&["servers", "--json"]);
    let rows = listed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    rows.filter(|row| row["name"].as_str().unwrap_or_default().starts_with(prefix))
        .collect()
}

#[test]
fn each_sender_has_a_mailbox_of_its_own() {
    let mut lab = lab();
    let mut client = lab.client();
    let ways = [
        ("ann@example.com", "Ann <Ann@example.com>"),
        ("bounce@example.com", "bob@example.com"),
        ("jo@elsewhere.org", "Jo <jo@elsewhere.org>"),
    ];
    for (sender, author) in ways {
        id_of(&client.send(sender, &["to@b.c"], &from(author)));
    }
    let mut delivered: Vec<(String, String)> = lab
        .delivered(3)
        .into_iter()
        .map(|message| (message.mailbox, message.sender.to_lowercase()))
        .collect();
    delivered.sort();
    let mut expected = MAILBOXES.map(|mailbox| (mailbox.to_owned(), mailbox.to_owned()));
    expected.sort();
    assert_eq!(delivered, expected);
    lab.empties();
    // One app-only token serves all of them.
    assert_eq!(lab.state().stats().token_requests, 1);
    let used = rows(&lab, "staff/");
    assert_eq!(used.len(), 3, "{used:?}");
    assert!(used.iter().all(|row| row["recipients_of_day"] == 1));

    // What a mailbox has used survives a restart and a reload.
    lab.stop();
    lab.start();
    let mut client = lab.client();
    id_of(&client.send("ann@example.com", &["to@b.c"], &from("ann@example.com")));
    lab.empties();
    lab.stdout(&["reload"]);
    let ann = rows(&lab, "staff/ann");
    assert_eq!(ann[0]["recipients_of_day"], 2, "{ann:?}");
}

#[test]
fn a_mailbox_is_held_alone() {
    let lab = lab();
    let refused = lab.run(&["hold", "staff"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("name the mailbox"));
    lab.stdout(&["hold", "staff/ann@example.com", "--reason", "she is away"]);
    let mut client = lab.client();
    let held = id_of(&client.send("ann@example.com", &["to@b.c"], &from("ann@example.com")));
    id_of(&client.send("bob@example.com", &["to@b.c"], &from("bob@example.com")));
    assert_eq!(lab.delivered(1)[0].mailbox, "bob@example.com");
    let shown = lab.stdout(&["queue", "show", &held]);
    assert!(shown.contains("she is away"), "{shown}");
    lab.stdout(&["reload"]);
    let status = lab.run(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("staff/ann@example.com") && status.contains("she is away"),
        "{status}"
    );
    lab.stdout(&["release", "staff/ann@example.com"]);
    lab.delivered(2);
    lab.empties();
}

#[test]
fn a_mailbox_that_does_not_exist_stops_only_its_own_mail() {
    let lab = lab();
    let mut client = lab.client();
    id_of(&client.send(
        "nobody@example.com",
        &["to@b.c"],
        &from("nobody@example.com"),
    ));
    lab.logged(&["staff/nobody@example.com", "server_held"]);
    id_of(&client.send("ann@example.com", &["to@b.c"], &from("ann@example.com")));
    assert_eq!(lab.delivered(1)[0].mailbox, "ann@example.com");
    let tested = lab.stdout(&["test", "staff", "--to", "to@b.c"]);
    assert!(tested.contains("to to@b.c: 250"), "{tested}");
    let tested = lab.run(&["test", "staff/nobody@example.com"]);
    assert!(String::from_utf8_lossy(&tested.stdout).contains("FAILED"));
    // Another filter does not admit the mailbox any more: its mail is routed again.
    let narrower = configuration().replace(
        "\"example.com\"",
        "\"ann@example.com, notifications@example.com\"",
    );
    lab.configure(&narrower);
    lab.stdout(&["reload"]);
    assert_eq!(lab.delivered(3)[2].mailbox, "notifications@example.com");
    lab.empties();
}
