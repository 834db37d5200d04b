//! The scripted upstream: a plain-HTTP registry without accounts that writes down what it sent, and when.
//!
//! Blocking threads, one for each connection, because only these can keep a line's rate to a fraction of a
//! millisecond.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Result,
    content::Content,
    line::{Line, Rate},
    now, pause,
};

/// Whoever is silent for longer has gone.
const SILENCE: Duration = Duration::from_secs(120);

/// A registry on a port of its own; it ends when it is dropped.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    /// The host of the blobs, if they have one of their own.
    storage: Option<SocketAddr>,
    shared: Arc<Shared>,
}

/// How the upstream sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) rate: Rate,
    /// Bytes of a body after which a connection is closed, every time.
    pub(crate) cut_every: Option<u64>,
    /// What one connection alone may take of the line: as a path with loss, or a content network, has it.
    pub(crate) each: Rate,
    /// What passes between a question and the first byte of its answer; as much passes before a new connection can be
    /// asked anything. Bodies then come at the line's rate from their first byte on: no slow start.
    pub(crate) round_trip: Duration,
    /// Round trips that TLS would add to that before the first question, though nothing here is encrypted: one with TLS 1.3.
    pub(crate) handshake: u32,
    /// Whether blobs are on a second host behind the same line, to which the first redirects.
    pub(crate) redirects: bool,
}

/// One thing to pull, and what was pulled of it.
#[derive(Debug)]
pub(crate) struct Served {
    content: Content,
    heads: AtomicU64,
    gets: AtomicU64,
    sent: AtomicU64,
    first_byte: Mutex<Option<Instant>>,
}

/// What was asked of one content and sent of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) heads: u64,
    pub(crate) gets: u64,
    /// Bytes of bodies.
    pub(crate) sent: u64,
}

struct Shared {
    served: Mutex<HashMap<String, Arc<Served>>>,
    line: Line,
    manner: Manner,
    /// Connections since [`Upstream::hang_up`], those that have ended included.
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

struct Request {
    is_head: bool,
    path: String,
    /// The first byte wanted, and the last one if it says so.
    range: Option<(u64, Option<u64>)>,
}

impl Manner {
    /// Nearby, without cuts or a second host.
    pub(crate) const fn plain(rate: Rate) -> Self {
        Self {
            rate,
            cut_every: None,
            each: Rate::Unlimited,
            round_trip: Duration::ZERO,
            handshake: 0,
            redirects: false,
        }
    }
}

impl Upstream {
    /// An upstream that has nothing yet.
    pub(crate) fn start(manner: Manner) -> Result<Self> {
        let shared = Arc::new(Shared {
            served: Mutex::default(),
            line: Line::new(manner.rate),
            manner,
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let storage = match manner.redirects {
            true => Some(shared.listen(None)?),
            false => None,
        };
        Ok(Self { addr: shared.listen(storage)?, storage, shared })
    }

    /// Ends all connections, so that the next to ask has to open one.
    pub(crate) fn hang_up(&self) {
        for stream in self.shared.open().drain(..) {
            // One that has ended needs no ending.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Offers `content` under these paths, and nothing else.
    pub(crate) fn offer(&self, offers: Vec<(String, Content)>) -> Vec<Arc<Served>> {
        let mut served = self.shared.served();
        served.clear();
        let offer = |(path, content)| {
            let zero = AtomicU64::default;
            let new = Arc::new(Served {
                content,
                heads: zero(),
                gets: zero(),
                sent: zero(),
                first_byte: Mutex::default(),
            });
            served.insert(path, Arc::clone(&new));
            new
        };
        offers.into_iter().map(offer).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting threads, which then see that it is over.
        for addr in [Some(self.addr), self.storage].into_iter().flatten() {
            let _ = TcpStream::connect(addr);
        }
    }
}

impl Served {
    /// Just before the first byte was given to the socket, if any was since the last [`Served::take`].
    pub(crate) fn first_byte(&self) -> Option<Instant> {
        *self.first_byte.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> Traffic {
        *self.first_byte.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let [heads, gets, sent] =
            [&self.heads, &self.gets, &self.sent].map(|count| count.swap(0, Ordering::Relaxed));
        Traffic { heads, gets, sent }
    }
}

impl Shared {
    fn served(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Served>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves on a port of its own; blobs from `storage`, if that is another's.
    fn listen(self: &Arc<Self>, storage: Option<SocketAddr>) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let accepting = Arc::clone(self);
        thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&accepting)) else { continue };
                if let Ok(same) = stream.try_clone() {
                    shared.open().push(same);
                }
                // Ends with its connection, which ends with whoever opened it.
                thread::spawn(move || shared.serve(stream, storage));
            }
        })?;
        Ok(addr)
    }

