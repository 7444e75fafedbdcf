//! The stand-in for Exchange's IMAP.

use std::io;

use super::client::Client;
use crate::message::Headers;
use crate::sandbox::script::FaultStage;
use crate::sandbox::state::Stored;

/// The capabilities of Exchange Online.
const CAPABILITIES: &str = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+";

/// A session after the sign-in.
struct Session {
    client: Client,
    mailbox: String,
    /// The selected folder, as the state names it.
    folder: String,
    /// The messages of the selected folder, as the client knows them.
    known: Vec<Stored>,
    /// The UID of the last message that the client was told of.
    known_until: u32,
    is_selected: bool,
}

pub(super) async fn converse(mut client: Client) -> io::Result<()> {
    if let Some(greeting) = client.fault(FaultStage::ReadingConnect, "imap").await? {
        client.say(&greeting);
    } else {
        client.say("* OK The Microsoft Exchange IMAP4 service is ready.");
    }
    loop {
        let line = client.line().await?;
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let (name, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        match name.to_ascii_uppercase().as_str() {
            "CAPABILITY" => {
                client.say(&format!("* CAPABILITY {CAPABILITIES}"));
                client.say(&format!("{tag} OK CAPABILITY completed."));
            }
            "NOOP" => client.say(&format!("{tag} OK NOOP completed.")),
            "LOGOUT" => return goodbye(client, tag).await,
            "AUTHENTICATE" if argument.to_ascii_uppercase().starts_with("XOAUTH2") => {
                let mut response = argument.split_once(' ').map(|(_, it)| it.to_owned());
                if response.is_none() {
                    client.say("+ ");
                    response = Some(client.line().await?);
                }
                let response = response.unwrap_or_default();
                if let Some(answer) = client.fault(FaultStage::ReadingAuth, "imap").await? {
                    client.say(&format!("{tag} {answer}"));
                } else if let Some(mailbox) = client.signs_in(&response, "IMAP.AccessAsUser.All") {
                    client.say(&format!("{tag} OK AUTHENTICATE completed."));
                    let session = Session {
                        client,
                        folder: mailbox.clone(),
                        mailbox,
                        known: Vec::new(),
                        known_until: 0,
                        is_selected: false,
                    };
                    return session.converse().await;
                } else {
                    client.say(&format!("{tag} NO AUTHENTICATE failed."));
                }
            }
            _ => client.say(&format!("{tag} BAD Command received in Invalid state.")),
        }
    }
}

async fn goodbye(mut client: Client, tag: &str) -> io::Result<()> {
    client.say("* BYE Microsoft Exchange Server IMAP4 server signing off.");
    client.say(&format!("{tag} OK LOGOUT completed."));
    client.flush().await
}

impl Session {
    async fn converse(mut self) -> io::Result<()> {
        loop {
            let line = self.client.line().await?;
            let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let (name, argument) = rest.split_once(' ').unwrap_or((rest, ""));
            let mut name = name.to_ascii_uppercase();
            let mut argument = argument;
            let is_by_uid = name == "UID";
            if is_by_uid {
                let (command, rest) = argument.split_once(' ').unwrap_or((argument, ""));
                (name, argument) = (command.to_ascii_uppercase(), rest);
            }
            if let Some(answer) = self.client.fault(FaultStage::ReadingFirst, &name).await? {
                self.client.say(&format!("{tag} {answer}"));
                continue;
            }
            match name.as_str() {
                "LOGOUT" => return goodbye(self.client, tag).await,
                "CAPABILITY" => self.client.say(&format!("* CAPABILITY {CAPABILITIES}")),
                "ID" => self
                    .client
                    .say("* ID (\"name\" \"Microsoft.Exchange.Imap4.Imap4Server\")"),
                "LIST" | "LSUB" => {
                    let folders = self.client.state.folders(&self.mailbox);
                    for folder in ["INBOX".to_owned()].into_iter().chain(folders) {
                        self.client
                            .say(&format!("* {name} (\\HasNoChildren) \"/\" \"{folder}\""));
                    }
                }
                "NAMESPACE" => self.client.say("* NAMESPACE ((\"\" \"/\")) NIL NIL"),
                "SELECT" | "EXAMINE" => {
                    if !self.select(argument.trim_matches('"')) {
                        self.client.say(&format!(
                            "{tag} NO {name} failed. The folder does not exist."
                        ));
                        continue;
                    }
                }
                "STATUS" => self.status(),
                "CLOSE" | "UNSELECT" => self.is_selected = false,
                "NOOP" | "CHECK" => self.news(),
                "SEARCH" => self.search(argument, is_by_uid),
                "FETCH" => self.fetch(argument, is_by_uid),
                "STORE" => self.store(argument, is_by_uid),
                "EXPUNGE" => self.expunge(argument),
                "CREATE" => {
                    let folder = argument.trim_matches('"');
                    if !self.client.state.create_folder(&self.mailbox, folder) {
                        self.client
                            .say(&format!("{tag} NO [ALREADYEXISTS] CREATE failed."));
                        continue;
                    }
                }
                "COPY" | "MOVE" => {
                    if !self.copy(argument, is_by_uid, name == "MOVE") {
                        self.client.say(&format!(
                            "{tag} NO [TRYCREATE] {name} failed. The folder does not exist."
                        ));
                        continue;
                    }
                }
                "IDLE" => self.idle().await?,
                _ => {
                    self.client.say(&format!("{tag} BAD Command Error. 10"));
                    continue;
                }
            }
            // New messages may be announced in any answer (RFC 9051 §7).
            self.news();
            self.client.say(&format!("{tag} OK {name} completed."));
        }
    }

    /// Opens a folder. Returns false if it does not exist.
    fn select(&mut self, folder: &str) -> bool {
        let Some(folder) = self.client.state.folder_of(&self.mailbox, folder) else {
            return false;
        };
        self.folder = folder;
        self.known = self.client.state.inbox(&self.folder);
        self.known_until = self.known.last().map_or(0, |last| last.uid);
        self.is_selected = true;
        let (count, next) = (self.known.len(), self.client.state.next_uid(&self.folder));
        self.client.say(&format!("* {count} EXISTS"));
        self.client.say("* 0 RECENT");
        self.client
            .say("* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent)");
        self.client.say("* OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent)] Permanent flags");
        self.client.say("* OK [UIDVALIDITY 14] UIDVALIDITY value");
        self.client.say(&format!(
            "* OK [UIDNEXT {next}] The next unique identifier value"
        ));
        true
    }

    fn status(&mut self) {
        let found = self.client.state.inbox(&self.mailbox);
        let unseen = found
            .iter()
            .filter(|message| !has(message, "\\Seen"))
            .count();
        let next = self.client.state.next_uid(&self.mailbox);
        let count = found.len();
        self.client.say(&format!(
            "* STATUS INBOX (MESSAGES {count} RECENT 0 UIDNEXT {next} UIDVALIDITY 14 UNSEEN {unseen})"
        ));
    }

    /// Tells of messages that have arrived.
    fn news(&mut self) {
        if !self.is_selected {
            return;
        }
        let last = self.known_until;
        let found = self.client.state.inbox(&self.folder);
        let new: Vec<Stored> = found
            .into_iter()
            .filter(|message| message.uid > last)
            .collect();
        if let Some(last) = new.last() {
            self.known_until = last.uid;
            self.known.extend(new);
            let count = self.known.len();
            self.client.say(&format!("* {count} EXISTS"));
        }
    }

    async fn idle(&mut self) -> io::Result<()> {
        self.client.say("+ IDLE accepted, awaiting DONE command.");
        self.client.flush().await?;
        let state = self.client.state.clone();
        loop {
            let arrival = state.arrival();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            self.news();
            self.client.flush().await?;
            tokio::select! {
                line = self.client.line() => {
                    line?;
                    return Ok(());
                }
                () = arrival => {}
            }
        }
    }

    /// Returns the positions of the messages in a sequence set (RFC 9051 §9).
    fn positions(&self, set: &str, is_by_uid: bool) -> Vec<usize> {
        let number = |at: usize| {
            if is_by_uid {
                self.known[at].uid as usize
            } else {
                at + 1
            }
        };
        let last = self.known.len().checked_sub(1).map_or(0, number);
        let parse = |text: &str| {
            if text == "*" {
                Some(last)
            } else {
                text.parse().ok()
            }
        };
        let range = |part: &str| {
            let (from, to) = part.split_once(':').unwrap_or((part, part));
            let (from, to) = (parse(from)?, parse(to)?);
            Some((from.min(to), from.max(to)))
        };
        let ranges: Vec<(usize, usize)> = set.split(',').filter_map(range).collect();
        let is_in = |at: &usize| {
            ranges
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&number(*at)))
        };
        (0..self.known.len()).filter(is_in).collect()
    }

    /// Finds all messages, or those without \Seen, and with or without a keyword.
    fn search(&mut self, argument: &str, is_by_uid: bool) {
        self.news();
        let mut words = argument.split_ascii_whitespace();
        let (mut with, mut without, mut set) = (Vec::new(), Vec::new(), None);
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_str() {
                "UNSEEN" => without.push("\\Seen".to_owned()),
                "UNKEYWORD" => without.extend(words.next().map(str::to_owned)),
                "KEYWORD" => with.extend(words.next().map(str::to_owned)),
                "UID" => set = words.next(),
                _ => {}
            }
        }
        let positions = match set {
            Some(set) => self.positions(set, true),
            None => (0..self.known.len()).collect(),
        };
        let found = positions
            .into_iter()
            .filter(|at| !without.iter().any(|flag| has(&self.known[*at], flag)))
            .filter(|at| with.iter().all(|flag| has(&self.known[*at], flag)));
        let numbers = found.map(|at| match is_by_uid {
            true => self.known[at].uid.to_string(),
            false => (at + 1).to_string(),
        });
        let list: Vec<String> = numbers.collect();
        self.client
            .say(format!("* SEARCH {}", list.join(" ")).trim_end());
    }

    fn fetch(&mut self, argument: &str, is_by_uid: bool) {
        let (set, items) = argument.split_once(' ').unwrap_or((argument, ""));
        let items = items.to_ascii_uppercase();
        for at in self.positions(set, is_by_uid) {
            let message = self.known[at].clone();
            let mut parts = Vec::new();
            if is_by_uid || items.contains("UID") {
                parts.push(format!("UID {}", message.uid).into_bytes());
            }
            if items.contains("FLAGS") {
                parts.push(format!("FLAGS ({})", message.flags.join(" ")).into_bytes());
            }
            if items.contains("RFC822.SIZE") {
                parts.push(format!("RFC822.SIZE {}", message.text.len()).into_bytes());
            }
            if items.contains("INTERNALDATE") {
                parts.push(b"INTERNALDATE \"26-Nov-2026 12:00:00 +0000\"".to_vec());
            }
            let header = memchr::memmem::find(&message.text, b"\r\n\r\n")
                .map_or(message.text.len(), |end| end + 4);
            if let Some(section) = section(&items, "HEADER") {
                let head = fields(&message.text[..header], &section);
                parts.push(literal(&format!("BODY[{section}]"), &head));
            } else if items.contains("RFC822.HEADER") {
                parts.push(literal("RFC822.HEADER", &message.text[..header]));
            }
            if items.contains("[]") || items.split([' ', '(', ')']).any(|item| item == "RFC822") {
                let name = if items.contains("[]") {
                    "BODY[]"
                } else {
                    "RFC822"
                };
                match partial(&items) {
                    Some(most) => {
                        let text = &message.text[..most.min(message.text.len())];
                        parts.push(literal("BODY[]<0>", text));
                    }
                    None => parts.push(literal(name, &message.text)),
                }
            }
            let out = &mut self.client.output;
            out.extend_from_slice(format!("* {} FETCH (", at + 1).as_bytes());
            out.extend_from_slice(&parts.join(&b' '));
            out.extend_from_slice(b")\r\n");
        }
    }

    fn store(&mut self, argument: &str, is_by_uid: bool) {
        let mut words = argument.splitn(3, ' ');
        let (set, action) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let flags = words.next().unwrap_or_default().trim_matches(['(', ')']);
        let flags: Vec<String> = flags.split_ascii_whitespace().map(str::to_owned).collect();
        for at in self.positions(set, is_by_uid) {
            let message = &mut self.known[at];
            match action.as_bytes().first() {
                Some(b'+') => message.flags.extend(
                    flags
                        .iter()
                        .filter(|it| !has_in(&message.flags, it))
                        .cloned()
                        .collect::<Vec<_>>(),
                ),
                Some(b'-') => message.flags.retain(|it| !has_in(&flags, it)),
                _ => message.flags = flags.clone(),
            }
            let (uid, flags) = (message.uid, message.flags.clone());
            self.client.state.change_inbox(&self.folder, |inbox| {
                if let Some(kept) = inbox.iter_mut().find(|it| it.uid == uid) {
                    kept.flags = flags.clone();
                }
            });
            if !action.to_ascii_uppercase().contains("SILENT") {
                self.client
                    .say(&format!("* {} FETCH (FLAGS ({}))", at + 1, flags.join(" ")));
            }
        }
    }

    /// Removes messages that are flagged as deleted; with a set of UIDs, only those (RFC 4315).
    fn expunge(&mut self, uids: &str) {
        let candidates = match uids {
            "" => (0..self.known.len()).collect(),
            uids => self.positions(uids, true),
        };
        let deleted = candidates.into_iter().rev();
        let deleted = deleted.filter(|at| has(&self.known[*at], "\\Deleted"));
        for at in deleted.collect::<Vec<_>>() {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        let gone = self.known.remove(at);
        self.client
            .state
            .change_inbox(&self.folder, |inbox| inbox.retain(|it| it.uid != gone.uid));
        self.client.say(&format!("* {} EXPUNGE", at + 1));
    }

    /// Copies or moves messages to a folder. Returns false if the folder does not exist.
    fn copy(&mut self, argument: &str, is_by_uid: bool, removes: bool) -> bool {
        let (set, folder) = argument.split_once(' ').unwrap_or((argument, ""));
        for at in self.positions(set, is_by_uid).into_iter().rev() {
            let text = self.known[at].text.clone();
            let folder = folder.trim_matches('"');
            if !self.client.state.copy_to(&self.mailbox, folder, &text) {
                return false;
            }
            if removes {
                self.remove(at);
            }
        }
        true
    }
}

