//! Real clients, as legacy apps use them.

use std::process::{Command, Stdio};

use crate::support::{Lab, admitted, have};

/// Runs a shell script in the laboratory's folder; `$HOST` and `$PORT` are the listener's address.
fn script(lab: &Lab, text: &str) {
    let output = Command::new("sh")
        .args(["-euc", text])
        .current_dir(lab.folder.path())
        .env("HOST", lab.address.ip().to_string())
        .env("PORT", lab.address.port().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{text}\n{out}\n{err}\n{}",
        lab.log()
    );
}

fn arrives(lab: &Lab, subject: &str) {
    let got = lab.delivered(1);
    assert!(
        got[0].text.contains(&format!("Subject: {subject}\r\n")),
        "{}",
        got[0].text
    );
    assert_eq!(got[0].mailbox, "notifications@example.com");
}

#[test]
fn python_smtplib() {
    if !have("python_smtplib", &["python3"]) {
        return;
    }
    let lab = Lab::new();
    lab.write(
        "send.py",
        r#"
import os, smtplib
from email.message import EmailMessage
m = EmailMessage()
m["From"] = "Notifications <notifications@example.com>"
m["To"] = "someone@example.net"
m["Subject"] = "smtplib"
m.set_content("Grüße\n.\n")
with smtplib.SMTP(os.environ["HOST"], int(os.environ["PORT"])) as s:
    s.login("erp", "load")
    s.send_message(m)
    try:
        s.sendmail("notifications@example.com", ["nobody"], "x")
        raise SystemExit("a recipient without a domain was taken")
    except smtplib.SMTPRecipientsRefused as refused:
        assert refused.recipients["nobody"][0] == 501, refused.recipients
"#,
    );
    script(&lab, "python3 send.py");
    arrives(&lab, "smtplib");
}

/// The button "Test Connection" of Odoo: it goes as far as the reply to DATA, closes the connection without QUIT, and takes
/// the largest message size from EHLO. Its sender is the current user, whom no `from_filter` lists.
#[test]
fn odoo_tests_the_connection() {
    if !have("odoo_tests_the_connection", &["python3", "curl"]) {
        return;
    }
    let lab = Lab::new();
    lab.write(
        "test.py",
        r#"
import os, smtplib
connection = smtplib.SMTP(os.environ["HOST"], int(os.environ["PORT"]), timeout=60)
connection.login("erp", "load")
assert connection.mail("administrator@customer.example")[0] == 250
assert connection.rcpt("noreply@odoo.com")[0] in (250, 251)
connection.putcmd("data")
assert connection.getreply()[0] == 354
megabytes = float(connection.esmtp_features["size"]) / 1024 ** 2
assert megabytes == 35, megabytes
connection.close()
"#,
    );
    // Twice: the first leaves nothing behind that disturbs the second.
    script(&lab, "python3 test.py && python3 test.py");
    lab.write("mail", &admitted("after the test").replace("\r\n", "\n"));
    script(
        &lab,
        "curl -sS --url smtp://$HOST:$PORT --user erp:load --mail-from notifications@example.com --mail-rcpt someone@example.net --upload-file mail",
    );
    assert_eq!(lab.delivered(1).len(), 1, "the tests send nothing");
    arrives(&lab, "after the test");
}

#[test]
fn curl() {
    if !have("curl", &["curl"]) {
        return;
    }
    let lab = Lab::new();
    lab.write("mail", &admitted("curl"));
    script(
        &lab,
        "curl -sS --url smtp://$HOST:$PORT --user erp:load --mail-from notifications@example.com --mail-rcpt someone@example.net --upload-file mail",
    );
    arrives(&lab, "curl");
}

#[test]
fn swaks() {
    if !have("swaks", &["swaks"]) {
        return;
    }
    let lab = Lab::new();
    script(
        &lab,
        "swaks --server $HOST --port $PORT --auth LOGIN --auth-user erp --auth-password load --from notifications@example.com \
         --to someone@example.net --header 'Subject: swaks' --body 'A line.' --pipeline",
    );
    arrives(&lab, "swaks");
}

#[test]
fn msmtp() {
    if !have("msmtp", &["msmtp"]) {
        return;
    }
    let lab = Lab::new();
    lab.write("mail", &admitted("msmtp").replace("\r\n", "\n"));
    script(
        &lab,
        "msmtp --file=/dev/null --host=$HOST --port=$PORT --tls=off --auth=plain --user=erp --passwordeval='echo load' \
         --from=notifications@example.com someone@example.net < mail",
    );
    arrives(&lab, "msmtp");
}

#[test]
fn nodemailer() {
    let modules = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("node/node_modules");
    let installed = modules.join("nodemailer").exists();
    let programs: &[&str] = if installed {
        &["node"]
    } else {
        &["nodemailer"]
    };
    if !have("nodemailer", programs) {
        return;
    }
    let lab = Lab::new();
    lab.write(
        "send.js",
        r#"
const transport = require("nodemailer").createTransport({
  host: process.env.HOST, port: Number(process.env.PORT), secure: false, ignoreTLS: true,
  auth: { user: "erp", pass: "load" },
});
transport.sendMail({
  from: "Notifications <notifications@example.com>", to: "someone@example.net", subject: "nodemailer",
  text: "hello", attachments: [{ filename: "a.bin", content: Buffer.alloc(400000, 7) }],
}).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
"#,
    );
    script(
        &lab,
        &format!("NODE_PATH={} node send.js", modules.display()),
    );
    arrives(&lab, "nodemailer");
}
