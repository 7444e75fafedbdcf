//! Tokens as the running program gets, stores and replaces them.

use std::time::Duration;

use mailferry::sandbox::App;

use crate::support::{Lab, Plan, SERVER, USUAL, admitted, by_refresh_token, id_of};

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
    lab.queued(1);
}

#[test]
fn a_rotated_refresh_token_is_kept_before_it_is_used() {
    let plan = Plan {
        configuration: USUAL.to_owned() + &by_refresh_token(),
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
        // Whenever this process ends, the next process must be able to use the provider's new refresh token.
        lab.kill();
        let kept = std::fs::read_to_string(
            lab.path("data/tokens/contoso%2Fnotifications%40example.com.token"),
        )
        .expect("kept");
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
        "server_slowed",
        "answered HTTP 503 without a token response",
    ]);
    lab.delivered(1);
    lab.logged(&["delivered", &id]);
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
        line.contains("AADSTS700016") && line.contains("compare it with Application (client) ID"),
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

/// Returns the usual configuration with these lines as the app's credentials.
fn proven_by(id: &str, lines: &str) -> String {
    let usual = USUAL.replace("sandbox-app", id);
    usual.replace("client_secret = { env = \"TEST_SECRET\" }", lines) + SERVER
}

#[test]
fn the_second_secret_is_tried_when_the_first_has_expired() {
    let app = App {
        expired_secrets: vec!["old".into()],
        ..App::with_secret("app", "new")
    };
    let lines = "client_secret = { file = \"old\" }\nsecond_client_secret = { file = \"new\" }";
    let mut lab = Lab::stopped(Plan {
        apps: vec![app],
        configuration: proven_by("app", lines),
        ..Plan::default()
    });
    lab.write_private("old", "old");
    lab.write_private("new", "new");
    lab.start();
    id_of(&lab.send("notifications@example.com", &admitted("by the second")));
    lab.delivered(1);
    assert_eq!(lab.state().stats().token_requests, 2);
    lab.write_private("new", "old");
    lab.kill();
    std::fs::remove_dir_all(lab.path("data/tokens")).expect("removes");
    lab.start();
    id_of(&lab.send("notifications@example.com", &admitted("waits")));
    lab.logged(&["server_held", "AADSTS7000222", "make a new one"]);
}

/// Starts a laboratory with an app that signs in with a certificate. The provider's clock is ahead by
/// `clock_skew` (milliseconds).
fn signed(clock_skew: i64) -> Lab {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .expect("a certificate");
    let app = App {
        id: "app".into(),
        certificates: vec![certificate.der().clone()],
        ..App::default()
    };
    let lines = "certificate = \"app.pem\"\nkey = { file = \"app.key\" }";
    let mut lab = Lab::stopped(Plan {
        apps: vec![app],
        clock_skew,
        configuration: proven_by("app", lines),
        ..Plan::default()
    });
    lab.write("app.pem", &certificate.pem());
    lab.write_private("app.key", &key.serialize_pem());
    lab.start();
    lab
}

#[test]
fn a_certificate_signs_for_the_app() {
    let lab = signed(0);
    id_of(&lab.send("notifications@example.com", &admitted("signed")));
    lab.delivered(1);
}

#[test]
fn a_workload_speaks_for_the_app_with_what_its_file_has_now() {
    let app = App {
        id: "app".into(),
        assertion: Some("of today".into()),
        ..App::default()
    };
    let mut lab = Lab::stopped(Plan {
        apps: vec![app],
        configuration: proven_by("app", "assertion_file = \"workload.jwt\""),
        ..Plan::default()
    });
    lab.write("workload.jwt", "of yesterday\n");
    lab.start();
    id_of(&lab.send("notifications@example.com", &admitted("held at first")));
    lab.logged(&["server_held", "AADSTS700027"]);
    lab.write("workload.jwt", "of today\n");
    assert_eq!(
        lab.stdout(&["queue", "retry", "--all"]),
        "1 to be tried again\n"
    );
    lab.delivered(1);
}

#[test]
fn servers_that_share_an_account_share_its_trouble() {
    let other = SERVER.replace("name = \"notifications\"", "name = \"other\"");
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned() + SERVER + &other,
        ..Plan::default()
    });
    lab.fault(r#"{"stage":"token","action":{"reply":"400 {\"error\":\"unauthorized_client\",\"error_codes\":[700016]}"}}"#);
    id_of(&lab.send("notifications@example.com", &admitted("waits")));
    lab.logged(&["server_held"]);
    let tokens = lab.run(&["tokens"]);
    let said = String::from_utf8(tokens.stdout).expect("UTF-8");
    assert_eq!(
        said.matches("compare it with Application (client) ID")
            .count(),
        2,
        "{said}"
    );
    assert_eq!(lab.state().stats().token_requests, 1);
}

#[test]
fn a_revoked_sign_in_says_who_has_to_do_what() {
    let mut lab = Lab::stopped(Plan {
        configuration: USUAL.to_owned() + &by_refresh_token(),
        ..Plan::default()
    });
    lab.write_private("refresh", "refresh-notifications@example.com");
    lab.start();
    lab.state().revoke_grants("notifications@example.com");
    id_of(&lab.send("notifications@example.com", &admitted("waits")));
    lab.logged(&[
        "server_held",
        "AADSTS50173",
        "run `mailferry connect notifications`",
    ]);
    lab.queued(1);
}

