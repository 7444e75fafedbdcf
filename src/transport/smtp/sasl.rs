//! The client side of SASL. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// Returns `user=U^Aauth=Bearer T^A^A` in base64. It must be sent after the 334: some servers refuse an AUTH
/// line that contains a token of the usual length.
pub(crate) fn xoauth2(username: &str, token: &str) -> Zeroizing<String> {
    let clear = Zeroizing::new(format!("user={username}\x01auth=Bearer {token}\x01\x01"));
    Zeroizing::new(BASE64_STANDARD.encode(clear.as_bytes()))
}

/// Returns the only message of SASL PLAIN, in base64 (RFC 4616 §2).
pub(crate) fn plain(username: &str, password: &str) -> Zeroizing<String> {
    let clear = Zeroizing::new(format!("\0{username}\0{password}"));
    Zeroizing::new(BASE64_STANDARD.encode(clear.as_bytes()))
}

/// Returns one response of LOGIN, in base64.
pub(crate) fn login(text: &str) -> Zeroizing<String> {
    Zeroizing::new(BASE64_STANDARD.encode(text))
}

/// Returns the text of an error challenge, if it has one. Some providers send JSON in base64, others nothing.
pub(crate) fn challenge_detail(text: &str) -> Option<String> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(text.trim()).ok()?).ok()?;
    let shown: String = decoded
        .chars()
        .filter(|c| !c.is_control())
        .take(500)
        .collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_xoauth2_as_microsoft_documents_it() {
        let sent = xoauth2(
            "test@contoso.onmicrosoft.com",
            "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA",
        );
        assert_eq!(
            sent.as_str(),
            "dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ=="
        );
    }

    #[test]
    fn reads_the_error_challenge() {
        let json = r#"{"status":"401"}"#;
        assert_eq!(
            challenge_detail(&BASE64_STANDARD.encode(json)).unwrap(),
            json
        );
        assert_eq!(challenge_detail("not base64!"), None);
    }
}
