//! All replies except those of the protocol itself: replies to an app if routing, a limit, a permission or
//! the state of this host does not allow its request. Refusals arrive here as data. Only here do they get
//! their code, enhanced code (RFC 3463) and text.

use std::net::IpAddr;
use std::time::Duration;

use super::permission::NotAllowed;
use crate::base::limits;
use crate::door::TurnedAway;
use crate::door::usage::OverLimit;
use crate::routing::NotRouted;
use crate::smtp::Reply;

/// Refuses or disconnects a client; `why` is the reason.
pub(super) fn turned_away(why: &TurnedAway) -> Reply {
    match why {
        TurnedAway::TooMany => Reply::new(
            421,
            "4.3.2",
            "Too many sessions (setting `sessions`), connect again later",
        ),
        TurnedAway::TooManyOf {
            whose,
            most,
            setting,
        } => Reply::new(
            421,
            "4.7.0",
            format!(
                "{whose} has {most} sessions already, the maximum (setting `{setting}`), connect again later"
            ),
        ),
        TurnedAway::NoAccess(peer) => no_access(*peer),
        TurnedAway::ShutOut { peer, seconds } => Reply::new(
            421,
            "4.7.0",
            format!(
                "Too many failed sign-ins from {peer}, connect again in {} seconds",
                seconds.max(&1)
            ),
        ),
        TurnedAway::Draining => Reply::new(
            421,
            "4.3.2",
            "This node is being taken out of service, use another one",
        ),
        TurnedAway::TalksEarly => Reply::new(
            554,
            "5.5.1",
            "Wait for the greeting before you send anything",
        ),
    }
}

/// Refuses a client from a network that the listener does not serve (RFC 5321 §3.1).
pub(super) fn no_access(peer: IpAddr) -> Reply {
    let text = format!("{peer} may not send mail here (setting `networks` of the listener)");
    Reply::new(554, "5.7.1", text)
}

/// Refuses a message that routing does not admit.
pub fn not_routed(why: &NotRouted) -> Reply {
    Reply::new(550, "5.7.1", why.to_string())
}

/// Refuses a sender or recipient that the user may not use.
pub fn not_allowed(why: &NotAllowed) -> Reply {
    Reply::new(550, "5.7.1", why.to_string())
}

/// Refuses mail over a limit of a user or listener. If one message has more recipients than the limit, the
/// app can split the message (RFC 5321 §4.5.3.1.10).
pub(super) fn over_limit(over: &OverLimit) -> Reply {
    let OverLimit {
        whose,
        setting,
        most,
        wait,
    } = over;
    let what = setting.replace('_', " ");
    let allowed = format!("{whose}: {most} {what} are allowed (setting `{setting}`)");
    match wait {
        Some(wait) => {
            let wait = Duration::from_secs(wait.as_secs().max(1));
            let wait = humantime::format_duration(wait);
            Reply::new(450, "4.7.1", format!("{allowed}, try again in {wait}"))
        }
        None => Reply::new(
            452,
            "4.5.3",
            format!("{allowed}, send to the others in another message"),
        ),
    }
}

/// Reports a problem with the server while a message is sent at once.
pub(super) fn upstream_trouble(reason: &str) -> Reply {
    let text = format!("Upstream trouble, try again later: {reason}");
    Reply::new(451, "4.4.1", text)
}

/// Refuses mail because the messages being received fill the memory that is meant for them.
pub(super) fn out_of_memory() -> Reply {
    let text = "Too many messages are being received at once (setting `memory`), try again later";
    Reply::new(452, "4.3.1", text)
}

/// Closes a session because the input of all sessions fills the memory that is meant for it.
pub(super) fn out_of_memory_closing() -> Reply {
    let text = "Too much is being received at once (setting `memory`), connect again later";
    Reply::new(421, "4.3.1", text)
}

/// Refuses a message because the disk is full, or only the reserve is left. The client keeps the message (RFC
/// 5321 §4.2.2).
pub(super) fn out_of_space() -> Reply {
    let text = "Not enough disk space to keep the message, try again later";
    Reply::new(452, "4.3.1", text)
}

/// Refuses a message that its server would refuse because of its size (RFC 1870 §6.1).
pub(super) fn too_large_for(server: &str, limit: u64) -> Reply {
    let text = format!(
        "Message too large: server {server} takes {limit} octets (setting `message_size` of the server)"
    );
    Reply::new(552, "5.3.4", text)
}

/// Refuses a message with a header section larger than [`limits::HEADER_SECTION`].
pub(super) fn header_too_large() -> Reply {
    let most = limits::HEADER_SECTION;
    let text = format!("Header section too large: {most} octets are allowed");
    Reply::new(552, "5.3.4", text)
}

/// Refuses a message in a mail loop: it has passed `count` servers (RFC 5321 §6.3).
pub(super) fn mail_loop(count: usize) -> Reply {
    let text =
        format!("Mail loop: the message has {count} Received fields, so it is going in a loop");
    Reply::new(554, "5.4.6", text)
}

/// Closes a session because its message arrives more slowly than is allowed.
pub(super) fn too_slow() -> Reply {
    let text = "The message arrives too slowly (setting `minimum_rate`), closing";
    Reply::new(421, "4.4.2", text)
}

/// Closes a session that took too long in total.
pub(super) fn session_time() -> Reply {
    let text = "Session time is over (setting `session_time`), connect again";
    Reply::new(421, "4.4.2", text)
}

/// Closes a session because the client was silent for too long.
pub(super) fn idle() -> Reply {
    let text = "Idle for too long (setting `idle_time`), closing";
    Reply::new(421, "4.4.2", text)
}

/// Closes a session because the client was silent after a line that would be a command if it ended in CRLF.
pub(super) fn unended() -> Reply {
    let text =
        "Idle for too long: a command must end in CRLF (setting `bare_lf_commands`), closing";
    Reply::new(421, "4.4.2", text)
}

/// Closes a session because the client was silent after LF . LF, which does not end a message (RFC 5321
/// §4.1.1.4).
pub(super) fn unended_message() -> Reply {
    let text = "The message ended in LF . LF, but only CR LF . CR LF ends a message: let the app end its lines in CR LF, closing";
    Reply::new(421, "4.4.2", text)
}

/// Closes a session because the program is shutting down.
pub(super) fn shutting_down() -> Reply {
    Reply::new(421, "4.3.2", "Shutting down, connect again later")
}
