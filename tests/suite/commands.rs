//! The commands, as a user types them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Lab, PROGRAM, Plan, SERVER, USUAL, admitted, free_port, have, id_of};

fn route(lab: &Lab, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = lab.run(&[&["route", "--json"], arguments].concat());
    let json = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code(), json)
}

#[test]
fn route_explains_a_decision() {
    let restricted =
        "[[user]]\nname = \"limited\"\nnetworks = [\"192.0.2.1/32\"]\nservers = [\"jane\"]\n";
    let jane = SERVER.replace("notifications", "jane");
    let configuration = format!("{USUAL}{restricted}{jane}{SERVER}");
    let lab = Lab::stopped(Plan {
        configuration,
        ..Plan::default()
    });
    let (code, json) = route(&lab, &["--from", "jane@example.com"]);
    assert_eq!((code, json["server"].as_str()), (Some(0), Some("jane")));
    assert!(
        json["envelope_from"].is_null()
            && json["header_from"].is_null()
            && json["reply_to"].is_null()
    );
    let (code, json) = route(
        &lab,
        &[
            "--from",
            "root@localhost",
            "--header-from",
            "Cron <root@localhost>",
        ],
    );
    assert_eq!(
        (code, json["server"].as_str()),
        (Some(0), Some("notifications"))
    );
    assert_eq!(json["envelope_from"], "notifications@example.com");
    assert_eq!(json["header_from"], "\"Cron\" <notifications@example.com>");
    assert_eq!(json["reply_to"], "Cron <root@localhost>");
    let (code, json) = route(&lab, &["--user", "limited", "--from", "root@localhost"]);
    assert_eq!(code, Some(1));
    assert!(json["server"].is_null());
    assert!(
        json["reply"]
            .as_str()
            .unwrap()
            .starts_with("550 5.7.1 <root@localhost>: no server's from_filter admits")
    );
    let words = lab.stdout(&[
        "route",
        "--from",
        "",
        "--header-from",
        "Cron <root@localhost>",
    ]);
    assert!(
        words.contains("server:    notifications") && words.contains("envelope:  <> (unchanged)"),
        "{words}"
    );
    assert!(
        !lab.run(&["route", "--user", "nobody", "--from", "a@b.c"])
            .status
            .success()
    );
}

#[test]
fn check_prints_what_a_configuration_means() {
    let lab = Lab::stopped(Plan::default());
    let said = lab.stdout(&["check"]);
    for part in [
        "Listeners",
        "127.0.0.1:0  no TLS, by password or network",
        "erp  by password",
        "notifications  localhost:",
        "XOAUTH2 as notifications@example.com",
        "Routing",
        "mailferry.toml: ok",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!said.contains("sandbox-secret"));
}

