//! The overview: one look says whether mail flows.

use maud::{Markup, html};

use super::{Frame, light, number, plot, prose};
use crate::observe::metrics::Totals;
use crate::operator::figures::{Figures, Span};
use crate::operator::row::Light;
use crate::operator::status::Status;
use crate::spool::NodeRow;

/// The spans, with their names in the address and for people, and the length of one bar.
const SPANS: [(&str, Span, &str, &str); 3] = [
    ("hour", Span::Hour, "Last hour", "minute"),
    ("day", Span::Day, "Last 24 hours", "half hour"),
    ("month", Span::Month, "Last 30 days", "day"),
];

/// Formats the overview; `span` is the name of the span that the charts show.
pub(in crate::web) fn page(
    frame: &Frame,
    status: &Status,
    figures: &Figures,
    span: &str,
) -> Markup {
    let body = html! {
        (verdict(status))
        (now(frame, status))
        h2 { "Mail" }
        (charts(frame, figures, span))
        @if !status.nodes.is_empty() { (nodes(frame, status)) }
        h2 { "Listeners" }
        table.stacked {
            thead { tr { th { "Name" } th { "Protocol" } th { "Address" } } }
            tbody { @for listener in &status.about.listeners {
                tr { th scope="row" { (listener.name) } td { (listener.protocol) } td { (listener.address) } }
            } }
        }
    };
    frame.page("/", "Overview", true, body)
}

/// The nodes that share the queue.
fn nodes(frame: &Frame, status: &Status) -> Markup {
    html! {
        h2 { "Nodes" }
        table.stacked {
            thead { tr { th { "Name" } th { "Version" } th { "Since" } th { "Heard" } th { "Messages" } th { "State" } } }
            tbody { @for node in &status.nodes {
                tr {
                    th scope="row" { (node.name) @if node.is_this { " (this one)" } }
                    td { (node.version) }
                    td { (frame.ago(node.since)) }
                    td { (node.silent) " s ago" }
                    td { (number(node.claimed as u64)) }
                    td { (node_state(node)) }
                }
            } }
        }
    }
}

/// Returns what a node does, in words.
fn node_state(node: &NodeRow) -> &'static str {
    match (node.is_draining, node.takes_work(), node.leads) {
        (true, ..) => "out of service",
        (false, false, _) => "silent: others take over",
        (false, true, true) => "in service, sends alerts",
        (false, true, false) => "in service",
    }
}

/// The state in one sentence, and the warnings.
fn verdict(status: &Status) -> Markup {
    let (state, warnings) = (status.light(), status.warnings());
    html! {
        div class={ "notice " (state.name()) } role="status" { p { (light(state, status.verdict())) } }
        @for server in status.servers.iter().filter(|server| server.light != Light::Green) {
            div class={ "notice " (server.light.name()) } {
                p { a href={ "/servers#" (server.name) } { "Server " (server.name) } ": " (server.token) }
                @if let Some(reason) = &server.reason { p { (prose(reason)) } }
            }
        }
        @for warning in &warnings { div.notice { p { (prose(warning)) } } }
    }
}

fn now(frame: &Frame, status: &Status) -> Markup {
    let about = &status.about;
    html! {
        dl.figures {
            div { dt { "Waiting" } dd { a href="/messages?state=waiting" { (number(status.queued as u64)) } } }
            div { dt { "Held until you act" } dd { a href="/messages?state=held" { (number(status.held as u64)) } } }
            div { dt { "Oldest message" } dd { @match status.oldest { Some(at) => { (frame.ago(at)) }, None => { "–" } } } }
            div { dt { "Delivered in 24 hours" } dd { (number(status.day.delivered)) } }
            div { dt { "Sessions with apps" } dd { (number(status.sessions as u64)) } }
            div { dt { "Running since" } dd { (frame.ago(about.since)) } }
        }
    }
}

fn charts(frame: &Frame, figures: &Figures, wanted: &str) -> Markup {
    let found = SPANS.iter().find(|(name, ..)| *name == wanted);
    let (current, span, _, period) = found.unwrap_or(&SPANS[0]);
    let periods = figures.periods(*span, frame.now);
    let values = |of: fn(&Totals) -> u64| -> Vec<u64> {
        periods.iter().map(|(_, totals)| of(totals)).collect()
    };
    html! {
        ul.tabs aria-label="Time span" {
            @for (name, _, words, _) in SPANS {
                li { a href={ "/?span=" (name) } aria-current=[(name == *current).then_some("true")] { (words) } }
            }
        }
        div.plots {
            (plot::bars("accepted", &values(|it| it.accepted), period))
            (plot::bars("delivered", &values(|it| it.delivered), period))
            (plot::bars("deferred", &values(|it| it.deferred), period))
            (plot::bars("failed", &values(|it| it.failed), period))
            (plot::bars("bounced", &values(|it| it.bounced), period))
        }
    }
}
