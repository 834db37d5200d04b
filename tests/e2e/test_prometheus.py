"""A real Prometheus scrapes wharf, and its own linter has nothing to say."""

import json
import subprocess
from urllib.parse import quote

from lib.checks import expect, same
from lib.net import answers, ask
from lib.procs import free_port, wait_until


def test_prometheus_scrapes_wharf(site):
    # Something to count, first: the counters with labels appear with their first use.
    same(site.wharf.ask("/v2/library/demo/manifests/latest").status, 200, "a manifest")
    address = f"127.0.0.1:{free_port()}"
    config = site.workspace.path("prom", "prometheus.yml")
    target = [{"targets": [site.wharf.admin]}]
    jobs = [{"job_name": "wharf", "static_configs": target}]
    # JSON is YAML.
    config.write_text(json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}))
    prometheus = site.workspace.start(
        "prometheus",
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={site.workspace.path('prom', 'data')}"),
        f"--web.listen-address={address}",
    )
    prometheus.wait_until(lambda: answers(address, "/-/ready"))
    wait_until(lambda: value(address, 'up{job="wharf"}') == 1, "Prometheus does not see wharf up")
    wait_until(lambda: value(address, "sum(wharf_requests_total)"), "Prometheus has no wharf_requests_total")
    same(prometheus.stop(), 0, "Prometheus' exit code")


def test_promtool_has_nothing_to_say(site):
    # Every kind of request that is easily had, so that their series are there to be looked at.
    for path in ("/v2/", "/v2/library/demo/manifests/latest", "/v2/library/demo/manifests/never", "/v2/_catalog"):
        site.wharf.ask(path)
    page = ask(site.wharf.admin, "/metrics")
    same(page.status, 200, "/metrics")
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=page.body, capture_output=True, timeout=30, check=False
    )
    same((check.returncode, check.stdout, check.stderr), (0, b"", b""), "promtool check metrics")
    expect(b"wharf_requests_total{" in page.body, "no wharf_requests_total on the page")


def test_the_metrics_agree_with_the_upstreams_own_log(site):
    hub = site.new_hub("hub-count")
    wharf = site.new_wharf("wharf-count", {"docker.io": [hub.url]})
    single = hub.images["library/single", "latest"]
    for digest in single.platforms["linux/amd64"][1:]:
        same(wharf.ask("/v2/library/single/manifests/latest").status, 200, "the manifest")
        for _ in range(2):
            answer = wharf.ask(f"/v2/library/single/blobs/{digest}")
            same((answer.status, len(answer.body)), (200, single.sizes[digest]), digest)
    _, sizes = hub.fetched()
    metrics = wharf.metrics()
    counted = sum_of(metrics, "wharf_upstream_bytes_total")
    same(counted, sum(sizes.values()), "wharf_upstream_bytes_total against the upstream's access log")
    blobs = sum(single.sizes[digest] for digest in single.platforms["linux/amd64"][1:])
    served = sum_of(metrics, "wharf_served_bytes_total")
    expect(served >= 2 * blobs, f"wharf_served_bytes_total is {served}, and {2 * blobs} bytes of blobs were served")
    wharf.stop()
    hub.stop()


def value(address, query):
    """The one value of an instant query, or `None`."""
    result = json.loads(ask(address, f"/api/v1/query?query={quote(query)}").body)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def sum_of(metrics, name):
    """The sum over a counter's series, whatever their labels."""
    lines = (line for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
