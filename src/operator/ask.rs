//! The interface for requests, whether this process or the running program carries them out.

use tokio::sync::mpsc;

use super::error::OperatorError;
use super::request::Request;
use super::response::{FromResponse, Response};
use crate::base::BoxFuture;

/// The responses to one request, as they come; the last may be an error. Most requests have one response.
pub(crate) type Responses = mpsc::Receiver<Result<Response, OperatorError>>;

/// Carries out requests.
pub(crate) trait Operator: Send + Sync {
    /// Carries out one request. An action that has begun continues, even if nobody waits for the responses.
    fn call(&self, request: Request) -> BoxFuture<'_, Responses>;
}

impl dyn Operator + '_ {
    /// Returns the one response to a request.
    pub(crate) async fn ask<T: FromResponse>(&self, request: Request) -> Result<T, OperatorError> {
        let mut responses = self.call(request).await;
        let response = responses.recv().await;
        T::from_response(response.unwrap_or_else(|| Err(OperatorError::other_version()))?)
    }

    /// Shows each response to a request as it comes.
    pub(crate) async fn each<T: FromResponse>(
        &self,
        request: Request,
        mut show: impl FnMut(T),
    ) -> Result<(), OperatorError> {
        let mut responses = self.call(request).await;
        while let Some(response) = responses.recv().await {
            show(T::from_response(response?)?);
        }
        Ok(())
    }
}
