//! The pages, as text. Pure.

use maud::{DOCTYPE, Markup, html};

use crate::base::Timestamp;
use crate::operator::accounts::SignInAttempt;
use crate::operator::row::{Light, TokenRow};
use crate::transport::Step;

/// The style of all pages. It loads nothing from elsewhere.
pub(super) const STYLE: &str = "
    body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
           color: #1f2328; background: #fff; }
    h1 { font-size: 1.4rem; } a { color: #0b57d0; }
    table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
           padding: .6rem .5rem; border-top: 1px solid #d0d7de; }
    form { display: inline; } button, .button { font: inherit; padding: .3rem .9rem; border-radius: 6px;
           border: 1px solid #8c959f; background: #f6f8fa; color: inherit; cursor: pointer; text-decoration: none; }
    button.main, .button.main { background: #0b57d0; border-color: #0b57d0; color: #fff; }
    .light { font-weight: 600; } .green { color: #1a7f37; } .amber { color: #9a6700; } .red { color: #cf222e; }
    small { color: #57606a; display: block; } code { font-size: 1.3rem; letter-spacing: .1em; }
    td, li, p { overflow-wrap: anywhere; }
    @media (max-width: 34rem) { thead { display: none; } tr { display: block; border-top: 1px solid #d0d7de; }
           td { display: block; border: 0; padding: .2rem 0; } }
    @media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117; } a { color: #6ea8fe; }
           td, th { border-color: #30363d; } button, .button { background: #21262d; border-color: #57606a; }
           .green { color: #3fb950; } .amber { color: #d29922; } .red { color: #f85149; } small { color: #8b949e; } }
";

fn page(title: &str, refresh: bool, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if refresh { meta http-equiv="refresh" content="2"; }
                title { (title) " · mailferry" }
                link rel="stylesheet" href="/style.css";
            }
            body { (body) }
        }
    }
}

/// Formats the list of servers, each with its status light.
pub(super) fn servers(rows: &[TokenRow], form_token: &str, now: Timestamp) -> Markup {
    page(
        "Servers",
        false,
        html! {
            h1 { "Servers" }
            table {
                thead { tr { th { "Server" } th { "State" } th {} } }
                tbody { @for row in rows { (server(row, form_token, now)) } }
            }
        },
    )
}

fn server(row: &TokenRow, form_token: &str, now: Timestamp) -> Markup {
    let (light, words) = row.glance(now);
    let (class, said) = match light {
        Light::Green if row.expires.is_some_and(|expires| now < expires) => {
            ("green", "Token valid")
        }
        Light::Green => ("green", "Ready"),
        Light::Amber => ("amber", "Needs attention"),
        Light::Red if row.held.is_some() => ("red", "Held"),
        Light::Red => ("red", "No token"),
    };
    let said = if row.grant.is_none() && row.held.is_none() {
        "No token needed"
    } else {
        said
    };
    html! {
        tr {
            td { strong { (row.server) } @if let Some(user) = &row.user { small { (user) } } }
            td {
                span class={ "light " (class) } { "● " (said) }
                small { (words) }
                @if let Some(trouble) = row.reason() { small { (trouble) } }
                @if let Some(at) = row.credential_expires { small { "client secret or certificate valid until " (at) } }
            }
            td {
                @if row.grant.is_some_and(|grant| grant.is_by_user()) {
                    @let again = if row.origin.is_some() { "Connect again" } else { "Connect" };
                    (button("connect", &row.server, again, form_token)) " "
                }
                (button("test", &row.server, "Test", form_token))
            }
        }
    }
}

fn button(action: &str, server: &str, words: &str, form_token: &str) -> Markup {
    html! {
        form method="post" action={ "/" (action) "/" (server) } {
            input type="hidden" name="form_token" value=(form_token);
            button class=[words.eq("Connect").then_some("main")] { (words) }
        }
    }
}

/// Formats a sign-in that waits for the person.
pub(super) fn waiting(server: &str, attempt: &SignInAttempt) -> Markup {
    page(
        "Sign in",
        true,
        html! {
            h1 { "Connect " (server) }
            p { "Sign in" @if let Some(user) = &attempt.user { " as " strong { (user) } } " at the provider, and confirm." }
            @if let Some(code) = &attempt.user_code { p { "The code to enter there: " code { (code) } } }
            p { a class="button main" href=(attempt.url) target="_blank" rel="noopener" { "Sign in at the provider" } }
            p { "Waiting for the sign-in. This page updates by itself." }
        },
    )
}

/// Formats the steps of a test.
pub(super) fn steps(server: &str, steps: &[Step]) -> Markup {
    page(
        "Test",
        false,
        html! {
            h1 { "Test of " (server) }
            table { tbody { @for step in steps {
                tr {
                    td { span class=(if step.well { "light green" } else { "light red" }) { (if step.well { "ok" } else { "failed" }) } }
                    td { strong { (step.name) } }
                    td { (step.text) @if let Some(remedy) = &step.remedy { small { (remedy) } } }
                }
            } } }
            p { a href="/" { "Back to the servers" } }
        },
    )
}

/// Formats a short text with a link back to the servers.
pub(super) fn notice(title: &str, words: &str) -> Markup {
    page(
        title,
        false,
        html! {
            h1 { (title) }
            p { (words) }
            p { a href="/" { "Back to the servers" } }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_text() {
        let said = notice("<b>", "<script>alert(1)</script>").into_string();
        assert!(!said.contains("<script>") && said.contains("&lt;script&gt;"));
    }
}
