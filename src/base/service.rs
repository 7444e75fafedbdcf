//! The service that a mail server belongs to: some replies and limits exist only at Microsoft.

/// The service that a mail server belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Service {
    /// Exchange Online, in any of Microsoft's clouds.
    ExchangeOnline,
    /// Any other server, such as a smarthost.
    #[default]
    Other,
}

impl Service {
    /// The domains of Microsoft's submission servers (`transport/smtp/exchange_online.md`, "Endpoints").
    const DOMAINS: [&str; 5] = [
        "outlook.com",
        "office365.com",
        "office365.us",
        "outlook.cn",
        "mx.microsoft",
    ];

    /// Returns the service of a host, as far as the host's name shows the service.
    pub fn at(host: &str) -> Self {
        let host = host.to_ascii_lowercase();
        let is_within = |domain: &str| {
            let rest = host.strip_suffix(domain);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if Self::DOMAINS.into_iter().any(is_within) {
            Self::ExchangeOnline
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_domain() {
        for (host, service) in [
            ("smtp.office365.com", Service::ExchangeOnline),
            ("smtp-mail.Outlook.com", Service::ExchangeOnline),
            ("smtp.hve.mx.microsoft", Service::ExchangeOnline),
            ("smtp.notoutlook.com", Service::Other),
            ("smtp.gmail.com", Service::Other),
            ("127.0.0.1", Service::Other),
        ] {
            assert_eq!(Service::at(host), service, "{host}");
        }
    }
}
