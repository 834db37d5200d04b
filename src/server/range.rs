//! `Range` ([RFC 9110 §14](https://www.rfc-editor.org/rfc/rfc9110#section-14)): what the client asked, and what it gets.

use std::ops::Range;

/// What a `Range` header asks for, before the length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeRequest {
    /// `bytes=N-` and `bytes=N-M`: from the first to the last byte, both counted.
    From { first: u64, last: Option<u64> },
    /// `bytes=-N`: the last N bytes.
    Suffix { length: u64 },
}

/// What to send to a client that asked for a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selected {
    /// 206 with these bytes.
    Part(Range<u64>),
    /// 416.
    Unsatisfiable,
}

impl RangeRequest {
    /// Reads a `Range` header. `None` is "send everything", the answer that is allowed always (RFC 9110
    /// §14.2): to several ranges, other units, and what is malformed.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (unit, set) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        match (first, last) {
            ("", length) => Some(Self::Suffix { length: number(length)? }),
            (first, "") => Some(Self::From { first: number(first)?, last: None }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    /// The bytes of a representation of `size` bytes.
    pub(super) fn select(self, size: u64) -> Selected {
        let range = match self {
            Self::From { first, last } => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                first..end
            }
            Self::Suffix { length } => size.saturating_sub(length)..size,
        };
        if range.is_empty() { Selected::Unsatisfiable } else { Selected::Part(range) }
    }
}

/// Digits only: no sign, no white space. A number beyond `u64` lies behind the end of anything.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn several_ranges_and_malformed_ones_mean_everything() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-",
            "bytes=1-a",
            "bytes=2-1",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=--1",
            "bytes=0x1-",
            "=0-1",
            "bytes 0-1",
        ] {
            assert_eq!(RangeRequest::parse(header), None, "{header:?}");
        }
    }

    #[test]
    fn what_lies_behind_the_end_cannot_be_had() {
        for (header, size) in [
            ("bytes=10-", 10),
            ("bytes=10-20", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-5", 0),
            ("bytes=99999999999999999999-", 10),
        ] {
            let request = RangeRequest::parse(header).expect("well formed");
            assert_eq!(request.select(size), Selected::Unsatisfiable, "{header} of {size}");
        }
    }

    proptest! {
        #[test]
        fn selects_what_a_slice_would(bytes in proptest::collection::vec(any::<u8>(), 1..50), a in 0u64..60, b in 0u64..60) {
            let size = bytes.len() as u64;
            let naive = |want: &dyn Fn(u64) -> bool| {
                (0..size).filter(|at| want(*at)).map(|at| bytes[at as usize]).collect::<Vec<_>>()
            };
            let got = |header: String| match RangeRequest::parse(&header).map(|request| request.select(size)) {
                Some(Selected::Part(range)) => Some(bytes[range.start as usize..range.end as usize].to_vec()),
                Some(Selected::Unsatisfiable) => Some(Vec::new()),
                None => None,
            };
            prop_assert_eq!(got(format!("bytes={a}-")), Some(naive(&|at| at >= a)));
            prop_assert_eq!(got(format!("bytes=-{a}")), Some(naive(&|at| at + a >= size)));
            if a <= b {
                prop_assert_eq!(got(format!("bytes={a}-{b}")), Some(naive(&|at| a <= at && at <= b)));
            } else {
                prop_assert_eq!(got(format!("bytes={a}-{b}")), None);
            }
        }

        #[test]
        fn never_panics_on_any_text(header in ".{0,60}", size in any::<u64>()) {
            if let Some(request) = RangeRequest::parse(&header) {
                let _ = request.select(size);
            }
        }
    }
}
