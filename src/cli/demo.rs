//! `mailferry demo`.

mod incoming;
mod shared;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::common::{block_on, failed};
use super::operator;
use crate::base::{Clock, Secret};
use crate::config::{self, Config, Secrets};
use crate::daemon::{Daemon, Root};
use crate::door::password::hash_password;
use crate::message::{Address, Headers, ReversePath};
use crate::observe::logging;
use crate::operator::route;
use crate::platform::files::{Readers, create_new};
use crate::routing::Decision;
use crate::sandbox::{
    Addresses, App, Delivered, Sandbox, SandboxLimits, SandboxMailbox, SandboxSettings,
    SharedSignIn,
};
use shared::{ARRIVAL, DemoResult, PASSWORD};

/// The arguments of `mailferry demo`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// End after the five messages
    #[arg(long)]
    once: bool,
}

/// The ports of the demo's listeners for SMTP and IMAP, which a new user would expect. If a port is in use,
/// the system chooses another.
const PORTS: [u16; 2] = [2525, 1143];

/// One message of the demo.
struct Example {
    title: &'static str,
    user: &'static str,
    sender: &'static str,
    header: &'static str,
    recipient: &'static str,
    subject: &'static str,
}

const EXAMPLES: [Example; 5] = [
    Example {
        title: "Admitted: John's mail leaves through his own mailbox, untouched",
        user: "erp",
        sender: "john@example.com",
        header: "John Doe <john@example.com>",
        recipient: "customer@example.net",
        subject: "Your order",
    },
    Example {
        title: "Rewritten: no server's filter admits this sender, so the default From is used",
        user: "erp",
        sender: "warehouse@erp.local",
        header: "\"Warehouse\" <warehouse@erp.local>",
        recipient: "customer@example.net",
        subject: "Shipped",
    },
    Example {
        title: "Refused: this user may only use the server \"john\", which does not admit the sender",
        user: "scanner",
        sender: "boss@example.org",
        header: "The Boss <boss@example.org>",
        recipient: "accounting@example.net",
        subject: "Pay this at once",
    },
    Example {
        title: "Read: a question arrives, and the app \"helpdesk\" reads it by IMAP",
        user: "erp",
        sender: "john@example.com",
        header: "John Doe <john@example.com>",
        recipient: "notifications@example.com",
        subject: "A question",
    },
    Example {
        title: "Bounced: Outlook takes the message, and reports later that the recipient does not exist",
        user: "erp",
        sender: "warehouse@erp.local",
        header: "\"Warehouse\" <warehouse@erp.local>",
        recipient: "bounce-5.1.10@example.net",
        subject: "Your invoice",
    },
];

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let log = logging::LogSettings {
        level: "warn".into(),
        ..Default::default()
    };
    logging::start(&log, &logging::LogPrivacy::default());
    block_on(async {
        match demo(arguments.once).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    })
}

async fn demo(once: bool) -> DemoResult<()> {
    let folder = tempfile::tempdir()?;
    let sandbox = Sandbox::start(tenant()?, Addresses::default()).await?;
    let file = folder.path().join("mailferry.toml");
    std::fs::write(folder.path().join("ca.pem"), &sandbox.ca)?;
    private(
        &folder.path().join("demo.argon2"),
        &hash_password(&Secret::from(PASSWORD.to_owned()))?,
    )?;
    private(&folder.path().join("app.secret"), "sandbox-secret")?;
    let text = configuration(&sandbox);
    std::fs::write(&file, &text)?;
    let shown = config::load(&file, Secrets::Read)?;
    let daemon = Daemon::start(
        config::load(&file, Secrets::Read)?,
        Clock::default(),
        Root::Allowed,
    )
    .await?;
    let [listener, imap] = daemon.addresses()[..] else {
        return Err("the demo has two listeners".into());
    };
    println!("Everything here runs on this machine, and nothing leaves it.\n");
    println!(
        "  your app --SMTP, plain password--> mailferry {listener} --STARTTLS, XOAUTH2--> a stand-in for Outlook {}",
        sandbox.addresses.smtp
    );
    println!(
        "  your app --IMAP, plain password--> mailferry {imap} --TLS, XOAUTH2--> the same mailbox {}",
        sandbox.addresses.imap
    );
    println!("\nThe configuration, {}:\n", file.display());
    println!("{}", indented(&text));
    let mut arrived = 0;
    for (place, example) in EXAMPLES.iter().enumerate() {
        println!("\n{}. {}\n", place + 1, example.title);
        arrived = show(example, listener, &shown, &sandbox, arrived).await?;
        match place {
            3 => {
                println!("   The app that reads (S: mailferry, C: the app)\n");
                incoming::read(imap).await?;
            }
            4 => {
                println!("   What `mailferry trace` says, once the report is in the mailbox\n");
                let operator = operator::running(&shown).await?;
                let operator = operator.ok_or("the demo's program is not running")?;
                incoming::bounced(&operator, example.recipient).await?;
                println!(
                    "\n   The warehouse gets a report too, because it cannot see that mailbox."
                );
                sandbox.state.reached(arrived + 1).await;
                arrived += 1;
            }
            _ => {}
        }
    }
    if !once {
        stay(listener, &sandbox, arrived).await?;
    }
    daemon.stop().await;
    Ok(())
}

