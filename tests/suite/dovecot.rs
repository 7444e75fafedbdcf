//! Real mail servers and clients: Dovecot holds the mailbox and speaks IMAP and POP3. It checks the bearer token
//! at the stand-in's introspection endpoint. The clients read through the program.
//!
//! Dovecot runs as root on free ports of loopback, with a folder of its own, and ends with the test.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Lab, Plan, SERVER, USUAL, free_port, have, id_of};

const MAILBOX: &str = "notifications@example.com";

/// Dovecot, which ends when this value is dropped.
struct Dovecot {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read(self.folder.path().join("dovecot.log")).unwrap_or_default();
            eprintln!("Dovecot says:\n{}", String::from_utf8_lossy(&log));
        }
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// The program in front of Dovecot, and the ports of its listeners.
struct Bridge {
    lab: Lab,
    dovecot: Dovecot,
    imap: u16,
    imaps: u16,
    pop3: u16,
    pop3s: u16,
}

fn shell(text: &str) {
    let status = Command::new("sh")
        .args(["-euc", text])
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("sh runs").success(), "{text}");
}

impl Bridge {
    /// Starts Dovecot with this many messages in the mailbox, and the program in front of it.
    fn start(messages: &[Vec<u8>]) -> Self {
        Self::with(messages, "")
    }

    /// Starts both; the server has these further keys.
    fn with(messages: &[Vec<u8>], keys: &str) -> Self {
        let mut lab = Lab::stopped(Plan::default());
        let folder = tempfile::tempdir().expect("a folder");
        let (imap, pop3) = (free_port(), free_port());
        let at = folder.path().display().to_string();
        shell(&format!(
            "chmod 755 {at}; cd {at}; mkdir -p run mail/cur mail/new mail/tmp
             openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
               -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem 2>/dev/null"
        ));
        for (number, message) in messages.iter().enumerate() {
            let name = format!("mail/new/{}.{number}.test", 1_700_000_000 + number);
            std::fs::write(folder.path().join(name), message).expect("writes");
        }
        shell(&format!("chown -R nobody {at}/mail"));
        files(folder.path(), lab.sandbox.addresses.http.port(), imap, pop3);
        let child = Command::new("dovecot")
            .args(["-F", "-c"])
            .arg(folder.path().join("dovecot.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let dovecot = Dovecot {
            child: child.expect("starts"),
            folder,
        };
        for name in ["cert.pem", "key.pem"] {
            let text = std::fs::read_to_string(dovecot.folder.path().join(name)).expect("reads");
            lab.write_private(name, &text);
        }
        let resource = "https://outlook.office.com";
        let scopes = ["SMTP.Send", "IMAP.AccessAsUser.All", "POP.AccessAsUser.All"];
        let scopes = scopes.map(|scope| format!("{resource}/{scope}")).join(" ");
        lab.state().consent(MAILBOX, &scopes);
        lab.write_private("refresh", &lab.state().issue_refresh(MAILBOX));
        let ports = [(); 4].map(|()| free_port());
        lab.configure(&configuration(imap, pop3, ports, keys));
        for port in [imap, pop3] {
            lab.wait_for("Dovecot", || TcpStream::connect(("127.0.0.1", port)).ok());
        }
        lab.start();
        Self {
            lab,
            dovecot,
            imap: ports[0],
            imaps: ports[1],
            pop3: ports[2],
            pop3s: ports[3],
        }
    }

    /// Runs a shell script in the laboratory's folder.
    fn script(&self, text: &str) -> String {
        let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node/node_modules");
        let output = Command::new("sh")
            .args(["-euc", text])
            .current_dir(self.lab.folder.path())
            .env("IMAP", self.imap.to_string())
            .env("IMAPS", self.imaps.to_string())
            .env("POP3", self.pop3.to_string())
            .env("POP3S", self.pop3s.to_string())
            .env("HOME", self.lab.folder.path())
            .env("NODE_PATH", modules)
            .env("NODE_EXTRA_CA_CERTS", self.lab.path("cert.pem"))
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}\n{out}\n{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.lab.log()
        );
        out
    }
}

