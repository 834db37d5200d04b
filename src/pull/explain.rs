//! Why a client gets the platform that it gets.

use super::{
    Asker, Error, Explanation, KnownClient, Mismatch, Pull, Resolution, Signal, Want,
    learned::ClientKey,
    platform::{Policy, read_index},
};
use crate::oci::{Descriptor, ImageName, IndexEntry, Reference};

impl Pull {
    /// Which manifest of `image` this client gets, and why. A client of which no User-Agent is told is taken for the one
    /// that last chose at its address.
    ///
    /// # Errors
    /// When neither the cache nor the registry has the image.
    pub async fn explain(&self, asker: &Asker, image: &ImageName) -> Result<Explanation, Error> {
        let pull = &self.0;
        let asker = self.as_known(asker);
        let who = pull.clients.resolve(&asker);
        let repository = &image.repository;
        let answer = match &image.reference {
            Reference::Tag(tag) => self.tagged(repository, tag, Want::Content).await?,
            Reference::Digest(digest) => {
                self.with_digest(repository, digest, Want::Content).await?
            }
        };
        let mut offered = Vec::new();
        let manifest = if answer.descriptor.media_type.is_index() {
            let index = read_index(&answer.descriptor, &answer.bytes.ok_or(Error::Busy)?)?;
            offered = index.platforms();
            pull.child(repository, &index, &who.platforms, who.rules).await?
        } else {
            Some(alone(answer.descriptor))
        };
        let (whole, policy) = match &manifest {
            Some(entry) => {
                let digest = &entry.descriptor.digest;
                (self.is_whole(&entry.descriptor).await?, pull.policy(repository, digest).await)
            }
            None => (false, Policy::Keep),
        };
        Ok(Explanation {
            name: image.to_string(),
            client: Some(asker.address).filter(|address| !address.is_unspecified()),
            why: self.why(&asker, &who),
            platforms: who.platforms.clone(),
            signal: who.signal.as_str().to_owned(),
            offered,
            manifest: manifest.as_ref().map(|entry| entry.descriptor.digest),
            platform: manifest.and_then(|entry| entry.platform),
            whole,
            policy: policy.as_str().to_owned(),
        })
    }

    /// The clients of which something was learned, the latest first.
    pub fn clients(&self) -> Vec<KnownClient> {
        self.0.clients.learned().all()
    }

    /// The latest pulls of what a client cannot run, the latest first.
    pub fn mismatches(&self) -> Vec<Mismatch> {
        self.0.mismatches.all()
    }

    fn as_known(&self, asker: &Asker) -> Asker {
        let learned = self.0.clients.learned();
        let nameless = asker.user_agent.is_empty() && asker.subjects.is_empty();
        match learned.at(asker.address).filter(|_| nameless) {
            Some(ClientKey::Address(_, user_agent)) => Asker { user_agent, ..asker.clone() },
            _ => asker.clone(),
        }
    }

    fn why(&self, asker: &Asker, who: &Resolution) -> String {
        let names: Vec<String> = who.platforms.iter().map(ToString::to_string).collect();
        let (names, client) = (names.join(", "), ClientKey::of(asker).shown());
        let user_agent = &asker.user_agent;
        match who.signal {
            Signal::Path => format!("the address that it pulls from names {names}"),
            Signal::Header => format!("its header Wharf-Platform names {names}"),
            Signal::Rule => format!("a [[platforms.client]] rule says that {client} is {names}"),
            Signal::Learned if user_agent.is_empty() => {
                format!("{client} took {names} from a list before")
            }
            Signal::Learned => {
                format!("{client} (\"{user_agent}\") took {names} from a list before")
            }
            Signal::UserAgent => format!("its User-Agent says so: \"{user_agent}\""),
            Signal::Default if self.0.clients.default().is_some() => {
                format!("nothing is known of it, and {names} is the site's default")
            }
            Signal::Default => format!(
                "nothing is known of it: it is taken for {names}, as wharf itself runs on, until it chooses from a list"
            ),
        }
    }
}

/// An image that no list names.
const fn alone(descriptor: Descriptor) -> IndexEntry {
    IndexEntry { descriptor, platform: None, attests: None }
}
