//! Opens what email-oauth2-proxy keeps encrypted: Fernet (<https://github.com/fernet/spec/blob/master/Spec.md>), with a key
//! that is made from the account's password by PBKDF2.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;

use crate::base::Secret;
use crate::base::secret::ExposeSecret;

/// The length of a key: one half signs, the other half encrypts.
const KEY: usize = 32;

/// The first octet of a token, its version.
const VERSION: u8 = 0x80;

/// The octets before the encrypted text: the version, the time, and the initialization vector.
const TIME: usize = 8;
const VECTOR: usize = 16;
const BEFORE: usize = 1 + TIME + VECTOR;

/// The octets of the signature at the end.
const SIGNATURE: usize = 32;

/// Decrypts a token. Returns `None` if the password is wrong, or the token is damaged.
pub(super) fn decrypted(
    token: &str,
    password: &Secret,
    salt: &[u8],
    iterations: NonZeroU32,
) -> Option<Secret> {
    let mut key = [0; KEY];
    let password = password.expose_secret().as_bytes();
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password,
        &mut key,
    );
    let (signing, encrypting) = key.split_at(KEY / 2);

    let token = BASE64_URL_SAFE.decode(token).ok()?;
    let (signed, signature) = token.split_at_checked(token.len().checked_sub(SIGNATURE)?)?;
    let signing = hmac::Key::new(hmac::HMAC_SHA256, signing);
    hmac::verify(&signing, signed, signature).ok()?;
    let (before, text) = signed.split_at_checked(BEFORE)?;
    if before[0] != VERSION {
        return None;
    }
    let vector: [u8; VECTOR] = before[1 + TIME..].try_into().ok()?;
    let key = UnboundCipherKey::new(&AES_128, encrypting).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let mut text = text.to_vec();
    let vector = DecryptionContext::Iv128(FixedLength::from(vector));
    let text = key.decrypt(&mut text, vector).ok()?;
    String::from_utf8(text.to_vec()).ok().map(Secret::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `Cryptographer` of email-oauth2-proxy 2026.7.3.
    const TOKEN: &str = "gAAAAABrCSqpra0XxXSelMrEG98xZ5on4f4W61cF7NdEf1dGyWdY3Rj52ycAQBzQzQJeAGy8x67AkjcQMnUUzaAGS8ic_pumRw==";
    const SALT: &[u8] = b"0123456789abcdef";
    const ITERATIONS: NonZeroU32 = NonZeroU32::new(1_200_000).unwrap();

    #[test]
    fn only_the_password_opens_a_token() {
        let open = |password: &str| decrypted(TOKEN, &password.into(), SALT, ITERATIONS);
        assert_eq!(open("correct").unwrap().expose_secret(), "a refresh token");
        assert!(open("wrong").is_none());
        let bent = TOKEN.replace('A', "B");
        assert!(decrypted(&bent, &"correct".into(), SALT, ITERATIONS).is_none());
        for short in ["", "gAAA", "%"] {
            assert!(decrypted(short, &"correct".into(), SALT, ITERATIONS).is_none());
        }
    }
}
