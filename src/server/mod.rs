//! The registry address: HTTP/1.1 in, over TLS HTTP/2 as well, the distribution specification's read endpoints out. No policy lives here.

mod accept;
mod access;
mod asker;
mod body;
mod credentials;
mod door;
mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
mod head_timer;
mod http1;
mod http2;
mod misses;
mod muted;
mod parts;
mod peer;
mod range;
mod record;
mod refusal;
mod respond;
mod route;
mod seats;
mod seldom;
mod sign_in;
mod streams;
mod tls;
mod users;

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http::{
    HeaderMap, Method, Request, Response, Uri,
    header::{AUTHORIZATION, USER_AGENT},
    request,
    uri::PathAndQuery,
};
use hyper::body::Incoming;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    access::{Access, AccessRule},
    door::Door,
    tls::{ClientAuth, Clients, Tls, TlsError},
    users::Users,
};
use self::{
    body::Body,
    credentials::Claim,
    misses::Misses,
    parts::{PartStream, Parts},
    peer::Peer,
    record::{Asked, Record},
    respond::Answer,
    route::{Endpoint, Route, RouteError},
    seats::{Seat, Seats},
    seldom::Seldom,
};
use crate::{
    lately::Lately,
    metrics::{Limit, Metrics},
    pull::{Pull, Want, on_behalf_of},
};

/// Limits of the registry address.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is asked of those who come to the addresses of `[server] listen`.
    pub door: Door,
    /// Who may pull what.
    pub access: Access,
    /// Client connections open at once. For a further one the longest idle is closed; if none is idle, it waits to be accepted.
    pub max_connections: usize,
    /// Of them, those of one client: an IPv4 address, or an IPv6 network of 64 bits. Further ones are refused.
    pub max_connections_per_client: usize,
    /// Requests of one such client that are worked on at once; more wait. One whose answer has begun counts no more.
    pub max_requests_per_client: usize,
    /// Header lines of a request, at most.
    pub headers: usize,
    /// Bytes of a request's head, at most, which is held in memory until it is whole.
    pub header_bytes: usize,
    /// Bytes of documents of more than some KiB that one such client may be answered with and not have taken yet.
    pub document_room_per_client: usize,
    /// How often one such client is told within a minute that there is no such thing, before each such answer comes late.
    pub misses_per_client: usize,
    /// How long a client may take to send a request's head, and to stay idle between two requests.
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub client_timeout: Duration,
    /// How long open answers may go on after a stop was asked for.
    pub drain: Duration,
    /// Bytes of answers that the system may hold for one client, of which Linux makes twice as many; `None`: 256 KiB for
    /// clients on this machine, and for others what the system chooses.
    pub send_buffer: Option<usize>,
}

/// Send buffer towards this machine: some megabytes under way, which the system would allow by itself, fall out of the
/// processor's caches and overrun the receiver. It would bound a peer far away to so much for each round trip.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Refused clients that are told why at one time, each within a few seconds; the connections of others are just closed.
const REFUSALS_MAX: usize = 64;

/// Addresses of which it is remembered what they ask for, and the longest of them.
const ROUTES: usize = 256;
const ROUTE_MAX_BYTES: usize = 256;

/// The registry address' server.
pub struct Server {
    config: Config,
    pull: Pull,
    metrics: Metrics,
    seats: Arc<Seats>,
    misses: Misses,
    routes: Lately<Box<str>, Arc<Route>>,
    /// Permits to tell a refused client why.
    refusals: Arc<Semaphore>,
}

impl Server {
    /// A server that answers from `pull`.
    pub fn new(config: Config, pull: Pull, metrics: &Metrics) -> Self {
        let seats = Seats::new(&config, metrics);
        let (misses, metrics) = (Misses::new(config.misses_per_client), metrics.clone());
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        let routes = Lately::new(ROUTES);
        Self { config, pull, metrics, seats, misses, routes, refusals }
    }

