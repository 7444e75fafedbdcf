//! The other end of the API, for commands.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::accounts::{Attempt, Disconnected, Progress, Wish};
use super::queue::{Act, Whose};
use super::row::TokenRow;
use crate::base::secret::ExposeSecret;
use crate::base::{self, MessageId, Secret};
use crate::delivery::ServerState;
use crate::message::Address;
use crate::spool::{Entry, Page, Story};
use crate::transport::Step;

/// How long the running program may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a test of a server may take, all its steps together.
const TEST: Duration = Duration::from_secs(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The program does not run, or is not ours to ask.
    #[error("the running mailferry does not answer on its control socket: {0}")]
    Unreachable(String),
    /// This user may not reach it.
    #[error(
        "cannot reach mailferry's control socket {socket}: permission denied (you are {user}); run the command as the user that mailferry runs as, such as: sudo -u {owner} mailferry ..."
    )]
    NotAllowed {
        /// The socket.
        socket: String,
        /// Who asks.
        user: String,
        /// Whose the nearest folder is that can be seen.
        owner: String,
    },
    /// It said no, in these words.
    #[error("{0}")]
    Refused(String),
}

/// Asks the running program.
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// The program that listens on `socket`; none if no program does. It is an error if this user may not
    /// reach the socket.
    pub async fn connect(socket: &Path) -> Result<Option<Self>, ClientError> {
        match tokio::net::UnixStream::connect(socket).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(ClientError::NotAllowed {
                    socket: socket.display().to_string(),
                    user: base::user_name(),
                    owner: owner_of(socket),
                });
            }
            Err(_) => return Ok(None),
        }
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .timeout(ANSWER)
            .build();
        let http = http.map_err(unreachable)?;
        Ok(Some(Self { http }))
    }

    /// A part of the queue.
    pub async fn list(&self, page: &Page) -> Result<Vec<Entry>, ClientError> {
        self.post("queue", page).await
    }

    /// One message.
    pub async fn show(&self, id: MessageId) -> Result<Entry, ClientError> {
        self.get(&format!("queue/{id}")).await
    }

    /// Does something to messages; gives to how many.
    pub async fn act(&self, act: &Act) -> Result<usize, ClientError> {
        self.post("queue/act", act).await
    }

    /// Writes a message as the app sent it.
    pub async fn content(
        &self,
        id: MessageId,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), ClientError> {
        let url = format!("http://mailferry/queue/{id}/content");
        let mut response = accepted(self.http.get(url)).await?;
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            let written = to.write_all(&piece).await;
            written.map_err(|error| ClientError::Refused(error.to_string()))?;
        }
        Ok(())
    }

    /// A message's story.
    pub async fn story(&self, id: MessageId) -> Result<Story, ClientError> {
        self.get(&format!("story/{id}")).await
    }

    /// The newest stories of an address, or of one at `@domain`, oldest first.
    pub async fn stories(&self, address: &str, limit: usize) -> Result<Vec<Story>, ClientError> {
        let address = address.to_owned();
        self.post("stories", &Whose { address, limit }).await
    }

    /// What may be known of each server's tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, ClientError> {
        self.get("tokens").await
    }

    /// Accounts that tokens are kept of, and that no server has.
    pub async fn unused(&self) -> Result<Vec<String>, ClientError> {
        self.get("tokens/unused").await
    }

    /// Forgets their tokens; gives the accounts.
    pub async fn forget_unused(&self) -> Result<Vec<String>, ClientError> {
        answer(self.http.delete("http://mailferry/tokens/unused")).await
    }

    /// Begins a sign-in.
    pub async fn connect_account(&self, server: &str, wish: Wish) -> Result<Attempt, ClientError> {
        self.post(&format!("connect/{server}"), &wish).await
    }

    /// How far a sign-in is.
    pub async fn progress(&self, id: &str) -> Result<Progress, ClientError> {
        self.get(&format!("progress/{id}")).await
    }

    /// Waits for a sign-in no more.
    pub async fn cancel(&self, id: &str) -> Result<(), ClientError> {
        answer(self.http.delete(format!("http://mailferry/progress/{id}"))).await
    }

    /// Tests the way to a server; shows each step when it is done, and says whether all went well.
    pub async fn test(
        &self,
        server: &str,
        to: Option<&Address>,
        mut show: impl FnMut(&Step),
    ) -> Result<bool, ClientError> {
        let url = format!("http://mailferry/test/{server}");
        let request = self.http.post(url).timeout(TEST).json(&to);
        let mut response = accepted(request).await?;
        let (mut line, mut is_well) = (Vec::new(), true);
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            line.extend_from_slice(&piece);
            while let Some(end) = memchr::memchr(b'\n', &line) {
                let step: Vec<u8> = line.drain(..=end).collect();
                let step: Step = serde_json::from_slice(&step)
                    .map_err(|error| ClientError::Refused(error.to_string()))?;
                is_well &= step.well;
                show(&step);
            }
        }
        Ok(is_well)
    }

    /// Each server.
    pub async fn servers(&self) -> Result<Vec<ServerState>, ClientError> {
        self.get("servers").await
    }

    /// Holds a server.
    pub async fn hold(&self, server: &str, reason: &str) -> Result<(), ClientError> {
        self.post(&format!("hold/{server}"), &reason).await
    }

    /// Uses a server again; whether it was held.
    pub async fn release(&self, server: &str) -> Result<bool, ClientError> {
        self.post(&format!("release/{server}"), &()).await
    }

    /// Forgets the tokens of a server's account.
    pub async fn disconnect(&self, server: &str) -> Result<Disconnected, ClientError> {
        self.post(&format!("disconnect/{server}"), &()).await
    }

    /// A link to the page; none where the configuration has none.
    pub async fn web_link(&self) -> Result<Option<String>, ClientError> {
        self.post("web/link", &()).await
    }

    /// Seals the vault with another key.
    pub async fn rotate_vault(&self, key: Option<&Secret>) -> Result<usize, ClientError> {
        let key = key.map(|key| key.expose_secret());
        self.post("vault/rotate", &key).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        answer(self.http.get(format!("http://mailferry/{path}"))).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        answer(
            self.http
                .post(format!("http://mailferry/{path}"))
                .json(body),
        )
        .await
    }
}

/// Who owns a path, or the nearest folder above it that can be seen.
fn owner_of(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let seen = path.ancestors().find_map(|path| path.metadata().ok());
    let Some(uid) = seen.map(|metadata| metadata.uid()) else {
        return "mailferry".to_owned();
    };
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| format!("#{uid}"), |user| user.name)
}

fn unreachable(error: reqwest::Error) -> ClientError {
    ClientError::Unreachable(error.to_string())
}

async fn accepted(request: reqwest::RequestBuilder) -> Result<reqwest::Response, ClientError> {
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let words = response.text().await.map_err(unreachable)?;
    Err(ClientError::Refused(match words.is_empty() {
        true => format!("it does not know what that is ({status})"),
        false => words,
    }))
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, ClientError> {
    accepted(request).await?.json().await.map_err(unreachable)
}
