"""wharf as a program: its log, its end, and what it says when it cannot start."""

import shutil
import socket
import subprocess

from lib.checks import expect, same
from lib.procs import read, wait_until
from lib.wharf import config_text

NOBODY = 65534


def test_one_log_line_per_request(site):
    image = site.hub.images["library/single", "latest"]
    hub = site.new_hub("hub-log")
    # What is fetched ahead is a hit, or not yet: here each request is to cause what it says.
    wharf = site.new_wharf("wharf-log", {"docker.io": [hub.url]}, more="\n[prefetch]\non_pull = false\n")
    layer = image.platforms["linux/amd64"][-1]
    asked = [
        ("latest", "/v2/library/single/manifests/latest", 200),
        ("latest", "/v2/library/single/manifests/latest", 200),
        (layer, f"/v2/library/single/blobs/{layer}", 200),
        (layer, f"/v2/library/single/blobs/{layer}", 200),
        ("never", "/v2/library/single/manifests/never", 404),
    ]
    sizes = []
    for _, path, status in asked:
        answer = wharf.ask(path)
        same(answer.status, status, path)
        sizes.append(len(answer.body))

    wait_until(lambda: len(requests(wharf)) >= len(asked), "the log has fewer lines than there were requests", 10)
    lines = requests(wharf)
    same([line["reference"] for line in lines], [reference for reference, _, _ in asked], "references in the log")
    same([line["bytes"] for line in lines], sizes, "bytes in the log")
    # The bytes reach a client before they are synced to the disk and the download is over: who comes in between joins
    # the download.
    outcomes = ["hit" if line["outcome"] == "coalesced" else line["outcome"] for line in lines]
    same(outcomes, ["miss", "hit", "miss", "hit", "client_error"], "outcomes in the log")
    for line in lines:
        same(line["repository"], "docker.io/library/single", "the repository in the log")
        expect(line["client"].startswith("127.0.0.1:"), f"no client: {line}")
        expect(line["ms"] >= 0, f"no time: {line}")
    wharf.stop()
    hub.stop()
    same(len(requests(wharf)), len(asked), "request lines after the end")


def test_sigterm_ends_it_with_code_0(site):
    wharf = site.new_wharf("wharf-term", {"docker.io": [site.hub.url]})
    expect(f'"registry-mirrors": ["{wharf.url}"]' in read(wharf.service.out), "wharf did not say what to paste")
    # An idle connection that is kept open must not hold wharf up for longer than its drain time.
    host, port = wharf.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10):
        wharf.stop()
    result = site.workspace.run(site.binary, "healthcheck", "--admin", wharf.admin, check=False, timeout=20)
    expect(result.code != 0, f"healthcheck of a wharf that is gone\n{result}")


def test_a_taken_port_is_one_sentence_and_code_2(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refuses(site, "--listen", address, "--dir", site.workspace.path("port", "cache"), names=address)


def test_an_unwritable_directory_is_one_sentence_and_code_2(site):
    # root may write anywhere but to a file system that is read-only.
    readonly = site.workspace.make_dir("readonly")
    subprocess.run(["mount", "--no-mtab", "--bind", readonly, readonly], timeout=20, check=True)
    try:
        subprocess.run(["mount", "--no-mtab", "-o", "remount,bind,ro", readonly], timeout=20, check=True)
        refuses(site, "--dir", readonly / "cache", names=readonly)
    finally:
        subprocess.run(["umount", "--no-mtab", readonly], timeout=20, check=True)

    # Another user, and a directory that is root's.
    public = site.workspace.make_dir("public")
    public.chmod(0o755)
    binary = public / "wharf"
    shutil.copy(site.binary, binary)
    binary.chmod(0o755)
    refuses(site, "--dir", public / "cache", names=public, binary=binary, user=NOBODY)


def refuses(site, *flags, names, binary=None, user=None):
    """`wharf serve` with these flags ends by itself, with code 2 and one line on stderr that names the culprit."""
    config = site.workspace.path("refuse", "wharf.toml")
    config.parent.chmod(0o755)
    config.write_text(config_text("127.0.0.1:0", "127.0.0.1:0", "/nonexistent", {}, "1m"))
    words = [binary or site.binary, "serve", "--config", config, *flags]
    if "--listen" not in flags:
        words += ["--listen", "127.0.0.1:0"]
    result = site.workspace.run(*words, check=False, timeout=30, user=user)
    same(result.code, 2, f"exit code\n{result}")
    lines = result.err.splitlines()
    expect(len(lines) == 1 and lines[0].strip(), f"wanted one line on stderr\n{result}")
    expect(str(names) in lines[0], f"wanted a sentence that names {names}\n{result}")


def requests(wharf):
    """The log's records of requests, in the order in which these ended."""
    return [record for record in wharf.log() if record["target"] == "wharf::request"]
