//! Reading: archives that come from elsewhere, in one pass. Wharf's bundles, OCI image layouts and what `docker save` writes.
//!
//! Nobody's word is taken for anything: what a member says of itself is checked before a byte of it is held, blobs go to a
//! [`Sink`] in pieces and count when their digest matches, and names are told when all that they lead to is there.

mod docker;
mod error;
mod layout;
mod member;
mod sink;
mod tree;
mod volume;

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead as _, BufReader, Read},
};

pub(super) use self::error::line;
pub use self::error::{ReadError, Why};
use self::{
    docker::{Aliases, Unnamed},
    error::{cut, unended},
    member::{Kind, Member, Members},
    tree::{DOCUMENTS_MAX_BYTES, Tree},
    volume::Arriving,
};
pub use self::{
    sink::Sink,
    volume::{Joined, TakenVolume},
};
use super::{
    CONTENTS, CONTENTS_MAX_BYTES, Contents, DOCKER, INDEX, KEY_MAX_BYTES, Named, OCI_LAYOUT,
    PublicKey, SIGNATURE, VOLUME, Volume, verify,
};
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, ImageName, Manifest};

/// Longest `index.json` or `manifest.json` that is read, in bytes: some 40 000 images.
const LIST_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that a sink is given at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The window that a zstd archive may ask for, as a power of two: 128 MiB, what `zstd --ultra` needs at most.
const WINDOW_LOG_MAX: u32 = 27;

/// Bytes that an archive may have beside those of its members: headers, and what fills their last blocks. That of a packed
/// one may be endless without a member in it.
const EXTRA_BYTES: u64 = 1024 * 1024 * 1024;

/// What is taken, and from whom.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Most bytes that all members have together, unpacked.
    pub bytes: u64,
    /// What an image is called that has no name in the archive; where it has a tag alone, of this repository.
    pub name: Option<ImageName>,
    /// Whose signatures count. With none, anybody's archives are taken, signed or not.
    pub trusted: Vec<PublicKey>,
}

/// What an archive brought, all of it verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The images, each whole for every manifest in it.
    pub images: Vec<BroughtImage>,
    /// The contents document, if it was a bundle of wharf's.
    pub contents: Option<Contents>,
    /// Of a volume: which, and what of its set is not here yet. There are no images while something is not.
    pub volume: Option<TakenVolume>,
}

/// An image that an archive brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroughtImage {
    /// What it is, and under which name.
    pub named: Named,
    /// Its index or manifest.
    pub root: Descriptor,
    /// All documents that are here, each before the one that lists it: the last is the root. Where they list manifests that
    /// are not here, these did not travel.
    pub documents: Vec<(Descriptor, Manifest)>,
}

/// Reads an archive: tar, packed with gzip, zstd or not at all.
///
/// # Errors
/// In one sentence, with the name of the member that is wrong.
pub fn read(archive: impl Read, terms: &Terms, sink: &mut impl Sink) -> Result<Brought, ReadError> {
    let archive = archive.take(terms.bytes.saturating_add(EXTRA_BYTES));
    let mut archive = BufReader::with_capacity(PIECE_BYTES, archive);
    let begin = archive.fill_buf().map_err(cut)?;
    if begin.starts_with(&[0x1f, 0x8b]) {
        Reading::new(terms, sink).run(&mut flate2::bufread::MultiGzDecoder::new(archive))
    } else if begin.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut unpacked = zstd::Decoder::with_buffer(archive).map_err(cut)?;
        unpacked.window_log_max(WINDOW_LOG_MAX).map_err(cut)?;
        Reading::new(terms, sink).run(&mut unpacked)
    } else {
        Reading::new(terms, sink).run(&mut archive)
    }
}

/// One archive, as far as it was read.
struct Reading<'t, S> {
    terms: &'t Terms,
    sink: &'t mut S,
    contents: Option<(Contents, Vec<u8>)>,
    volume: Option<Arriving>,
    /// What the contents say of blobs that have not come yet.
    awaited: HashMap<Digest, u64>,
    is_signed: bool,
    /// Whether any blob came.
    is_begun: bool,
    index: Option<Vec<u8>>,
    docker: Option<Vec<u8>>,
    unnamed: Unnamed,
    aliases: Aliases,
}

impl<'t, S: Sink> Reading<'t, S> {
    fn new(terms: &'t Terms, sink: &'t mut S) -> Self {
        Self {
            terms,
            sink,
            contents: None,
            volume: None,
            awaited: HashMap::new(),
            is_signed: false,
            is_begun: false,
            index: None,
            docker: None,
            unnamed: Unnamed::default(),
            aliases: Aliases::default(),
        }
    }

