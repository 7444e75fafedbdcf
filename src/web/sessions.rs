//! Access to the page. A one-time link becomes a session with a cookie, and each session has its own token
//! against forged forms (CSRF). Pure: the owner of the sessions locks them.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::oidc::Identity;
use crate::base::Timestamp;
use crate::operator::Role;

/// The time that a link is valid.
pub(super) const LINK: Duration = Duration::from_secs(300);

/// The time that a session lasts.
pub(super) const SESSION: Duration = Duration::from_secs(12 * 3_600);

/// The maximum number of links, and also of sessions. The oldest one is removed to make room.
const MOST: usize = 64;

/// 256 bits that nobody can guess.
pub(super) type Random = [u8; 32];

/// The name of a person who came with a link.
const BY_LINK: &str = "operator";

/// How a person got in. What the person may do is decided again with each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// With a link from `mailferry web`.
    Link,
    /// With a password, of whose hash this is the digest.
    Password(String),
    /// By a sign-in at the OpenID provider.
    Provider(Identity),
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageSession {
    /// The token against forged forms.
    pub(super) form_token: String,
    /// The name of the person, for the log.
    pub(super) name: String,
    /// The person's rights.
    pub(super) role: Role,
    /// How the person got in.
    pub(super) origin: Origin,
    /// The fingerprint of the state when the request came.
    pub(super) seen: String,
    until: Timestamp,
}

/// The valid links, and the sessions by their cookies.
#[derive(Debug, Default)]
pub(super) struct PageSessions {
    links: HashMap<String, (Role, Timestamp)>,
    by_cookie: HashMap<String, PageSession>,
}

impl PageSessions {
    /// Makes a link that can be used once.
    pub(super) fn link(&mut self, random: Random, role: Role, now: Timestamp) -> String {
        let name = text(random);
        make_room(&mut self.links, MOST, now, |(_, until)| *until);
        self.links.insert(name.clone(), (role, now.after(LINK)));
        name
    }

    /// Returns the cookie of a new session if the link is valid. The link cannot be used again.
    pub(super) fn enter(
        &mut self,
        link: &str,
        random: [Random; 2],
        now: Timestamp,
    ) -> Option<String> {
        let (role, until) = self.links.remove(link)?;
        if now >= until {
            return None;
        }
        Some(self.begin(BY_LINK, role, Origin::Link, random, now))
    }

    /// Returns the cookie of a new session.
    pub(super) fn begin(
        &mut self,
        name: &str,
        role: Role,
        origin: Origin,
        random: [Random; 2],
        now: Timestamp,
    ) -> String {
        let [cookie, form_token] = random.map(text);
        let session = PageSession {
            form_token,
            name: name.to_owned(),
            role,
            origin,
            seen: String::new(),
            until: now.after(SESSION),
        };
        make_room(&mut self.by_cookie, MOST, now, |session| session.until);
        self.by_cookie.insert(cookie.clone(), session);
        cookie
    }

    /// Ends a session.
    pub(super) fn end(&mut self, cookie: &str) {
        self.by_cookie.remove(cookie);
    }

    /// Returns the session of a cookie, unless it has expired.
    pub(super) fn session(&self, cookie: &str, now: Timestamp) -> Option<PageSession> {
        let session = self.by_cookie.get(cookie)?;
        (now < session.until).then(|| session.clone())
    }
}

/// Removes what is over, and the oldest one if there still are `most`.
pub(super) fn make_room<T>(
    all: &mut HashMap<String, T>,
    most: usize,
    now: Timestamp,
    until: impl Fn(&T) -> Timestamp,
) {
    all.retain(|_, it| now < until(it));
    if all.len() >= most {
        let oldest = all.iter().min_by_key(|(_, it)| until(it));
        let oldest = oldest.map(|(name, _)| name.clone());
        oldest.and_then(|name| all.remove(&name));
    }
}

fn text(random: Random) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_link_is_good_once_and_for_a_while() {
        let mut sessions = PageSessions::default();
        let link = sessions.link([1; 32], Role::Administrator, NOW);
        assert_eq!(sessions.enter("another", [[2; 32], [3; 32]], NOW), None);
        let cookie = sessions.enter(&link, [[2; 32], [3; 32]], NOW).unwrap();
        assert_eq!(sessions.enter(&link, [[4; 32], [5; 32]], NOW), None);
        let session = sessions.session(&cookie, NOW).unwrap();
        assert_eq!(
            (session.role, session.origin),
            (Role::Administrator, Origin::Link)
        );
        assert!(sessions.session(&cookie, NOW.after(SESSION)).is_none());
        let late = sessions.link([6; 32], Role::ReadOnly, NOW);
        assert_eq!(
            sessions.enter(&late, [[7; 32], [8; 32]], NOW.after(LINK)),
            None
        );
    }

    #[test]
    fn a_session_ends_when_the_person_logs_out() {
        let mut sessions = PageSessions::default();
        let origin = Origin::Password("digest".into());
        let random = [[1; 32], [2; 32]];
        let cookie = sessions.begin("jane", Role::ReadOnly, origin, random, NOW);
        let session = sessions.session(&cookie, NOW).unwrap();
        assert_eq!(
            (session.name.as_str(), session.role),
            ("jane", Role::ReadOnly)
        );
        sessions.end(&cookie);
        assert!(sessions.session(&cookie, NOW).is_none());
    }

    #[test]
    fn there_never_are_more_than_so_many() {
        let mut sessions = PageSessions::default();
        for number in 0..100 {
            let at = NOW.after(Duration::from_millis(number));
            let link = sessions.link([number as u8; 32], Role::ReadOnly, at);
            sessions
                .enter(&link, [[number as u8; 32], [0; 32]], at)
                .unwrap();
            sessions.link([100 + number as u8; 32], Role::ReadOnly, at);
        }
        assert!(sessions.links.len() <= MOST && sessions.by_cookie.len() <= MOST);
    }
}
