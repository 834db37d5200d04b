"""After everything: no secret was told, no process, mount, file, interface or control group is left, and no log tells of
a panic.
"""

from lib.checks import expect
from lib.planted import found

# What a story plants at the least, by its name or the beginning of it.
FEWEST = {
    "secured.": 9,
    "token_service.engines": 7,
    "token_service.a_refused": 4,
    "own_accounts.": 3,
    "users.": 3,
    "export.minisign": 4,
}


def test_no_secret_was_told(site):
    """By no log, metric, answer of the API, command or cache of a wharf, nor by anybody around them."""
    for wharf in site.wharfs:
        if wharf.service.alive():
            wharf.stop()
    planted, scratch = site.workspace.planted, site.workspace.path("looked-for", "words")
    logs = site.logs()
    size = sum(log.stat().st_size for log in logs)
    caches = [wharf.dir for wharf in site.wharfs if wharf.dir.exists()]
    expect(logs and size, "there is nothing to look at")
    # What is known to be there is found there.
    for word, wanted in (
        ("wharf_cache_bytes ", {wharf.answers for wharf in site.wharfs}),
        ('"level":', {wharf.service.err for wharf in site.wharfs}),
    ):
        seen = {path for path, _, _ in found(scratch, [word], *logs)}
        missing = sorted({str(path) for path in wanted} - seen)
        expect(not missing, f"nothing to look at in {missing}")
    for start, fewest in FEWEST.items():
        expect(any(name.startswith(start) for name in site.stories), f"there is no story {start}")
        for name in site.passed:
            number = planted.by_story()[name]
            expect(not name.startswith(start) or number >= fewest, f"{name} planted {number} secrets, not {fewest}")

    told = planted.told(scratch, *logs, *caches)
    expect(not told, "\n".join(told))
    looked = f"{len(logs)} logs of {size >> 10} KiB and {len(caches)} caches"
    print(f"     {len(planted.stories)} secrets looked for in {looked}", flush=True)


def test_nothing_is_left(site):
    problems = site.close()
    expect(not problems, "\n".join(problems))
