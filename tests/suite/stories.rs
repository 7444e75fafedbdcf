//! The stories of messages, while they wait and afterwards, and the commands for the queue.

use serde_json::Value;

use crate::support::{Lab, Plan, SERVER, USUAL, admitted, id_of};

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_message_is_traced_from_its_first_attempt_to_long_after() {
    let mut lab = Lab::new();
    lab.fault(r#"{"stage":"mail","action":{"reply":"451 4.3.2 later"}}"#);
    let id = id_of(&lab.send("notifications@example.com", &admitted("story")));
    lab.delivered(1);
    lab.empties();
    let check = |lab: &Lab| {
        let told = lab.stdout(&["trace", &id]);
        let parts = [
            "by          user erp from ",
            "sender      <notifications@example.com>",
            "recipient   <someone@example.net>",
            "state       ended ",
            "deferred by notifications until ",
            ": 451 4.3.2 later",
            "delivered by notifications to someone@example.net: 250 2.0.0 OK <",
            &format!("Message-ID <{id}@relay.example.com>"),
        ];
        for part in parts {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
    };
    check(&lab);
    for whose in [
        "someone@example.net",
        "@EXAMPLE.net",
        "notifications@example.com",
    ] {
        let found = lab.stdout(&["trace", whose]);
        assert!(found.contains(&id) && found.contains("1 found"), "{found}");
    }
    let json = lines(&lab.stdout(&["trace", "someone@example.net", "--json"]));
    let record = json[0]["record"].as_object().expect("a record");
    assert!(
        !record.contains_key("state") && !record.contains_key("due"),
        "it has left the queue"
    );
    assert_eq!(json[0]["record"]["id"], id.as_str());
    assert_eq!(json[0]["events"][1]["event"], "delivered");
    assert_eq!(
        lab.run(&["trace", "nobody@example.net"]).status.code(),
        Some(1)
    );
    let unknown = lab.run(&["trace", "0000000000000"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("unknown message 0000000000000"), "{said}");
    let gone = lab.run(&["queue", "show", &id]);
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(
        said.contains(&format!("see `mailferry trace {id}`")),
        "{said}"
    );
    lab.stop();
    check(&lab);
}

#[test]
fn a_direct_message_has_a_story_too() {
    let configuration = format!("{USUAL}{SERVER}mode = \"direct\"\n");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    lab.send("notifications@example.com", &admitted("direct"));
    let told = || {
        let output = lab.run(&["trace", "someone@example.net"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("delivered by notifications").then_some(())
    };
    lab.wait_for("a story", told);
}

#[test]
fn a_message_is_found_by_message_id_user_result_and_time() {
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    let message =
        admitted("waits").replace("Subject:", "Message-ID: <Waits.1@App.example>\r\nSubject:");
    let id = id_of(&lab.send("notifications@example.com", &message));
    let looped = "Received: by a\r\n".repeat(101) + &admitted("refused");
    let refused = lab.client().send(
        "notifications@example.com",
        &["someone@example.net"],
        &looped,
    );
    assert!(refused.starts_with("5"), "{refused}");
    let found = |arguments: &[&str]| {
        let output = lab.run(&[&["trace"], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let by_id = found(&["<waits.1@app.example>"]);
    assert!(by_id.contains(&id) && by_id.contains("1 found"), "{by_id}");
    let by_user = found(&["--user", "erp", "--result", "waiting"]);
    assert!(
        by_user.contains(&id) && by_user.contains("1 found"),
        "{by_user}"
    );
    assert!(found(&["--user", "nobody"]).contains("0 found"));
    assert!(found(&["--before", "1h"]).contains("0 found"));
    let told = lab.wait_for("the story of the refused message", || {
        let told = found(&["--result", "refused", "--since", "1h"]);
        told.contains("1 found").then_some(told)
    });
    assert!(told.contains("refused: 5"), "{told}");
    let misused = lab.run(&["trace"]);
    assert_eq!(misused.status.code(), Some(2));
}

#[test]
fn messages_are_found_held_released_exported_and_deleted() {
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    let message = admitted("one");
    let mut client = lab.client();
    let mut send = |sender: &str, to: &str| {
        let message = message.replace("notifications@example.com", sender);
        id_of(&client.send(sender, &[to], &message))
    };
    let one = send("notifications@example.com", "a@one.example");
    let two = send("jane@example.com", "b@two.example");
    let three = send("jane@example.com", "c@one.example");
    let found = |filter: &[&str]| -> Vec<String> {
        let listed = lab.stdout(&[&["queue", "list", "--json"], filter].concat());
        let ids = lines(&listed);
        ids.iter()
            .map(|m| m["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(
        found(&["--sender", "JANE@example.com"]),
        [two.clone(), three.clone()]
    );
    assert_eq!(
        found(&["--recipient", "@one.example"]),
        [one.clone(), three.clone()]
    );
    assert_eq!(
        found(&[
            "--recipient",
            "@one.example",
            "--sender",
            "@example.com",
            "--server",
            "notifications"
        ])
        .len(),
        2
    );
    assert!(found(&["--older", "1h"]).is_empty());
    assert_eq!(found(&["--newer", "1h"]).len(), 3);
    let held = lab.stdout(&[
        "queue",
        "hold",
        "--sender",
        "jane@example.com",
        "--reason",
        "who is Jane",
    ]);
    assert_eq!(held, "2 held\n");
    assert_eq!(found(&["--state", "held"]), [two.clone(), three.clone()]);
    let shown = lab.stdout(&["queue", "show", &two]);
    assert!(
        shown.contains("held: who is Jane") && shown.contains("when it is released"),
        "{shown}"
    );
    // The client adds a line end of its own before the final dot.
    let stored = format!("{message}\r\n");
    assert_eq!(lab.stdout(&["queue", "export", &one]), stored);
    let file = lab.path("one.eml");
    let path = file.to_str().expect("UTF-8");
    lab.stdout(&["queue", "export", &one, "--output", path]);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), stored);
    assert!(
        !lab.run(&["queue", "export", &one, "-o", path])
            .status
            .success(),
        "nothing is overwritten"
    );
    assert_eq!(
        lab.stdout(&["queue", "delete", "--recipient", "c@one.example"]),
        "1 deleted\n"
    );
    assert!(
        lab.stdout(&["trace", &three])
            .contains("deleted by an operator")
    );
    lab.stdout(&["release", "notifications"]);
    assert_eq!(lab.delivered(1).len(), 1);
    assert_eq!(lab.stdout(&["queue", "release", "--all"]), "1 released\n");
    lab.delivered(2);
    assert_eq!(lab.run(&["queue", "hold"]).status.code(), Some(2));
    assert_eq!(
        lab.run(&["queue", "delete", &one, "--all"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_large_message_is_exported_as_it_came() {
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    let message = format!("{}{}", admitted("large"), "0123456789\r\n".repeat(30_000));
    let id = id_of(&lab.send("notifications@example.com", &message));
    let exported = lab.stdout(&["queue", "export", &id]);
    assert!(
        exported == format!("{message}\r\n"),
        "{} octets",
        exported.len()
    );
}

#[test]
fn what_was_used_of_the_day_and_a_hold_by_hand_survive_a_restart() {
    let configuration =
        USUAL.to_owned() + &SERVER.replace("recipients_per_day = 0", "recipients_per_day = 3");
    let mut lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let day =
        |lab: &Lab| lines(&lab.stdout(&["servers", "--json"]))[0]["recipients_of_day"].clone();
    for subject in ["one", "two"] {
        id_of(&lab.send("notifications@example.com", &admitted(subject)));
    }
    lab.delivered(2);
    lab.empties();
    assert_eq!(day(&lab), 2);
    lab.stdout(&["hold", "notifications", "--reason", "moving house"]);
    lab.kill();
    lab.start();
    assert_eq!(day(&lab), 2);
    assert!(lab.stdout(&["servers"]).contains("moving house"));
    for subject in ["three", "four"] {
        id_of(&lab.send("notifications@example.com", &admitted(subject)));
    }
    lab.stdout(&["release", "notifications"]);
    lab.delivered(3);
    lab.logged(&["server_held", "the daily limit of 3 recipients is reached"]);
    lab.stop();
    lab.start();
    assert!(
        !lab.stdout(&["servers"]).contains("moving house"),
        "a release survives a restart"
    );
    assert_eq!(lab.state().stats().messages, 3);
}

#[test]
fn what_may_have_arrived_is_sent_once_more_and_then_held() {
    let lab = Lab::new();
    for _ in 0..2 {
        lab.fault(r#"{"stage":"final_dot","action":"drop"}"#);
    }
    let id = id_of(&lab.send("notifications@example.com", &admitted("twice")));
    lab.logged(&["event=\"held\"", &id, "two attempts may have delivered it"]);
    let is_held = || {
        let listed = lab.stdout(&["queue", "list", "--state", "uncertain"]);
        (listed.contains("  held uncertain  ")).then_some(())
    };
    lab.wait_for("held", is_held);
    assert!(
        lab.stdout(&["queue", "show", &id])
            .contains("(it may have arrived)")
    );
    lab.stdout(&["queue", "release", &id]);
    let arrived = lab.delivered(1);
    assert!(
        arrived[0]
            .text
            .contains(&format!("Message-ID: <{id}@relay.example.com>"))
    );
}

#[test]
fn what_may_have_arrived_is_held_where_the_configuration_says_so_and_counts() {
    let usual = USUAL.replace("uncertain_pause", "uncertain = \"hold\"\nuncertain_pause");
    let server = SERVER.replace("recipients_per_day = 0", "recipients_per_day = 3");
    let mut lab = Lab::with(Plan {
        configuration: usual + &server,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"final_dot","action":"drop"}"#);
    let id = id_of(&lab.send("notifications@example.com", &admitted("once")));
    lab.logged(&["event=\"held\"", &id, "it may have been delivered: "]);
    assert_eq!(lab.state().stats().messages, 0);
    lab.stop();
    lab.start();
    let servers = lines(&lab.stdout(&["servers", "--json"]));
    assert_eq!(servers[0]["recipients_of_day"], 1);
}

#[test]
fn many_failures_are_told_of_together() {
    let usual = USUAL.replace("uncertain_pause", "reports_per_hour = 2\nuncertain_pause");
    let lab = Lab::with(Plan {
        configuration: usual + SERVER,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.10 no such recipient"},"matches":"nobody","times":9}"#);
    let mut client = lab.client();
    for number in 0..5 {
        let to = format!("nobody{number}@example.net");
        id_of(&client.send("notifications@example.com", &[&to], &admitted("campaign")));
    }
    let reports = lab.delivered(2);
    assert!(
        reports
            .iter()
            .all(|report| report.text.contains("report-type=delivery-status"))
    );
    let waiting = || {
        let all = lines(&lab.stdout(&["queue", "list", "--json"]));
        let [digest] = &all[..] else { return None };
        let id = digest["id"].as_str()?;
        let text = lab.stdout(&["queue", "export", id]);
        (text.matches("nobody").count() == 3).then_some(text)
    };
    let digest = lab.wait_for("a digest of three", waiting);
    assert!(
        digest.contains("said: 550 5.1.10 no such recipient"),
        "{digest}"
    );
    assert_eq!(lab.state().stats().messages, 2);
    lab.stdout(&["queue", "retry", "--all"]);
    assert!(
        lab.delivered(3)[2]
            .text
            .contains("Subject: Mail reports: 3 more recipients")
    );
}

#[test]
fn waiting_mail_can_be_managed_by_commands() {
    let configuration =
        USUAL.to_owned() + &SERVER.replace("messages_per_minute = 0", "messages_per_minute = 1");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    for number in 0..5 {
        id_of(&lab.send("notifications@example.com", &admitted(&format!("{number}"))));
    }
    lab.delivered(1);
    let waits = || {
        let waiting = lines(&lab.stdout(&["queue", "list", "--json", "--state", "queued"]));
        (waiting.len() == 4).then_some(())
    };
    lab.wait_for("four waiting messages", waits);
    assert_eq!(lab.stdout(&["queue", "hold", "--all"]), "4 held\n");
    assert_eq!(lab.stdout(&["queue", "delete", "--all"]), "4 deleted\n");
    assert_eq!(lab.state().stats().messages, 1);
}

#[test]
fn an_operators_last_word_holds_and_is_fit_for_a_terminal() {
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications", "--reason", "first"]);
    lab.stdout(&["hold", "notifications", "--reason", "second\n\u{1b}[31mred"]);
    let servers = lab.stdout(&["servers"]);
    assert!(servers.contains("second  [31mred"), "{servers}");
}

#[test]
fn a_reader_may_stop_reading() {
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    let mut client = lab.client();
    for _ in 0..50 {
        client.send("notifications@example.com", &["a@b.c"], &admitted("x"));
    }
    let mut child = lab
        .command(&["queue", "list"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_queue_is_summed_up_by_reason() {
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications", "--reason", "moving house"]);
    for subject in ["one", "two", "three"] {
        id_of(&lab.send("notifications@example.com", &admitted(subject)));
    }
    let id = id_of(&lab.send("notifications@example.com", &admitted("four")));
    lab.stdout(&["queue", "hold", &id, "--reason", "look at it"]);
    let said = lab.stdout(&["queue", "summary"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[1].starts_with("       3  queued "), "{said}");
    assert!(
        lines[1].contains("notifications") && lines[1].contains("moving house"),
        "{said}"
    );
    assert!(lines[2].starts_with("       1  held "), "{said}");
    assert!(lines[2].ends_with("look at it"), "{said}");
    assert!(lines[3].starts_with("4 in the queue, "), "{said}");
    let json = lab.stdout(&["queue", "summary", "--json", "--state", "held"]);
    let [row] = &self::lines(&json)[..] else {
        panic!("{json}")
    };
    assert_eq!(
        (&row["messages"], &row["reason"]),
        (&1.into(), &"look at it".into())
    );
    // Without a terminal nobody is asked.
    assert_eq!(lab.stdout(&["queue", "delete", "--all"]), "4 deleted\n");
}

#[test]
fn a_person_at_a_terminal_is_asked_before_messages_are_deleted() {
    if !crate::support::have("stories::terminal", &["script"]) {
        return;
    }
    let lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    for subject in ["one", "two"] {
        id_of(&lab.send("notifications@example.com", &admitted(subject)));
    }
    let delete = |answer: &str| {
        let command = format!("{} queue delete --all", crate::support::PROGRAM);
        let mut script = std::process::Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env("MAILFERRY_CONFIG", lab.path("mailferry.toml"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = script.spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, answer.as_bytes()).expect("writes");
        let output = child.wait_with_output().expect("ends");
        drop(stdin);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = delete("n\n");
    assert!(
        said.contains("Delete 2 messages? Nobody is notified. [y/N]"),
        "{said}"
    );
    assert!(said.contains("0 deleted"), "{said}");
    assert!(delete("y\n").contains("2 deleted"));
}
