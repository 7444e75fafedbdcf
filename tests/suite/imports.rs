//! `mailferry setup` with configurations that other tools have made or read themselves.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mailferry::sandbox::App;

use crate::connect::answered;
use crate::debian::is_root;
use crate::setup::{read, setup};
use crate::support::{Lab, PROGRAM, Plan, have, skipped};

const JANE: &str = "jane@example.com";
const CLIENT_ID: &str = "12345678-1234-1234-1234-123456789abc";
const SECRET: &str = "the app's secret";
const PASSWORD: &str = "chosen in the mail program";

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns an address of this machine that no other process of the suite uses.
fn own_address() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.wrapping_add(77), middle, low.max(1))
}

/// The configuration of email-oauth2-proxy for Jane, in the sandbox. A mail program has signed in through it, and Jane in a
/// browser, so that it has her encrypted tokens.
fn used_by_emailproxy(lab: &Lab, modules: &Path) -> PathBuf {
    let filled = read(lab.folder.path(), "mailferry.toml");
    let value = |key: &str| {
        let line = filled.lines().find_map(|line| line.strip_prefix(key));
        line.expect(key).trim_start_matches(" = ").trim_matches('"')
    };
    let address = own_address();
    let [token_url, authorize_url, port] = ["token_url", "authorize_url", "port"].map(value);
    let text = format!(
        "[Server setup]\n[SMTP-1587]\nserver_address = localhost\nserver_port = {port}\nserver_starttls = True\n\
         local_address = {address}\n[Account setup]\n[{JANE}]\npermission_url = {authorize_url}\ntoken_url = {token_url}\n\
         oauth2_scope = https://outlook.office.com/SMTP.Send offline_access\nredirect_uri = http://localhost:8080\n\
         redirect_listen_address = http://{address}:8080\nclient_id = {CLIENT_ID}\nclient_secret = {SECRET}\nuse_pkce = True\n\
         [emailproxy]\nencrypt_client_secret_on_first_use = True\n"
    );
    lab.write("emailproxy.config", &text);
    let python = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        python
            .args(arguments)
            .env("PYTHONPATH", modules)
            .env("SSL_CERT_FILE", lab.path("ca.pem"))
            .current_dir(lab.folder.path())
            .stdin(Stdio::null());
        python
    };
    let log = lab.path("emailproxy.log");
    let proxy = ["-m", "emailproxy", "--no-gui", "--local-server-auth"];
    let files = [
        "--config-file",
        "emailproxy.config",
        "--log-file",
        "emailproxy.log",
    ];
    let mut proxy = python(&[&proxy[..], &files].concat());
    let _proxy = Running(
        proxy
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts"),
    );
    let logged = |part: &str| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let line = text.lines().find(|line| line.contains(part));
        line.map(str::to_owned)
    };
    lab.wait_for("the start of emailproxy", || logged("Initialised"));
    let sign_in = format!(
        "import smtplib\nsmtplib.SMTP('{address}', 1587, timeout=120).login('{JANE}', '{PASSWORD}')"
    );
    let mut client = Running(python(&["-c", &sign_in]).spawn().expect("starts"));
    let line = lab.wait_for("the address for Jane", || logged("Please visit"));
    let url = &line[line.find("http").expect("an address")..];
    let (page, fields) = answered(url, JANE, "yes");
    let back = lab.redirected(page, &fields);
    let back = back.replace("localhost", &address.to_string());
    lab.get(back.parse().expect("a URL"));
    assert!(
        client.0.wait().expect("ends").success(),
        "{:?}",
        std::fs::read_to_string(&log)
    );
    lab.path("emailproxy.config")
}

