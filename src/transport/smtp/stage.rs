//! Where in the conversation with a server something happened. Pure.

/// The place in the conversation that a reply, or its absence, belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// TCP.
    Connect,
    /// The TLS handshake, STARTTLS included.
    Tls,
    /// The 220 on connection.
    Greeting,
    /// EHLO.
    Ehlo,
    /// AUTH, all of its steps.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, until its 354.
    Data,
    /// The message, until its final dot was sent.
    Content,
    /// The reply to the final dot.
    FinalDot,
    /// RSET, QUIT.
    End,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Tls => "TLS",
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Content => "message content",
            Self::FinalDot => "final dot",
            Self::End => "RSET",
        })
    }
}
