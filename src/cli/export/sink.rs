//! Where a bundle goes: a thread that writes, so that the next bytes are read meanwhile.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::cli::Failure;

/// Pieces of up to 64 KiB that wait to be written.
const QUEUE: usize = 64;

/// Bytes after which what is written is sent to the medium: so that the bar tells how far the medium is, and memory is not
/// filled with what a slow one is still to take.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;

/// How well archives are compressed: most of what is in them is compressed already.
const ZSTD_LEVEL: i32 = 3;

/// Something to write to.
pub(super) struct Target {
    pub(super) output: Output,
    pub(super) is_compressed: bool,
    /// What it is renamed to when it is whole, and what for errors it is called.
    pub(super) name: PathBuf,
    pub(super) rename_from: Option<PathBuf>,
}

/// The bytes of a file, or of a stream.
pub(super) enum Output {
    /// A file that may have the beginning of what is written.
    File(Begun),
    Stdout(io::Stdout),
}

/// A file of which the beginning may be what is to be written: as far as it is, nothing is written.
pub(super) struct Begun {
    file: File,
    /// Whether all of it was as it is to be so far.
    is_same: bool,
    /// Whether what is not may be replaced.
    may_change: bool,
    at: u64,
    /// Bytes that were there already.
    kept: u64,
    synced: u64,
    buffer: Vec<u8>,
}

/// A bundle that is being written. Dropped before it is finished, it stays unnamed.
pub(super) struct Sink {
    sender: mpsc::Sender<Order>,
    thread: JoinHandle<io::Result<u64>>,
    name: PathBuf,
}

enum Order {
    Write(Bytes),
    Finish,
}

impl Sink {
    /// Starts the thread.
    pub(super) fn start(target: Target) -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let name = target.name.clone();
        let work = move || write(target, receiver);
        let thread = thread::Builder::new().name("export".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Failure::Failed(format!("no thread: {error}")))?;
        Ok(Self { sender, thread, name })
    }

    /// Writes these bytes next; whether they are still taken.
    pub(super) async fn send(&self, bytes: Bytes) -> bool {
        self.sender.send(Order::Write(bytes)).await.is_ok()
    }

    /// Ends the file and gives it its name: how many bytes of it were there already.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn finish(self) -> Result<u64, Failure> {
        // If nobody takes it, the thread has ended, and says why.
        let _ = self.sender.send(Order::Finish).await;
        self.ended().await
    }

    /// Why nothing more was taken.
    pub(super) async fn give_up(self) -> Failure {
        match self.ended().await {
            Err(why) => why,
            Ok(_) => Failure::Failed("the bundle was not written to its end".to_owned()),
        }
    }

    async fn ended(self) -> Result<u64, Failure> {
        let Self { sender, thread, name } = self;
        drop(sender);
        let ended = spawn_blocking(move || thread.join()).await;
        let name = name.display();
        match ended {
            Ok(Ok(written)) => written.map_err(|error| Failure::Failed(format!("{name}: {error}"))),
            _ => Err(Failure::Failed(format!("{name}: the writing died"))),
        }
    }
}

fn write(target: Target, mut orders: mpsc::Receiver<Order>) -> io::Result<u64> {
    let Target { output, is_compressed, name, rename_from } = target;
    let mut packed = match is_compressed {
        true => Packed::Zstd(zstd::Encoder::new(output, ZSTD_LEVEL)?),
        false => Packed::Plain(output),
    };
    loop {
        match orders.blocking_recv() {
            Some(Order::Write(bytes)) => packed.write(&bytes)?,
            Some(Order::Finish) => break,
            // Whoever poured has not come to the end.
            None => return Err(io::Error::other("interrupted")),
        }
    }
    let kept = packed.finish()?.end()?;
    if let Some(from) = rename_from {
        std::fs::rename(&from, &name)?;
        let dir = name.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or_else(|| ".".as_ref()))?.sync_all()?;
    }
    Ok(kept)
}

enum Packed {
    Plain(Output),
    Zstd(zstd::Encoder<'static, Output>),
}

impl Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Output> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Output {
    fn end(self) -> io::Result<u64> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush().map(|()| 0),
            Self::File(begun) => begun.end(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(begun) => begun.take(bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(_) => Ok(()),
        }
    }
}

impl Begun {
    /// A file, at its beginning.
    pub(super) const fn new(file: File, may_change: bool) -> Self {
        let buffer = Vec::new();
        Self { file, is_same: true, may_change, at: 0, kept: 0, synced: 0, buffer }
    }

    /// Has `bytes` stand next in it.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.is_same {
            let same = self.same(bytes)?;
            self.at += same as u64;
            self.kept = self.at;
            bytes = &bytes[same..];
            if bytes.is_empty() {
                return Ok(());
            }
            self.differs()?;
        }
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        if self.at - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.at;
        }
        Ok(())
    }

    /// How many of these bytes stand next in the file.
    fn same(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.resize(bytes.len(), 0);
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read(&mut self.buffer[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let pairs = bytes.iter().zip(&self.buffer[..read]);
        Ok(pairs.take_while(|(wanted, found)| wanted == found).count())
    }

    /// Cuts off what is not as it is to be.
    fn differs(&mut self) -> io::Result<()> {
        if !self.may_change {
            return Err(io::Error::other(
                "there is another file of that name: move it away, or say --force to replace it",
            ));
        }
        self.is_same = false;
        self.synced = self.at;
        self.file.set_len(self.at)?;
        self.file.seek(SeekFrom::Start(self.at)).map(drop)
    }

    fn end(mut self) -> io::Result<u64> {
        if self.is_same && self.file.metadata()?.len() > self.at {
            self.differs()?;
        }
        self.file.sync_all()?;
        Ok(self.kept)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn begun(before: &str, may_change: bool) -> (tempfile::TempDir, Begun) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, before).expect("written");
        let file = File::options().read(true).write(true).open(path).expect("opened");
        (dir, Begun::new(file, may_change))
    }

    #[test]
    fn what_is_there_and_right_is_not_written_again() {
        for (before, kept) in [
            ("", 0),
            ("hel", 3),
            ("hello wor", 9),
            ("help", 3),
            ("hello world", 11),
            ("hello worlds", 11),
            ("x", 0),
        ] {
            let (dir, mut begun) = begun(before, true);
            begun.take(b"hello").expect("taken");
            begun.take(b" world").expect("taken");
            assert_eq!(begun.end().expect("ended"), kept, "{before}");
            assert_eq!(fs::read(dir.path().join("file")).expect("read"), b"hello world");
        }
    }

    #[test]
    fn what_may_not_change_does_not() {
        for (before, is_fine) in
            [("hello", true), ("help", false), ("hello!", false), ("hel", false)]
        {
            let (dir, mut begun) = begun(before, false);
            let ended = begun.take(b"hello").and_then(|()| begun.end());
            assert_eq!(ended.is_ok(), is_fine, "{before}");
            assert_eq!(fs::read(dir.path().join("file")).expect("read"), before.as_bytes());
        }
    }
}