#[test]
fn tokens_of_emailproxy_go_on_sending_without_a_new_sign_in() {
    let test = "imports::emailproxy";
    if !have(test, &["python3"]) {
        return;
    }
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emailproxy");
    if !modules.join("emailproxy.py").exists() {
        return skipped(test, "emailproxy is not installed; run tests/run");
    }
    let placeholders =
        "token_url = \"{token_url}\"\nauthorize_url = \"{authorize_url}\"\nport = {smtp}\n";
    let mut lab = Lab::stopped(Plan {
        mailboxes: vec![JANE],
        apps: vec![App::with_secret(CLIENT_ID, SECRET)],
        configuration: placeholders.to_owned(),
        rotates: true,
        ..Plan::default()
    });
    let used = used_by_emailproxy(&lab, &modules);
    let used = std::fs::read_to_string(used).expect("reads");
    assert!(
        !used.contains(SECRET) && used.contains("refresh_token = gAAAA"),
        "{used}"
    );

    // The same file, with Microsoft's hosts in place of the sandbox's.
    let as_used: String = used
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some(("token_url", _)) => {
                "token_url = https://login.microsoftonline.com/contoso/oauth2/v2.0/token\n"
                    .to_owned()
            }
            Some(("server_address", _)) => "server_address = smtp.office365.com\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    lab.write("old.config", &as_used);
    lab.write_private("password", PASSWORD);
    lab.write_private("wrong", "a wrong password");
    let path = |name: &str| lab.path(name).display().to_string();
    let import = |folder: &str, password: &[&str]| {
        let (old, folder) = (path("old.config"), lab.path(folder));
        let (code, said, wrong) = setup(
            &folder,
            &[&["--from-emailproxy", &old][..], password].concat(),
        );
        assert_eq!(code, Some(0), "{said}{wrong}");
        (folder, said)
    };
    for (folder, options, reason) in [
        ("none", &[][..], "--import-password-file"),
        (
            "wrong-password",
            &["--import-password-file", &path("wrong")],
            "this password does not open it",
        ),
    ] {
        let (folder, said) = import(folder, options);
        assert!(
            said.contains("refresh_token: ") && said.contains(reason),
            "{said}"
        );
        assert!(read(&folder, "mailferry.toml").contains("authorization_code"));
    }
    let (folder, said) = import("new", &["--import-password-file", &path("password")]);
    assert!(
        !said.contains("refresh_token") && !said.contains("mailferry connect"),
        "{said}"
    );
    let configuration = read(&folder, "mailferry.toml");
    for secret in [SECRET, PASSWORD] {
        assert!(!configuration.contains(secret) && !said.contains(secret));
    }

    // The sandbox in place of Microsoft.
    for name in ["apps.argon2", "client.secret", "jane.refresh"] {
        lab.write_private(name, &read(&folder, name));
    }
    let [oauth, server] = [
        "[oauth.microsoft]\ntoken_url = \"{token_url}\"\nca = \"ca.pem\"\n",
        "[[server]]\nhost = \"localhost\"\nport = {smtp}\nca = \"ca.pem\"\n",
    ];
    let listener = format!("{}:1587", own_address());
    lab.configure(
        &configuration
            .replace("[oauth.microsoft]\n", oauth)
            .replace("[[server]]\n", server)
            .replace(&listener, "127.0.0.1:0"),
    );
    lab.start();
    assert!(
        lab.stdout(&["test", "jane", "--to", "to@b.c"])
            .contains("250")
    );
    assert_eq!(lab.delivered(1)[0].mailbox, JANE);
    let tokens = lab.stdout(&["tokens"]);
    let how = "by the refresh token in the configuration";
    assert!(tokens.contains(how), "{tokens}");
}

/// Answers questions for the submission service (RFC 6186) with Microsoft's host, and all others with nothing.
const DNS: &str = r#"
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)
host = b"".join(bytes([len(label)]) + label for label in b"smtp.office365.com".split(b".")) + b"\0"
while True:
    question, peer = server.recvfrom(512)
    end = question.index(b"\0", 12) + 5
    is_service = question[12:].startswith(b"\x0b_submission\x04_tcp") and question[end - 4:end - 2] == b"\0\x21"
    data = struct.pack(">HHH", 0, 1, 587) + host
    answer = b"\xc0\x0c" + struct.pack(">HHIH", 33, 1, 60, len(data)) + data if is_service else b""
    header = struct.pack(">HHHHH", 0x8180, 1, bool(answer), 0, 0)
    server.sendto(question[:2] + header + question[12:end] + answer, peer)
"#;

#[test]
fn a_file_that_msmtp_has_made_is_taken_over() {
    let test = "imports::msmtp_configure";
    if !have(test, &["msmtp", "python3", "unshare", "ip"]) {
        return;
    }
    if !is_root() {
        return skipped(test, "it needs root, for a network of its own");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("dns.py"), DNS).expect("writes");
    std::fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").expect("writes");
    // msmtp finds the provider's host by DNS.
    let script = "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up; mount --bind resolv.conf /etc/resolv.conf; mkfifo ready; python3 dns.py >ready & dns=$!; \
                  read line <ready; msmtp --configure info@example.com; kill $dns";
    let made = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&made.stdout);
    assert!(
        text.contains("host smtp.office365.com"),
        "{text}{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let file = folder.path().join("msmtprc");
    std::fs::write(&file, text.as_bytes()).expect("writes");
    let new = folder.path().join("new");
    let (code, said, wrong) = setup(&new, &["--from-msmtp", &file.display().to_string()]);
    assert_eq!(code, Some(0), "{said}{wrong}");
    assert!(read(&new, "mailferry.toml").contains("username = \"info@example.com\""));
}