fn tenant() -> DemoResult<SandboxSettings> {
    let mailbox = |text: &str| -> DemoResult<SandboxMailbox> {
        Ok(SandboxMailbox {
            address: Address::parse(text)?,
            shared_with: Vec::new(),
            send_as: Vec::new(),
            refresh_token: None,
        })
    };
    Ok(SandboxSettings {
        tenant: "contoso.onmicrosoft.com".into(),
        apps: vec![App::with_secret("demo-app", "sandbox-secret")],
        mailboxes: vec![
            mailbox("john@example.com")?,
            mailbox("notifications@example.com")?,
        ],
        clock_skew: 0,
        token_life: Duration::from_secs(3_600),
        rotates: false,
        shared_sign_in: SharedSignIn::Person,
        limits: SandboxLimits::default(),
        keep: 100,
    })
}

fn private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = create_new(Readers::Owner).open(path)?;
    file.write_all(text.as_bytes())
}

fn configuration(sandbox: &Sandbox) -> String {
    let [port, imap_port] = PORTS.map(|port| match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => port,
        Err(_) => 0,
    });
    let server = |name: &str| {
        format!(
            "[[server]]\nname = \"{name}\"\nusername = \"{name}@example.com\"\nfrom_filter = \"{name}@example.com\"\noauth = \"contoso\"\n\
             grant = \"client_credentials\"\nhost = \"localhost\"    # the stand-in; for the real one leave out host, port and ca\n\
             port = {}\nca = \"ca.pem\"\n",
            sandbox.addresses.smtp.port()
        )
    };
    let reading = format!(
        "use = [\"smtp\", \"imap\"]\nimap = {{ host = \"localhost\", port = {} }}    # left out for the real one\nbounces = true\nbounce_folder = \"Bounces\"\n",
        sandbox.addresses.imap.port()
    );
    format!(
        "host = \"relay.example.com\"\n\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n\n\
         [[listener]]\nname = \"imap\"\nprotocol = \"imap\"\naddress = \"127.0.0.1:{imap_port}\"\n\n\
         [sender]\ndefault_from = \"notifications\"\ncatchall_domain = \"example.com\"\n\n\
         [[user]]\nname = \"erp\"\npassword = {{ file = \"demo.argon2\" }}\n\n\
         [[user]]\nname = \"scanner\"\npassword = {{ file = \"demo.argon2\" }}\nservers = [\"john\"]\n\n\
         [[user]]\nname = \"helpdesk\"\npassword = {{ file = \"demo.argon2\" }}\nmailboxes = [\"notifications\"]\n\n\
         [oauth.contoso]\nprovider = \"microsoft\"\ntenant = \"contoso.onmicrosoft.com\"\nclient_id = \"demo-app\"\n\
         client_secret = {{ file = \"app.secret\" }}\ntoken_url = \"{}\"\nca = \"ca.pem\"\n\n{}\n{}{reading}",
        sandbox.token_url(),
        server("john"),
        server("notifications")
    )
}

