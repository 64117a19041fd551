"""Finds the line at which an entry of a top-level list stands in a JSON text that is known to parse."""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_OR_COMMA = re.compile(r"[ \t\r\n,]*")


class JsonPositions:
    """Lines of entries in the lists of a top-level object.

    The parser itself keeps no positions, so this walks over the text again, only as far as asked and only once.
    """

    def __init__(self, text: str):
        self._text = text
        self._decoder = json.JSONDecoder()
        self._lists: dict[str, int] | None = None  # key -> offset of its first entry
        self._starts: dict[str, list[int]] = {}  # key -> offsets of the entries walked so far, and of the next one
        self._counted = (0, 1)  # an offset and its line: counting goes on from there

    def line(self, key: str, index: int) -> int:
        """The 1-based line of entry `index` of the list under `key`."""
        if self._lists is None:
            self._lists = self._find_lists()
        starts = self._starts.setdefault(key, [self._lists[key]])
        while len(starts) <= index:
            _, end = self._decoder.raw_decode(self._text, starts[-1])
            starts.append(self._skip(_SPACE_OR_COMMA, end))
        return self._line_of(starts[index])

    def _find_lists(self) -> dict[str, int]:
        lists: dict[str, int] = {}
        at = self._skip(_SPACE, self._skip(_SPACE, 0) + 1)
        while self._text[at] != "}":
            key, at = self._decoder.raw_decode(self._text, at)
            at = self._skip(_SPACE, self._skip(_SPACE, at) + 1)
            if self._text[at] == "[":
                lists[key] = self._skip(_SPACE, at + 1)
            _, at = self._decoder.raw_decode(self._text, at)
            at = self._skip(_SPACE_OR_COMMA, at)
        return lists

    def _skip(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self._text, at)
        assert found is not None  # both patterns match the empty string
        return found.end()

    def _line_of(self, offset: int) -> int:
        known, line = self._counted if self._counted[0] <= offset else (0, 1)
        line += self._text.count("\n", known, offset)
        self._counted = (offset, line)
        return line
