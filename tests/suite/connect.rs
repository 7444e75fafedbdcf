//! The sign-in as an administrator does it: the command on one side, a browser on the other.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use mailferry::sandbox::SharedSignIn;

use crate::support::{Lab, Plan, SERVER, USUAL, id_of};

const JANE: &str = "jane@example.com";

/// Plans a laboratory with one server, Jane's, which gets its tokens by this grant.
pub fn plan(grant: &str) -> Plan {
    let endpoints = "token_url = \"{token_url}\"\nauthorize_url = \"{authorize_url}\"\ndevice_url = \"{device_url}\"";
    let usual = USUAL.replace("token_url = \"{token_url}\"", endpoints);
    let server = SERVER
        .replace("notifications", "jane")
        .replace("client_credentials", grant);
    Plan {
        mailboxes: vec![JANE, "bob@example.com"],
        configuration: usual.replace("notifications@", "jane@") + &server,
        rotates: true,
        ..Plan::default()
    }
}

/// A running `mailferry connect`, and its output so far.
pub struct Connect {
    child: Child,
    told: String,
}

impl Connect {
    /// Starts the command, and waits until it prints the address to open.
    pub fn begin(lab: &Lab, arguments: &[&str]) -> Self {
        let arguments = [&["connect", "jane"], arguments].concat();
        let mut child = lab
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = child.stdout.as_mut().expect("piped");
        let mut told = String::new();
        for line in BufReader::new(output).lines() {
            told.push_str(&line.expect("UTF-8"));
            told.push('\n');
            if told.contains("://") {
                break;
            }
        }
        Self { child, told }
    }

    pub fn url(&self) -> String {
        let begin = self.told.find("http").expect("an address");
        let end = self.told[begin..]
            .find(char::is_whitespace)
            .expect("a line");
        self.told[begin..begin + end].to_owned()
    }

    pub fn user_code(&self) -> String {
        let code = self
            .told
            .split("the code ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        code.expect("a code").to_owned()
    }

    /// Presses Ctrl-C. Returns the exit code.
    pub fn interrupted(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "INT", &id]).status();
        assert!(sent.expect("kill runs").success());
        self.child.wait().expect("ends").code()
    }

    /// Waits for the end. Returns true if the command succeeded, and its output on standard error.
    pub fn ended(mut self) -> (bool, String) {
        let mut said = String::new();
        let errors = self.child.stderr.as_mut().expect("piped");
        errors.read_to_string(&mut said).expect("UTF-8");
        (self.child.wait().expect("ends").success(), said)
    }
}

/// Answers the page at `url` as `user`. Returns the last page, after all redirects.
pub fn browse(lab: &Lab, url: &str, user: &str, answer: &str) -> (u16, String) {
    let (url, fields) = answered(url, user, answer);
    lab.post(url, &fields)
}

/// Returns the address and the fields of the form that a browser sends for this answer to the page.
pub fn answered(url: &str, user: &str, answer: &str) -> (url::Url, Vec<(String, String)>) {
    let mut url: url::Url = url.parse().expect("a URL");
    let fields: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .chain([
            ("user".into(), user.into()),
            ("answer".into(), answer.into()),
        ])
        .collect();
    let action = url.path().replace("/oauth2/v2.0/authorize", "/consent");
    url.set_path(&action);
    url.set_query(None);
    (url, fields)
}

