//! The data of the stand-ins: apps, mailboxes, tokens and limits, and the messages and requests that have
//! arrived.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rand::Rng;
use rand::distr::Alphanumeric;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::report;
use super::script::Script;
use crate::base::Timestamp;
use crate::message::Address;

/// The apps and mailboxes that exist, and their permissions and limits.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// The tenant's name in the token endpoint's path.
    pub tenant: String,
    /// App registrations.
    pub apps: Vec<App>,
    /// Mailboxes.
    pub mailboxes: Vec<SandboxMailbox>,
    /// How far Entra's clock is ahead of the system's (milliseconds; negative if it is behind).
    pub clock_skew: i64,
    /// The lifetime of an access token.
    pub token_life: Duration,
    /// True if a refresh token can be used only once.
    pub rotates: bool,
    /// The name that a person's token is valid for if the mailbox is shared with that person.
    pub shared_sign_in: SharedSignIn,
    /// Exchange's limits.
    pub limits: SandboxLimits,
    /// The number of messages that are kept for inspection; older ones are removed.
    pub keep: usize,
}

/// The name in `user=` when a person signs in for a shared mailbox (`transport/smtp/exchange_online.md`,
/// "The SMTP session").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SharedSignIn {
    /// Only the person's name, as measured with Exchange.
    #[default]
    Person,
    /// Only the mailbox's name, as Microsoft documents it.
    Mailbox,
}

/// An app registration; a public client if it has no credentials.
#[derive(Debug, Clone, Default)]
pub struct App {
    /// Application (client) id.
    pub id: String,
    /// The app's secrets.
    pub secrets: Vec<String>,
    /// Secrets that have expired.
    pub expired_secrets: Vec<String>,
    /// Certificates whose keys may sign for the app.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The assertion of a workload that may authenticate as the app.
    pub assertion: Option<String>,
}

impl App {
    /// Creates an app with one secret.
    pub fn with_secret(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secrets: vec![secret.to_owned()],
            ..Self::default()
        }
    }
}

/// An authorization code that the browser brings to the app.
#[derive(Debug)]
pub(super) struct Code {
    pub user: String,
    pub client_id: String,
    pub redirect: String,
    pub challenge: String,
    pub until: Timestamp,
}

/// The progress of a sign-in on another device.
#[derive(Debug, Clone)]
pub(super) enum Device {
    Pending,
    Declined,
    Expired,
    Answered(String),
}

/// A mailbox.
#[derive(Debug, Clone)]
pub struct SandboxMailbox {
    /// The mailbox's address, which is also its user's name.
    pub address: Address,
    /// Other users who may send as this mailbox; if there are any, it is a shared mailbox.
    pub shared_with: Vec<Address>,
    /// Other addresses that the mailbox may send as.
    pub send_as: Vec<Address>,
    /// A refresh token that the mailbox's user has granted.
    pub refresh_token: Option<String>,
}

/// Exchange's limits per mailbox (`transport/smtp/exchange_online.md`).
#[derive(Debug, Clone, Copy)]
pub struct SandboxLimits {
    /// Messages per minute.
    pub per_minute: usize,
    /// Simultaneous sessions.
    pub sessions: usize,
    /// Recipients in 24 hours.
    pub per_day: usize,
    /// The number of refused senders within an hour at which the mailbox is blocked.
    pub errors: usize,
    /// Recipients per message.
    pub recipients: usize,
    /// Octets per message.
    pub size: usize,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            per_minute: 30,
            sessions: 3,
            per_day: 10_000,
            errors: 20,
            recipients: 500,
            size: 35 * 1024 * 1024,
        }
    }
}

impl SandboxLimits {
    /// Returns limits that are practically never reached, for measurements.
    pub fn none() -> Self {
        Self {
            per_minute: usize::MAX,
            sessions: usize::MAX,
            per_day: usize::MAX,
            errors: usize::MAX,
            recipients: 1_000,
            size: 150 * 1024 * 1024,
        }
    }
}

/// A message that Exchange accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delivered {
    /// The mailbox that sent the message.
    pub mailbox: String,
    /// The reverse-path.
    pub sender: String,
    /// The forward-paths.
    pub recipients: Vec<String>,
    /// The message as received, with dot-stuffing removed and bytes that are not UTF-8 replaced.
    pub text: String,
    /// The MAIL and RCPT commands with their parameters, as received.
    pub commands: Vec<String>,
    /// The reply to the message.
    pub reply: String,
}