fn files(folder: &Path, introspection: u16, imap: u16, pop3: u16) {
    let at = folder.display();
    let listener = |name: &str, port: u16| {
        format!(
            "service {name}-login {{\n inet_listener {name} {{\n port = 0\n }}\n inet_listener {name}s {{\n address = 127.0.0.1\n port = {port}\n ssl = yes\n }}\n}}\n"
        )
    };
    let main = format!(
        "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/dovecot.log\nprotocols = imap pop3\nlisten = 127.0.0.1\nssl = yes\n\
         ssl_cert = <{at}/cert.pem\nssl_key = <{at}/key.pem\nmail_location = maildir:{at}/mail\nfirst_valid_uid = 1\nmail_plugins = zlib\n\
         auth_mechanisms = xoauth2\nauth_verbose = yes\nauth_username_format = %Lu\nmail_max_userip_connections = 100\n\
         protocol imap {{\n mail_plugins = zlib imap_zlib\n}}\n\
         passdb {{\n driver = oauth2\n mechanisms = xoauth2\n args = {at}/oauth2.conf\n}}\n\
         userdb {{\n driver = static\n args = uid=65534 gid=65534 home={at}/mail\n}}\n\
         service stats {{\n unix_listener stats-writer {{\n mode = 0666\n }}\n}}\n{}{}",
        listener("imap", imap),
        listener("pop3", pop3)
    );
    std::fs::write(folder.join("dovecot.conf"), main).expect("writes");
    let oauth2 = format!(
        "introspection_url = http://127.0.0.1:{introspection}/introspect\nintrospection_mode = post\n\
         active_attribute = active\nactive_value = true\nusername_attribute = username\nusername_format = %Lu\n"
    );
    std::fs::write(folder.join("oauth2.conf"), oauth2).expect("writes");
}

/// Returns a configuration with listeners for IMAP and POP3, each with STARTTLS and with implicit TLS.
fn configuration(imap: u16, pop3: u16, ports: [u16; 4], keys: &str) -> String {
    let listener = |port: u16, protocol: &str, tls: &str| {
        format!(
            "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{port}\"\ntls = \"{tls}\"\n\
             certificate = \"cert.pem\"\nkey = \"key.pem\"\n\n"
        )
    };
    let listeners = [
        "[[listener]]\naddress = \"127.0.0.1:0\"\n\n".to_owned(),
        listener(ports[0], "imap", "starttls"),
        listener(ports[1], "imap", "implicit"),
        listener(ports[2], "pop3", "starttls"),
        listener(ports[3], "pop3", "implicit"),
    ];
    let usual = USUAL
        .replace(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n",
            &listeners.concat(),
        )
        .replace("name = \"erp\"", "name = \"erp\"\nmailboxes = [\"box\"]");
    let reading = format!(
        "\n[[server]]\nname = \"box\"\nuse = [\"imap\", \"pop3\"]\nusername = \"{MAILBOX}\"\noauth = \"contoso\"\n\
         grant = \"refresh_token\"\nrefresh_token = {{ file = \"refresh\" }}\nca = \"cert.pem\"\n\
         imap = {{ host = \"localhost\", port = {imap} }}\npop3 = {{ host = \"localhost\", port = {pop3} }}\n{keys}\n"
    );
    usual + SERVER + &reading
}

fn possible(test: &str, programs: &[&str]) -> bool {
    have(test, &[&["dovecot", "openssl"], programs].concat())
}

/// A message that is easily damaged in transit: lines of dots, lines that look like replies, 8-bit text, trailing
/// spaces.
fn odd(number: usize) -> Vec<u8> {
    let head = format!(
        "From: a@example.net\r\nSubject: odd {number}\r\nMessage-ID: <{number}@odd>\r\n\r\n"
    );
    let body =
        "..\r\n.\r\nA1 OK looks like an answer\r\n+OK\r\nGr\u{fc}\u{df}e  \r\n* BYE\r\n\r\nend\r\n";
    [head.as_bytes(), body.as_bytes()].concat()
}

