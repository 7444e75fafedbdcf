//! The settings in force, for people to read: all keys with their values or defaults, without secrets.

use std::fmt::Display;
use std::time::Duration;

use super::settings::{Config, ListenerConfig, ServerConfig, ServiceConfig};
use crate::alerts::Way;
use crate::door::{DoorLimits, User};
use crate::operator::settings::Section;
use crate::routing::{Filter, Policy};

/// Returns the settings by tables of the file.
pub(crate) fn sections(config: &Config) -> Vec<Section> {
    let live = &config.live;
    let mut sections = vec![
        general(config),
        sender(&live.policy),
        limits(&live.limits),
        delivery(config),
        alerts(config),
    ];
    sections.extend(live.listeners.iter().map(listener));
    sections.extend(live.users.iter().map(|user| self::user(user, &live.policy)));
    sections.extend(
        live.servers
            .iter()
            .map(|server| self::server(server, config)),
    );
    sections
}

fn time(time: Duration) -> impl Display {
    humantime::format_duration(time)
}

fn list(all: impl IntoIterator<Item: Display>) -> Option<String> {
    let all: Vec<String> = all.into_iter().map(|it| it.to_string()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Formats a value as the file writes it.
fn written(value: impl serde::Serialize) -> String {
    let value = serde_json::json!(value);
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn general(config: &Config) -> Section {
    let fixed = &config.fixed;
    let mut section = Section::new("General");
    section.add("host", &config.live.host);
    section.add("data_dir", fixed.data_dir.display());
    section.add_or(
        "run_as",
        fixed.run_as.as_ref(),
        "the user that starts mailferry",
    );
    let key = fixed.vault_key.as_ref().map(|_| "from the configuration");
    section.add_or("vault_key", key, "the file vault.key in data_dir");
    section.add("[log] format", written(fixed.log.format));
    section.add("[log] level", &fixed.log.level);
    let dialogues = &config.live.dialogues;
    section.add_or("[log] debug_peers", list(&dialogues.peers), "none");
    section.add_or("[log] debug_users", list(&dialogues.users), "none");
    section.add("[privacy] mask_addresses", fixed.privacy.mask_addresses);
    section.add("[control] socket", fixed.control.socket.display());
    section.add_or("[control] group", fixed.control.group.as_ref(), "none");
    section.add("[control] access", written(fixed.control.access));
    section.add("[spool] reserve", format!("{} octets", fixed.spool.reserve));
    section.add("[spool] history", time(fixed.spool.history));
    let database = fixed.spool.postgresql.as_ref();
    section.add_or(
        "[spool] postgresql",
        database.map(|it| it.name()),
        "none, messages are on this machine's disk",
    );
    let web = fixed.web.as_ref();
    section.add_or("[web] address", web.map(|web| web.address), "no page");
    let url = web.and_then(|web| web.external_url.as_ref());
    section.add_or("[web] external_url", url, "none");
    for person in &config.live.people {
        let role = written(person.role);
        section.add("[[web.user]]", format!("{} ({role})", person.name));
    }
    if let Some(oidc) = &config.live.oidc {
        let none = "none";
        section.add("[web.oidc] issuer", &oidc.issuer);
        section.add("[web.oidc] client_id", &oidc.client_id);
        section.add("[web.oidc] claim", &oidc.claim);
        let people = list(&oidc.administrators);
        section.add_or("[web.oidc] administrators", people, none);
        section.add_or("[web.oidc] readers", list(&oidc.readers), none);
    }
    section
}

fn sender(policy: &Policy) -> Section {
    let mut section = Section::new("[sender]");
    section.add_or(
        "default_from",
        policy.default_from.as_ref(),
        "none: mail that no from_filter admits is refused",
    );
    section.add(
        "match",
        list(policy.keys.iter().map(written)).unwrap_or_default(),
    );
    section.add("on_mismatch", written(policy.on_mismatch));
    section.add("null_sender", written(policy.null_sender));
    section.add("last_resort", policy.last_resort);
    section.add("reply_to", policy.reply_to);
    section
}

fn limits(limits: &DoorLimits) -> Section {
    let mut section = Section::new("[limits]");
    section.add("message_size", format!("{} octets", limits.message_size));
    section.add("recipients", limits.recipients);
    section.add("commands", limits.commands);
    section.add("errors", limits.errors);
    section.add("sessions", limits.sessions);
    section.add("sessions_per_address", limits.sessions_per_address);
    section.add("sessions_per_user", limits.sessions_per_user);
    section.add("memory", format!("{} octets", limits.memory));
    section.add(
        "minimum_rate",
        format!("{} octets a second", limits.minimum_rate),
    );
    section.add("auth_failures", limits.auth_failures);
    section.add("auth_time", time(limits.auth_time));
    section.add("shut_out", time(limits.shut_out));
    section.add_or("never_shut_out", list(&limits.never_shut_out), "none");
    section.add("idle_time", time(limits.idle_time));
    section.add("session_time", time(limits.session_time));
    section
}

fn delivery(config: &Config) -> Section {
    let delivery = &config.live.delivery;
    let mut section = Section::new("[delivery]");
    section.add(
        "retry",
        list(delivery.retry.iter().map(|it| time(*it))).unwrap_or_default(),
    );
    section.add("expire_after", time(delivery.expire_after));
    let (first, longest) = (delivery.back_off.first, delivery.back_off.longest);
    section.add("back_off", format!("{} to {}", time(first), time(longest)));
    section.add("uncertain_pause", time(delivery.uncertain_pause));
    section.add("warn_after", time(delivery.warn_after));
    section.add("reports_per_hour", delivery.reports_per_hour);
    section.add("grace", time(delivery.grace));
    section
}

fn alerts(config: &Config) -> Section {
    let alerts = &config.live.alerts;
    let thresholds = &alerts.thresholds;
    let mut section = Section::new("[alerts]");
    section.add("held_for", time(thresholds.held_for));
    section.add("queue_age", time(thresholds.queue_age));
    section.add("disk_free", format!("{} octets", thresholds.disk_free));
    section.add("bounce_rate", format!("{} %", thresholds.bounce_rate));
    for channel in &alerts.channels {
        let way = match &channel.way {
            Way::Webhook { .. } => "webhook".to_owned(),
            // The arguments may contain secrets.
            Way::Command(command) => {
                format!("command {}", command.first().map_or("", String::as_str))
            }
            Way::Mail { to, servers } => format!("mail to {to} through {}", servers.join(", ")),
        };
        section.add("[[alert]]", format!("{}: {way}", channel.name));
    }
    section
}

fn listener(listener: &ListenerConfig) -> Section {
    let endpoint = &listener.endpoint;
    let mut section = Section::new(format!("[[listener]] {}", endpoint.name));
    let protocol = match &listener.service {
        ServiceConfig::Submission(_) => "smtp",
        ServiceConfig::Incoming(protocol) => protocol.name(),
    };
    section.add("protocol", protocol);
    section.add("address", &endpoint.socket);
    section.add(
        "tls",
        if endpoint.tls.is_some() {
            "yes"
        } else {
            "none"
        },
    );
    section.add("passwords", if endpoint.by_password { "yes" } else { "no" });
    section.add(
        "passwords without TLS",
        if endpoint.plaintext_auth { "yes" } else { "no" },
    );
    section.add(
        "users by network",
        if endpoint.by_network { "yes" } else { "no" },
    );
    let users = endpoint.users.as_ref().and_then(|users| list(users.iter()));
    section.add_or("users", users, "all");
    let networks = endpoint
        .networks
        .as_ref()
        .and_then(|networks| list(networks.iter()));
    section.add_or("networks", networks, "all");
    section.add("sessions", endpoint.sessions);
    section
}

fn user(user: &User, policy: &Policy) -> Section {
    let mut section = Section::new(format!("[[user]] {}", user.name));
    let password = user.hash.as_ref().map(|_| "set");
    section.add_or("password", password, "none");
    section.add_or("networks", list(&user.networks), "none");
    section.add_or(
        "senders",
        user.senders.as_ref().map(Filter::to_string),
        "any",
    );
    section.add_or(
        "recipients",
        user.recipients.as_ref().map(Filter::to_string),
        "any",
    );
    section.add_or("priority", user.priority.map(written), "normal");
    section.add_or("mailboxes", list(&user.mailboxes), "none");
    let rule = policy.users.get(&user.name);
    let pinned = rule.and_then(|rule| rule.pinned.as_ref());
    section.add_or("server", pinned, "by routing");
    let servers = rule.and_then(|rule| list(rule.servers.iter().flatten()));
    section.add_or("servers", servers, "all");
    if let Some(sender) = rule.and_then(|rule| rule.default_from.as_ref()) {
        section.add("default_from", sender);
    }
    for limit in &user.limits {
        section.add(limit.setting, limit.most);
    }
    section
}

fn server(server: &ServerConfig, config: &Config) -> Section {
    let mut section = Section::new(format!("[[server]] {}", server.name));
    section.add("username", &server.username);
    let hosts = [
        ("host", server.smtp.as_ref().map(|smtp| &smtp.remote)),
        ("imap", server.imap.as_ref()),
        ("pop3", server.pop3.as_ref()),
    ];
    for (key, remote) in hosts {
        if let Some(remote) = remote {
            let tls = written(remote.tls);
            section.add(key, format!("{}:{}, TLS {tls}", remote.host, remote.port));
        }
    }
    let rule = config
        .live
        .policy
        .servers
        .iter()
        .find(|rule| rule.name == server.name);
    let filter = rule
        .and_then(|rule| rule.filter.as_ref())
        .map(Filter::to_string);
    section.add_or("from_filter", filter, "none: what no other server admits");
    if let Some(token) = &server.token {
        section.add("oauth", &token.oauth);
        section.add("client_id", &token.client_id);
        section.add("grant", written(token.grant));
        let expires = token.credential.expires();
        section.add_or("client secret or certificate expires", expires, "unknown");
        section.add_or("account", token.user.as_ref(), "the app itself");
    }
    let limits = &server.limits;
    section.add("sessions", limits.sessions);
    section.add_or("messages_per_minute", limits.per_minute, "no limit");
    section.add_or("recipients_per_day", limits.per_day, "no limit");
    section.add_or("tenant", server.tenant.as_ref(), "none");
    let mode = if config.live.direct.contains(&server.name) {
        "direct"
    } else {
        "queued"
    };
    section.add("mode", mode);
    section.add(
        "bounces",
        if server.bounces.is_some() {
            "read"
        } else {
            "not read"
        },
    );
    section
}