#[test]
fn msmtp_reads_the_same_file() {
    if !have("imports::msmtp", &["msmtp"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("msmtprc");
    let text = "defaults\nauth on\ntls on\n\naccount office\nhost smtp.office365.com\nport 587\nfrom reports@example.com\n\
                user info@example.com\npasswordeval \"echo s3cret\"\n\naccount sales : office\nfrom sales@example.com\nuser sales@example.com\n\n\
                account other\nhost mail.example.net\nfrom x@example.net\n\naccount default : office\n";
    std::fs::write(&file, text).expect("writes");
    let file = file.display().to_string();
    // What msmtp itself takes from the file, for each account.
    let ours = folder.path().join("ours");
    let (code, said, wrong) = setup(&ours, &["--from-msmtp", &file]);
    assert_eq!(code, Some(0), "{said}{wrong}");
    let configuration = read(&ours, "mailferry.toml");
    for account in ["office", "sales"] {
        let mut msmtp = Command::new("msmtp");
        msmtp.args(["--pretend", "-C", &file, "-a", account, "to@b.c"]);
        let output = msmtp.stdin(Stdio::null()).output().expect("runs");
        let pretended = String::from_utf8_lossy(&output.stdout);
        let value = |key: &str| {
            let mut lines = pretended.lines().map(str::trim);
            let found = lines.find_map(|line| line.strip_prefix(key)?.trim().strip_prefix("= "));
            found
                .unwrap_or_else(|| panic!("no {key} in {pretended}"))
                .to_owned()
        };
        assert_eq!(value("host"), "smtp.office365.com");
        let [user, from] = ["user", "from"].map(value);
        assert!(
            configuration.contains(&format!("username = \"{user}\"")),
            "{configuration}"
        );
        assert!(configuration.contains(&from), "{configuration}");
    }
    assert!(
        said.contains("mail.example.net") && !configuration.contains("s3cret"),
        "{said}"
    );
}

#[test]
fn another_cloud_of_microsoft_stays_the_cloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("msmtprc");
    for (host, cloud, smtp) in [
        ("smtp.office365.us", "usgov", "smtp.office365.us:587"),
        (
            "smtp.partner.outlook.cn",
            "china",
            "smtp.partner.outlook.cn:587",
        ),
    ] {
        let text =
            format!("account a\nhost {host}\nfrom jane@agency.example\nuser jane@agency.example\n");
        std::fs::write(&old, text).expect("writes");
        let new = folder.path().join(cloud);
        let options = [
            "--from-msmtp",
            &old.display().to_string(),
            "--client-id",
            CLIENT_ID,
        ];
        let (code, said, wrong) = setup(&new, &options);
        assert_eq!(code, Some(0), "{said}{wrong}");
        assert!(
            said.contains(&format!("{host} is in the cloud {cloud}")),
            "{said}"
        );
        let mut check = Command::new(PROGRAM);
        let file = new.join("mailferry.toml");
        let output = check.arg("check").arg("--config").arg(file).output();
        let output = String::from_utf8_lossy(&output.expect("runs").stdout).into_owned();
        assert!(output.contains(smtp), "{output}");
    }
}

/// Odoo's external API for one user, with two servers and two parameters, as `xmlrpc.server` of Python speaks it.
const ODOO: &str = r#"
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler, SimpleXMLRPCServer
from xmlrpc.client import Fault
import sys
TABLES = {
    "ir.mail_server": [
        {"id": 1, "name": "All", "smtp_host": "smtp.office365.com", "smtp_user": "notifications@example.com",
         "smtp_pass": "s3cret", "from_filter": "example.com", "sequence": 10, "active": True},
        {"id": 2, "name": "Jane", "smtp_host": "smtp.office365.com", "smtp_user": "jane@example.com",
         "smtp_pass": "s3cret", "from_filter": "jane@example.com", "sequence": 5, "active": True},
        {"id": 3, "name": "Old", "smtp_host": "smtp.office365.com", "smtp_user": False, "smtp_pass": False,
         "from_filter": False, "sequence": 20, "active": False},
    ],
    "ir.config_parameter": [
        {"id": 1, "key": "mail.default.from", "value": "notifications"},
        {"id": 2, "key": "mail.catchall.domain", "value": "example.com"},
        {"id": 3, "key": "database.secret", "value": "s3cret"},
    ],
}
# Since version 17 the default senders are here.
if sys.argv[1] == "17":
    TABLES["ir.config_parameter"] = []
    TABLES["mail.alias.domain"] = [
        {"id": 1, "name": "shop.example", "default_from": "orders", "sequence": 20},
        {"id": 2, "name": "example.com", "default_from": "notifications", "sequence": 10},
    ]
def authenticate(database, login, password, about):
    return 2 if (database, login, password) == ("prod", "admin", "an API key") else False
def execute_kw(database, user, password, model, method, arguments, options={}):
    if not authenticate(database, "admin", password, {}) or user != 2 or method != "search_read":
        raise Fault(3, "Traceback (most recent call last):\n  ...\nodoo.exceptions.AccessDenied: Access Denied")
    if model not in TABLES:
        raise Fault(2, "Object %s doesn't exist" % model)
    rows = TABLES[model]
    for field, operator, values in arguments[0]:
        rows = [row for row in rows if row[field] in values]
    if options.get("context", {}).get("active_test", True):
        rows = [row for row in rows if row.get("active", True)]
    assert "smtp_pass" not in options["fields"]
    return [{field: row[field] for field in ["id", *options["fields"]]} for row in rows]
services = {"/xmlrpc/2/common": [authenticate], "/xmlrpc/2/object": [execute_kw]}
class Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = services
class Server(SimpleXMLRPCServer):
    def _marshaled_dispatch(self, data, dispatch_method=None, path=None):
        service = SimpleXMLRPCDispatcher(allow_none=True)
        for function in services[path]:
            service.register_function(function)
        return service._marshaled_dispatch(data, dispatch_method, path)
server = Server(("127.0.0.1", 0), requestHandler=Handler, logRequests=False)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// Starts Odoo's external API as this version has it. Returns it with its address.
fn odoo(version: &str) -> (Running, String) {
    let mut odoo = Command::new("python3")
        .args(["-u", "-", version])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = odoo.stdin.take().expect("piped");
    input.write_all(ODOO.as_bytes()).expect("writes");
    drop(input);
    let output = odoo.stdout.take().expect("piped");
    let odoo = Running(odoo);
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port).expect("a port");
    (odoo, format!("http://127.0.0.1:{}", port.trim()))
}