#[test]
fn python_reads_by_imap_and_pop3_with_and_without_tls() {
    if !possible(
        "python_reads_by_imap_and_pop3_with_and_without_tls",
        &["python3"],
    ) {
        return;
    }
    let bridge = Bridge::start(&[odd(0), odd(1), odd(2)]);
    bridge
        .lab
        .write("wanted", &String::from_utf8(odd(1)).expect("UTF-8"));
    bridge.lab.write(
        "read.py",
        r#"
import imaplib, os, poplib, ssl
tls = ssl.create_default_context(cafile="cert.pem")
wanted = open("wanted", "rb").read()
host = "localhost"
def port(name): return int(os.environ[name])

def imap(mail):
    mail.login("erp", "load")
    kind, count = mail.select()
    assert (kind, count) == ("OK", [b"3"]), (kind, count)
    kind, data = mail.fetch("2", "(BODY.PEEK[])")
    assert data[0][1] == wanted, data
    assert "IDLE" in mail.capability()[1][0].decode()
    mail.logout()

imap(imaplib.IMAP4(host, port("IMAP")))
starttls = imaplib.IMAP4(host, port("IMAP"))
starttls.starttls(tls)
imap(starttls)
imap(imaplib.IMAP4_SSL(host, port("IMAPS"), ssl_context=tls))
plain = imaplib.IMAP4(host, port("IMAP"))
plain.authenticate("PLAIN", lambda _: b"\0erp\0load")
plain.logout()

def pop3(mail, apop=False):
    mail.user("erp")
    mail.pass_("load")
    assert mail.stat()[0] == 3, mail.stat()
    # poplib takes the line ends off.
    lines = mail.retr(2)[1]
    assert b"\r\n".join(lines) + b"\r\n" == wanted, lines
    assert len(mail.uidl()[1]) == 3
    mail.quit()

pop3(poplib.POP3(host, port("POP3")))
stls = poplib.POP3(host, port("POP3"))
stls.stls(tls)
pop3(stls)
pop3(poplib.POP3_SSL(host, port("POP3S"), context=tls))
"#,
    );
    bridge.script("python3 read.py");
}

#[test]
fn python_sees_folders_in_utf_7_and_a_message_that_arrives_during_idle() {
    if !possible(
        "python_sees_folders_in_utf_7_and_a_message_that_arrives_during_idle",
        &["python3"],
    ) {
        return;
    }
    let bridge = Bridge::start(&[odd(0)]);
    bridge.lab.write(
        "folders.py",
        r#"
import imaplib, os, ssl, zlib
mail = imaplib.IMAP4("localhost", int(os.environ["IMAP"]))
mail.login("erp", "load")
# "Rechnungen für 台北"
name = '"Rechnungen f&APw-r &U,BTFw-"'
assert mail.create(name)[0] == "OK"
message = "From: a@x\r\nSubject: gr\u00fc\u00dfe\r\n\r\nhello\r\n".encode()
assert mail.append(name, None, None, message)[0] == "OK"
listed = mail.list()[1]
assert any(name.encode() in line for line in listed), listed
assert mail.select(name) == ("OK", [b"1"])
assert mail.fetch("1", "(BODY.PEEK[])")[1][0][1] == message
# A second session puts a message into the folder while the first one waits in IDLE.
tag = mail._new_tag()
mail.send(tag + b" IDLE\r\n")
assert mail.readline().startswith(b"+ ")
other = imaplib.IMAP4("localhost", int(os.environ["IMAP"]))
other.login("erp", "load")
other.append(name, None, None, message)
while True:
    line = mail.readline()
    if line.strip() == b"* 2 EXISTS": break
    assert line.startswith(b"* "), line
mail.send(b"DONE\r\n")
while not mail.readline().startswith(tag): pass
# COMPRESS is the upstream's: what follows is opaque to the program.
assert b"COMPRESS=DEFLATE" in mail.capability()[1][0]
mail.send(b"z COMPRESS DEFLATE\r\n")
assert mail.readline().startswith(b"z OK")
out, back = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
mail.send(out.compress(b"y FETCH 1:2 BODY.PEEK[]\r\n") + out.flush(zlib.Z_SYNC_FLUSH))
text = b""
while b"\r\ny OK" not in text:
    text += back.decompress(mail.sock.recv(4096))
assert text.count(message) == 2, text
"#,
    );
    bridge.script("python3 folders.py");
}

