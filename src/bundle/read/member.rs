//! [`Members`]: the members of a tar archive in their order, with bounds that the `tar` crate leaves to its callers: it reads
//! extended headers of any length into memory, and follows what sparse members say of themselves.

use std::{
    collections::HashSet,
    io::{self, Read},
};

use tar::{EntryType, Header};

use super::{PIECE_BYTES, ReadError, Why, docker::is_alias, error::cut};
use crate::{bundle::write::BLOCK, oci::Digest};

/// Most members of an archive, directories and what is passed over among them.
const MEMBERS_MAX: usize = 262_144;
/// Longest extended header, in bytes.
const EXTENDED_MAX_BYTES: u64 = 64 * 1024;
/// Extended headers before one member: pax, GNU's name, GNU's link; and a global one.
const EXTENDED_MAX: usize = 8;
/// Bytes behind the end of an archive that are read, so that a packed one's own sum is verified: writers pad to 10 KiB, or to
/// a tape's blocks. What is longer is what a device holds behind an archive, and nobody's.
const TRAILING_MAX_BYTES: u64 = 1024 * 1024;
/// Longest path: that of a segment of a sha512 has 170 bytes.
const PATH_MAX_BYTES: usize = 512;

/// The members of one archive.
pub(super) struct Members<R> {
    archive: R,
    /// Bytes that members may still have.
    left: u64,
    most: u64,
    /// Bytes of the current member that are not read yet, and of the zeros behind it.
    rest: u64,
    padding: u64,
    /// Digests of paths, which are shorter.
    seen: HashSet<Digest>,
    /// Members that came, of which a directory may come again.
    came: usize,
    /// Whether the zeros came that end an archive.
    is_ended: bool,
    buffer: Vec<u8>,
}

/// A member whose bytes come next.
pub(super) struct Member {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    File,
    Directory,
    /// Another name for a layer, as `docker save` writes it: never followed anywhere but within the archive.
    Alias(String),
}

/// What extended headers say of the member behind them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Member {
    pub(super) fn refused(&self, why: Why) -> ReadError {
        refused(&self.path, why)
    }
}

impl<R: Read> Members<R> {
    pub(super) fn new(archive: R, most: u64) -> Self {
        Self {
            archive,
            left: most,
            most,
            rest: 0,
            padding: 0,
            seen: HashSet::new(),
            came: 0,
            is_ended: false,
            buffer: vec![0; PIECE_BYTES],
        }
    }

    /// Whether there was any.
    pub(super) const fn any(&self) -> bool {
        self.came > 0
    }

    /// Whether the archive says that it ends where it did: some writers do not, and what was cut off between two members
    /// does not either.
    pub(super) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Reads what is behind the end, for the sums that a packed archive ends with.
    pub(super) fn read_out(&mut self) -> Result<(), ReadError> {
        let mut behind = (&mut self.archive).take(TRAILING_MAX_BYTES);
        io::copy(&mut behind, &mut io::sink()).map(drop).map_err(cut)
    }

