//! The ways to tell people, as configured.

use serde::Deserialize;

use crate::base::Secret;
use crate::message::Address;

/// A way to tell people, with its name.
#[derive(Clone)]
pub(crate) struct AlertChannel {
    /// The name, for `mailferry test --alert` and the log.
    pub(crate) name: String,
    /// The way.
    pub(crate) way: Way,
}

/// A way to tell people.
#[derive(Clone)]
pub(crate) enum Way {
    /// An HTTP request.
    Webhook {
        /// The URL. Whoever knows it can usually post there, so it is a secret.
        url: Secret,
        /// The form of the body.
        form: WebhookForm,
    },
    /// A program with its arguments.
    Command(Vec<String>),
    /// A message that leaves at once, by the first of these servers that accepts it.
    Mail {
        /// The recipient.
        to: Address,
        /// The servers, in order.
        servers: Vec<String>,
    },
}

/// The form of a webhook's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WebhookForm {
    /// One JSON object with all fields.
    #[default]
    Json,
    /// An Adaptive Card, as workflows of Microsoft Teams take it.
    Teams,
    /// A message of Slack, which Mattermost takes too.
    Slack,
    /// Plain text with a title, as ntfy takes it.
    Ntfy,
}
