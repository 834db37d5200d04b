//! What fuzz targets call, which is nobody else's to see.
#![expect(missing_docs, reason = "built for fuzzing alone")]

use std::ops::Range;

use super::{
    range::{RangeRequest, Selected},
    route::Route,
};

pub fn range(header: &str, size: u64) -> Option<Range<u64>> {
    match RangeRequest::parse(header)?.select(size) {
        Selected::Part(range) => Some(range),
        Selected::Unsatisfiable => None,
    }
}

pub fn route(path: &str, query: Option<&str>) {
    let _ = Route::parse(path, query, |registry| registry.is_docker_hub());
}
