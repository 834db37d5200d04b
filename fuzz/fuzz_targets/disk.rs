//! What wharf reads of its own files, on a disk that rots: whatever is taken of them is written again and read as the same.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use wharf::{
    bundle::{Contents, Volume},
    pull, store,
};

/// What is written of what was read is read as that.
fn settles<T: AsRef<[u8]> + PartialEq + Debug>(bytes: &[u8], read: impl Fn(&[u8]) -> Option<T>) {
    if let Some(written) = read(bytes) {
        assert_eq!(read(written.as_ref()).as_ref(), Some(&written));
    }
}

fn contents(bytes: &[u8]) {
    if let Ok(contents) = Contents::parse(bytes) {
        let written = contents.to_bytes().expect("it was read");
        assert_eq!(Contents::parse(&written), Ok(contents));
    }
    if let Ok(volume) = Volume::parse(bytes) {
        let written = volume.to_bytes().expect("it was read");
        assert_eq!(Volume::parse(&written), Ok(volume));
    }
}

/// A line counts with its own sum alone.
fn journal(bytes: &[u8]) {
    // Summing takes longer than reading: only what may be a fact.
    if !bytes.starts_with(b"{\"fact\"") {
        return;
    }
    let line = store::fuzzing::journal_line(bytes);
    settles(&line, |line| store::fuzzing::journal(line.strip_suffix(b"\n").unwrap_or(line)));
    if let Some(at) = line.len().checked_sub(1) {
        let mut rotten = line;
        rotten[at] ^= 1;
        assert_eq!(store::fuzzing::journal(&rotten), None);
    }
}

/// What vouches for bytes is a beginning of the file, and vouches for the same without the rest.
fn checkpoints(bytes: &[u8]) {
    let (written, end) = store::fuzzing::checkpoints(bytes);
    assert!(end <= bytes.len() as u64);
    assert_eq!(store::fuzzing::checkpoints(&bytes[..end as usize]), (written.clone(), end));
    assert_eq!(store::fuzzing::checkpoints(&written), (written.clone(), written.len() as u64));
}

/// Memory that is forgotten without harm: no more of it than is kept in a day, and the same as it is written again.
fn remembered(bytes: &[u8]) {
    // Room for all that may be remembered is made each time: only for what may be a list.
    if bytes.starts_with(b"[[") {
        let (clients, platforms, written) = pull::fuzzing::learned(bytes);
        assert!(clients <= 4096 && platforms <= 4);
        let written = written.expect("all is written anew");
        assert_eq!(pull::fuzzing::learned(&written).0, clients);
    } else if bytes.starts_with(b"[") {
        let (read, written) = pull::fuzzing::jobs(bytes);
        assert!(read <= 1024);
        if let Some(written) = written {
            let again = pull::fuzzing::jobs(&written).1.expect("as much");
            assert_eq!(again.len(), written.len());
        }
    }
    let (status, written) = pull::fuzzing::scrubbed(bytes);
    let status = status.expect("it is checked");
    assert!(status.bad > 0 && status.blobs > 0 && status.bytes > 0, "one was read: {status:?}");
    assert!(written.is_some());
}

fuzz_target!(|bytes: &[u8]| {
    journal(bytes);
    settles(bytes, store::fuzzing::index_json);
    settles(bytes, store::fuzzing::listed);
    settles(bytes, store::fuzzing::volumes);
    checkpoints(bytes);
    contents(bytes);
    remembered(bytes);
});
