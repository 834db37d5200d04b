//! Files of YAML documents, and directories of such files.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    compose, kubernetes,
    names::text,
    variables::Variables,
    yaml::{self, Steps, Wrong},
};
use crate::{cli::Failure, oci::ImagePattern};

/// Longest file, and most bytes of all those of one directory: sets of definitions have some megabytes.
const FILE_MAX_BYTES: u64 = 16 * 1024 * 1024;
const ALL_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Entries of directories that are looked at, and how deep they may lie.
const ENTRIES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 32;

/// The images that the documents in `path` name: a file, standard input for `-`, or a directory, of which all `*.yaml` and
/// `*.yml` are read in the order of their names. What begins with a dot is passed over there, and links to directories.
///
/// # Errors
/// With file and line, when anything cannot be read.
pub(super) fn read(path: &Path) -> Result<Vec<ImagePattern>, Failure> {
    if path == Path::new("-") {
        let text = text(io::stdin().lock(), FILE_MAX_BYTES);
        return images(path, &text.map_err(|why| wrong(path, &why))?);
    }
    let mut images_of_all = Vec::new();
    let mut left = ALL_MAX_BYTES;
    for file in files(path)? {
        let read = File::open(&file).map_err(|error| error.to_string());
        let read =
            read.and_then(|file| text(file, FILE_MAX_BYTES)).map_err(|why| wrong(&file, &why))?;
        left = left.checked_sub(read.len() as u64).ok_or_else(|| {
            wrong(path, "more than 256 MiB of files: is this a directory of manifests?")
        })?;
        images_of_all.extend(images(&file, &read)?);
    }
    Ok(images_of_all)
}

/// The images that the documents in `text` name.
fn images(path: &Path, text: &str) -> Result<Vec<ImagePattern>, Failure> {
    let at = |(line, why): Wrong| Failure::Usage(format!("{}:{line}: {why}", path.display()));
    let (mut steps, mut variables, mut images) = (Steps::new(), None, Vec::new());
    for document in yaml::read(text).map_err(at)? {
        let found = if compose::is_one(&document) {
            let variables = match &variables {
                Some(variables) => variables,
                None => variables.insert(beside(path)?),
            };
            compose::images(&document, variables, &mut steps)
        } else {
            kubernetes::images(&document, &mut steps)
        };
        images.extend(found.map_err(at)?);
    }
    Ok(images)
}

/// The variables of this process, and of the file `.env` beside `path`.
fn beside(path: &Path) -> Result<Variables, Failure> {
    let file = path.with_file_name(".env");
    let read = match File::open(&file) {
        Ok(open) => text(open, FILE_MAX_BYTES).map_err(|why| wrong(&file, &why))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(wrong(&file, &error.to_string())),
    };
    let process = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Variables::new(&read, process))
}

