//! `mailferry status`: one screen says whether mail flows, and its exit code tells monitoring.

use crate::support::{Lab, Plan, admitted, id_of};

const SENDER: &str = "notifications@example.com";

/// Returns the exit code and the text.
fn status(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let output = lab.run(&[&["status"], arguments].concat());
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code().expect("a code"), said)
}

#[test]
fn one_screen_says_that_all_is_well_or_what_is_not() {
    let mut lab = Lab::new();
    id_of(&lab.send(SENDER, &admitted("one")));
    lab.delivered(1);
    let seen = lab.wait_for("the queue to be empty", || {
        let (code, said) = status(&lab, &[]);
        said.contains("0 waiting").then_some((code, said))
    });
    let (code, said) = seen;
    assert_eq!(code, 0, "{said}");
    for words in [
        "on relay.example.com, started ",
        &format!("smtp {}", lab.address),
        "1 accepted, 1 delivered, 0 deferred, 0 failed, 0 bounced",
        "notifications  in use          0      0  -           token valid until ",
        "All is well.",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    // A held message is for somebody to look at.
    lab.stdout(&["hold", "notifications", "--reason", "moving house"]);
    let id = id_of(&lab.send(SENDER, &admitted("two")));
    let (code, said) = status(&lab, &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("notifications  held "), "{said}");
    assert!(said.contains("    moving house\n"), "{said}");
    assert!(
        said.contains("At least one server cannot be used"),
        "{said}"
    );
    lab.stdout(&["queue", "hold", &id]);
    lab.stdout(&["release", "notifications"]);
    let (code, said) = status(&lab, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("Warning: 1 message is held until somebody acts"),
        "{said}"
    );
    let (_, json) = status(&lab, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["light"], "amber");
    assert_eq!(json["held"], 1);
    assert_eq!(json["servers"][0]["name"], "notifications");
    assert_eq!(json["day"]["accepted"], 2);
    lab.stop();
    assert_eq!(status(&lab, &[]).0, 69);
}

#[test]
fn a_server_that_needs_a_person_is_critical() {
    let plan = Plan::default();
    let configuration = plan
        .configuration
        .replace("client_credentials", "authorization_code")
        .replace(
            "ca = \"ca.pem\"\n\n[[server]]",
            "authorize_url = \"https://localhost/authorize\"\nca = \"ca.pem\"\n\n[[server]]",
        );
    let lab = Lab::with(Plan {
        configuration,
        ..plan
    });
    let (code, said) = status(&lab, &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("notifications  no token "), "{said}");
    assert!(said.contains("nobody has signed in"), "{said}");
}

#[test]
fn a_server_for_reading_is_shown_too() {
    let server = crate::support::for_reading(crate::support::SERVER);
    let server = server
        .replace("\"smtp\", ", "")
        .replace("notifications", "inbox");
    let server = server.replace("from_filter = \"inbox@example.com\"\n", "");
    let plan = Plan::default();
    let lab = Lab::with(Plan {
        configuration: plan.configuration + &server,
        mailboxes: vec![SENDER, "inbox@example.com"],
        ..Plan::default()
    });
    let (_, said) = status(&lab, &[]);
    assert!(said.contains("inbox          reading"), "{said}");
}

#[test]
fn a_reload_by_command_is_answered() {
    let lab = Lab::new();
    let file = lab.path("mailferry.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let said = lab.stdout(&["reload"]);
    assert!(said.contains("mailferry.toml is in use.\n"), "{said}");
    lab.write(
        "mailferry.toml",
        &format!("{text}\n[log]\nlevel = \"debug\"\n"),
    );
    let said = lab.stdout(&["reload"]);
    assert!(
        said.contains("need a restart of mailferry: [log]"),
        "{said}"
    );
    lab.write(
        "mailferry.toml",
        &text.replace("from_filter", "from_filtre"),
    );
    let wrong = lab.run(&["reload"]);
    assert_eq!(
        wrong.status.code(),
        Some(78),
        "the command reads the file too"
    );
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("from_filtre"));
    // The old configuration stays in force.
    lab.write("mailferry.toml", &text);
    id_of(&lab.send(SENDER, &admitted("still here")));
    lab.delivered(1);
}

#[test]
fn the_service_manager_is_told() {
    let mut lab = Lab::stopped(Plan::default());
    let path = lab.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("binds");
    socket
        .set_read_timeout(Some(crate::support::SOON))
        .expect("a timeout");
    let variables = [
        "env".to_owned(),
        format!("NOTIFY_SOCKET={}", path.display()),
        "WATCHDOG_USEC=400000".to_owned(),
        crate::support::PROGRAM.to_owned(),
    ];
    let prefix: Vec<&str> = variables.iter().map(String::as_str).collect();
    let serve = lab.prefixed(&prefix, &["serve"]);
    lab.start_by(serve);
    let heard = |wanted: &str| {
        loop {
            let mut octets = [0; 1_000];
            let count = socket.recv(&mut octets).expect("a message");
            let said = String::from_utf8_lossy(&octets[..count]).into_owned();
            if said.contains(wanted) {
                return said;
            }
        }
    };
    heard("READY=1");
    let alive = heard("WATCHDOG=1");
    assert!(alive.contains("STATUS=0 waiting, 0 held\n"), "{alive}");
    lab.stdout(&["hold", "notifications"]);
    heard("STATUS=0 waiting, 0 held; server notifications cannot be used");
    lab.signal("TERM");
    heard("STOPPING=1");
    assert!(lab.ended().success());
}

#[test]
fn a_report_sums_up_the_history_and_figures_survive_a_restart() {
    let mut lab = Lab::new();
    lab.fault(r#"{"stage":"mail","action":{"reply":"451 4.3.2 later"}}"#);
    lab.send("notifications@example.com", &admitted("one"));
    lab.delivered(1);
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.10 RESOLVER.ADR.RecipientNotFound nobody@example.net"}}"#);
    lab.send("notifications@example.com", &admitted("two"));
    lab.empties();
    let parts = [
        "accepted    2 messages, ",
        "refused     0 messages",
        "recipients  1 delivered, 1 failed, 0 bounced, 0 waiting, 0 deleted",
        "deferred    1 attempts",
        "\nnotifications ",
        "\nerp ",
        "\nexample.net ",
        "     1  failed    notifications: 550 5.1.10 RESOLVER.ADR.RecipientNotFound … (last: ",
        "     1  deferred  notifications: 451 4.3.2 later (last: ",
    ];
    let report = lab.stdout(&["report"]);
    for part in parts {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
    let json = lab.stdout(&["report", "--day", "today", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["total"]["failed"], 1);
    assert!(json["delay"]["longest"].as_f64() > Some(0.0));
    let yesterday = lab.stdout(&["report", "--since", "3days", "--before", "2days"]);
    assert!(yesterday.contains("accepted    0 messages"), "{yesterday}");
    lab.stop();
    // The first line has the time of the command.
    let rest = |report: &str| report.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert_eq!(rest(&lab.stdout(&["report"])), rest(&report));
    lab.start();
    let (_, said) = status(&lab, &[]);
    let line = "24 hours    2 accepted, 2 delivered, 1 deferred, 1 failed, 0 bounced";
    assert!(said.contains(line), "{said}");
}
