"""A small PDF writer: pages, the two Helveticas, lines and boxes. The bytes follow from the input alone.

No compression, no clock, no random id: two calls with the same content give the same file on every machine,
so a file that came through a browser and a mail server can be compared with a fresh one byte by byte. Text is
WinAnsi (Windows-1252), which covers German and most of western Europe; other characters appear as `?`.

Coordinates are points (1/72 inch) from the *top* left corner of an A4 page; a text's y is its baseline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

WIDTH, HEIGHT = 595, 842
"""A4 in points."""

Colour = tuple[float, float, float]
BLACK: Colour = (0.13, 0.15, 0.18)

# Adobe's metrics of Helvetica for the codes 32 to 126, in thousandths of the font size.
_WIDTHS = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
)  # fmt: skip
_OTHER_WIDTH = 556


def text_width(text: str, size: float) -> float:
    """Width in points of a text in Helvetica; exact for ASCII (digits are as wide in bold)."""
    codes = (ord(letter) - 32 for letter in text)
    return sum(_WIDTHS[code] if 0 <= code < len(_WIDTHS) else _OTHER_WIDTH for code in codes) * size / 1000


class Page:
    """What is drawn on one page, in order."""

    def __init__(self) -> None:
        self._operations: list[bytes] = []

    def text(
        self, x: float, y: float, text: str, *, size: float = 10, bold: bool = False, colour: Colour = BLACK
    ) -> None:
        font = "F2" if bold else "F1"
        head = f"BT {_colour(colour)} rg /{font} {_number(size)} Tf {_number(x)} {_number(HEIGHT - y)} Td "
        self._operations.append(head.encode("ascii") + _literal(text) + b" Tj ET")

    def text_right(
        self, x: float, y: float, text: str, *, size: float = 10, bold: bool = False, colour: Colour = BLACK
    ) -> None:
        """Text that ends at x."""
        self.text(x - text_width(text, size), y, text, size=size, bold=bold, colour=colour)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """A filled rectangle; (x, y) is its upper left corner."""
        numbers = " ".join(_number(value) for value in (x, HEIGHT - y - height, width, height))
        self._operations.append(f"{_colour(colour)} rg {numbers} re f".encode("ascii"))

    def line(self, x1: float, x2: float, y: float, *, colour: Colour = BLACK, width: float = 0.5) -> None:
        """A horizontal line."""
        pen = f"{_colour(colour)} RG {_number(width)} w"
        path = f"{_number(x1)} {_number(HEIGHT - y)} m {_number(x2)} {_number(HEIGHT - y)} l S"
        self._operations.append(f"{pen} {path}".encode("ascii"))

    def content(self) -> bytes:
        return b"\n".join(self._operations)


def document(pages: Sequence[Page], *, title: str, author: str, created: str) -> bytes:
    """The finished file. `created` is a PDF date, such as `20261112000000Z`."""
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        _dictionary(
            f"/Type /Pages /Count {len(pages)} /Kids ["
            + " ".join(f"{6 + 2 * number} 0 R" for number in range(len(pages)))
            + "]"
        ),
        _font("Helvetica"),
        _font("Helvetica-Bold"),
        b"<< /Title %s /Author %s /CreationDate (D:%s) >>"
        % (_literal(title), _literal(author), created.encode("ascii")),
    ]
    for number, page in enumerate(pages):
        content = page.content()
        objects.append(
            _dictionary(
                f"/Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents {7 + 2 * number} 0 R "
                "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >>"
            )
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    return _file(objects)


def _file(objects: Sequence[bytes]) -> bytes:
    """Header, numbered objects, cross-reference table, trailer."""
    output = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(output))
        output += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(output)
    identity = hashlib.sha256(output).hexdigest()[:32].encode("ascii")
    output += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        output += b"%010d 00000 n \n" % place
    output += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R /ID [<%s> <%s>] >>\n" % (
        len(objects) + 1,
        identity,
        identity,
    )
    output += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(output)


def _dictionary(body: str) -> bytes:
    return b"<< " + body.encode("ascii") + b" >>"


def _font(name: str) -> bytes:
    return _dictionary(f"/Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding")


def _literal(text: str) -> bytes:
    """A PDF string: WinAnsi bytes in brackets, the three special ones escaped."""
    raw = text.encode("cp1252", errors="replace")
    for special in (b"\\", b"(", b")"):
        raw = raw.replace(special, b"\\" + special)
    return b"(" + raw + b")"


def _number(value: float) -> str:
    """Two decimals at most, without an exponent."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _colour(colour: Colour) -> str:
    return " ".join(_number(part) for part in colour)
