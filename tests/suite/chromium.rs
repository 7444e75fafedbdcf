//! A person uses the page with Chromium, with scripts switched off: presses Connect, signs in, says Yes, and
//! sees a green light.

use std::process::Command;

use crate::connect::plan;
use crate::identity::{self, JANE, PERSONS, Provider, file, module_or_none, modules};
use crate::support::{Lab, have};
use crate::web::with_page;

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

fn has_chromium() -> bool {
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
    assert_eq!(before, "light red: ● No token");
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
    assert_eq!(before, "light red: ● No token");
    assert!(back.contains("jane@example.com has signed in"), "{back}");
    assert_eq!(after, "light green: ● Token valid");
    assert!(
        test.contains("XOAUTH2 as jane@example.com") && !test.contains("failed"),
        "{test}"
    );
}