    /// The next member; `None` at the end of the archive. What was not read of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ReadError> {
        let mut extended = Extended::default();
        let mut count = 0;
        loop {
            self.skip().map_err(|why| match why {
                Why::Cut(error) => cut(error),
                other => ReadError::Whole(Box::new(other)),
            })?;
            let Some(header) = self.header()? else {
                return if count == 0 { Ok(None) } else { Err(cut(ended())) };
            };
            let entry = header.entry_type();
            if entry.is_gnu_longname()
                || entry.is_gnu_longlink()
                || entry.is_pax_local_extensions()
                || entry.is_pax_global_extensions()
            {
                count += 1;
                let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
                let size = stated_size(&header).ok_or_else(|| refused(&name, Why::Header))?;
                if count > EXTENDED_MAX || size > EXTENDED_MAX_BYTES {
                    return Err(refused(&name, Why::Extended));
                }
                let bytes = self.extension(size).map_err(|why| refused(&name, why))?;
                extended.read(entry, bytes).map_err(|why| refused(&name, why))?;
                continue;
            }
            return self.member(&header, extended).map(Some);
        }
    }

    /// The next bytes of the current member; `None` behind its last.
    pub(super) fn piece(&mut self) -> Result<Option<&[u8]>, Why> {
        if self.rest == 0 {
            return Ok(None);
        }
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(self.buffer.len());
        loop {
            match self.archive.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(Why::Cut(ended())),
                Ok(read) => {
                    self.rest -= read as u64;
                    return Ok(Some(&self.buffer[..read]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Why::Cut(error)),
            }
        }
    }

    /// Passes over what is left of the current member.
    pub(super) fn skip(&mut self) -> Result<(), Why> {
        while self.piece()?.is_some() {}
        let padding = std::mem::take(&mut self.padding);
        self.rest = padding;
        while self.piece()?.is_some() {}
        Ok(())
    }

    /// The next header; `None` for the zeros at the end, or where the file ends without them, as some writers leave it.
    fn header(&mut self) -> Result<Option<Header>, ReadError> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.archive.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) if self.any() => return Err(cut(ended())),
                Ok(0) => return Err(ReadError::NoArchive),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cut(error)),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            self.is_ended = true;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The eight bytes of the sum itself count as spaces.
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let own: u32 = block[148..156].iter().map(|&byte| u32::from(byte)).sum();
        if header.cksum().ok() == Some(sum - own + 8 * u32::from(b' ')) {
            return Ok(Some(header));
        }
        if !self.any() {
            return Err(ReadError::NoArchive);
        }
        Err(refused(&String::from_utf8_lossy(&header.path_bytes()), Why::Header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Why> {
        self.count(size)?;
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece()? {
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, ReadError> {
        let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let no = |why| refused(&shown, why);
        let path = clean(&raw).map_err(no)?;
        let size = match extended.size {
            Some(size) => size,
            None => stated_size(header).ok_or_else(|| no(Why::Header))?,
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => {
                let target = extended.link.or_else(|| header.link_name_bytes().map(Into::into));
                let target = target.and_then(|target| String::from_utf8(target).ok());
                match target.filter(|target| is_alias(&path, target)) {
                    Some(target) => Kind::Alias(target),
                    None => return Err(no(Why::Kind("symbolic link"))),
                }
            }
            EntryType::Link => return Err(no(Why::Kind("hard link"))),
            EntryType::Char | EntryType::Block => return Err(no(Why::Kind("device"))),
            EntryType::Fifo => return Err(no(Why::Kind("pipe"))),
            EntryType::GNUSparse => return Err(no(Why::Kind("sparse file"))),
            _ => return Err(no(Why::Kind("member of an unknown type"))),
        };
        if !matches!(kind, Kind::File) && size != 0 {
            return Err(no(Why::Header));
        }
        if matches!(kind, Kind::Directory) {
            // The top of the archive, too, which some write as `./`.
            self.seen.insert(Digest::sha256(format!("{path}/").as_bytes()));
        } else {
            if path.is_empty() {
                return Err(no(Why::Name));
            }
            if !self.seen.insert(Digest::sha256(path.as_bytes())) {
                return Err(no(Why::Again));
            }
        }
        self.came += 1;
        if self.came > MEMBERS_MAX {
            return Err(no(Why::Members(MEMBERS_MAX)));
        }
        self.count(size).map_err(no)?;
        Ok(Member { path, size, kind })
    }

    fn count(&mut self, size: u64) -> Result<(), Why> {
        self.left = self.left.checked_sub(size).ok_or(Why::Bytes(self.most))?;
        self.rest = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        Ok(())
    }
}

impl Extended {
    fn read(&mut self, entry: EntryType, mut bytes: Vec<u8>) -> Result<(), Why> {
        if entry.is_gnu_longname() || entry.is_gnu_longlink() {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            bytes.truncate(end);
            *(if entry.is_gnu_longname() { &mut self.path } else { &mut self.link }) = Some(bytes);
            return Ok(());
        }
        let is_global = entry.is_pax_global_extensions();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, behind) = record(rest).ok_or(Why::Header)?;
            rest = behind;
            if key.starts_with(b"GNU.sparse") {
                return Err(Why::Kind("sparse file"));
            }
            match key {
                // What all members would be called, nobody means.
                b"path" | b"size" | b"linkpath" if is_global => return Err(Why::Header),
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let digits = std::str::from_utf8(value).ok();
                    self.size = Some(digits.and_then(|d| d.parse().ok()).ok_or(Why::Header)?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The size that a header says: in octal digits, or as GNU tar writes what these cannot say, in binary of twelve bytes. The
/// `tar` crate takes the last eight of them whatever stands before, so that other readers would read another size.
fn stated_size(header: &Header) -> Option<u64> {
    match header.as_old().size {
        [0x80, 0, 0, 0, low @ ..] => Some(u64::from_be_bytes(low)),
        [first, ..] if first & 0x80 != 0 => None,
        _ => header.entry_size().ok(),
    }
}

/// A record of pax, `<length> <key>=<value>\n`, and what is behind it. The length counts all of it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (whole, behind) = bytes.split_at_checked(length)?;
    let text = whole.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|&byte| byte == b'=')?;
    Some((&text[..equals], &text[equals + 1..], behind))
}

/// The path of a member without `./` before it and `/` behind it.
fn clean(raw: &[u8]) -> Result<String, Why> {
    let text = std::str::from_utf8(raw).map_err(|_| Why::Name)?;
    if text.len() > PATH_MAX_BYTES || text.contains('\0') {
        return Err(Why::Name);
    }
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(Why::Path);
    }
    let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
    Ok(parts.collect::<Vec<_>>().join("/"))
}

fn refused(name: &str, why: Why) -> ReadError {
    ReadError::Member { name: name.to_owned(), why: Box::new(why) }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early")
}
