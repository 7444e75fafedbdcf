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
    /// The header section, including its empty line.
    pub head: &'a [u8],
    /// The rest of the message.
    pub body: Body,
    /// True if the header section contains UTF-8 that only SMTPUTF8 allows.
    pub utf8_header: bool,
    /// True if nothing is sent unless every recipient was accepted.
    pub all_or_none: bool,
}

/// The rest of a message.
pub enum Body {
    /// In memory.
    Memory(Bytes),
    /// A reader that starts at the rest, and the size of the rest in octets.
    Stream(Box<dyn AsyncRead + Send + Sync + Unpin>, u64),
}