#[test]
fn the_demo_shows_its_messages_and_ends() {
    let output = Command::new(PROGRAM)
        .args(["demo", "--once"])
        .output()
        .expect("runs");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    for part in [
        "C: MAIL FROM:<john@example.com>",
        "S: 250 2.0.0 Ok: queued as ",
        "From:      \"Warehouse\" <notifications@example.com>",
        "answer: 250 2.0.0 OK",
        "S: 550 5.7.1 <boss@example.org>",
        "Nothing was sent upstream",
        "a1 OK [CAPABILITY ",
        "S: Subject: A question",
        "bounced: notifications accepted it, but it did not reach bounce-5.1.10@example.net: 550 5.1.10",
        "reported to warehouse@erp.local",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn a_password_is_hashed_from_a_pipe() {
    let hash = |arguments: &[&str], input: &str| {
        let mut child = Command::new(PROGRAM)
            .arg("hash-password")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("writes");
        child.wait_with_output().expect("ends")
    };
    let output = hash(&[], "pass word\n");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("$argon2id$v=19$m=7168,t=5,p=1$"));
    assert!(!hash(&[], "\n").status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.argon2");
    assert!(
        hash(&["-o", &file.display().to_string()], "p\n")
            .status
            .success()
    );
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        !hash(&["-o", &file.display().to_string()], "p\n")
            .status
            .success(),
        "a file is not overwritten"
    );
}

#[test]
fn the_queue_is_managed_while_serving_and_while_not() {
    let mut lab = Lab::new();
    // Make the server need a person's action, so that its mail waits.
    lab.fault(r#"{"stage":"auth","action":{"reply":"535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox"},"times":9}"#);
    let first = id_of(&lab.send("notifications@example.com", &admitted("one")));
    lab.logged(&["server_held", "Set-CASMailbox -Identity notifications@example.com -SmtpClientAuthenticationDisabled $false"]);
    let second = id_of(&lab.send("notifications@example.com", &admitted("two")));
    let listed = lab.stdout(&["queue", "list"]);
    assert!(
        listed.contains(&first) && listed.contains(&second) && listed.contains("2 in the queue"),
        "{listed}"
    );
    assert!(
        listed.contains("server notifications is held since"),
        "{listed}"
    );
    // Each says where the guides explain the reply.
    for command in [
        &["queue", "list"][..],
        &["queue", "show", &first],
        &["trace", &first],
        &["status"],
        &["servers"],
    ] {
        // `status` fails, because a server is held.
        let said = lab.run(command).stdout;
        let said = String::from_utf8_lossy(&said);
        let place = "guides/troubleshooting.md#535-5.7.139";
        assert!(said.contains(place), "{command:?}: {said}");
    }
    let shown = lab.stdout(&["queue", "show", &first]);
    assert!(
        shown.contains("<someone@example.net>")
            && shown.contains("user erp from test [127.0.0.1], ESMTPA"),
        "{shown}"
    );
    assert_eq!(lab.stdout(&["queue", "delete", &first]), "1 deleted\n");
    assert!(!lab.run(&["queue", "show", &first]).status.success());
    lab.stop();
    let listed = lab.stdout(&["queue", "list", "--json"]);
    let record: Value = serde_json::from_str(listed.trim()).expect("one line of JSON");
    assert_eq!(record["id"], second.as_str());
    assert_eq!(
        lab.stdout(&["queue", "retry", "--all"]),
        "1 to be tried again\n"
    );
    assert!(
        !lab.run(&["queue", "delete"]).status.success(),
        "delete needs a selection"
    );
    lab.state()
        .script
        .strike(mailferry::sandbox::FaultStage::Auth, "");
    while lab
        .state()
        .script
        .strike(mailferry::sandbox::FaultStage::Auth, "")
        .is_some()
    {}
    lab.start();
    assert!(lab.delivered(1)[0].text.contains("Subject: two"));
}

#[test]
fn the_queue_and_route_need_no_secret() {
    let mut lab = Lab::stopped(Plan::default());
    let never_served = lab.run(&["queue", "list"]);
    assert!(!never_served.status.success());
    let said = String::from_utf8_lossy(&never_served.stderr);
    assert!(said.contains("there is no spool in"), "{said}");
    lab.start();
    let usual = USUAL.replace("TEST_SECRET", "NOT_IN_THIS_SHELL");
    lab.configure(&(usual.replace("erp.argon2", "not-for-us.argon2") + SERVER));
    lab.queued(0);
    assert!(lab.run(&["route", "--from", "a@b.c"]).status.success());
    assert_eq!(lab.run(&["check"]).status.code(), Some(78));
}

#[test]
fn messages_being_sent_are_shown_with_their_owner() {
    let lab = Lab::new();
    lab.fault(r#"{"stage":"final_dot","action":{"stall":600000}}"#);
    let id = id_of(&lab.send("notifications@example.com", &admitted("slow")));
    let active = || {
        lab.stdout(&["queue", "list"])
            .contains("  active  ")
            .then_some(())
    };
    lab.wait_for("active message", active);
    let shown = lab.stdout(&["queue", "show", &id]);
    assert!(
        shown.contains("active      ") && shown.contains(" until "),
        "{shown}"
    );
    let json: Value =
        serde_json::from_str(&lab.stdout(&["queue", "show", &id, "--json"])).expect("JSON");
    assert_eq!(json["id"], id.as_str());
    assert!(
        json["lease"]["owner"]
            .as_str()
            .is_some_and(|owner| owner.contains('/'))
    );
    let left = lab.run(&["queue", "delete", &id]);
    assert_eq!(
        (left.status.code(), &left.stdout[..]),
        (Some(1), &b"0 deleted\n"[..])
    );
    let said = String::from_utf8_lossy(&left.stderr);
    assert!(said.contains("they are being sent now"), "{said}");
}

#[test]
fn a_retry_uses_a_held_server_again_at_once() {
    let lab = Lab::new();
    lab.fault(r#"{"stage":"auth","action":{"reply":"535 5.7.139 disabled"}}"#);
    lab.send("notifications@example.com", &admitted("one"));
    lab.logged(&["server_held"]);
    assert_eq!(
        lab.stdout(&["queue", "retry", "--all"]),
        "1 to be tried again\n"
    );
    lab.delivered(1);
}

#[test]
fn sighup_rereads_the_configuration_and_keeps_the_old_one_when_the_new_is_wrong() {
    let lab = Lab::new();
    let mut client = lab.client();
    assert!(
        client
            .send("a@example.org", &["x@y.z"], "From: a@example.org\r\n\r\nx")
            .starts_with("250")
    );
    lab.configure(&(USUAL.to_owned() + SERVER + "wrong = 1\n"));
    lab.signal("HUP");
    lab.logged(&["reload_failed", "there is no key `wrong`"]);
    assert!(
        client
            .send("a@example.org", &["x@y.z"], "From: a@example.org\r\n\r\nx")
            .starts_with("250")
    );
    lab.configure(&(USUAL.replace("default_from", "# default_from") + SERVER));
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
    let reply = client.send("a@example.org", &["x@y.z"], "From: a@example.org\r\n\r\nx");
    assert!(reply.starts_with("550 5.7.1 <a@example.org>"), "{reply}");
    lab.delivered(2);
}

#[test]
fn sigterm_lets_a_message_under_way_end() {
    let mut lab = Lab::new();
    let (mut busy, mut idle) = (lab.client(), lab.client());
    busy.expect("MAIL FROM:<notifications@example.com>", "250");
    busy.expect("RCPT TO:<someone@example.net>", "250");
    busy.expect("DATA", "354");
    lab.signal("TERM");
    assert!(idle.reply().starts_with("421 4.3.2"));
    assert!(idle.is_closed());
    busy.raw(format!("{}.\r\n", admitted("late")).as_bytes());
    let reply = busy.reply();
    id_of(&reply);
    let (well, _) = lab.stop();
    assert!(well);
    lab.start();
    assert!(lab.delivered(1)[0].text.contains("Subject: late"));
    assert!(
        lab.stop().1 < Duration::from_secs(20),
        "an idle program ends at once"
    );
}

#[test]
fn sigterm_logs_what_does_not_end_in_time() {
    let mut plan = Plan::default();
    plan.configuration = plan
        .configuration
        .replace("grace = \"20s\"", "grace = \"1s\"");
    let mut lab = Lab::with(plan);
    let (mut mail, mut data) = (lab.client(), lab.client());
    for client in [&mut mail, &mut data] {
        client.expect("MAIL FROM:<notifications@example.com>", "250");
        client.expect("RCPT TO:<someone@example.net>", "250");
    }
    data.expect("DATA", "354");
    data.raw(b"Subject: too late\r\n");
    lab.signal("TERM");
    assert!(mail.reply().starts_with("421 4.3.2"));
    assert!(data.reply().starts_with("421 4.3.2"));
    assert!(mail.is_closed() && data.is_closed());
    lab.ended();
}

#[test]
fn a_listener_that_overlaps_a_running_one_takes_a_restart() {
    let mut lab = Lab::stopped(Plan::default());
    let port = free_port();
    let (own, wider) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    let listening = |address: &str| {
        let door = format!("address = \"{address}\"\nallow_plaintext = true");
        USUAL.replace("address = \"127.0.0.1:0\"", &door) + SERVER
    };
    lab.configure(&listening(&own));
    lab.start();
    lab.configure(&listening(&wider));
    lab.signal("HUP");
    lab.logged(&["event=\"reload_failed\"", &own, "restart mailferry"]);
    assert!(lab.client().command("NOOP").starts_with("250"));
}

#[test]
fn two_processes_cannot_open_one_spool() {
    let lab = Lab::new();
    let output = lab.run(&["serve"]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("in use by another mailferry process"),
        "{said}"
    );
}

#[test]
fn a_server_is_held_and_released_by_hand() {
    let lab = Lab::new();
    assert!(lab.stdout(&["servers"]).contains("notifications  in use"));
    lab.stdout(&["hold", "notifications", "--reason", "the mailbox moves"]);
    // Without a reason, the first one remains.
    lab.stdout(&["hold", "notifications"]);
    let id = id_of(&lab.send("notifications@example.com", &admitted("waits")));
    let servers = lab.stdout(&["servers"]);
    assert!(
        servers.contains("until it is released") && servers.contains("the mailbox moves"),
        "{servers}"
    );
    lab.queued(1);
    let elsewhere = lab.run(&["queue", "list", "--server", "nobody"]);
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("there is no server named nobody"));
    // A retry is not a release.
    lab.stdout(&["queue", "retry", "--all"]);
    assert!(lab.stdout(&["servers"]).contains("until it is released"));
    assert_eq!(lab.state().stats().connections, 0);
    assert!(
        lab.stdout(&["release", "notifications"])
            .contains("notifications is released")
    );
    lab.delivered(1);
    lab.logged(&["delivered", &id]);
    assert!(
        lab.stdout(&["release", "notifications"])
            .contains("was not held")
    );
    let nobody = lab.run(&["hold", "nobody"]);
    assert!(!nobody.status.success());
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no server named nobody"));
}

/// Runs a command. Returns its exit code, and its output on standard error.
fn ending(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn exit_code_69_means_unavailable_and_1_means_refused() {
    let mut lab = Lab::stopped(Plan::default());
    let not_running = [
        &["servers"][..],
        &["hold", "notifications"],
        &["web"],
        &["queue", "list"],
    ];
    for arguments in not_running {
        let (code, said) = ending(&lab, arguments);
        assert_eq!(code, Some(69), "{arguments:?}: {said}");
    }
    lab.start();
    let refused = [
        &["hold", "nobody"][..],
        &["test", "nobody"],
        &["connect", "nobody"],
        &["queue", "show", "1mcc69af70000"],
        &["web"],
    ];
    for arguments in refused {
        let (code, said) = ending(&lab, arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
    }
    std::fs::remove_file(lab.path("data/spool/control.sock")).expect("the control socket");
    let (code, said) = ending(&lab, &["queue", "list"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("in use by another mailferry process"),
        "{said}"
    );
}

#[test]
fn a_reload_names_what_only_a_restart_changes() {
    let lab = Lab::new();
    let usual = USUAL.to_owned() + SERVER;
    let restart = usual.replace(
        "data_dir = \"data\"",
        "data_dir = \"elsewhere\"\nvault_key = { file = \"vault.key\" }",
    ) + "\n[spool]\nreserve = 1000\nhistory = \"1h\"\n[log]\nlevel = \"debug\"\n[privacy]\nmask_addresses = true\n";
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    lab.write_private("vault.key", key);
    lab.configure(&restart);
    lab.signal("HUP");
    let told = lab.logged(&["event=\"needs_restart\""]);
    for name in [
        "data_dir",
        "vault_key",
        "[spool] reserve",
        "[spool] history",
        "[log] level",
        "[privacy] mask_addresses",
    ] {
        assert!(told.contains(name), "{name} is not in {told}");
    }
    assert!(!told.contains(key), "{told}");
    lab.send("notifications@example.com", &admitted("goes on"));
    lab.delivered(1);
}

#[test]
fn the_configuration_and_json_are_named_before_or_after_the_command() {
    let lab = Lab::new();
    let file = lab.path("mailferry.toml").display().to_string();
    for arguments in [
        ["-c", &file, "--json", "queue", "list"],
        ["--json", "queue", "-c", &file, "list"],
        ["queue", "list", "--json", "--config", &file],
    ] {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(
            output.stdout.is_empty(),
            "{arguments:?}: an empty queue has no lines"
        );
    }
    let value = |arguments: &[&str]| -> Value {
        let output = lab.run(arguments);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
    };
    assert_eq!(value(&["hold", "notifications", "--json"])["held"], true);
    assert_eq!(
        value(&["release", "notifications", "--json"])["was_held"],
        true
    );
    assert_eq!(value(&["queue", "retry", "--all", "--json"])["changed"], 0);
    assert_eq!(
        value(&["check", "--json"])["warnings"],
        serde_json::json!([])
    );
    assert!(value(&["vault", "new-key", "--json"])["key"].is_string());
    assert_eq!(value(&["vault", "rotate", "--json"])["accounts"], 0);
    assert_eq!(
        value(&["disconnect", "--unused", "--json"])["accounts"],
        serde_json::json!([])
    );
    assert!(value(&["reload", "--json"])["needs_restart"].is_array());
}

#[test]
fn a_mistake_in_the_file_does_not_disable_the_commands_of_the_running_program() {
    let lab = Lab::new();
    let right = std::fs::read_to_string(lab.path("mailferry.toml")).expect("a configuration");
    let id = id_of(&lab.send("notifications@example.com", &admitted("one")));
    lab.delivered(1);
    lab.write("mailferry.toml", &format!("{right}bogus = 1\n"));
    let said = |arguments: &[&str], code: i32| {
        let output = lab.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(
            errors.contains("bogus") && errors.contains("running with an earlier configuration"),
            "{errors}"
        );
    };
    said(&["status"], 0);
    said(&["queue", "list"], 0);
    said(&["hold", "notifications"], 0);
    said(&["release", "notifications"], 0);
    said(&["trace", &id], 0);
    let reloaded = lab.run(&["reload"]);
    let errors = String::from_utf8_lossy(&reloaded.stderr).into_owned();
    assert!(errors.contains("stays in force"), "{errors}");
    assert_eq!(reloaded.status.code(), Some(78));
    lab.write("mailferry.toml", "not TOML [");
    assert_eq!(lab.run(&["status"]).status.code(), Some(78));
}

#[test]
fn packages_get_completions_and_man_pages() {
    if !have("man pages", &["mandoc", "bash"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new(PROGRAM)
        .args(["manual", "--output"])
        .arg(folder.path())
        .output();
    assert!(made.expect("runs").status.success());
    let pages = std::fs::read_dir(folder.path()).expect("reads");
    let pages: Vec<_> = pages.map(|page| page.expect("a page").path()).collect();
    for name in ["mailferry.1", "mailferry-serve.1", "mailferry-queue-list.1"] {
        assert!(
            pages.contains(&folder.path().join(name)),
            "{name}: {pages:?}"
        );
    }
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "error"])
        .args(&pages)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success() && said.is_empty(), "{said}");
    let completions = Command::new(PROGRAM)
        .args(["completions", "bash"])
        .output()
        .expect("runs");
    let file = folder.path().join("completions");
    std::fs::write(&file, completions.stdout).expect("writes");
    let typed = format!(
        "set -e; source {}; COMP_WORDS=(mailferry queue li); COMP_CWORD=2; _mailferry mailferry li queue; echo \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    let completed = Command::new("bash")
        .args(["-c", &typed])
        .output()
        .expect("runs");
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "list");
}

#[test]
fn each_company_has_its_own_default_sender() {
    let usual = Plan::default().configuration;
    let configuration = usual
        .replace(
            "notifications@example.com\"\n\n[[user]]",
            "notifications\"\ncatchall_domain = \"example.com\"\n\n[[user]]",
        )
        .replace(
            "name = \"erp\"",
            "name = \"erp\"\ncatchall_domain = \"example.org\"",
        )
        .replace(
            "from_filter = \"notifications@example.com\"",
            "from_filter = \"example.com, example.org\"",
        );
    let lab = Lab::with(Plan {
        send_as: vec!["notifications@example.org"],
        configuration,
        ..Plan::default()
    });
    let arguments = [
        "route",
        "--from",
        "jane@elsewhere.example",
        "--header-from",
        "Jane <jane@elsewhere.example>",
        "--json",
    ];
    let route = |more: &[&str]| -> Value {
        let output = lab.run(&[&arguments, more].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(
        route(&["--user", "erp"])["envelope_from"],
        "notifications@example.org"
    );
    assert_eq!(route(&[])["envelope_from"], "notifications@example.com");
    lab.send(
        "jane@elsewhere.example",
        "From: Jane <jane@elsewhere.example>\r\n\r\nx\r\n",
    );
    let delivered = lab.delivered(1);
    assert_eq!(delivered[0].sender, "notifications@example.org");
}
