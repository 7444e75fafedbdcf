//! Delivery reports are found in the mailbox, and bounces are recorded in the stories of their messages.

use mailferry::base::Timestamp;

use crate::support::{Lab, Plan, SERVER, USUAL, admitted, for_reading, id_of};

const MAILBOX: &str = "notifications@example.com";
const APP: &str = "erp@app.example";

/// Returns a configuration whose server has these further keys.
fn configuration(keys: &str) -> String {
    let server = for_reading(SERVER).replace("from_filter", &format!("{keys}\nfrom_filter"));
    USUAL.to_owned() + &server
}

fn lab(keys: &str) -> Lab {
    Lab::with(Plan {
        configuration: configuration(keys),
        mailboxes: vec![MAILBOX],
        ..Plan::default()
    })
}

/// Sends a message to these recipients, and returns its id.
fn send(lab: &Lab, sender: &str, recipients: &[&str]) -> String {
    let from =
        format!("From: <{sender}>\r\nMessage-ID: <4711@erp>\r\nSubject: Invoice\r\n\r\nHello\r\n");
    id_of(&lab.client().send(sender, recipients, &from))
}

fn trace(lab: &Lab, what: &str) -> String {
    lab.stdout(&["trace", what])
}

#[test]
fn a_bounce_is_recorded_in_the_story() {
    let lab = lab("bounces = true");
    lab.state()
        .deposit(MAILBOX, admitted("other mail").into_bytes());
    let id = send(
        &lab,
        MAILBOX,
        &["ann@example.net", "bounce-5.1.10@example.net"],
    );
    let line = lab.logged(&["event=\"bounced\"", &id]);
    assert!(line.contains("to=\"bounce-5.1.10@example.net\""), "{line}");
    assert!(
        line.contains("remedy=\"the address does not exist"),
        "{line}"
    );
    let story = trace(&lab, &id);
    assert!(
        story.contains("bounced: notifications accepted it, but it did not reach bounce-5.1.10@example.net: 550 5.1.10 RESOLVER"),
        "{story}"
    );
    // The message itself is found by any of its addresses, with both fates.
    assert!(trace(&lab, MAILBOX).contains("1 delivered, 1 bounced"));
    assert!(
        trace(&lab, "bounce-5.1.10@example.net").contains("bounced: notifications accepted it")
    );
    // Exchange stores no keywords, and the app's sender receives reports itself.
    assert_eq!(lab.state().inbox(MAILBOX).len(), 2);
    assert!(!lab.log().contains("event=\"reported\""));
}

#[test]
fn a_report_is_passed_on_to_the_sender_that_was_rewritten() {
    let lab = lab("bounces = true\nbounce_folder = \"Bounces\"");
    let id = send(&lab, APP, &["bounce-5.2.2@example.net"]);
    lab.logged(&["event=\"bounced\"", &id]);
    // The report to the app's sender leaves like any other.
    let report = lab.delivered(2).pop().expect("the report");
    assert_eq!(report.recipients, [APP]);
    for words in [
        "Final-Recipient: rfc822; bounce-5.2.2@example.net",
        "Status: 5.2.2",
        "The recipient's mailbox is full".to_lowercase().as_str(),
        "Message-ID: <4711@erp>",
    ] {
        assert!(report.text.contains(words), "{words}: {}", report.text);
    }
    let story = trace(&lab, &id);
    assert!(
        story.contains("delivered by notifications as notifications@example.com"),
        "{story}"
    );
    assert!(story.contains(&format!("reported to {APP}")), "{story}");
    // The report has left INBOX for the folder, and nothing else has.
    let moved = || lab.state().inbox(MAILBOX).is_empty().then_some(());
    lab.wait_for("the report to be moved", moved);
    assert_eq!(lab.state().folder(MAILBOX, "Bounces").len(), 1);
}

