//! Who is at the other end of a connection, as far as the connection itself tells.

use std::{net::SocketAddr, sync::Arc};

/// The other end of one connection to the registry address.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Where it comes from; an IPv4 client of a socket for both is told by its IPv4 address.
    pub(super) address: SocketAddr,
    /// The names in its verified certificate; none without one.
    pub(super) subjects: Arc<[String]>,
    /// The bound address of the listener that it came through.
    pub(super) listener: SocketAddr,
}

impl Peer {
    /// One that has shown no certificate.
    pub(super) fn new(address: SocketAddr, listener: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, subjects: Arc::default(), listener }
    }
}
