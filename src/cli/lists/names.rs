//! A file of image names and patterns of tags.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::{cli::Failure, oci::ImagePattern};

/// Longest list: some ten thousand names.
const LIST_MAX_BYTES: u64 = 1024 * 1024;

/// The images and patterns that the file `path` names, or standard input for `-`.
///
/// # Errors
/// When it cannot be read, or a line is no name: nothing of it may be fetched then.
pub(super) fn read(path: &Path) -> Result<Vec<ImagePattern>, Failure> {
    let text = if path == Path::new("-") {
        text(io::stdin().lock(), LIST_MAX_BYTES)
    } else {
        File::open(path)
            .map_err(|error| error.to_string())
            .and_then(|file| text(file, LIST_MAX_BYTES))
    };
    let name = path.display();
    let text = text.map_err(|why| Failure::Usage(format!("{name}: {why}")))?;
    parse(&text).map_err(|(line, why)| Failure::Usage(format!("{name}:{line}: {why}")))
}

/// What comes from `source`, if it is no more than `limit` bytes.
pub(super) fn text(source: impl Read, limit: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = source.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("longer than {} MiB: is this a list of images?", limit >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8: is this a list of images?".to_owned())
}

/// The names in `text`; or the number of a line that is none, and why.
pub(super) fn parse(text: &str) -> Result<Vec<ImagePattern>, (usize, String)> {
    let mut images = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let name = line.split('#').next().unwrap_or_default().trim();
        if !name.is_empty() {
            let image = name.parse::<ImagePattern>();
            images.push(image.map_err(|error| (number, format!("\"{name}\": {error}")))?);
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_blank_lines_and_windows_line_ends() {
        let text = "# our images\r\n\r\nalpine:3.20\r\n  ghcr.io/owner/app  # pinned soon\n\n#x\nbusybox\nnginx:>=1.25, <1.28 # two";
        let names: Vec<_> = parse(text).expect("good").iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "docker.io/library/alpine:3.20",
                "ghcr.io/owner/app:latest",
                "docker.io/library/busybox:latest",
                "docker.io/library/nginx:>=1.25, <1.28"
            ]
        );
        assert_eq!(parse("# nothing\n\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_line_that_is_no_name_is_said_with_its_number() {
        for (text, line) in [
            ("alpine\n\nUpper/Case\n", 3),
            ("alpine busybox\n", 1),
            ("# fine\nalpine:\n", 2),
            ("alpine@sha256:12\n", 1),
            ("\u{feff}alpine\n", 1),
            ("alpine,busybox", 1),
            ("nginx:1.2*\nnginx:^x", 2),
        ] {
            let (number, why) = parse(text).expect_err(text);
            assert_eq!(number, line, "{text:?}: {why}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_before_it_fills_memory() {
        assert!(text(io::repeat(b'a'), LIST_MAX_BYTES).is_err_and(|why| why.contains("1 MiB")));
        assert!(text(&b"\xff\xfe"[..], LIST_MAX_BYTES).is_err_and(|why| why.contains("UTF-8")));
        let missing = read(Path::new("/nowhere/list"));
        assert!(
            matches!(&missing, Err(Failure::Usage(why)) if why.starts_with("/nowhere/list: ")),
            "{missing:?}"
        );
    }
}
