//! Access to the page. A one-time link becomes a session with a cookie, and each session has its own token
//! against forged forms (CSRF). Pure: the owner of the sessions locks them.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::base::Timestamp;

/// The time that a link is valid.
pub(super) const LINK: Duration = Duration::from_secs(300);

/// The time that a session lasts.
pub(super) const SESSION: Duration = Duration::from_secs(12 * 3_600);

/// The maximum number of links, and also of sessions. The oldest one is removed to make room.
const MOST: usize = 64;

/// 256 bits that nobody can guess.
pub(super) type Random = [u8; 32];

/// A session: its token against forged forms, and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageSession {
    pub(super) form_token: String,
    until: Timestamp,
}

/// The valid links, and the sessions by their cookies.
#[derive(Debug, Default)]
pub(super) struct PageSessions {
    links: HashMap<String, Timestamp>,
    by_cookie: HashMap<String, PageSession>,
}

impl PageSessions {
    /// Makes a link that can be used once.
    pub(super) fn link(&mut self, random: Random, now: Timestamp) -> String {
        let name = text(random);
        self.links.retain(|_, until| now < *until);
        let soonest = self.links.iter().min_by_key(|(_, until)| **until);
        if let Some(oldest) = soonest
            .map(|(name, _)| name.clone())
            .filter(|_| self.links.len() >= MOST)
        {
            self.links.remove(&oldest);
        }
        self.links.insert(name.clone(), now.after(LINK));
        name
    }

    /// Returns the cookie of a new session if the link is valid. The link cannot be used again.
    pub(super) fn enter(
        &mut self,
        link: &str,
        random: [Random; 2],
        now: Timestamp,
    ) -> Option<String> {
        let until = self.links.remove(link)?;
        if now >= until {
            return None;
        }
        let [cookie, form_token] = random.map(text);
        self.by_cookie.retain(|_, session| now < session.until);
        let soonest = self
            .by_cookie
            .iter()
            .min_by_key(|(_, session)| session.until);
        if let Some(oldest) = soonest
            .map(|(name, _)| name.clone())
            .filter(|_| self.by_cookie.len() >= MOST)
        {
            self.by_cookie.remove(&oldest);
        }
        let until = now.after(SESSION);
        self.by_cookie
            .insert(cookie.clone(), PageSession { form_token, until });
        Some(cookie)
    }

    /// Returns the session of a cookie, unless it has expired.
    pub(super) fn session(&self, cookie: &str, now: Timestamp) -> Option<PageSession> {
        let session = self.by_cookie.get(cookie)?;
        (now < session.until).then(|| session.clone())
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
        let link = sessions.link([1; 32], NOW);
        assert_eq!(sessions.enter("another", [[2; 32], [3; 32]], NOW), None);
        let cookie = sessions.enter(&link, [[2; 32], [3; 32]], NOW).unwrap();
        assert_eq!(sessions.enter(&link, [[4; 32], [5; 32]], NOW), None);
        assert!(sessions.session(&cookie, NOW).is_some());
        assert!(sessions.session(&cookie, NOW.after(SESSION)).is_none());
        let late = sessions.link([6; 32], NOW);
        assert_eq!(
            sessions.enter(&late, [[7; 32], [8; 32]], NOW.after(LINK)),
            None
        );
    }

    #[test]
    fn there_never_are_more_than_so_many() {
        let mut sessions = PageSessions::default();
        for number in 0..100 {
            let at = NOW.after(Duration::from_millis(number));
            let link = sessions.link([number as u8; 32], at);
            sessions
                .enter(&link, [[number as u8; 32], [0; 32]], at)
                .unwrap();
            sessions.link([100 + number as u8; 32], at);
        }
        assert!(sessions.links.len() <= MOST && sessions.by_cookie.len() <= MOST);
    }
}
