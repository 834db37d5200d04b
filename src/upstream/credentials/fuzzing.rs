//! What [`crate::upstream::fuzzing`] calls of what is read here.

use super::{
    Claim, HelperName,
    docker_config::{self, Entry},
    helper,
};
use crate::oci::RegistryName;

/// The account that a `config.json` has for `registry`, or the helper to ask for it.
pub(in crate::upstream) fn docker_config(
    text: &str,
    registry: &RegistryName,
) -> Result<Result<Claim, HelperName>, String> {
    docker_config::look_up(text, registry).map(|entry| match entry {
        Entry::Claim(claim) => Ok(claim),
        Entry::Helper(name) => Err(name),
    })
}

/// The account in a helper's answer.
pub(in crate::upstream) fn helper(said: &[u8]) -> Option<Claim> {
    helper::claimed(said)
}
