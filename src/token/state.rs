//! What is known of an account's tokens, and whether it will do. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{Secret, Timestamp};

/// What must remain of an access token's life for it to be handed out (`exchange-online.md`: they
/// live 60 to 90 minutes). A token that lives for less than twice this is used for half its life.
pub const MARGIN: Duration = Duration::from_secs(600);

/// The life of an access token whose response does not say (RFC 6749 §5.1 leaves it open).
pub const LIFE_UNSAID: Duration = Duration::from_secs(1_200);

/// An access token.
#[derive(Debug)]
pub struct Access {
    /// What is sent upstream.
    pub token: Secret,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Grows with every token of the account, so that a rejection can be told from an older one.
    pub generation: u64,
}

impl Access {
    /// Whether it may be handed out: so much of its life remains that a delivery can end.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let life = self.expires.since(self.issued);
        let margin = MARGIN.min(life / 2);
        now.after(margin) < self.expires
    }

    /// Whether the upstream still takes it.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.expires
    }
}

/// What the vault keeps of an account. The texts are wiped when dropped.
#[derive(Default, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The refresh token to use.
    pub refresh: Option<Zeroizing<String>>,
    /// The one before it, should the newer one not have reached us whole.
    pub previous: Option<Zeroizing<String>>,
    /// A digest of the refresh token in the configuration when `refresh` was derived from it, so
    /// that one newly configured wins over what is kept.
    pub configured: Option<String>,
    /// A digest of what `access` was asked for, and of whom; another request makes it worthless.
    pub request: Option<String>,
    /// The last access token.
    pub access: Option<Zeroizing<String>>,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl Account {
    /// The refresh tokens to try, the best first.
    pub fn refresh_tokens(&self) -> Vec<Zeroizing<String>> {
        self.refresh.iter().chain(&self.previous).cloned().collect()
    }

    /// A rotation: the new token takes the place, the one that was used becomes the fallback.
    pub fn rotate(&mut self, used: Zeroizing<String>, new: Zeroizing<String>) {
        if new != used {
            self.previous = Some(used);
        }
        self.refresh = Some(new);
    }

    /// The configuration names a refresh token with this digest: if it is another than before, it
    /// becomes the one to use, and what was kept the fallback.
    pub fn configure(&mut self, token: Zeroizing<String>, digest: String) {
        if self.configured.as_ref() == Some(&digest) && self.refresh.is_some() {
            return;
        }
        self.previous = self.refresh.take();
        self.refresh = Some(token);
        self.configured = Some(digest);
        self.access = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access(life: u64) -> Access {
        Access {
            token: String::new().into(),
            issued: Timestamp(0),
            expires: Timestamp(0).after(Duration::from_secs(life)),
            generation: 1,
        }
    }

    #[test]
    fn ten_minutes_must_remain() {
        let hour = access(3_600);
        assert!(hour.is_fresh(Timestamp(2_999_000)));
        assert!(!hour.is_fresh(Timestamp(3_000_000)));
        assert!(hour.is_valid(Timestamp(3_599_000)) && !hour.is_valid(Timestamp(3_600_000)));
        let short = access(60);
        assert!(short.is_fresh(Timestamp(29_000)) && !short.is_fresh(Timestamp(30_000)));
    }

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_newly_configured_token_wins_once() {
        let mut account = Account::default();
        account.configure(text("c1"), "d1".into());
        account.rotate(text("c1"), text("r1"));
        account.configure(text("c1"), "d1".into());
        assert_eq!(account.refresh_tokens(), [text("r1"), text("c1")]);
        account.configure(text("c2"), "d2".into());
        assert_eq!(account.refresh_tokens(), [text("c2"), text("r1")]);
    }

    proptest! {
        #[test]
        fn there_always_is_a_refresh_token_to_use(steps in prop::collection::vec((any::<bool>(), 0u8..4), 1..20)) {
            let mut account = Account::default();
            account.configure(text("c"), "d".into());
            for (rotates, name) in steps {
                let used = account.refresh_tokens().remove(0);
                let name = text(&format!("t{name}"));
                if rotates { account.rotate(used, name) } else { account.configure(name.clone(), name.to_string()) }
                prop_assert!(account.refresh.is_some());
            }
        }
    }
}
