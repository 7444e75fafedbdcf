//! `[web.oidc]`: the OpenID provider at which people sign in to the page.

use std::ops::Range;
use std::sync::Arc;

use url::Url;

use super::checker::Checker;
use super::oauth::{SHARED_TENANTS, is_guid, is_loopback};
use crate::config::preset;
use crate::config::text;
use crate::web::OidcSettings;

/// The end of the issuer identifiers of Entra ID's endpoints of version 2.0.
const VERSION: &str = "/v2.0";

impl Checker<'_> {
    pub(super) fn oidc(&mut self, web: &Option<text::WebTable>) -> Option<Arc<OidcSettings>> {
        let web = web.as_ref()?;
        let oidc = web.oidc.as_ref()?;
        let (table, span) = (oidc.get_ref(), oidc.span());
        let issuer = (table.issuer.get_ref(), table.issuer.span());
        let is_right = self.issuer(issuer.0, issuer.1);
        let secret = self.secret(&table.client_secret, "[web.oidc] client_secret");
        if table.administrators.is_empty() && table.readers.is_empty() {
            let text =
                "nobody could use the page; add administrators = [\"NAME@DOMAIN\"] or readers";
            self.problem(span.clone(), "[web.oidc]", text);
        }
        let Some(page) = &web.external_url else {
            let text = "it needs external_url in [web], the page's https:// address, to which the provider sends the browser back";
            self.problem(span, "[web.oidc]", text);
            return None;
        };
        is_right.then(|| {
            Arc::new(OidcSettings {
                issuer: table.issuer.get_ref().clone(),
                client_id: table.client_id.clone(),
                client_secret: secret.filter(|_| table.client_secret.is_some()),
                claim: table.claim.clone(),
                administrators: table.administrators.clone(),
                readers: table.readers.clone(),
                page: page.get_ref().clone(),
            })
        })
    }

    /// Checks an issuer. An issuer of Entra ID must be one tenant: otherwise people of every tenant in the world
    /// could sign in, and choose their user names.
    fn issuer(&mut self, issuer: &str, span: Range<usize>) -> bool {
        let key = "[web.oidc] issuer";
        let Some(url) = self.ok(issuer.parse::<Url>(), span.clone(), key) else {
            return false;
        };
        if url.scheme() != "https" && !is_loopback(&url) {
            let text = "sign-ins would cross the network unencrypted; write an https:// address";
            self.problem(span, key, text);
            return false;
        }
        if !preset::is_entra(url.host_str().unwrap_or_default()) {
            return true;
        }
        let tenant = url.path().trim_start_matches('/');
        let tenant = tenant.strip_suffix(VERSION).unwrap_or_default();
        let host = url.host_str().unwrap_or_default();
        let text = match tenant {
            shared if SHARED_TENANTS.contains(&shared) => format!(
                "{shared:?} stands for all tenants, so people whom you do not know could sign in; write https://{host}/TENANT-ID/v2.0"
            ),
            id if is_guid(id) => return true,
            _ => format!(
                "write https://{host}/TENANT-ID/v2.0; TENANT-ID is the directory (tenant) id, not a domain"
            ),
        };
        self.problem(span, key, text);
        false
    }
}
