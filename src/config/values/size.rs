//! Sizes, in bytes or as a part of the file system.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use bytesize::ByteSize;

use super::{in_quotes, unwrapped};
use crate::store::Share;

/// Most bytes that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct MaxSize(pub(in crate::config) Share);

/// Bytes that are left free; none is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct MinFree(pub(in crate::config) Share);

/// What the system may hold of answers that a client has not taken; `None`: as wharf finds best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct SendBuffer(pub(in crate::config) Option<usize>);

/// A number of bytes in memory, from `MIN` to `MAX` KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Memory<const MIN: u64, const MAX: u64>(pub(in crate::config) usize);

/// Bytes of a request's head. More than the last never fits into what a connection may have in memory.
pub(in crate::config) type HeadBytes = Memory<4, 64>;

/// Bytes of documents. The longest, of 4 MiB, is to have room.
pub(in crate::config) type DocumentRoom = Memory<4096, 1_048_576>;

/// Bytes of one document. Registries must take manifests of 4 MiB, and clients read no longer ones.
pub(in crate::config) type DocumentBytes = Memory<16, 4096>;

/// Bytes of an answer that is no use.
pub(in crate::config) type ErrorBytes = Memory<1, 1024>;

/// Less holds no image.
const SMALLEST: u64 = bytesize::MIB;

/// Send buffers that are of use: less stalls on any network, and the system allows no more.
const SEND_BUFFERS: RangeInclusive<u64> = 16 * bytesize::KIB..=64 * bytesize::MIB;

/// What sizes are shown in: the largest unit that leaves no fraction.
const UNITS: [(&str, u64); 8] = [
    ("TiB", bytesize::TIB),
    ("TB", bytesize::TB),
    ("GiB", bytesize::GIB),
    ("GB", bytesize::GB),
    ("MiB", bytesize::MIB),
    ("MB", bytesize::MB),
    ("KiB", bytesize::KIB),
    ("kB", bytesize::KB),
];

/// A number of bytes: `32GiB`, `500 kB`. "2Mb" means bits to everyone but the parser.
pub(super) fn read_bytes(text: &str) -> Option<u64> {
    let ByteSize(bytes) = Some(text).filter(|text| !text.contains('b'))?.trim().parse().ok()?;
    Some(bytes)
}

/// Bytes, as the command line takes them: `4GiB`.
///
/// # Errors
/// What to write instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let none = || format!("\"{text}\" is no size: write a number of bytes such as 4GiB or 700MB");
    read_bytes(text).filter(|bytes| *bytes > 0).ok_or_else(none)
}

/// Such that it reads back as the same number.
pub(super) fn show_bytes(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, factor)| bytes > 0 && bytes % factor == 0);
    let (unit, factor) = whole.copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Hundredths up to 100, or bytes.
fn share(text: &str) -> Option<Share> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100)?;
            Some(Share::Percent(percent))
        }
        None => read_bytes(text).map(Share::Bytes),
    }
}

impl FromStr for MaxSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match share(text) {
            Some(Share::Bytes(bytes)) if bytes < SMALLEST => {
                Err(format!("\"{text}\" leaves no room for an image: write at least \"1MiB\""))
            }
            Some(Share::Percent(0)) => {
                Err(format!("\"{text}\" leaves no room for an image: write at least \"1%\""))
            }
            Some(share) => Ok(Self(share)),
            None => Err(format!(
                "\"{text}\" is not a size: write a part of the file system or bytes with a capital B, such as \
                 \"80%\" or \"32GiB\""
            )),
        }
    }
}

impl FromStr for MinFree {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match share(text) {
            Some(Share::Percent(100)) => {
                Err(format!("\"{text}\" leaves no room for an image: write at most \"99%\""))
            }
            Some(share) => Ok(Self(share)),
            None => Err(format!(
                "\"{text}\" is not a size: write bytes with a capital B or a part of the file system, such as \
                 \"1GiB\" or \"5%\", or \"0\" for none"
            )),
        }
    }
}