#[test]
fn a_message_of_100_mb_and_a_listing_of_10_000_pass_unchanged() {
    if !possible(
        "a_message_of_100_mb_and_a_listing_of_10_000_pass_unchanged",
        &["python3"],
    ) {
        return;
    }
    let line = "0123456789abcdef".repeat(4) + "\r\n";
    let large = format!(
        "From: a@x\r\nSubject: large\r\n\r\n{}",
        line.repeat(100 * 1024 * 1024 / line.len())
    );
    let mut messages = vec![large.into_bytes()];
    messages.extend((1..10_000).map(odd));
    let bridge = Bridge::start(&messages);
    bridge.lab.write(
        "large.py",
        r#"
import imaplib, os, poplib, ssl
tls = ssl.create_default_context(cafile="cert.pem")
line = b"0123456789abcdef" * 4 + b"\r\n"
wanted = b"From: a@x\r\nSubject: large\r\n\r\n" + line * (100 * 1024 * 1024 // len(line))
mail = imaplib.IMAP4_SSL("localhost", int(os.environ["IMAPS"]), ssl_context=tls)
mail.login("erp", "load")
assert mail.select() == ("OK", [b"10000"])
kind, data = mail.uid("FETCH", "1:*", "(FLAGS RFC822.SIZE ENVELOPE)")
assert kind == "OK" and len(data) == 10000, len(data)
size = lambda item: int(item.split(b"RFC822.SIZE ")[1].split(b" ")[0].rstrip(b")"))
place = next(at for at, item in enumerate(data) if size(item) == len(wanted))
assert mail.fetch(str(place + 1), "(BODY.PEEK[])")[1][0][1] == wanted
mail.logout()
pop = poplib.POP3("localhost", int(os.environ["POP3"]))
pop.user("erp"); pop.pass_("load")
sizes = pop.list()[1]
assert len(sizes) == 10000
number = next(int(item.split()[0]) for item in sizes if int(item.split()[1]) == len(wanted))
assert b"\r\n".join(pop.retr(number)[1]) + b"\r\n" == wanted
pop.quit()
"#,
    );
    bridge.script("python3 large.py");
}

#[test]
fn curl_reads_by_imap_and_pop3_with_and_without_tls() {
    if !possible(
        "curl_reads_by_imap_and_pop3_with_and_without_tls",
        &["curl"],
    ) {
        return;
    }
    let bridge = Bridge::start(&[odd(0), odd(1)]);
    bridge
        .lab
        .write("wanted", &String::from_utf8(odd(1)).expect("UTF-8"));
    bridge.script(
        "read() { curl -sS --cacert cert.pem --user erp:load \"$@\" > got; cmp got wanted; }
         read \"imap://localhost:$IMAP/INBOX;MAILINDEX=2\"
         read --ssl-reqd \"imap://localhost:$IMAP/INBOX;MAILINDEX=2\"
         read \"imaps://localhost:$IMAPS/INBOX;MAILINDEX=2\"
         read \"pop3://localhost:$POP3/2\"
         read --ssl-reqd \"pop3://localhost:$POP3/2\"
         read \"pop3s://localhost:$POP3S/2\"",
    );
}

#[test]
fn mbsync_copies_a_mailbox() {
    if !possible("mbsync_copies_a_mailbox", &["mbsync"]) {
        return;
    }
    let messages: Vec<Vec<u8>> = (0..50).map(odd).collect();
    let bridge = Bridge::start(&messages);
    let account = |name: &str, port: u16, tls: &str| {
        format!(
            "IMAPAccount {name}\nHost localhost\nPort {port}\nUser erp\nPass load\nSSLType {tls}\nCertificateFile cert.pem\n\n\
             IMAPStore {name}-far\nAccount {name}\n\nMaildirStore {name}-near\nPath {name}/\nInbox {name}/INBOX\n\n\
             Channel {name}\nFar :{name}-far:\nNear :{name}-near:\nPatterns INBOX\nCreate Near\nSyncState *\n\n"
        )
    };
    let configuration = [
        account("plain", bridge.imap, "None"),
        account("starttls", bridge.imap, "STARTTLS"),
        account("implicit", bridge.imaps, "IMAPS"),
    ];
    bridge
        .lab
        .write_private("mbsyncrc", &configuration.concat());
    bridge.script(
        "mkdir plain starttls implicit
         for channel in plain starttls implicit; do mbsync -c mbsyncrc $channel; done",
    );
    for channel in ["plain", "starttls", "implicit"] {
        let folder = bridge.lab.path(&format!("{channel}/INBOX/new"));
        let files = std::fs::read_dir(folder).expect("a folder");
        let mut got: Vec<Vec<u8>> = files
            .map(|file| std::fs::read(file.expect("a file").path()).expect("reads"))
            .map(|text| without_its_mark(&text))
            .collect();
        let mut wanted: Vec<Vec<u8>> = messages.iter().map(|text| with_lf(text)).collect();
        got.sort();
        wanted.sort();
        assert!(got == wanted, "{channel}: {} messages", got.len());
    }
}

fn with_lf(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text)
        .replace("\r\n", "\n")
        .into_bytes()
}

