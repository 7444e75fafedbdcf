//! The stored form of an account, separate from its form in memory so that either can change without the
//! other.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::Timestamp;
use crate::token::state::{Account, Refresh, TokenOrigin};

/// The sealed part of a file, version 1. Its texts are wiped from memory when dropped.
#[derive(Serialize, Deserialize)]
pub(in crate::token) struct Kept {
    refresh: Option<KeptRefresh>,
    previous: Option<KeptRefresh>,
    origin: Option<TokenOrigin>,
    user: Option<String>,
    configured: Option<String>,
    request: Option<String>,
    access: Option<KeptAccess>,
    trouble: Option<String>,
    reading: Option<String>,
    reading_refused: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct KeptRefresh {
    token: Zeroizing<String>,
    since: Timestamp,
    is_proven: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptAccess {
    token: Zeroizing<String>,
    issued: Timestamp,
    expires: Timestamp,
}

impl From<&Account> for Kept {
    fn from(account: &Account) -> Self {
        let refresh = |refresh: &Option<Refresh>| {
            refresh.as_ref().map(|refresh| KeptRefresh {
                token: refresh.token.clone(),
                since: refresh.since,
                is_proven: refresh.is_proven,
            })
        };
        let access = account.access.as_ref();
        Self {
            refresh: refresh(&account.refresh),
            previous: refresh(&account.previous),
            origin: account.origin,
            user: account.user.clone(),
            configured: account.configured.clone(),
            request: account.request.clone(),
            access: access.map(|(token, issued, expires)| KeptAccess {
                token: token.clone(),
                issued: *issued,
                expires: *expires,
            }),
            trouble: account.trouble.clone(),
            reading: account.reading.clone(),
            reading_refused: account.reading_refused.clone(),
        }
    }
}

/// The generation starts anew, because no response to a request of an earlier run can arrive in this run.
impl From<Kept> for Account {
    fn from(kept: Kept) -> Self {
        let refresh = |kept: KeptRefresh| Refresh {
            token: kept.token,
            since: kept.since,
            is_proven: kept.is_proven,
        };
        Self {
            generation: 1,
            refresh: kept.refresh.map(refresh),
            previous: kept.previous.map(refresh),
            origin: kept.origin,
            user: kept.user,
            configured: kept.configured,
            request: kept.request,
            access: kept.access.map(|it| (it.token, it.issued, it.expires)),
            trouble: kept.trouble,
            reading: kept.reading,
            reading_refused: kept.reading_refused,
        }
    }
}
