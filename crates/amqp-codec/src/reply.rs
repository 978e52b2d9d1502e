//! Reply codes (section 1.2 of the specification).

macro_rules! reply_codes {
    ($($variant:ident = $code:literal, $name:literal, $hard:literal, $doc:literal;)*) => {
        /// Why a channel or a connection is closed, or a message returned.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ReplyCode {
            $(#[doc = $doc] $variant = $code,)*
        }

        impl ReplyCode {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The specification's name, as it begins a reply text (`NOT_FOUND`).
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it closes the connection; otherwise it closes the channel.
            pub const fn is_hard(self) -> bool {
                match self { $(Self::$variant => $hard,)* }
            }

            /// The code of that number.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reply_codes! {
    Success = 200, "REPLY_SUCCESS", false, "200: no error; closing in peace.";
    ContentTooLarge = 311, "CONTENT_TOO_LARGE", false, "311: the content is larger than the server takes now.";
    NoRoute = 312, "NO_ROUTE", false, "312: a mandatory message reached no queue (basic.return).";
    NoConsumers = 313, "NO_CONSUMERS", false, "313: an immediate message found no consumer.";
    ConnectionForced = 320, "CONNECTION_FORCED", true, "320: an operator closed the connection.";
    InvalidPath = 402, "INVALID_PATH", true, "402: unknown virtual host, in older versions.";
    AccessRefused = 403, "ACCESS_REFUSED", false, "403: no permission. RabbitMQ also closes a connection with it at login.";
    NotFound = 404, "NOT_FOUND", false, "404: no such queue, exchange or vhost.";
    ResourceLocked = 405, "RESOURCE_LOCKED", false, "405: another connection has it exclusively.";
    PreconditionFailed = 406, "PRECONDITION_FAILED", false, "406: a precondition does not hold.";
    FrameError = 501, "FRAME_ERROR", true, "501: a frame could not be decoded.";
    SyntaxError = 502, "SYNTAX_ERROR", true, "502: illegal values in a frame.";
    CommandInvalid = 503, "COMMAND_INVALID", true, "503: a method that is not possible here.";
    ChannelError = 504, "CHANNEL_ERROR", true, "504: a channel that is not open, or open already.";
    UnexpectedFrame = 505, "UNEXPECTED_FRAME", true, "505: a frame out of order.";
    ResourceError = 506, "RESOURCE_ERROR", true, "506: the server lacks resources.";
    NotAllowed = 530, "NOT_ALLOWED", true, "530: against the server's policy.";
    NotImplemented = 540, "NOT_IMPLEMENTED", true, "540: not implemented.";
    InternalError = 541, "INTERNAL_ERROR", true, "541: the server failed.";
}

impl ReplyCode {
    /// The reply text as RabbitMQ writes it: `NOT_FOUND - no queue 'q' in vhost '/'`.
    pub fn text(self, explanation: impl std::fmt::Display) -> String {
        format!("{} - {explanation}", self.name())
    }
}
