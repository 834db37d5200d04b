//! What [`crate::store::fuzzing`] calls of what is read here.

use super::State;

/// The state of a set as it is written anew; `None` for one that is of no set. What is told of volumes and bytes is told
/// without walking more of them than there are.
pub(in crate::store) fn volumes(bytes: &[u8]) -> Option<Vec<u8>> {
    let state = State::read(bytes)?;
    let volumes = state.cut.values().map(|cut| &cut.volumes).chain([&state.taken]);
    for volumes in volumes {
        assert!(volumes.end() <= u64::from(state.of) + 1, "of the set");
        assert_eq!(volumes.each().count() as u64, volumes.total());
    }
    for cut in state.cut.values() {
        let here: u64 =
            cut.bytes.gaps(0..cut.bytes.end()).iter().map(|gap| gap.end - gap.start).sum();
        assert_eq!(here + cut.bytes.total(), cut.bytes.end(), "each byte is here or is not");
    }
    Some(serde_json::to_vec(&state).expect("strings and numbers serialise"))
}
