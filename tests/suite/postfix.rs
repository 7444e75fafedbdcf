//! Real servers: Postfix with STARTTLS is the submission server. Dovecot authenticates Postfix's users: it
//! checks the bearer token at the stand-in's introspection endpoint. Messages are read back from the mailbox.
//!
//! Both run as root on free ports of loopback, with a folder of their own, and end with the test.

use std::collections::HashSet;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Lab, Plan, SERVER, USUAL, free_port, have, id_of};

const PROGRAMS: [&str; 4] = ["postfix", "dovecot", "openssl", "postmap"];

struct Servers {
    folder: tempfile::TempDir,
    dovecot: Child,
    port: u16,
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "Postfix says:\n{}\nDovecot says:\n{}",
                self.read("mail/postfix.log"),
                self.read("dovecot.log")
            );
        }
        let config = self.folder.path().join("postfix");
        let _ = Command::new("postfix")
            .arg("-c")
            .arg(config)
            .arg("stop")
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("kill")
            .arg(self.dovecot.id().to_string())
            .status();
        let _ = self.dovecot.wait();
    }
}

fn shell(text: &str) {
    let output = Command::new("sh")
        .args(["-euc", text])
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}\n{out}\n{err}");
}

impl Servers {
    /// Starts the servers. `without` are the EHLO keywords that Postfix leaves out.
    fn start(lab: &Lab, without: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display().to_string();
        let port = free_port();
        shell(&format!(
            "chmod 755 {at}; cd {at}; mkdir -p postfix queue/private data mail dovecot/run; chown postfix data queue/private; chmod 1777 mail
             touch mail/postfix.log; chown postfix mail/postfix.log
             openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
               -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem 2>/dev/null"
        ));
        dovecot_files(folder.path(), lab.sandbox.addresses.http.port());
        postfix_files(folder.path(), port, without);
        let mut dovecot = Command::new("dovecot");
        let dovecot = start(
            dovecot
                .args(["-F", "-c"])
                .arg(folder.path().join("dovecot.conf")),
        );
        let servers = Self {
            folder,
            dovecot,
            port,
        };
        lab.wait_for("Dovecot's socket", || {
            servers
                .folder
                .path()
                .join("queue/private/auth")
                .exists()
                .then_some(())
        });
        shell(&format!(
            "postfix -c {at}/postfix start 2>&1 || {{ cat {at}/mail/postfix.log; exit 1; }}"
        ));
        lab.wait_for("Postfix", || TcpStream::connect(("127.0.0.1", port)).ok());
        servers
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        bytes.iter().map(|&byte| char::from(byte)).collect()
    }
}

fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

fn dovecot_files(folder: &Path, introspection: u16) {
    let at = folder.display();
    let main = format!(
        "base_dir = {at}/dovecot/run\nstate_dir = {at}/dovecot\nlog_path = {at}/dovecot.log\nprotocols =\nlisten = 127.0.0.1\nssl = no\n\
         auth_mechanisms = xoauth2 oauthbearer\nauth_verbose = yes\nauth_username_format = %Lu\n\
         passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = {at}/oauth2.conf\n}}\n\
         userdb {{\n driver = static\n args = uid=65534 gid=65534 home=/nonexistent\n}}\n\
         service auth {{\n unix_listener {at}/queue/private/auth {{\n mode = 0666\n }}\n}}\n\
         service stats {{\n unix_listener stats-writer {{\n mode = 0666\n }}\n}}\n"
    );
    std::fs::write(folder.join("dovecot.conf"), main).expect("writes");
    let oauth2 = format!(
        "introspection_url = http://127.0.0.1:{introspection}/introspect\nintrospection_mode = post\n\
         active_attribute = active\nactive_value = true\nusername_attribute = username\nusername_format = %Lu\n"
    );
    std::fs::write(folder.join("oauth2.conf"), oauth2).expect("writes");
}

