//! What is known of providers, so that a configuration need not say it (`exchange-online.md`,
//! "Endpoints"). Each value can be overridden.

use serde::Deserialize;

use crate::token::Grant;

/// A mail provider with OAuth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Microsoft 365, worldwide cloud.
    #[default]
    Microsoft,
    /// Google Workspace.
    Google,
    /// Any other: everything is spelled out.
    Custom,
}

impl Provider {
    /// The SMTP submission host; port 587 with STARTTLS goes with it.
    pub fn host(self) -> Option<&'static str> {
        match self {
            Self::Microsoft => Some("smtp.office365.com"),
            Self::Google => Some("smtp.gmail.com"),
            Self::Custom => None,
        }
    }

    /// The token endpoint; Microsoft's is the tenant's.
    pub fn token_url(self, tenant: &str) -> Option<String> {
        match self {
            Self::Microsoft => Some(format!(
                "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
            )),
            Self::Google => Some("https://oauth2.googleapis.com/token".into()),
            Self::Custom => None,
        }
    }

    /// What to ask for. Never Graph's scopes: its tokens are not for SMTP.
    pub fn scopes(self, grant: Grant) -> Vec<String> {
        let scopes: &[&str] = match (self, grant) {
            (Self::Microsoft, Grant::ClientCredentials) => {
                &["https://outlook.office365.com/.default"]
            }
            (Self::Microsoft, Grant::RefreshToken) => {
                &["https://outlook.office.com/SMTP.Send", "offline_access"]
            }
            (Self::Google, _) => &["https://mail.google.com/"],
            (Self::Custom, _) => &[],
        };
        scopes.iter().map(|scope| (*scope).to_owned()).collect()
    }

    /// Sessions at once with one mailbox (`exchange-online.md`, "Limits per mailbox").
    pub fn sessions(self) -> usize {
        match self {
            Self::Microsoft | Self::Google => 3,
            Self::Custom => 4,
        }
    }
}
