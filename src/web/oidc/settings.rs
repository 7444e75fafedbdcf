//! The page's registration at an OpenID provider, and what its people may do. Pure.

use crate::base::Secret;
use crate::operator::Role;

/// The path to which the provider sends the browser back. It is part of the app's registration.
pub(in crate::web) const RETURN: &str = "/log-in/return";

/// The path at which a sign-in begins.
pub(in crate::web) const BEGIN: &str = "/log-in/begin";

/// The app's registration at the provider, and the people who may use the page (`[web.oidc]`).
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// The provider's issuer identifier, exactly as its ID tokens contain it.
    pub issuer: String,
    /// The app's client id.
    pub client_id: String,
    /// The app's client secret, if it has one.
    pub client_secret: Option<Secret>,
    /// The claim of the ID token that `administrators` and `readers` are compared with.
    pub claim: String,
    /// The values of the claim that make a person an administrator.
    pub administrators: Vec<String>,
    /// The values of the claim that let a person read.
    pub readers: Vec<String>,
}

/// A person who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Identity {
    /// The issuer of the person's ID token.
    pub(in crate::web) issuer: String,
    /// The app that the ID token was for.
    pub(in crate::web) client_id: String,
    /// The name to show.
    pub(in crate::web) name: String,
    /// The provider's identifier of the person, which no other person gets.
    pub(in crate::web) subject: String,
    /// The claim that decides what the person may do.
    pub(in crate::web) claim: String,
    /// The claim's values.
    pub(in crate::web) values: Vec<String>,
}

impl OidcSettings {
    /// Returns the role of a person; `None` if the person may not use the page, or signed in elsewhere.
    pub(in crate::web) fn role(&self, person: &Identity) -> Option<Role> {
        let signed_in = (&person.issuer, &person.client_id, &person.claim);
        if signed_in != (&self.issuer, &self.client_id, &self.claim) {
            return None;
        }
        let is_among = |listed: &[String]| {
            let mut listed = listed.iter();
            listed.any(|wanted| person.values.iter().any(|value| is_same(wanted, value)))
        };
        if is_among(&self.administrators) {
            return Some(Role::Administrator);
        }
        is_among(&self.readers).then_some(Role::ReadOnly)
    }

    /// Returns the provider's host name, for people.
    pub(in crate::web) fn host(&self) -> &str {
        let after = self.issuer.split("//").nth(1).unwrap_or(&self.issuer);
        after.split('/').next().unwrap_or(after)
    }
}

/// True if the two are the same value of a claim. User names are addresses, in which case does not matter.
fn is_same(wanted: &str, value: &str) -> bool {
    wanted == value || wanted.contains('@') && wanted.eq_ignore_ascii_case(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OidcSettings {
        OidcSettings {
            issuer: "https://login.example.com/t/v2.0".into(),
            client_id: "page".into(),
            client_secret: None,
            claim: "preferred_username".into(),
            administrators: vec!["Jane@example.com".into()],
            readers: vec!["joe@example.com".into(), "jane@example.com".into()],
        }
    }

    fn person(value: &str) -> Identity {
        let settings = settings();
        Identity {
            issuer: settings.issuer,
            client_id: settings.client_id,
            name: value.into(),
            subject: "1".into(),
            claim: settings.claim,
            values: vec![value.into()],
        }
    }

    #[test]
    fn only_listed_people_have_a_role_and_the_greater_one_counts() {
        let role = |value| settings().role(&person(value));
        assert_eq!(role("jane@example.com"), Some(Role::Administrator));
        assert_eq!(role("joe@example.com"), Some(Role::ReadOnly));
        assert_eq!(role("jack@example.com"), None);
        assert_eq!(role(""), None);
    }

    #[test]
    fn a_person_of_another_issuer_app_or_claim_has_no_role() {
        let jane = person("jane@example.com");
        let others = [
            Identity {
                issuer: "https://login.example.com/other/v2.0".into(),
                ..jane.clone()
            },
            Identity {
                client_id: "another".into(),
                ..jane.clone()
            },
            Identity {
                claim: "email".into(),
                ..jane
            },
        ];
        for other in others {
            assert_eq!(settings().role(&other), None, "{other:?}");
        }
    }

    #[test]
    fn people_are_told_the_providers_host() {
        assert_eq!(settings().host(), "login.example.com");
    }
}
