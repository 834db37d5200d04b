//! [`Limit`]: what is bounded, and counted when it is reached.

/// What bounds something, and was reached: the label of `wharf_limit_reached_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A client took nothing of an answer for too long (`[server] client_timeout`): cut.
    AnswerTime,
    /// An idle connection was closed for another client, or an answer over HTTP/2 refused (`[server] max_connections`): 429.
    Connections,
    /// A client had as many connections, or answers over HTTP/2, as one may have (`[server] max_connections_per_client`):
    /// 429.
    ConnectionsPerClient,
    /// No room in memory for another document (`[limits] document_room`): 503.
    DocumentRoom,
    /// A client had not taken the documents that it asked for before (`[limits] document_room_per_client`): 429.
    DocumentRoomPerClient,
    /// What came with an answer that is no use was longer than is read (`[limits] error_bytes`): its connection
    /// was closed.
    ErrorBody,
    /// More of a request's head than is taken (`[limits] headers` and `header_bytes`): 431. Over HTTP/2 too many bytes are
    /// refused below what counts.
    Head,
    /// A request's head, or a TLS handshake, took too long, or a connection was idle for it (`[server] header_timeout`).
    HeadTime,
    /// A registry's document was JSON that is deeper than it may be (`[limits] json_depth`): 502; a list of
    /// referrers is as if there were none.
    JsonDepth,
    /// A registry's body came slower than is waited for (`[[upstream]] least_rate`): asked for again.
    LeastRate,
    /// A client asked for a longer page of a list (`[limits] list_entries`): it got a shorter one.
    ListEntries,
    /// A registry's document was longer than it may be (`[limits] manifest_bytes`): 502.
    ManifestBytes,
    /// A registry's document lists more than it may (`[limits] manifest_entries`): 502.
    ManifestEntries,
    /// A client asked for too much that there is not (`[limits] misses_per_client`): told so late.
    MissesPerClient,
    /// Too many different questions were open, or waited for their turn (`[limits] questions`): 503.
    Questions,
    /// A client's requests waited too long for others of its own (`[server] max_requests_per_client`): 429.
    RequestsPerClient,
    /// A client took back more requests over HTTP/2 than it let be answered: its connection was closed.
    TakenBack,
    /// A token service's answer was longer than it may be (`[limits] token_bytes`): 502.
    TokenBytes,
    /// A name was forgotten to be unknown, for another one (`[limits] unknown_names`).
    UnknownNames,
    /// What a registry said of a client's account was forgotten, for another (`[limits] verdicts`).
    Verdicts,
    /// Too many downloads waited for their turn, or one waited too long (`[limits] waiting_downloads`): 503.
    WaitingDownloads,
    /// Too many clients followed downloads (`[limits] waiting_readers`): 503.
    WaitingReaders,
}

impl Limit {
    /// All of them.
    pub(super) const ALL: [Self; 22] = [
        Self::AnswerTime,
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::DocumentRoom,
        Self::DocumentRoomPerClient,
        Self::ErrorBody,
        Self::Head,
        Self::HeadTime,
        Self::JsonDepth,
        Self::LeastRate,
        Self::ListEntries,
        Self::ManifestBytes,
        Self::ManifestEntries,
        Self::MissesPerClient,
        Self::Questions,
        Self::RequestsPerClient,
        Self::TakenBack,
        Self::TokenBytes,
        Self::UnknownNames,
        Self::Verdicts,
        Self::WaitingDownloads,
        Self::WaitingReaders,
    ];

    /// The word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AnswerTime => "answer_time",
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::DocumentRoom => "document_room",
            Self::DocumentRoomPerClient => "document_room_per_client",
            Self::ErrorBody => "error_body",
            Self::Head => "head",
            Self::HeadTime => "head_time",
            Self::JsonDepth => "json_depth",
            Self::LeastRate => "least_rate",
            Self::ListEntries => "list_entries",
            Self::ManifestBytes => "manifest_bytes",
            Self::ManifestEntries => "manifest_entries",
            Self::MissesPerClient => "misses_per_client",
            Self::Questions => "questions",
            Self::RequestsPerClient => "requests_per_client",
            Self::TakenBack => "taken_back",
            Self::TokenBytes => "token_bytes",
            Self::UnknownNames => "unknown_names",
            Self::Verdicts => "verdicts",
            Self::WaitingDownloads => "waiting_downloads",
            Self::WaitingReaders => "waiting_readers",
        }
    }
}
