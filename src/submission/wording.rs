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

/// The client is not let in, or is no longer let in.
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
        TurnedAway::TalksEarly => Reply::new(
            554,
            "5.5.1",
            "Wait for the greeting before you send anything",
        ),
    }
}

/// The listener does not serve the client's network (RFC 5321 §3.1).
pub(super) fn no_access(peer: IpAddr) -> Reply {
    let text = format!("{peer} may not send mail here (setting `networks` of the listener)");
    Reply::new(554, "5.7.1", text)
}

/// Routing does not admit the message.
pub fn not_routed(why: &NotRouted) -> Reply {
    Reply::new(550, "5.7.1", why.to_string())
}

/// The user may not use this sender or this recipient.
pub fn not_allowed(why: &NotAllowed) -> Reply {
    Reply::new(550, "5.7.1", why.to_string())
}

/// A user or listener is over a limit. If one message has more recipients than the limit, the app can split
/// it (RFC 5321 §4.5.3.1.10).
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

/// Trouble with the server while a message is sent at once.
pub(super) fn upstream_trouble(reason: &str) -> Reply {
    let text = format!("Upstream trouble, try again later: {reason}");
    Reply::new(451, "4.4.1", text)
}

/// The messages being received fill the memory that is meant for them.
pub(super) fn out_of_memory() -> Reply {
    let text = "Too many messages are being received at once (setting `memory`), try again later";
    Reply::new(452, "4.3.1", text)
}

/// The commands being received fill the memory that is meant for them.
pub(super) fn out_of_memory_closing() -> Reply {
    let text = "Too much is being received at once (setting `memory`), connect again later";
    Reply::new(421, "4.3.1", text)
}

/// The disk is full, or only the reserve is left: the client keeps the message (RFC 5321 §4.2.2).
pub(super) fn out_of_space() -> Reply {
    let text = "Not enough disk space to keep the message, try again later";
    Reply::new(452, "4.3.1", text)
}

/// The header section is larger than [`limits::HEADER_SECTION`].
pub(super) fn header_too_large() -> Reply {
    let most = limits::HEADER_SECTION;
    let text = format!("Header section too large: {most} octets are allowed");
    Reply::new(552, "5.3.4", text)
}

/// A message that has passed this many servers is in a mail loop (RFC 5321 §6.3).
pub(super) fn mail_loop(count: usize) -> Reply {
    let text =
        format!("Mail loop: the message has {count} Received fields, so it is going in a loop");
    Reply::new(554, "5.4.6", text)
}

/// The message arrives more slowly than is allowed.
pub(super) fn too_slow() -> Reply {
    let text = "The message arrives too slowly (setting `minimum_rate`), closing";
    Reply::new(421, "4.4.2", text)
}

/// The session took too long in total.
pub(super) fn session_time() -> Reply {
    let text = "Session time is over (setting `session_time`), connect again";
    Reply::new(421, "4.4.2", text)
}

/// The client was silent for too long.
pub(super) fn idle() -> Reply {
    let text = "Idle for too long (setting `idle_time`), closing";
    Reply::new(421, "4.4.2", text)
}

/// The client was silent after a line that would be a command if it ended in CRLF.
pub(super) fn unended() -> Reply {
    let text =
        "Idle for too long: a command must end in CRLF (setting `bare_lf_commands`), closing";
    Reply::new(421, "4.4.2", text)
}

/// The client was silent after LF . LF, which does not end a message (RFC 5321 §4.1.1.4).
pub(super) fn unended_message() -> Reply {
    let text = "The message ended in LF . LF, but only CR LF . CR LF ends a message: let the app end its lines in CR LF, closing";
    Reply::new(421, "4.4.2", text)
}

/// The program is shutting down.
pub(super) fn shutting_down() -> Reply {
    Reply::new(421, "4.3.2", "Shutting down, connect again later")
}