    /// Serves `listeners`, each with the address it is bound to and what is asked there, until `stop` is cancelled, then
    /// lets open answers end for at most the drain time.
    pub async fn run(
        self,
        listeners: Vec<(TcpListener, SocketAddr, Arc<Door>)>,
        stop: CancellationToken,
    ) {
        let server = Arc::new(self);
        let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
        for listener in listeners {
            let (server, tasks, stop, cut) =
                (Arc::clone(&server), tasks.clone(), stop.clone(), cut.clone());
            tasks.clone().spawn(server.accept(listener, tasks, stop, cut));
        }
        tasks.close();
        stop.cancelled().await;
        if timeout(server.config.drain, tasks.wait()).await.is_err() {
            tracing::warn!("cut off answers that did not end within the drain time");
            cut.cancel();
            tasks.wait().await;
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        seat: Seat,
        stop: CancellationToken,
    ) {
        let _open = OpenConnection::new(&self.metrics);
        let seat = Arc::new(seat);
        let serving = Arc::clone(&self).serve_seated(stream, peer, Arc::clone(&seat), stop);
        tokio::select! {
            biased;
            () = serving => {}
            () = Seldom::new(seat.given_up()) => {
                self.metrics.connection_refused("idle");
                self.metrics.limit_reached(Limit::Connections);
            }
        }
    }

    async fn serve_seated(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) {
        // Small answers must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let is_near = peer.address.ip().to_canonical().is_loopback();
        let near = is_near.then_some(SEND_BUFFER_BYTES);
        if let Some(bytes) = self.config.send_buffer.or(near) {
            // What it costs if the system refuses is speed, and that alone.
            let _ = SockRef::from(&stream).set_send_buffer_size(bytes);
        }
        let door = Arc::clone(&peer.door);
        match &door.tls {
            None => {
                let parts = Parts::default();
                let stream = self.timed(PartStream::new(stream, parts.clone()));
                Arc::clone(&self).converse(stream, Some(parts), peer, seat, stop).await;
            }
            Some(tls) => {
                // Whoever says nothing costs no more than this.
                let speaks = timeout(self.config.header_timeout, stream.readable());
                match stop.run_until_cancelled(speaks).await {
                    Some(Ok(_)) => {
                        Box::pin(self.secure(tls, self.timed(stream), peer, seat, stop)).await;
                    }
                    Some(Err(_)) => self.metrics.limit_reached(Limit::HeadTime),
                    None => {}
                }
            }
        }
    }

    /// The stream, cut when the client takes nothing for too long.
    fn timed<S: AsyncRead + AsyncWrite>(&self, stream: S) -> Pin<Box<TimeoutStream<S>>> {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.config.client_timeout));
        Box::pin(stream)
    }

    /// Agrees on TLS with `peer`, then answers its requests.
    async fn secure(
        self: &Arc<Self>,
        tls: &Tls,
        stream: Pin<Box<TimeoutStream<TcpStream>>>,
        peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) {
        let client = peer.address;
        let opened = async {
            if !tls::begins(stream.get_ref()).await {
                return Err((None, stream));
            }
            tls.accept(stream).await.map_err(|(error, stream)| (Some(error), stream))
        };
        let opened = timeout(self.config.header_timeout, opened);
        let Some(opened) = stop.run_until_cancelled(opened).await else { return };
        match opened {
            Err(_) => {
                self.metrics.limit_reached(Limit::HeadTime);
                tracing::debug!(%client, "a TLS handshake took too long");
            }
            Ok(Ok((stream, subjects))) => {
                let peer = Peer { subjects, ..peer };
                tracing::debug!(
                    %client, listener = %peer.listener, subjects = ?peer.subjects, "speaks TLS"
                );
                let (_, session) = stream.get_ref();
                if session.alpn_protocol() == Some(http2::ALPN) {
                    Box::pin(Arc::clone(self).converse_http2(stream, peer, seat, stop)).await;
                } else {
                    Arc::clone(self).converse(stream, None, peer, seat, stop).await;
                }
            }
            Ok(Err((None, mut stream))) => {
                self.refuse(&mut stream, respond::needs_https(), client).await;
            }
            Ok(Err((Some(error), mut stream))) => {
                tracing::debug!(%client, %error, "a TLS handshake failed");
                // The client may be sending on, and has to hear why.
                let _ = stream.shutdown().await;
                refusal::linger(&mut stream).await;
            }
        }
    }

    /// Gives `answer` to what is no request, and nothing after it.
    async fn refuse(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        answer: Answer,
        client: SocketAddr,
    ) {
        let record = Record::new(&self.metrics, unread_method(), client);
        // Nobody is left to tell if the client is gone.
        let _ = refusal::send(stream, answer.into_response(record, None)).await;
        refusal::linger(stream).await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        mut peer: Peer,
        seat: Arc<Seat>,
    ) -> Response<Body> {
        let (mut head, _) = request.into_parts();
        let mut record = Record::new(&self.metrics, head.method.clone(), peer.address);
        if let Some(agent) = head.headers.get(USER_AGENT) {
            record.user_agent = String::from_utf8_lossy(agent.as_bytes()).into();
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            record.asked = Asked::Address(head.uri);
            return respond::method_not_allowed().into_response(record, None);
        }
        let claim = match peer.door.users {
            Some(_) => Claim::take(&mut head.headers),
            None => Claim::None,
        };
        // Where there are no users, what a client brings is for a registry to judge.
        let brings_nothing = || claim == Claim::None && !head.headers.contains_key(AUTHORIZATION);
        if peer.door.sign_in && brings_nothing() {
            record.asked = Asked::Address(head.uri);
            return respond::sign_in("").into_response(record, None);
        }
        let route = self.route(&head.uri);
        record.asked = match &route {
            Ok(route) => Asked::Endpoint(Arc::clone(route)),
            Err(_) => Asked::Address(head.uri.clone()),
        };
        let route = match route {
            Ok(route) => Ok(route),
            Err(bad) if claim == Claim::None => {
                return respond::bad_address(&bad).into_response(record, None);
            }
            Err(bad) => Err(bad),
        };
        let turn = match seat.try_turn() {
            Some(turn) => Some(turn),
            None => Box::pin(seat.turn()).await,
        };
        if turn.is_none() {
            self.metrics.limit_reached(Limit::RequestsPerClient);
            return respond::too_many_requests(peer.address.ip())
                .into_response(record, route.as_deref().ok());
        }
        if claim != Claim::None {
            if let Err(refused) = Box::pin(self.sign_in(claim, &mut peer)).await {
                return refused.into_response(record, route.as_deref().ok());
            }
            record.user.clone_from(&peer.user);
        }
        let route = match route {
            Ok(route) => route,
            Err(bad) => return respond::bad_address(&bad).into_response(record, None),
        };
        let asking = self.ask_within(&route, &head, &peer, &seat, &mut record);
        let answer = on_behalf_of(seat.client(), asking).await;
        drop(turn);
        let answer = answer.unwrap_or_else(|error| {
            let (repository, reference) = (&record.asked.repository(), &record.asked.reference());
            tracing::debug!(%repository, %reference, %error, "not answered");
            respond::failure(&error)
        });
        if answer.is_miss() {
            if let Some(late) = self.misses.late(peer.address.ip()) {
                self.metrics.limit_reached(Limit::MissesPerClient);
                // Nothing is held meanwhile but the connection.
                Box::pin(sleep(late)).await;
            }
        }
        answer.into_response(record, Some(&route))
    }

    /// What an address asks for. Which registries there are is settled at the start.
    fn route(&self, uri: &Uri) -> Result<Arc<Route>, RouteError> {
        let address = uri.path_and_query().map_or("", PathAndQuery::as_str);
        if let Some(route) = self.routes.get(address) {
            return Ok(route);
        }
        let serves = |registry: &_| self.pull.serves(registry);
        let route = Arc::new(Route::parse(uri.path(), uri.query(), serves)?);
        if address.len() <= ROUTE_MAX_BYTES {
            self.routes.put(address.into(), Arc::clone(&route));
        }
        Ok(route)
    }

    /// The answer, with its document, if it is a long one, in what room the client has.
    ///
    /// Who has not taken the documents it asked for waits without another one in memory, and is then answered anew.
    async fn ask_within(
        &self,
        route: &Route,
        head: &request::Parts,
        peer: &Peer,
        seat: &Seat,
        record: &mut Record,
    ) -> Result<Answer, crate::pull::Error> {
        let answer = self.ask(route, &head.method, &head.headers, peer, record).await?;
        let Some(bytes) = answer.document_bytes().filter(|_| head.method != Method::HEAD) else {
            return Ok(answer);
        };
        let documents = seat.documents();
        if !documents.count(bytes) {
            return Ok(answer);
        }
        if let Some(room) = documents.free_now(bytes) {
            return Ok(answer.within(documents, room)?);
        }
        drop(answer);
        Box::pin(async {
            let Ok(room) = documents.room(bytes).await else {
                return Ok(respond::too_many_documents(peer.address.ip()));
            };
            let answer = self.ask(route, &head.method, &head.headers, peer, record).await?;
            Ok(answer.within(documents, room)?)
        })
        .await
    }

    async fn ask(
        &self,
        route: &Route,
        method: &Method,
        headers: &HeaderMap,
        peer: &Peer,
        record: &mut Record,
    ) -> Result<Answer, crate::pull::Error> {
        let head = *method == Method::HEAD;
        let pull = &self.pull;
        let permission = self.config.access.of(peer);
        let asked = route.endpoint.repository();
        if let Some(repository) = asked.filter(|repository| !permission.permits(repository)) {
            return Ok(respond::not_permitted(repository));
        }
        let Some(repository) = route.endpoint.repository().filter(|name| pull.is_by_claim(name))
        else {
            return self.dispatch(route, head, headers, peer, record).await;
        };
        let claim = asker::claim(headers);
        let answer = async {
            pull.admit(repository, asker::wanted(&route.endpoint), &claim).await?;
            self.dispatch(route, head, headers, peer, record).await
        };
        Box::pin(answer).await.map_err(|error| pull.let_in(repository, &claim, error))
    }

    async fn dispatch(
        &self,
        route: &Route,
        head: bool,
        headers: &HeaderMap,
        peer: &Peer,
        record: &mut Record,
    ) -> Result<Answer, crate::pull::Error> {
        let pull = &self.pull;
        let permission = self.config.access.of(peer);
        Ok(match &route.endpoint {
            Endpoint::Ping => respond::ping(),
            Endpoint::Catalog => {
                let permits = |repository: &_| permission.permits(repository);
                let (repositories, more) = pull.catalog(route.n, route.last.as_deref(), permits);
                respond::catalog(&repositories, more, route, pull.documents())?
            }
            Endpoint::Blob(repository, digest) if head => {
                let (size, outcome) = pull.blob_head(repository, digest).await?;
                respond::blob_head(size, outcome, digest, headers)
            }
            Endpoint::Blob(repository, digest) => {
                respond::blob(pull.blob(repository, digest).await?, digest, headers)
            }
            Endpoint::Manifest(repository, reference) => {
                let want = if head { Want::Descriptor } else { Want::Content };
                let hears = pull.hears(peer.address.ip());
                let asker = asker::asker(
                    peer,
                    route,
                    headers,
                    &record.user_agent,
                    (hears, pull.heeds_hosts()),
                );
                let mut answer = pull.manifest(repository, reference, want, &asker).await?;
                record.resolution = answer.resolution.take();
                let resolution = record.resolution.as_deref();
                let mut answer = respond::manifest(answer, resolution, repository, headers);
                if let Some(Err(error)) = hears.then(|| asker::announced(headers)).flatten() {
                    answer.warn(&format!("Wharf-Platform was not read: {error}"));
                }
                answer
            }
            Endpoint::Tags(repository) => {
                let asked = pull.tags(repository, route.n, route.last.as_deref());
                let listed = Box::pin(asked).await?;
                respond::tags(&listed, repository, route, pull.documents())?
            }
            Endpoint::Referrers(repository, subject) => {
                let listed = Box::pin(pull.referrers(repository, subject)).await?;
                respond::referrers(listed, repository, route, pull.documents())
            }
        })
    }
}

/// Stands in the log for the method of a request that could not be read.
fn unread_method() -> Method {
    Method::from_bytes(b"-").expect("a token of RFC 9110 §5.6.2")
}

/// Counts a connection for as long as it is open.
struct OpenConnection(Metrics);

impl OpenConnection {
    fn new(metrics: &Metrics) -> Self {
        metrics.connection_opened();
        Self(metrics.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
