//! The sign-in over IMAP.

use super::connection::{Connection, LINES, Sasl, UpstreamError};
use crate::transport::remote::{RemoteHost, Tls};
use crate::transport::smtp::sasl;

/// Signs in. Returns the capabilities after the sign-in.
pub(super) async fn sign_in(
    mut connection: Connection,
    host: &RemoteHost,
    sasl: &Sasl,
) -> Result<(Connection, Option<String>), UpstreamError> {
    let greeting = connection.line().await?;
    if !greeting.to_ascii_uppercase().starts_with("* OK") {
        return Err(
            connection.unexpected(format!("expected the greeting of IMAP, got {greeting:?}"))
        );
    }
    if host.tls == Tls::Starttls {
        connection.send("m1 STARTTLS").await?;
        let answer = Answer::read(&mut connection, "m1").await?;
        if !answer.is_ok {
            return Err(connection.unexpected(format!("STARTTLS: {}", answer.text)));
        }
        connection = connection.start_tls(host).await?;
    }
    connection
        .send(&format!("m2 AUTHENTICATE {}", sasl.mechanism))
        .await?;
    let answer = Answer::after_challenges(&mut connection, "m2", sasl).await?;
    if !answer.is_ok {
        return Err(connection.refused(answer.text, answer.detail));
    }
    if answer.capabilities.is_some() {
        return Ok((connection, answer.capabilities));
    }
    connection.send("m3 CAPABILITY").await?;
    let listed = Answer::read(&mut connection, "m3").await?;
    // Exchange answers a sign-in without permission with OK, and the next command with this BAD.
    match listed.is_ok {
        true => Ok((connection, listed.capabilities)),
        false => Err(connection.refused(listed.text, None)),
    }
}

/// Opens INBOX for reading only, and signs out. Returns the number of messages.
pub(super) async fn inbox(mut connection: Connection) -> Result<u64, UpstreamError> {
    connection.send("m4 EXAMINE INBOX").await?;
    let answer = Answer::read(&mut connection, "m4").await?;
    if !answer.is_ok {
        return Err(connection.refused(answer.text, None));
    }
    // The result is known already.
    let _ = connection.send("m5 LOGOUT").await;
    let missing = || connection.unexpected("it did not state the number of messages".into());
    answer.exists.ok_or_else(missing)
}

/// The tagged answer to a command, with what came before it.
struct Answer {
    is_ok: bool,
    /// The number of messages in the mailbox, if it was stated (RFC 9051 §7.4.1).
    exists: Option<u64>,
    /// The answer without its tag.
    text: String,
    capabilities: Option<String>,
    detail: Option<String>,
}

impl Answer {
    async fn read(connection: &mut Connection, tag: &str) -> Result<Self, UpstreamError> {
        Self::until(connection, tag, None).await
    }

    /// Answers challenges: the first one with the response, and further ones, which explain a failure, with an
    /// empty line.
    async fn after_challenges(
        connection: &mut Connection,
        tag: &str,
        sasl: &Sasl,
    ) -> Result<Self, UpstreamError> {
        Self::until(connection, tag, Some(sasl)).await
    }

    async fn until(
        connection: &mut Connection,
        tag: &str,
        sasl: Option<&Sasl>,
    ) -> Result<Self, UpstreamError> {
        let (mut capabilities, mut detail, mut response) = (None, None, sasl);
        let mut exists = None;
        for _ in 0..LINES {
            let line = connection.line().await?;
            if let (Some(challenge), Some(_)) = (line.strip_prefix('+'), sasl) {
                match response.take() {
                    Some(sasl) => connection.send(&sasl.response).await?,
                    None => {
                        detail = sasl::challenge_detail(challenge.trim());
                        connection.send("").await?;
                    }
                }
                continue;
            }
            capabilities = capabilities_of(&line).or(capabilities);
            exists = exists_of(&line).or(exists);
            let Some(text) = line
                .strip_prefix(tag)
                .and_then(|rest| rest.strip_prefix(' '))
            else {
                if line.to_ascii_uppercase().starts_with("* BYE") {
                    return Err(connection.refused(line, detail));
                }
                continue;
            };
            return Ok(Self {
                is_ok: text.to_ascii_uppercase().starts_with("OK"),
                text: text.to_owned(),
                capabilities,
                detail,
                exists,
            });
        }
        Err(connection.unexpected(format!("{LINES} lines came before the answer")))
    }
}

/// Returns the capabilities in a line: an untagged CAPABILITY, or the code of an OK (RFC 9051 §7.1, §7.2.2).
fn capabilities_of(line: &str) -> Option<String> {
    let upper = line.to_ascii_uppercase();
    let (start, end) = match upper.strip_prefix("* CAPABILITY ") {
        Some(_) => ("* CAPABILITY ".len(), line.len()),
        None => {
            let start = upper.find("[CAPABILITY ")? + "[CAPABILITY ".len();
            (start, start + line.get(start..)?.find(']')?)
        }
    };
    Some(line.get(start..end)?.trim().to_owned())
}

/// Returns the number in `* N EXISTS`.
fn exists_of(line: &str) -> Option<u64> {
    let (number, name) = line.strip_prefix("* ")?.split_once(' ')?;
    name.trim()
        .eq_ignore_ascii_case("EXISTS")
        .then_some(number.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_found_in_a_code_and_in_a_line() {
        for (line, expected) in [
            ("* CAPABILITY IMAP4rev1 IDLE", Some("IMAP4rev1 IDLE")),
            (
                "m2 OK [CAPABILITY IMAP4rev1 X=ä] Logged in",
                Some("IMAP4rev1 X=ä"),
            ),
            ("m2 OK [capability A] done", Some("A")),
            ("m2 OK AUTHENTICATE completed.", None),
            ("m2 OK [CAPABILITY A", None),
        ] {
            assert_eq!(capabilities_of(line).as_deref(), expected, "{line}");
        }
    }
}
