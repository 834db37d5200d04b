//! Clients as they come: who gets a place, and what the others are told.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Door, Server,
    peer::Peer,
    respond,
    seats::{Refused, Seat},
    tls,
};
use crate::metrics::Limit;

/// How long a client that is refused may take to say something: to begin a handshake, and to ask.
const REFUSED_HEAD: Duration = Duration::from_secs(1);

/// How long its handshake may take.
const REFUSED_HANDSHAKE: Duration = Duration::from_secs(3);

/// Pause after a failed accept: mostly too many open files, which pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Takes in the clients of `listener`, which is bound to `bound`, until `stop` is cancelled.
    pub(super) async fn accept(
        self: Arc<Self>,
        (listener, bound, door): (TcpListener, SocketAddr, Arc<Door>),
        tasks: TaskTracker,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.accept_one(&listener, &door) => accepted,
            };
            let Some((stream, client, seat)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            match seat {
                Ok(seat) => {
                    let peer = Peer::new(client, bound, Arc::clone(&door));
                    let connection = Arc::clone(&self).serve(stream, peer, seat, stop.clone());
                    tasks.spawn(cut.clone().run_until_cancelled_owned(connection));
                }
                Err(refused) => {
                    self.metrics.connection_refused(refused.as_str());
                    if refused == Refused::TooMany {
                        self.metrics.limit_reached(Limit::ConnectionsPerClient);
                    }
                    let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
                        continue;
                    };
                    // Who may not connect is not let into a handshake.
                    if refused == Refused::NotAllowed && door.tls.is_some() {
                        continue;
                    }
                    let door = Arc::clone(&door);
                    let telling =
                        Arc::clone(&self).turn_away(stream, (client, door), refused, permit);
                    tasks.spawn(stop.clone().run_until_cancelled_owned(telling));
                }
            }
        }
    }

    async fn accept_one(
        &self,
        listener: &TcpListener,
        door: &Door,
    ) -> Option<(TcpStream, SocketAddr, Result<Seat, Refused>)> {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Taken behind the accept, so that no idle listener holds a place that another one needs.
                let seat = match door.allows(client.ip()) {
                    true => self.seats.take(client.ip()).await,
                    false => Err(Refused::NotAllowed),
                };
                Some((stream, client, seat))
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                None
            }
        }
    }

    /// Tells a client why it is not served, once it asks: who is answered before may not read the answer.
    async fn turn_away(
        self: Arc<Self>,
        mut stream: TcpStream,
        (client, door): (SocketAddr, Arc<Door>),
        refused: Refused,
        _permit: OwnedSemaphorePermit,
    ) {
        if timeout(REFUSED_HEAD, stream.readable()).await.is_err() {
            return;
        }
        let answer = match refused {
            Refused::NotAllowed => respond::not_allowed(client.ip()),
            Refused::TooMany => respond::too_many_connections(client.ip()),
        };
        let told = async {
            match &door.tls {
                Some(tls) if tls::begins(&stream).await => {
                    let opening = timeout(REFUSED_HANDSHAKE, tls.accept_to_refuse(stream));
                    let Ok(Ok(mut stream)) = opening.await else { return };
                    let mut asked = [0];
                    let asks = timeout(REFUSED_HEAD, stream.read(&mut asked)).await;
                    if asks.is_ok_and(|read| read.is_ok_and(|count| count > 0)) {
                        self.refuse(&mut stream, answer, client).await;
                    }
                }
                _ => self.refuse(&mut stream, answer, client).await,
            }
        };
        let _ = timeout(self.config.header_timeout, told).await;
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use hyper::body::Incoming;

    use super::*;

    const KIB: usize = 1024;

    /// Bytes of the future of one connection.
    fn connection<F: Future>(
        _begin: impl Fn(Arc<Server>, TcpStream, Peer, Seat, CancellationToken) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Bytes of the future that makes one answer.
    fn answer<F: Future>(
        _begin: impl Fn(Arc<Server>, Request<Incoming>, Peer, Arc<Seat>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// A quiet connection is its future alone. While something is said on it, hyper has room for an answer, too.
    #[test]
    fn a_connection_takes_less_than_2_kib_and_an_answer_less_than_4() {
        let (connection, answer) = (connection(Server::serve), answer(Server::answer));
        assert!(connection <= 2 * KIB, "{connection} bytes of a connection");
        assert!(answer <= 4 * KIB, "{answer} bytes of an answer in the making");
    }
}
