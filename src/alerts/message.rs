//! The words of an alert, and the forms that channels take. Pure.

use serde_json::{Value, json};

use super::active::Notice;
use super::channel::WebhookForm;
use crate::operator::status::AlertRow;

/// An alert in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AlertMessage {
    /// One line.
    pub(super) title: String,
    /// Some lines.
    pub(super) text: String,
    /// All fields, for programs.
    pub(super) fields: Value,
    /// True if something is wrong, false for an all-clear.
    pub(super) is_raised: bool,
    /// The server that the alert is about; empty if it is about none.
    pub(super) server: String,
}

/// Words a notice from the program on `host`.
pub(super) fn message(notice: &Notice, host: &str) -> AlertMessage {
    let (alert, is_raised) = match notice {
        Notice::Raised(alert) => (alert, true),
        Notice::Cleared { alert, .. } => (alert, false),
    };
    let AlertRow {
        kind,
        subject,
        since,
        what,
        remedy,
    } = alert;
    let about = if subject.is_empty() {
        kind.clone()
    } else {
        format!("{kind} {subject}")
    };
    let mut fields = json!({
        "host": host,
        "status": if is_raised { "raised" } else { "cleared" },
        "kind": kind,
        "subject": subject,
        "since": since.to_string(),
        "what": what,
        "remedy": remedy,
    });
    let (title, text) = match notice {
        Notice::Raised(_) => (
            format!("mailferry on {host}: {about}"),
            format!("{what}\nSince: {since}\nWhat to do: {remedy}"),
        ),
        Notice::Cleared {
            delivered, waiting, ..
        } => {
            fields["delivered"] = json!(delivered);
            fields["waiting"] = json!(waiting);
            (
                format!("mailferry on {host}: {about} is over"),
                format!(
                    "This problem has ended: {what}\nIt began: {since}\nMessages delivered since the alert: {delivered}. Still waiting: {waiting}."
                ),
            )
        }
    };
    let is_server = matches!(kind.as_str(), "held" | "sign-in");
    AlertMessage {
        title,
        text,
        fields,
        is_raised,
        server: if is_server {
            subject.clone()
        } else {
            String::new()
        },
    }
}

/// Returns the alert that `mailferry test --alert` sends.
pub(super) fn test(host: &str) -> AlertMessage {
    AlertMessage {
        title: format!("mailferry on {host}: test"),
        text: "This is a test of an alert. Nothing is wrong.".to_owned(),
        fields: json!({ "host": host, "status": "test", "kind": "test", "subject": "", "what": "This is a test of an alert. Nothing is wrong." }),
        is_raised: false,
        server: String::new(),
    }
}

impl AlertMessage {
    /// Returns the body of a webhook's request; `None` for a form that is plain text.
    pub(super) fn body(&self, form: WebhookForm) -> Option<Value> {
        let Self {
            title,
            text,
            fields,
            is_raised,
            ..
        } = self;
        Some(match form {
            WebhookForm::Json => fields.clone(),
            WebhookForm::Slack => json!({ "text": format!("*{title}*\n{text}") }),
            WebhookForm::Teams => {
                let colour = if *is_raised { "Attention" } else { "Good" };
                let lines = text
                    .lines()
                    .map(|line| json!({ "type": "TextBlock", "text": line, "wrap": true }));
                let title = json!({ "type": "TextBlock", "text": title, "weight": "Bolder", "color": colour, "wrap": true });
                let body: Vec<Value> = std::iter::once(title).chain(lines).collect();
                json!({
                    "type": "message",
                    "attachments": [{
                        "contentType": "application/vnd.microsoft.card.adaptive",
                        "content": {
                            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                            "type": "AdaptiveCard",
                            "version": "1.4",
                            "body": body,
                        },
                    }],
                })
            }
            WebhookForm::Ntfy => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn an_alert_says_what_since_when_and_what_to_do() {
        let alert = AlertRow {
            kind: "held".into(),
            subject: "invoices".into(),
            since: Timestamp(1_795_701_600_000),
            what: "Server invoices is held.".into(),
            remedy: "Run this.".into(),
        };
        let raised = message(&Notice::Raised(alert.clone()), "relay");
        assert_eq!(raised.title, "mailferry on relay: held invoices");
        assert_eq!(
            raised.text,
            "Server invoices is held.\nSince: 2026-11-26T14:00:00Z\nWhat to do: Run this."
        );
        assert_eq!(raised.server, "invoices");
        let card = raised.body(WebhookForm::Teams).unwrap();
        assert_eq!(
            card["attachments"][0]["content"]["body"][0]["color"],
            "Attention"
        );
        let cleared = Notice::Cleared {
            alert,
            delivered: 5,
            waiting: 1,
        };
        let cleared = message(&cleared, "relay");
        assert!(
            cleared
                .text
                .ends_with("since the alert: 5. Still waiting: 1."),
            "{}",
            cleared.text
        );
        assert_eq!(cleared.body(WebhookForm::Json).unwrap()["delivered"], 5);
        assert!(cleared.body(WebhookForm::Ntfy).is_none());
    }
}
