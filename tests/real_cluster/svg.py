"""SVG and HTML as text: elements with their attributes, everything escaped."""

from collections.abc import Iterable
from html import escape


def element(name: str, *children: str, **attributes: object) -> str:
    """children: made by these functions. Attributes: `class_` is class, `stroke_width` is
    stroke-width; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def number(value: object) -> str:
    """A coordinate to a tenth, anything else as it is."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def said(content: object) -> str:
    return escape(str(content))


def label(x: float, y: float, content: str, class_: str, **attributes: object) -> str:
    return element("text", said(content), x=x, y=y, class_=class_, **attributes)


def hover(content: str) -> str:
    """What is shown where the mouse rests."""
    return element("title", said(content))


def box(
    x: float, y: float, width: float, height: float, class_: str, *inner: str, **more: object
) -> str:
    return element(
        "rect", *inner, x=x, y=y, width=max(width, 0.5), height=height, class_=class_, **more
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str, *inner: str) -> str:
    return element("line", *inner, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[str], class_: str) -> str:
    return element("path", d="".join(points), class_=class_)
