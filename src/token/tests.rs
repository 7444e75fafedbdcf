//! No sequence of responses, failures, sign-ins, reconfigurations and restarts makes an old response
//! overwrite a newer state, or loses the last refresh token that the provider would accept.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::state::{Account, Grants, Reading, TokenOrigin};
use super::vault::kept::Kept;
use crate::base::Timestamp;

const PERSON: &str = "a@b.c";

/// A provider stricter than Entra: the use of a token invalidates all tokens that it descends from.
#[derive(Default)]
struct Provider {
    parents: HashMap<String, String>,
    dead: HashSet<String>,
    count: usize,
}

impl Provider {
    fn new_token(&mut self) -> String {
        self.count += 1;
        format!("r{}", self.count)
    }

    /// Returns the successor of a token; `None` if the token is refused.
    fn refresh(&mut self, token: &str) -> Option<String> {
        if self.dead.contains(token) {
            return None;
        }
        let mut child = token;
        while let Some(parent) = self.parents.get(child) {
            self.dead.insert(parent.clone());
            child = parent;
        }
        let next = self.new_token();
        self.parents.insert(next.clone(), token.to_owned());
        Some(next)
    }
}

/// A step of the program, as [`super::Source`] takes it.
#[derive(Debug, Clone)]
enum Step {
    /// The program sends a request, and the provider's response is on its way.
    Ask { rotates: bool },
    /// One of the responses arrives, and its handling ends in this way.
    Answer(usize, Ending),
    /// The same person as before signs in, or another one.
    SignIn { same: bool },
    /// The configuration names this refresh token.
    Configure(u8),
    /// The configuration changes the request for tokens.
    AskFor(u8),
    /// The memory is lost, and so are all responses on their way.
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    /// The token was stored, then used.
    Good,
    /// An outage, or a response that was cut off.
    Lost,
    /// The disk was full.
    NotKept,
    /// The program ended between storing the token and using it.
    Killed,
}

struct World {
    provider: Provider,
    memory: Account,
    disk: String,
    configured: Option<u8>,
    under_way: Vec<(u64, Zeroizing<String>, Option<String>)>,
    now: Timestamp,
}

fn grants(refresh: Option<&String>) -> Grants {
    Grants {
        access: Zeroizing::new("access".into()),
        refresh: refresh.map(|token| Zeroizing::new(token.clone())),
        expires_in: None,
        reading: Reading::NotRequested,
    }
}

fn sealed(account: &Account) -> String {
    serde_json::to_string(&Kept::from(account)).expect("plain data")
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            provider: Provider::default(),
            memory: Account::default(),
            disk: sealed(&Account::default()),
            configured: None,
            under_way: Vec::new(),
            now: Timestamp(0),
        };
        world.sign_in(PERSON);
        world
    }

    fn sign_in(&mut self, user: &str) {
        let token = self.provider.new_token();
        let grants = grants(Some(&token));
        let user = Some(user.to_owned());
        self.memory
            .signed_in(user, TokenOrigin::Browser, grants, self.now);
        self.disk = sealed(&self.memory);
    }

    fn ask(&mut self, rotates: bool) {
        for token in self.memory.refresh_tokens() {
            let Some(next) = self.provider.refresh(&token) else {
                continue;
            };
            let next = rotates.then_some(next);
            return self.under_way.push((self.memory.generation, token, next));
        }
    }

    /// Returns true if the response changed the state.
    fn answer(&mut self, which: usize, ending: Ending) -> bool {
        let (asked, used, next) = self.under_way.remove(which);
        let mut account = self.memory.clone();
        if matches!(ending, Ending::Lost)
            || !account.granted(asked, Some(&used), grants(next.as_ref()), self.now)
        {
            return false;
        }
        match ending {
            Ending::Good => {
                self.disk = sealed(&account);
                self.memory = account;
            }
            Ending::Killed => {
                self.disk = sealed(&account);
                self.restart();
            }
            Ending::Lost | Ending::NotKept => return false,
        }
        true
    }

    fn configure(&mut self, which: u8) {
        self.configured = Some(which);
        let token = Zeroizing::new(format!("c{which}"));
        self.memory.configure(token, which.to_string(), self.now);
    }

    fn restart(&mut self) {
        let kept: Kept = serde_json::from_str(&self.disk).expect("sealed by us");
        self.memory = kept.into();
        self.under_way.clear();
        if let Some(which) = self.configured {
            self.configure(which);
        }
    }

    fn has_a_good_one(&self) -> bool {
        let tokens = self.memory.refresh_tokens();
        tokens
            .iter()
            .any(|token| !self.provider.dead.contains(token.as_str()))
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ending = prop_oneof![
        4 => Just(Ending::Good),
        1 => Just(Ending::Lost),
        1 => Just(Ending::NotKept),
        1 => Just(Ending::Killed),
    ];
    let step = prop_oneof![
        6 => any::<bool>().prop_map(|rotates| Step::Ask { rotates }),
        6 => (0usize..3, ending).prop_map(|(which, ending)| Step::Answer(which, ending)),
        1 => any::<bool>().prop_map(|same| Step::SignIn { same }),
        2 => (0u8..3).prop_map(Step::Configure),
        1 => (0u8..2).prop_map(Step::AskFor),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn nothing_old_overwrites_and_nothing_good_is_dropped(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.now = world.now.after(Duration::from_secs(1));
            let before = world.memory.clone();
            match step {
                Step::Ask { rotates } => world.ask(rotates),
                Step::Answer(which, ending) if which < world.under_way.len() => {
                    let (asked, used, next) = world.under_way[which].clone();
                    let counted = world.answer(which, ending);
                    if counted {
                        prop_assert_eq!(asked, before.generation);
                        let newest = next.unwrap_or_else(|| used.to_string());
                        prop_assert_eq!(world.memory.refresh_tokens()[0].to_string(), newest);
                    } else {
                        prop_assert!(world.memory == before);
                    }
                }
                Step::Answer(..) => {}
                Step::SignIn { same } => world.sign_in(if same { PERSON } else { "x@y.z" }),
                Step::Configure(which) => world.configure(which),
                Step::AskFor(which) => world.memory.ask_for(which.to_string()),
                Step::Restart => world.restart(),
            }
            prop_assert!(world.has_a_good_one());
        }
    }
}
