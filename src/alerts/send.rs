//! Sends an alert by one channel.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::channel::{AlertChannel, Way, WebhookForm};
use super::message::AlertMessage;
use crate::base::Secret;
use crate::base::http::{CLIENT, reasons};
use crate::base::secret::ExposeSecret;
use crate::delivery::Delivery;
use crate::message::Address;

/// The longest time for a webhook's response, and for a command to end.
const LONGEST: Duration = Duration::from_secs(30);

/// Sends an alert. The error says why it was not sent.
pub(super) async fn send(
    channel: &AlertChannel,
    message: &AlertMessage,
    delivery: &Arc<Delivery>,
) -> Result<(), String> {
    match &channel.way {
        Way::Webhook { url, form } => post(url, *form, message).await,
        Way::Command(command) => run(command, message).await,
        Way::Mail { to, servers } => mail(delivery, to, servers, message).await,
    }
}

/// The maximum number of characters of a command's error that are logged.
const SAID: usize = 500;

async fn post(url: &Secret, form: WebhookForm, message: &AlertMessage) -> Result<(), String> {
    let request = CLIENT.post(url.expose_secret()).timeout(LONGEST);
    let request = match message.body(form) {
        Some(body) => request.json(&body),
        None => {
            let priority = if message.is_raised { "high" } else { "default" };
            let request = request.header("Title", &message.title);
            request
                .header("Priority", priority)
                .body(message.text.clone())
        }
    };
    // The URL is a secret.
    let response = request.send().await.map_err(|error| error.without_url());
    let response = response.map_err(|error| reasons(&error))?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("the webhook answered {}", response.status()))
    }
}

/// Runs a command. It gets the text in environment variables, and all fields as JSON on standard input.
async fn run(command: &[String], message: &AlertMessage) -> Result<(), String> {
    let [program, arguments @ ..] = command else {
        return Err("the command is empty".to_owned());
    };
    let status = message.fields["status"].as_str().unwrap_or_default();
    let child = Command::new(program)
        .args(arguments)
        .env("MAILFERRY_ALERT_TITLE", &message.title)
        .env("MAILFERRY_ALERT_TEXT", &message.text)
        .env("MAILFERRY_ALERT_STATUS", status)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| format!("cannot run {program}: {error}"))?;
    let input = child.stdin.take();
    let ended = timeout(LONGEST, async {
        if let Some(mut input) = input {
            // A command that does not read its input is fine.
            let _ = input.write_all(message.fields.to_string().as_bytes()).await;
        }
        child.wait_with_output().await
    });
    let ended = ended.await;
    let ended = ended.map_err(|_| format!("{program} did not end in {} s", LONGEST.as_secs()))?;
    let output = ended.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID).collect();
    Err(format!("{program} failed ({}): {said}", output.status))
}

/// Sends a message by the first server that accepts it. The server that the alert is about comes last.
async fn mail(
    delivery: &Arc<Delivery>,
    to: &Address,
    servers: &[String],
    message: &AlertMessage,
) -> Result<(), String> {
    let mut failures = Vec::new();
    let (own, others): (Vec<_>, Vec<_>) = servers.iter().partition(|name| **name == message.server);
    for server in others.into_iter().chain(own) {
        match delivery
            .send_notice(server, to, &message.title, &message.text)
            .await
        {
            Ok(()) => return Ok(()),
            Err(reason) => failures.push(format!("{server}: {reason}")),
        }
    }
    Err(failures.join("; "))
}
