//! Stand-ins for Entra ID and Exchange Online on loopback, with real TLS: for the demo, for tests, and for
//! staging systems that must not touch the real services.
//!
//! They behave as `transport/smtp/exchange_online.md` describes: SMTP, IMAP and POP3, XOAUTH2 with the tokens
//! that the Entra stand-in issued, SendAs and the limits. A script can add faults. Mail sent to them is not
//! delivered anywhere.

pub(crate) mod entra;
pub(crate) mod exchange;
pub(crate) mod reading;
mod report;
pub(crate) mod script;
pub(crate) mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::base::tls;
use reading::Speaks;
pub use script::{Fault, FaultAction, FaultAnswer, FaultStage};
pub use state::{
    App, Delivered, SandboxLimits, SandboxMailbox, SandboxSettings, SandboxState, SharedSignIn,
    Stats, Stored,
};

/// The addresses to listen on. Port 0 means any free port.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Exchange's submission port.
    pub smtp: SocketAddr,
    /// Exchange's IMAP, with implicit TLS.
    pub imap: SocketAddr,
    /// Exchange's POP3, with implicit TLS.
    pub pop3: SocketAddr,
    /// Entra, over HTTPS.
    pub https: SocketAddr,
    /// Entra's introspection endpoint and the sandbox's own control endpoints, over HTTP.
    pub http: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            smtp: free,
            imap: free,
            pop3: free,
            https: free,
            http: free,
        }
    }
}

/// The running stand-ins. Dropping this value stops them.
pub struct Sandbox {
    /// The addresses on which the stand-ins listen.
    pub addresses: Addresses,
    /// The certificate that clients must trust for TLS, in PEM.
    pub ca: String,
    /// The data of the stand-ins, and the messages that have arrived.
    pub state: Arc<SandboxState>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts both stand-ins with a new certificate.
    pub async fn start(settings: SandboxSettings, at: Addresses) -> io::Result<Self> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let ca = made.cert.pem();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config =
            tls::server_config_of(vec![made.cert.der().clone()], key).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let state = Arc::new(SandboxState::new(settings));
        let (smtp, imap, pop3, https, http) = (
            TcpListener::bind(at.smtp).await?,
            TcpListener::bind(at.imap).await?,
            TcpListener::bind(at.pop3).await?,
            TcpListener::bind(at.https).await?,
            TcpListener::bind(at.http).await?,
        );
        let addresses = Addresses {
            smtp: smtp.local_addr()?,
            imap: imap.local_addr()?,
            pop3: pop3.local_addr()?,
            https: https.local_addr()?,
            http: http.local_addr()?,
        };
        let base_url = format!("https://localhost:{}", addresses.https.port());
        state.base_url.get_or_init(|| base_url);
        let tasks = vec![
            tokio::spawn(exchange::serve(smtp, acceptor.clone(), state.clone())),
            tokio::spawn(reading::serve(
                imap,
                acceptor.clone(),
                state.clone(),
                Speaks::Imap,
            )),
            tokio::spawn(reading::serve(
                pop3,
                acceptor.clone(),
                state.clone(),
                Speaks::Pop3,
            )),
            tokio::spawn(entra::serve_tls(https, acceptor, state.clone())),
            tokio::spawn(entra::serve(http, state.clone())),
        ];
        Ok(Self {
            addresses,
            ca,
            state,
            tasks,
        })
    }

    /// Returns the URL of the token endpoint, for a configuration.
    pub fn token_url(&self) -> String {
        self.endpoint("token")
    }

    /// Returns the URL of one of Entra's endpoints: `token`, `authorize`, `devicecode`.
    pub fn endpoint(&self, name: &str) -> String {
        let tenant = &self.state.settings.tenant;
        format!("{}/{tenant}/oauth2/v2.0/{name}", self.state.base_url())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
