//! The IMAP commands that find and handle reports (RFC 9051, RFC 3501). The crate imap-proto reads
//! the responses.

use std::time::Duration;

use imap_proto::types::{AttributeValue, MailboxDatum, Response, ResponseCode, Status};

use super::handled::{Folder, KEYWORD};
use crate::incoming::upstream::{Connection, UpstreamError};

/// The maximum number of octets of a report that are read. A report may return the whole message, but its own
/// words and the message's header come first.
const REPORT: usize = 1024 * 1024;

/// The maximum number of octets of a response.
const RESPONSE: usize = 2 * REPORT;

/// The time that the mail server may take for a response to a command.
const ANSWER: Duration = Duration::from_secs(60);

/// The time after which IDLE is repeated. RFC 2177 says before 29 minutes, but firewalls forget silent
/// connections sooner.
const IDLE: Duration = Duration::from_secs(9 * 60);

/// The time from one look to the next if the mail server does not offer IDLE.
const POLL: Duration = Duration::from_secs(5 * 60);

/// The header fields that show whether a message may be a report.
const FIELDS: &str =
    "Auto-Submitted Content-Type From X-Failed-Recipients X-MS-Exchange-Message-Is-Ndr";

/// A session that is signed in.
pub(super) struct Client {
    connection: Connection,
    /// The mail server's capabilities, in upper case.
    capabilities: Vec<String>,
    tag: u32,
    /// True if messages have arrived since the last search. The mail server may announce them in the response to
    /// any command, and does so once.
    has_news: bool,
}

/// The state of the opened folder, as the mail server reported it.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub(super) validity: u32,
    /// The UID of the next message, if it was stated.
    pub(super) next: Option<u32>,
    /// True if keywords can be stored.
    pub(super) stores_keywords: bool,
}