#[test]
fn a_person_signs_in_with_a_browser_while_the_program_runs() {
    let mut lab = Lab::with(plan("authorization_code"));
    assert!(
        !lab.run(&["tokens"]).status.success(),
        "nobody has signed in"
    );
    let id = id_of(&lab.send(
        JANE,
        "Subject: early\r\nFrom: jane@example.com\r\n\r\nx\r\n",
    ));
    lab.logged(&["server_held", "mailferry connect jane"]);

    let declined = Connect::begin(&lab, &["--no-browser"]);
    assert_eq!(browse(&lab, &declined.url(), JANE, "no").0, 403);
    let (well, said) = declined.ended();
    assert!(!well && said.contains("AADSTS65004"), "{said}");

    let other = Connect::begin(&lab, &["--no-browser"]);
    assert_eq!(browse(&lab, &other.url(), "bob@example.com", "yes").0, 403);
    let (well, said) = other.ended();
    assert!(
        !well
            && said.contains(
                "bob@example.com signed in, but server jane signs in as jane@example.com"
            ),
        "{said}"
    );

    let connect = Connect::begin(&lab, &["--no-browser"]);
    let (status, page) = browse(&lab, &connect.url(), JANE, "yes");
    assert!(
        status == 200 && page.contains("jane@example.com has signed in"),
        "{status} {page}"
    );
    assert!(connect.ended().0);
    lab.delivered(1);
    lab.logged(&["delivered", &id]);
    let tokens = lab.stdout(&["tokens"]);
    assert!(
        tokens.contains("token valid until")
            && tokens.contains("with a browser, as jane@example.com"),
        "{tokens}"
    );
    lab.kill();
    lab.state().revoke_access();
    lab.start();
    id_of(&lab.send(JANE, "From: jane@example.com\r\n\r\nafter a crash\r\n"));
    lab.delivered(2);
    assert!(lab.stdout(&["disconnect", "jane"]).contains("deleted"));
    assert!(!lab.run(&["tokens"]).status.success());
    id_of(&lab.send(
        JANE,
        "From: jane@example.com\r\n\r\nnot by a session of before\r\n",
    ));
    lab.wait_for("hold", || {
        let held = lab.stdout(&["queue", "list"]);
        held.contains("nobody has signed in for jane").then_some(())
    });
    assert_eq!(lab.state().stats().messages, 2);
    let log = lab.log();
    assert!(
        !log.contains("sandbox.access")
            && !log.contains("sandbox.refresh")
            && !log.contains("sandbox.code")
    );
}

#[test]
fn only_the_browser_that_was_sent_can_come_back_and_only_once() {
    let lab = Lab::with(plan("authorization_code"));
    let connect = Connect::begin(&lab, &["--no-browser"]);
    let url: url::Url = connect.url().parse().expect("a URL");
    let field = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .expect("there")
            .1
            .into_owned()
    };
    let back = |state: &str| {
        let mut back: url::Url = field("redirect_uri").parse().expect("a URL");
        back.query_pairs_mut()
            .append_pair("code", "stolen")
            .append_pair("state", state);
        lab.get(back)
    };
    assert_eq!(back("guessed").0, 400);
    let (status, page) = back(&field("state"));
    assert!(
        status == 403 && page.contains("AADSTS70000"),
        "{status} {page}"
    );
    assert!(!connect.ended().0, "the provider never issued this code");
    assert!(lab.stdout(&["connect", "--help"]).contains("--device"));
}