fn postfix_files(folder: &Path, port: u16, without: &str) {
    let at = folder.display();
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\ncommand_directory = /usr/sbin\n\
         daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\nmyhostname = mx.test\n\
         mydestination = example.net\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks =\nalias_maps =\nalias_database =\n\
         local_recipient_maps =\nmailbox_command =\nmail_spool_directory = {at}/mail/\nlocal_transport = virtual\nvirtual_transport = virtual\n\
         virtual_mailbox_domains = example.net\nvirtual_mailbox_base = {at}/mail\nvirtual_mailbox_maps = static:box\nvirtual_uid_maps = static:65534\n\
         virtual_gid_maps = static:65534\nsmtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {at}/cert.pem\nsmtpd_tls_key_file = {at}/key.pem\n\
         smtpd_tls_auth_only = yes\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = private/auth\n\
         smtpd_sender_login_maps = texthash:{at}/logins\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
         smtpd_sender_restrictions = reject_sender_login_mismatch\nsmtpd_recipient_restrictions = check_recipient_access texthash:{at}/recipients, permit_sasl_authenticated, reject\n\
         smtpd_discard_ehlo_keywords = {without}\nmessage_size_limit = 2000000\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\nvirtual_mailbox_lock = fcntl\nmaillog_file = {at}/mail/postfix.log\n\
         maillog_file_prefixes = {at}\nsmtputf8_enable = yes\n"
    );
    let main = main.replace("mydestination = example.net", "mydestination =");
    std::fs::write(folder.join("postfix/main.cf"), main).expect("writes");
    let service =
        |name: &str, kind: &str, private: &str, wakeup: &str, limit: &str, command: &str| {
            format!("{name} {kind} {private} - n {wakeup} {limit} {command}\n")
        };
    let master = [
        service(&format!("127.0.0.1:{port}"), "inet", "n", "-", "-", "smtpd"),
        service("pickup", "unix", "n", "60", "1", "pickup"),
        service("cleanup", "unix", "n", "-", "0", "cleanup"),
        service("qmgr", "unix", "n", "300", "1", "qmgr"),
        service("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr"),
        service("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        service("bounce", "unix", "-", "-", "0", "bounce"),
        service("defer", "unix", "-", "-", "0", "bounce"),
        service("trace", "unix", "-", "-", "0", "bounce"),
        service("error", "unix", "-", "-", "-", "error"),
        service("virtual", "unix", "-", "-", "-", "virtual").replace("- - n", "- n n"),
        service("anvil", "unix", "-", "-", "1", "anvil"),
        service("proxymap", "unix", "-", "-", "-", "proxymap"),
        service("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ];
    std::fs::write(folder.join("postfix/master.cf"), master.concat()).expect("writes");
    std::fs::write(
        folder.join("logins"),
        "notifications@example.com notifications@example.com\n",
    )
    .expect("writes");
    let refused =
        "bad@example.net 550 5.1.1 no such mailbox\ngrey@example.net 450 4.2.0 greylisted\n";
    std::fs::write(folder.join("recipients"), refused).expect("writes");
}

fn laboratory() -> Lab {
    let mut lab = Lab::stopped(Plan::default());
    lab.write_private("refresh", "refresh-notifications@example.com");
    lab.start();
    lab
}

/// Makes the program send through Postfix from now on.
fn use_postfix(lab: &Lab, servers: &Servers, from_filter: &str) {
    lab.write(
        "postfix.pem",
        &std::fs::read_to_string(servers.folder.path().join("cert.pem")).expect("reads"),
    );
    let server = SERVER
        .replace("{smtp}", &servers.port.to_string())
        .replace("port = ", "sessions = 2\nport = ")
        .replace(
            "grant = \"client_credentials\"",
            "grant = \"refresh_token\"\nrefresh_token = { file = \"refresh\" }",
        )
        .replace("ca = \"ca.pem\"", "ca = \"postfix.pem\"")
        .replace(
            "from_filter = \"notifications@example.com\"",
            &format!("from_filter = \"{from_filter}\""),
        );
    lab.configure(&(USUAL.replace("default_from = \"notifications@example.com\"", "") + &server));
    lab.signal("HUP");
    lab.logged(&["event=\"reloaded\""]);
}

fn mail_comes_back_byte_for_byte(without: &str) {
    let lab = laboratory();
    let servers = Servers::start(&lab, without);
    use_postfix(&lab, &servers, "notifications@example.com");
    let headers = "Subject:  odd\r\n \t folding \r\nFrom: <notifications@example.com>\r\nTo: someone@example.net\r\nDate: Sat, 22 Nov 2025 08:26:40 +0000\r\nMessage-ID: <1@x>\r\nX-8: gr\u{fc}n\r\n";
    let body = ".\r\n..two dots\r\nline with spaces  \r\n\r\n.MAIL FROM:<smuggler@example.com>\r\n.\r\nDATA\r\n";
    let mut client = lab.client();
    client.expect("MAIL FROM:<notifications@example.com> BODY=8BITMIME", "250");
    client.expect("RCPT TO:<someone@example.net> NOTIFY=NEVER", "250");
    client.expect("DATA", "354");
    let stuffed = format!("{headers}\r\n{body}").replace("\r\n.", "\r\n..");
    client.raw(format!("{stuffed}.\r\n").as_bytes());
    let id = id_of(&client.reply());
    let mailbox = lab.wait_for("the message in the mailbox", || {
        let text = servers.read("mail/box");
        (!text.is_empty() && text.ends_with("\n\n")).then_some(text)
    });
    assert_eq!(
        mailbox
            .matches("\nFrom: <notifications@example.com>")
            .count(),
        1,
        "one message: {mailbox}"
    );
    let start = mailbox.find("Subject:").expect("a subject");
    let latin: String = format!("{headers}\r\n{body}")
        .bytes()
        .map(char::from)
        .collect();
    assert_eq!(&mailbox[start..], latin.replace("\r\n", "\n") + "\n");
    assert!(mailbox.contains(&id), "the id is in Received");
    lab.logged(&["delivered", &id, "queued as"]);
}

fn possible(test: &str) -> bool {
    have(test, &PROGRAMS)
}

#[test]
fn mail_comes_back_from_postfix_byte_for_byte() {
    if possible("mail_comes_back_from_postfix_byte_for_byte") {
        mail_comes_back_byte_for_byte("");
    }
}

#[test]
fn mail_comes_back_from_postfix_without_chunking_and_without_pipelining() {
    if possible("mail_comes_back_from_postfix_without_chunking_and_without_pipelining") {
        mail_comes_back_byte_for_byte("chunking");
        mail_comes_back_byte_for_byte("chunking, pipelining, dsn, size");
    }
}

#[test]
fn postfix_refuses_another_sender_and_the_refusal_comes_back() {
    if !possible("postfix_refuses_another_sender_and_the_refusal_comes_back") {
        return;
    }
    let lab = laboratory();
    let servers = Servers::start(&lab, "");
    // The filter admits senders that the account may not use: the upstream decides.
    use_postfix(&lab, &servers, "example.com, notifications@example.com");
    let mut client = lab.client();
    let id = id_of(&client.send(
        "somebody@example.com",
        &["a@example.net"],
        "From: somebody@example.com\r\n\r\nx",
    ));
    let line = lab.logged(&["failed", &id]);
    assert!(
        line.contains("553 5.7.1") && line.contains("not owned by user"),
        "{line}"
    );
}

#[test]
fn postfix_decides_for_each_recipient() {
    if !possible("postfix_decides_for_each_recipient") {
        return;
    }
    let lab = laboratory();
    let servers = Servers::start(&lab, "");
    use_postfix(&lab, &servers, "notifications@example.com");
    let mut client = lab.client();
    let message = "From: notifications@example.com\r\nSubject: three\r\n\r\nx";
    let id = id_of(&client.send(
        "notifications@example.com",
        &["good@example.net", "bad@example.net", "grey@example.net"],
        message,
    ));
    lab.logged(&["delivered", &id, "to=\"good@example.net\""]);
    lab.logged(&["failed", &id, "550 5.1.1", "no such mailbox"]);
    lab.logged(&["deferred", &id, "450 4.2.0", "greylisted"]);
    assert!(
        lab.stdout(&["queue", "show", &id])
            .contains("grey@example.net")
    );
}

#[test]
fn a_wrong_user_is_refused_by_dovecot_and_the_server_held() {
    if !possible("a_wrong_user_is_refused_by_dovecot_and_the_server_held") {
        return;
    }
    let lab = laboratory();
    let servers = Servers::start(&lab, "");
    use_postfix(&lab, &servers, "notifications@example.com");
    let text = std::fs::read_to_string(lab.path("mailferry.toml")).expect("reads");
    lab.configure(&text.replace(
        "username = \"notifications@example.com\"",
        "username = \"other@example.com\"",
    ));
    lab.signal("HUP");
    lab.wait_for("the second reload", || {
        (lab.log().matches("event=\"reloaded\"").count() == 2).then_some(())
    });
    let mut client = lab.client();
    id_of(&client.send(
        "notifications@example.com",
        &["a@example.net"],
        "From: notifications@example.com\r\n\r\nx",
    ));
    let line = lab.logged(&["server_held"]);
    assert!(line.contains("535 5.7.8"), "{line}");
    lab.queued(1);
}

impl Servers {
    fn postfix(&self, what: &str) {
        let at = self.folder.path().display();
        shell(&format!("postfix -c {at}/postfix {what} 2>&1"));
    }

    /// Returns the messages in Postfix's queue, each as `postcat` prints it.
    fn queued(&self) -> Vec<String> {
        let configuration = self.folder.path().join("postfix");
        let printed = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .arg("-c")
                .arg(&configuration)
                .args(arguments)
                .output();
            let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let listed = printed("postqueue", &["-j"]);
        let entries = listed.lines().map(|line| {
            let entry: serde_json::Value =
                serde_json::from_str(line).expect("postqueue -j is JSON");
            entry["queue_id"].as_str().expect("an id").to_owned()
        });
        entries.map(|id| printed("postcat", &["-q", &id])).collect()
    }
}

#[test]
fn dsn_is_sent_by_postfix_or_else_by_us() {
    if !possible("dsn_is_sent_by_postfix_or_else_by_us") {
        return;
    }
    for (without, action) in [("", "Action: delivered"), ("dsn", "Action: relayed")] {
        let lab = laboratory();
        let servers = Servers::start(&lab, without);
        use_postfix(&lab, &servers, "notifications@example.com");
        let mut client = lab.client();
        client.expect(
            "MAIL FROM:<notifications@example.com> RET=HDRS ENVID=QQ314159",
            "250",
        );
        client.expect(
            "RCPT TO:<someone@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;orig@example.net",
            "250",
        );
        client.expect("DATA", "354");
        client.raw(b"From: notifications@example.com\r\nSubject: confirmed\r\n\r\nsecret\r\n.\r\n");
        id_of(&client.reply());
        // No server here accepts mail for the sender, so the confirmation stays in Postfix's queue, where the
        // test can read it.
        let confirmed = lab.wait_for("a confirmation", || {
            // The message itself may still be in the queue beside its confirmation.
            let queued = servers.queued();
            queued.into_iter().find(|message| message.contains(action))
        });
        for part in [
            "Original-Envelope-Id: QQ314159",
            "Original-Recipient: rfc822;orig@example.net",
            "Subject: confirmed",
        ] {
            assert!(confirmed.contains(part), "{part:?} is not in\n{confirmed}");
        }
        assert!(!confirmed.contains("secret"), "RET=HDRS: {confirmed}");
    }
}

#[test]
fn postfix_greylists_and_refuses_what_is_too_large() {
    if !possible("postfix_greylists_and_refuses_what_is_too_large") {
        return;
    }
    let lab = laboratory();
    let servers = Servers::start(&lab, "");
    use_postfix(&lab, &servers, "notifications@example.com");
    let mut client = lab.client();
    let mut send = |to: &str, body: &str| {
        let message = format!("From: notifications@example.com\r\nSubject: x\r\n\r\n{body}");
        id_of(&client.send("notifications@example.com", &[to], &message))
    };
    let grey = send("grey@example.net", "patience");
    lab.logged(&["deferred", &grey, "450 4.2.0", "greylisted"]);
    std::fs::write(servers.folder.path().join("recipients"), "").expect("writes");
    servers.postfix("reload");
    // Sessions that are open still use Postfix's old table. A reload of mailferry closes them.
    lab.signal("HUP");
    lab.logged(&["delivered", &grey]);
    let large = send("someone@example.net", &"0123456789\r\n".repeat(200_000));
    lab.logged(&["failed", &large, "552 5.3.4"]);
    lab.wait_for("the story", || {
        let told = lab.stdout(&["trace", &large]);
        let is_told = told.contains("552 5.3.4") && told.contains("reported to notifications@");
        is_told.then_some(())
    });
}

#[test]
fn a_restart_of_postfix_in_mid_stream_loses_nothing() {
    const MESSAGES: usize = 60;
    if !possible("a_restart_of_postfix_in_mid_stream_loses_nothing") {
        return;
    }
    let lab = laboratory();
    let servers = Servers::start(&lab, "");
    use_postfix(&lab, &servers, "notifications@example.com");
    let mut client = lab.client();
    for number in 0..MESSAGES {
        match number {
            20 => servers.postfix("stop"),
            40 => servers.postfix("start"),
            _ => {}
        }
        let message =
            format!("From: notifications@example.com\r\nSubject: number {number}.\r\n\r\nx");
        id_of(&client.send(
            "notifications@example.com",
            &["someone@example.net"],
            &message,
        ));
    }
    lab.empties();
    let mailbox = lab.wait_for("the last one in the mailbox", || {
        let text = servers.read("mail/box");
        let has = |number| text.contains(&format!("Subject: number {number}."));
        (0..MESSAGES).all(has).then_some(text)
    });
    let uncertain = lab.log().matches("uncertain=true").count();
    // Postfix redelivers the messages that its stop interrupted, under the same ids.
    let taken = mailbox.split("with ESMTPSA id ").skip(1);
    let taken: HashSet<_> = taken.map(|rest| rest.split_whitespace().next()).collect();
    let arrived = taken.len();
    assert!(
        (MESSAGES..=MESSAGES + uncertain).contains(&arrived),
        "{arrived} arrived, {uncertain} of them uncertain"
    );
}

/// Byte sequences that have been used for SMTP smuggling: one server takes the sequence for the end
/// of the message, and another server does not.
const SMUGGLING: [&str; 14] = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r\n.\r",
    "\r.\r\n",
    "\n.\r",
    "\r.\n",
    "\n\n.\r\n",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\r\n",
    "\r\n.\n\r\n",
    "\r\r\n.\r",
];

#[test]
fn smuggling_attempts_reach_postfix_as_one_message() {
    if !possible("smuggling_attempts_reach_postfix_as_one_message") {
        return;
    }
    for without in ["", "chunking"] {
        let lab = laboratory();
        let servers = Servers::start(&lab, without);
        use_postfix(&lab, &servers, "notifications@example.com");
        let mut client = lab.client();
        for sequence in SMUGGLING {
            client.expect("MAIL FROM:<notifications@example.com>", "250");
            client.expect("RCPT TO:<someone@example.net>", "250");
            client.expect("DATA", "354");
            let smuggled = "MAIL FROM:<notifications@example.com>\r\nRCPT TO:<someone@example.net>\r\nDATA\r\nFrom: notifications@example.com\r\n\r\nsmuggled";
            client.raw(
                format!(
                    "From: notifications@example.com\r\n\r\ncarrier{sequence}{smuggled}\r\n.\r\n"
                )
                .as_bytes(),
            );
            let reply = client.reply();
            assert!(reply.starts_with("250"), "{sequence:?}: {reply}");
        }
        client.expect("NOOP", "250");
        let mailbox = lab.wait_for("all messages in the mailbox", || {
            let text = servers.read("mail/box");
            (text.matches("carrier").count() == SMUGGLING.len()).then_some(text)
        });
        lab.empties();
        assert_eq!(mailbox.matches("smuggled").count(), SMUGGLING.len());
        assert_eq!(
            mailbox.matches("by mx.test (Postfix)").count(),
            SMUGGLING.len(),
            "{mailbox}"
        );
    }
}
