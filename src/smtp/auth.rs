//! SASL PLAIN (RFC 4616) and LOGIN on the server side.

use base64::Engine;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use crate::base::Secret;

/// `Username:` in base64, exactly as old firmware expects it.
pub const USERNAME_PROMPT: &str = "VXNlcm5hbWU6";
/// `Password:` in base64.
pub const PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

/// Standard alphabet. Padding is optional, because some devices omit it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// A name and a password to be checked.
#[derive(Debug)]
pub struct Credentials {
    /// The user's name.
    pub name: String,
    /// The password as the client sent it.
    pub password: Secret,
}

/// Decodes a base64 response; `=` stands for an empty response (RFC 4954 §4).
pub fn decode(response: &str) -> Option<String> {
    let response = response.trim();
    if response == "=" {
        return Some(String::new());
    }
    String::from_utf8(BASE64.decode(response).ok()?).ok()
}

/// Parses PLAIN: `authorization NUL name NUL password`. Acting for another user is not offered, so the
/// authorization identity must be empty or equal to the name.
pub fn plain(response: &str) -> Option<Credentials> {
    let text = decode(response)?;
    let mut parts = text.split('\0');
    let (authorization, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    let acts_for_itself = authorization.is_empty() || authorization == name;
    (parts.next().is_none() && acts_for_itself && !name.is_empty()).then(|| Credentials {
        name: name.to_owned(),
        password: password.to_owned().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::ExposeSecret;

    #[test]
    fn the_prompts_are_what_they_say() {
        assert_eq!(decode(USERNAME_PROMPT).unwrap(), "Username:");
        assert_eq!(decode(PASSWORD_PROMPT).unwrap(), "Password:");
    }

    #[test]
    fn reads_plain() {
        let encode = |text: &str| BASE64.encode(text);
        let credentials = plain(&encode("\0erp\0pä ss")).unwrap();
        assert_eq!(credentials.name, "erp");
        assert_eq!(credentials.password.expose_secret(), "pä ss");
        assert!(plain(&encode("erp\0erp\0p")).is_some());
        for text in ["", "\0erp", "boss\0erp\0p", "\0\0p", "\0erp\0p\0q"] {
            assert!(plain(&encode(text)).is_none(), "{text:?}");
        }
        assert!(plain("not base64!").is_none());
    }

    #[test]
    fn a_password_is_not_shown() {
        let credentials = plain("AGVycABzZWNyZXQ=").unwrap();
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
