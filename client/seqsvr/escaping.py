"""Text from outside, fit for a line of a log or a terminal."""


def escaped(text: str) -> str:
    """The same, with escapes of Python's for what is no printable character, and no space.

    So it neither breaks a line, nor moves a cursor, nor turns the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
