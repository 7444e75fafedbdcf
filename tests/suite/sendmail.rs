//! `mailferry sendmail`: programs pass messages on standard input, whether the program runs or not.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::{Lab, PROGRAM, Plan, SERVER, USUAL, have, skipped};

/// A laboratory with a local socket, for a user without a password.
fn plan() -> Plan {
    let configuration = USUAL.replace(
        "password = { file = \"erp.argon2\" }",
        "networks = [\"127.0.0.1\"]",
    );
    let local = "\n[[listener]]\nname = \"local\"\nsocket = \"sendmail.sock\"\n";
    Plan {
        configuration: configuration + local + SERVER,
        ..Plan::default()
    }
}

/// Returns a link to the program with the name `sendmail`.
fn link(lab: &Lab) -> PathBuf {
    let path = lab.path("sendmail");
    if !path.exists() {
        symlink(PROGRAM, &path).expect("links");
    }
    path
}

/// Returns a command with this laboratory's configuration in its environment.
fn in_lab(lab: &Lab, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("MAILFERRY_CONFIG", lab.path("mailferry.toml"))
        .env("TEST_SECRET", "sandbox-secret")
        .env("GIT_AUTHOR_NAME", "Dev")
        .env("GIT_AUTHOR_EMAIL", "dev@x.com")
        .env("GIT_COMMITTER_NAME", "Dev")
        .env("GIT_COMMITTER_EMAIL", "dev@x.com")
        .env("HOME", lab.folder.path())
        .current_dir(lab.folder.path());
    command
}

fn fed(mut command: Command, input: &str) -> Output {
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that ends early does not read everything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("ends")
}

fn sendmail(lab: &Lab, arguments: &[&str], input: &str) -> Output {
    fed(in_lab(lab, link(lab), arguments), input)
}

fn succeeded(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// As Debian's cron calls it for the output of a job.
const CRON: &[&str] = &["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "jo@x.com"];
const CRON_INPUT: &str =
    "From: root (Cron Daemon)\nTo: jo@x.com\nSubject: Cron <root@host> job\n\nöutput\n.\nmore\n";

#[test]
fn mail_to_root_goes_where_the_aliases_say() {
    let lab = Lab::with(plan());
    lab.write(
        "aliases",
        "postmaster: root\nroot: admin@example.com, ops@example.com\n",
    );
    let aliases = format!("-oA{}", lab.path("aliases").display());
    let cron = ["-FCronDaemon", "-i", "-B8BITMIME", "-oem", &aliases, "root"];
    succeeded(&sendmail(&lab, &cron, "To: root\nSubject: job\n\noutput\n"));
    let got = lab.delivered(1).remove(0);
    assert_eq!(got.recipients, ["admin@example.com", "ops@example.com"]);
    // With -t the header names the same user.
    succeeded(&sendmail(
        &lab,
        &["-t", &aliases],
        "To: Postmaster\nSubject: job\n\noutput\n",
    ));
    let got = lab.delivered(2).remove(1);
    assert_eq!(got.recipients, ["admin@example.com", "ops@example.com"]);
}

#[test]
fn cron_is_heard_whether_the_program_runs_or_not() {
    let mut lab = Lab::with(plan());
    succeeded(&sendmail(&lab, CRON, CRON_INPUT));
    let first = lab.delivered(1).remove(0);
    assert_eq!(first.recipients, ["jo@x.com"]);
    assert!(
        first.text.contains("Subject: Cron <root@host> job"),
        "{}",
        first.text
    );
    assert!(
        first.text.contains("öutput\r\n.\r\nmore\r\n"),
        "{}",
        first.text
    );
    assert!(
        first.text.contains("<notifications@example.com>"),
        "{}",
        first.text
    );
    let mode = lab
        .path("sendmail.sock")
        .metadata()
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);

    // All of MAILTO is one argument.
    let both = ["-i", "-oem", "a@x.com,b@x.com"];
    succeeded(&sendmail(&lab, &both, CRON_INPUT));
    assert_eq!(lab.delivered(2)[1].recipients, ["a@x.com", "b@x.com"]);

    lab.stop();
    assert!(!lab.path("sendmail.sock").exists(), "the socket is gone");
    succeeded(&sendmail(&lab, CRON, &CRON_INPUT.replace("job", "later")));
    let listed = lab.stdout(&["queue", "list"]);
    assert!(listed.contains("jo@x.com"), "{listed}");
    lab.start();
    let second = lab.delivered(3).remove(2);
    assert!(
        second.text.contains("Cron <root@host> later"),
        "{}",
        second.text
    );
    lab.empties();
}

#[test]
fn a_refusal_has_the_exit_code_of_its_kind() {
    let mut lab = Lab::with(plan());
    let said = |output: Output, code: i32, words: &str| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "no {words:?} in {text}");
    };
    said(sendmail(&lab, &["-i"], ""), 64, "no recipient");
    said(
        sendmail(&lab, &["-t"], "Subject: x\n\ntext\n"),
        65,
        "names no recipient",
    );
    said(
        sendmail(&lab, &["not an address@"], ""),
        64,
        "not an address@",
    );
    said(sendmail(&lab, &["-bp"], ""), 64, "mailferry queue list");
    assert!(sendmail(&lab, &["-q"], "").status.success());
    let strict = std::fs::read_to_string(lab.path("mailferry.toml")).expect("reads");
    let strict = strict.replace(
        "networks = [\"127.0.0.1\"]",
        "networks = [\"127.0.0.1\"]\nsenders = \"ok@x.com\"\nrecipients = \"y.com\"",
    );
    lab.write("mailferry.toml", &strict);
    lab.stdout(&["reload"]);
    said(
        sendmail(&lab, &["-f", "boss@x.com", "a@y.com"], "text\n"),
        77,
        "may not send as <boss@x.com>",
    );
    said(
        sendmail(&lab, &["-f", "ok@x.com", "a@y.com", "b@z.com"], "text\n"),
        67,
        "may not send to <b@z.com>",
    );
    // The other recipient got it.
    assert_eq!(lab.delivered(1)[0].recipients, ["a@y.com"]);
    // A message that is refused is refused also if the program is stopped.
    lab.stop();
    said(
        sendmail(&lab, &["-f", "boss@x.com", "a@y.com"], "text\n"),
        77,
        "may not send as <boss@x.com>",
    );
    std::fs::remove_dir_all(lab.path("data")).expect("removes");
    said(
        sendmail(&lab, &["-f", "ok@x.com", "a@y.com"], "text\n"),
        75,
        "no spool",
    );
    lab.write("mailferry.toml", "[[listener]\n");
    said(sendmail(&lab, &["a@y.com"], "text\n"), 78, "mailferry.toml");
}

