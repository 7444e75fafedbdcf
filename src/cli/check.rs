//! `mailferry check`.

use std::process::ExitCode;

use ipnet::IpNet;

use super::common::{ConfigFile, UNAVAILABLE, block_on};
use crate::base::Service;
use crate::bounces::Handled;
use crate::config::{Config, Secrets, effective};
use crate::config::{ListenerConfig, ServiceConfig};
use crate::message::{Address, Author, ReversePath};
use crate::routing::{Caller, Decision, Key, OnMismatch, Policy, Route};
use crate::spool::postgres::DatabaseState;
use crate::transport::smtp::Auth;
use crate::transport::{RemoteHost, Tls};

/// The arguments of `mailferry check`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Looked) {
        Ok(config) => config,
        Err(code) => return code,
    };
    block_on(async {
        match &config.fixed.spool.postgresql {
            None => checked(arguments, &config, None),
            Some(settings) => match settings.probe().await {
                Ok(state) => checked(arguments, &config, Some(state)),
                Err(error) => {
                    eprintln!("{}: {error}", config.path.display());
                    ExitCode::from(UNAVAILABLE)
                }
            },
        }
    })
}

/// Prints what a configuration does. `database` is the one that the nodes share, which has been tried.
fn checked(arguments: &Arguments, config: &Config, database: Option<DatabaseState>) -> ExitCode {
    if arguments.config.json {
        println!("{}", json(config));
        return ExitCode::SUCCESS;
    }
    listeners(config);
    users(config);
    servers(config);
    routing(&config.live.policy);
    if let Some(state) = &database {
        println!("\nDatabase\n  {} answers", state.name);
        for warning in &state.warnings {
            println!("\nWarning: {warning}");
        }
    }
    for warning in &config.warnings {
        println!("\nWarning: {warning}");
    }
    println!("\n{}: ok", config.path.display());
    ExitCode::SUCCESS
}

/// Returns the settings in force, without secrets, and the warnings.
fn json(config: &Config) -> serde_json::Value {
    let sections = effective::sections(config).into_iter().map(|section| {
        let rows = section.rows.into_iter();
        let rows = rows.map(|(key, value)| serde_json::json!({ "key": key, "value": value }));
        serde_json::json!({ "table": section.title, "settings": rows.collect::<Vec<_>>() })
    });
    serde_json::json!({
        "file": config.path,
        "warnings": config.warnings,
        "tables": sections.collect::<Vec<_>>(),
    })
}

fn listeners(config: &Config) {
    println!("Listeners (this host is {})", config.live.host);
    for listener in &config.live.listeners {
        let endpoint = &listener.endpoint;
        let tls = match (&endpoint.tls, endpoint.plaintext) {
            (Some(tls), _) if tls.implicit => "implicit TLS",
            (Some(_), true) => "STARTTLS offered",
            (Some(_), false) => "STARTTLS required",
            (None, _) => "no TLS",
        };
        let auth = match (endpoint.by_password, endpoint.by_network) {
            (true, _) if !endpoint.plaintext_auth => "passwords within TLS",
            (true, true) => "by password or network",
            (true, false) => "by password",
            (false, _) => "by network",
        };
        let named = if endpoint.name == endpoint.socket.to_string() {
            String::new()
        } else {
            format!("{}: ", endpoint.name)
        };
        println!("  {named}{}  {tls}, {auth}", endpoint.socket);
        for (what, said) in restrictions(config, listener) {
            println!("    {what}: {said}");
        }
    }
}

/// Returns the rules that apply only to this listener, each as a title and a text.
fn restrictions(config: &Config, listener: &ListenerConfig) -> Vec<(&'static str, String)> {
    let ListenerConfig { endpoint, service } = listener;
    let submission = listener.submission();
    let protocol = match service {
        ServiceConfig::Submission(_) => None,
        ServiceConfig::Incoming(protocol) => Some(format!("{protocol}, for reading")),
    };
    let rule = config.live.policy.listeners.get(&endpoint.name);
    let servers = rule.and_then(|rule| rule.servers.as_ref());
    let sender = rule.and_then(|rule| rule.default_from.as_ref());
    let listed = |words: Vec<String>| words.join(", ");
    let shown = |networks: &[IpNet]| listed(networks.iter().map(ToString::to_string).collect());
    let users = endpoint.users.as_ref().map(|users| {
        let known = config.live.users.iter().map(|user| user.name.clone());
        listed(known.filter(|name| users.contains(name)).collect())
    });
    let proxies = Some(&endpoint.proxies).filter(|proxies| !proxies.is_empty());
    let pause = endpoint.early_talkers;
    let bare_lf = submission.is_some_and(|options| options.session.bare_lf);
    let limits = endpoint.limits.iter();
    let limits = limits.map(|limit| ("at most", format!("{} {}", limit.most, limit.setting)));
    [
        ("protocol", protocol),
        ("users", users),
        ("clients from", endpoint.networks.as_deref().map(shown)),
        (
            "PROXY header required from",
            proxies.map(|proxies| shown(proxies)),
        ),
        ("servers", servers.map(|servers| servers.join(", "))),
        ("default_from", sender.map(ToString::to_string)),
        (
            "devices without an address send as",
            submission.and_then(|options| options.assume_from.as_ref().map(ToString::to_string)),
        ),
        (
            "commands that end in a bare LF",
            bare_lf.then(|| "accepted".to_owned()),
        ),
        (
            "clients that talk before the greeting",
            pause.map(|pause| {
                format!(
                    "refused; the greeting is delayed by {}",
                    humantime::format_duration(pause)
                )
            }),
        ),
    ]
    .into_iter()
    .filter_map(|(what, said)| Some((what, said?)))
    .chain(limits)
    .collect()
}

