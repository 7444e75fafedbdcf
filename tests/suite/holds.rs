//! Holds of mailboxes: their causes, the servers that they stop, and the order of messages afterwards.

use crate::support::{Lab, Plan, SERVER, USUAL, admitted, id_of};

const BLOCKED: &str = "550 5.2.251 Sender throttled due to continuous errors";

/// Returns the usual server's table, with this name, this sender in its filter, and this mailbox.
fn server(name: &str, sender: &str, mailbox: &str) -> String {
    SERVER
        .replace("name = \"notifications\"", &format!("name = \"{name}\""))
        .replace(
            "username = \"notifications@example.com\"",
            &format!("username = \"{mailbox}\""),
        )
        .replace(
            "from_filter = \"notifications@example.com\"",
            &format!("from_filter = \"{sender}\""),
        )
}

fn from(sender: &str, subject: &str) -> String {
    format!("From: {sender}\r\nSubject: {subject}\r\n\r\nHello\r\n")
}

/// Starts a laboratory with these servers and mailboxes.
fn lab(servers: &[String], mailboxes: &[&'static str], send_as: &[&'static str]) -> Lab {
    Lab::with(Plan {
        configuration: USUAL.to_owned() + &servers.concat(),
        mailboxes: mailboxes.to_vec(),
        send_as: send_as.to_vec(),
        ..Plan::default()
    })
}

/// Adds a lasting fault at the final dot for this mailbox.
fn block(lab: &Lab, mailbox: &str) {
    lab.fault(&format!(
        r#"{{"stage":"final_dot","action":{{"reply":"{BLOCKED}"}},"matches":"{mailbox}","times":1000000}}"#
    ));
}

/// Returns the server's hold, as `servers --json` prints it.
fn hold_of(lab: &Lab, server: &str) -> serde_json::Value {
    let listed = lab.stdout(&["servers", "--json"]);
    let mut states = listed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let state = states.find(|state| state["name"] == server);
    state.expect("the server")["hold"].clone()
}

#[test]
fn a_hold_stops_every_server_of_the_mailbox() {
    const WAITING: usize = 60;
    let mailbox = "notifications@example.com";
    let names = ["a", "b", "c", "d", "e"];
    let send_as = [
        "a@example.com",
        "b@example.com",
        "c@example.com",
        "d@example.com",
        "e@example.com",
    ];
    // One server spells the name of the host differently.
    let mut servers: Vec<String> = names
        .iter()
        .zip(send_as)
        .map(|(name, sender)| server(name, sender, mailbox))
        .collect();
    servers[1] = servers[1].replace("host = \"localhost\"", "host = \"LOCALHOST\"");
    let lab = lab(&servers, &[mailbox], &send_as);
    for name in names {
        lab.stdout(&["hold", name]);
    }
    let mut client = lab.client();
    for number in 0..WAITING {
        for sender in send_as {
            id_of(&client.send(sender, &["to@b.c"], &from(sender, &number.to_string())));
        }
    }
    block(&lab, mailbox);
    lab.stdout(&["release", "a"]);
    lab.logged(&["event=\"server_held\"", "5.2.251"]);
    // The hold lasts for hours: once no message is being sent, no further message will be sent.
    lab.wait_for("quiet", || {
        let list = lab.stdout(&["queue", "list", "--state", "active"]);
        list.starts_with("0 found\n").then_some(())
    });
    let contents = lab.state().stats().contents;
    assert!(
        (1..=3).contains(&contents),
        "{contents} reached the blocked mailbox"
    );
}

