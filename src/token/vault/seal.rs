//! An account's file: its content is sealed with the key, and the account's name is authenticated with it.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{VERSION, VaultError, io};
use super::kept::Kept;
use crate::token::state::Account;

/// The content of the file on disk.
#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    account: String,
    nonce: String,
    sealed: String,
}

pub(super) fn seal(cipher: &XChaCha20Poly1305, account: &str, state: &Account) -> Vec<u8> {
    let clear = Zeroizing::new(serde_json::to_vec(&Kept::from(state)).expect("plain data"));
    let nonce = XNonce::generate();
    let payload = Payload {
        msg: &clear,
        aad: account.as_bytes(),
    };
    let data = cipher
        .encrypt(&nonce, payload)
        .expect("shorter than 256 GB");
    let sealed = Sealed {
        version: VERSION,
        account: account.to_owned(),
        nonce: BASE64_STANDARD.encode(nonce),
        sealed: BASE64_STANDARD.encode(data),
    };
    serde_json::to_vec(&sealed).expect("texts and a number")
}

pub(super) fn unseal_file(
    cipher: &XChaCha20Poly1305,
    path: &Path,
) -> Result<(String, Account), VaultError> {
    let text = std::fs::read(path).map_err(|error| io(path, error))?;
    let wrong = |_| VaultError::WrongKey(path.display().to_string());
    let sealed: Sealed = serde_json::from_slice(&text).map_err(wrong)?;
    let state = unseal(cipher, path, &text, &sealed.account)?;
    Ok((sealed.account, state))
}

pub(super) fn unseal(
    cipher: &XChaCha20Poly1305,
    path: &Path,
    text: &[u8],
    account: &str,
) -> Result<Account, VaultError> {
    let shown = path.display().to_string();
    let wrong = || VaultError::WrongKey(shown.clone());
    let sealed: Sealed = serde_json::from_slice(text).map_err(|_| wrong())?;
    if sealed.version > VERSION {
        return Err(VaultError::Newer {
            path: shown,
            found: sealed.version,
        });
    }
    let nonce = BASE64_STANDARD.decode(&sealed.nonce).map_err(|_| wrong())?;
    let nonce = XNonce::try_from(nonce.as_slice()).map_err(|_| wrong())?;
    let data = BASE64_STANDARD.decode(&sealed.sealed);
    let payload = Payload {
        msg: &data.map_err(|_| wrong())?,
        aad: account.as_bytes(),
    };
    let clear = Zeroizing::new(cipher.decrypt(&nonce, payload).map_err(|_| wrong())?);
    let kept: Kept = serde_json::from_slice(&clear).map_err(|_| wrong())?;
    Ok(kept.into())
}

pub(super) fn cipher(key: &str, place: &str) -> Result<XChaCha20Poly1305, VaultError> {
    let bad = || VaultError::BadKey(place.to_owned());
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(key.trim()).map_err(|_| bad())?);
    XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| bad())
}