#[test]
fn a_person_signs_in_on_another_device_while_nothing_runs() {
    let mut lab = Lab::stopped(plan("authorization_code"));
    let connect = Connect::begin(&lab, &["--device"]);
    let code = &connect.user_code();
    let answer = |user_code: &str, answer: &str| {
        let fields = [("user_code", user_code), ("user", JANE), ("answer", answer)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        lab.post(connect.url().parse().expect("a URL"), &fields).0
    };
    assert_eq!(answer("WRONG", "yes"), 400);
    assert_eq!(answer(code, "yes"), 200);
    assert!(connect.ended().0);
    assert!(
        lab.stdout(&["tokens"])
            .contains("on another device, as jane@example.com")
    );
    assert!(lab.stdout(&["vault", "rotate"]).contains("1 account is"));
    lab.start();
    id_of(&lab.send(JANE, "From: jane@example.com\r\n\r\nx\r\n"));
    lab.delivered(1);
    assert!(lab.stdout(&["vault", "rotate"]).contains("1 account is"));
    lab.kill();
    lab.start();
    id_of(&lab.send(JANE, "From: jane@example.com\r\n\r\nwith the new key\r\n"));
    lab.delivered(2);
}

#[test]
fn the_test_of_a_connection_tells_each_step_and_what_mends_it() {
    let mut lab = Lab::stopped(Plan::default());
    let said = lab.stdout(&["test", "notifications", "--to", "someone@example.net"]);
    let steps = ["DNS", "TCP", "TLS", "EHLO", "token", "AUTH", "message"];
    let found: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("ok      "))
        .collect();
    for (line, step) in found.iter().zip(steps) {
        assert!(line.starts_with(step), "{said}");
    }
    assert!(said.contains("certificate for localhost"), "{said}");
    assert!(lab.delivered(1)[0].text.contains("Subject: mailferry test"));
    lab.start();
    let failing = |fault: &str| {
        lab.fault(fault);
        let output = lab.run(&["test", "notifications"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        let line = said.find("FAILED").expect("a step that failed");
        said[line..].to_owned()
    };
    let token = failing(
        r#"{"stage":"token","action":{"reply":"401 {\"error\":\"invalid_client\",\"error_codes\":[7000222]}"}}"#,
    );
    assert!(
        token.contains("token") && token.contains("it has expired: make a new one"),
        "{token}"
    );
    let auth = failing(
        r#"{"stage":"auth","action":{"reply":"535 5.7.139 SmtpClientAuthentication is disabled"}}"#,
    );
    assert!(
        auth.contains("AUTH") && auth.contains("Set-CASMailbox"),
        "{auth}"
    );
    let unknown = failing(
        r#"{"stage":"auth","action":{"reply":"535 5.7.3 Authentication unsuccessful"},"times":2}"#,
    );
    for command in [
        "New-ServicePrincipal -AppId ",
        "-ObjectId object-of-",
        "PrimarySmtpAddress -eq 'notifications@example.com'",
        "-Role \"Application SMTP.SendAsApp\" -CustomResourceScope mailferry",
    ] {
        assert!(unknown.contains(command), "{command} is not in {unknown}");
    }
    assert!(!lab.run(&["test", "nobody"]).status.success());
}

/// Starts a laboratory in which a mailbox is shared with Jane, and signs Jane in.
fn shared_mailbox(shared_sign_in: SharedSignIn) -> Lab {
    let plan = plan("authorization_code");
    let shared = "username = \"sales@example.com\"\naccount = \"jane@example.com\"";
    let lab = Lab::with(Plan {
        mailboxes: vec![JANE, "sales@example.com", "other@example.com"],
        shared: Some(("sales@example.com", JANE)),
        shared_sign_in,
        configuration: plan
            .configuration
            .replace("username = \"jane@example.com\"", shared)
            .replace(
                "from_filter = \"jane@example.com\"",
                "from_filter = \"sales@example.com\"",
            )
            .replace("default_from = \"jane@", "default_from = \"sales@"),
        ..plan
    });
    let connect = Connect::begin(&lab, &["--no-browser"]);
    assert_eq!(browse(&lab, &connect.url(), JANE, "yes").0, 200);
    assert!(connect.ended().0);
    lab
}

fn offer(lab: &Lab) {
    id_of(&lab.send(
        "sales@example.com",
        "From: sales@example.com\r\n\r\nan offer\r\n",
    ));
}

#[test]
fn a_person_signs_in_for_a_shared_mailbox_and_sends_as_it() {
    let lab = shared_mailbox(SharedSignIn::Person);
    offer(&lab);
    let delivered = lab.delivered(1);
    assert_eq!(delivered[0].mailbox, JANE, "her limits count");
    assert_eq!(delivered[0].sender, "sales@example.com");
    let test = lab.stdout(&["test", "jane"]);
    assert!(
        test.contains("XOAUTH2 as jane@example.com, who sends as sales@example.com"),
        "{test}"
    );
    // She may not send as a mailbox that is not shared with her.
    let text = std::fs::read_to_string(lab.path("mailferry.toml")).expect("reads");
    let other = text.replace("username = \"sales@", "username = \"other@");
    lab.write("mailferry.toml", &other);
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
    let test = lab.run(&["test", "jane", "--to", "someone@example.net"]);
    assert!(!test.status.success());
    let said = String::from_utf8_lossy(&test.stdout);
    assert!(
        said.contains("Add-RecipientPermission -Identity other@example.com"),
        "{said}"
    );
}

#[test]
fn a_shared_mailbox_can_sign_in_with_its_own_name() {
    let lab = shared_mailbox(SharedSignIn::Mailbox);
    offer(&lab);
    assert_eq!(lab.delivered(1)[0].mailbox, "sales@example.com");
    let test = lab.stdout(&["test", "jane"]);
    assert!(
        test.contains("XOAUTH2 as sales@example.com, with the token of jane@example.com"),
        "{test}"
    );
    // From then on, the program begins each sign-in with the name that worked.
    let signed_in = lab.state().stats().connections;
    offer(&lab);
    lab.delivered(2);
    assert!(lab.state().stats().connections <= signed_in + 1);
}

#[test]
fn a_sign_in_that_waits_keeps_nobody_from_the_vault() {
    let mut lab = Lab::stopped(plan("authorization_code"));
    let waiting = Connect::begin(&lab, &["--no-browser"]);
    assert!(lab.stdout(&["check"]).contains("jane"));
    lab.start();
    let connect = Connect::begin(&lab, &["--no-browser"]);
    assert_eq!(browse(&lab, &connect.url(), JANE, "yes").0, 200);
    assert!(connect.ended().0);
    lab.logged(&["event=\"signed_in\"", "server=\"jane\"", JANE]);
    // The running program now has the vault open. The page of the late sign-in must name that process.
    let (status, page) = browse(&lab, &waiting.url(), JANE, "yes");
    assert!(
        status == 403 && page.contains("in use by another mailferry process (pid"),
        "{page}"
    );
    assert!(!waiting.ended().0);
}

#[test]
fn ctrl_c_ends_a_sign_in_for_everybody() {
    let lab = Lab::with(plan("authorization_code"));
    let connect = Connect::begin(&lab, &["--no-browser"]);
    let url: url::Url = connect.url().parse().expect("a URL");
    let redirect = url.query_pairs().find(|(name, _)| name == "redirect_uri");
    let redirect: url::Url = redirect.expect("one").1.parse().expect("a URL");
    let place = ("127.0.0.1", redirect.port().expect("a port"));
    assert!(std::net::TcpStream::connect(place).is_ok());
    assert_eq!(connect.interrupted(), Some(130));
    lab.wait_for("closed port", || {
        std::net::TcpStream::connect(place).is_err().then_some(())
    });
}

#[test]
fn trouble_that_passes_does_not_end_a_sign_in() {
    let lab = Lab::with(plan("device_code"));
    let connect = Connect::begin(&lab, &[]);
    lab.fault(
        r#"{"stage":"token","action":{"reply":"503 <html>busy</html>"},"matches":"device_code"}"#,
    );
    let code = connect.user_code();
    let url = connect.url().parse().expect("a URL");
    let fields = [
        ("user_code", code.as_str()),
        ("user", JANE),
        ("answer", "yes"),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(lab.post(url, &fields).0, 200);
    assert!(connect.ended().0);
}

#[test]
fn a_refusal_by_the_provider_is_remembered() {
    let plan = plan("refresh_token");
    let server = "grant = \"refresh_token\"\nrefresh_token = { file = \"refresh\" }";
    let lab = Lab::stopped(Plan {
        configuration: plan
            .configuration
            .replace("grant = \"refresh_token\"", server),
        ..plan
    });
    lab.write_private("refresh", "\u{feff}garbage\n");
    assert!(!lab.run(&["test", "jane"]).status.success());
    let tokens = lab.run(&["tokens"]);
    let said = String::from_utf8_lossy(&tokens.stdout).into_owned();
    assert!(
        !tokens.status.success() && said.contains("AADSTS70000"),
        "{said}"
    );
    lab.write_private("refresh", "refresh-jane@example.com");
    assert!(lab.run(&["test", "jane"]).status.success());
    assert!(lab.stdout(&["tokens"]).contains("token valid until"));
    assert!(lab.stdout(&["disconnect", "jane"]).contains("deleted"));
    let tokens = lab.run(&["tokens"]);
    assert!(
        !tokens.status.success(),
        "the file alone does not restore the token"
    );
}
