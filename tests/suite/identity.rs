//! A certified identity provider that we did not write, configured as a user would configure it. The tests
//! cover a browser with PKCE, the device code flow, refresh with rotation, and client credentials by secret
//! and by signature.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::connect::Connect;
use crate::support::{Lab, Plan, free_port, have};

pub const JANE: &str = "jane@example.com";

/// The provider's process, which ends when this value is dropped.
pub struct Provider {
    child: Child,
    pub url: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/identity")
        .join(name)
}

pub fn modules() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("node/node_modules")
}

pub fn is_here() -> bool {
    let module = module_or_none("oidc-provider");
    have("oidc-provider", &[module, "node", "python3"])
}

/// Returns the program to look for with [`have`]: `node` if the module is installed; otherwise the module's
/// own name, which is then reported as missing.
pub fn module_or_none(name: &'static str) -> &'static str {
    match modules().join(name).exists() {
        true => "node",
        false => name,
    }
}

impl Provider {
    pub fn start(jwks: &str) -> Self {
        Self::start_for(free_port(), "https://mail.example.com", jwks)
    }

    /// Starts the provider on this port, with new keys, for a page at this URL.
    pub fn start_for(port: u16, page: &str, jwks: &str) -> Self {
        let mut child = Command::new("node")
            .arg(file("provider.mjs"))
            .args([
                &modules().display().to_string(),
                &port.to_string(),
                jwks,
                page,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.as_mut().expect("piped"));
        let listens = |line: std::io::Result<String>| line.is_ok_and(|line| line == "listening");
        assert!(output.lines().any(listens), "the provider listens");
        let url = format!("http://localhost:{port}");
        Self { child, url }
    }

    /// Plans a laboratory with one server, whose app is registered at this provider.
    pub fn plan(&self, app: &str, grant: &str, scopes: &str) -> Plan {
        let Self { url, .. } = self;
        let configuration = format!(
            r#"
host = "relay.example.com"
data_dir = "data"
[[listener]]
address = "127.0.0.1:0"
[[user]]
name = "erp"
password = {{ file = "erp.argon2" }}
[oauth.provider]
provider = "custom"
{app}
token_url = "{url}/token"
authorize_url = "{url}/auth?prompt=consent"
device_url = "{url}/device/auth"
scopes = {scopes}
[[server]]
name = "jane"
username = "{JANE}"
oauth = "provider"
grant = "{grant}"
host = "localhost"
port = {{smtp}}
ca = "ca.pem"
"#
        );
        Plan {
            mailboxes: vec![JANE],
            configuration,
            ..Plan::default()
        }
    }
}

/// Acts as the person on the provider's pages. Returns the text of the last page, or the address on mailferry's
/// page to which the provider sends the browser.
pub fn person(arguments: &[&str]) -> String {
    let output = Command::new("python3")
        .arg(file("browser.py"))
        .args(arguments)
        .output();
    String::from_utf8(output.expect("runs").stdout).expect("UTF-8")
}

/// Runs the connection test. Returns the token's line of its output. The next step fails, because the
/// stand-in for Exchange does not accept this provider's tokens.
fn token_step(lab: &Lab) -> String {
    let output = lab.run(&["test", "jane"]);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let step = said.lines().find(|line| line[8..].starts_with("token"));
    step.unwrap_or_else(|| panic!("no token step in\n{said}"))
        .to_owned()
}

pub const PERSONS: &str = r#"["openid", "offline_access", "profile"]"#;

#[test]
fn a_person_connects_at_a_real_provider_and_the_sign_in_lasts() {
    if !is_here() {
        return;
    }
    let provider = Provider::start(r#"{"keys":[]}"#);
    let mut lab = Lab::with(provider.plan("client_id = \"person\"", "authorization_code", PERSONS));
    let connect = Connect::begin(&lab, &["--no-browser"]);
    let page = person(&[&connect.url(), JANE]);
    assert!(page.contains("jane@example.com has signed in"), "{page}");
    assert!(connect.ended().0);
    // Each connection test gets a new token and a new refresh token; the old refresh token is then no longer
    // valid.
    for _ in 0..3 {
        assert!(token_step(&lab).starts_with("ok"), "{}", token_step(&lab));
    }
    lab.kill();
    lab.start();
    assert!(token_step(&lab).starts_with("ok"));
    assert!(
        lab.stdout(&["tokens"])
            .contains("with a browser, as jane@example.com")
    );
}

#[test]
fn another_device_connects_at_a_real_provider() {
    if !is_here() {
        return;
    }
    let provider = Provider::start(r#"{"keys":[]}"#);
    let lab = Lab::stopped(provider.plan("client_id = \"person\"", "device_code", PERSONS));
    let connect = Connect::begin(&lab, &[]);
    let page = person(&[&connect.url(), JANE, &connect.user_code()]);
    assert!(page.contains("Success"), "{page}");
    assert!(connect.ended().0);
    assert!(token_step(&lab).starts_with("ok"));
}

#[test]
fn an_app_speaks_for_itself_at_a_real_provider() {
    if !is_here() {
        return;
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .expect("a certificate");
    let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("a certificate");
    let Ok(PublicKey::RSA(public)) = parsed.public_key().parsed() else {
        panic!("not RSA");
    };
    let modulus: Vec<u8> = public
        .modulus
        .iter()
        .copied()
        .skip_while(|byte| *byte == 0)
        .collect();
    let [n, e] = [modulus.as_slice(), public.exponent].map(|number| BASE64.encode(number));
    let provider = Provider::start(&format!(
        r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"{e}"}}]}}"#
    ));

    let app = "client_id = \"app\"\nclient_secret = { file = \"secret\" }";
    let lab = Lab::stopped(provider.plan(app, "client_credentials", r#"["mail"]"#));
    lab.write_private("secret", "app-secret");
    assert!(token_step(&lab).starts_with("ok"), "{}", token_step(&lab));
    lab.write_private("secret", "another");
    assert!(
        token_step(&lab).contains("refused the client secret"),
        "{}",
        token_step(&lab)
    );

    let app = "client_id = \"signed\"\ncertificate = \"app.pem\"\nkey = { file = \"app.key\" }";
    let lab = Lab::stopped(provider.plan(app, "client_credentials", r#"["mail"]"#));
    lab.write("app.pem", &certificate.pem());
    lab.write_private("app.key", &key.serialize_pem());
    assert!(token_step(&lab).starts_with("ok"), "{}", token_step(&lab));
}
