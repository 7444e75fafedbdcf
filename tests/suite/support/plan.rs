//! The settings of a laboratory.

use std::time::Duration;

use mailferry::sandbox::{App, SandboxLimits, SandboxMailbox, SandboxSettings, SharedSignIn};

/// The settings that a test may change before the laboratory is set up.
pub struct Plan {
    pub mailboxes: Vec<&'static str>,
    /// A shared mailbox, and the user it is shared with.
    pub shared: Option<(&'static str, &'static str)>,
    /// Other addresses that each mailbox may send as.
    pub send_as: Vec<&'static str>,
    pub limits: SandboxLimits,
    pub token_life: Duration,
    pub rotates: bool,
    pub shared_sign_in: SharedSignIn,
    /// How far the provider's clock is ahead (milliseconds).
    pub clock_skew: i64,
    /// App registrations besides the usual one.
    pub apps: Vec<App>,
    /// The configuration; placeholders such as `{smtp}` and `{token_url}` are filled in.
    pub configuration: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mailboxes: vec!["notifications@example.com"],
            shared: None,
            send_as: Vec::new(),
            limits: SandboxLimits::none(),
            token_life: Duration::from_secs(3_600),
            rotates: false,
            shared_sign_in: SharedSignIn::Person,
            clock_skew: 0,
            apps: Vec::new(),
            configuration: USUAL.to_owned() + SERVER,
        }
    }
}

/// The usual configuration without its servers, which are appended.
pub const USUAL: &str = r#"
host = "relay.example.com"
data_dir = "data"

[[listener]]
address = "127.0.0.1:0"

[sender]
default_from = "notifications@example.com"

[[user]]
name = "erp"
password = { file = "erp.argon2" }

[delivery]
retry = ["1s"]
back_off = ["1s", "2s"]
uncertain_pause = "1s"
grace = "20s"

[oauth.contoso]
tenant = "contoso"
client_id = "sandbox-app"
client_secret = { env = "TEST_SECRET" }
token_url = "{token_url}"
ca = "ca.pem"
"#;

/// The one server of most tests.
pub const SERVER: &str = r#"
[[server]]
name = "notifications"
username = "notifications@example.com"
from_filter = "notifications@example.com"
oauth = "contoso"
grant = "client_credentials"
host = "localhost"
port = {smtp}
ca = "ca.pem"
messages_per_minute = 0
recipients_per_day = 0
"#;

/// Returns the usual configuration with a listener for this protocol, a user who may read, and a server for
/// sending and reading.
pub fn reading(protocol: &str) -> String {
    let usual = USUAL
        .replace(
            "127.0.0.1:0\"",
            &format!("127.0.0.1:0\"\nprotocol = \"{protocol}\""),
        )
        .replace(
            "name = \"erp\"",
            "name = \"erp\"\nmailboxes = [\"notifications\"]",
        );
    usual + &for_reading(SERVER)
}

/// Returns the table of a server, which is for reading too.
pub fn for_reading(server: &str) -> String {
    let uses = "use = [\"smtp\", \"imap\", \"pop3\"]";
    let hosts = "imap = { host = \"localhost\", port = {imap} }\npop3 = { host = \"localhost\", port = {pop3} }";
    server.replace("from_filter", &format!("{uses}\n{hosts}\nfrom_filter"))
}

/// Returns the table of the same server, with a refresh token in the file "refresh".
pub fn by_refresh_token() -> String {
    let grant = "grant = \"refresh_token\"\nrefresh_token = { file = \"refresh\" }";
    SERVER.replace("grant = \"client_credentials\"", grant)
}

impl Plan {
    /// Returns the settings of the stand-ins. Each mailbox has a refresh token that contains its address.
    pub fn sandbox(&self) -> SandboxSettings {
        let mailbox = |address: &&str| SandboxMailbox {
            address: address.parse().expect("an address"),
            shared_with: match &self.shared {
                Some((shared, user)) if shared == address => {
                    vec![user.parse().expect("an address")]
                }
                _ => Vec::new(),
            },
            send_as: self
                .send_as
                .iter()
                .map(|address| address.parse().expect("an address"))
                .collect(),
            refresh_token: Some(format!("refresh-{address}")),
        };
        SandboxSettings {
            tenant: "contoso".into(),
            apps: [
                vec![App::with_secret("sandbox-app", "sandbox-secret")],
                self.apps.clone(),
            ]
            .concat(),
            mailboxes: self.mailboxes.iter().map(mailbox).collect(),
            clock_skew: self.clock_skew,
            token_life: self.token_life,
            rotates: self.rotates,
            shared_sign_in: self.shared_sign_in,
            limits: self.limits,
            keep: 100_000,
        }
    }
}
