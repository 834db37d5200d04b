"""The ground the other stories stand on: the upstream holds what they pull. When this fails, none of them is told."""

from lib.checks import expect, same


def test_the_upstream_holds_them(site):
    three = {"linux/amd64", "linux/arm64", "linux/arm/v7"}
    docker, oci = site.hub.images["library/demo", "latest"], site.hub.images["library/demo-oci", "latest"]
    same(docker.media_type, "application/vnd.docker.distribution.manifest.list.v2+json", "demo's media type")
    same(oci.media_type, "application/vnd.oci.image.index.v1+json", "demo-oci's media type")
    for image in (docker, oci):
        same(set(image.platforms), three, f"platforms of {image.repository}")
    single = site.hub.images["library/single", "latest"]
    same(single.media_type, "application/vnd.docker.distribution.manifest.v2+json", "single's media type")
    app = site.other.images["team/app", "latest"]
    for image in (docker, oci, single, app):
        for platform, digests in image.platforms.items():
            same(len(digests), 4, f"{image.repository} for {platform}: manifest, config and two layers")
            expect(image.sizes[digests[3]] > 3_000_000, f"{image.repository}: the layer of noise is compressed")
