"""A small XML reader whose elements know their line, so that a fault can be named by file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat


class XmlError(ValueError):
    """The file is not well-formed XML; `line` is where the reader stopped (None: the file cannot be read)."""

    def __init__(self, message: str, line: int | None):
        self.line = line
        super().__init__(message)


@dataclass
class Element:
    """An element: its tag, the line of its start tag, its own text and its children."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def find(self, tag: str) -> Element | None:
        return next((child for child in self.children if child.tag == tag), None)

    def find_all(self, tag: str) -> list[Element]:
        return [child for child in self.children if child.tag == tag]

    def value(self, tag: str) -> str | None:
        """The stripped text of the first child called `tag`; None where there is none."""
        child = self.find(tag)
        return None if child is None else child.text.strip()


def read_xml(path: Path) -> Element:
    """The root element of a file. Raises `XmlError`; entity declarations are refused, annotations need none."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = Element("", 0)
    stack = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(tag: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def entity(*_: object) -> None:
        raise XmlError("entity declarations are not accepted", parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise XmlError(expat.errors.messages[error.code], error.lineno) from None
    except OSError as error:
        raise XmlError(error.strerror or str(error), None) from None
    return top.children[0]
