//! `mailferry check`.

use std::process::ExitCode;

use super::ConfigFile;
use crate::config::{Config, Secrets};
use crate::routing::{Key, OnMismatch, Policy};
use crate::upstream::{Auth, Tls};

/// Nothing is started and nothing is changed. Ends with 78 where the configuration is wrong, and
/// says file, line, key and remedy of all that is.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Secrets::Read) {
        Ok(config) => config,
        Err(code) => return code,
    };
    listeners(&config);
    users(&config);
    servers(&config);
    routing(&config.policy);
    for warning in &config.warnings {
        println!("\nWarning: {warning}");
    }
    println!("\n{}: ok", config.path.display());
    ExitCode::SUCCESS
}

fn listeners(config: &Config) {
    println!("Listeners (this host is {})", config.host);
    for endpoint in &config.endpoints {
        let tls = match (&endpoint.tls, endpoint.plaintext) {
            (Some(_), true) => "STARTTLS offered, plaintext allowed",
            (Some(_), false) => "STARTTLS required",
            (None, _) => "plaintext",
        };
        println!("  {}  {tls}", endpoint.address);
    }
}

fn users(config: &Config) {
    println!("\nUsers");
    for user in &config.users {
        let mut ways = Vec::new();
        if user.hash.is_some() {
            ways.push("by password".to_owned());
        }
        ways.extend(
            user.networks
                .iter()
                .map(|network| format!("from {network}")),
        );
        let caller = config.policy.caller(&user.name);
        let servers = match (caller.pinned, caller.servers) {
            (Some(pin), _) => format!("always through {pin}"),
            (_, Some(servers)) => format!("only through {}", servers.join(", ")),
            _ => "through any server".to_owned(),
        };
        println!("  {}  {}; {servers}", user.name, ways.join(", "));
    }
}

fn servers(config: &Config) {
    println!("\nServers, in order");
    for server in &config.servers {
        let up = &server.upstream;
        let tls = match up.tls {
            Tls::Starttls => "STARTTLS",
            Tls::Implicit => "implicit TLS",
            Tls::None => "no TLS",
        };
        let auth = match (&up.auth, &server.token) {
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
        let mode = if config.direct.contains(&server.name) {
            "direct"
        } else {
            "queued"
        };
        println!(
            "  {}  {}:{} {tls}, {auth}; {mode}, {} sessions",
            server.name, up.host, up.port, server.limits.sessions
        );
    }
}

fn routing(policy: &Policy) {
    let keys: Vec<String> = policy.keys.iter().map(Key::to_string).collect();
    println!("\nRouting (by {})", keys.join(", then "));
    for server in &policy.servers {
        match &server.filter {
            Some(filter) => println!("  {filter}  ->  {}", server.name),
            None => println!(
                "  what no other admits  ->  {} (no from_filter)",
                server.name
            ),
        }
    }
    match (&policy.default_from, policy.report_route(|_| true)) {
        (Some(from), Some((route, _))) => {
            println!("  everybody else  ->  {}, sent as {from}", route.server)
        }
        _ if policy.last_resort => {
            println!("  everybody else  ->  the first server, as the last resort")
        }
        _ => println!("  everybody else  ->  refused, unless a server has no from_filter"),
    }
    let mismatch = match policy.on_mismatch {
        OnMismatch::Rewrite => "is rewritten",
        OnMismatch::Keep => "is kept",
        OnMismatch::Reject => "is refused",
    };
    println!("  a From that the chosen server does not admit {mismatch}");
}
