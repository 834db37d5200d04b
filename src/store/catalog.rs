//! `index.json`: the image index at the root of the layout, which names every image kept
//! ([image-spec, image-layout.md, "index.json file"](https://github.com/opencontainers/image-spec/blob/main/image-layout.md#indexjson-file)).
//!
//! One entry a tag, one for every manifest that no kept index leads to, one for every referrers list.
//! Manifests that a kept index of the same repository leads to are not listed: they are found from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use serde::{Deserialize, Serialize};

use super::{
    facts::{Fact, Facts},
    layout::Layout,
};
use crate::oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag, media_type};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const CONFIRMED: &str = "io.wharf.confirmed";
const PULLED: &str = "io.wharf.pulled";
const PINNED: &str = "io.wharf.pinned";
const REFERRERS_OF: &str = "io.wharf.referrers-of";
const JOURNAL: &str = "io.wharf.journal";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexJson {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Entry>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Reads `index.json`: its facts, and the generation of the journal that goes on from it.
///
/// `None` when it is missing, or damaged: then it is put aside as `index.json.damaged`, with an error in the log. The
/// look-up tables, the journal and the blobs still tell what it said.
///
/// # Errors
/// When it is there, and the disk does not give it.
pub(super) fn read(layout: &Layout) -> io::Result<Option<(Facts, u64)>> {
    let path = layout.index_json();
    let bytes = match layout.disk().read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let read = parse(&bytes);
    if read.is_none() {
        tracing::error!("index.json is damaged; put aside as index.json.damaged");
        layout.disk().rename(&path, &path.with_extension("json.damaged"))?;
    }
    Ok(read)
}

/// What the text of `index.json` says; `None` where it is damaged.
pub(super) fn parse(bytes: &[u8]) -> Option<(Facts, u64)> {
    let index: IndexJson = serde_json::from_slice(bytes).ok()?;
    let generation = index.annotations.get(JOURNAL)?.parse().ok()?;
    let mut facts = Facts::default();
    for entry in index.manifests {
        if let Some(entry_facts) = read_entry(entry) {
            entry_facts.into_iter().for_each(|fact| facts.apply(fact));
        }
    }
    Some((facts, generation))
}

/// Replaces `index.json` by one that says what `facts` say and names the journal that goes on from it.
///
/// Confirmed blobs have no place in an image index: they stay in the journal.
pub(super) fn write(layout: &Layout, facts: &Facts, journal: u64) -> io::Result<()> {
    layout.replace(&layout.index_json(), &text(facts, &covered(layout, facts), journal))
}

/// The text of `index.json` that says what `facts` say, with no entry of their own for the manifests in `covered`.
pub(super) fn text(
    facts: &Facts,
    covered: &BTreeSet<(Repository, Digest)>,
    journal: u64,
) -> Vec<u8> {
    let pulled = |key: &(Repository, Digest)| facts.manifests.get(key).map_or(0, |(_, at)| *at);
    let tags = facts.tags.iter().map(|((repository, tag), (descriptor, confirmed))| {
        let name = format!("{repository}:{tag}");
        let at = pulled(&(repository.clone(), descriptor.digest));
        let stays = pinned(facts, repository, &tag.clone().into());
        let numbers = [(CONFIRMED, *confirmed), (PULLED, at), (PINNED, stays)];
        entry(descriptor, &[(REF_NAME, &name), (CONTAINERD_NAME, &name)], &numbers)
    });
    let roots = facts.manifests.iter().filter_map(|(key, (descriptor, at))| {
        let (repository, digest) = key;
        let stays = pinned(facts, repository, &(*digest).into());
        let name = format!("{repository}@{digest}");
        let numbers = [(PULLED, *at), (PINNED, stays)];
        let listed = stays > 0 || !covered.contains(key);
        listed.then(|| entry(descriptor, &[(REF_NAME, &name), (CONTAINERD_NAME, &name)], &numbers))
    });
    let referrers = facts.referrers.iter().map(|((repository, subject), descriptor)| {
        entry(descriptor, &[(REFERRERS_OF, &format!("{repository}@{subject}"))], &[])
    });
    let index = IndexJson {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: tags.chain(roots).chain(referrers).collect(),
        annotations: BTreeMap::from([(JOURNAL.to_owned(), journal.to_string())]),
    };
    serde_json::to_vec(&index).expect("strings and numbers serialise")
}

/// Adds the manifests that kept indexes lead to and that are kept themselves, where not every one has its own entry.
pub(super) fn expand(layout: &Layout, facts: &mut Facts) {
    let mut seen = BTreeSet::new();
    let tagged = facts.tags.iter().map(|((repository, _), (d, _))| (repository.clone(), d.clone()));
    let kept =
        facts.manifests.iter().map(|((repository, _), (d, _))| (repository.clone(), d.clone()));
    let mut queue: Vec<(Repository, Descriptor)> = tagged.chain(kept).collect();
    while let Some((repository, descriptor)) = queue.pop() {
        if !seen.insert((repository.clone(), descriptor.digest)) {
            continue;
        }
        let listed = if layout.tells_all() { Vec::new() } else { children(layout, &descriptor) };
        for child in listed {
            // Those that have a fact of their own are in the queue already, with the registry's word on them.
            let known = facts.manifests.contains_key(&(repository.clone(), child.digest));
            let len = || layout.disk().len(&layout.blob(&child.digest)).ok().flatten();
            if !known && len() == Some(child.size) {
                queue.push((repository.clone(), child));
            }
        }
        facts.apply(Fact::Manifest { repository, manifest: descriptor });
    }
}

/// What a manifest that is kept says; `None` when it is not kept, is no manifest, or no longer what it was.
pub(super) fn document(layout: &Layout, manifest: &Descriptor) -> Option<Manifest> {
    let bytes = layout.disk().read(&layout.blob(&manifest.digest)).ok()?;
    if Digest::of(manifest.digest.algorithm(), &bytes) != manifest.digest {
        return None;
    }
    Manifest::parse(&manifest.media_type, &bytes).ok()
}

fn children(layout: &Layout, manifest: &Descriptor) -> Vec<Descriptor> {
    if !manifest.media_type.is_index() {
        return Vec::new();
    }
    let document = document(layout, manifest);
    document.iter().flat_map(Manifest::references).cloned().collect()
}

/// The manifests that need no entry of their own: a tag, or an index that says the same of them, leads there.
fn covered(layout: &Layout, facts: &Facts) -> BTreeSet<(Repository, Digest)> {
    let mut covered = tagged(facts);
    if layout.tells_all() {
        return covered;
    }
    for ((repository, _), (descriptor, _)) in &facts.manifests {
        for child in children(layout, descriptor) {
            let key = (repository.clone(), child.digest);
            let known = facts.manifests.get(&key);
            let says_the_same = |known: &Descriptor| {
                (&known.media_type, known.size) == (&child.media_type, child.size)
            };
            if known.is_some_and(|(known, _)| says_the_same(known)) {
                covered.insert(key);
            }
        }
    }
    covered
}

/// The manifests that a tag leads to.
pub(super) fn tagged(facts: &Facts) -> BTreeSet<(Repository, Digest)> {
    let tagged = facts.tags.iter().map(|((repository, _), (d, _))| (repository.clone(), d.digest));
    tagged.collect()
}

/// 1 for what stays whatever room is needed.
fn pinned(facts: &Facts, repository: &Repository, reference: &Reference) -> u64 {
    u64::from(facts.pinned.contains(&(repository.clone(), reference.clone())))
}

fn entry(descriptor: &Descriptor, texts: &[(&str, &str)], numbers: &[(&str, u64)]) -> Entry {
    let texts = texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
    let numbers = numbers.iter().filter(|(_, number)| *number > 0);
    let numbers = numbers.map(|(key, number)| ((*key).to_owned(), number.to_string()));
    Entry { descriptor: descriptor.clone(), annotations: texts.chain(numbers).collect() }
}

fn read_entry(entry: Entry) -> Option<Vec<Fact>> {
    let number = |key| entry.annotations.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    if let Some(of) = entry.annotations.get(REFERRERS_OF) {
        let (repository, subject) = of.split_once('@')?;
        let (repository, subject) = (repository.parse().ok()?, subject.parse().ok()?);
        return Some(vec![Fact::Referrers { repository, subject, index: entry.descriptor }]);
    }
    let (repository, reference) = parse_name(entry.annotations.get(REF_NAME)?)?;
    let manifest = entry.descriptor.clone();
    let mut facts =
        vec![Fact::Manifest { repository: repository.clone(), manifest: manifest.clone() }];
    if number(PULLED) > 0 {
        let (repository, manifest) = (repository.clone(), manifest.digest);
        facts.push(Fact::Pulled { repository, manifest, at: number(PULLED) });
    }
    if number(PINNED) > 0 {
        let (repository, reference) = (repository.clone(), reference.clone());
        facts.push(Fact::Pinned { repository, reference, pinned: true });
    }
    if let Reference::Tag(tag) = reference {
        facts.push(Fact::Tag { repository, tag, manifest, at: number(CONFIRMED) });
    }
    Some(facts)
}

/// Reads `docker.io/library/alpine:3.20` and `docker.io/library/alpine@sha256:…`.
fn parse_name(name: &str) -> Option<(Repository, Reference)> {
    if let Some((repository, digest)) = name.split_once('@') {
        return Some((repository.parse().ok()?, Reference::Digest(digest.parse().ok()?)));
    }
    let (repository, tag) = name.rsplit_once(':')?;
    Some((repository.parse().ok()?, Reference::Tag(tag.parse::<Tag>().ok()?)))
}
