//! The arrows of ARCHITECTURE.md point one way, and each outside crate has one home.
//!
//! Bug class: a layer that learns what it should not know, one `use` at a time.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

/// What each part of the crate may name of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("metrics", &[]),
    ("clock", &[]),
    ("documents", &[]),
    ("memory", &[]),
    ("lately", &[]),
    ("on_demand", &[]),
    ("bundle", &["oci"]),
    ("upstream", &["clock", "documents", "metrics", "oci", "on_demand"]),
    ("store", &["clock", "oci", "on_demand"]),
    (
        "pull",
        &[
            "bundle",
            "clock",
            "documents",
            "lately",
            "metrics",
            "oci",
            "on_demand",
            "store",
            "upstream",
        ],
    ),
    ("server", &["documents", "lately", "metrics", "oci", "pull"]),
    ("admin", &["bundle", "metrics", "oci", "pull"]),
    // Builds the configuration of every layer, and calls none.
    ("config", &["bundle", "oci", "pull", "server", "store", "upstream"]),
    (
        "app",
        &[
            "admin",
            "clock",
            "config",
            "documents",
            "memory",
            "metrics",
            "pull",
            "server",
            "store",
            "upstream",
        ],
    ),
    ("cli", &["admin", "app", "bundle", "config", "oci"]),
    ("main", &["cli"]),
];

/// Where each outside crate may be named; crates that are everyone's vocabulary are not listed.
const HOMES: &[(&str, &[&str])] = &[
    ("argon2", &["server/users/"]),
    ("backon", &["upstream/retry.rs", "pull/download.rs", "pull/relay.rs"]),
    (
        "base64",
        &["server/credentials.rs", "bundle/trust.rs", "upstream/credentials/docker_config.rs"],
    ),
    ("bcrypt", &["server/users/"]),
    ("bytesize", &["config/"]),
    ("clap", &["cli/"]),
    ("flate2", &["bundle/"]),
    (
        "foldhash",
        &["store/memo.rs", "store/pulled.rs", "pull/prefetch.rs", "pull/ready.rs", "lately.rs"],
    ),
    ("glob", &["oci/name_glob.rs", "oci/tag_pattern.rs"]),
    ("hex", &["oci/digest.rs"]),
    ("http", &["server/", "admin/", "upstream/"]),
    ("http_auth", &["upstream/"]),
    ("http_body", &["server/", "admin/", "upstream/"]),
    ("http_body_util", &["server/", "admin/", "upstream/"]),
    ("httpdate", &["upstream/headers.rs", "server/refusal.rs"]),
    ("humantime", &["config/"]),
    ("hyper", &["server/", "admin/", "upstream/"]),
    ("hyper_rustls", &["upstream/"]),
    ("hyper_util", &["server/", "admin/", "upstream/"]),
    ("indicatif", &["cli/"]),
    ("ipnet", &["config/", "pull/", "server/"]),
    ("jiff", &["clock.rs"]),
    ("leaky_bucket", &["pull/pace.rs"]),
    ("rpassword", &["cli/key.rs"]),
    ("tar", &["bundle/", "cli/export/since.rs", "cli/import.rs"]),
    ("zstd", &["bundle/", "cli/export/"]),
    ("minisign", &["bundle/trust.rs"]),
    ("moka", &["on_demand.rs", "upstream/auth.rs"]),
    ("percent_encoding", &["server/route.rs"]),
    ("prometheus", &["metrics.rs"]),
    ("ring", &["server/tls.rs", "server/users/"]),
    (
        "rustix",
        &["store/", "cli/serve.rs", "cli/export/place.rs", "upstream/credentials/helper.rs"],
    ),
    ("rustls", &["upstream/tls.rs", "server/tls.rs", "server/tls/"]),
    ("saphyr_parser", &["cli/lists/yaml.rs"]),
    ("sd_notify", &["cli/serve.rs"]),
    ("semver", &["oci/tag_pattern.rs"]),
    ("sha2", &["oci/digest.rs"]),
    ("sled", &["store/index.rs"]),
    ("socket2", &["server/mod.rs"]),
    ("strsim", &["config/"]),
    ("tokio_io_timeout", &["server/", "admin/"]),
    ("tokio_rustls", &["server/tls.rs"]),
    ("toml", &["config/"]),
    ("tower_service", &["upstream/dial.rs"]),
    ("tracing_appender", &["cli/log.rs"]),
    ("tracing_subscriber", &["cli/log.rs", "config/values/log.rs"]),
    ("url", &["upstream/", "server/", "admin/", "config/"]),
    ("webpki_roots", &["upstream/tls.rs"]),
    ("x509_cert", &["server/tls.rs", "server/tls/"]),
];

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for (file, names) in source_files() {
        let part = part(&file);
        let (_, may) = MAY_USE.iter().find(|(name, _)| *name == part).unwrap_or_else(|| {
            panic!("{file} belongs to no layer: give it one in MAY_USE and in ARCHITECTURE.md")
        });
        for used in names.own {
            if used != part && !may.contains(&used.as_str()) {
                wrong.push(format!("{file} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point back:\n{}", wrong.join("\n"));
}

#[test]
fn each_outside_crate_has_one_home() {
    let mut wrong = Vec::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for (file, names) in source_files() {
        for outside in names.all {
            let Some((name, homes)) = HOMES.iter().find(|(name, _)| *name == outside) else {
                continue;
            };
            used.insert(name);
            if !homes.iter().any(|home| file.starts_with(home)) {
                wrong
                    .push(format!("{file} names {outside}, whose home is {}", homes.join(" and ")));
            }
        }
    }
    assert!(wrong.is_empty(), "crates away from home:\n{}", wrong.join("\n"));
    let unused: Vec<_> =
        HOMES.iter().map(|(name, _)| *name).filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "homes of crates that nobody uses: {unused:?}");
}

/// Where `unsafe_code` is allowed, the compiler says nothing: there is one such file.
#[test]
fn unsafe_code_stands_in_one_file() {
    let files = source_files().into_iter().map(|(file, _)| file);
    let allows = |file: &String| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file));
        let text = text.expect("source is UTF-8");
        text.replace("forbid(unsafe_code)", "").contains("unsafe_code")
    };
    assert_eq!(files.filter(allows).collect::<Vec<_>>(), ["memory.rs"]);
}

