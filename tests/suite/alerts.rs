//! Alerts reach a person once per cause, by webhook, command and mail, and so does the all-clear.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{Lab, Plan, SERVER, USUAL, admitted};

/// A web server that keeps the bodies of all requests, with the path and a header field in front.
struct Hooks {
    port: u16,
    got: Arc<Mutex<Vec<String>>>,
}

impl Hooks {
    /// Starts to listen. The first `failures` requests get 500.
    fn start(failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = got.clone();
        // The thread ends with the process of the tests.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = BufReader::new(stream.expect("a client"));
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).expect("a line");
                    let lower = line.to_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length: ") {
                        length = value.trim().parse().expect("a number");
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).expect("a body");
                let status = if number < failures {
                    "500 No"
                } else {
                    "200 OK"
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream
                    .get_mut()
                    .write_all(answer.as_bytes())
                    .expect("answers");
                let body = String::from_utf8(body).expect("text");
                kept.lock()
                    .expect("no panic")
                    .push(format!("{head}\n{body}"));
            }
        });
        Self { port, got }
    }

    fn bodies(&self, path: &str) -> Vec<String> {
        let got = self.got.lock().expect("no panic");
        let of = got
            .iter()
            .filter(|it| it.starts_with(&format!("POST {path} ")));
        of.map(|it| {
            it.split_once("\n\n")
                .or(it.split_once("\r\n\n"))
                .expect("a body")
                .1
                .to_owned()
        })
        .collect()
    }
}

/// Returns the configuration of a server that works, beside the one that the test breaks.
fn second() -> String {
    SERVER
        .replace("name = \"notifications\"", "name = \"second\"")
        .replace("notifications@example.com", "second@example.com")
}

fn plan(alerts: &str) -> Plan {
    Plan {
        mailboxes: vec!["notifications@example.com", "second@example.com"],
        configuration: format!("{USUAL}{SERVER}{}{alerts}", second()),
        ..Plan::default()
    }
}

#[test]
fn a_held_server_is_told_once_by_each_channel_and_so_is_the_all_clear() {
    let hooks = Hooks::start(0);
    let port = hooks.port;
    let folder = tempfile::tempdir().expect("a folder");
    let ran = folder.path().join("ran");
    let lab = Lab::with(plan(&format!(
        r#"
[alerts]
held_for = "1s"
[[alert]]
name = "json"
url = "http://127.0.0.1:{port}/json"
[[alert]]
name = "teams"
url = "http://127.0.0.1:{port}/teams"
form = "teams"
[[alert]]
name = "slack"
url = "http://127.0.0.1:{port}/slack"
form = "slack"
[[alert]]
name = "ntfy"
url = "http://127.0.0.1:{port}/ntfy"
form = "ntfy"
[[alert]]
name = "script"
command = ["sh", "-c", "cat >> {ran}; echo \"$MAILFERRY_ALERT_TITLE\" >> {ran}"]
[[alert]]
name = "mail"
mail = "admin@example.net"
"#,
        ran = ran.display()
    )));
    lab.stdout(&["hold", "notifications", "--reason", "the month is over"]);
    let ids =
        ["one", "two"].map(|subject| lab.send("notifications@example.com", &admitted(subject)));
    assert_eq!(ids.len(), 2);
    let first = |path: &'static str| lab.wait_for(path, || hooks.bodies(path).into_iter().next());
    let json: Value = serde_json::from_str(&first("/json")).expect("JSON");
    assert_eq!(
        (&json["status"], &json["kind"], &json["subject"]),
        (&"raised".into(), &"held".into(), &"notifications".into())
    );
    assert_eq!(json["remedy"], "the month is over");
    let teams: Value = serde_json::from_str(&first("/teams")).expect("JSON");
    let title = &teams["attachments"][0]["content"]["body"][0]["text"];
    assert_eq!(title, "mailferry on relay.example.com: held notifications");
    assert!(first("/slack").contains("*mailferry on relay.example.com: held notifications*"));
    assert!(first("/ntfy").contains("What to do: the month is over"));
    // The mail leaves by the server that works, although the other one is named first.
    let mail = lab.delivered(1);
    let text = mail[0].text.clone();
    assert!(
        text.contains("Subject: mailferry on relay.example.com: held notifications"),
        "{text}"
    );
    assert_eq!(mail[0].recipients[0].as_str(), "admin@example.net");
    assert_eq!(mail[0].sender.to_string(), "second@example.com");
    lab.wait_for("the command", || {
        std::fs::read_to_string(&ran)
            .ok()
            .filter(|it| it.contains("held notifications"))
    });
    let (_, status) = (
        0,
        String::from_utf8(lab.run(&["status", "--json"]).stdout).expect("text"),
    );
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["alerts"][0]["subject"], "notifications");
    lab.stdout(&["release", "notifications"]);
    let over = lab.wait_for("the all-clear", || hooks.bodies("/json").into_iter().nth(1));
    let over: Value = serde_json::from_str(&over).expect("JSON");
    assert_eq!(
        (&over["status"], &over["delivered"], &over["waiting"]),
        (&"cleared".into(), &2.into(), &0.into())
    );
    lab.logged(&[
        "event=\"alert_over\"",
        "kind=\"held\"",
        "subject=\"notifications\"",
    ]);
    assert_eq!(hooks.bodies("/json").len(), 2, "once per cause");
    let tested = lab.stdout(&["test", "--alert", "ntfy"]);
    assert!(tested.contains("ntfy took the test alert"), "{tested}");
    let unknown = lab.run(&["test", "--alert", "nobody"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there are: json, teams, slack"), "{said}");
}

#[test]
fn a_webhook_that_fails_is_told_in_the_log_without_its_url_and_tried_again() {
    let hooks = Hooks::start(1);
    let port = hooks.port;
    let mut lab = Lab::with(plan(&format!(
        "\n[alerts]\nheld_for = \"1s\"\n[[alert]]\nname = \"hook\"\nurl = \"http://127.0.0.1:{port}/very-secret\"\n"
    )));
    lab.stdout(&["hold", "notifications"]);
    lab.logged(&["event=\"alert_failed\"", "channel=\"hook\"", "500"]);
    lab.logged(&["event=\"alert_sent\"", "channel=\"hook\""]);
    assert!(!lab.log().contains("very-secret"));
    // After a restart the same hold is no news.
    let before = hooks.bodies("/very-secret").len();
    lab.stop();
    lab.start();
    lab.wait_for("the first look", || {
        let status = lab.run(&["status", "--json"]).stdout;
        let status: Value = serde_json::from_slice(&status).ok()?;
        (status["alerts"][0]["subject"] == "notifications").then_some(())
    });
    assert_eq!(hooks.bodies("/very-secret").len(), before);
}
