//! HTTP requests to other programs than token endpoints, and requests that libraries make.

use std::sync::LazyLock;
use std::time::Duration;

use http::{Request, Response};
use reqwest::redirect::Policy;

/// The longest time for a whole response, unless the request has its own limit.
const PATIENCE: Duration = Duration::from_secs(10);

/// The client of webhooks and the OpenID provider. It follows no redirects, because a request may contain secrets. It
/// is made when it is first used, because the certificates that it trusts take a megabyte.
pub(crate) static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let http = reqwest::Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .timeout(PATIENCE);
    http.build().unwrap_or_default()
});

/// The size limit of a response (octets). Token responses and keys of providers are much smaller.
const RESPONSE: usize = 256 * 1024;

/// Sends a request, and returns its response with at most a little more than [`RESPONSE`] octets of its body.
pub(crate) async fn send(
    http: reqwest::Client,
    request: Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, reqwest::Error> {
    let mut response = http.execute(request.try_into()?).await?;
    let mut whole = Response::new(Vec::new());
    *whole.status_mut() = response.status();
    *whole.headers_mut() = std::mem::take(response.headers_mut());
    while let Some(piece) = response.chunk().await? {
        whole.body_mut().extend_from_slice(&piece);
        if whole.body().len() > RESPONSE {
            break;
        }
    }
    Ok(whole)
}

/// Returns an error with its causes, because reqwest's own text leaves them out.
pub(crate) fn reasons(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let texts = causes.map(ToString::to_string);
    std::iter::once(error.to_string())
        .chain(texts)
        .collect::<Vec<_>>()
        .join(": ")
}
