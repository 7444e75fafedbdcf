//! The stand-in gives each reply of `tests/replies.txt` at its stage. The tests check the effect on the
//! message, on the server, and on what the operator sees.

use mailferry::base::Service;
use mailferry::transport::Answer;
use mailferry::transport::smtp::{Reaction, Stage, table};

use crate::support::{Lab, Plan, admitted, id_of};

/// The number of laboratories that run at once.
const AT_ONCE: usize = 4;

struct Line {
    service: Service,
    stage: &'static str,
    said: &'static str,
    row: &'static str,
}

fn lines() -> Vec<Line> {
    let lines = include_str!("../replies.txt").lines();
    // A report is no reply.
    let is_reply = |line: &&str| !line.starts_with('#') && !line.contains("report | ");
    let lines = lines.filter(is_reply);
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let mut part = || parts.next().expect("three parts");
            let stage = part();
            let (service, stage) = match stage.strip_prefix("smarthost ") {
                Some(stage) => (Service::Other, stage),
                None => (Service::ExchangeOnline, stage),
            };
            Line {
                service,
                stage,
                said: part(),
                row: part(),
            }
        })
        .collect()
}

fn reaction(line: &Line) -> Reaction {
    let stage = match line.stage {
        "connect" | "greeting" => Stage::Greeting,
        "ehlo" => Stage::Ehlo,
        "auth" => Stage::Auth,
        "mail" => Stage::Mail,
        "rcpt" => Stage::Rcpt,
        _ => Stage::FinalDot,
    };
    let (code, rest) = line.said.split_once(' ').expect("a code");
    let (enhanced, text) = rest.split_once(' ').expect("words");
    let (enhanced, text) = match enhanced.split('.').count() {
        3 => (enhanced, text),
        _ => ("", rest),
    };
    let row = table::row(
        line.service,
        stage,
        &Answer::new(code.parse().expect("a code"), enhanced, text),
    );
    assert_eq!(row.name, line.row, "{}", line.said);
    row.reaction
}

/// Returns the part of the reply that the program's log and output must contain.
fn words(line: &Line) -> &'static str {
    let words = line.said.get(..40).unwrap_or(line.said);
    words.trim_end()
}

fn play(line: &Line) {
    let exchange = Plan::default();
    let configuration = match line.service {
        Service::ExchangeOnline => exchange.configuration,
        // The stand-in acts as a server of a provider other than Microsoft.
        Service::Other => exchange.configuration.replace(
            "tenant = \"contoso\"",
            "provider = \"custom\"\nscopes = [\"mail\"]",
        ),
    };
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    let stage = match line.stage {
        "greeting" => "connect",
        stage => stage,
    };
    let fault = serde_json::json!({ "stage": stage, "action": { "reply": line.said } });
    lab.fault(&fault.to_string());
    let send = || id_of(&lab.send("notifications@example.com", &admitted("played")));
    let id = send();
    let arrives = || assert!(lab.delivered(1)[0].text.contains("Subject: played"));
    match reaction(line) {
        Reaction::Delivered | Reaction::Uncertain => {
            lab.logged(&["event=\"delivered\"", &id, words(line)]);
        }
        Reaction::Deferred | Reaction::NextTransaction => {
            lab.logged(&["event=\"deferred\"", &id, words(line)]);
            arrives();
        }
        Reaction::Crowded | Reaction::TooFast => {
            lab.logged(&["event=\"server_crowded\"", words(line)]);
            arrives();
            assert!(
                !lab.log().contains("event=\"deferred\""),
                "this is not an attempt"
            );
        }
        Reaction::Slowed(_) => {
            lab.logged(&["event=\"server_slowed\"", words(line)]);
            arrives();
        }
        Reaction::FreshToken => {
            arrives();
            assert_eq!(lab.state().stats().token_requests, 2);
        }
        Reaction::Failed => {
            lab.logged(&["event=\"failed\"", &id]);
            let report = &lab.delivered(1)[0];
            assert_eq!(report.sender, "", "{}", report.text);
            assert!(report.text.contains(words(line)), "{}", report.text);
        }
        Reaction::FailedAndSlowed => {
            lab.logged(&["event=\"failed\"", &id, words(line)]);
            lab.logged(&["event=\"server_slowed\"", words(line)]);
            assert_eq!(lab.delivered(1)[0].sender, "", "the report");
        }
        Reaction::ExternalHeld(_) => {
            lab.logged(&["event=\"external_held\"", "contoso", words(line)]);
            let own = ["jane@example.com"];
            let mut client = lab.client();
            client.send("notifications@example.com", &own, &admitted("inside"));
            assert!(lab.delivered(1)[0].text.contains("Subject: inside"));
            lab.wait_for("the reason", || {
                let list = lab.queued(1);
                (list.contains(&id) && list.contains(words(line))).then_some(())
            });
        }
        Reaction::SenderRefused => {
            lab.delivered(1);
            let again = send();
            lab.logged(&["event=\"failed\"", &again, words(line)]);
            let reports = lab.delivered(2);
            assert!(reports.iter().all(|report| report.sender.is_empty()));
        }
        Reaction::Held(_) => {
            let told = lab.logged(&["event=\"server_held\"", words(line)]);
            assert!(
                told.contains("notifications@example.com") || told.contains("oauth"),
                "{told}"
            );
            let list = lab.queued(1);
            assert!(list.contains("is held since"), "{list}");
            assert_eq!(
                lab.stdout(&["queue", "retry", "--all"]),
                "1 to be tried again\n"
            );
            arrives();
            assert!(
                !lab.log().contains("event=\"deferred\""),
                "this is not an attempt"
            );
        }
    }
}

#[test]
fn every_answer_has_the_reaction_of_its_row() {
    let lines = lines();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(line) = lines.get(place) else {
                        return;
                    };
                    println!("{} | {}", line.stage, line.said);
                    play(line);
                }
            });
        }
    });
}
