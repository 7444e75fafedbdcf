//! Preset values for known providers, so that a configuration can omit them
//! (`transport/smtp/exchange_online.md`, "Endpoints"). Each value can be overridden.

use serde::Deserialize;

use crate::delivery::MailboxLimits;
use crate::incoming::ReadingProtocol;
use crate::token::{Grant, Scopes};

/// A Microsoft cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cloud {
    /// The worldwide cloud, for every tenant that is in none of the others.
    #[default]
    Worldwide,
    /// US Government, GCC High.
    Usgov,
    /// US Department of Defense.
    Dod,
    /// China, operated by 21Vianet.
    China,
}

/// True for a host at which Entra ID signs people in.
pub(crate) fn is_entra(host: &str) -> bool {
    let clouds = [Cloud::Worldwide, Cloud::Usgov, Cloud::Dod, Cloud::China];
    clouds.iter().any(|cloud| cloud.authority() == host)
}

impl Cloud {
    fn authority(self) -> &'static str {
        match self {
            Self::Worldwide => "login.microsoftonline.com",
            Self::Usgov | Self::Dod => "login.microsoftonline.us",
            Self::China => "login.partner.microsoftonline.cn",
        }
    }

    fn smtp(self) -> &'static str {
        match self {
            Self::Worldwide => "smtp.office365.com",
            Self::Usgov => "smtp.office365.us",
            Self::Dod => "outlook-dod.office365.us",
            Self::China => "smtp.partner.outlook.cn",
        }
    }

    fn reading(self) -> &'static str {
        match self {
            Self::Worldwide => "outlook.office365.com",
            Self::Usgov => "outlook.office365.us",
            Self::Dod => "outlook-dod.office365.us",
            Self::China => "partner.outlook.cn",
        }
    }

    /// Returns the hosts that scope names contain: the host for user sign-ins, and the host for app-only
    /// tokens.
    fn resources(self) -> (&'static str, &'static str) {
        match self {
            Self::Worldwide => ("outlook.office.com", "outlook.office365.com"),
            Self::Usgov | Self::Dod => ("outlook.office365.us", "outlook.office365.us"),
            Self::China => ("partner.outlook.cn", "partner.outlook.cn"),
        }
    }
}

/// The values of High Volume Email (`transport/smtp/exchange_online.md`, "High Volume Email").
pub(crate) mod high_volume_email {
    use crate::delivery::MailboxLimits;

    /// The host for submission.
    pub(crate) const HOST: &str = "smtp.hve.mx.microsoft";

    /// The largest message, in octets.
    pub(crate) const MESSAGE_SIZE: u64 = 10 * 1024 * 1024;

    /// The limits of an account. Microsoft documents none on sessions, minutes and days.
    pub(crate) const LIMITS: MailboxLimits = MailboxLimits {
        sessions: 3,
        per_minute: None,
        per_day: None,
        recipients: 50,
    };
}

/// An endpoint of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OAuthEndpoint {
    /// The token endpoint.
    Token,
    /// The authorization endpoint, which the browser opens.
    Authorize,
    /// The device authorization endpoint.
    Device,
}

/// A mail provider with OAuth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    /// Microsoft 365.
    #[default]
    Microsoft,
    /// Google Workspace.
    Google,
    /// Any other provider: its hosts, endpoints and scopes are in the configuration.
    Custom,
}