/// Returns a section that begins with `name`, as in `BODY.PEEK[HEADER.FIELDS (FROM)]`.
fn section(items: &str, name: &str) -> Option<String> {
    let start = items.find(&format!("[{name}"))? + 1;
    let length = items.get(start..)?.find(']')?;
    Some(items[start..start + length].to_owned())
}

/// Returns the number of octets in `[]<0.N>` (RFC 9051 §6.4.5).
fn partial(items: &str) -> Option<usize> {
    let (_, after) = items.split_once("[]<0.")?;
    after.split_once('>')?.0.parse().ok()
}

/// Returns the header section, or the fields that a section such as `HEADER.FIELDS (FROM)` names.
fn fields(head: &[u8], section: &str) -> Vec<u8> {
    let Some((_, names)) = section.split_once('(') else {
        return head.to_vec();
    };
    let names: Vec<&str> = names
        .trim_end_matches(')')
        .split_ascii_whitespace()
        .collect();
    let headers = Headers::parse(head);
    let fields = headers.fields.iter();
    let named = fields.filter(|field| names.iter().any(|name| headers.is(field, name)));
    let named = named.map(|field| headers.slice(&field.whole));
    [named.collect::<Vec<_>>().concat(), b"\r\n".to_vec()].concat()
}

fn literal(name: &str, octets: &[u8]) -> Vec<u8> {
    let mut part = format!("{name} {{{}}}\r\n", octets.len()).into_bytes();
    part.extend_from_slice(octets);
    part
}

fn has(message: &Stored, flag: &str) -> bool {
    has_in(&message.flags, flag)
}

fn has_in(flags: &[String], flag: &str) -> bool {
    flags.iter().any(|it| it.eq_ignore_ascii_case(flag))
}
