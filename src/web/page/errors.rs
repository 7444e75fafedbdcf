//! Recent errors, grouped by their cause.

use maud::{Markup, html};

use super::{Frame, explained, number};
use crate::operator::report::Reason;
use crate::operator::status::ServerRow;

/// Formats the causes of recent errors, the most frequent first.
pub(in crate::web) fn page(
    frame: &Frame,
    servers: &[ServerRow],
    reasons: &[Reason],
    days: u64,
) -> Markup {
    let troubled = servers
        .iter()
        .filter_map(|server| Some((server, server.reason.as_ref()?)));
    let body = html! {
        p.quiet { "The newest errors of the last " (days) " days, and of messages that wait. Errors that differ only in addresses, hosts and numbers are counted together." }
        @for (server, reason) in troubled.clone() {
            article {
                h2 { a href={ "/servers#" (server.name) } { "Server " (server.name) } ": " (server.token) }
                (explained(reason))
            }
        }
        @if reasons.is_empty() && troubled.count() == 0 { p { "There are no errors." } }
        @for reason in reasons {
            article {
                h2 { (number(reason.count)) " × " (reason.event) @if !reason.server.is_empty() { " at " (reason.server) } }
                (explained(&reason.last))
                p.quiet {
                    "First " (frame.ago(reason.first_at)) ", last " (frame.ago(reason.last_at)) ", newest message "
                    a href={ "/messages/" (reason.id) } { (reason.id) }
                }
            }
        }
    };
    frame.page("/errors", "Errors", true, body)
}
