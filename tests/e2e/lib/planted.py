"""The secrets that stories plant, and the search for them in what was written."""

import base64
import os
import subprocess
from collections import Counter
from urllib.parse import quote

# Looked for whatever was planted: the head of every key in PEM.
KEY = "PRIVATE KEY"
# What is shorter is found by chance, or in a test's own words.
SHORTEST = 8


class Planted:
    """What nobody may be told, each in the forms in which it is sent, by the story that planted it."""

    def __init__(self):
        self.story = ""
        self.stories = {}
        self.forms = {KEY: KEY}

    def add(self, secret):
        """A password, a token, or a line of a key."""
        if len(secret) < SHORTEST or not secret.isprintable():
            raise ValueError(f"{secret!r} cannot be looked for")
        self.stories.setdefault(secret, set()).add(self.story)
        self.forms |= dict.fromkeys(forms_of(secret), secret)

    def add_key(self, path):
        """A private key's file: PEM, or minisign's. Its whole lines of base64."""
        lines = [line for line in path.read_text().splitlines() if len(line) >= 64 and " " not in line]
        if not lines:
            raise ValueError(f"no key in {path}")
        self.stories.setdefault(lines[0], set()).add(self.story)
        self.forms |= dict.fromkeys(lines, lines[0])

    def by_story(self):
        """How many each story has planted."""
        return Counter(story for stories in self.stories.values() for story in stories)

    def told(self, scratch, *places):
        """A sentence for each place that holds one. `scratch`: the path of a file to write what is looked for to."""
        told = {}
        for path, number, form in found(scratch, self.forms, *places):
            told.setdefault((path, self.forms[form]), f"{path}:{number} tells {form!r}")
        return [
            f"{sentence}, planted by {', '.join(sorted(self.stories.get(secret, {'no story'})))}"
            for (_, secret), sentence in told.items()
        ]


def forms_of(secret):
    """As it is, in a URL, in hexadecimal digits, and in base64, wherever it stands in what is encoded."""
    forms = {secret, quote(secret, safe=""), secret.encode().hex()}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret.encode()).decode()
        # The digits that its neighbours have no part in.
        whole = encoded[(before * 8 + 5) // 6 : (before + len(secret.encode())) * 8 // 6]
        forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return forms


def found(scratch, words, *places):
    """`(file, line, word)` where each of the words is first in a file of these, or of these directories.

    Blobs, which are the images' own, are left out.
    """
    scratch.write_text("".join(f"{word}\n" for word in words))
    flags = ("--fixed-strings", "--text", "--only-matching", "--with-filename", "--line-number", "--recursive")
    result = subprocess.run(
        ["grep", *flags, "--null", "--exclude-dir=blobs", "--devices=skip", f"--file={scratch}", "--", *places],
        env=os.environ | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    # 1: nothing is found.
    if result.returncode not in (0, 1):
        raise OSError(f"grep ended with {result.returncode}: {result.stderr}")
    hits = {}
    for line in result.stdout.splitlines():
        path, rest = line.split("\0")
        number, word = rest.split(":", 1)
        hits.setdefault((path, word), number)
    return [(path, number, word) for (path, word), number in hits.items()]