/// mbsync adds a header field to each message.
fn without_its_mark(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("X-TUID: "));
    lines.collect::<String>().into_bytes()
}

#[test]
fn fetchmail_and_getmail_fetch_by_imap_and_pop3() {
    if !possible(
        "fetchmail_and_getmail_fetch_by_imap_and_pop3",
        &["fetchmail", "getmail"],
    ) {
        return;
    }
    let bridge = Bridge::start(&[odd(0), odd(1)]);
    bridge.script("printf '#!/bin/sh\\ncat >> fetched\\n' > keep; chmod +x keep");
    let at = bridge.lab.folder.path().display().to_string();
    for (name, protocol, port, ssl) in [
        ("plain", "imap", bridge.imap, "sslproto ''"),
        ("starttls", "imap", bridge.imap, "sslproto 'auto'"),
        ("implicit", "imap", bridge.imaps, "ssl"),
        ("pop", "pop3", bridge.pop3, "sslproto ''"),
        ("pops", "pop3", bridge.pop3s, "ssl"),
    ] {
        let rc = format!(
            "poll localhost protocol {protocol} port {port} user erp password load keep fetchall {ssl} sslcertfile {at}/cert.pem mda \"{at}/keep\"\n"
        );
        bridge.lab.write_private("fetchmailrc", &rc);
        bridge.script("rm -f fetched; fetchmail --nodetach --nosyslog -f fetchmailrc --idfile ids");
        let fetched = std::fs::read_to_string(bridge.lab.path("fetched")).expect("reads");
        for number in 0..2 {
            assert!(
                fetched.contains(&format!("Subject: odd {number}")),
                "{name}: {fetched}"
            );
        }
        assert!(
            fetched.contains("Gr\u{fc}\u{df}e  \n* BYE\n"),
            "{name}: {fetched}"
        );
    }
    for (kind, port) in [
        ("SimpleIMAPRetriever", bridge.imap),
        ("SimpleIMAPSSLRetriever", bridge.imaps),
        ("SimplePOP3Retriever", bridge.pop3),
        ("SimplePOP3SSLRetriever", bridge.pop3s),
    ] {
        // getmail misses the end of its own child if the child is quick. It then gives up after its timeout.
        let ca = if kind.contains("SSL") {
            format!("ca_certs = {at}/cert.pem\n")
        } else {
            String::new()
        };
        let rc = format!(
            "[retriever]\ntype = {kind}\nserver = localhost\nport = {port}\nusername = erp\npassword = load\ntimeout = 10\n{ca}\
             [destination]\ntype = MDA_external\npath = {at}/keep\nallow_root_commands = true\n\
             [options]\nread_all = true\ndelete = false\ndelivered_to = false\nreceived = false\n"
        );
        bridge.lab.write_private("getmailrc", &rc);
        bridge.script(&format!(
            "for _ in 1 2 3; do rm -f fetched; getmail --getmaildir {at} --rcfile getmailrc --quiet && break; done
             test $(grep -c 'Subject: odd' fetched) = 2"
        ));
    }
}

