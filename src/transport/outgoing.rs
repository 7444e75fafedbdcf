//! A message on its way out.

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::message::{Address, Envelope, ReversePath};

/// A message to be sent.
pub struct Outgoing<'a> {
    /// The reverse-path to tell.
    pub sender: &'a ReversePath,
    /// Whom the field From names, if it names one.
    pub author: Option<&'a Address>,
    /// Recipients, and the parameters as the app gave them.
    pub envelope: &'a Envelope,
    /// The header section, its empty line included.
    pub head: &'a [u8],
    /// What follows it.
    pub body: Body,
    /// Whether the header section has UTF-8 that only SMTPUTF8 allows.
    pub utf8_header: bool,
    /// Whether nothing is sent unless every recipient was accepted.
    pub all_or_none: bool,
}

/// The rest of a message.
pub enum Body {
    /// In memory.
    Memory(Bytes),
    /// To be read, from where the rest begins, and how much that is.
    Stream(Box<dyn AsyncRead + Send + Sync + Unpin>, u64),
}