impl Provider {
    /// Returns the SMTP submission host, for port 587 with STARTTLS. Personal accounts (tenant `consumers`)
    /// have a host of their own.
    pub(crate) fn host(self, cloud: Cloud, tenant: &str) -> Option<&'static str> {
        match self {
            Self::Microsoft if tenant == "consumers" => Some("smtp-mail.outlook.com"),
            Self::Microsoft => Some(cloud.smtp()),
            Self::Google => Some("smtp.gmail.com"),
            Self::Custom => None,
        }
    }

    /// Returns the host for a protocol by which mail is read, for implicit TLS.
    pub(crate) fn reading_host(
        self,
        protocol: ReadingProtocol,
        cloud: Cloud,
    ) -> Option<&'static str> {
        match (self, protocol) {
            (Self::Microsoft, _) => Some(cloud.reading()),
            (Self::Google, ReadingProtocol::Imap) => Some("imap.gmail.com"),
            (Self::Google, ReadingProtocol::Pop3) => Some("pop.gmail.com"),
            (Self::Custom, _) => None,
        }
    }

    /// Returns the URL of an endpoint; Microsoft's URLs contain the tenant. The authorization URL always asks
    /// the user to choose an account, because the browser may be signed in to several accounts. Google issues
    /// a refresh token only after the user consents, so Google's authorization URL also always asks for
    /// consent.
    pub(crate) fn endpoint(
        self,
        endpoint: OAuthEndpoint,
        cloud: Cloud,
        tenant: &str,
    ) -> Option<String> {
        let microsoft = |path| format!("https://{}/{tenant}/oauth2/v2.0/{path}", cloud.authority());
        Some(match (self, endpoint) {
            (Self::Microsoft, OAuthEndpoint::Token) => microsoft("token"),
            (Self::Microsoft, OAuthEndpoint::Authorize) => microsoft("authorize?prompt=select_account"),
            (Self::Microsoft, OAuthEndpoint::Device) => microsoft("devicecode"),
            (Self::Google, OAuthEndpoint::Token) => "https://oauth2.googleapis.com/token".into(),
            (Self::Google, OAuthEndpoint::Authorize) => {
                "https://accounts.google.com/o/oauth2/v2/auth?access_type=offline&prompt=select_account%20consent".into()
            }
            (Self::Google, OAuthEndpoint::Device) => "https://oauth2.googleapis.com/device/code".into(),
            (Self::Custom, _) => return None,
        })
    }

    /// Returns the scopes to request of a server that is used for sending or for these protocols. Microsoft
    /// Graph scopes are never requested, because SMTP, IMAP and POP3 do not accept Graph tokens. `openid`
    /// with `profile` or `email` shows who signed in.
    pub(crate) fn scopes(
        self,
        grant: Grant,
        cloud: Cloud,
        sends: bool,
        reads: &[ReadingProtocol],
    ) -> Scopes {
        let (user, app) = cloud.resources();
        let common: &[&str] = match (self, grant) {
            (Self::Microsoft, Grant::ClientCredentials) => {
                return Scopes::of(vec![format!("https://{app}/.default")]);
            }
            // The tool that the token is imported from must have obtained these scopes. Any other scope could
            // need new consent.
            (Self::Microsoft, Grant::RefreshToken) => &["offline_access"],
            (Self::Microsoft, Grant::AuthorizationCode | Grant::DeviceCode) => {
                &["offline_access", "openid", "profile"]
            }
            (Self::Google, Grant::AuthorizationCode | Grant::DeviceCode) => {
                &["https://mail.google.com/", "openid", "email"]
            }
            (Self::Google, Grant::ClientCredentials | Grant::RefreshToken) => {
                &["https://mail.google.com/"]
            }
            (Self::Custom, _) => &[],
        };
        let mut scopes = Scopes::of(common.iter().map(|scope| (*scope).to_owned()).collect());
        if self == Self::Microsoft {
            let sending = sends.then(|| format!("https://{user}/SMTP.Send"));
            scopes.sending.extend(sending);
            let reading = reads.iter().map(|protocol| match protocol {
                ReadingProtocol::Imap => format!("https://{user}/IMAP.AccessAsUser.All"),
                ReadingProtocol::Pop3 => format!("https://{user}/POP.AccessAsUser.All"),
            });
            scopes.reading.extend(reading);
        }
        scopes
    }

    /// Returns the limits of one mailbox (`transport/smtp/exchange_online.md`, "Limits per mailbox"; Google
    /// allows 2,000 recipients a day, and 100 per message by SMTP).
    pub(crate) fn limits(self) -> MailboxLimits {
        match self {
            Self::Microsoft => MailboxLimits {
                sessions: 3,
                per_minute: Some(30),
                per_day: Some(10_000),
                recipients: 500,
            },
            Self::Google => MailboxLimits {
                sessions: 3,
                per_minute: None,
                per_day: Some(2_000),
                recipients: 100,
            },
            Self::Custom => MailboxLimits {
                sessions: 4,
                per_minute: None,
                per_day: None,
                recipients: 1_000,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_and_personal_accounts_have_their_hosts() {
        let host = |cloud, tenant| Provider::Microsoft.host(cloud, tenant).unwrap();
        assert_eq!(host(Cloud::Worldwide, "common"), "smtp.office365.com");
        assert_eq!(host(Cloud::Worldwide, "consumers"), "smtp-mail.outlook.com");
        assert_eq!(host(Cloud::China, "t"), "smtp.partner.outlook.cn");
        let token = Provider::Microsoft.endpoint(OAuthEndpoint::Token, Cloud::Usgov, "t");
        assert_eq!(
            token.unwrap(),
            "https://login.microsoftonline.us/t/oauth2/v2.0/token"
        );
    }
}
