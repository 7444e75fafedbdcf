//! The pages, as text. Pure: the time is an argument.

pub(super) mod errors;
pub(super) mod messages;
pub(super) mod overview;
mod plot;
pub(super) mod route;
pub(super) mod servers;
pub(super) mod settings;
pub(super) mod sign_in;

use maud::{DOCTYPE, Markup, html};

use super::sessions::PageSession;
use crate::base::Timestamp;
use crate::operator::Role;
use crate::operator::guide;
use crate::operator::reason::from_now;
use crate::operator::remedy;
use crate::operator::row::Light;

/// The style of all pages.
pub(super) const STYLE: &str = include_str!("style.css");

/// The script of all pages. The pages work without it.
pub(super) const SCRIPT: &str = include_str!("live.js");

/// The parts of the page, with their paths and names.
const PARTS: [(&str, &str); 6] = [
    ("/", "Overview"),
    ("/servers", "Servers"),
    ("/messages", "Messages"),
    ("/route", "Who would send this?"),
    ("/errors", "Errors"),
    ("/settings", "Settings"),
];

/// The data of a page's header and footer.
pub(super) struct Frame<'a> {
    /// The session that looks at the page.
    pub session: &'a PageSession,
    /// The name of this host.
    pub host: &'a str,
    /// The version of the program.
    pub version: &'a str,
    /// The present time.
    pub now: Timestamp,
}

impl Frame<'_> {
    /// True if this person may change something.
    pub(super) fn may_act(&self) -> bool {
        self.session.role == Role::Administrator
    }

    /// Makes a page of one of the parts. With `is_live`, it is kept up to date.
    fn page(&self, path: &str, title: &str, is_live: bool, body: Markup) -> Markup {
        document(
            title,
            None,
            html! {
                header {
                    a.skip href="#main" { "Skip to the content" }
                    nav aria-label="Parts of the page" {
                        ul {
                            @for (to, name) in PARTS {
                                li { a href=(to) aria-current=[(to == path).then_some("page")] { (name) } }
                            }
                        }
                    }
                }
                main #main data-live=[is_live.then_some(&self.session.seen)] { h1 { (title) } (body) }
                footer {
                    "mailferry " (self.version) " on " (self.host) ", " (time_of(self.now)) ". "
                    "You are " (self.session.name) " (" (self.session.role.name()) "). "
                    form.inline method="post" action="/log-out" {
                        (self.token())
                        button { "Log out" }
                    }
                }
            },
        )
    }

    /// The session's token against forged forms.
    fn token(&self) -> Markup {
        html! { input type="hidden" name="form_token" value=(self.session.form_token); }
    }

    /// A form with one button; nothing if the person may not act. `label` is the button's full name, for
    /// people who cannot see what it belongs to.
    fn button(&self, action: &str, words: &str, label: &str, class: &str) -> Markup {
        html! {
            @if self.may_act() {
                form.inline method="post" action=(action) {
                    (self.token())
                    button class=[(!class.is_empty()).then_some(class)] aria-label=(label) { (words) }
                }
            }
        }
    }

    /// A time relative to now, with the exact time in UTC for those who point at it.
    fn ago(&self, at: Timestamp) -> Markup {
        html! { time datetime=(at) title=(at) { (from_now(at, self.now)) } }
    }

    /// A time in this machine's time zone, and relative to now.
    fn at(&self, at: Timestamp) -> Markup {
        html! { time datetime=(at) title=(at) { (time_of(at)) } " (" (from_now(at, self.now)) ")" }
    }
}

/// Formats a time in this machine's time zone, with the zone.
fn time_of(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    let local = time.to_zoned(jiff::tz::TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Makes a whole document. `refresh` is the number of seconds after which the browser loads it again, or another
/// page: `0; url=/`.
fn document(title: &str, refresh: Option<&str>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (title) " · mailferry" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/style.css";
                script src="/live.js" defer {}
            }
            body { (body) }
        }
    }
}

/// A state with a sign, so that the colour is not the only difference.
fn light(light: Light, words: &str) -> Markup {
    let sign = match light {
        Light::Green => "●",
        Light::Amber => "▲",
        Light::Red => "■",
    };
    html! { span class={ "light " (light.name()) } { (sign) " " (words) } }
}

/// A text with parts in back quotes, which are shown as code.
fn prose(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place.is_multiple_of(2) { (part) } @else { code { (part) } }
        }
    }
}

/// A text with line ends, such as a reason with its remedy, and the commands in it for copying.
fn explained(text: &str) -> Markup {
    html! {
        p { @for line in text.lines() { (prose(line)) br; } }
        @if let Some(place) = guide::explained(text) { p { "More: " (place) } }
        @for command in remedy::commands(text) {
            div.copy {
                pre { (command) }
                button type="button" hidden data-copy=(command) aria-label={ "Copy: " (command) } { "Copy" }
            }
        }
    }
}

/// A number with separators between thousands.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Formats a short text with a link back to the overview.
pub(super) fn notice(title: &str, words: &str) -> Markup {
    document(
        title,
        None,
        html! {
            main #main {
                h1 { (title) }
                (explained(words))
                p { a href="/" { "To the overview" } }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_text() {
        let said = notice("<b>", "<script>alert(1)</script>").into_string();
        assert!(!said.contains("<script>alert") && said.contains("&lt;script&gt;alert"));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
