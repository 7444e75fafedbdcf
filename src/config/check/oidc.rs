//! `[web.oidc]`: the OpenID provider at which people sign in to the page.

use std::sync::Arc;

use url::Url;

use super::checker::Checker;
use super::oauth::{SHARED_TENANTS, is_guid, is_loopback};
use crate::config::preset;
use crate::config::text;
use crate::web::OidcSettings;

/// The end of the issuer identifiers of Entra ID's endpoints of version 2.0.
const VERSION: &str = "/v2.0";

/// The tenant id of all personal accounts of Microsoft.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// The claim of Entra ID with the user name, which only administrators of the tenant change.
const USER_NAME: &str = "preferred_username";

/// The standard claims that say nothing that a person's rights may depend on (OpenID Connect Core §2 and §5.1).
const OTHER_CLAIMS: [&str; 30] = [
    "iss",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "azp",
    "at_hash",
    "c_hash",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "profile",
    "picture",
    "website",
    "email_verified",
    "gender",
    "birthdate",
    "birthday",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
    "",
];

impl Checker<'_> {
    pub(super) fn oidc(&mut self, web: &Option<text::WebTable>) -> Option<Arc<OidcSettings>> {
        let web = web.as_ref()?;
        let oidc = web.oidc.as_ref()?;
        let (table, span) = (oidc.get_ref(), oidc.span());
        let is_entra = self.issuer(table);
        let claim = self.claim(table, is_entra.unwrap_or(true));
        let secret = self.secret(&table.client_secret, "[web.oidc] client_secret");
        if table.client_id.get_ref().trim().is_empty() {
            let text = "it is empty; write the application (client) id";
            self.problem(table.client_id.span(), "[web.oidc] client_id", text);
        }
        let mut people = table.administrators.iter().chain(&table.readers);
        if people.clone().next().is_none() || people.any(|person| person.trim().is_empty()) {
            let text = "nobody could sign in at the provider, or a name is empty; write administrators = [\"NAME@DOMAIN\"] or readers";
            self.problem(span.clone(), "[web.oidc]", text);
        }
        if web.external_url.is_none() {
            let text = "it needs external_url in [web], the page's https:// address, to which the provider sends the browser back";
            self.problem(span, "[web.oidc]", text);
        }
        is_entra?;
        Some(Arc::new(OidcSettings {
            issuer: table.issuer.get_ref().clone(),
            client_id: table.client_id.get_ref().clone(),
            client_secret: secret,
            claim: claim?,
            administrators: table.administrators.clone(),
            readers: table.readers.clone(),
        }))
    }

    /// Checks the claim that decides about people. At other providers than Entra ID people may choose their own user
    /// names (OpenID Connect Core §5.7).
    fn claim(&mut self, table: &text::OidcTable, is_entra: bool) -> Option<String> {
        let key = "[web.oidc] claim";
        let Some(claim) = &table.claim else {
            if is_entra {
                return Some(USER_NAME.to_owned());
            }
            let text = "it is missing; write the claim that administrators and readers are compared with: \"sub\", \"email\" (counts if verified), or one such as \"groups\". \"preferred_username\" is safe only if people cannot choose their own user names";
            self.problem(table.issuer.span(), key, text);
            return None;
        };
        if OTHER_CLAIMS.contains(&claim.get_ref().as_str()) {
            let text = format!(
                "{:?} does not say who a person is; write \"sub\", \"preferred_username\", \"email\", or a claim of your provider's such as \"oid\", \"roles\" or \"groups\"",
                claim.get_ref()
            );
            self.problem(claim.span(), key, text);
            return None;
        }
        Some(claim.get_ref().clone())
    }

    /// Checks the issuer. Returns true if it is Entra ID, and `None` if it is wrong. An issuer of Entra ID must be one
    /// tenant: otherwise people of every tenant in the world could sign in, and choose their user names.
    fn issuer(&mut self, table: &text::OidcTable) -> Option<bool> {
        let (issuer, span) = (table.issuer.get_ref(), table.issuer.span());
        let key = "[web.oidc] issuer";
        let url = self.ok(issuer.parse::<Url>(), span.clone(), key)?;
        if url.scheme() != "https" && !is_loopback(&url) {
            let text = "sign-ins would cross the network unencrypted; write an https:// address";
            self.problem(span, key, text);
            return None;
        }
        if !url.username().is_empty() || url.query().is_some() || url.fragment().is_some() {
            let text = "an issuer has no user name, query or fragment; write https://HOST/PATH";
            self.problem(span, key, text);
            return None;
        }
        let host = url.host_str().unwrap_or_default();
        if !preset::is_entra(host) {
            return Some(false);
        }
        let tenant = url.path().trim_start_matches('/').strip_suffix(VERSION);
        let text = match tenant.unwrap_or_default() {
            shared if SHARED_TENANTS.contains(&shared) || shared == PERSONAL_ACCOUNTS => format!(
                "{shared:?} stands for many tenants or all personal accounts, so people whom you do not know could sign in; write https://{host}/TENANT-ID/v2.0"
            ),
            id if is_guid(id) => return Some(true),
            _ => format!(
                "write https://{host}/TENANT-ID/v2.0; TENANT-ID is the directory (tenant) id, not a domain"
            ),
        };
        self.problem(span, key, text);
        None
    }
}
