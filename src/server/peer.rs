//! Who is at the other end of a connection, as far as the connection itself tells, and who has signed in.

use std::{net::SocketAddr, sync::Arc};

use super::Door;

/// The other end of one connection to a registry address, for one request.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Where it comes from; an IPv4 client of a socket for both is told by its IPv4 address.
    pub(super) address: SocketAddr,
    /// The names in its verified certificate; none without one.
    pub(super) subjects: Arc<[String]>,
    /// The bound address of the listener that it came through.
    pub(super) listener: SocketAddr,
    /// What is asked of those who come there. Where it has users, their `Authorization` ends here: no request has it any more
    /// behind [`Claim::take`](super::credentials::Claim::take).
    pub(super) door: Arc<Door>,
    /// The user of [`Door::users`] that has sent this request.
    pub(super) user: Option<Arc<str>>,
}

impl Peer {
    /// One that has shown no certificate, and not signed in.
    pub(super) fn new(address: SocketAddr, listener: SocketAddr, door: Arc<Door>) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, subjects: Arc::default(), listener, door, user: None }
    }
}
