//! The sign-in over POP3.

use super::connection::{Connection, LINES, Sasl, UpstreamError};
use crate::transport::remote::{RemoteHost, Tls};
use crate::transport::smtp::sasl;

/// Signs in. Returns the text of the answer.
pub(super) async fn sign_in(
    mut connection: Connection,
    host: &RemoteHost,
    sasl: &Sasl,
) -> Result<(Connection, Option<String>), UpstreamError> {
    let greeting = connection.line().await?;
    if !greeting.starts_with("+OK") {
        return Err(
            connection.unexpected(format!("expected the greeting of POP3, got {greeting:?}"))
        );
    }
    if host.tls == Tls::Starttls {
        connection.send("STLS").await?;
        let answer = connection.line().await?;
        if !answer.starts_with("+OK") {
            return Err(connection.unexpected(format!("STLS: {answer}")));
        }
        connection = connection.start_tls(host).await?;
    }
    connection.send(&format!("AUTH {}", sasl.mechanism)).await?;
    let (mut detail, mut response) = (None, Some(&sasl.response));
    for _ in 0..LINES {
        let answer = connection.line().await?;
        if let Some(text) = answer.strip_prefix("+OK") {
            let text = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
            return Ok((connection, text));
        }
        let Some(challenge) = answer.strip_prefix('+') else {
            return Err(connection.refused(answer, detail));
        };
        match response.take() {
            Some(response) => connection.send(response).await?,
            None => {
                detail = sasl::challenge_detail(challenge.trim());
                connection.send("").await?;
            }
        }
    }
    Err(connection.unexpected(format!("{LINES} challenges came before the answer")))
}

/// Asks for the number of messages, and signs out. POP3 has one mailbox, and changes nothing before QUIT.
pub(super) async fn inbox(mut connection: Connection) -> Result<u64, UpstreamError> {
    connection.send("STAT").await?;
    let answer = connection.line().await?;
    let Some(text) = answer.strip_prefix("+OK ") else {
        return Err(connection.refused(answer, None));
    };
    let number = text
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    // The result is known already.
    let _ = connection.send("QUIT").await;
    number.ok_or_else(|| {
        connection.unexpected(format!("expected the number of messages, got {answer:?}"))
    })
}
