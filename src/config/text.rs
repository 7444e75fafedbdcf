//! The file as it is written: every table and key, its type, its default. `config/mailferry.toml`
//! is the same with comments.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;
use url::Url;

use super::preset::{Cloud, Provider};
use super::secret::SecretText;
use crate::base::limits;
use crate::listener::guard::Rules;
use crate::message::{Priority, Shown};
use crate::observe::logging::Format;
use crate::routing::{Key, NullSender, OnMismatch};
use crate::token::Grant;
use crate::transport::smtp::Tls;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub(super) host: Option<Spanned<String>>,
    pub(super) data_dir: Option<String>,
    pub(super) vault_key: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) privacy: Privacy,
    pub(super) run_as: Option<Spanned<String>>,
    pub(super) web: Option<Web>,
    #[serde(default)]
    pub(super) listener: Vec<Listener>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) sender: Sender,
    #[serde(default)]
    pub(super) user: Vec<User>,
    #[serde(default)]
    pub(super) oauth: BTreeMap<Spanned<String>, OAuth>,
    #[serde(default)]
    pub(super) server: Vec<Server>,
    #[serde(default)]
    pub(super) delivery: Delivery,
    #[serde(default)]
    pub(super) spool: Spool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub format: Format,
    pub level: Spanned<String>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::Human,
            level: Spanned::new(0..0, "info".into()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Privacy {
    pub mask_addresses: bool,
    pub received: Shown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Web {
    pub address: Spanned<SocketAddr>,
    pub external_url: Option<Spanned<Url>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub name: Option<Spanned<String>>,
    pub address: Option<Spanned<SocketAddr>>,
    pub systemd: Option<Spanned<String>>,
    #[serde(default)]
    pub only_ipv6: bool,
    pub tls: Option<Spanned<ListenerTls>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub allow_plaintext: bool,
    #[serde(default)]
    pub auth: ListenerAuth,
    pub users: Option<Vec<Spanned<String>>>,
    pub networks: Option<Vec<Network>>,
    pub servers: Option<Vec<Spanned<String>>>,
    #[serde(default, deserialize_with = "some_positive")]
    pub sessions: Option<usize>,
    #[serde(default, deserialize_with = "some_positive")]
    pub message_size: Option<u64>,
    pub messages_per_minute: Option<u64>,
    pub priority: Option<Priority>,
    #[serde(default)]
    pub bare_lf_commands: bool,
    pub refuse_early_talkers: Option<Wait>,
    pub assume_from: Option<Spanned<String>>,
    #[serde(default)]
    pub proxies: Vec<Network>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListenerTls {
    None,
    Starttls,
    Required,
    Implicit,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListenerAuth {
    #[default]
    Either,
    Password,
    Network,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    #[serde(deserialize_with = "positive")]
    pub message_size: u64,
    #[serde(deserialize_with = "count")]
    pub recipients: usize,
    #[serde(deserialize_with = "positive")]
    pub commands: u32,
    #[serde(deserialize_with = "positive")]
    pub errors: u32,
    #[serde(deserialize_with = "count")]
    pub sessions: usize,
    pub sessions_per_address: usize,
    pub sessions_per_user: usize,
    #[serde(deserialize_with = "positive")]
    pub memory: u64,
    pub minimum_rate: u64,
    pub auth_failures: u64,
    pub auth_time: Wait,
    pub shut_out: Wait,
    pub never_shut_out: Vec<Network>,
    pub idle_time: Wait,
    pub session_time: Wait,
    pub bare_newlines: BareNewlines,
}

impl Default for Limits {
    fn default() -> Self {
        let guard = Rules::default();
        Self {
            message_size: limits::MESSAGE_SIZE,
            recipients: limits::RECIPIENTS,
            commands: limits::COMMANDS,
            errors: limits::ERRORS,
            sessions: limits::SESSIONS,
            sessions_per_address: limits::SESSIONS_PER_ADDRESS,
            sessions_per_user: limits::SESSIONS_PER_ADDRESS,
            memory: limits::MEMORY,
            minimum_rate: limits::MINIMUM_RATE,
            auth_failures: guard.failures.unwrap_or_default(),
            auth_time: Wait(guard.within),
            shut_out: Wait(guard.shut_out),
            never_shut_out: guard.exempt.into_iter().map(Network).collect(),
            idle_time: Wait(limits::IDLE_TIME),
            session_time: Wait(limits::SESSION_TIME),
            bare_newlines: BareNewlines::Normalize,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BareNewlines {
    Normalize,
    Reject,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sender {
    pub default_from: Option<Spanned<String>>,
    pub catchall_domain: Option<Spanned<String>>,
    #[serde(rename = "match")]
    pub keys: Spanned<Vec<Key>>,
    pub last_resort: bool,
    pub on_mismatch: OnMismatch,
    pub null_sender: NullSender,
    pub reply_to: bool,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            default_from: None,
            catchall_domain: None,
            keys: Spanned::new(0..0, vec![Key::Envelope, Key::Header]),
            last_resort: false,
            on_mismatch: OnMismatch::Rewrite,
            null_sender: NullSender::Keep,
            reply_to: true,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub name: Spanned<String>,
    pub password: Option<Spanned<SecretText>>,
    #[serde(default)]
    pub networks: Vec<Network>,
    pub server: Option<Spanned<String>>,
    pub servers: Option<Vec<Spanned<String>>>,
    pub senders: Option<Spanned<String>>,
    pub recipients: Option<Spanned<String>>,
    pub messages_per_minute: Option<u64>,
    pub messages_per_day: Option<u64>,
    pub recipients_per_minute: Option<u64>,
    pub recipients_per_day: Option<u64>,
    pub sessions: Option<usize>,
    pub assume_from: Option<Spanned<String>>,
    pub priority: Option<Priority>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OAuth {
    #[serde(default)]
    pub provider: Provider,
    pub tenant: Option<Spanned<String>>,
    pub client_id: Spanned<String>,
    #[serde(default)]
    pub cloud: Cloud,
    pub client_secret: Option<Spanned<SecretText>>,
    pub client_secret_expires: Option<Spanned<Datetime>>,
    pub second_client_secret: Option<Spanned<SecretText>>,
    pub second_client_secret_expires: Option<Spanned<Datetime>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<SecretText>>,
    pub assertion_file: Option<String>,
    pub token_url: Option<Spanned<Url>>,
    pub authorize_url: Option<Spanned<Url>>,
    pub device_url: Option<Spanned<Url>>,
    pub redirect: Option<Spanned<Url>>,
    pub scopes: Option<Vec<String>>,
    pub ca: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub name: Spanned<String>,
    #[serde(default)]
    pub username: Option<Spanned<String>>,
    pub account: Option<Spanned<String>>,
    pub address: Option<Spanned<String>>,
    pub from_filter: Option<Spanned<String>>,
    pub oauth: Option<Spanned<String>>,
    pub grant: Option<Spanned<Grant>>,
    pub refresh_token: Option<Spanned<SecretText>>,
    pub auth: Option<Spanned<Auth>>,
    pub password: Option<Spanned<SecretText>>,
    pub host: Option<Spanned<String>>,
    pub port: Option<u16>,
    pub tls: Option<Spanned<Tls>>,
    pub ca: Option<Spanned<String>>,
    #[serde(default)]
    pub mode: Mode,
    pub sessions: Option<Spanned<usize>>,
    #[serde(default, deserialize_with = "some_count")]
    pub messages_per_minute: Option<usize>,
    pub recipients_per_day: Option<u64>,
    pub recipients_per_message: Option<Spanned<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Auth {
    XOAuth2,
    Plain,
    Login,
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Queued,
    Direct,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Delivery {
    pub retry: Spanned<Vec<Wait>>,
    pub expire_after: Wait,
    pub back_off: [Wait; 2],
    pub uncertain: OnUncertain,
    pub uncertain_pause: Wait,
    pub warn_after: Wait,
    pub reports_per_hour: usize,
    pub grace: Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnUncertain {
    Retry,
    Hold,
}

impl Default for Delivery {
    fn default() -> Self {
        let schedule = crate::delivery::Schedule::default();
        let back_off = crate::delivery::BackOff::default();
        let minutes = |minutes: u64| Wait(std::time::Duration::from_secs(60 * minutes));
        Self {
            retry: Spanned::new(0..0, schedule.waits.into_iter().map(Wait).collect()),
            expire_after: Wait(schedule.expires_after),
            back_off: [back_off.first, back_off.longest].map(Wait),
            uncertain: OnUncertain::Retry,
            uncertain_pause: minutes(30),
            warn_after: minutes(4 * 60),
            reports_per_hour: 20,
            grace: Wait(std::time::Duration::from_secs(30)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spool {
    pub reserve: u64,
    pub history: Wait,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            reserve: 4 * 1024 * 1024,
            history: Wait(std::time::Duration::from_secs(30 * 24 * 3_600)),
        }
    }
}

/// The longest time that can be configured: clocks have an end.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(10 * 366 * 24 * 3_600);

/// The largest number of messages, sessions or recipients that can be configured: each takes memory.
pub(super) const MOST: u64 = 1_000_000;

/// A time in words: `90s`, `15m`, `5 days`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait(pub std::time::Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = humantime::parse_duration(&text).map(Self);
        if read.as_ref().is_ok_and(|wait| wait.0 > LONGEST) {
            let words =
                format!("invalid value {text:?}: 10 years are the most; write a shorter time");
            return Err(serde::de::Error::custom(words));
        }
        read.map_err(|error| {
            let words = format!("invalid value {text:?} ({error}): write a time such as \"90s\", \"15m\" or \"5 days\"");
            serde::de::Error::custom(words)
        })
    }
}

/// Addresses: `192.168.7.0/24`, or one alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network(pub IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let alone = |address: IpAddr| IpNet::from(address);
        let read = text.parse().or_else(|_| text.parse().map(alone));
        read.map(Self).map_err(|_| {
            let words = format!("invalid value {text:?}: write addresses such as \"192.168.7.0/24\", or one such as \"192.168.7.9\"");
            serde::de::Error::custom(words)
        })
    }
}

/// The networks as the parts have them.
pub(super) fn networks(networks: &[Network]) -> Vec<IpNet> {
    networks.iter().map(|network| network.0).collect()
}

/// A number of something that takes memory, and lets something through.
fn count<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default + Copy + PartialEq + TryInto<u64>,
{
    let number: T = positive(deserializer)?;
    if number.try_into().is_ok_and(|number| number <= MOST) {
        Ok(number)
    } else {
        Err(serde::de::Error::custom(TOO_MANY))
    }
}

/// The same where 0 is no limit.
fn some_count<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Copy + TryInto<u64>,
{
    let number = T::deserialize(deserializer)?;
    if number.try_into().is_ok_and(|number| number <= MOST) {
        Ok(Some(number))
    } else {
        Err(serde::de::Error::custom(TOO_MANY))
    }
}

const TOO_MANY: &str = "1000000 is the most; write a smaller number";

/// A number that lets something through.
fn positive<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let number = T::deserialize(deserializer)?;
    match number == T::default() {
        true => Err(serde::de::Error::custom(
            "0 lets nothing through; write 1 or more",
        )),
        false => Ok(number),
    }
}

fn some_positive<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    positive(deserializer).map(Some)
}