fn users(config: &Config) {
    println!("\nUsers");
    for user in &config.live.users {
        let mut ways = Vec::new();
        if user.hash.is_some() {
            ways.push("by password".to_owned());
        }
        ways.extend(
            user.networks
                .iter()
                .map(|network| format!("from {network}")),
        );
        let caller = config.live.policy.caller(&user.name, "");
        let servers = match (caller.pinned, caller.servers) {
            (Some(pin), _) => format!("always through {pin}"),
            (_, Some(servers)) => format!("only through {}", servers.join(", ")),
            _ => "through any server".to_owned(),
        };
        println!("  {}  {}; {servers}", user.name, ways.join(", "));
        let rule = config.live.policy.users.get(&user.name);
        if let Some(sender) = rule.and_then(|rule| rule.default_from.as_ref()) {
            println!("    default_from {sender}");
        }
        if let Some(senders) = &user.senders {
            println!("    sends as {senders}");
        }
        if let Some(recipients) = &user.recipients {
            println!("    sends to {recipients}");
        }
        if !user.mailboxes.is_empty() {
            println!("    reads the mailboxes of {}", user.mailboxes.join(", "));
        }
        for limit in &user.limits {
            println!("    at most {} {}", limit.most, limit.setting);
        }
    }
}

fn servers(config: &Config) {
    println!("\nServers, in order");
    for server in &config.live.servers {
        let auth = match (&server.auth, &server.token) {
            (Auth::XOAuth2 { username }, Some(token)) => {
                format!(
                    "XOAUTH2 as {username}, tokens by [oauth.{}] from {}",
                    token.oauth, token.endpoints.token
                )
            }
            (Auth::Plain { username, .. } | Auth::Login { username, .. }, _) => {
                format!("password of {username}")
            }
            _ => "no sign-in".to_owned(),
        };
        let mode = if config.live.direct.contains(&server.name) {
            "direct"
        } else {
            "queued"
        };
        let sending = server.smtp.as_ref().map(|smtp| {
            format!(
                "{}, {auth}; {mode}, {} sessions",
                host(&smtp.remote),
                server.limits.sessions
            )
        });
        println!("  {}  {}", server.name, sending.unwrap_or(auth));
        for (protocol, remote) in [("IMAP", &server.imap), ("POP3", &server.pop3)] {
            if let Some(remote) = remote {
                println!("    read by {protocol} from {}", host(remote));
            }
        }
        if let Some(handled) = &server.bounces {
            let is_exchange = server
                .imap
                .as_ref()
                .is_some_and(|imap| Service::at(&imap.host) == Service::ExchangeOnline);
            let what = match handled {
                Handled::Marked if is_exchange => {
                    "left as they are, because Exchange Online stores no keywords; `bounce_folder` moves them".to_owned()
                }
                handled => handled.to_string(),
            };
            println!("    delivery reports in its INBOX are read, then {what}");
        }
    }
}

fn host(remote: &RemoteHost) -> String {
    let tls = match remote.tls {
        Tls::Starttls => "STARTTLS",
        Tls::Implicit => "implicit TLS",
        Tls::None => "no TLS",
    };
    format!("{}:{} {tls}", remote.host, remote.port)
}

fn routing(policy: &Policy) {
    let keys: Vec<String> = policy.keys.iter().map(Key::to_string).collect();
    println!("\nRouting (by {})", keys.join(", then "));
    for server in &policy.servers {
        let to = server.to.as_ref().map(|to| format!(", to {to}"));
        match (&server.filter, to) {
            (Some(filter), to) => {
                println!("  {filter}{}  ->  {}", to.unwrap_or_default(), server.name);
            }
            (None, Some(to)) => println!("  everybody{to}  ->  {}", server.name),
            (None, None) => {}
        }
    }
    println!("  everybody else  ->  {}", everybody_else(policy));
    let mismatch = match policy.on_mismatch {
        OnMismatch::Rewrite => "is rewritten",
        OnMismatch::Keep => "is kept",
        OnMismatch::Reject => "is refused",
    };
    println!("  a From that the chosen server does not admit {mismatch}");
}

/// Describes the route that routing chooses for a sender that no filter admits.
fn everybody_else(policy: &Policy) -> String {
    let nobody = Address::parse("nobody@unlisted.invalid").map(ReversePath::Mailbox);
    let Ok(sender) = nobody else {
        return String::new();
    };
    let author = Author::of_value(sender.to_string().as_bytes());
    // To a recipient that no to_filter lists.
    let caller = Caller {
        recipient: sender.address(),
        ..Caller::default()
    };
    match policy.decide(&sender, &author, caller) {
        Decision::Route(Route { server, plan, .. }) => match plan.from {
            Some(from) => format!("{server}, sent as {}", from.address),
            None => format!("{server}, From unchanged"),
        },
        Decision::Refused(_) => "refused".to_owned(),
    }
}
