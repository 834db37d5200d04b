"""After everything: no process, mount, file, interface or control group is left, and no log tells of a panic."""

from lib.checks import expect


def test_nothing_is_left(site):
    problems = site.close()
    expect(not problems, "\n".join(problems))
