//! A message on its way out.

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::message::{Address, Envelope, ReversePath};

/// A message to be sent.
pub struct Outgoing<'a> {
    /// The reverse-path to send.
    pub sender: &'a ReversePath,
    /// The address in the `From` field, if there is one.
    pub author: Option<&'a Address>,
    /// The recipients, with the parameters that the app gave.
    pub envelope: &'a Envelope,
    /// The header section, including the empty line that ends it.
    pub head: &'a [u8],
    /// The rest of the message.
    pub body: Body,
    /// True if the header section contains characters outside ASCII, which only SMTPUTF8 allows.
    pub utf8_header: bool,
    /// True if the message must not be sent unless the server accepts every recipient.
    pub all_or_none: bool,
}

/// The part of a message that follows [`Outgoing::head`].
pub enum Body {
    /// The part itself, in memory.
    Memory(Bytes),
    /// A reader for this part, and the size of the part in octets.
    Stream(Box<dyn AsyncRead + Send + Sync + Unpin>, u64),
}
