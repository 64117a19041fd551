"""The grammar of filters, and its way to a condition.

    state:failed method:bckd ap>30 -tag:old (seed:1,2 or name:"cells run")

Terms side by side must all hold; `or` is weaker; `-` or `not` turns a term around. Words alone look for a part of the
name. `field:a,b` is any of them, `field:*` any value at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken
from sqlalchemy import and_, not_, or_, true

from service.errors import Problem
from service.filters.fields import FIELDS, field
from service.filters.kinds import Condition, Unfit

MAX_LENGTH, MAX_TERMS, MAX_DEPTH = 500, 50, 10

_GRAMMAR = r"""
start: either
?either: both (_OR both)*
?both: one (_AND? one)*
?one: (_NOT | _MINUS) one -> negation
    | "(" either ")" -> inner
    | FIELD OPERATOR value ("," value)* -> term
    | (WORD | STRING) -> bare
value: VALUE | STRING

_OR.3: /or(?=[\s()"]|$)/i
_AND.3: /and(?=[\s()"]|$)/i
_NOT.3: /not(?=[\s()"]|$)/i
_MINUS: "-"
FIELD.2: /(?:(?:best|last)\."[^"]+"|[a-z_][\w.\/]*)(?=\s*(?:[:=<>]|!=))/i
OPERATOR: /:|!=|<=|>=|=|<|>/
WORD.1: /(?!(?:or|and|not)(?:[\s()"]|$))[^\s()",:=<>!\-][^\s()",:=<>!]*/i
VALUE: /[^\s()",]+/
STRING: /"(?:[^"\\]|\\.)*"/
%ignore /\s+/
"""


@dataclass(frozen=True)
class Filter:
    """A parsed filter."""

    text: str
    _condition: Condition

    def condition(self) -> Condition:
        """What it asks of `Job` rows; true for an empty filter."""
        return self._condition


class _Fault(Exception):
    def __init__(self, message: str, position: int, suggestions: Sequence[str] = ()):
        self.position, self.suggestions = position, list(suggestions)
        super().__init__(message)


@dataclass(frozen=True)
class _Part:
    condition: Condition
    terms: int = 1
    depth: int = 0


@dataclass(frozen=True)
class _Value:
    text: str
    quoted: bool
    position: int


class _Builder(Transformer[Token, _Part]):
    """Makes conditions as the parser goes, so no depth of nesting costs stack."""

    def value(self, found: list[Token]) -> _Value:
        token = found[0]
        quoted = token.type == "STRING"
        return _Value(_unquoted(token) if quoted else str(token), quoted, int(token.start_pos or 0))

    def term(self, found: list[Any]) -> _Part:
        name, operator, *values = found
        return _Part(_term(name, str(operator), values))

    def bare(self, found: list[Token]) -> _Part:
        token = found[0]
        text = _unquoted(token) if token.type == "STRING" else str(token)
        return _Part(FIELDS["name"].any_of(":", [text]))

    def negation(self, found: list[_Part]) -> _Part:
        return _within_limits(_Part(not_(found[0].condition), found[0].terms, found[0].depth + 1))

    def inner(self, found: list[_Part]) -> _Part:
        return _within_limits(_Part(found[0].condition, found[0].terms, found[0].depth + 1))

    def both(self, found: list[_Part]) -> _Part:
        return _joined(and_(*(part.condition for part in found)), found)

    def either(self, found: list[_Part]) -> _Part:
        return _joined(or_(*(part.condition for part in found)), found)

    def start(self, found: list[_Part]) -> _Part:
        return found[0]


_PARSER = Lark(_GRAMMAR, parser="lalr", transformer=_Builder())


def _term(name: Token, operator: str, values: Sequence[_Value]) -> Condition:
    try:
        one = field(name.replace('"', ""))
    except Unfit as fault:
        raise _Fault(str(fault), int(name.start_pos or 0), fault.suggestions) from None
    try:
        if operator not in one.operators:
            raise Unfit(f"{one.name} takes {' '.join(one.operators)}, not {operator}; as in {one.example}")
        if len(values) == 1 and values[0].text == "*" and not values[0].quoted and operator in (":", "="):
            return one.present()
        texts = [value.text for value in values]
        if operator in (":", "="):
            return one.any_of(operator, texts)  # type: ignore[arg-type]
        if operator == "!=":
            return not_(one.any_of("=", texts))
        if len(texts) > 1:
            raise Unfit(f"{operator} compares with one value; {len(texts)} are given")
        return one.compared(operator, texts[0])
    except Unfit as fault:
        raise _Fault(str(fault), values[0].position, fault.suggestions) from None


def _unquoted(token: Token) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


def _joined(condition: Condition, parts: Sequence[_Part]) -> _Part:
    return _within_limits(_Part(condition, sum(part.terms for part in parts), max(part.depth for part in parts)))


def _within_limits(part: _Part) -> _Part:
    if part.terms > MAX_TERMS:
        raise _Fault(f"more than {MAX_TERMS} terms; give fewer, or several values to one field as in seed:1,2,3", 0)
    if part.depth > MAX_DEPTH:
        raise _Fault(f"parentheses and negations go deeper than {MAX_DEPTH} levels", 0)
    return part


def parse_filter(text: str, *, pointer: str = "?filter") -> Filter:
    """The filter that a text means. `pointer` names the place of the text in the request.

    Raises `Problem` 422 with `position` (in characters, from 1) and `suggestions`.
    """
    try:
        if len(text) > MAX_LENGTH:
            raise _Fault(f"it has {len(text)} characters; at most {MAX_LENGTH} are read", MAX_LENGTH)
        if "\0" in text:
            raise _Fault("a NUL stands here, which no text may hold", text.index("\0"))
        if not text.strip():
            return Filter(text, true())
        return Filter(text, _parsed(text).condition)
    except _Fault as fault:
        place = f"at character {fault.position + 1}: {fault}"
        if fault.suggestions:
            place += f"; did you mean {' or '.join(fault.suggestions)}?"
        raise Problem(
            422, f"the filter cannot be used, {place}", errors=[(pointer, place)],
            position=fault.position + 1, suggestions=fault.suggestions,
        ) from None  # fmt: skip


def _parsed(text: str) -> _Part:
    try:
        part: _Part = _PARSER.parse(text)  # type: ignore[assignment]
    except UnexpectedCharacters as error:
        raise _Fault(_unexpected(text, error.pos_in_stream or 0), error.pos_in_stream or 0) from None
    except UnexpectedToken as error:
        at = len(text) if error.token.type == "$END" else int(error.token.start_pos or 0)
        raise _Fault(_unexpected(text, at), at) from None
    return part


def _unexpected(text: str, at: int) -> str:
    if at >= len(text):
        opened = text.count("(") > text.count(")")
        return "the filter ends too early; " + ("close the parenthesis" if opened else "a value or a term is missing")
    keyword = re.match(r"(or|and|not)\b", text[at:], re.IGNORECASE)
    if keyword:
        return f"{keyword[0]!r} stands between terms or before one; quote the word to look for it in names"
    if text[at] == '"':
        return "the quotation that begins here does not end"
    if re.match(r"[:=<>!]", text[at:]):
        return f"{text[at]!r} needs a field before it, as in {FIELDS['state'].example}; quote a text that holds it"
    return f"{text[at]!r} is not expected here"
