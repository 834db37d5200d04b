//! Memory that is free is given back to the system: the one place in wharf with `unsafe` in it.
//!
//! glibc keeps pages between what is still used, however many they are; only [`malloc_trim`] gives them back. No crate offers
//! it without `unsafe`, and other allocators took more memory.
//!
//! [`malloc_trim`]: https://man7.org/linux/man-pages/man3/malloc_trim.3.html

#![allow(
    unsafe_code,
    reason = "a declaration of a foreign function is unsafe code, whoever calls it"
)]

/// Gives the pages that the allocator has free back to the system; whether there were any. Walks the heap, and holds up who
/// allocates meanwhile: for threads that may block. Does nothing where the allocator is not glibc's.
pub fn give_back() -> bool {
    trim()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() -> bool {
    // SAFETY: the manual's declaration is `int malloc_trim(size_t pad)`: a `size_t` is a `usize` on all that glibc runs on, and
    // the standard library links it. It takes no pointer, and touches only memory that nobody has: what a program may rely
    // on of the heap stays as it is. It is MT-Safe (attributes(7)): any thread may call it, whatever others do. So there is
    // nothing for a caller to see to, and it is `safe`.
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    malloc_trim(0) != 0
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() -> bool {
    false
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Kibibytes of this process in memory.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
        let pages = statm.split(' ').nth(1).expect("the second field");
        pages.parse::<usize>().expect("a number") * 4
    }

    #[test]
    fn what_lies_between_what_is_used_is_given_back() {
        // Other tests of this process take memory meanwhile, and give some back.
        assert!((0..10).any(|_| gives_back()));
    }

    fn gives_back() -> bool {
        const PIECES: usize = 16 * 1024;
        let mut pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; 4 * 1024]).collect();
        let full = resident();
        // One in 64 stays: nothing but it keeps the pages around it.
        let mut number = 0;
        pieces.retain(|_| {
            number += 1;
            number % 64 == 0
        });
        assert!(give_back());
        let left = resident();
        assert!(pieces.iter().all(|piece| piece.iter().all(|byte| *byte == 1)));
        left + 32 * 1024 < full
    }
}