#[test]
fn the_life_of_a_token_is_taken_however_it_is_said() {
    let lab = Lab::new();
    let test = |answer: &str| {
        lab.fault(&format!(
            r#"{{"stage":"token","action":{{"answer":{answer}}}}}"#
        ));
        assert!(
            lab.run(&["test", "notifications"]).status.success(),
            "{answer}"
        );
        let row = lab.stdout(&["tokens", "--json"]);
        let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
        let expires = row["expires"].as_i64().expect("a time");
        (expires - mailferry::base::Timestamp::now().0) / 1_000
    };
    // The ranges allow for the time that the test itself takes.
    assert!((1_700..=1_800).contains(&test(r#"{"life":"1800"}"#)));
    assert!((1_600..=1_700).contains(&test(r#"{"life":1700}"#)));
    assert!((1_100..=1_200).contains(&test(r#"{"life":null}"#)));
    assert!((3_500..=3_600).contains(&test(r#"{"trickle":200}"#)));
}

#[test]
fn clocks_that_disagree_matter_only_where_something_is_signed() {
    const DAY: i64 = 24 * 3_600_000;
    for skew in [-DAY, DAY] {
        let lab = Lab::with(Plan {
            clock_skew: skew,
            ..Plan::default()
        });
        id_of(&lab.send("notifications@example.com", &admitted("all the same")));
        lab.delivered(1);
        lab.logged(&["clock_wrong", "this machine's clock is 24h"]);
        let tested = lab.stdout(&["test", "notifications"]);
        assert!(tested.contains("this machine's clock is 24h"), "{tested}");
        let lab = signed(skew);
        id_of(&lab.send("notifications@example.com", &admitted("waits")));
        lab.logged(&[
            "server_held",
            "AADSTS700024",
            "set this machine's clock by NTP",
        ]);
    }
}

#[test]
fn a_held_server_is_red_however_good_its_token_until_a_test_goes_well() {
    let lab = Lab::new();
    let off = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant";
    lab.fault(&format!(
        r#"{{"stage":"auth","action":{{"reply":"{off}"}}}}"#
    ));
    id_of(&lab.send("notifications@example.com", &admitted("waits")));
    lab.logged(&["server_held"]);
    // The command succeeds although the server is held: its exit code is only about tokens, and this token is
    // valid.
    let said = lab.stdout(&["tokens", "--json"]);
    assert!(said.contains(r#""state":"red""#), "{said}");
    assert!(said.contains("the server is held"), "{said}");
    assert!(lab.run(&["test", "notifications"]).status.success());
    lab.delivered(1);
    assert!(
        lab.stdout(&["tokens", "--json"])
            .contains(r#""state":"green""#)
    );
}

#[test]
fn servers_that_share_an_account_are_disconnected_together_and_told_so() {
    let other = SERVER.replace("name = \"notifications\"", "name = \"other\"");
    let lab = Lab::with(Plan {
        configuration: USUAL.to_owned() + SERVER + &other,
        ..Plan::default()
    });
    assert!(lab.run(&["test", "other"]).status.success());
    let said = lab.stdout(&["disconnect", "other"]);
    assert!(
        said.contains("The tokens of notifications, other are deleted"),
        "{said}"
    );
    lab.logged(&["event=\"disconnected\"", "server=\"other\""]);
}

#[test]
fn tokens_that_a_renamed_table_leaves_behind_are_listed_and_forgotten() {
    let mut lab = Lab::new();
    assert!(lab.run(&["test", "notifications"]).status.success());
    assert!(!lab.stdout(&["tokens"]).contains("unused"));
    let renamed = (USUAL.to_owned() + SERVER).replace("contoso]", "fabrikam]");
    lab.configure(&renamed.replace("oauth = \"contoso\"", "oauth = \"fabrikam\""));
    lab.stop();
    lab.start();
    lab.logged(&["tokens_unused", "contoso"]);
    let unused = |lab: &Lab| {
        let said = lab.run(&["tokens"]);
        String::from_utf8_lossy(&said.stdout).contains("unused: no server uses this account")
    };
    assert!(unused(&lab));
    let said = lab.stdout(&["disconnect", "--unused"]);
    assert!(said.contains("contoso"), "{said}");
    assert!(!unused(&lab));
}

#[test]
fn a_server_that_nobody_has_signed_in_for_is_named() {
    let lab = Lab::with(crate::connect::plan("device_code"));
    lab.logged(&["needs_sign_in", "server=\"jane\"", "mailferry connect"]);
    assert_eq!(lab.run(&["tokens"]).status.code(), Some(1));
    let servers = lab.stdout(&["servers"]);
    assert!(
        servers.contains("needs a sign-in: mailferry connect jane"),
        "{servers}"
    );
}

#[test]
fn a_reload_with_other_settings_forgets_why_the_token_could_not_be_renewed() {
    let lab = Lab::new();
    lab.stdout(&["test", "notifications"]);
    let wrong = r#"401 {\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret provided.\"}"#;
    lab.fault(&format!(
        r#"{{"stage":"token","action":{{"reply":"{wrong}"}}}}"#
    ));
    assert!(!lab.run(&["test", "notifications"]).status.success());
    let tokens = || String::from_utf8_lossy(&lab.run(&["tokens"]).stdout).into_owned();
    assert!(tokens().contains("cannot be renewed"), "{}", tokens());
    let file = std::fs::read_to_string(lab.path("mailferry.toml")).expect("a configuration");
    let expires = "[oauth.contoso]\nclient_secret_expires = 2099-01-01\n";
    lab.write(
        "mailferry.toml",
        &file.replacen("[oauth.contoso]\n", expires, 1),
    );
    lab.stdout(&["reload"]);
    assert!(!tokens().contains("cannot be renewed"), "{}", tokens());
}
