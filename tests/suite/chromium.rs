//! A person uses the page with Chromium, with scripts switched off: presses Connect, signs in, says Yes, and
//! sees a green light. An operator finds out why mail waits, mends it, and watches it go.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::connect::plan;
use crate::identity::{self, JANE, PERSONS, Provider, file, module_or_none, modules};
use crate::support::{Lab, Plan, admitted, have};
use crate::web::with_page;

const SENDER: &str = "notifications@example.com";

/// Connects and tests a server as a person with Chromium does. Returns the texts that the person saw: the
/// traffic light before the sign-in, the provider's last page, the traffic light after the sign-in, and the
/// steps of the test.
fn person_with_chromium(lab: &Lab) -> [String; 4] {
    let link = lab.stdout(&["web", "--no-browser"]);
    let output = Command::new("node")
        .arg(file("chromium.mjs"))
        .args([&modules().display().to_string(), link.trim(), JANE, "jane"])
        .env("CHROMIUM", "/usr/bin/chromium")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let saw: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    assert!(
        saw["width"].as_u64().is_none_or(|width| width <= 360),
        "the page is wider than a phone screen: {said}"
    );
    let words = |name: &str| saw[name].as_str().map(str::to_owned);
    ["before", "back", "after", "test"].map(|name| {
        words(name).unwrap_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            panic!("no {name} in {said}{errors}")
        })
    })
}

pub fn has_chromium() -> bool {
    have(
        "chromium",
        &[module_or_none("puppeteer-core"), "node", "chromium"],
    )
}

#[test]
fn a_person_with_chromium_connects_at_a_real_provider_and_sees_green() {
    if !has_chromium() || !identity::is_here() {
        return;
    }
    let provider = Provider::start(r#"{"keys":[]}"#);
    let plan = provider.plan("client_id = \"person\"", "authorization_code", PERSONS);
    let lab = with_page(plan);
    let [before, back, after, test] = person_with_chromium(&lab);
    assert_eq!(before, "light red: ■ No token");
    assert!(back.contains("jane@example.com has signed in"), "{back}");
    assert_eq!(after, "light green: ● Token valid");
    // The stand-in for Exchange does not accept this provider's tokens.
    let test = test.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        test.contains("ok token") && test.contains("failed AUTH"),
        "{test}"
    );
}

#[test]
fn a_person_with_chromium_says_yes_and_all_of_the_test_is_green() {
    if !has_chromium() {
        return;
    }
    let lab = with_page(plan("authorization_code"));
    let [before, back, after, test] = person_with_chromium(&lab);
    assert_eq!(before, "light red: ■ No token");
    assert!(back.contains("jane@example.com has signed in"), "{back}");
    assert_eq!(after, "light green: ● Token valid");
    assert!(
        test.contains("XOAUTH2 as jane@example.com") && !test.contains("failed"),
        "{test}"
    );
}

/// Answers what the operator's script asks for, and returns what the operator saw.
fn operator_with_chromium(lab: &Lab, mut answer: impl FnMut(&str)) -> serde_json::Value {
    let link = lab.stdout(&["web", "--no-browser"]);
    let shots = lab.path("shots").display().to_string();
    let mut child = Command::new("node")
        .arg(file("operator.mjs"))
        .args([&modules().display().to_string(), link.trim(), &shots])
        .env("CHROMIUM", "/usr/bin/chromium")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut saw = serde_json::Value::Null;
    for line in lines {
        let line = line.expect("a line");
        saw = serde_json::from_str(&line).expect("JSON");
        if let Some(what) = saw["ask"].as_str() {
            answer(what);
            // The script may have failed meanwhile; then its last line says why.
            let _ = writeln!(input, "done");
        }
    }
    child.wait().expect("ends");
    saw
}

#[test]
fn an_operator_finds_out_why_mail_waits_mends_it_and_watches_it_go() {
    if !has_chromium() || !have("axe", &[module_or_none("axe-core")]) {
        return;
    }
    let lab = with_page(Plan::default());
    let saw = operator_with_chromium(&lab, |what| match what {
        "send" => drop(lab.send(SENDER, &admitted("flows"))),
        "break" => {
            let reply = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.";
            lab.fault(&format!(
                r#"{{"stage":"auth","action":{{"reply":"{reply}"}},"times":999}}"#
            ));
            // The kept session is signed in already.
            lab.fault(r#"{"stage":"mail","action":"drop"}"#);
            lab.send(SENDER, &admitted("waits"));
        }
        _ => lab.state().script.clear(),
    });
    let words = |name: &str| {
        saw[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {saw}"))
    };
    assert!(words("first").contains("Mail flows"), "{saw}");
    assert!(
        words("list").contains("server notifications is held"),
        "{saw}"
    );
    let remedy = "Set-CASMailbox -Identity notifications@example.com -SmtpClientAuthenticationDisabled $false";
    assert!(words("story").contains(remedy), "{saw}");
    assert!(
        words("story").contains("guides/troubleshooting.md#535-5.7.139"),
        "{saw}"
    );
    assert_eq!(words("copied"), remedy);
    assert!(
        words("after").contains("delivered by notifications"),
        "{saw}"
    );
    for problems in ["errors", "findings", "wide", "names"] {
        assert_eq!(saw[problems], serde_json::json!([]), "{problems}");
    }
    assert!(saw["error"].is_null(), "{saw}");
}