/// `path` itself, or the files below it.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_directory =
        fs::metadata(path).map_err(|error| wrong(path, &error.to_string()))?.is_dir();
    if !is_directory {
        return Ok(vec![path.to_owned()]);
    }
    let (mut files, mut waiting) = (Vec::new(), vec![(path.to_owned(), 0)]);
    let mut entries = 0;
    while let Some((directory, depth)) = waiting.pop() {
        let failed = |error: io::Error| wrong(&directory, &error.to_string());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            entries += 1;
            if entries > ENTRIES_MAX || depth > DEPTH_MAX {
                return Err(wrong(path, "too many files: is this a directory of manifests?"));
            }
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                waiting.push((path, depth + 1));
            } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml")
                && fs::metadata(&path).is_ok_and(|file| file.is_file())
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn wrong(path: &Path, why: &str) -> Failure {
    Failure::Usage(format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "\
apiVersion: v1
kind: Pod
spec:
  initContainers:
  - {name: a, image: 'alpine:3.20'}
  containers:
  - name: b
    image: \"ghcr.io/owner/app:1\"
  - name: c
  ephemeralContainers: [{image: debug}]
  volumes:
  - name: v
    image: {reference: quay.io/data/set:2, pullPolicy: Always}
  - name: w
    emptyDir: {}
";

    fn names(text: &str) -> Vec<String> {
        let images = images(Path::new("x/f.yaml"), text).expect(text);
        images.iter().map(ToString::to_string).collect()
    }

    fn refused(text: &str) -> String {
        match images(Path::new("x/f.yaml"), text) {
            Err(Failure::Usage(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn pods_are_found_in_any_kind_and_any_document() {
        let of_pod = [
            "docker.io/library/alpine:3.20",
            "ghcr.io/owner/app:1",
            "docker.io/library/debug:latest",
            "quay.io/data/set:2",
        ];
        assert_eq!(names(POD), of_pod);
        let cron = "kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n          - image: busybox\n";
        let list = "kind: List\nitems:\n- kind: Service\n- spec: {template: {spec: {containers: [{image: a:1}]}}}\n";
        let json = r#"{"kind": "Pod", "spec": {"containers": [{"image": "b:2"}]}}"#;
        let all = format!("---\n{cron}---\n# nothing\n---\n{list}...\n---\n{json}\n");
        assert_eq!(
            names(&all),
            ["busybox:latest", "a:1", "b:2"].map(|name| format!("docker.io/library/{name}"))
        );
        // A service list of something else, and a table of that name, are no Compose file.
        assert_eq!(names("apiVersion: x/v1\nkind: Mesh\nservices: {a: {image: no}}\n"), [""; 0]);
        for none in
            ["", "# x", "---\n---\n", "a", "kind: ConfigMap\ndata: {image: x}", "containers: none"]
        {
            assert_eq!(names(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn services_are_found_with_their_variables_and_anchors() {
        let text = "\
x-base: &base
  image: nginx:${UNLIKELY_TAG:-1.27}
  restart: always
services:
  web: *base
  api:
    <<: *base
    environment: {IMAGE: none}
  db: {<<: [*base, {image: other}], image: 'postgres:16'}
  built: {build: .}
  named: {build: ., image: registry.lan:5000/built}
";
        assert_eq!(
            names(text),
            [
                "docker.io/library/nginx:1.27",
                "docker.io/library/nginx:1.27",
                "docker.io/library/postgres:16",
                "registry.lan:5000/built:latest"
            ]
        );
        assert_eq!(names("services:\n"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_file_and_line() {
        let bomb = {
            let mut text = "a0: &a0 {containers: [{image: x}]}\n".to_owned();
            for level in 1..40 {
                text += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
            }
            text
        };
        let deep = format!("a: {}{}", "[".repeat(150), "]".repeat(150));
        for (text, says) in [
            ("a: [", "x/f.yaml:"),
            ("a: b: c", "x/f.yaml:1: this is no YAML"),
            ("spec:\n  containers:\n  - image: '{{ .Values.image }}'\n", "x/f.yaml:3: image: \"{{"),
            ("containers:\n- image: {a: b}\n", "x/f.yaml:2: image: not a name"),
            (
                "a: 1\n---\nservices:\n  x:\n    image: $UNLIKELY_TAG\n",
                "x/f.yaml:5: services.x.image: UNLIKELY_TAG is not",
            ),
            ("services: {}\ninclude: [b.yaml]\n", "x/f.yaml:2: files that are included"),
            ("a: *b\n", "x/f.yaml:1: this is no YAML"),
            ("a: &a [*a]\n", "x/f.yaml:1: an alias of what it is part of"),
            (&bomb, "too large"),
            (&deep, "within each other"),
        ] {
            let refused = refused(text);
            assert!(refused.starts_with("x/f.yaml:") && refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn directories_are_searched_in_order_and_not_beyond_bounds() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, image: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, format!("containers: [{{image: {image}}}]\n")).expect("written");
        };
        write("b.yaml", "b");
        write("a/z.yml", "a");
        write("c.json", "no");
        write(".git/x.yaml", "no");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).expect("linked");
        std::os::unix::fs::symlink("b.yaml", dir.path().join("d.yaml")).expect("linked");
        let found = read(dir.path()).expect("read");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a", "b", "b"].map(|name| format!("docker.io/library/{name}:latest")));
        write("e.yaml", "'Not a name'");
        assert!(
            matches!(read(dir.path()), Err(Failure::Usage(why)) if why.contains("e.yaml:1: image"))
        );
        assert!(
            matches!(read(&dir.path().join("none")), Err(Failure::Usage(why)) if why.contains("none: "))
        );
        // The file `.env` stands beside the Compose file.
        fs::write(dir.path().join(".env"), "UNLIKELY_TAG=7\n").expect("written");
        let compose = dir.path().join("compose.yaml");
        fs::write(&compose, "services: {a: {image: \"x:${UNLIKELY_TAG}\"}}\n").expect("written");
        assert_eq!(read(&compose).expect("read")[0].to_string(), "docker.io/library/x:7");
    }
}
