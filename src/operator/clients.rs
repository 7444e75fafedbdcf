//! What would admit a client that was refused. Pure.

use serde::{Deserialize, Serialize};

use crate::base::written::quoted;
use crate::door::Knock;

/// A client that was refused, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientRow {
    /// The client and the refusal.
    #[serde(flatten)]
    pub(crate) knock: Knock,
    /// What would admit the client, if that is known.
    pub(crate) remedy: Option<String>,
}

impl ClientRow {
    pub(crate) fn new(knock: Knock) -> Self {
        Self {
            remedy: remedy(&knock),
            knock,
        }
    }
}

/// Returns what would admit a client, with the lines of the configuration.
fn remedy(knock: &Knock) -> Option<String> {
    let Knock {
        listener,
        peer,
        user,
        said,
        ..
    } = knock;
    let (name, peer) = (quoted(user), quoted(peer));
    // An address may stand for many clients.
    let whom = match knock.peer.is_loopback() {
        true => "every program on this machine may then send",
        false => "everybody who comes from this address may then send",
    };
    let has = |part: &str| said.contains(part);
    let here = format!("[[listener]] {listener}");
    Some(
        if has("STARTTLS command first") || has("left without STARTTLS") {
            format!(
                "switch STARTTLS on in the client, or set tls = \"starttls\" and allow_plaintext = true at {here}"
            )
        } else if said.starts_with("538") {
            format!(
                "the client sends its password without TLS: switch TLS on in the client, or set allow_plaintext = true at {here}"
            )
        } else if said.starts_with("530") || has("in no user's `networks`") {
            format!(
                "the client does not sign in: give it a user and a password, or admit its address: [[user]] networks = [{peer}]  # {whom}"
            )
        } else if has("does not start with TLS") {
            format!(
                "the client begins with TLS: set it to STARTTLS or no TLS, or set tls = \"implicit\" at {here}"
            )
        } else if has("AUTH is not available here") {
            format!(
                "the client signs in, but {here} admits clients by their network only: switch AUTH off in the client and admit its address (networks of a [[user]]), or set auth = \"either\" there"
            )
        } else if has("there is no such user") {
            format!(
                "correct the user name in the client, or add it: [[user]] name = {name} with password = {{ file = \"...\" }}, made by `mailferry hash-password`"
            )
        } else if has("wrong password") {
            format!(
                "type the password of the user {user} anew in the client, or set a new one with `mailferry hash-password`"
            )
        } else if has("the user has no password") {
            format!(
                "add password = {{ file = \"...\" }}, made by `mailferry hash-password`, to [[user]] {user}"
            )
        } else if has("not among the `users`") {
            format!("add {name} to users at {here}, or set the client to another listener")
        } else if has("setting `networks` of the listener") {
            format!("add {peer} to networks at {here} ({whom})")
        } else if has("admits this sender") {
            "add the sender or its domain to a server's from_filter, or set [sender] default_from"
                .to_owned()
        } else {
            return None;
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::smtp::Reply;

    fn remedy_of(said: &str) -> Option<String> {
        remedy(&Knock {
            listener: "apps".into(),
            peer: [192, 0, 2, 7].into(),
            user: "scanner".into(),
            said: said.into(),
            count: 1,
            first: Timestamp(0),
            last: Timestamp(0),
        })
    }

    #[test]
    fn each_of_our_replies_that_a_setting_mends_has_its_remedy() {
        for (reply, part) in [
            (Reply::auth_required(), "networks = [\"192.0.2.7\"]"),
            (Reply::unknown_client(), "networks = [\"192.0.2.7\"]"),
            (Reply::auth_unavailable_here(), "auth = \"either\""),
            (Reply::tls_required(), "switch STARTTLS on"),
            (
                Reply::tls_in_clear(),
                "tls = \"implicit\" at [[listener]] apps",
            ),
            (Reply::encryption_required(), "allow_plaintext = true"),
        ] {
            let remedy = remedy_of(&reply.to_string());
            assert!(
                remedy.as_ref().is_some_and(|it| it.contains(part)),
                "{reply}: {remedy:?}"
            );
        }
        assert_eq!(remedy_of("452 4.3.1 full"), None);
        assert!(
            remedy_of("there is no such user")
                .unwrap()
                .contains("name = \"scanner\"")
        );
    }
}