/// Sends one message and shows its path. Returns the number of messages that have arrived since the start.
async fn show(
    example: &Example,
    listener: SocketAddr,
    config: &Config,
    sandbox: &Sandbox,
    arrived: u64,
) -> DemoResult<u64> {
    println!("   The app's dialogue (S: mailferry, C: the app)\n");
    let taken = send(example, listener).await?;
    println!("\n   The decision (what `mailferry route` prints)\n");
    let sender = ReversePath::parse(example.sender)?;
    match route::decide(
        &config.live.policy,
        config.live.policy.caller(example.user, ""),
        &sender,
        Some(example.header),
    ) {
        Decision::Route(route) => println!(
            "{}",
            indented(&route::explained(&route, &sender, Some(example.header)))
        ),
        Decision::Refused(refusal) => println!(
            "     refused:   {}\n     because:   {}\n",
            refusal.why, refusal.reason
        ),
    }
    if !taken {
        println!(
            "   Nothing was sent upstream: the app received the refusal at once, and keeps its message."
        );
        return Ok(arrived);
    }
    let waited = tokio::time::timeout(ARRIVAL, sandbox.state.reached(arrived + 1)).await;
    waited.map_err(|_| "the message did not arrive at the stand-in; please report this")?;
    if let Some(message) = sandbox.state.delivered().last() {
        println!(
            "   What Outlook received, and its reply\n\n{}",
            indented(&upstream(message))
        );
    }
    Ok(arrived + 1)
}

fn upstream(message: &Delivered) -> String {
    let headers = Headers::parse(message.text.as_bytes());
    let mut text = format!("signed in as {} (XOAUTH2)\n", message.mailbox);
    for command in &message.commands {
        let _ = writeln!(text, "{command}");
    }
    for field in &headers.fields {
        let shown = ["From", "Reply-To", "Subject"]
            .iter()
            .any(|name| headers.is(field, name));
        if shown {
            text.push_str(&String::from_utf8_lossy(headers.slice(&field.whole)));
        }
    }
    let _ = writeln!(text, "answer: {}", message.reply);
    text
}

/// Runs an app's SMTP session and prints it. Returns true if the message was accepted.
async fn send(example: &Example, listener: SocketAddr) -> DemoResult<bool> {
    let (read, mut write) = TcpStream::connect(listener).await?.into_split();
    let mut lines = BufReader::new(read).lines();
    hear(&mut lines).await?;
    let credentials = BASE64_STANDARD.encode(format!("\0{}\0{PASSWORD}", example.user));
    let content = format!(
        "From: {}\r\nTo: {}\r\nSubject: {}\r\n\r\nSent by mailferry demo.\r\n.",
        example.header, example.recipient, example.subject
    );
    let steps = [
        format!("EHLO {}.local", example.user),
        format!("AUTH PLAIN {credentials}"),
        format!("MAIL FROM:<{}>", example.sender),
        format!("RCPT TO:<{}>", example.recipient),
        "DATA".to_owned(),
        content,
    ];
    let mut is_taken = true;
    for step in steps {
        for line in step.split("\r\n") {
            println!("     C: {line}");
        }
        write.write_all(format!("{step}\r\n").as_bytes()).await?;
        if hear(&mut lines).await? >= 400 {
            is_taken = false;
            break;
        }
    }
    println!("     C: QUIT");
    write.write_all(b"QUIT\r\n").await?;
    hear(&mut lines).await?;
    Ok(is_taken)
}

/// Reads and prints a reply. Returns its code.
async fn hear<R: tokio::io::AsyncBufRead + Unpin>(
    lines: &mut tokio::io::Lines<R>,
) -> DemoResult<u16> {
    loop {
        let line = lines
            .next_line()
            .await?
            .ok_or("mailferry closed the connection")?;
        println!("     S: {line}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.get(..3).unwrap_or_default().parse()?);
        }
    }
}

/// Shows the user's own mail until Ctrl-C.
async fn stay(listener: SocketAddr, sandbox: &Sandbox, mut arrived: u64) -> DemoResult<()> {
    println!("\nNow try your own mail: the demo runs until Ctrl-C. For example\n");
    println!(
        "  curl --url smtp://{listener} --user erp:{PASSWORD} --mail-from you@erp.local --mail-rcpt a@example.net \\\n    \
         --upload-file <(printf 'From: You <you@erp.local>\\nSubject: Hello\\n\\nHi\\n')\n"
    );
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
            () = sandbox.state.reached(arrived + 1) => {
                arrived += 1;
                if let Some(message) = sandbox.state.delivered().last() {
                    println!("\n   Outlook got\n\n{}", indented(&upstream(message)));
                }
            }
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("     {line}\n")).collect()
}
