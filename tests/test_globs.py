"""Globs match as in `fnmatch`, and never slowly."""

import fnmatch

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinit.rules.globs import match_levels, parse_name

# Not "!" inside brackets: fnmatch reads "[b-a!]" as any character.
TOKENS = ["[", "[!", "]", "a", "b", "c", "-", "*", "?", "^", "a-b", "b-a", "\\", "\n"]
globs = st.lists(st.sampled_from(TOKENS), max_size=9).map("".join)


@settings(max_examples=3000, deadline=None)
@given(globs, st.text("ab[]-^z\\\n", max_size=6))
def test_a_name_is_matched_as_by_fnmatch(glob, name):
    assert parse_name(glob).matches(name) == fnmatch.fnmatchcase(name, glob)


def test_the_best_place_is_found():
    for glob, name, is_match in [
        ("a*b*c", "abbc", True),
        ("a*ab", "ab", False),  # one "a" does not serve twice
        ("*?b", "ab", True),
        ("*[ab]c*c", "acbcc", True),
        ("a*?*b", "ab", False),
        ("**"[:1], "", True),
        ("", "", True),
        ("", "a", False),
    ]:
        assert parse_name(glob).matches(name) == is_match, (glob, name)


def test_levels():
    def matches(glob, path):
        levels = [None if x == "**" else parse_name(x) for x in glob.split("/")]
        return match_levels(levels, path.split("/"))

    assert matches("**/a/**/b", "a/b") and matches("**/a/**/b", "x/a/y/a/z/b")
    assert not matches("**/a/**/b", "b/a") and not matches("a/*", "a/b/c")
    assert matches("**/a/b", "a/a/a/b") and not matches("a/b", "a/b/c")


class Counted(str):
    """A name that counts how often its characters are read."""

    looks = 0

    def __getitem__(self, i):
        Counted.looks += 1
        return str.__getitem__(self, i)


def test_matching_does_not_explode():
    name = Counted("a" * 60)
    for glob in ("*[ab]" * 59 + "c", "*?" * 59 + "[!a]", "*[a][b]" * 1000):
        Counted.looks = 0
        assert not parse_name(glob).matches(name)
        assert Counted.looks <= 60 * 60
