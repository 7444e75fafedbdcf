//! Exchange Online's IMAP and POP3, as far as an app needs them that reads an INBOX.

mod client;
mod imap;
mod pop3;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::state::SandboxState;
use client::Client;

/// The protocol that a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Imap,
    Pop3,
}

/// Serves clients with implicit TLS.
pub(super) async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    state: Arc<SandboxState>,
    speaks: Speaks,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let client = Client {
                stream,
                state,
                input: BytesMut::new(),
                output: Vec::new(),
            };
            // A client that disconnects is not an error.
            let _ = match speaks {
                Speaks::Imap => imap::converse(client).await,
                Speaks::Pop3 => pop3::converse(client).await,
            };
        });
    }
}
