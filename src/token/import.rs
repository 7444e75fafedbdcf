//! A refresh token that another tool has obtained, in the format of that tool's file.

use std::collections::HashMap;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::base::Secret;
use crate::base::secret::ExposeSecret;

/// The reason why a text has no usable refresh token. The messages contain none of the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ImportError {
    /// The text is JSON, but in no known format.
    #[error(
        "it is JSON without a `refresh_token`, and not an MSAL cache either; write only the refresh token into the file"
    )]
    UnknownJson,
    /// An MSAL cache of another app.
    #[error(
        "the MSAL cache has no refresh token for client_id {0}: a refresh token can be used only by the app that it was issued to"
    )]
    OtherApp(String),
    /// An MSAL cache of several accounts, none of them the server's.
    #[error(
        "the MSAL cache has several accounts, and none is {0}: write only that account's refresh token into the file"
    )]
    OtherAccount(String),
    /// The text is neither JSON nor a single word.
    #[error(
        "it is not a refresh token, which is one word without spaces; write only the refresh token into the file"
    )]
    NotOneWord,
}

/// The format that many tools write: the token endpoint's response, sometimes with more fields.
#[derive(Deserialize)]
struct KeptResponse {
    refresh_token: Zeroizing<String>,
}

/// The cache of Microsoft's own libraries (MSAL, unified schema).
#[derive(Deserialize)]
struct Msal {
    #[serde(rename = "RefreshToken")]
    tokens: HashMap<String, MsalToken>,
    #[serde(rename = "Account", default)]
    accounts: HashMap<String, MsalAccount>,
}

#[derive(Deserialize)]
struct MsalAccount {
    home_account_id: String,
    username: String,
}

#[derive(Deserialize)]
struct MsalToken {
    client_id: String,
    home_account_id: Option<String>,
    secret: Zeroizing<String>,
}

/// Finds the refresh token in `text`: alone, or in JSON that has a `refresh_token`, or in an MSAL cache
/// that has one for the app `client_id` (and for the account `user` if there are several).
pub(crate) fn refresh_token(
    text: &Secret,
    client_id: &str,
    user: &str,
) -> Result<Secret, ImportError> {
    let text = text.expose_secret().trim();
    if !text.starts_with('{') {
        return one_word(text);
    }
    if let Ok(response) = serde_json::from_str::<KeptResponse>(text) {
        return one_word(&response.refresh_token);
    }
    let cache = serde_json::from_str::<Msal>(text).map_err(|_| ImportError::UnknownJson)?;
    let ours = |token: &&MsalToken| token.client_id.eq_ignore_ascii_case(client_id);
    let ours: Vec<&MsalToken> = cache.tokens.values().filter(ours).collect();
    match ours[..] {
        [] => Err(ImportError::OtherApp(client_id.to_owned())),
        [only] => one_word(&only.secret),
        _ => {
            let mut of_user = ours.into_iter().filter(|token| cache.is_of(token, user));
            let token = of_user.next().map(|token| one_word(&token.secret));
            token.ok_or_else(|| ImportError::OtherAccount(user.to_owned()))?
        }
    }
}

impl Msal {
    fn is_of(&self, token: &MsalToken, user: &str) -> bool {
        let mut accounts = self.accounts.values();
        accounts.any(|account| {
            token.home_account_id.as_ref() == Some(&account.home_account_id)
                && account.username.eq_ignore_ascii_case(user)
        })
    }
}

fn one_word(text: &str) -> Result<Secret, ImportError> {
    let is_one = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let word = is_one.then(|| text.to_owned().into());
    word.ok_or(ImportError::NotOneWord)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<String, ImportError> {
        let token = refresh_token(&text.to_owned().into(), "app-1", "b@x.org")?;
        Ok(token.expose_secret().to_owned())
    }

    #[test]
    fn is_found_in_every_form() {
        assert_eq!(found("1.AXoA-_~\n").unwrap(), "1.AXoA-_~");
        let response = r#"{"token_type":"Bearer","refresh_token":"r1","expires_in":"3599"}"#;
        assert_eq!(found(response).unwrap(), "r1");
        let token = |app: &str| {
            format!(
                r#"{{"AccessToken":{{}},"RefreshToken":{{"u.t-login.windows.net-refreshtoken-{app}--":
                {{"credential_type":"RefreshToken","secret":"r2","client_id":"{app}","home_account_id":"u.t"}}}}}}"#
            )
        };
        assert_eq!(found(&token("APP-1")).unwrap(), "r2");
        assert_eq!(
            found(&token("app-2")),
            Err(ImportError::OtherApp("app-1".into()))
        );
    }

    #[test]
    fn what_is_none_is_said_without_showing_it() {
        assert_eq!(
            found(r#"{"access_token":"a"}"#),
            Err(ImportError::UnknownJson)
        );
        assert_eq!(found(r#"{"refresh_token":"#), Err(ImportError::UnknownJson));
        assert_eq!(found("refresh = abc"), Err(ImportError::NotOneWord));
        assert_eq!(
            found(r#"{"refresh_token":""}"#),
            Err(ImportError::NotOneWord)
        );
    }
}