impl FromStr for SendBuffer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let bytes = read_bytes(text).filter(|bytes| SEND_BUFFERS.contains(bytes));
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) => Ok(Self(Some(bytes))),
            None => Err(format!(
                "\"{text}\" is no send buffer: write \"auto\", or \"16KiB\" to \"64MiB\" with a capital B"
            )),
        }
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Memory<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = MIN * bytesize::KIB..=MAX * bytesize::KIB;
        let bytes = read_bytes(text).filter(|bytes| range.contains(bytes));
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).map(Self).ok_or_else(|| {
            let [least, most] = [range.start(), range.end()].map(|bytes| show_bytes(*bytes));
            format!("\"{text}\" will not do: write \"{least}\" to \"{most}\", with a capital B")
        })
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Memory<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_bytes(self.0 as u64))
    }
}

impl<const MIN: u64, const MAX: u64> From<Memory<MIN, MAX>> for usize {
    fn from(memory: Memory<MIN, MAX>) -> Self {
        memory.0
    }
}

fn shown(share: Share, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match share {
        Share::Bytes(0) => f.write_str("0"),
        Share::Bytes(bytes) => f.write_str(&show_bytes(bytes)),
        Share::Percent(percent) => write!(f, "{percent}%"),
    }
}

impl fmt::Display for MaxSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.0, f)
    }
}

impl fmt::Display for MinFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.0, f)
    }
}

impl fmt::Display for SendBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => f.write_str(&show_bytes(bytes as u64)),
            None => f.write_str("auto"),
        }
    }
}

in_quotes! {
    SendBuffer: "a size in quotes, such as \"256KiB\", or \"auto\"";
    MaxSize: "a size in quotes, such as \"80%\" or \"32GiB\"";
    MinFree: "a size in quotes, such as \"1GiB\" or \"5%\"";
    HeadBytes: "a size in quotes, such as \"32KiB\"";
    DocumentRoom: "a size in quotes, such as \"32MiB\"";
    DocumentBytes: "a size in quotes, such as \"4MiB\"";
    ErrorBytes: "a size in quotes, such as \"64KiB\"";
}

unwrapped! {
    SendBuffer => Option<usize>;
    MaxSize => Share;
    MinFree => Share;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_size_is_shown_as_it_is_read(bytes in SMALLEST.., zeros in 0_u32..7, percent in 1_u8..=99) {
            let round = [bytes, bytes % 1_000_000 * 1000_u64.pow(zeros.min(4)), 1 << (20 + zeros)];
            for share in round.map(Share::Bytes).into_iter().chain([Share::Percent(percent)]) {
                let shown = MinFree(share).to_string();
                prop_assert_eq!(shown.parse(), Ok(MinFree(share)), "{}", shown);
            }
            let shown = MaxSize(Share::Bytes(bytes)).to_string();
            prop_assert_eq!(shown.parse(), Ok(MaxSize(Share::Bytes(bytes))), "{}", shown);
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, share) in [
            ("32GiB", Share::Bytes(32 << 30)),
            ("32 GiB", Share::Bytes(32 << 30)),
            ("1.5GiB", Share::Bytes(3 << 29)),
            ("500GB", Share::Bytes(500_000_000_000)),
            ("2T", Share::Bytes(2_000_000_000_000)),
            ("80%", Share::Percent(80)),
            ("5 %", Share::Percent(5)),
        ] {
            assert_eq!(text.parse(), Ok(MinFree(share)), "{text}");
            assert_eq!(text.parse(), Ok(MaxSize(share)), "{text}");
        }
        for (text, bytes) in
            [("auto", None), ("256KiB", Some(256 << 10)), ("64 MiB", Some(64 << 20))]
        {
            let buffer: SendBuffer = text.parse().expect("a send buffer");
            assert_eq!(buffer, SendBuffer(bytes));
            assert_eq!(buffer.to_string().parse(), Ok(buffer));
        }
        for wrong in ["", "0", "15KiB", "65MiB", "1GiB", "256kb", "-1", "Auto"] {
            let refused = wrong.parse::<SendBuffer>().expect_err(wrong);
            assert!(refused.contains("write \"auto\""), "{refused}");
        }
        for none in ["0", "0B", "0GiB"] {
            assert_eq!(none.parse(), Ok(MinFree(Share::Bytes(0))), "{none}");
        }
    }
}
