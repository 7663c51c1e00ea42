"""A page as a test reads it, without a browser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input"}
SHAPES = {"path", "use", "rect", "circle", "stop"}  # of SVG, which close themselves


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, tag: str) -> list["Element"]:
        """The elements of a kind within this one, in order."""
        found = [self] if self.tag == tag else []
        return found + [one for child in self.children for one in child.all(tag)]

    def whole(self) -> str:
        """Its text and that of all within."""
        return " ".join([self.text, *(child.whole() for child in self.children)])

    def words(self) -> str:
        """The whole text with single spaces."""
        return " ".join(self.whole().split())


class Page(HTMLParser):
    """Parses a page; a tag that is not closed where it should be is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(html)
        assert self._open == [self.root], f"not closed: {[one.tag for one in self._open[1:]]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> where </{self._open[-1].tag}> is due"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data

    def all(self, tag: str) -> list[Element]:
        """The elements of a kind, in order."""
        return self.root.all(tag)

    def every(self) -> list[Element]:
        """All elements."""

        def within(element: Element) -> list[Element]:
            return [element, *(one for child in element.children for one in within(child))]

        return within(self.root)

    def section(self, name: str) -> Element:
        """The section that the navigation calls so."""
        (found,) = [one for one in self.all("section") if one.attributes["id"] == name]
        return found