    fn run(mut self, archive: &mut dyn Read) -> Result<Brought, ReadError> {
        let mut members = Members::new(archive, self.terms.bytes);
        while let Some(member) = members.next()? {
            self.take(&member, &mut members).map_err(|why| match why {
                Why::Unsigned => ReadError::Whole(Box::new(why)),
                Why::Alone | Why::OtherSet | Why::Outside(_) => of_volume(why),
                why => member.refused(why),
            })?;
        }
        if !members.any() {
            return Err(ReadError::NoArchive);
        }
        members.read_out()?;
        if self.volume.is_some() && !members.is_ended() {
            // Nothing else tells how many blobs a volume holds.
            return Err(cut(io::Error::new(io::ErrorKind::UnexpectedEof, "it has no end")));
        }
        let brought = self.finish();
        if members.is_ended() { brought } else { brought.map_err(unended) }
    }

    fn take<R: Read>(&mut self, member: &Member, members: &mut Members<R>) -> Result<(), Why> {
        match &member.kind {
            Kind::Alias(target) => return self.aliases.insert(&member.path, target),
            Kind::Directory => return Ok(()),
            Kind::File => {}
        }
        match member.path.as_str() {
            OCI_LAYOUT => layout::check_marker(&document(member, members, LIST_MAX_BYTES)?),
            INDEX => {
                self.index = Some(document(member, members, LIST_MAX_BYTES)?);
                Ok(())
            }
            DOCKER => {
                self.docker = Some(document(member, members, LIST_MAX_BYTES)?);
                Ok(())
            }
            CONTENTS => {
                let bytes = document(member, members, CONTENTS_MAX_BYTES)?;
                self.begin_bundle(bytes)
            }
            SIGNATURE => {
                let text = document(member, members, KEY_MAX_BYTES)?;
                self.check_signature(&text)
            }
            VOLUME => {
                let bytes = document(member, members, LIST_MAX_BYTES)?;
                if self.is_begun {
                    return Err(Why::Late);
                }
                let volume = Volume::parse(&bytes).map_err(Why::Contents)?;
                self.volume = Some(Arriving::new(volume));
                Ok(())
            }
            path if self.volume.is_some() && volume::is_part(path) => {
                self.must_be_trusted()?;
                self.part(path, member.size, members)
            }
            path => {
                let digest = layout::blob_name(path)?;
                if digest.is_none() && !docker::may_be_named(path) {
                    return members.skip();
                }
                self.must_be_trusted()?;
                let came = self.blob(digest, member.size, members)?;
                if digest.is_none() {
                    self.unnamed.insert(path, came, member.size)?;
                }
                Ok(())
            }
        }
    }

    /// Learns what is to come, before any of it does.
    fn begin_bundle(&mut self, bytes: Vec<u8>) -> Result<(), Why> {
        if self.is_begun {
            return Err(Why::Late);
        }
        let contents = Contents::parse(&bytes).map_err(Why::Contents)?;
        let mut missing = Vec::new();
        for base in &contents.base {
            if self.sink.size(&base.digest).map_err(Why::Sink)? != Some(base.size) {
                missing.push(base.clone());
            }
        }
        if !missing.is_empty() {
            return Err(Why::base(&missing));
        }
        self.awaited = contents.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        self.contents = Some((contents, bytes));
        Ok(())
    }

    fn check_signature(&mut self, text: &[u8]) -> Result<(), Why> {
        let Some((_, document)) = &self.contents else { return Err(Why::Misplaced) };
        if self.terms.trusted.is_empty() {
            return Ok(());
        }
        let text = std::str::from_utf8(text).map_err(|_| Why::Text)?;
        verify(&self.terms.trusted, document, text).map_err(Why::Signature)?;
        self.is_signed = true;
        Ok(())
    }

    /// Nothing is taken of an archive by somebody else.
    fn must_be_trusted(&self) -> Result<(), Why> {
        if self.terms.trusted.is_empty() || self.is_signed { Ok(()) } else { Err(Why::Unsigned) }
    }

    /// Takes a blob of which `size` bytes come, and verifies it: its digest.
    fn blob<R: Read>(
        &mut self,
        named: Option<Digest>,
        size: u64,
        members: &mut Members<R>,
    ) -> Result<Digest, Why> {
        self.begin()?;
        if self.contents.is_some() {
            let awaited = named.and_then(|digest| self.awaited.get(&digest));
            match awaited {
                None => return Err(Why::Unlisted),
                Some(&listed) if listed != size => return Err(Why::Size { listed, size }),
                Some(_) => {}
            }
        }
        let wanted = self.sink.begin(named.as_ref(), size).map_err(Why::Sink)?;
        let passed = self.pass_on(named, wanted, members);
        if wanted && passed.is_err() {
            self.sink.abandon();
        }
        let digest = passed?;
        if wanted {
            self.sink.end(&digest).map_err(Why::Sink)?;
        }
        self.awaited.remove(&digest);
        Ok(digest)
    }

