//! `mailferry setup`, by options and at a terminal: what it writes is right, and delivers in the sandbox.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use mailferry::sandbox::App;

use crate::support::{Lab, PROGRAM, Plan, have};

const CLIENT_ID: &str = "12345678-1234-1234-1234-123456789abc";

const MAILBOX: &str = "notifications@example.com";

/// Runs `mailferry setup` in this folder without a terminal. Returns the exit code and both outputs.
pub fn setup(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM)
        .arg("setup")
        .arg("--output")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

pub fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).expect(name)
}

/// Returns the parts of a script that are not PowerShell.
fn errors(script: &str) -> Vec<String> {
    let mut parser = tree_sitter::Parser::new();
    let language = tree_sitter_powershell::LANGUAGE.into();
    parser.set_language(&language).expect("a language");
    let tree = parser.parse(script, None).expect("a tree");
    let mut found = Vec::new();
    let mut nodes = vec![tree.root_node()];
    while let Some(node) = nodes.pop() {
        if node.is_error() || node.is_missing() {
            found.push(format!(
                "{}: {}",
                node.start_position(),
                &script[node.byte_range()]
            ));
        }
        nodes.extend(node.children(&mut node.walk()));
    }
    found
}

#[test]
fn by_options_it_writes_what_check_accepts_and_the_sandbox_delivers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let options = [
        "--mailbox",
        MAILBOX,
        "--mailbox",
        "o'brien@example.com",
        "--from-filter",
        "notifications@example.com=example.org",
        "--client-id",
        CLIENT_ID,
        "--network",
        "192.0.2.0/24",
    ];
    let (code, said, errors_said) = setup(path, &options);
    assert_eq!(code, Some(0), "{said}{errors_said}");
    let key = std::fs::metadata(path.join("app.key")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let script = read(path, "microsoft365.ps1");
    assert_eq!(errors(&script), Vec::<String>::new());
    assert!(
        script.contains("@('notifications@example.com', 'o''brien@example.com')"),
        "{script}"
    );
    let certificate = read(path, "app.pem");
    let encoded: String = certificate
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let der = BASE64_STANDARD.decode(&encoded).expect("base64");
    assert!(script.contains(&format!("'{encoded}'")) && der.len() > 500);
    assert!(!script.contains("PRIVATE") && !read(path, "mailferry.toml").contains("PRIVATE"));

    // The same configuration, with the sandbox in place of Microsoft's hosts.
    let configuration = read(path, "mailferry.toml");
    let ours = "token_url = \"{token_url}\"\nca = \"ca.pem\"\n";
    let host =
        "grant = \"client_credentials\"\nhost = \"localhost\"\nport = {smtp}\nca = \"ca.pem\"\n";
    let configuration = configuration
        .replace("127.0.0.1:2525", "127.0.0.1:0")
        .replace("[oauth.microsoft]\n", &format!("[oauth.microsoft]\n{ours}"))
        .replace("grant = \"client_credentials\"\n", host);
    let mut lab = Lab::stopped(Plan {
        mailboxes: vec![MAILBOX, "o'brien@example.com"],
        send_as: vec!["x@example.org"],
        apps: vec![App {
            id: CLIENT_ID.into(),
            certificates: vec![der.into()],
            ..App::default()
        }],
        configuration,
        ..Plan::default()
    });
    for (name, private) in [("app.pem", false), ("app.key", true), ("apps.argon2", true)] {
        match private {
            true => lab.write_private(name, &read(path, name)),
            false => lab.write(name, &read(path, name)),
        }
    }
    lab.start();
    let password = said
        .split("shown only now: ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let mut client = lab.client_as("apps", password.expect("a password"));
    for sender in [
        "notifications@example.com",
        "x@example.org",
        "somebody@elsewhere.example",
    ] {
        let message = format!("From: {sender}\r\nSubject: x\r\n\r\nx\r\n");
        assert!(
            client
                .send(sender, &["a@example.net"], &message)
                .starts_with("250"),
            "{sender}"
        );
    }
    lab.delivered(3);

    let (code, _, said) = setup(path, &options);
    assert!(
        code == Some(69) && said.contains("mailferry.toml exists already"),
        "{said}"
    );
}

#[test]
fn for_a_person_there_is_no_key_and_reading_gets_its_own_listener() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let (code, said, _) = setup(
        path,
        &[
            "--mailbox",
            MAILBOX,
            "--sign-in",
            "person",
            "--reading",
            "--default-from",
            "none",
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(!path.join("app.key").exists() && said.contains("mailferry connect notifications"));
    let configuration = read(path, "mailferry.toml");
    for part in [
        "grant = \"authorization_code\"",
        "protocol = \"imap\"",
        "00000000-0000-0000-0000-000000000000",
    ] {
        assert!(configuration.contains(part), "{part}: {configuration}");
    }
    assert!(!configuration.contains("default_from ="), "{configuration}");
    let script = read(path, "microsoft365.ps1");
    assert_eq!(errors(&script), Vec::<String>::new());
    assert!(script.contains("[bool] $Reading = $true"), "{script}");
}

#[test]
fn the_same_as_clicks() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--mailbox", MAILBOX, "--portal", "--reading"];
    let (code, said, _) = setup(folder.path(), &options);
    assert_eq!(code, Some(0), "{said}");
    assert!(!folder.path().join("microsoft365.ps1").exists());
    for part in [
        "1. https://entra.microsoft.com",
        "Upload certificate: app.pem",
        "New-ServicePrincipal -AppId",
        "Test-ServicePrincipalAuthorization",
        "in place of APPLICATION-ID",
        "Application permissions: IMAP.AccessAsApp",
        "Add-MailboxPermission -Identity 'notifications@example.com'",
        "(Get-Mailbox 'notifications@example.com').Guid",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn wrong_options_are_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    for (options, part) in [
        (&[][..], "name a mailbox with --mailbox"),
        (
            &[
                "--mailbox",
                MAILBOX,
                "--from-filter",
                "x@example.com=example.org",
            ],
            "add --mailbox x@example.com",
        ),
        (&["--mailbox", "nobody"], "nobody"),
        (
            &["--mailbox", MAILBOX, "--user", "../x"],
            "cannot be part of a file name",
        ),
        (
            &["--mailbox", MAILBOX, "--from-filter", "example.org"],
            "MAILBOX=FILTER",
        ),
    ] {
        let (code, _, said) = setup(folder.path(), options);
        assert!(
            code != Some(0) && said.contains(part),
            "{options:?}: {said}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 0);
    std::fs::write(folder.path().join("apps.argon2"), "").expect("writes");
    let (code, _, said) = setup(folder.path(), &["--mailbox", MAILBOX]);
    assert!(
        code == Some(69) && said.contains("apps.argon2 exists already"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 1);
}

#[test]
fn at_a_terminal_it_asks() {
    if !have("setup at a terminal", &["script"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let command = format!("{PROGRAM} setup --output {}", folder.path().display());
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let answers = "not an address\nnotifications@example.com, info@example.com\nexample.org\n\n\ncontoso.onmicrosoft.com\n\n0.0.0.0:2525\n192.0.2.0/24\n";
    let mut input = child.stdin.take().expect("piped");
    input.write_all(answers.as_bytes()).expect("takes");
    let output = child.wait_with_output().expect("ends");
    drop(input);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let configuration = read(folder.path(), "mailferry.toml");
    for part in [
        "tenant = \"contoso.onmicrosoft.com\"",
        "from_filter = \"notifications@example.com, example.org\"",
        "default_from = \"notifications@example.com\"",
        "address = \"0.0.0.0:2525\"\n# mailferry makes",
        "networks = [\"192.0.2.0/24\"]",
        "name = \"info\"",
    ] {
        assert!(
            configuration.contains(part),
            "{part}: {configuration}\n{said}"
        );
    }
}

#[test]
fn a_test_waits_until_a_permission_works() {
    let lab = Lab::new();
    let refused = "535 5.7.3 Authentication unsuccessful";
    lab.fault(&format!(
        r#"{{"stage":"auth","times":3,"action":{{"reply":"{refused}"}}}}"#
    ));
    let output = lab.run(&[
        "test",
        "notifications",
        "--wait=10ms",
        "--to",
        "a@example.net",
    ]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("not yet AUTH")
            && said.contains("Next try in 10ms")
            && !said.contains("FAILED"),
        "{said}"
    );
    lab.fault(r#"{"stage":"rcpt","action":{"reply":"550 5.1.1 nobody"}}"#);
    let output = lab.run(&[
        "test",
        "notifications",
        "--wait=10ms",
        "--to",
        "a@example.net",
    ]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "what does not mend itself is not waited for"
    );
}

#[test]
fn accounts_of_other_tools_are_taken_over_and_the_rest_is_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let msmtprc = "account office\nhost smtp.office365.com\nfrom reports@example.com\nuser info@example.com\npassword s3cret\naccount default : office\n";
    let emailproxy = format!(
        "[SMTP-1587]\nserver_address = smtp.office365.com\nlocal_address = 127.0.0.1\n\n[{MAILBOX}]\ntoken_url = https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token\noauth2_flow = client_credentials\nclient_id = {CLIENT_ID}\nclient_secret = s3cret\n"
    );
    for (option, text, configured, left) in [
        (
            "--from-msmtp",
            msmtprc,
            "from_filter = \"info@example.com, reports@example.com\"",
            "- account office, password: Microsoft 365 takes no passwords",
        ),
        (
            "--from-emailproxy",
            emailproxy.as_str(),
            "address = \"127.0.0.1:1587\"",
            "client_secret: the new configuration uses a certificate",
        ),
    ] {
        let old = folder.path().join("old");
        std::fs::write(&old, text).expect("writes");
        let new = folder.path().join(option);
        let (code, said, errors) = setup(&new, &[option, &old.display().to_string()]);
        assert_eq!(code, Some(0), "{said}{errors}");
        let configuration = read(&new, "mailferry.toml");
        assert!(configuration.contains(configured), "{configuration}");
        assert!(
            said.contains("Not carried over") && said.contains(left),
            "{said}"
        );
        assert!(!said.contains("s3cret") && !configuration.contains("s3cret"));
    }
    let old = folder.path().join("old");
    std::fs::write(&old, "account a\nhost mail.example.net\n").expect("writes");
    let (code, _, said) = setup(
        &folder.path().join("none"),
        &["--from-msmtp", &old.display().to_string()],
    );
    assert!(
        code == Some(69) && said.contains("there is no account of Microsoft 365"),
        "{said}"
    );
}

#[test]
fn a_private_key_never_gets_into_the_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let options = ["--mailbox", MAILBOX];
    assert_eq!(setup(path, &options).0, Some(0));
    let (key, certificate) = (read(path, "app.key"), read(path, "app.pem"));
    for name in [
        "mailferry.toml",
        "microsoft365.ps1",
        "apps.argon2",
        "app.key",
    ] {
        std::fs::remove_file(path.join(name)).expect("removes");
    }
    let (code, _, said) = setup(path, &options);
    assert!(code == Some(69) && said.contains("only one of"), "{said}");
    std::fs::write(path.join("app.pem"), format!("{key}{certificate}")).expect("writes");
    std::fs::write(path.join("app.key"), &key).expect("writes");
    let (_, _, said) = setup(path, &options);
    let script = read(path, "microsoft365.ps1");
    let secret = key.lines().nth(1).expect("a line");
    assert!(!script.contains(secret), "{said}");
    let public = certificate.lines().nth(1).expect("a line");
    assert!(script.contains(public), "{said}");
}

#[test]
fn a_wrong_answer_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let (code, _, said) = setup(
        path,
        &["--mailbox", MAILBOX, "--tenant", "https://example.com"],
    );
    assert!(
        code == Some(69) && said.contains("nothing was written"),
        "{said}"
    );
    assert!(said.contains("tenant"), "{said}");
    assert_eq!(std::fs::read_dir(path).expect("reads").count(), 0);
}

#[test]
fn postfix_and_odoo_are_taken_over_and_compared() {
    if !have("setup::postfix", &["postconf", "postmap"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("postfix");
    std::fs::create_dir(&old).expect("makes");
    std::fs::write(old.join("main.cf"), "compatibility_level = 3.6\n").expect("writes");
    std::fs::write(old.join("master.cf"), "").expect("writes");
    let file = |name: &str, text: &str| {
        let path = old.join(name);
        std::fs::write(&path, text).expect("writes");
        // As an administrator does: what postmap refuses, Postfix would refuse.
        let table = format!("hash:{}", path.display());
        let made = Command::new("/usr/sbin/postmap")
            .arg("-c")
            .arg(&old)
            .arg(&table)
            .status();
        assert!(made.expect("runs").success(), "{name}");
        table
    };
    let relays = file(
        "relays",
        "sales@example.com [smtp.office365.com]:587\n@shop.example [smtp.office365.com]:587\n",
    );
    let logins = "[smtp.office365.com]:587 notifications@example.com:secret\nsales@example.com sales@example.com:secret\n";
    let logins = file("sasl_passwd", logins);
    let generic = file(
        "generic",
        "root@host.example.com notifications@example.com\n",
    );
    for setting in [
        "relayhost = [smtp.office365.com]:587".to_owned(),
        format!("smtp_sasl_password_maps = {logins}"),
        format!("sender_dependent_relayhost_maps = {relays}"),
        format!("smtp_generic_maps = {generic}"),
        "mynetworks = 127.0.0.0/8 192.0.2.0/24".to_owned(),
    ] {
        let mut postconf = Command::new("/usr/sbin/postconf");
        let done = postconf
            .arg("-c")
            .arg(&old)
            .arg("-e")
            .arg(&setting)
            .status();
        assert!(done.expect("runs").success(), "{setting}");
    }
    let new = folder.path().join("new");
    let main = old.join("main.cf").display().to_string();
    let (code, said, wrong) = setup(&new, &["--from-postfix", &main]);
    assert_eq!(code, Some(0), "{said}{wrong}");
    for line in [
        "same   notifications@example.com: notifications@example.com before, now through notifications",
        "same   sales@example.com: sales@example.com before, now through sales",
        "same   somebody@shop.example: notifications@example.com before, now through notifications",
        "the passwords: Microsoft 365 takes no passwords",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
    let configuration = read(&new, "mailferry.toml");
    assert!(configuration.contains("192.0.2.0/24") && configuration.contains("shop.example"));
    assert!(!format!("{said}{configuration}").contains("secret"));

    // Odoo exports what its administrator has typed.
    let servers = "\"Priority\",\"Name\",\"SMTP Server\",\"Username\",\"FROM Filtering\"\n\"10\",\"All\",\"smtp.office365.com\",\"notifications@example.com\",\"example.com\"\n\"20\",\"Jane\",\"smtp.office365.com\",\"jane@example.com\",\"jane@example.com\"\n";
    let parameters =
        "key,value\nmail.default.from,notifications\nmail.catchall.domain,example.com\n";
    let [servers, parameters] =
        [("servers.csv", servers), ("parameters.csv", parameters)].map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("writes");
            path.display().to_string()
        });
    let new = folder.path().join("of-odoo");
    let options = [
        "--from-odoo",
        &servers,
        "--from-odoo",
        &parameters,
        "--client-id",
        CLIENT_ID,
    ];
    let (code, said, wrong) = setup(&new, &options);
    assert_eq!(code, Some(0), "{said}{wrong}");
    for line in [
        "same   somebody@example.com: notifications@example.com before, now through notifications",
        "same   jane@example.com: jane@example.com before, now through jane",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
    assert!(read(&new, "mailferry.toml").contains("default_from = \"notifications@example.com\""));
}
