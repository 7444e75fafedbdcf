//! Settings that are valid, but most likely mistakes. Each one gives a warning with a remedy.

use super::checker::Checker;
use crate::base::Service;
use crate::config::ServerConfig;
use crate::config::text;
use crate::message::address;
use crate::routing::ServerRule;
use crate::transport::Tls;

/// Values from the examples that come with mailferry.
const EXAMPLES: [&str; 3] = [
    // From `mailferry setup`, until the script has printed the real one.
    "00000000-0000-0000-0000-000000000000",
    "contoso.onmicrosoft.com",
    "11111111-2222-3333-4444-555555555555",
];

/// The port for implicit TLS (RFC 8314 §7.3).
const IMPLICIT_TLS: u16 = 465;

impl Checker<'_> {
    /// Warns of settings of servers and app registrations that are most likely mistakes.
    pub(super) fn doubtful(
        &mut self,
        file: &text::File,
        servers: &[ServerConfig],
        rules: &[ServerRule],
    ) {
        for (name, oauth) in &file.oauth {
            let values = [
                ("tenant", oauth.tenant.as_ref().map(|value| value.get_ref())),
                ("client_id", Some(oauth.client_id.get_ref())),
            ];
            for (key, value) in values {
                if let Some(value) = value.filter(|value| EXAMPLES.contains(&value.as_str())) {
                    self.warnings.push(format!(
                        "[oauth.{}] {key}: {value} is only an example; write your own, from the Entra admin center",
                        name.get_ref()
                    ));
                }
            }
        }
        for text in &file.server {
            self.filter_of(text);
        }
        for server in servers {
            let rule = rules.iter().find(|rule| rule.name == server.name);
            let warnings = rule.into_iter().flat_map(|rule| of_server(server, rule));
            self.warnings.extend(warnings);
        }
    }

    /// Warns of parts of a filter that match nothing.
    fn filter_of(&mut self, server: &text::ServerTable) {
        let filter = server.from_filter.as_ref();
        let parts = filter.iter().flat_map(|filter| filter.get_ref().split(','));
        let name = server.name.get_ref();
        for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
            let domain = part
                .rsplit('@')
                .next()
                .unwrap_or(part)
                .trim_end_matches('>');
            let why = if part.contains('*') {
                "wildcards are not supported; write the domain alone to admit all of its addresses"
            } else if address::normal_domain(domain).is_none() {
                "this is not a domain; separate the parts with commas"
            } else if !domain.contains('.') && !domain.starts_with('[') && domain != "localhost" {
                "that domain has no dot; is its end missing?"
            } else {
                continue;
            };
            self.warnings.push(format!(
                "[[server]] {name:?} from_filter: {part:?} matches no sender: {why}"
            ));
        }
    }
}

fn of_server(server: &ServerConfig, rule: &ServerRule) -> Vec<String> {
    let mut warnings = Vec::new();
    let ServerConfig {
        name,
        smtp: Some(smtp),
        ..
    } = server
    else {
        return warnings;
    };
    if smtp.remote.tls == Tls::Starttls && smtp.remote.port == IMPLICIT_TLS {
        warnings.push(format!(
            "[[server]] {name:?} tls: port 465 expects implicit TLS; write tls = \"implicit\", or port = 587"
        ));
    }
    let (Some(filter), Some(address)) = (&rule.filter, &rule.address) else {
        return warnings;
    };
    if !filter.admits(address) {
        warnings.push(format!(
            "[[server]] {name:?} from_filter: the server's own address {address} is not in it, so mail from {address} goes through another \
             server, or is refused; add it"
        ));
    }
    let domains = filter.domains();
    if smtp.service == Service::ExchangeOnline && !domains.is_empty() {
        let domains = domains.join(", ");
        warnings.push(format!(
            "[[server]] {name:?} from_filter: it admits all addresses of {domains}, but Exchange refuses those for which {address} has no Send As \
             permission; grant it (Add-RecipientPermission), or list only the addresses that {address} may send as"
        ));
    }
    warnings
}