    fn pass_on<R: Read>(
        &mut self,
        named: Option<Digest>,
        wanted: bool,
        members: &mut Members<R>,
    ) -> Result<Digest, Why> {
        let mut hasher = Hasher::new(named.map_or(Algorithm::Sha256, |digest| digest.algorithm()));
        while let Some(piece) = members.piece()? {
            hasher.update(piece);
            if wanted {
                self.sink.piece(piece).map_err(Why::Sink)?;
            }
        }
        let digest = hasher.finish();
        match named {
            Some(named) if named != digest => Err(Why::Digest(digest)),
            _ => Ok(digest),
        }
    }

    /// Finds the images, once everything is there.
    fn finish(mut self) -> Result<Brought, ReadError> {
        let all = |why| ReadError::Whole(Box::new(why));
        self.must_be_trusted().map_err(all)?;
        let volume = self.end_volume()?;
        if volume.as_ref().is_some_and(|volume| !volume.missing.is_empty()) {
            let contents = self.contents.map(|(contents, _)| contents);
            return Ok(Brought { images: Vec::new(), contents, volume });
        }
        let member = |name: &str| {
            let name = name.to_owned();
            move |why| ReadError::Member { name: name.clone(), why: Box::new(why) }
        };
        if let (None, Some(digest)) = (&volume, self.awaited.keys().min()) {
            let (digest, image) = (*digest, "the bundle".to_owned());
            return Err(member(CONTENTS)(Why::Lacking { digest, image }));
        }
        let roots = if let Some((contents, _)) = &self.contents {
            contents.images.iter().map(|image| (image.named.clone(), image.descriptor())).collect()
        } else if let Some(index) = &self.index {
            layout::images(index, self.terms.name.as_ref()).map_err(member(INDEX))?
        } else if let Some(list) = self.docker.take() {
            self.legacy(&list).map_err(member(DOCKER))?
        } else {
            return Err(all(Why::NoImages));
        };
        let from = match (&self.contents, &self.index) {
            (Some(_), _) => CONTENTS,
            (None, Some(_)) => INDEX,
            (None, None) => DOCKER,
        };
        let mut names = HashSet::new();
        let mut images = Vec::with_capacity(roots.len());
        let mut left = DOCUMENTS_MAX_BYTES;
        for (named, root) in roots {
            if !names.insert(named.to_string()) {
                return Err(member(from)(Why::Twice(named.to_string())));
            }
            let tree = Tree::new(self.sink, &named, &mut left);
            let documents = tree.walk(&root).map_err(member(from))?;
            images.push(BroughtImage { named, root, documents });
        }
        Ok(Brought { images, contents: self.contents.map(|(contents, _)| contents), volume })
    }

    /// Makes the manifests of an archive that has none, and gives them to the sink.
    fn legacy(&mut self, list: &[u8]) -> Result<Vec<(Named, Descriptor)>, Why> {
        let mut roots = Vec::new();
        for made in docker::images(list, &self.unnamed, &self.aliases, self.terms.name.as_ref())? {
            let config = self.sink.document(&made.config).map_err(Why::Sink)?;
            let config = config.ok_or_else(|| Why::Lacking {
                digest: made.config,
                image: made.names.first().map(ToString::to_string).unwrap_or_default(),
            })?;
            made.check(&config)?;
            let (root, bytes) = made.manifest()?;
            if self.sink.begin(Some(&root.digest), root.size).map_err(Why::Sink)? {
                if let Err(error) = self.sink.piece(&bytes) {
                    self.sink.abandon();
                    return Err(Why::Sink(error));
                }
                self.sink.end(&root.digest).map_err(Why::Sink)?;
            }
            roots.extend(made.names.into_iter().map(|name| (Named::Image(name), root.clone())));
        }
        Ok(roots)
    }
}

fn of_volume(why: Why) -> ReadError {
    ReadError::Member { name: VOLUME.to_owned(), why: Box::new(why) }
}

/// A member that is read as a whole.
fn document<R: Read>(
    member: &Member,
    members: &mut Members<R>,
    most: usize,
) -> Result<Vec<u8>, Why> {
    if member.size > most as u64 {
        return Err(Why::Long(most));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = members.piece()? {
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}
