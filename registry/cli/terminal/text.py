"""Texts from elsewhere, made safe for a terminal and for one line."""

import unicodedata

# Texts from servers and plugins must not steer the terminal that shows them.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
_CONTROLS |= {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): ""}
# Formatting characters that reorder or hide text on the screen.
_CONTROLS |= dict.fromkeys(
    [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)],
    "\N{REPLACEMENT CHARACTER}",
)

_PLAIN = str.maketrans(
    {
        "·": "-",
        "…": "...",
        "→": "->",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "“": '"',
        "”": '"',
        "\N{REPLACEMENT CHARACTER}": "?",
    }
)


def harmless(text: str) -> str:
    """Return the text with control characters replaced, except line feeds and tabs."""
    return text.translate(_CONTROLS)


def one_line(text: object) -> str:
    """Return the text on one line; a list below a heading becomes `heading: item; item`."""
    heading, *items = [line.strip() for line in str(text).splitlines() if line.strip()] or [""]
    listed = "; ".join(item.removeprefix("- ") for item in items)
    if not listed:
        return heading
    return f"{heading} {listed}" if heading.endswith(":") else f"{heading}; {listed}"


def degrade(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an output's encoding lacks: a codecs error handler.

    Letters lose their accents, common signs get an ASCII spelling, and the rest becomes `?`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_PLAIN)
    spelled = unicodedata.normalize("NFKD", plain)
    bare = "".join(c for c in spelled if not unicodedata.combining(c))
    return bare.encode("ascii", "replace").decode("ascii"), error.end
