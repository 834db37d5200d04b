//! `[[compose]]`.

use super::{Site, refusals::refuses};
use crate::{
    oci::{Repository, Tag},
    pull::{Composed, Part},
};

#[test]
fn refuses_what_cannot_be_meant_of_composed_images() {
    let compose = |keys: &str| format!("[[compose]]\nname = \"user/test\"\n{keys}");
    let two = |first: &str, second: &str| {
        let one = |name: &str| {
            format!("[[compose]]\nname = \"{name}\"\nplatforms = {{ \"linux/arm64\" = \"a/b\" }}\n")
        };
        one(first) + &one(second)
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    for (toml, refusal) in [
        (
            "[compose]\nname = \"user/test\"".to_owned(),
            "1: compose: this table may come several times",
        ),
        (
            compose("platform = {}"),
            "3: compose.platform: unknown key \"platform\": did you mean \"platforms\"?",
        ),
        ("[[compose]]".into(), "1: compose: a composed image without a name: write name ="),
        (
            "[[compose]]\nname = \"user/Test\"".into(),
            "2: compose.name: \"user/Test\" is not an image: not a repository name",
        ),
        (
            format!("[[compose]]\nname = \"user/test@{digest}\""),
            "2: compose.name: sha256:0000000000000000000000000000000000000000000000000000000000000000 \
             never changes, and what is composed does",
        ),
        (compose(""), "1: compose: a composed image of nothing: write platforms = {"),
        (compose("platforms = {}"), "1: compose: a composed image of nothing: write platforms"),
        (
            compose("platforms = [\"linux/arm64\"]"),
            "3: compose.platforms: a list will not do: write a table, such as {",
        ),
        (
            compose("platforms = { \"linux/arm64\" = 1 }"),
            "3: compose.platforms.linux/arm64: integer 1 will not do: write an image in quotes",
        ),
        (
            compose("platforms = { arm64 = \"user/arm64v8-test\" }"),
            "3: compose.platforms.arm64: \"arm64\" is not a platform: write os/architecture",
        ),
        (
            compose("platforms = { \"linux/arm64/v8\" = \"a/b\", \"linux/arm64\" = \"a/c\" }"),
            "3: compose.platforms.linux/arm64: linux/arm64 is given twice",
        ),
        (
            compose("[compose.platforms]\n\"linux/arm64\" = \"a/b\"\n\"linux/ARM64\" = \"a/c\""),
            "5: compose.platforms.linux/ARM64: linux/arm64 is given twice",
        ),
        (
            compose("[compose.platforms]\n\"linux/arm64\" = \"a/b\"\n\"linux/arm64\" = \"a/c\""),
            "5: ",
        ),
        (
            compose("[compose.platforms]\n\n\"linux/arm64\" = \"ghcr.io/user/test\""),
            "5: compose.platforms.linux/arm64: ghcr.io is not among the registries: write an",
        ),
        (
            compose("platforms = { \"linux/arm64\" = \"user/arm64v8-test:\" }"),
            "3: compose.platforms.linux/arm64: \"user/arm64v8-test:\" is not an image: not a tag",
        ),
        (
            compose(&format!("platforms = {{ \"linux/arm64\" = \"a/b@{digest}\" }}")),
            "3: compose.platforms.linux/arm64: sha256:00000000000000000000000000000000000000000000000\
             00000000000000000 never changes",
        ),
        (
            two("user/test", "docker.io/user/test"),
            "5: compose.name: docker.io/user/test is composed twice, as docker.io/user/test before",
        ),
        (
            two("user/test", "user/test:1"),
            "5: compose.name: docker.io/user/test:1 is composed twice, as docker.io/user/test before",
        ),
        (
            two("user/test:1", "user/test"),
            "5: compose.name: docker.io/user/test is composed twice, as docker.io/user/test:1 before",
        ),
        (
            two("user/test:1", "user/test:1"),
            "5: compose.name: docker.io/user/test:1 is composed twice",
        ),
        (
            two("user/test", "a/b"),
            "3: compose.platforms.linux/arm64: docker.io/a/b is composed itself: write the image of",
        ),
        (
            two("a/b:1", "user/test"),
            "6: compose.platforms.linux/arm64: docker.io/a/b:1 is composed itself",
        ),
        (
            two("user/test:1", "a/b:1"),
            "3: compose.platforms.linux/arm64: docker.io/a/b:1 is composed itself",
        ),
    ] {
        refuses(&toml, &format!("wharf.toml:{refusal}"));
    }
}

#[test]
fn a_composed_image_may_be_its_own_part_and_need_no_registry() {
    let config = Site::new(
        r#"
        [[compose]]
        name = "docker.io/user/test"
        platforms = { "linux/amd64" = "user/test", "linux/arm64" = "user/arm64v8-test:1.2" }
        [[compose]]
        name = "site.example/a/b:1"
        [compose.platforms]
        "linux/arm64" = "a/b:2"
        [[compose]]
        name = "site.example/a/b:2"
        [compose.platforms]
        "linux/arm64" = "docker.io/a/b"
        "#,
    )
    .load()
    .expect("good")
    .config;
    let repository = |text: &str| text.parse::<Repository>().expect("a repository");
    let tag = |text: &str| Some(text.parse::<Tag>().expect("a tag"));
    let part = |platform: &str, repository: Repository, tag: Option<Tag>| {
        (platform.parse().expect("a platform"), Part { repository, tag })
    };
    let expected = [
        Composed {
            repository: repository("docker.io/user/test"),
            tag: None,
            parts: [
                part("linux/amd64", repository("docker.io/user/test"), None),
                part("linux/arm64", repository("docker.io/user/arm64v8-test"), tag("1.2")),
            ]
            .into(),
        },
        Composed {
            repository: repository("site.example/a/b"),
            tag: tag("1"),
            parts: [part("linux/arm64", repository("docker.io/a/b"), tag("2"))].into(),
        },
        Composed {
            repository: repository("site.example/a/b"),
            tag: tag("2"),
            parts: [part("linux/arm64", repository("docker.io/a/b"), None)].into(),
        },
    ];
    assert_eq!(config.pull.compose, expected);
}
