//! Getting access to the page.

use maud::{Markup, html};

use super::document;

/// Tells a browser without a session how to get one, if only links are possible.
pub(in crate::web) fn link_needed() -> Markup {
    super::notice(
        "Open this page with a link",
        "Run the command \u{201c}mailferry web\u{201d} on this machine, and open the link that it prints.",
    )
}

/// The form for people with a password. `error` says why the last attempt failed.
pub(in crate::web) fn log_in(error: Option<&str>) -> Markup {
    document(
        "Log in",
        None,
        html! {
            main #main {
                h1 { "Log in to mailferry" }
                @if let Some(error) = error { div.notice role="alert" { p { (error) } } }
                form method="post" action="/log-in" {
                    fieldset {
                        div { label for="name" { "Name" } input id="name" name="name" autocomplete="username" required; }
                        div { label for="password" { "Password" } input id="password" name="password" type="password" autocomplete="current-password" required; }
                        button.main { "Log in" }
                    }
                }
                p.quiet { "Or run the command \u{201c}mailferry web\u{201d} on this machine, and open the link that it prints." }
            }
        },
    )
}