/// Counters of requests, connections and messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Token requests, including refused ones.
    pub token_requests: u64,
    /// SMTP connections.
    pub connections: u64,
    /// Sessions signed in.
    pub signed_in: u64,
    /// Messages whose content arrived, including refused ones.
    pub contents: u64,
    /// Messages accepted.
    pub messages: u64,
}

/// The state that both stand-ins share.
#[derive(Debug)]
pub struct SandboxState {
    /// The apps, mailboxes and limits.
    pub settings: SandboxSettings,
    /// The faults to produce.
    pub script: Script,
    pub(super) base_url: OnceLock<String>,
    inner: Mutex<SandboxInner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct SandboxInner {
    access: HashMap<String, IssuedAccess>,
    /// The scopes that each user has consented to.
    consents: HashMap<String, HashSet<String>>,
    refresh: HashMap<String, String>,
    revoked: HashSet<String>,
    codes: HashMap<String, Code>,
    /// By device code: the code to type, the progress, the expiry time, and the requested scopes.
    devices: HashMap<String, (String, Device, Timestamp, String)>,
    /// The messages in each mailbox's INBOX.
    inboxes: HashMap<String, Inbox>,
    sessions: HashMap<String, usize>,
    recent: Recent,
    day: Recent,
    errors: Recent,
    delivered: VecDeque<Delivered>,
    stats: Stats,
}

/// An access token that was issued.
#[derive(Debug)]
struct IssuedAccess {
    user: Option<String>,
    expires: Timestamp,
    scopes: Vec<String>,
}

/// A scope that every user has consented to from the beginning.
const SEND: &str = "SMTP.Send";

/// The owner of an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// A user.
    User(String),
    /// An app, which may sign in to any mailbox.
    App,
}

