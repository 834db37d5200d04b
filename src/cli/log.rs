//! The log: lines on standard error, written by a thread of their own.
//!
//! Whoever reads the log may be slow, or not read at all: no request waits for it. Lines that come while the thread writes
//! are written together; those for which there is no more room are dropped, and counted.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Registry,
    field::MakeExt as _,
    filter::{LevelFilter, Targets},
    fmt::{self, format},
    layer::SubscriberExt as _,
    registry, reload,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat};

/// Lines that wait to be written, of some 300 bytes each: what comes in a fortieth of a second at the highest rate seen. 32 bytes
/// for each are taken at the start.
const LINES_MAX: usize = 2048;

/// Bytes of lines that are written by one call.
const WRITTEN_BYTES: usize = 32 * 1024;

/// The log, whose level can change. All lines are written when it is dropped.
pub(super) struct Log {
    /// `None` where somebody else has set the log up.
    level: Option<reload::Handle<Targets, Registry>>,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Lets lines out.
    pub(super) fn start(log: &LogConfig) -> Self {
        let lines =
            NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("log");
        let (writer, guard) =
            lines.finish(Lines(BufWriter::with_capacity(WRITTEN_BYTES, io::stderr())));
        let dropped = writer.error_counter();
        let (level, handle) = reload::Layer::new(targets(&log.level));
        let subscriber = registry().with(level);
        let lines = fmt::layer().log_internal_errors(false).with_writer(writer);
        let started = match log.format {
            LogFormat::Text if !io::stderr().is_terminal() => {
                // The same text as with colours, in a third less time.
                let fields = format::debug_fn(|line, field, value| match field.name() {
                    "message" => write!(line, "{value:?}"),
                    name => write!(line, "{name}={value:?}"),
                });
                let lines = lines.with_ansi(false).fmt_fields(fields.delimited(" "));
                subscriber.with(lines).try_init()
            }
            LogFormat::Text => subscriber.with(lines.with_ansi(true)).try_init(),
            LogFormat::Json => subscriber.with(lines.json().flatten_event(true)).try_init(),
        };
        // A subscriber that is already there (a test's) stays.
        Self { level: started.is_ok().then_some(handle), dropped, _writer: guard }
    }

    pub(super) fn set_level(&self, level: &str) {
        if let Some(handle) = &self.level {
            // It is there for as long as the process.
            let _ = handle.reload(targets(level));
        }
    }

    /// Tells how many lines were dropped so far.
    pub(super) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}

/// What to log, by directives that the configuration has read before.
fn targets(level: &str) -> Targets {
    level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO))
}

/// Standard error. A line that cannot be written, to a full disk or a terminal that is gone, is lost: there is nowhere to
/// complain of it.
struct Lines(BufWriter<io::Stderr>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}