#[test]
fn a_report_is_recorded_once_whatever_happens() {
    let mut lab = lab("bounces = true\ndelete_bounces = true");
    let id = send(&lab, APP, &["bounce-5.1.10@example.net"]);
    lab.delivered(2);
    let gone = |lab: &Lab, what: &str| {
        lab.wait_for(what, || lab.state().inbox(MAILBOX).is_empty().then_some(()))
    };
    gone(&lab, "the report to be deleted");
    // Another report about the same message arrives: it is deleted, and nothing is recorded.
    let text = lab.state().delivered()[0].text.clone();
    let again = || {
        format!(
        "From: postmaster@example.net\r\nMessage-ID: <other@x>\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; bounce-5.1.10@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\n{text}\r\n--b--\r\n"
    ).into_bytes()
    };
    lab.state().deposit(MAILBOX, again());
    gone(&lab, "the second report to be deleted");
    // After a crash the whole mailbox is looked at again.
    lab.kill();
    lab.state().deposit(MAILBOX, again());
    let spool = rusqlite::Connection::open(lab.path("data/spool/spool.sqlite"));
    let forgotten =
        spool.and_then(|it| it.execute("DELETE FROM note WHERE name LIKE 'bounces/%'", []));
    assert_eq!(forgotten.expect("the note"), 1);
    lab.start();
    gone(&lab, "the third report to be deleted");
    let story = trace(&lab, &id);
    assert_eq!(story.matches("bounced:").count(), 1, "{story}");
    assert_eq!(story.matches("reported to").count(), 1, "{story}");
}

#[test]
fn mail_other_than_reports_about_our_messages_is_left_unchanged() {
    let lab = lab("bounces = true\ndelete_bounces = true");
    send(&lab, MAILBOX, &["ann@example.net"]);
    lab.delivered(1);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
    let files = std::fs::read_dir(folder).expect("the corpus");
    let mut count = 0;
    for file in files.map(|file| file.expect("a file").path()) {
        if file.extension().is_some_and(|it| it == "eml") {
            let text = std::fs::read_to_string(&file).expect("a mail");
            lab.state()
                .deposit(MAILBOX, text.replace('\n', "\r\n").into_bytes());
            count += 1;
        }
    }
    // Once this later bounce is recorded, all earlier messages have been examined.
    let id = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
    lab.logged(&["event=\"bounced\"", &id]);
    lab.logged(&["event=\"foreign_report\""]);
    let left = || (lab.state().inbox(MAILBOX).len() == count).then_some(());
    lab.wait_for("the report to be deleted", left);
    assert!(
        lab.state()
            .inbox(MAILBOX)
            .iter()
            .all(|it| it.flags.is_empty())
    );
}

