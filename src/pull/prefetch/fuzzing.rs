//! What [`crate::pull::fuzzing`] calls of what is read here.

use bytes::Bytes;

use super::jobs::Jobs;

/// How many jobs are read in what was written down, and what is written down of them.
pub(in crate::pull) fn jobs(bytes: &[u8]) -> (usize, Option<Bytes>) {
    let jobs = Jobs::default();
    let read = jobs.read(bytes);
    let count = read.len();
    for job in read {
        assert!(job.window.is_none_or(|(from, to)| from.max(to) < 24 * 60), "of one day");
        jobs.add(job);
    }
    jobs.not_written();
    (count, jobs.unwritten())
}