impl SandboxState {
    pub(super) fn new(settings: SandboxSettings) -> Self {
        let mut inner = SandboxInner::default();
        for mailbox in &settings.mailboxes {
            let user = mailbox.address.to_string();
            inner
                .consents
                .insert(user, HashSet::from([SEND.to_owned()]));
            if let Some(token) = &mailbox.refresh_token {
                inner
                    .refresh
                    .insert(token.clone(), mailbox.address.to_string());
            }
        }
        Self {
            settings,
            script: Script::default(),
            base_url: OnceLock::new(),
            inner: Mutex::new(inner),
            changed: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, SandboxInner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns the counters so far.
    pub fn stats(&self) -> Stats {
        self.inner().stats
    }

    /// Returns the messages that are kept, oldest first.
    pub fn delivered(&self) -> Vec<Delivered> {
        self.inner().delivered.iter().cloned().collect()
    }

    /// Waits until this many messages have been accepted in total.
    pub async fn reached(&self, messages: u64) {
        loop {
            let changed = self.changed.notified();
            if self.stats().messages >= messages {
                return;
            }
            changed.await;
        }
    }

    /// Revokes every access token.
    pub fn revoke_access(&self) {
        self.inner().access.clear();
    }

    /// Revokes every refresh token of a user, as a password change does.
    pub fn revoke_grants(&self, user: &str) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let of_user = inner.refresh.iter().filter(|(_, of)| *of == user);
        inner
            .revoked
            .extend(of_user.map(|(token, _)| token.clone()));
    }

    /// Returns the time on Entra's clock.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(Timestamp::now().0 + self.settings.clock_skew)
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.inner().stats);
    }

    /// Returns Entra's base URL; empty until it is known.
    pub(super) fn base_url(&self) -> &str {
        self.base_url.get().map_or("", String::as_str)
    }

    pub(super) fn issue_code(&self, code: Code) -> String {
        let text = random("code", 200);
        self.inner().codes.insert(text.clone(), code);
        text
    }

    pub(super) fn take_code(&self, text: &str) -> Option<Code> {
        self.inner().codes.remove(text)
    }

    /// Issues a device code and the code that a person types for it.
    pub(super) fn issue_device(&self, until: Timestamp, scopes: &str) -> (String, String) {
        let device_code = random("device", 100);
        let user_code: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(9)
            .map(char::from)
            .collect();
        let user_code = user_code.to_uppercase();
        let device = (user_code.clone(), Device::Pending, until, scopes.to_owned());
        self.inner().devices.insert(device_code.clone(), device);
        (device_code, user_code)
    }

    /// Records that a person has typed the code and signed in as `user`, or, if `user` is `None`, has
    /// declined. Returns true if the code exists.
    pub(super) fn answer_device(&self, typed: &str, user: Option<String>) -> bool {
        let mut inner = self.inner();
        let found = inner
            .devices
            .values_mut()
            .find(|(code, ..)| code == typed.trim());
        let Some((_, device, _, scopes)) = found else {
            return false;
        };
        *device = user.clone().map_or(Device::Declined, Device::Answered);
        let scopes = scopes.clone();
        drop(inner);
        if let Some(user) = user {
            self.consent(&user, &scopes);
        }
        true
    }

    /// Returns the progress of a sign-in on another device. A final answer is returned only once.
    pub(super) fn take_device(&self, device_code: &str, now: Timestamp) -> Device {
        let mut inner = self.inner();
        match inner.devices.get(device_code) {
            Some((_, device, until, _)) if now < *until => {
                let device = device.clone();
                if !matches!(device, Device::Pending) {
                    inner.devices.remove(device_code);
                }
                device
            }
            _ => Device::Expired,
        }
    }

    /// Returns the user of a refresh token, if the token is known.
    pub(super) fn user_of_refresh(&self, token: &str) -> Option<String> {
        self.inner().refresh.get(token).cloned()
    }

    /// Returns all scopes that a user has consented to, with a resource.
    pub(super) fn consented(&self, user: &str) -> String {
        let inner = self.inner();
        let known = inner.consents.get(user).into_iter().flatten();
        let mut scopes: Vec<String> = known
            .map(|name| format!("https://outlook.office.com/{name}"))
            .collect();
        scopes.sort();
        scopes.join(" ")
    }

    /// Records that a user consents to scopes.
    pub fn consent(&self, user: &str, scopes: &str) {
        let mut inner = self.inner();
        let known = inner.consents.entry(user.to_owned()).or_default();
        known.extend(names(scopes));
    }

    /// True if the user has consented to these scopes.
    pub(super) fn has_consented(&self, user: &str, scopes: &str) -> bool {
        let inner = self.inner();
        let known = inner.consents.get(user);
        names(scopes).all(|name| known.is_some_and(|known| known.contains(&name)))
    }

    /// Issues a refresh token for a user, as a sign-in does.
    pub fn issue_refresh(&self, user: &str) -> String {
        let token = random("refresh", 400);
        self.inner().refresh.insert(token.clone(), user.to_owned());
        token
    }

    /// Issues a token that begins like a JWT and contains the same claims as a real token.
    pub(super) fn issue_access(
        &self,
        app: &str,
        user: Option<String>,
        scopes: &str,
        now: Timestamp,
    ) -> String {
        let mut scopes: Vec<String> = names(scopes).collect();
        if scopes.is_empty() {
            scopes.push(SEND.to_owned());
        }
        let expires = now.after(self.settings.token_life);
        let part = |value: Value| BASE64.encode(value.to_string());
        let mut claims = json!({
            "aud": "https://outlook.office365.com", "tid": self.settings.tenant, "exp": expires.0 / 1_000,
            "appid": app, "oid": format!("object-of-{app}"),
        });
        match &user {
            Some(user) => {
                claims["scp"] = scopes.join(" ").into();
                claims["upn"] = user.as_str().into();
                claims["oid"] = format!("object-of-{user}").into();
            }
            None => {
                claims["roles"] = json!(["SMTP.SendAsApp", "IMAP.AccessAsApp", "POP.AccessAsApp"])
            }
        }
        let header = part(json!({ "alg": "none", "typ": "JWT" }));
        let token = format!("{header}.{}.{}", part(claims), random("access", 1_200));
        let issued = IssuedAccess {
            user,
            expires,
            scopes,
        };
        self.inner().access.insert(token.clone(), issued);
        token
    }

    /// Returns the user of a refresh token, and the next refresh token. `None` if the token is unknown,
    /// `Some(None)` if it was revoked.
    pub(super) fn use_refresh(&self, token: &str) -> Option<Option<(String, String)>> {
        let mut inner = self.inner();
        let user = inner.refresh.get(token)?.clone();
        if inner.revoked.contains(token) {
            return Some(None);
        }
        let next = random("refresh", 400);
        inner.refresh.insert(next.clone(), user.clone());
        if self.settings.rotates {
            inner.refresh.remove(token);
        }
        Some(Some((user, next)))
    }

    /// Returns the owner of an access token, if the token exists and has not expired.
    pub fn bearer(&self, token: &str, now: Timestamp) -> Option<Bearer> {
        let inner = self.inner();
        let issued = inner.access.get(token)?;
        let user = issued.user.clone();
        (now < issued.expires).then(|| user.map_or(Bearer::App, Bearer::User))
    }

    /// Returns the scopes of an access token, without their resource.
    pub fn scopes(&self, token: &str) -> Vec<String> {
        let inner = self.inner();
        let issued = inner.access.get(token);
        issued
            .map(|issued| issued.scopes.clone())
            .unwrap_or_default()
    }

    /// Puts a message into a mailbox's INBOX. The oldest message leaves if there are more than `keep`.
    pub fn deposit(&self, mailbox: &str, text: Vec<u8>) {
        let keep = self.settings.keep;
        let mut inner = self.inner();
        let inbox = inner.inboxes.entry(mailbox.to_lowercase()).or_default();
        inbox.next += 1;
        inbox.messages.push_back(Stored {
            uid: inbox.next,
            flags: Vec::new(),
            text: text.into(),
        });
        if inbox.messages.len() > keep {
            inbox.messages.pop_front();
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Returns the messages of a mailbox's INBOX, oldest first.
    pub fn inbox(&self, mailbox: &str) -> Vec<Stored> {
        let inner = self.inner();
        let inbox = inner.inboxes.get(&mailbox.to_lowercase());
        inbox
            .map(|inbox| inbox.messages.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Returns the UID that the next message of a mailbox's INBOX gets.
    pub(super) fn next_uid(&self, mailbox: &str) -> u32 {
        let inner = self.inner();
        let inbox = inner.inboxes.get(&mailbox.to_lowercase());
        inbox.map_or(0, |inbox| inbox.next) + 1
    }

    /// Creates a folder of a mailbox. Returns false if it exists.
    pub(super) fn create_folder(&self, mailbox: &str, folder: &str) -> bool {
        let mut inner = self.inner();
        let key = folder_key(mailbox, folder);
        let is_new = !inner.inboxes.contains_key(&key);
        inner.inboxes.entry(key).or_default();
        is_new
    }

    /// Returns the folders of a mailbox besides INBOX, sorted.
    pub(super) fn folders(&self, mailbox: &str) -> Vec<String> {
        let start = folder_key(mailbox, "");
        let inner = self.inner();
        let folders = inner
            .inboxes
            .keys()
            .filter_map(|key| key.strip_prefix(&start));
        let mut folders: Vec<String> = folders.map(str::to_owned).collect();
        folders.sort();
        folders
    }

    /// Returns the name under which the messages of a folder are kept, if the folder exists.
    pub(super) fn folder_of(&self, mailbox: &str, folder: &str) -> Option<String> {
        if folder.eq_ignore_ascii_case("INBOX") {
            return Some(mailbox.to_owned());
        }
        let key = folder_key(mailbox, folder);
        self.inner().inboxes.contains_key(&key).then_some(key)
    }

    /// Puts a message into a folder. Returns false if the folder does not exist.
    pub(super) fn copy_to(&self, mailbox: &str, folder: &str, text: &[u8]) -> bool {
        let key = folder_key(mailbox, folder);
        let exists = self.inner().inboxes.contains_key(&key);
        if exists {
            self.deposit(&key, text.to_vec());
        }
        exists
    }

    /// Returns the messages of a mailbox's folder, oldest first.
    pub fn folder(&self, mailbox: &str, folder: &str) -> Vec<Stored> {
        self.inbox(&folder_key(mailbox, folder))
    }

    /// Changes the messages of a mailbox's INBOX.
    pub(super) fn change_inbox(&self, mailbox: &str, change: impl FnOnce(&mut VecDeque<Stored>)) {
        let mut inner = self.inner();
        change(
            &mut inner
                .inboxes
                .entry(mailbox.to_lowercase())
                .or_default()
                .messages,
        );
    }

    /// Returns a future that ends when a message arrives anywhere.
    pub(super) fn arrival(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// True if a mailbox is shared with this user.
    pub(super) fn has_shared(&self, user: &Address) -> bool {
        let mut mailboxes = self.settings.mailboxes.iter();
        mailboxes.any(|mailbox| mailbox.shared_with.contains(user))
    }

    pub(super) fn mailbox(&self, name: &str) -> Option<&SandboxMailbox> {
        let address = Address::parse(name).ok()?;
        self.settings
            .mailboxes
            .iter()
            .find(|mailbox| mailbox.address == address)
    }

    /// Opens a session of a mailbox. Returns true if the mailbox now has more sessions than allowed.
    pub(super) fn open_session(&self, mailbox: &str) -> bool {
        let mut inner = self.inner();
        inner.stats.signed_in += 1;
        let count = inner.sessions.entry(mailbox.to_owned()).or_default();
        *count += 1;
        *count > self.settings.limits.sessions
    }

    pub(super) fn close_session(&self, mailbox: &str) {
        if let Some(count) = self.inner().sessions.get_mut(mailbox) {
            *count = count.saturating_sub(1);
        }
    }

    /// True if the mailbox may send another message in this minute; the message is then counted.
    pub(super) fn may_send(&self, mailbox: &str, now: Timestamp) -> bool {
        let most = self.settings.limits.per_minute;
        count(&mut self.inner().recent, mailbox, 1, most, now, MINUTE)
    }

    /// True if the mailbox may send to this many more recipients in 24 hours; they are then counted.
    pub(super) fn may_send_to(&self, mailbox: &str, recipients: usize, now: Timestamp) -> bool {
        let most = self.settings.limits.per_day;
        let day = &mut self.inner().day;
        count(day, mailbox, recipients, most, now, 24 * HOUR)
    }

    /// Counts an error of the mailbox.
    pub(super) fn erred(&self, mailbox: &str, now: Timestamp) {
        let errors = &mut self.inner().errors;
        count(errors, mailbox, 1, usize::MAX - 1, now, HOUR);
    }

    /// True if the mailbox is blocked because of too many errors.
    pub(super) fn is_blocked(&self, mailbox: &str, now: Timestamp) -> bool {
        let mut inner = self.inner();
        let most = self.settings.limits.errors;
        most < usize::MAX && !count(&mut inner.errors, mailbox, 0, most - 1, now, HOUR)
    }

    pub(super) fn deliver(
        &self,
        content: &[u8],
        recipients: &[String],
        message: impl FnOnce() -> Delivered,
    ) {
        let message = message();
        for recipient in recipients {
            if let Some(status) = report::status(recipient) {
                let sender = self.mailbox(&message.sender);
                let to = sender.map_or(message.mailbox.clone(), |it| it.address.to_string());
                self.deposit(
                    &to,
                    report::report(&to, recipient, status, content, self.now()),
                );
            }
            if self.settings.keep > 0 && self.mailbox(recipient).is_some() {
                self.deposit(recipient, content.to_vec());
            }
        }
        let mut inner = self.inner();
        inner.stats.messages += 1;
        if self.settings.keep > 0 {
            if inner.delivered.len() >= self.settings.keep {
                inner.delivered.pop_front();
            }
            inner.delivered.push_back(message);
        }
        drop(inner);
        self.changed.notify_waiters();
    }
}

/// Returns the key of a folder other than INBOX.
fn folder_key(mailbox: &str, folder: &str) -> String {
    format!("{}/{}", mailbox.to_lowercase(), folder.to_lowercase())
}

/// The INBOX of a mailbox, or another folder.
#[derive(Debug, Default)]
struct Inbox {
    /// The last UID.
    next: u32,
    messages: VecDeque<Stored>,
}

/// A message in an INBOX.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The unique identifier (RFC 9051 §2.3.1.1).
    pub uid: u32,
    /// The flags and keywords.
    pub flags: Vec<String>,
    /// The message.
    pub text: bytes::Bytes,
}

/// Returns the names of the scopes for Exchange, without their resource: `https://HOST/SMTP.Send` is
/// `SMTP.Send`. Others, such as `offline_access`, need no consent here.
fn names(scopes: &str) -> impl Iterator<Item = String> {
    let scopes = scopes.split_ascii_whitespace();
    let names = scopes.filter_map(|scope| Some(scope.rsplit_once('/')?.1));
    names
        .filter(|name| name.contains('.') && *name != ".default")
        .map(str::to_owned)
}

/// The recent activity of each mailbox: times and counts.
type Recent = HashMap<String, VecDeque<(Timestamp, usize)>>;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Adds `more` to the mailbox's count within `window`. Returns false and adds nothing if the count would
/// exceed `most`.
fn count(
    recent: &mut Recent,
    mailbox: &str,
    more: usize,
    most: usize,
    now: Timestamp,
    window: Duration,
) -> bool {
    if most == usize::MAX {
        return true;
    }
    let recent = recent.entry(mailbox.to_owned()).or_default();
    while recent
        .front()
        .is_some_and(|(at, _)| now.since(*at) >= window)
    {
        recent.pop_front();
    }
    let done: usize = recent.iter().map(|(_, count)| count).sum();
    let may = done + more <= most;
    if may && more > 0 {
        recent.push_back((now, more));
    }
    may
}

/// Returns a random token, opaque like Microsoft's; `length` is the number of random characters.
fn random(kind: &str, length: usize) -> String {
    let tail: String = rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(char::from)
        .collect();
    format!("sandbox.{kind}.{tail}")
}
