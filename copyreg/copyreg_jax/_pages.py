"""Pages for a browser: one file each, with the numbers and names that people read on them.

A page loads nothing, and a browser runs nothing but the script that the page came with.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template

__all__ = [
    "bar",
    "card",
    "claim",
    "commands",
    "counted",
    "escape",
    "facts",
    "make_page",
    "number",
    "percent",
    "plain",
    "quoted",
    "raised",
    "resource",
    "sections",
    "sentence",
    "table",
    "wide",
]

_LEFT = ' style="text-align: left"'

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# What would change the direction of the text around a name, or is no character of a page.
_NOT_SHOWN = dict.fromkeys(
    [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F),
     *range(0x2066, 0x206A), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF],
    "\ufffd",
)  # fmt: skip


def make_page(
    *,
    title: str,
    kind: str,
    heading: str,
    about: str,
    main: str,
    footer: str,
    css: str = "",
    script: str = "",
) -> str:
    """Make a whole page.

    Parameters
    ----------
    title, kind, heading, about : str
        Text: the title of the window, what sort of page this is, its first line, and the line
        below. They are escaped here.
    main, footer : str
        HTML. All text from outside must have gone through `escape`.
    css, script : str
        What the page has beside the common style sheet; both are trusted.

    Returns
    -------
    str
        HTML that can be encoded as UTF-8, with a policy that allows this style sheet and this
        script and nothing else.

    Examples
    --------
    >>> page = make_page(
    ...     title="A & B", kind="Test", heading="<b>", about="", main="<p>c</p>", footer=""
    ... )
    >>> "<h1>&lt;b&gt;</h1>" in page, "http:" in page
    (True, False)
    """
    css = resource("copyreg_jax", "_pages.css") + css
    page = Template(resource("copyreg_jax", "_pages.html")).substitute(
        policy=f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        css=css,
        script=script,
        title=escape(title),
        kind=escape(kind),
        heading=escape(heading),
        about=escape(about),
        main=main,
        footer=footer,
    )
    return page.encode(errors="replace").decode()


def resource(package: str, name: str) -> str:
    """Read a text file of a package."""
    return (resources.files(package) / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def escape(text: str) -> str:
    """Text as HTML that a browser shows as it is; NUL is no character there."""
    return html.escape(text.replace("\0", "\ufffd"))


def sentence(text: str) -> str:
    """Text as HTML in which no number is broken at the sign of its exponent.

    Examples
    --------
    >>> sentence("ends at 6.5e-11 < 1")
    'ends at <span class="whole">6.5e-11</span> &lt; 1'
    """
    return re.sub(r"[\d.]+e[-+]\d+", r'<span class="whole">\g<0></span>', escape(text))


def sections(parts: Mapping[str, str]) -> str:
    """Sections with their headings, which are text; the content is HTML."""
    return "\n".join(
        f'<section aria-labelledby="s{number}">\n<h2 id="s{number}">{escape(title)}</h2>\n'
        f"{content}\n</section>"
        for number, (title, content) in enumerate(parts.items(), 1)
    )


def commands(text: str, label: str = "Command") -> str:
    """A block of commands, which keys can scroll; no two of a page have the same label, a text."""
    return (
        f'<pre tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<code>{escape(text)}</code></pre>"
    )


def table(
    caption: str, columns: Sequence[str], rows: Iterable[tuple[str, list[str]]], *, first: str = ""
) -> str:
    """A table with a name for each row, and cells that are HTML; ``first`` heads the names."""
    head = "".join(f"<th scope=col>{name}" for name in columns)
    corner = f"<th scope=col>{first}" if first else "<td>"
    return (
        f"<table><caption>{caption}</caption><thead><tr>{corner}{head}</thead><tbody>"
        + "".join(f"<tr><th scope=row>{name}<td>{'<td>'.join(cells)}" for name, cells in rows)
        + "</tbody></table>\n"
    )


def wide(label: str, content: str) -> str:
    """HTML that scrolls within the page where it is wider, by keys too; the label is text."""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>'
    )


def facts(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values, both HTML."""
    body = "\n".join(f"<tr><th scope=row>{name}<td>{value}" for name, value in rows)
    return (
        f'<table class="facts">\n<caption>{caption}</caption>\n<tbody>\n{body}\n</tbody>\n</table>'
    )


def claim(
    name: str, label: str, said: str, detail: str, more: str = "", *, alarm: bool = False
) -> str:
    """A card with a claim: its label stands beside its name; ``more`` is HTML, the rest text.

    An alarm is drawn so that nobody takes the claim for good news.
    """
    key, kind = name.lower().replace(" ", "-"), "claim alarm" if alarm else "claim"
    rest = f"<p>{escape(detail)}</p>" if detail else ""
    return (
        f'<article class="{kind}" aria-labelledby="{key}"><h3 id="{key}">{escape(name)}'
        f" <span>{escape(label)}</span></h3>"
        f'<p class="said">{escape(said)}</p>{more}{rest}</article>'
    )


def card(title: str, rows: Mapping[str, str], note: str = "") -> str:
    """HTML of a title, a table with one line for each row, and a note; all text is escaped.

    There are no colors, so that it can be read in dark notebooks. The classes keep MathJax from
    reading dollar signs in names as formulas.
    """
    lines = "".join(
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    below = f"<p>{escape(note)}</p>" if note else ""
    return (
        '<div class="tex2jax_ignore mathjax_ignore">'
        f"<strong>{escape(title)}</strong><table>{lines}</table>{below}</div>"
    )


def bar(share: float | None) -> str:
    """A bar that is filled up to a share; nothing for None."""
    if share is None:
        return ""
    return f"<svg class=bar aria-hidden=true><rect width={100 * share:.3g}% /></svg>"


def percent(share: float | None) -> str:
    r"""Write a share with three digits; it is 0 % or 100 % only if it is that.

    Examples
    --------
    >>> [percent(share) for share in (0.0, 1e-9, 0.12345, 0.99999)]
    ['0\xa0%', 'less than 0.01\xa0%', '12.3\xa0%', 'more than 99.9\xa0%']
    """
    if share is None:
        return "not known"
    if 0 < share < 0.0001:
        return "less than 0.01\u00a0%"
    text = f"{100 * share:.3g}"
    return f"{'more than 99.9' if text == '100' and share < 1 else text}\u00a0%"


def counted(number: float, name: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> counted(1, "sample"), counted(1000, "sample")
    ('1 sample', '1,000 samples')
    """
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def number(value: float | None) -> str:
    """Write a number with six digits; None stands for one that was not finite.

    Examples
    --------
    >>> number(0.04689986359607403), number(None)
    ('0.0468999', 'not finite')
    """
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.6g}"


def raised(power: int) -> str:
    """Write an exponent.

    Examples
    --------
    >>> "10" + raised(-12)
    '10⁻¹²'
    """
    return str(power).translate(_RAISED)


def quoted(name: str) -> str:
    """Quote a name from outside; none changes the direction of the text around it."""
    return f"“\u2068{name.translate(_NOT_SHOWN)}\u2069”"


def plain(text: str) -> str:
    """Text without what is no character of a page, and without what changes its direction."""
    return text.translate({k: v for k, v in _NOT_SHOWN.items() if chr(k) not in "\t\n"})
