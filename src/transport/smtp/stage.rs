//! The stages of the conversation with a server. Pure.

/// The stage of the conversation to which a reply, or a missing reply, belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// TCP.
    Connect,
    /// The TLS handshake, including STARTTLS.
    Tls,
    /// The 220 on connection.
    Greeting,
    /// EHLO.
    Ehlo,
    /// AUTH, with all its steps.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, up to the 354.
    Data,
    /// The message content, up to the final dot.
    Content,
    /// The reply to the final dot.
    FinalDot,
    /// RSET, QUIT.
    End,
    /// A delivery report, long after the conversation.
    Report,
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
            Self::Report => "report",
        })
    }
}
