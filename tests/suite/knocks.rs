//! `mailferry clients`: who was refused, and the line of the configuration that admits the client.

use crate::support::{Lab, Plan, Smtp};

/// Returns the rows of `mailferry clients --json`.
fn rows(lab: &Lab) -> Vec<serde_json::Value> {
    let said = lab.stdout(&["clients", "--json"]);
    let read = |line: &str| serde_json::from_str(line).expect("JSON");
    said.lines().map(read).collect()
}

/// Waits for a row whose refusal contains `said`. Returns its remedy.
fn remedy(lab: &Lab, said: &str) -> String {
    lab.wait_for(said, || {
        let rows = rows(lab);
        let mut rows = rows.iter();
        let row = rows.find(|row| row["said"].as_str().unwrap_or_default().contains(said))?;
        row["remedy"].as_str().map(str::to_owned)
    })
}

#[test]
fn a_scanner_without_a_password_is_admitted_by_the_line_that_is_shown() {
    let plan = Plan::default();
    let lab = Lab::with(Plan {
        configuration: plan.configuration.clone(),
        ..plan
    });
    assert!(lab.stdout(&["clients"]).contains("No client was refused"));
    let mut scanner = Smtp::connect(lab.address);
    scanner.expect("EHLO scanner", "250");
    scanner.expect("MAIL FROM:<notifications@example.com>", "530");
    let line = remedy(&lab, "530 5.7.0 Authentication required");
    let networks = line.split("[[user]] ").nth(1).expect("a line");
    let file = std::fs::read_to_string(lab.path("mailferry.toml")).expect("reads");
    lab.configure(&format!(
        "{file}\n[[user]]\nname = \"scanner\"\n{networks}\n"
    ));
    lab.stdout(&["reload"]);
    let mut scanner = Smtp::connect(lab.address);
    scanner.expect("EHLO scanner", "250");
    scanner.expect("MAIL FROM:<notifications@example.com>", "250");
    let said = lab.stdout(&["clients"]);
    assert!(
        said.contains("127.0.0.1 at 127.0.0.1:0")
            && said.contains("-> the client does not sign in"),
        "{said}"
    );
}

#[test]
fn each_refusal_has_its_remedy() {
    let lab = Lab::new();
    let mut wrong = Smtp::connect(lab.address);
    wrong.expect("EHLO app", "250");
    wrong.expect("AUTH PLAIN AGVycAB3cm9uZw==", "535");
    assert!(remedy(&lab, "wrong password").contains("password of the user erp"));
    wrong.expect("AUTH PLAIN AHhlcnAAbG9hZA==", "535");
    assert!(remedy(&lab, "no such user").contains("[[user]] name = \"xerp\""));
    let mut tls = Smtp::connect(lab.address);
    tls.raw(b"\x16\x03\x01\x00\x05hello");
    assert!(remedy(&lab, "does not start with TLS").contains("tls = \"implicit\""));
    let usual = Plan::default().configuration;
    let alone = usual.replace("default_from", "# default_from");
    lab.configure(&alone);
    lab.stdout(&["reload"]);
    let mut client = lab.client();
    let sender = "a@elsewhere.example";
    let message = format!("From: {sender}\r\n\r\nx\r\n");
    let reply = client.send_or_refused(sender, &message);
    assert!(reply.starts_with("550"), "{reply}");
    assert!(remedy(&lab, "admits this sender").contains("from_filter"));
    let count = rows(&lab).len();
    client.send_or_refused(sender, &message);
    assert_eq!(
        rows(&lab).len(),
        count,
        "the same refusal is counted, not listed again"
    );
}
