"""What wharf keeps is an OCI image layout: other tools read it without wharf."""

import json

from lib.checks import expect, same
from test_podman_skopeo_buildah import whole_dir


def test_skopeo_reads_the_cache_of_a_stopped_wharf(site):
    hub = site.new_hub("hub-layout")
    wharf = site.new_wharf("wharf-layout", {"docker.io": [hub.url]})
    # skopeo's `oci:` reads OCI documents only; that Docker's list is named in index.json, too, is looked at below.
    images = [site.hub.images[name, "latest"] for name in ("library/demo-oci", "library/demo")]
    for image in images:
        source = f"docker://{wharf.address}/docker.io/{image.repository}:latest"
        target = site.workspace.path("layout", image.repository.replace("/", "-"))
        site.pod.skopeo("copy", "--all", "--src-tls-verify=false", source, f"dir:{target}")
    wharf.stop()
    hub.stop()

    index = wharf.dir / "index.json"
    expect(index.exists(), f"no {index.name} after a clean stop: {sorted(path.name for path in wharf.dir.iterdir())}")
    entries = json.loads(index.read_text())["manifests"]
    named = {entry["annotations"].get("org.opencontainers.image.ref.name"): entry["digest"] for entry in entries}
    for image in images:
        name = f"docker.io/{image.repository}:latest"
        same(named.get(name), image.digest, f"what index.json says {name} is")
    copy = site.workspace.path("layout", "copy")
    site.pod.skopeo("copy", "--all", f"oci:{wharf.dir}:docker.io/library/demo-oci:latest", f"dir:{copy}")
    missing = images[0].below() - whole_dir(copy)
    expect(not missing, f"not in what skopeo copied out of the cache: {missing}")