#[test]
fn a_program_speaks_smtp_on_its_pipes() {
    let lab = Lab::with(plan());
    let dialogue = "EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<jo@x.com>\r\nDATA\r\nSubject: piped\r\n\r\ntext\r\n.\r\nQUIT\r\n";
    let output = sendmail(&lab, &["-bs"], dialogue);
    succeeded(&output);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.starts_with("220 ") && said.contains("\n221 "),
        "{said}"
    );
    assert!(lab.delivered(1)[0].text.contains("Subject: piped"));
    lab.empties();
}

#[test]
fn php_mailx_and_git_send_by_it() {
    let test = "php_mailx_and_git_send_by_it";
    if !have(test, &["php", "mailx"]) {
        return;
    }
    let git = std::path::Path::new("/usr/lib/git-core/git-send-email");
    if !git.exists() {
        return skipped(test, "git-email is not installed; run tests/run");
    }
    let mut lab = Lab::with(plan());
    let path = link(&lab);
    let path = path.to_str().expect("UTF-8");
    let mut count = 0;
    for is_running in [true, false] {
        if !is_running {
            lab.stop();
        }
        let php = format!("sendmail_path={path} -t -i");
        let code = "exit(mail('php@x.com', 'Prüfung', \"line\\n.\\nend\", ['From' => 'shop@shop.test']) ? 0 : 1);";
        succeeded(&fed(in_lab(&lab, "php", &["-d", &php, "-r", code]), ""));
        lab.write(".mailrc", &format!("set sendmail={path}\n"));
        succeeded(&fed(
            in_lab(&lab, "mailx", &["-s", "from mailx", "mailx@x.com"]),
            "text\n",
        ));
        let patch = "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: Dev <dev@x.com>\nDate: Fri, 27 Nov 2026 00:00:00 +0000\nSubject: [PATCH] git\n\ntext\n---\n";
        lab.write("0001.patch", patch);
        let server = format!("--smtp-server={path}");
        let arguments = [
            "send-email",
            "--confirm=never",
            "--quiet",
            "--from=dev@x.com",
            "--to=git@x.com",
            "--suppress-cc=all",
            &server,
            "0001.patch",
        ];
        succeeded(&fed(in_lab(&lab, "/usr/bin/git", &arguments), ""));
        count += 3;
        if !is_running {
            lab.start();
        }
        let all = lab.delivered(count);
        for to in ["php@x.com", "mailx@x.com", "git@x.com"] {
            let mine = all[all.len() - 3..].iter().find(|it| it.recipients == [to]);
            let mine = mine.unwrap_or_else(|| panic!("nothing to {to}, running: {is_running}"));
            assert!(mine.text.contains("From: "), "{}", mine.text);
        }
    }
    lab.empties();
}
