//! `[prefetch]` and the images that are kept warm.

use std::time::Duration;

use super::{Site, refusals::refuses};
use crate::pull::{WarmImage, WarmTags, Window};

#[test]
fn refuses_what_cannot_be_meant_of_prefetch() {
    let prefetch = |keys: &str| format!("[prefetch]\n{keys}");
    let image = |keys: &str| format!("[[prefetch.image]]\nname = \"nginx\"\n{keys}");
    let digest = "0".repeat(64);
    for (toml, refusal) in [
        (prefetch("onpull = true"), "2: prefetch.onpull: unknown key \"onpull\": did you mean"),
        (prefetch("on_pull = \"yes\""), "2: prefetch.on_pull: string \"yes\" will not do: write"),
        (
            prefetch("concurrency = 0"),
            "2: prefetch.concurrency: 0 will not do: write a number from",
        ),
        (prefetch("concurrency = 65"), "2: prefetch.concurrency: 65 will not do: write a number"),
        (prefetch("quota_floor = -1"), "2: prefetch.quota_floor: -1 will not do: write a number"),
        (
            prefetch("rate = 1000"),
            "2: prefetch.rate: integer 1000 will not do: write bytes per sec",
        ),
        (prefetch("rate = \"2MiB\""), "2: prefetch.rate: \"2MiB\" is not a rate: write bytes per"),
        (
            prefetch("rate = \"2Mb/s\""),
            "2: prefetch.rate: \"2Mb/s\" is not a rate: write bytes per",
        ),
        (prefetch("rate = \"16Mbit/s\""), "2: prefetch.rate: \"16Mbit/s\" is not a rate"),
        (prefetch("rate = \"fast/s\""), "2: prefetch.rate: \"fast/s\" is not a rate"),
        (prefetch("rate = \"-1MiB/s\""), "2: prefetch.rate: \"-1MiB/s\" is not a rate"),
        (prefetch("rate = \"/s\""), "2: prefetch.rate: \"/s\" is not a rate"),
        (prefetch("rate = \"0B/s\""), "2: prefetch.rate: \"0B/s\" is too slow: write at least"),
        (
            "[prefetch.image]\nname = \"nginx\"".into(),
            "1: prefetch.image: this table may come several times",
        ),
        (
            "[[prefetch.image]]\nname = \"nginx:^x\"".into(),
            "2: prefetch.image.name: \"^x\" is no pattern of tags: write one with",
        ),
        (
            image("newest = 3"),
            "3: prefetch.image.newest: this is for several tags: write a pattern",
        ),
        (
            "[[prefetch.image]]\nname = \"nginx:1.*\"\npinned = true".into(),
            "2: prefetch.image.name: what a pattern means changes",
        ),
        ("[[prefetch.image]]".into(), "1: prefetch.image: an image without a name: write name ="),
        (
            "[[prefetch.image]]\nname = \"Nginx\"".into(),
            "2: prefetch.image.name: \"Nginx\" is not an image: not a repository name",
        ),
        (
            "[[prefetch.image]]\nname = [\"nginx\"]".into(),
            "2: prefetch.image.name: a list will not do: write an image in quotes",
        ),
        (
            format!("[[prefetch.image]]\nname = \"nginx:1.27@sha256:{digest}\""),
            "2: prefetch.image.name: sha256:0000000000000000000000000000000000000000000000000000000000000000 \
             never changes, so there is nothing to keep warm: write a tag",
        ),
        (
            "[[prefetch.image]]\n\nname = \"ghcr.io/owner/app\"".into(),
            "3: prefetch.image.name: ghcr.io is not among the registries: write an [[upstream]] with",
        ),
        (
            image("[[prefetch.image]]\nname = \"docker.io/library/nginx:latest\""),
            "4: prefetch.image.name: docker.io/library/nginx:latest is listed twice: write one",
        ),
        (
            image("platforms = \"linux/arm64\""),
            "3: prefetch.image.platforms: string \"linux/arm64\"",
        ),
        (
            image("platforms = [\"linux/arm64\", \"Linux/arm64\"]"),
            "3: prefetch.image.platforms: linux/arm64 is given twice",
        ),
        (image("every = \"59s\""), "3: prefetch.image.every: \"59s\" is too often: write at least"),
        (image("every = \"daily\""), "3: prefetch.image.every: \"daily\" is not a duration: write"),
        (image("every = 6"), "3: prefetch.image.every: integer 6 will not do: write a duration in"),
        (
            image("window = \"night\""),
            "3: prefetch.image.window: \"night\" is not a part of the day: write two times from",
        ),
        (image("window = \"1:00-5:00\""), "3: prefetch.image.window: \"1:00-5:00\" is not a part"),
        (image("window = \"22:00-24:00\""), "3: prefetch.image.window: \"22:00-24:00\" is not a"),
        (image("window = \"01:00-05:60\""), "3: prefetch.image.window: \"01:00-05:60\" is not a"),
        (image("window = \"+1:00-05:00\""), "3: prefetch.image.window: \"+1:00-05:00\" is not a"),
        (
            image("window = \"05:00-05:00\""),
            "3: prefetch.image.window: \"05:00-05:00\" ends where it begins: write two different",
        ),
        (
            image("window = { from = \"01:00\" }"),
            "3: prefetch.image.window: a table will not do: write two times of the day in quotes",
        ),
    ] {
        refuses(&toml, &format!("wharf.toml:{refusal}"));
    }
}

#[test]
fn every_key_of_prefetch_is_carried() {
    let config = Site::new(
        r#"
        [prefetch]
        on_pull = false
        concurrency = 1
        rate = "1.5 MiB/s"
        follow = true
        quota_floor = 25
        [[prefetch.image]]
        name = "nginx"
        [[prefetch.image]]
        name = "GHCR.io/owner/app:1.2"
        platforms = ["linux/arm64"]
        every = "90s"
        window = "22:30-05:00"
        [[prefetch.image]]
        name = "alpine:>=3.20, <4"
        newest = 3
        [[upstream]]
        registry = "ghcr.io"
        "#,
    )
    .load()
    .expect("good")
    .config;
    let prefetch = config.pull.prefetch;
    assert!(!prefetch.on_pull && prefetch.follow);
    assert_eq!((prefetch.concurrency, prefetch.quota_floor), (1, 25));
    assert_eq!(prefetch.rate, Some(3 << 19));
    let expected = [
        WarmImage {
            repository: "docker.io/library/nginx".parse().expect("a repository"),
            tags: WarmTags::One("latest".parse().expect("a tag")),
            platforms: Vec::new(),
            every: Duration::from_secs(6 * 60 * 60),
            window: None,
        },
        WarmImage {
            repository: "ghcr.io/owner/app".parse().expect("a repository"),
            tags: WarmTags::One("1.2".parse().expect("a tag")),
            platforms: vec!["linux/arm64".parse().expect("a platform")],
            every: Duration::from_secs(90),
            window: Some(Window { from: 22 * 60 + 30, to: 5 * 60 }),
        },
        WarmImage {
            repository: "docker.io/library/alpine".parse().expect("a repository"),
            tags: WarmTags::Newest(3, ">=3.20, <4".parse().expect("a pattern")),
            platforms: Vec::new(),
            every: Duration::from_secs(6 * 60 * 60),
            window: None,
        },
    ];
    assert_eq!(prefetch.images, expected);
}
