//! Which tags a pattern means just now.

use super::{Error, Pull};
use crate::oci::{Newest, Repository, Tag, TagPattern};

/// Pages of tags that are looked at: repositories with more than 64,000 tags are not known.
const PAGES_MAX: usize = 64;

impl Pull {
    /// The newest `most` tags of `repository` that match: of those that its registry has, or of the kept ones when it gives
    /// no good answer. Nothing is fetched but the list.
    ///
    /// # Errors
    /// When the registry says no, nothing is kept to stand in for its answer, or nothing matches.
    pub async fn matching(
        &self,
        repository: &Repository,
        pattern: &TagPattern,
        most: usize,
    ) -> Result<Vec<Tag>, Error> {
        let mut newest = Newest::new(most);
        let mut last = None;
        for _ in 0..PAGES_MAX {
            let page = self.tags(repository, None, last.as_deref()).await?;
            page.tags
                .into_iter()
                .filter(|tag| pattern.matches(tag))
                .for_each(|tag| newest.add(tag));
            match page.next {
                Some(next) if last.as_ref() != Some(&next) => last = Some(next),
                _ => break,
            }
        }
        let tags = newest.into_tags();
        if tags.is_empty() {
            return Err(Error::NoTag(repository.clone(), pattern.to_string()));
        }
        Ok(tags)
    }
}
