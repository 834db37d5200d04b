use std::{sync::Mutex, time::Duration};

use tokio::time::{sleep, timeout};

use super::*;

/// A registry that sends over each connection at a rate of its own, all of it on the paused clock.
#[derive(Clone)]
struct Registry {
    blob: Bytes,
    /// Bytes a second, of each connection and of all together.
    each: f64,
    line: f64,
    asked: Arc<Mutex<Vec<Range<u64>>>>,
    open: Arc<AtomicU64>,
    most_open: Arc<AtomicU64>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The piece that begins there is refused, ends in its middle, or is a byte too long.
    Refused(u64),
    Short(u64),
    Long(u64),
    /// Behind its last byte, its connection breaks.
    Late(u64),
    /// Every piece but the first ends before its first byte.
    Silent,
}

struct Answer {
    registry: Registry,
    range: Range<u64>,
    extra: usize,
    is_late: bool,
}

const CHUNK: u64 = 64 * 1024;

impl Registry {
    fn new(mib: u64, each: f64, line: f64) -> Self {
        let blob = (0..mib * 1024 * 1024).map(|n| (n / 4099) as u8).collect::<Vec<u8>>().into();
        let (asked, open, most_open) = Default::default();
        Self { blob, each, line, asked, open, most_open, fault: Fault::None }
    }

    fn total(&self) -> u64 {
        self.blob.len() as u64
    }

    fn pieces(&self, connections: usize, waiting: &Arc<Semaphore>) -> Pieces<Self> {
        let first = first(0, Some(self.total())).expect("it is large");
        self.asked.lock().expect("not poisoned").push(first.clone());
        let body = self.answer(first.clone());
        Pieces::begin(self.clone(), &first, body, self.total(), connections, waiting)
    }

    fn answer(&self, mut range: Range<u64>) -> Answer {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open.fetch_max(open, Ordering::Relaxed);
        let (mut extra, is_late) = (0, self.fault == Fault::Late(range.start));
        match self.fault {
            Fault::Short(at) if at == range.start => range.end -= CHUNK,
            Fault::Long(at) if at == range.start => extra = 1,
            Fault::Silent if range.start > 0 => range.end = range.start,
            _ => {}
        }
        Answer { registry: self.clone(), range, extra, is_late }
    }
}

impl Source for Registry {
    type Body = Answer;

    async fn ask(&self, range: Range<u64>) -> Result<Answer, Error> {
        sleep(Duration::from_millis(50)).await;
        self.asked.lock().expect("not poisoned").push(range.clone());
        match self.fault {
            Fault::Refused(at) if at == range.start => {
                Err(Error::RateLimited { retry_after: None })
            }
            _ => Ok(self.answer(range)),
        }
    }
}

impl Body for Answer {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.range.is_empty() {
            let reason = || "the body has no end".to_owned();
            return if self.is_late {
                Err(Error::Unavailable { reason: reason() })
            } else {
                Ok(None)
            };
        }
        let registry = &self.registry;
        let share = registry.line / registry.open.load(Ordering::Relaxed).max(1) as f64;
        let end = self.range.end.min(self.range.start + CHUNK);
        sleep(Duration::from_secs_f64(CHUNK as f64 / registry.each.min(share))).await;
        let mut bytes = registry.blob.slice(self.range.start as usize..end as usize);
        self.range.start = end;
        if self.range.is_empty() && self.extra > 0 {
            bytes = [&bytes[..], &[0]].concat().into();
        }
        Ok(Some(bytes))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.registry.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(WAITING_MAX))
}

