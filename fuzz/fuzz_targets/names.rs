//! Names of registries, repositories, images, tags and references: what is read is written the same way, and read again.
#![no_main]

use std::{fmt::Display, str::FromStr};

use libfuzzer_sys::fuzz_target;
use wharf::oci::{ImageName, Reference, RegistryName, Repository, RepositoryName, Tag};

fn again<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(read) = text.parse::<T>() else { return };
    let written = read.to_string();
    assert!(written.parse::<T>().is_ok_and(|again| again == read), "{text:?} became {written:?}");
    // Names become parts of paths, of log lines and of files.
    assert!(!written.contains(['\n', '\0', ' ']) && !written.split('/').any(|part| part == ".."));
}

fuzz_target!(|text: &str| {
    again::<RegistryName>(text);
    again::<RepositoryName>(text);
    again::<Repository>(text);
    again::<Tag>(text);
    again::<Reference>(text);
    again::<ImageName>(text);
});