#[test]
fn a_message_that_gets_its_mailbox_held_lets_others_go_first_and_is_set_aside() {
    let lab = Lab::new();
    lab.fault(&format!(
        r#"{{"stage":"rcpt","action":{{"reply":"{BLOCKED}"}},"matches":"poison@","times":1000000}}"#
    ));
    let sender = "notifications@example.com";
    let poison = id_of(
        &lab.client()
            .send(sender, &["poison@b.c"], &admitted("poison")),
    );
    lab.logged(&["event=\"server_held\"", "5.2.251"]);
    for subject in ["good one", "good two"] {
        id_of(&lab.send(sender, &admitted(subject)));
    }
    lab.stdout(&["release", "notifications"]);
    let delivered = lab.delivered(2);
    assert!(delivered.iter().all(|it| it.text.contains("Subject: good")));
    lab.logged(&["event=\"server_released\""]);
    let show = lab.stdout(&["queue", "show", &poison]);
    assert!(show.contains("5.2.251"), "{show}");
    lab.stdout(&["queue", "retry", &poison]);
    lab.logged(&["event=\"held\"", &poison, "set aside"]);
    let list = lab.stdout(&["queue", "list", "--state", "held"]);
    assert!(list.contains(&poison), "{list}");
}

#[test]
fn what_mends_one_server_does_not_release_another() {
    let (a, b) = ("a@example.com", "b@example.com");
    let lab = lab(&[server("a", a, a), server("b", b, b)], &[a, b], &[]);
    block(&lab, b);
    id_of(&lab.send(b, &from(b, "blocked")));
    lab.logged(&["event=\"server_held\"", "5.2.251"]);
    let contents = lab.state().stats().contents;
    let held = hold_of(&lab, "b");
    lab.stdout(&["test", "a"]);
    lab.stdout(&["hold", "a"]);
    let waiting = id_of(&lab.send(a, &from(a, "waits")));
    lab.stdout(&["queue", "retry", &waiting]);
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
    assert_eq!(hold_of(&lab, "b"), held);
    assert_eq!(lab.state().stats().contents, contents);
    lab.state().script.clear();
    lab.stdout(&["release", "b"]);
    assert!(lab.delivered(1)[0].text.contains("Subject: blocked"));
}

#[test]
fn a_server_whose_settings_changed_is_tried_at_once() {
    let mailbox = "notifications@example.com";
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned()
            + &SERVER.replace(
                "username = \"notifications@example.com\"",
                "username = \"nobody@example.com\"",
            ),
        ..Plan::default()
    });
    id_of(&lab.send(mailbox, &admitted("wrong mailbox")));
    lab.logged(&["event=\"server_held\"", "535 5.7.3"]);
    lab.configure(&(USUAL.to_owned() + SERVER));
    lab.signal("HUP");
    lab.delivered(1);
}

#[test]
fn mail_of_a_held_server_that_is_removed_waits_for_a_person() {
    let (jane, other) = ("jane@example.com", "notifications@example.com");
    let servers = [server("jane", jane, jane), SERVER.to_owned()];
    let lab = lab(&servers, &[jane, other], &[]);
    lab.stdout(&["hold", "jane", "--reason", "on leave"]);
    let held = id_of(&lab.send(jane, &from(jane, "private")));
    lab.configure(&(USUAL.to_owned() + SERVER));
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
    let list = lab.wait_for("a held message", || {
        let list = lab.stdout(&["queue", "list", "--state", "held"]);
        list.contains(&held).then_some(list)
    });
    let show = lab.stdout(&["queue", "show", &held]);
    let expected = "server jane is no longer configured";
    assert!(
        show.contains(expected) && show.contains("on leave"),
        "{show}{list}"
    );
    assert_eq!(lab.state().stats().messages, 0);
    // A person decides to release it.
    lab.stdout(&["queue", "release", &held]);
    assert!(lab.delivered(1)[0].text.contains("Subject: private"));
}

#[test]
fn mail_of_a_removed_server_is_told_where_it_goes() {
    let (jane, other) = ("jane@example.com", "notifications@example.com");
    let servers = [server("jane", jane, jane), SERVER.to_owned()];
    let lab = lab(&servers, &[jane, other], &[]);
    lab.fault(r#"{"stage":"auth","action":{"reply":"535 5.7.139 no"},"times":1000000}"#);
    let id = id_of(&lab.send(jane, &from(jane, "moved")));
    lab.logged(&["event=\"server_held\"", "jane"]);
    lab.state().script.clear();
    lab.configure(&(USUAL.to_owned() + SERVER));
    lab.signal("HUP");
    lab.delivered(1);
    lab.logged(&["event=\"rerouted\"", &id, "jane", "notifications"]);
}
