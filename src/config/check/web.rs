//! `[web]`: the page's addresses, and the people who may log in.

use std::collections::HashSet;
use std::path::PathBuf;

use toml::Spanned;

use super::checker::Checker;
use crate::base::secret::ExposeSecret;
use crate::config::settings::Secrets;
use crate::config::text;
use crate::door::password::Hash;
use crate::web::{PageSettings, Person};

impl Checker<'_> {
    pub(super) fn web(&mut self, web: &Option<text::WebTable>) -> Option<PageSettings> {
        let web = web.as_ref()?;
        let address = *web.address.get_ref();
        let certificate = self.certificate_of_page(web);
        if !address.ip().is_loopback() && !web.proxy && certificate.is_none() {
            let text = format!(
                "{address} is not on loopback, and the page has no TLS; write 127.0.0.1:PORT, or add certificate and key, or put a proxy with TLS in front of \
                 the page, and say so: proxy = true and external_url = \"https://HOST\""
            );
            self.problem(web.address.span(), "[web] address", text);
        }
        if web.proxy && web.external_url.is_none() {
            let text = "proxy = true needs external_url, the page's https:// address at the proxy";
            self.problem(web.address.span(), "[web]", text);
        }
        let external_url = web.external_url.as_ref().map(|url| {
            if url.get_ref().scheme() != "https" {
                let text =
                    "the page would cross the network unencrypted; write an https:// address";
                self.problem(url.span(), "[web] external_url", text);
            }
            let plain = url.get_ref();
            let is_plain = plain.path() == "/"
                && plain.query().is_none()
                && plain.fragment().is_none()
                && plain.username().is_empty();
            if !is_plain {
                let text =
                    "the page needs its own host name, without a path and a user name; write https://HOST";
                self.problem(url.span(), "[web] external_url", text);
            }
            url.get_ref().clone()
        });
        let settings = PageSettings {
            address,
            external_url,
            certificate,
        };
        if let Some(Err(error)) = settings.tls() {
            let span = web.certificate.as_ref().map(Spanned::span);
            self.problem(span.unwrap_or_default(), "[web] certificate", error);
        }
        Some(settings)
    }

    /// Returns the files of the page's certificate and key, which belong together.
    fn certificate_of_page(&mut self, web: &text::WebTable) -> Option<(PathBuf, PathBuf)> {
        match (&web.certificate, &web.key) {
            (Some(chain), Some(key)) => {
                Some((self.beside(chain.get_ref()), self.beside(key.get_ref())))
            }
            (Some(only), None) => {
                let text = "a certificate needs its key; add key = \"FILE\"";
                self.problem(only.span(), "[web] certificate", text);
                None
            }
            (None, Some(only)) => {
                let text = "a key needs its certificate; add certificate = \"FILE\"";
                self.problem(only.span(), "[web] key", text);
                None
            }
            (None, None) => None,
        }
    }

    /// Checks the people who may log in. If secrets are not read, there are none.
    pub(super) fn people(&mut self, web: &Option<text::WebTable>) -> Vec<Person> {
        let (mut names, mut people) = (HashSet::new(), Vec::new());
        for table in web.iter().flat_map(|web| &web.user) {
            let (name, password) = (&table.name, &table.password);
            let key = format!("[[web.user]] {:?}", name.get_ref());
            if name.get_ref().trim().is_empty() || !names.insert(name.get_ref().clone()) {
                self.problem(
                    name.span(),
                    &key,
                    "the name is empty, or two people have it; choose another one",
                );
            }
            let hash = self.secret(&Some(password.clone()), &format!("{key} password"));
            let hash = hash.filter(|_| self.secrets != Secrets::Left);
            let Some(hash) = hash.filter(|hash| !hash.expose_secret().is_empty()) else {
                continue;
            };
            match Hash::parse(hash.expose_secret()) {
                Some(hash) => people.push(Person {
                    name: name.get_ref().clone(),
                    hash,
                    role: table.role,
                }),
                None => {
                    let text =
                        "it is not an argon2id hash; make one with `mailferry hash-password`";
                    self.problem(password.span(), &format!("{key} password"), text);
                }
            }
        }
        people
    }
}