#[test]
fn odoo_is_asked_by_xml_rpc() {
    if !have("imports::odoo", &["python3"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (_older, url) = odoo("16");
    let (_newer, newer) = odoo("17");
    let [right, wrong] = [("right", "an API key\n"), ("wrong", "guess")].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    });
    let import = |name: &str, url: &str, password: &str| {
        let who = ["--odoo-database", "prod", "--odoo-user", "admin"];
        let other = ["--import-password-file", password, "--client-id", CLIENT_ID];
        let options = [&["--from-odoo-url", url][..], &who, &other].concat();
        setup(&folder.path().join(name), &options)
    };
    let (code, said, errors) = import("new", &url, &right);
    assert_eq!(code, Some(0), "{said}{errors}");
    for line in [
        "same   somebody@example.com: notifications@example.com before, now through notifications",
        "same   jane@example.com: jane@example.com before, now through jane",
        "Old: it is archived",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
    let configuration = read(&folder.path().join("new"), "mailferry.toml");
    assert!(configuration.contains("default_from = \"notifications@example.com\""));
    assert!(!format!("{said}{configuration}").contains("s3cret"));

    let (code, said, errors) = import("newer", &newer, &right);
    assert_eq!(code, Some(0), "{said}{errors}");
    let other =
        "alias domain shop.example: add a [[user]] with default_from = \"orders@shop.example\"";
    assert!(said.contains(other), "{said}");
    let configuration = read(&folder.path().join("newer"), "mailferry.toml");
    assert!(configuration.contains("default_from = \"notifications@example.com\""));

    let refused = [
        (
            url.as_str(),
            &wrong,
            "Odoo refuses the user admin in the database prod",
        ),
        (
            "http://odoo.example.com",
            &right,
            "write an address that begins with https://",
        ),
        ("https://127.0.0.1:9", &right, "https://127.0.0.1:9"),
    ];
    for (url, password, reason) in refused {
        let (code, _, errors) = import("refused", url, password);
        assert!(code == Some(69) && errors.contains(reason), "{errors}");
    }
}