#[test]
fn mutt_shows_a_mailbox() {
    if !possible("mutt_shows_a_mailbox", &["mutt", "script"]) {
        return;
    }
    let bridge = Bridge::start(&[odd(0), odd(1)]);
    for (name, scheme, port, force) in [
        ("plain", "imap", bridge.imap, "no"),
        ("starttls", "imap", bridge.imap, "yes"),
        ("implicit", "imaps", bridge.imaps, "no"),
        ("pop", "pop", bridge.pop3, "no"),
        ("pops", "pops", bridge.pop3s, "no"),
    ] {
        let url = format!("{scheme}://erp:load@localhost:{port}/");
        bridge.lab.write(
            "muttrc",
            &format!(
                "set ssl_starttls = {force}\nset ssl_force_tls = {force}\nset certificate_file = cert.pem\nset ssl_verify_host = no\n\
                 set folder = .\nset delete = no\nset quit = yes\nset wait_key = no\nset confirmappend = no\nset confirmcreate = no\nset mbox_type = mbox\n\
                 set pop_delete = no\nset move = no\nset resolve = no\n\
                 push \"<last-entry><copy-message>got-{name}<enter><quit>\"\n"
            ),
        );
        bridge.script(&format!(
            "TERM=xterm script -qec \"mutt -n -F muttrc -f {url}\" screen < /dev/null > /dev/null"
        ));
        let got =
            std::fs::read_to_string(bridge.lab.path(&format!("got-{name}"))).unwrap_or_else(|_| {
                panic!(
                    "{name}: no copy; mutt showed {}",
                    std::fs::read_to_string(bridge.lab.path("screen")).unwrap_or_default()
                )
            });
        let is_whole = got.contains("Subject: odd 1") && got.contains("Gr\u{fc}\u{df}e  \n* BYE\n");
        assert!(is_whole, "{name}: {got}");
    }
}

#[test]
fn imapflow_reads_with_compress_and_waits() {
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node/node_modules");
    let is_installed = modules.join("imapflow").exists();
    let programs: &[&str] = if is_installed {
        &["node"]
    } else {
        &["imapflow"]
    };
    if !possible("imapflow_reads_with_compress_and_waits", programs) {
        return;
    }
    let bridge = Bridge::start(&[odd(0), odd(1)]);
    bridge
        .lab
        .write("wanted", &String::from_utf8(odd(1)).expect("UTF-8"));
    bridge.lab.write(
        "read.js",
        r#"
const { ImapFlow } = require("imapflow");
const fs = require("fs");
const wanted = fs.readFileSync("wanted");
async function read(options) {
  const client = new ImapFlow({ host: "localhost", auth: { user: "erp", pass: "load" }, logger: false, ...options });
  await client.connect();
  await client.mailboxOpen("INBOX");
  const message = await client.fetchOne("2", { source: true });
  if (Buffer.compare(message.source, wanted) !== 0) throw new Error("another text: " + message.source);
  const arrived = new Promise((resolve) => client.on("exists", resolve));
  const other = new ImapFlow({ host: "localhost", auth: { user: "erp", pass: "load" }, logger: false, ...options });
  await other.connect();
  await other.append("INBOX", "From: a@x\r\nSubject: new\r\n\r\nnew\r\n");
  await arrived;
  await other.logout();
  await client.logout();
}
(async () => {
  await read({ port: Number(process.env.IMAP), secure: false, doSTARTTLS: false });
  await read({ port: Number(process.env.IMAP), secure: false, doSTARTTLS: true });
  await read({ port: Number(process.env.IMAPS), secure: true });
})().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
"#,
    );
    bridge.script("timeout 60 node read.js");
}

