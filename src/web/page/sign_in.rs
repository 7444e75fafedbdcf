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

/// The ways to log in: with a password if people have one, and at the OpenID provider, of which `provider` is the
/// host and the address at which a sign-in begins. `error` says why the last
/// attempt failed.
pub(in crate::web) fn log_in(
    has_people: bool,
    provider: Option<(&str, String)>,
    error: Option<&str>,
) -> Markup {
    document(
        "Log in",
        None,
        html! {
            main #main {
                h1 { "Log in to mailferry" }
                @if let Some(error) = error { div.notice role="alert" { p { (error) } } }
                @if let Some((host, begin)) = provider {
                    p { a.button.main href=(begin) { "Sign in at " (host) } }
                }
                @if has_people {
                    form method="post" action="/log-in" {
                        fieldset {
                            div { label for="name" { "Name" } input id="name" name="name" autocomplete="username" required; }
                            div { label for="password" { "Password" } input id="password" name="password" type="password" autocomplete="current-password" required; }
                            button.main { "Log in" }
                        }
                    }
                }
                p.quiet { "Or run the command \u{201c}mailferry web\u{201d} on this machine, and open the link that it prints." }
            }
        },
    )
}

/// Tells a person who has signed in at the OpenID provider, and goes on to the overview.
pub(in crate::web) fn signed_in(name: &str) -> Markup {
    document(
        "Signed in",
        Some("0; url=/"),
        html! {
            main #main {
                h1 { "You are signed in as " (name) }
                p { a href="/" { "To the overview" } }
            }
        },
    )
}

/// Tells a person why a sign-in at the OpenID provider did not lead to the page.
pub(in crate::web) fn refused(title: &str, words: &str) -> Markup {
    document(
        title,
        None,
        html! {
            main #main {
                h1 { (title) }
                p { (words) }
                p { a href="/log-in" { "Log in" } }
            }
        },
    )
}