impl Client {
    pub(super) fn new(connection: Connection, capabilities: Option<&str>) -> Self {
        let words = capabilities.unwrap_or_default().split_ascii_whitespace();
        Self {
            connection,
            capabilities: words.map(str::to_ascii_uppercase).collect(),
            tag: 0,
            has_news: false,
        }
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|it| it == capability)
    }

    /// Opens INBOX.
    pub(super) async fn select(&mut self) -> Result<Selected, UpstreamError> {
        let mut selected = Selected::default();
        let read = |response: &Response<'_>| {
            let Response::Data {
                code: Some(code), ..
            } = response
            else {
                return;
            };
            match code {
                ResponseCode::UidValidity(validity) => selected.validity = *validity,
                ResponseCode::UidNext(next) => selected.next = Some(*next),
                ResponseCode::PermanentFlags(flags) => {
                    let mut flags = flags.iter();
                    selected.stores_keywords =
                        flags.any(|it| it == "\\*" || it.eq_ignore_ascii_case(KEYWORD));
                }
                _ => {}
            }
        };
        self.command("SELECT INBOX", read).await?;
        Ok(selected)
    }

    /// Returns the UIDs of the messages that match, in order.
    pub(super) async fn search(&mut self, criteria: &str) -> Result<Vec<u32>, UpstreamError> {
        let mut found = Vec::new();
        let read = |response: &Response<'_>| {
            if let Response::MailboxData(MailboxDatum::Search(uids)) = response {
                found.extend(uids);
            }
        };
        self.has_news = false;
        self.command(&format!("UID SEARCH {criteria}"), read)
            .await?;
        found.sort_unstable();
        Ok(found)
    }

    /// Returns the header fields of these messages that show whether they may be reports.
    pub(super) async fn heads(
        &mut self,
        uids: &[u32],
    ) -> Result<Vec<(u32, Vec<u8>)>, UpstreamError> {
        let items = format!("(UID BODY.PEEK[HEADER.FIELDS ({FIELDS})])");
        self.fetch(uids, &items).await
    }

    /// Returns at most [`REPORT`] octets of a message. `None` if the message is gone.
    pub(super) async fn message(&mut self, uid: u32) -> Result<Option<Vec<u8>>, UpstreamError> {
        let items = format!("(UID BODY.PEEK[]<0.{REPORT}>)");
        let found = self.fetch(&[uid], &items).await?;
        Ok(found
            .into_iter()
            .find(|(its, _)| *its == uid)
            .map(|(_, text)| text))
    }

    async fn fetch(
        &mut self,
        uids: &[u32],
        items: &str,
    ) -> Result<Vec<(u32, Vec<u8>)>, UpstreamError> {
        let mut found = Vec::new();
        let read = |response: &Response<'_>| {
            let Response::Fetch(_, values) = response else {
                return;
            };
            let uid = values.iter().find_map(|value| match value {
                AttributeValue::Uid(uid) => Some(*uid),
                _ => None,
            });
            let text = values.iter().find_map(|value| match value {
                AttributeValue::BodySection {
                    data: Some(data), ..
                } => Some(data.to_vec()),
                _ => None,
            });
            found.extend(uid.zip(text));
        };
        let list: Vec<String> = uids.iter().map(u32::to_string).collect();
        let command = format!("UID FETCH {} {items}", list.join(","));
        self.command(&command, read).await?;
        Ok(found)
    }

    /// Marks a message with the keyword.
    pub(super) async fn mark(&mut self, uid: u32) -> Result<(), UpstreamError> {
        let command = format!("UID STORE {uid} +FLAGS.SILENT ({KEYWORD})");
        self.command(&command, |_| {}).await
    }

    /// Moves a message to a folder, which is created if it does not exist.
    pub(super) async fn move_to(&mut self, uid: u32, folder: &Folder) -> Result<(), UpstreamError> {
        let (folder, has_move) = (folder.quoted(), self.has("MOVE"));
        let verb = if has_move { "MOVE" } else { "COPY" };
        let moving = format!("UID {verb} {uid} {folder}");
        if is_refusal(self.command(&moving, |_| {}).await)? {
            // If the folder exists, the second attempt shows the reason.
            is_refusal(self.command(&format!("CREATE {folder}"), |_| {}).await)?;
            self.command(&moving, |_| {}).await?;
        }
        if has_move {
            return Ok(());
        }
        self.delete(uid).await
    }

    /// Deletes a message. Without UIDPLUS (RFC 4315) it is only flagged as deleted, because EXPUNGE would also
    /// remove messages that other clients have flagged as deleted.
    pub(super) async fn delete(&mut self, uid: u32) -> Result<(), UpstreamError> {
        let command = format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)");
        self.command(&command, |_| {}).await?;
        if !self.has("UIDPLUS") {
            return Ok(());
        }
        self.command(&format!("UID EXPUNGE {uid}"), |_| {}).await
    }

    /// Waits until messages may have arrived, for at most this long.
    pub(super) async fn wait(&mut self, at_most: Option<Duration>) -> Result<(), UpstreamError> {
        if self.has_news {
            return Ok(());
        }
        if !self.has("IDLE") {
            tokio::time::sleep(at_most.map_or(POLL, |most| most.min(POLL))).await;
            return self.command("NOOP", |_| {}).await;
        }
        let tag = self.send("IDLE").await?;
        let until = at_most.map_or(IDLE, |most| most.min(IDLE));
        if let Ok(error) = tokio::time::timeout(until, self.news()).await {
            error?;
        }
        self.connection.send("DONE").await?;
        self.answer("IDLE", &tag, |_| {}).await
    }

    /// Reads until a message has arrived.
    async fn news(&mut self) -> Result<(), UpstreamError> {
        while !self.has_news {
            let ended = |response: &Response<'_>| match response {
                Response::Done { information, .. } => {
                    Some(information.as_deref().unwrap_or_default().to_owned())
                }
                _ => None,
            };
            if let Some(text) = self.response(2 * IDLE, ended).await? {
                return Err(self.connection.command_refused("IDLE", text));
            }
        }
        Ok(())
    }

    async fn send(&mut self, command: &str) -> Result<String, UpstreamError> {
        self.tag += 1;
        let tag = format!("b{}", self.tag);
        self.connection.send(&format!("{tag} {command}")).await?;
        Ok(tag)
    }

    /// Performs a command; `read` gets the responses before the answer.
    async fn command(
        &mut self,
        command: &str,
        read: impl FnMut(&Response<'_>),
    ) -> Result<(), UpstreamError> {
        let tag = self.send(command).await?;
        let name = command.strip_prefix("UID ").unwrap_or(command);
        let name = name.split(' ').next().unwrap_or_default();
        self.answer(name, &tag, read).await
    }

    async fn answer(
        &mut self,
        command: &str,
        expected: &str,
        mut read: impl FnMut(&Response<'_>),
    ) -> Result<(), UpstreamError> {
        loop {
            let answered = |response: &Response<'_>| match response {
                Response::Done {
                    tag,
                    status,
                    information,
                    ..
                } if tag.0 == expected => {
                    let text = information.as_deref().unwrap_or_default();
                    Some(match status {
                        Status::Ok => Ok(()),
                        Status::No => Err(format!("NO {text}")),
                        _ => Err(format!("BAD {text}")),
                    })
                }
                other => {
                    read(other);
                    None
                }
            };
            match self.response(ANSWER, answered).await? {
                None => {}
                Some(Ok(())) => return Ok(()),
                Some(Err(text)) => return Err(self.connection.command_refused(command, text)),
            }
        }
    }

    /// Reads one response and passes it to `read`. Returns an error if the mail server sends BYE.
    async fn response<T>(
        &mut self,
        within: Duration,
        mut read: impl FnMut(&Response<'_>) -> T,
    ) -> Result<T, UpstreamError> {
        loop {
            let input = &self.connection.input;
            let mut seen = Seen::default();
            let mut parse = |octets: &[u8]| match Response::from_bytes(octets) {
                Ok((rest, response)) => {
                    seen = Seen::of(&response);
                    Ok((octets.len() - rest.len(), read(&response)))
                }
                Err(error) => Err(error.is_incomplete()),
            };
            let parsed = match (parse(input), memchr::memchr(b'\n', input)) {
                (Ok((length, value)), _) => Some((length, Some(value))),
                (Err(false), Some(end)) => {
                    let line = in_ascii(&input[..=end]);
                    if line.ends_with(b"}\r\n") {
                        let reason = "a response with a literal cannot be parsed".to_owned();
                        return Err(self.connection.unexpected(reason));
                    }
                    Some((end + 1, parse(&line).ok().map(|(_, value)| value)))
                }
                (Err(_), _) => None,
            };
            self.has_news |= seen.has_news;
            if let Some(goodbye) = seen.goodbye {
                return Err(self.connection.lost(goodbye));
            }
            match parsed {
                Some((length, value)) => {
                    bytes::Buf::advance(&mut self.connection.input, length);
                    if let Some(value) = value {
                        return Ok(value);
                    }
                }
                None if self.connection.input.len() > RESPONSE => {
                    let reason = format!("a response is longer than {RESPONSE} octets");
                    return Err(self.connection.unexpected(reason));
                }
                None => self.connection.fill(within).await?,
            }
        }
    }
}

/// Unsolicited information that any response may contain.
#[derive(Default)]
struct Seen {
    has_news: bool,
    /// The words of BYE.
    goodbye: Option<String>,
}

impl Seen {
    fn of(response: &Response<'_>) -> Self {
        let goodbye = match response {
            Response::Data {
                status: Status::Bye,
                information,
                ..
            } => Some(format!(
                "BYE {}",
                information.as_deref().unwrap_or_default()
            )),
            _ => None,
        };
        Self {
            has_news: matches!(response, Response::MailboxData(MailboxDatum::Exists(_))),
            goodbye,
        }
    }
}

/// True if the mail server refused a command. Other errors are returned.
fn is_refusal(done: Result<(), UpstreamError>) -> Result<bool, UpstreamError> {
    match done {
        Ok(()) => Ok(false),
        Err(UpstreamError::Command { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Replaces non-ASCII octets, which imap-proto rejects outside literals. Lines that still cannot be parsed are
/// skipped.
fn in_ascii(line: &[u8]) -> Vec<u8> {
    let octets = line.iter();
    let octets = octets.map(|octet| if octet.is_ascii() { *octet } else { b'?' });
    octets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::remote::RemoteStream;
    use bytes::BytesMut;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    /// A mail server that expects these commands and answers each of them; `TAG` is the command's tag.
    async fn played(
        capabilities: &str,
        script: &'static [(&'static str, &'static str)],
    ) -> (Client, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let connection = Connection {
            stream: RemoteStream::Plain(stream.unwrap()),
            input: BytesMut::new(),
            host: "mail.example.com".into(),
        };
        let server = tokio::spawn(async move {
            let mut server = BufReader::new(listener.accept().await.unwrap().0);
            for (expected, answer) in script {
                let mut line = String::new();
                server.read_line(&mut line).await.unwrap();
                let (tag, command) = line
                    .trim_end()
                    .split_once(' ')
                    .unwrap_or(("", line.trim_end()));
                assert_eq!(command, *expected);
                let answer = answer.replace("TAG", tag);
                server.get_mut().write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Client::new(connection, Some(capabilities)), server)
    }

    #[tokio::test]
    async fn without_move_a_message_is_copied_and_only_flagged() {
        let script = &[
            (
                "UID COPY 7 \"Bounces\"",
                "TAG NO [TRYCREATE] no such folder\r\n",
            ),
            ("CREATE \"Bounces\"", "TAG OK\r\n"),
            ("UID COPY 7 \"Bounces\"", "TAG OK [COPYUID 1 7 1] done\r\n"),
            ("UID STORE 7 +FLAGS.SILENT (\\Deleted)", "TAG OK done\r\n"),
        ];
        let (mut client, server) = played("IMAP4rev1", script).await;
        let folder = Folder::parse("Bounces").unwrap();
        client.move_to(7, &folder).await.unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_folder_is_an_error_and_nothing_is_deleted() {
        let script = &[
            ("UID MOVE 7 \"Bounces\"", "TAG NO over quota\r\n"),
            ("CREATE \"Bounces\"", "TAG NO exists\r\n"),
            ("UID MOVE 7 \"Bounces\"", "TAG NO over quota\r\n"),
        ];
        let (mut client, server) = played("MOVE UIDPLUS", script).await;
        let folder = Folder::parse("Bounces").unwrap();
        let error = client.move_to(7, &folder).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "mail.example.com refused MOVE: NO over quota"
        );
        server.await.unwrap();
    }

    #[tokio::test]
    async fn messages_announced_in_any_response_are_examined_before_the_next_idle() {
        let script = &[
            ("UID SEARCH UID 5:*", "* SEARCH 5 6\r\nTAG OK done\r\n"),
            (
                "UID STORE 5 +FLAGS.SILENT (MailferryBounce)",
                "* 7 EXISTS\r\nTAG OK done\r\n",
            ),
            ("UID SEARCH UID 6:*", "* SEARCH 7\r\nTAG OK done\r\n"),
            ("IDLE", "+ idling\r\n* 8 EXISTS\r\n"),
            ("DONE", "b4 OK done\r\n"),
        ];
        let (mut client, server) = played("idle", script).await;
        assert_eq!(client.search("UID 5:*").await.unwrap(), [5, 6]);
        client.mark(5).await.unwrap();
        // There is no IDLE yet.
        client.wait(None).await.unwrap();
        assert_eq!(client.search("UID 6:*").await.unwrap(), [7]);
        client.wait(None).await.unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn bye_and_an_unparsable_literal_are_errors() {
        let script = &[("SELECT INBOX", "* BYE over\r\n")];
        let (mut client, _server) = played("", script).await;
        let error = client.select().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "connection to mail.example.com lost: BYE over"
        );
        let script = &[(
            "UID FETCH 1 (UID BODY.PEEK[]<0.1048576>)",
            "* 1 FETCH (\u{fc} {6}\r\nb1 OK\r\n",
        )];
        let (mut client, _server) = played("", script).await;
        let error = client.message(1).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a response with a literal cannot be parsed")
        );
    }

    #[tokio::test]
    async fn without_idle_the_mailbox_is_polled() {
        let script = &[("NOOP", "TAG OK done\r\n")];
        let (mut client, server) = played("IMAP4rev1", script).await;
        tokio::time::pause();
        client.wait(None).await.unwrap();
        server.await.unwrap();
    }
}