/// All that comes, which is a beginning of the blob; each byte of it was asked for once.
async fn read(pieces: &mut Pieces<Registry>, is_wanted: bool) -> (u64, Result<(), Error>) {
    let registry = pieces.source.clone();
    let mut at = 0_usize;
    let end = loop {
        // A future that is dropped loses nothing.
        let chunk = match timeout(Duration::from_millis(1), pieces.chunk(is_wanted)).await {
            Ok(chunk) => chunk,
            Err(_) => pieces.chunk(is_wanted).await,
        };
        match chunk {
            Ok(Some(bytes)) => {
                assert!(bytes == registry.blob[at..at + bytes.len()], "other bytes at {at}");
                at += bytes.len();
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert_eq!(
        pieces.chunk(is_wanted).await.map(|more| more.is_some()),
        end.clone().map(|()| false)
    );
    if registry.fault == Fault::None {
        let mut asked = registry.asked.lock().expect("not poisoned").clone();
        asked.sort_by_key(|range| range.start);
        assert!(asked.windows(2).all(|two| two[0].end == two[1].start), "{asked:?}");
    }
    (at as u64, end)
}

#[tokio::test(start_paused = true)]
async fn where_each_connection_is_limited_several_are_faster_and_no_byte_comes_twice() {
    let registry = Registry::new(96, 4e6, 1e9);
    let begun = Instant::now();
    let (read, end) = read(&mut registry.pieces(4, &room()), true).await;
    assert_eq!((read, end), (registry.total(), Ok(())));
    assert!(registry.most_open.load(Ordering::Relaxed) >= 4);
    let alone = registry.total() as f64 / 4e6;
    let took = begun.elapsed().as_secs_f64();
    assert!(took < 0.5 * alone, "{took} s, alone {alone} s");
}

#[tokio::test(start_paused = true)]
async fn where_one_connection_fills_the_line_the_rest_is_left_to_one_request() {
    let registry = Registry::new(96, 1e9, 1e7);
    let (read, end) = read(&mut registry.pieces(4, &room()), true).await;
    assert_eq!(end, Ok(()));
    assert!(read < 32 * 1024 * 1024, "{read}");
    assert!(registry.most_open.load(Ordering::Relaxed) <= 3);
}

#[tokio::test(start_paused = true)]
async fn for_nobody_one_connection_is_used_and_next_to_nothing_held() {
    let registry = Registry::new(48, 4e6, 1e9);
    let mut pieces = registry.pieces(4, &room());
    for _ in 0..8 {
        pieces.chunk(false).await.expect("no fault").expect("not at the end");
    }
    sleep(Duration::from_secs(60)).await;
    let held = pieces.received.load(Ordering::Relaxed) - pieces.at;
    assert!(held <= (FEW_CHUNKS as u64 + 2) * CHUNK, "{held}");
    let at = pieces.at;
    let mut rest = 0;
    while let Some(bytes) = pieces.chunk(false).await.expect("no fault") {
        rest += bytes.len() as u64;
    }
    assert_eq!(at + rest, registry.total());
    assert!(registry.most_open.load(Ordering::Relaxed) <= 2, "one, and the next as it ends");
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_memory_has_a_bound_over_all_downloads() {
    let (registry, waiting) = (Registry::new(96, 4e6, 1e9), room());
    let mut all: Vec<_> = (0..20).map(|_| registry.pieces(4, &waiting)).collect();
    for round in 0..400 {
        for pieces in &mut all {
            pieces.chunk(true).await.expect("no fault");
        }
        if round % 40 == 0 {
            sleep(Duration::from_secs(30)).await;
        }
        let held: u64 = all.iter().map(|p| p.received.load(Ordering::Relaxed) - p.at).sum();
        let few = all.len() as u64 * 2 * (FEW_CHUNKS as u64 + 2) * CHUNK;
        assert!(held <= WAITING_MAX as u64 * PIECE_BYTES + few, "{held}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_or_a_lie_ends_it_after_all_bytes_before_it() {
    let at = 2 * PIECE_BYTES;
    for fault in [Fault::Refused(at), Fault::Long(at)] {
        let registry = Registry { fault, ..Registry::new(40, 4e6, 1e9) };
        let mut pieces = registry.pieces(4, &room());
        let (read, end) = read(&mut pieces, true).await;
        let error = end.expect_err("there is a fault");
        let (least, is_it) = match fault {
            Fault::Refused(_) => (at, matches!(error, Error::RateLimited { .. })),
            _ => (at + PIECE_BYTES - CHUNK, matches!(error, Error::Protocol { .. })),
        };
        assert!(is_it, "{error:?}");
        assert_eq!(read, least);
        drop(pieces);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(registry.open.load(Ordering::Relaxed), 0, "tasks end with who owns them");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_piece_that_breaks_off_only_the_rest_is_asked_for_again() {
    let at = 6 * PIECE_BYTES;
    let registry = Registry { fault: Fault::Short(at), ..Registry::new(40, 4e6, 1e9) };
    let mut pieces = registry.pieces(4, &room());
    let (read, end) = read(&mut pieces, true).await;
    assert_eq!((read, end), (registry.total(), Ok(())));
    assert_eq!(pieces.received.load(Ordering::Relaxed), registry.total(), "each byte came once");
    let asked = registry.asked.lock().expect("not poisoned").clone();
    assert!(asked.contains(&(at + PIECE_BYTES - CHUNK..at + PIECE_BYTES)), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_came_to_its_last_byte_is_not_asked_for_again() {
    for at in [0, 6 * PIECE_BYTES, 9 * PIECE_BYTES] {
        let registry = Registry { fault: Fault::Late(at), ..Registry::new(40, 4e6, 1e9) };
        let mut pieces = registry.pieces(4, &room());
        let (read, end) = read(&mut pieces, true).await;
        assert_eq!((read, end), (registry.total(), Ok(())));
        let asked = registry.asked.lock().expect("not poisoned").clone();
        assert_eq!(asked.len(), 10, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_sends_nothing_is_asked_twice() {
    let registry = Registry { fault: Fault::Silent, ..Registry::new(40, 4e6, 1e9) };
    let mut pieces = registry.pieces(4, &room());
    let (read, end) = read(&mut pieces, true).await;
    assert_eq!(read, PIECE_BYTES);
    assert!(matches!(end, Err(Error::Unavailable { .. })), "{end:?}");
    let asked = registry.asked.lock().expect("not poisoned").clone();
    let again = asked.iter().filter(|range| range.start == PIECE_BYTES).count();
    assert_eq!(again, 2, "{asked:?}");
}

#[test]
fn only_large_blobs_of_known_length_are_fetched_so() {
    assert_eq!(first(0, None), None);
    assert_eq!(first(0, Some(LARGE_BYTES - 1)), None);
    assert_eq!(first(1, Some(LARGE_BYTES)), None);
    assert_eq!(first(7, Some(LARGE_BYTES + 7)), Some(7..7 + PIECE_BYTES));
    assert_eq!(first(8, Some(7)), None);
}