#[test]
fn a_mailbox_is_watched_again_after_its_session_was_lost() {
    let lab = lab("bounces = true");
    lab.logged(&["event=\"reports_watched\""]);
    lab.fault(r#"{"stage": "reading_first", "matches": "IDLE", "action": "drop"}"#);
    let bounce = || {
        let id = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
        lab.logged(&["event=\"bounced\"", &id]);
    };
    bounce();
    // If the fault has not dropped an IDLE yet, this bounce ends the current one, and the next is dropped.
    bounce();
    lab.wait_for("the fault", || lab.state().script.is_over().then_some(()));
    bounce();
    assert!(!lab.log().contains("event=\"reports_unread\""));
}

#[test]
fn a_reload_begins_to_watch_a_mailbox() {
    let lab = lab("");
    let id = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
    lab.delivered(1);
    lab.configure(&configuration("bounces = true"));
    lab.signal("HUP");
    lab.logged(&["event=\"bounced\"", &id]);
    assert!(
        lab.stdout(&["check"])
            .contains("delivery reports in its INBOX are read, then marked")
    );
}

/// Returns a report without a Message-ID of the original; `more` are further fields.
fn report(recipient: &str, arrival: Timestamp, more: &str) -> Vec<u8> {
    let (arrival, headers) = (
        arrival.rfc5322(),
        "From: MAILER-DAEMON@mx.example.net\r\nMessage-ID: <r@mx>\r\n",
    );
    format!(
        "{headers}Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n{more}Arrival-Date: {arrival}\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 Unknown\r\n\r\n--b--\r\n"
    )
    .into_bytes()
}

#[test]
fn a_report_without_a_message_id_is_matched_by_envelope_id_or_by_recipient_and_time() {
    let lab = lab("bounces = true\ndelete_bounces = true");
    let send = |recipient: &str, envelope_id: &str| {
        let mut client = lab.client();
        client.expect(&format!("MAIL FROM:<{MAILBOX}> {envelope_id}"), "250");
        client.expect(&format!("RCPT TO:<{recipient}>"), "250");
        client.expect("DATA", "354");
        client.raw(format!("{}.\r\n", admitted("Invoice")).as_bytes());
        id_of(&client.reply())
    };
    let (_, second) = (
        send("ann@example.net", "ENVID=one"),
        send("ann@example.net", "ENVID=two"),
    );
    let only = send("bob@example.net", "");
    lab.delivered(3);
    let (now, late) = (Timestamp::now(), std::time::Duration::from_secs(7_200));
    // Two messages went to Ann at the time, and none to Bob two hours earlier: these reports say too little.
    lab.state()
        .deposit(MAILBOX, report("ann@example.net", now, ""));
    lab.state()
        .deposit(MAILBOX, report("bob@example.net", now.before(late), ""));
    lab.state().deposit(
        MAILBOX,
        report("ann@example.net", now, "Original-Envelope-Id: two\r\n"),
    );
    lab.state()
        .deposit(MAILBOX, report("bob@example.net", now, ""));
    for id in [&second, &only] {
        lab.logged(&["event=\"bounced\"", id]);
    }
    lab.wait_for("the others to be given up", || {
        (lab.log().matches("event=\"foreign_report\"").count() == 2).then_some(())
    });
    assert_eq!(lab.log().matches("event=\"bounced\"").count(), 2);
    lab.wait_for("the matched reports to be deleted", || {
        (lab.state().inbox(MAILBOX).len() == 2).then_some(())
    });
}

#[test]
fn an_interrupted_first_look_is_done_again() {
    let mut lab = Lab::stopped(Plan {
        configuration: configuration("bounces = true\ndelete_bounces = true"),
        mailboxes: vec![MAILBOX],
        ..Plan::default()
    });
    lab.fault(r#"{"stage": "reading_first", "matches": "FETCH", "action": "drop"}"#);
    for number in 0..150 {
        lab.state()
            .deposit(MAILBOX, admitted(&number.to_string()).into_bytes());
    }
    lab.state()
        .deposit(MAILBOX, report("ann@example.net", Timestamp::now(), ""));
    lab.start();
    let id = send(&lab, MAILBOX, &["ann@example.net"]);
    lab.logged(&["event=\"bounced\"", &id]);
    assert!(lab.state().script.is_over());
    lab.wait_for("the report to be deleted", || {
        (lab.state().inbox(MAILBOX).len() == 150).then_some(())
    });
}

#[test]
fn a_refused_message_keeps_no_other_report_from_being_read() {
    let lab = lab("bounces = true");
    // A first bounce shows that the mailbox is watched. Then the header fields of the next message are refused, and
    // then the message.
    let id = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
    lab.logged(&["event=\"bounced\"", &id]);
    lab.fault(r#"{"stage": "reading_first", "matches": "FETCH", "times": 2, "action": {"reply": "NO Cannot read it"}}"#);
    lab.state()
        .deposit(MAILBOX, admitted("damaged").into_bytes());
    lab.logged(&[
        "event=\"message_unread\"",
        "refused FETCH: NO Cannot read it",
    ]);
    let id = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
    lab.logged(&["event=\"bounced\"", &id]);
}

#[test]
fn several_messages_may_have_one_message_id() {
    let lab = lab("bounces = true");
    // Odoo sends the same message to each partner separately, with one Message-ID.
    let first = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
    let second = send(&lab, MAILBOX, &["bounce-5.2.2@example.net"]);
    for id in [&first, &second] {
        let line = lab.logged(&["event=\"bounced\"", id]);
        assert!(
            line.contains(if id == &first { "5.1.10" } else { "5.2.2" }),
            "{line}"
        );
    }
    let third = send(&lab, MAILBOX, &["ann@example.net"]);
    lab.delivered(3);
    assert!(!trace(&lab, &third).contains("bounced"));
}

#[test]
fn a_report_that_mailferry_wrote_is_not_a_bounce() {
    let lab = lab("bounces = true\ndelete_bounces = true");
    lab.fault(
        r#"{"stage": "rcpt", "matches": "bob@", "action": {"reply": "550 5.1.1 No such user"}}"#,
    );
    let id = send(&lab, MAILBOX, &["ann@example.net", "bob@example.net"]);
    // The report about Bob goes to the mailbox itself, as its sender.
    lab.logged(&["event=\"reported\"", &id]);
    let arrived = || (lab.state().inbox(MAILBOX).len() == 1).then_some(());
    lab.wait_for("our report", arrived);
    // A bounce of another message shows that our report was looked at.
    let other = send(&lab, MAILBOX, &["bounce-5.1.10@example.net"]);
    lab.logged(&["event=\"bounced\"", &other]);
    lab.wait_for("the report about the other one to be deleted", arrived);
    assert!(!trace(&lab, &id).contains("bounced"));
}
