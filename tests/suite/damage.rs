//! Disks that fail: each message that was answered 250 arrives or is named in the log. strace makes the
//! system calls fail.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Lab, Plan, have, id_of};

const SENDER: &str = "notifications@example.com";

fn message(subject: &str, octets: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(70));
    let body = line.repeat(octets / line.len() + 1);
    format!("From: {SENDER}\r\nSubject: {subject}\r\n\r\n{body}")
}

fn contents(lab: &Lab) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(lab.path("data/spool/content")).expect("the folder");
    folder
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn a_content_that_the_disk_has_changed_is_held_and_named() {
    let mut lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    let ids = ["changed", "cut", "lost", "whole", "small"].map(|subject| {
        let octets = if subject == "small" { 100 } else { 200_000 };
        id_of(&lab.send(SENDER, &message(subject, octets)))
    });
    lab.stop();
    let file = |id: &str| {
        let found = contents(&lab)
            .into_iter()
            .find(|path| path.ends_with(format!("{id}.eml")));
        found.expect("a file")
    };
    let write = |id: &str| {
        std::fs::File::options()
            .write(true)
            .open(file(id))
            .expect("opens")
    };
    write(&ids[0]).write_at(b"y", 150_000).expect("writes");
    write(&ids[1]).set_len(100_000).expect("cuts");
    std::fs::remove_file(file(&ids[2])).expect("removes");
    lab.start();
    lab.stdout(&["release", "notifications"]);
    lab.delivered(2);
    for (id, words) in [
        (&ids[0], "is damaged"),
        (&ids[1], "; restore it from a backup"),
        (&ids[2], "No such file"),
    ] {
        lab.logged(&["event=\"held\"", id, words]);
        let shown = lab.stdout(&["queue", "show", id]);
        assert!(
            shown.contains(&format!("{id}.eml")) && shown.contains(words),
            "{shown}"
        );
    }
}

#[test]
fn a_damaged_database_is_named_with_what_mends_it() {
    let mut lab = Lab::new();
    lab.stop();
    let database = lab.path("data/spool/spool.sqlite");
    let file = std::fs::File::options()
        .write(true)
        .open(database)
        .expect("opens");
    file.write_at(&[0x55; 4_096], 0).expect("writes");
    for command in [["serve"].as_slice(), &["queue", "list"]] {
        let output = lab.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("spool.sqlite in `data_dir` is damaged") && said.contains(".recover"),
            "{said}"
        );
    }
}

#[test]
fn a_damaged_log_of_the_database_is_told_and_nothing_of_it_is_swept() {
    let mut lab = Lab::new();
    lab.stdout(&["hold", "notifications"]);
    let first = id_of(&lab.send(SENDER, &message("first", 200_000)));
    let log = lab.path("data/spool/spool.sqlite-wal");
    let octets = std::fs::metadata(&log).expect("a log").len();
    for number in 0..8 {
        id_of(&lab.send(SENDER, &message(&format!("{number}"), 200_000)));
    }
    lab.kill();
    let file = std::fs::File::options().write(true).open(&log);
    // The damage is in the first frame after the first message.
    let written = file.expect("opens").write_at(&[0x55; 64], octets + 100);
    written.expect("writes");
    lab.start();
    lab.logged(&["spool_log_damaged", "spool.sqlite-wal.damaged-"]);
    lab.logged(&["contents_without_rows", "count=8", "spool/lost"]);
    let lost = std::fs::read_dir(lab.path("data/spool/lost")).expect("a folder");
    assert_eq!(lost.count(), 8, "the contents are kept for an operator");
    assert!(lab.stdout(&["queue", "list"]).contains(&first));
    lab.stdout(&["release", "notifications"]);
    assert!(lab.delivered(1)[0].text.contains("Subject: first"));
    lab.empties();
}

#[test]
fn what_a_failing_disk_did_not_take_was_not_promised() {
    if !have("damage::failing", &["strace"]) {
        return;
    }
    // In the first round, syncs of the database's log fail; in the second round, writes fail. `when` has the
    // numbers of the calls that fail; all others succeed.
    for (call, when) in [("fdatasync", "20..32"), ("pwrite64", "150..190")] {
        let mut lab = Lab::stopped(Plan::default());
        let log = lab.path("data/spool/spool.sqlite-wal");
        lab.start_with_faults(&log, &format!("{call}:error=EIO:when={when}"));
        let mut promised = Vec::new();
        for number in 0..40 {
            let subject = format!("{call}-{number}-");
            let reply = lab
                .client()
                .send_or_refused(SENDER, &message(&subject, 100));
            match reply.get(..3) {
                Some("250") => promised.push(subject),
                Some("451" | "452") => {}
                _ => panic!("{reply}"),
            }
        }
        let refused = 40 - promised.len();
        assert!(
            promised.len() >= 5 && refused >= 1,
            "{call}: {refused} refused"
        );
        lab.kill();
        lab.start();
        lab.wait_for("what was promised", || {
            let delivered = lab.state().delivered();
            let arrived = |subject: &&String| delivered.iter().any(|it| it.text.contains(*subject));
            promised
                .iter()
                .all(|subject| arrived(&subject))
                .then_some(())
        });
    }
}

#[test]
fn while_fates_cannot_be_written_nothing_more_is_sent() {
    if !have("damage::fates", &["strace"]) {
        return;
    }
    const WAITING: usize = 600;
    let lab = Lab::new();
    lab.fault(r#"{"stage":"connect","action":"drop","times":1000000}"#);
    let mut client = lab.client();
    for number in 0..WAITING {
        id_of(&client.send(SENDER, &["to@b.c"], &message(&format!("{number}-"), 10)));
    }
    let log = lab.path("data/spool/spool.sqlite-wal");
    let id = lab.id().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-p", &id, "-P"])
        .arg(&log)
        .args(["-e", "inject=pwrite64:error=ENOSPC"])
        .spawn()
        .expect("starts");
    lab.wait_for("strace", || {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let tracer = status.lines().find(|line| line.starts_with("TracerPid:"))?;
        (tracer.trim_end() != "TracerPid:\t0").then_some(())
    });
    lab.state().script.clear();
    // Wait until several writes have failed. The attempts are a second apart.
    lab.wait_for("failures", || {
        (lab.log().matches("event=\"finish_failed\"").count() >= 3).then_some(())
    });
    let sent = lab.state().stats().messages;
    assert!((1..100).contains(&sent), "{sent} of {WAITING} were sent");
    strace.kill().expect("ours");
    strace.wait().expect("ends");
    lab.logged(&["event=\"finishes_written\""]);
    let delivered = lab.delivered(WAITING as u64);
    lab.empties();
    assert_eq!(delivered.len(), WAITING, "each once");
}
