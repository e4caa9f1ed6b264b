"""An audit of works as a page for a browser: one file, the answer first.

It has no text of a work, unless the texts are given to show passages of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from copyreg_jax._pages import (
    bar,
    claim,
    commands,
    counted,
    escape,
    facts,
    make_page,
    percent,
    quoted,
    resource,
    table,
)
from copyreg_jax.errors import InputError
from copyreg_jax.lm.leakage.heat_maps import draw, join_pairs, legend
from copyreg_jax.lm.leakage.membership_section import membership_section
from copyreg_jax.lm.leakage.page_parts import likeliest, nearly
from copyreg_jax.lm.leakage.phrases import bound, odds, power
from copyreg_jax.lm.leakage.wording import (
    any_decoder,
    extractable,
    extractable_of_all,
    how_measured,
    memorized,
    memorized_of_all,
    proved,
    settings,
)

__all__ = ["audit_page"]

_HERE = "copyreg_jax.lm.leakage"

_HELD_OUT_MAPS = 6
"""The most held-out texts that are shown one by one."""

_BESIDE = 20
"""So many works have all numbers of the held-out texts beside theirs."""

_WHOLE = 50
"""With more works the maps have half as many parts, and what is nearly written and where passages
are is left to the JSON: a page of 100 has 320 kB at most."""

_TOOLS = 8
"""From so many works on they can be sorted and filtered."""

_WRITTEN = {
    "num_outputs": "Texts that it wrote on after passages",
    "num_tokens": "Tokens of each",
    "coverage": "Words of the work in spans of five or more of them",
    "room": "What they have room for",
    "longest_block": "Longest run of such words",
    "longest_span": "Longest span of one text, words",
    "num_long": "Spans of more than 20 words",
    "nv_recall": "Of the work near-verbatim in one text, at most",
    "share_over_160": "Texts with over 160 of its characters in a row",
    "degenerate": "Texts that repeat themselves",
}
"""What the texts that the model wrote share with the work; fractions are shares."""

_NO_TEXT = "It has no text of any work, but the names and paths that were given."

_SOME_TEXT = "It has passages of the works, as --show-text asked; think of whom you hand it on to."

_SHARES = ("coverage", "room", "nv_recall", "share_over_160", "degenerate")


def audit_page(
    content: Mapping[str, Any], *, command: str, texts: Mapping[str, str] | None = None
) -> str:
    """Make a page of an audit of works.

    Parameters
    ----------
    content : mapping
        What ``copyreg audit --work ... --out`` writes: ``preset``, ``works`` and ``held_out``, and
        if there are any, the name of the ``model``, the bits that it was rounded to, in
        ``quantize``, ``membership``, and what a ``certificate`` says. Numbers may be None.
    command : str
        The command that measures this anew.
    texts : mapping from names of works to texts, optional
        To show the likeliest passages of each work, and not only where they are.

    Returns
    -------
    str
        HTML, all in one file. Names are escaped, and a browser runs nothing but the page's script.

    Raises
    ------
    InputError
        There is no work.

    Examples
    --------
    >>> audit_page({"preset": {}, "works": [], "held_out": []}, command="copyreg audit")
    Traceback (most recent call last):
        ...
    copyreg_jax.errors.InputError: there is no work to make a page of
    """
    works, held_out, preset = content["works"], content["held_out"], content["preset"]
    if not works:
        raise InputError("there is no work to make a page of")
    if len(works) > _WHOLE:
        places: dict[str, Any] = {} if texts else {"likeliest": []}
        works = [
            {**work, "heat": join_pairs(work["heat"]), "near": None, **places} for work in works
        ]
    many = len(works) > 1
    what = f"{len(works):,} works" if many else quoted(works[0]["name"])
    unseen = _pooled(held_out)
    claims = {
        "Extractable": extractable_of_all(content["works"], preset, unseen),
        "Memorized": memorized_of_all(works, preset),
    }
    main = Template(resource(_HERE, "page.html")).substitute(
        claims="\n".join(claim(name, *said) for name, said in claims.items()),
        works_heading="Work by work" if many else "Along the work",
        overview=_overview(works, preset) if many else "",
        legend=legend(),
        works="\n".join(
            _work(number, work, unseen, preset, alone=not many, texts=texts)
            for number, work in enumerate(works, 1)
        ),
        held_out=_held_out(held_out, preset),
        membership=membership_section(content.get("membership"), preset["alpha"]),
        any_decoder=escape(any_decoder(works) + proved(content.get("certificate"))),
        done=escape(how_measured(content)),
        settings=facts("Settings of this audit", settings(content).items()),
        least=f"{preset['least']:g}",
        budget=counted(preset["budget"], "sample"),
        command=commands(command),
    )
    return make_page(
        title=f"Audit of {what}",
        kind="Audit of a language model",
        heading=f"What the model gives away of {what}",
        about=_about(content),
        main=main,
        footer=_NO_TEXT if texts is None else _SOME_TEXT,
        css=resource(_HERE, "page.css"),
        script=resource(_HERE, "page.js"),
    )


def _about(content: Mapping[str, Any]) -> str:
    held_out = len(content["held_out"])
    parts = [
        counted(sum(work["num_passages"] for work in content["works"]), "passage"),
        counted(held_out, "held-out text") if held_out else "no held-out text",
    ]
    if content.get("model"):
        rounded = f" in {content['quantize']} bits" if content.get("quantize") else ""
        parts.insert(0, f"Model {quoted(str(content['model']))}{rounded}")
    return " · ".join(parts)


def _overview(works: Sequence[Mapping[str, Any]], preset: Mapping[str, Any]) -> str:
    """All works in one table, and what sorts them."""
    tools = (
        '<form class="tools" hidden><label>Find a work <input type="search" autocomplete="off">'
        '</label><label>Order <select><option value="">as given</option>'
        '<option value="name">by name</option><option value="0">most written first</option>'
        '<option value="2">most likelier than unseen first</option></select></label>'
        '<p role="status"></p></form>\n'
    )
    columns = ("Work", "Can be written", _within(preset), "Likelier than unseen")
    head = "".join(f"<th scope=col>{name}" for name in columns)
    rows = []
    for number, work in enumerate(works, 1):
        shares = (work["coverage"], work["extractable"], (work["memorized"] or {}).get("share"))
        keys = " ".join("-1" if share is None else f"{share:.4g}" for share in shares)
        first, *others = map(percent, shares)
        cells = f"<td>{first}{bar(shares[0])}" + "".join(f"<td>{other}" for other in others)
        rows.append(
            f'<tr data-k="{keys}"><th scope=row><a href="#w{number}">{_name(work)}</a>{cells}'
        )
    return (
        f"{tools if len(works) >= _TOOLS else ''}"
        f'<table class="overview"><caption>All works</caption><thead><tr>{head}</thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table>"
    )


def _within(preset: Mapping[str, Any]) -> str:
    return f"Within {counted(preset['budget'], 'sample')}"


def _name(work: Mapping[str, Any]) -> str:
    return escape(quoted(work["name"]))


def _work(
    number: int,
    work: Mapping[str, Any],
    unseen: Mapping[str, Any] | None,
    preset: Mapping[str, Any],
    *,
    alone: bool,
    texts: Mapping[str, str] | None,
) -> str:
    said = [_size(work)]
    if not alone:
        said += [extractable(work, preset).said, memorized(work, preset).said]
    places = likeliest(work.get("likeliest", ()), None if texts is None else texts[work["name"]])
    return (
        f'<article class="work" id="w{number}" aria-labelledby="n{number}">'
        f'<h3 id="n{number}">{_name(work)}</h3><p>{escape(" ".join(said))}</p>\n'
        f"{_bars({'Can be written': work, 'Of held-out texts': unseen})}"
        f"{draw(f'c{number}', work['heat'], preset['least'])}\n"
        f"{_numbers(work, unseen if number <= _BESIDE else None, preset)}"
        f"{nearly(work.get('near'), work.get('near_held_out'), preset)}"
        f"{_written(work.get('written') or {})}{places}</article>"
    )


def _bars(texts: Mapping[str, Mapping[str, Any] | None]) -> str:
    """How much can be written of some texts, as bars of one scale."""
    rows = (
        f"<dt>{name}<dd>{bar(text['coverage'])}{percent(text['coverage'])}"
        for name, text in texts.items()
        if text is not None
    )
    return f'<dl class="bars">{"".join(rows)}</dl>'


def _size(work: Mapping[str, Any]) -> str:
    characters = counted(work["num_characters"], "character")
    if work["excerpt_of"] is not None:
        characters = f"An excerpt of {characters} of {work['excerpt_of']:,}"
    return f"{characters}, {counted(work['num_passages'], 'passage')}."


def _numbers(
    work: Mapping[str, Any], unseen: Mapping[str, Any] | None, preset: Mapping[str, Any]
) -> str:
    """The numbers of a work, beside those of all held-out texts."""
    columns = [work] if unseen is None else [work, unseen]
    return table(
        "In numbers", ["This work"] if unseen is None else ["This work", "Held-out texts"],
        [
            ("Can be written", [percent(c["coverage"]) for c in columns]),
            ("Longest stretch, characters", [f"{c['longest']:,}" for c in columns]),
            (_within(preset), [percent(c["extractable"]) for c in columns]),
            ("By the likeliest token", [percent(c["greedy"]) for c in columns]),
            ("Likeliest tokens", [percent(c["right"]) for c in columns]),
            ("Extraction strength", [percent(c["strength"]) for c in columns]),
            ("Likelier than unseen", [_likelier(c) for c in columns]),
            ("Likeliest passage", [odds(_log10(c["log_p"])) for c in columns]),
            ("Samples for it", [_samples(c["log10_samples"]) for c in columns]),
            ("Any sampler, at most", [bound(c["bits"]) for c in columns]),
        ],
    )  # fmt: skip


def _likelier(work: Mapping[str, Any]) -> str:
    found = work["memorized"]
    if found is None:
        return ""
    return percent(found["share"]) + ("" if found["p_value"] is not None else ", no error rate")


def _log10(natural: float | None) -> float | None:
    return None if natural is None else natural / math.log(10)


def _samples(log10: float | None) -> str:
    return "no number is enough" if log10 is None else power(log10)


def _written(found: Mapping[str, Any]) -> str:
    """What there is of texts that the model wrote at length."""
    numbers = {**found, **found.get("shared", {})}
    rows = [
        (label, [percent(numbers[key]) if key in _SHARES else f"{numbers[key]:,}"])
        for key, label in _WRITTEN.items()
        if numbers.get(key) is not None
    ]
    return table("What it wrote at length", ["This work"], rows) if rows else ""


def _pooled(held_out: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The numbers of all held-out texts as if they were one."""
    if not held_out:
        return None

    def mean(name: str, weight: str) -> float | None:
        if any(text[name] is None for text in held_out):
            return None
        total = sum(text[weight] for text in held_out)
        return float(sum(text[name] * text[weight] for text in held_out) / total)

    likeliest = max(held_out, key=_likeliness)
    return {
        "coverage": mean("coverage", "num_characters"),
        "longest": max(text["longest"] for text in held_out),
        "extractable": mean("extractable", "num_passages"),
        "greedy": mean("greedy", "num_passages"),
        "right": mean("right", "num_passages"),
        "strength": mean("strength", "num_passages"),
        "memorized": None,
        "log_p": likeliest["log_p"],
        "log10_samples": likeliest["log10_samples"],
        "bits": None if any(t["bits"] is None for t in held_out)
        else min(text["bits"] for text in held_out),
    }  # fmt: skip


def _likeliness(text: Mapping[str, Any]) -> float:
    return -math.inf if text["log_p"] is None else float(text["log_p"])


def _held_out(held_out: Sequence[Mapping[str, Any]], preset: Mapping[str, Any]) -> str:
    """Show the held-out texts that the model finds likeliest."""
    if not held_out:
        return (
            '<p class="note">No text was held out, so these works are beside nothing that the '
            "model has never seen.</p>"
        )
    shown = sorted(held_out, key=_likeliness, reverse=True)[:_HELD_OUT_MAPS]
    which = (
        f"The {len(shown)} of {len(held_out):,} whose likeliest passages are the likeliest."
        if len(shown) < len(held_out)
        else "All of them, the one with the likeliest passage first."
    )
    maps = "\n".join(
        f"<h4>{_name(text)}</h4><p>{_size(text)} Can be written: {percent(text['coverage'])}.</p>"
        f"{draw(f'u{number}', text['heat'], preset['least'])}"
        for number, text in enumerate(shown, 1)
    )
    return (
        '<article class="work" aria-labelledby="unseen"><h3 id="unseen">Held-out texts</h3>'
        f"<p>Texts that the model has never seen, by those who chose them. {which}</p>{maps}"
        "</article>"
    )
