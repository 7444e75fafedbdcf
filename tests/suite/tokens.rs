//! Tokens as the running program gets, keeps and replaces them.

use std::time::Duration;

use crate::support::{Lab, Plan, SERVER, USUAL, admitted, id_of};

fn by_refresh_token() -> String {
    let grant = "grant = \"refresh_token\"\nrefresh_token = { file = \"refresh\" }";
    USUAL.to_owned() + &SERVER.replace("grant = \"client_credentials\"", grant)
}

#[test]
fn a_cold_cache_asks_once_however_many_wait() {
    let configuration = format!("{USUAL}{SERVER}sessions = 32\n");
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"token","action":{"stall":300}}"#);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| id_of(&lab.send("notifications@example.com", &admitted("many"))));
        }
    });
    lab.delivered(64);
    assert_eq!(lab.state().stats().token_requests, 1);
}

#[test]
fn a_rejected_token_is_replaced_once_and_then_the_server_is_held() {
    let lab = Lab::new();
    id_of(&lab.send("notifications@example.com", &admitted("one")));
    lab.delivered(1);
    lab.state().revoke_access();
    lab.fault(
        r#"{"stage":"mail","action":{"reply":"530 5.7.57 Client not authenticated to send mail"}}"#,
    );
    id_of(&lab.send("notifications@example.com", &admitted("two")));
    lab.delivered(2);
    assert_eq!(lab.state().stats().token_requests, 2);
    lab.fault(
        r#"{"stage":"mail","action":{"reply":"530 5.7.57 Client not authenticated to send mail"}}"#,
    );
    lab.fault(
        r#"{"stage":"auth","action":{"reply":"535 5.7.3 Authentication unsuccessful"},"times":2}"#,
    );
    id_of(&lab.send("notifications@example.com", &admitted("three")));
    lab.logged(&["server_held", "535 5.7.3", "SMTP.SendAsApp"]);
    assert!(lab.stdout(&["queue", "list"]).contains("1 in the queue"));
}

#[test]
fn a_rotated_refresh_token_is_kept_before_it_is_used() {
    let plan = Plan {
        configuration: by_refresh_token(),
        rotates: true,
        token_life: Duration::from_secs(2),
        ..Plan::default()
    };
    let mut lab = Lab::stopped(plan);
    lab.write_private("refresh", "refresh-notifications@example.com");
    lab.start();
    for count in 1..=3 {
        id_of(&lab.send("notifications@example.com", &admitted("rotating")));
        lab.delivered(count);
        lab.empties();
        // What the provider gave must serve the next process, whenever this one ends.
        lab.kill();
        let kept =
            std::fs::read_to_string(lab.path("data/tokens/notifications.token")).expect("kept");
        assert!(!kept.contains("sandbox.refresh") && !kept.contains("sandbox.access"));
        lab.state().revoke_access();
        lab.start();
    }
    assert!(lab.state().stats().token_requests >= 3);
}

#[test]
fn the_providers_trouble_passes_and_loses_nothing() {
    let configuration = USUAL.to_owned() + SERVER;
    let lab = Lab::with(Plan {
        configuration,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"token","action":{"reply":"503 <html>Service unavailable</html>"}}"#);
    let id = id_of(&lab.send("notifications@example.com", &admitted("later")));
    lab.logged(&[
        "deferred",
        &id,
        "answered HTTP 503 without a token response",
    ]);
    // The next attempt finds the failure remembered, or the provider well: it arrives either way.
    lab.delivered(1);
}

#[test]
fn a_wrong_secret_holds_the_server_and_says_so() {
    let mut lab = Lab::stopped(Plan::default());
    lab.configure(
        &(USUAL.replace("client_id = \"sandbox-app\"", "client_id = \"no-such-app\"") + SERVER),
    );
    lab.start();
    id_of(&lab.send("notifications@example.com", &admitted("waits")));
    let line = lab.logged(&["server_held"]);
    assert!(
        line.contains("AADSTS700016") && line.contains("check client_id, client_secret, tenant"),
        "{line}"
    );
    lab.configure(&(USUAL.to_owned() + SERVER));
    lab.signal("HUP");
    lab.delivered(1);
    let log = lab.log();
    assert!(
        !log.contains("sandbox-secret") && !log.contains("sandbox.access"),
        "no secret in the log"
    );
}