/// What `SECURITY.md` says is shown by a test is shown by one.
#[test]
fn every_test_that_the_security_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).expect("readable");
    let mut sources = String::new();
    let mut waiting = vec![root.join("src"), root.join("tests")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                sources += &fs::read_to_string(&path).expect("text");
            }
        }
    }
    let rows = |head: &str| {
        let rows = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
        rows.take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
    };
    let (holes, limits) = (rows("| hole |"), rows("| limit |"));
    assert!(holes.len() > 10, "a table of holes");
    let listed: BTreeSet<_> = limits.iter().filter_map(|row| row.split('`').nth(1)).collect();
    let labels = fs::read_to_string(root.join("src/metrics/limit.rs")).expect("readable");
    let labels: BTreeSet<_> = labels
        .lines()
        .filter(|line| line.contains(" => \""))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert_eq!(listed, labels, "the table of limits, and what is counted");
    for row in holes.iter().chain(&limits) {
        let tests = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}()")), "there is no test {name}");
        }
    }
    for row in limits {
        let words: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        let (limit, name) = (words[0], words[words.len() - 1]);
        let (_, from) = sources.split_once(&format!("fn {name}()")).expect("it is there");
        let test =
            from.split("#[test]\n").next().and_then(|test| test.split("#[tokio::test").next());
        assert!(test.is_some_and(|test| test.contains(limit)), "{name} does not read {limit}");
    }
}

/// The first names of all paths in a file.
#[derive(Default)]
struct Names {
    /// What follows `crate::`, and `wharf::` in the program.
    own: BTreeSet<String>,
    /// Every first name, outside crates among them.
    all: BTreeSet<String>,
}

impl Names {
    fn path<'a>(&mut self, mut segments: impl Iterator<Item = &'a syn::Ident>) {
        let Some(first) = segments.next() else { return };
        match segments.next() {
            Some(second) if first == "crate" || first == "wharf" => {
                self.own.insert(second.to_string());
            }
            _ => {
                self.all.insert(first.to_string());
            }
        }
    }

    fn tree<'a>(&mut self, tree: &'a UseTree, before: &mut Vec<&'a syn::Ident>) {
        match tree {
            UseTree::Path(path) => {
                before.push(&path.ident);
                self.tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
            UseTree::Name(name) => self.path(before.iter().copied().chain([&name.ident])),
            UseTree::Rename(rename) => self.path(before.iter().copied().chain([&rename.ident])),
            UseTree::Glob(_) => self.path(before.iter().copied()),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(path.segments.iter().map(|segment| &segment.ident));
        visit::visit_path(self, path);
    }

    /// Tests may use what they like.
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }
}

/// `store` of `store/index.rs`, `app` of `app.rs`.
fn part(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

/// Every source file of the program but its tests, by its path below `src`, with the names that it uses.
fn source_files() -> Vec<(String, Names)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src is there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let named = files.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("source is UTF-8");
        let mut names = Names::default();
        names.visit_file(&syn::parse_file(&text).expect("source parses"));
        let below = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        (below, names)
    });
    named
        .filter(|(file, _)| {
            file != "lib.rs" && !file.contains("tests") && !file.ends_with("fake.rs")
        })
        .collect()
}