#[test]
fn java_mail_reads_by_imap_and_pop3() {
    const JARS: &str = "/usr/share/java/javax.mail.jar";
    let is_installed = Path::new(JARS).exists();
    let programs: &[&str] = if is_installed {
        &["javac", "keytool"]
    } else {
        &["libmail-java"]
    };
    if !possible("java_mail_reads_by_imap_and_pop3", programs) {
        return;
    }
    let bridge = Bridge::start(&[odd(0), odd(1)]);
    bridge
        .lab
        .write("wanted", &String::from_utf8(odd(1)).expect("UTF-8"));
    bridge.lab.write(
        "Read.java",
        r#"
import java.io.ByteArrayOutputStream;
import java.nio.file.*;
import java.util.*;
import javax.mail.*;

public class Read {
  static void read(String protocol, String port, String starttls, byte[] wanted) throws Exception {
    Properties settings = new Properties();
    settings.put("mail." + protocol + ".starttls.enable", starttls);
    settings.put("mail." + protocol + ".starttls.required", starttls);
    settings.put("mail." + protocol + ".connectiontimeout", "20000");
    settings.put("mail." + protocol + ".timeout", "20000");
    Store store = Session.getInstance(settings).getStore(protocol);
    store.connect("localhost", Integer.parseInt(System.getenv(port)), "erp", "load");
    Folder folder = store.getFolder("INBOX");
    folder.open(Folder.READ_ONLY);
    if (folder.getMessageCount() != 2) throw new Exception("messages: " + folder.getMessageCount());
    ByteArrayOutputStream text = new ByteArrayOutputStream();
    folder.getMessage(2).writeTo(text);
    if (!Arrays.equals(text.toByteArray(), wanted)) throw new Exception("another text: " + text);
    folder.close(false);
    store.close();
  }

  public static void main(String[] arguments) throws Exception {
    byte[] wanted = Files.readAllBytes(Path.of("wanted"));
    read("imap", "IMAP", "false", wanted);
    read("imap", "IMAP", "true", wanted);
    read("imaps", "IMAPS", "false", wanted);
    read("pop3", "POP3", "false", wanted);
    read("pop3", "POP3", "true", wanted);
    read("pop3s", "POP3S", "false", wanted);
  }
}
"#,
    );
    bridge.script(
        "keytool -importcert -noprompt -file cert.pem -alias test -keystore trust -storepass changeit 2> /dev/null
         javac -cp /usr/share/java/javax.mail.jar Read.java
         java -Djavax.net.ssl.trustStore=trust -Djavax.net.ssl.trustStorePassword=changeit -cp /usr/share/java/javax.mail.jar:/usr/share/java/javax.activation.jar:. Read",
    );
}

#[test]
fn a_report_in_a_dovecot_mailbox_is_recorded_and_handled() {
    const TEST: &str = "a_report_in_a_dovecot_mailbox_is_recorded_and_handled";
    if !possible(TEST, &["python3"]) {
        return;
    }
    let report = include_str!("../reports/exchange-german.eml").replace('\n', "\r\n");
    for (keys, is_there) in [
        (
            "bounces = true",
            r#"b"MailferryBounce" in flags("INBOX", 2) and flags("INBOX", 1) == b"1 (FLAGS ())""#,
        ),
        (
            "bounces = true\nbounce_folder = \"Zur\u{fc}ckgekommen\"",
            r#"count("INBOX") == 1 and count('"Zur&APw-ckgekommen"') == 1"#,
        ),
        (
            "bounces = true\ndelete_bounces = true",
            r#"count("INBOX") == 1"#,
        ),
    ] {
        let bridge = Bridge::with(&[odd(0)], keys);
        let lab = &bridge.lab;
        let message = "From: <notifications@example.com>\r\nMessage-ID: <4711.invoice@erp.contoso.com>\r\n\r\nHello\r\n";
        let id = id_of(
            &lab.client()
                .send(MAILBOX, &["nobody@fabrikam.com"], message),
        );
        lab.delivered(1);
        // The report arrives as Dovecot's delivery puts it there.
        let mail = bridge.dovecot.folder.path().join("mail");
        std::fs::write(mail.join("tmp/report"), &report).expect("writes");
        shell(&format!(
            "cd {}; chown nobody tmp/report; mv tmp/report new/1700001000.report.test",
            mail.display()
        ));
        let line = lab.logged(&["event=\"bounced\"", &id]);
        assert!(line.contains("to=\"nobody@fabrikam.com\""), "{line}");
        lab.write(
            "look.py",
            &r#"
import imaplib, os, time
mail = imaplib.IMAP4("localhost", int(os.environ["IMAP"]))
mail.login("erp", "load")
def count(folder):
    kind, found = mail.select(folder, readonly=True)
    return int(found[0]) if kind == "OK" else -1
def flags(folder, number):
    count(folder)
    found = mail.fetch(str(number), "(FLAGS)")[1]
    return found[0]
until = time.monotonic() + 60
while not (CONDITION):
    assert time.monotonic() < until, (mail.list(), count("INBOX"), flags("INBOX", 1), flags("INBOX", 2))
"#
            .replace("CONDITION", is_there),
        );
        bridge.script("python3 look.py");
    }
}