    fn serve(&self, mut stream: TcpStream, storage: Option<SocketAddr>) {
        let Manner { round_trip, handshake, each, .. } = self.manner;
        let established = now() + round_trip * (1 + handshake);
        let own = Line::new(each);
        let ready = [
            stream.set_nodelay(true),
            stream.set_read_timeout(Some(SILENCE)),
            stream.set_write_timeout(Some(SILENCE)),
        ];
        if ready.iter().any(io::Result::is_err) {
            return;
        }
        let mut input = Vec::new();
        while let Ok(Some(request)) = next_request(&mut stream, &mut input) {
            let answered = now().max(established) + round_trip;
            let early = answered.saturating_duration_since(now());
            if !early.is_zero() {
                pause(early);
            }
            let answered = match storage.filter(|_| request.path.contains("/blobs/")) {
                Some(storage) => redirect(&mut stream, &request, storage),
                None => self.answer(&mut stream, &request, &own),
            };
            if !matches!(answered, Ok(true)) {
                let _ = stream.shutdown(Shutdown::Write);
                return;
            }
        }
    }

    /// Whether the connection may be used again. `own` is what it may take by itself.
    fn answer(&self, stream: &mut TcpStream, request: &Request, own: &Line) -> io::Result<bool> {
        let found = self.served().get(&request.path).map(Arc::clone);
        let Some(served) = found else { return challenge(stream, &request.path) };
        let content = &served.content;
        let total = content.len();
        let (status, range, from, until) = match request.range {
            Some((from, last)) if from < total => {
                let last = last.unwrap_or(total).clamp(from, total - 1);
                let range = format!("content-range: bytes {from}-{last}/{total}\r\n");
                ("206 Partial Content", range, from, last + 1)
            }
            _ => ("200 OK", String::new(), 0, total),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
             docker-content-digest: {}\r\naccept-ranges: bytes\r\n{range}\r\n",
            content.media_type,
            until - from,
            content.digest,
        );
        stream.write_all(head.as_bytes())?;
        if request.is_head {
            served.heads.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        served.gets.fetch_add(1, Ordering::Relaxed);
        let end = self.manner.cut_every.map_or(until, |every| until.min(from + every));
        let _sending = (self.line.enter(), own.enter());
        let mut at = from;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(usize::MAX);
            let piece = content.piece(at, self.line.grain().min(own.grain()).min(room));
            self.line.pass(piece.len());
            own.pass(piece.len());
            served.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if at == from {
                let mut first = served.first_byte.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(now);
            }
            stream.write_all(piece)?;
            at += piece.len() as u64;
        }
        Ok(end == until)
    }
}

/// Answers what is none of the contents. A registry asks for a token; docker-registry looks whether this one does, once, and
/// before each pull if it does not. Whoever pulls without one is served as well.
fn challenge(stream: &mut TcpStream, path: &str) -> io::Result<bool> {
    let answer = match path.split('?').next() {
        Some("/v2/") => format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\
             www-authenticate: Bearer realm=\"http://{}/token\",service=\"bench\"\r\n\r\n",
            stream.local_addr()?
        ),
        Some("/token") => {
            let token = r#"{"token":"bench","expires_in":36000}"#;
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{token}",
                token.len()
            )
        }
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    };
    stream.write_all(answer.as_bytes())?;
    Ok(true)
}

/// Sends a client on to where the blob is.
fn redirect(stream: &mut TcpStream, request: &Request, storage: SocketAddr) -> io::Result<bool> {
    let path = &request.path;
    let head = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{storage}{path}\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    Ok(true)
}

/// The next request's head; `None` when there is none to come.
fn next_request(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let mut buffer = [0; 4096];
    loop {
        let mut lines = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut lines);
        let parsed = head.parse(input).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed {
            let range = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case("range"));
            let range = range.and_then(|line| std::str::from_utf8(line.value).ok());
            let range = range.and_then(|range| {
                let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
                Some((from.parse().ok()?, last.parse().ok()))
            });
            let request = Request {
                is_head: head.method == Some("HEAD"),
                path: head.path.unwrap_or_default().to_owned(),
                range,
            };
            input.drain(..length);
            return Ok(Some(request));
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            read => input.extend_from_slice(&buffer[..read]),
        }
    }
}
