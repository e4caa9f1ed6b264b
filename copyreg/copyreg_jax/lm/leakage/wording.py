"""What an audit of works says in words: two claims about each work, never one, and their limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from copyreg_jax._pages import counted, percent, quoted
from copyreg_jax.lm.leakage.phrases import bound, odds, power

__all__ = [
    "SCORES",
    "Claim",
    "any_decoder",
    "extractable",
    "extractable_of_all",
    "how_measured",
    "memorized",
    "memorized_of_all",
    "proved",
    "settings",
]

SCORES = {
    "loss": "loss", "zlib": "zlib", "min_k": "Min-K %", "min_k_plus": "Min-K %++",
    "reference": "reference",
}  # fmt: skip
"""Membership scores by what the field calls them."""

_NO_PROOF = "This is no proof that the model was not trained on it."


class Claim(NamedTuple):
    """One claim about a work, or about all of them.

    Attributes
    ----------
    label : str
        The claim in two or three words.
    said : str
        The claim in a sentence.
    detail : str
        What exactly was counted, and what does not follow.
    """

    label: str
    said: str
    detail: str


def extractable(work: Mapping[str, Any], preset: Mapping[str, Any]) -> Claim:
    """Say whether passages of a work come up within the budget of samples."""
    share, covered = work["extractable"], work["coverage"]
    budget, least = counted(preset["budget"], "sample"), f"{preset['least']:g}"
    if share is None or covered is None:
        return Claim("Not known", "How much of the work the model writes is not known.", "")
    if share == 0:
        said = "No passage of this work has a chance of 1/2 or more of being among "
        said += f"{budget} drawn for it. With a smaller chance some may be."
        more = f" A single sample of a passage is right with a probability of {least} or more in "
        more += f"{percent(covered)} of the work, so with more samples it comes up."
        needed = work["log10_samples"]
        likeliest = (
            "Sampled like this, no number of samples is enough for any passage."
            if needed is None
            else f"The likeliest passage needs about {power(needed)} samples."
        )
        detail = f"{likeliest}{more if covered else ''}{_nearly(work)} {_NO_PROOF}"
        return Claim("None found", said, detail)
    if covered == 0:
        return Claim(
            "Found",
            f"This model gives {percent(share)} of the passages of the work word for word, each "
            f"with a chance of 1/2 or more, if {budget} are drawn for it after the text before.",
            f"No single sample of a passage is right with a probability of {least} or more."
            f"{_nearly(work)}",
        )
    return Claim(
        "Found",
        f"{percent(covered)} of the work is in pieces of {counted(preset['suffix'], 'token')} that "
        f"this model gives word for word with a probability of {least} or more a try, each after "
        f"the true {counted(preset['prefix'], 'token')} before it.",
        f"Such pieces cover {counted(work['longest'], 'character')} in a row, but the model does "
        f"not write them in one go. {percent(share)} of the passages have a chance of 1/2 or more "
        f"of being among {budget}.{_nearly(work)}",
    )


def _nearly(work: Mapping[str, Any]) -> str:
    """What is added by passages that come up nearly word for word."""
    near = work.get("near")
    if near is None or near["extractable"] <= work["extractable"]:
        return ""
    others, beside = counted(near["distance"], "token"), work.get("near_held_out")
    said = (
        f" If {others} of a passage may be others, {percent(near['extractable'])} of the "
        "passages or more have that chance"
    )
    if beside is None:
        return f"{said}."
    return (
        f"{said}; of {counted(beside['num_passages'], 'held-out passage')}, "
        f"{percent(beside['extractable'])} or more."
    )


def extractable_of_all(
    works: Sequence[Mapping[str, Any]],
    preset: Mapping[str, Any],
    unseen: Mapping[str, Any] | None = None,
) -> Claim:
    """Say of how many works passages come up; and how much of the held-out texts as one."""
    claim = extractable(works[0], preset) if len(works) == 1 else _of_many(works, preset)
    if unseen is None or claim.label != "Found":
        return claim
    beside = f"Of the held-out texts {percent(unseen['coverage'])} is in such pieces."
    return claim._replace(detail=f"{claim.detail} {beside}".strip())


def _of_many(works: Sequence[Mapping[str, Any]], preset: Mapping[str, Any]) -> Claim:
    known = [work for work in works if None not in (work["extractable"], work["coverage"])]
    if len(known) < len(works):
        return Claim("Not known", "For some of the works it is not known; see each.", "")
    budget = counted(preset["budget"], "sample")
    found = [work for work in works if work["extractable"] > 0]
    most = max(works, key=lambda work: work["coverage"])
    nearly = _nearly_of_many(works, len(found))
    if not found:
        said = f"No passage of these {len(works):,} works has a chance of 1/2 or more of being "
        said += f"among {budget} drawn for it."
        no_proof = _NO_PROOF.replace("trained on it", "trained on them")
        return Claim("None found", said, f"{nearly} {no_proof}".strip())
    said = (
        f"This model gives passages of {len(found):,} of the {len(works):,} works word for word, "
    )
    said += (
        f"each with a chance of 1/2 or more, if {budget} are drawn for it after the text before."
    )
    detail = (
        f"The most is {percent(most['coverage'])} of {quoted(most['name'])}: its share in passages "
        f"that one sample gives with a probability of {preset['least']:g} or more."
    )
    return Claim("Found", said, f"{detail if most['coverage'] else ''} {nearly}".strip())


def _nearly_of_many(works: Sequence[Mapping[str, Any]], found: int) -> str:
    """Say of how many works passages come up nearly word for word, if of more than exactly."""
    near = [work["near"] for work in works if work.get("near")]
    number = sum(one["extractable"] > 0 for one in near)
    if number <= found:
        return ""
    return (
        f"If {counted(near[0]['distance'], 'token')} of a passage may be others, passages of "
        f"{number:,} of the works have that chance."
    )


def memorized(work: Mapping[str, Any], preset: Mapping[str, Any]) -> Claim:
    """Say whether the passages of a work are likelier than those of unseen text."""
    found = work["memorized"]
    if found is None or found["share"] is None:
        said = "Whether this work is memorized is not known: there is no unseen text beside it."
        return Claim("Not known", said, _GIVE)
    share, alpha = percent(found["share"]), percent(found["alpha"])
    if found["p_value"] is not None:
        part = percent(found["num_compared"] / work["num_passages"])
        detail = "Compared was one excerpt, chosen at random: "
        detail += f"{counted(found['num_compared'], 'passage')}, {part} of the work. Of all its "
        detail += (
            f"passages {share} are likelier than unseen text, of unseen works {alpha} or less "
        )
        detail += f"in the mean; a third of them or more have a larger share. {_rate(found)}"
        chance = f"p-value {found['p_value']:.2g}"
        if found["p_value"] <= found["alpha"]:
            said = "The model knows this work better than unseen text: the likeliest passage of an "
            said += f"excerpt is likelier than those of nearly all held-out documents ({chance})."
            return Claim("Likelier than unseen", said, detail)
        said = "In an excerpt of this work no passage is likelier than those of held-out documents "
        said += f"can be by chance ({chance})."
        return Claim("No sign of it", said, f"{detail} {_NO_PROOF}")
    rest = percent(1 - found["alpha"])
    if Fraction(found["alpha"]) * (found["num_held_out"] + 1) < 1:
        said = "Whether this work is memorized is not known: there is too little unseen text."
        return Claim("Not known", said, f"{_census(found)} {_GIVE}")
    said = f"{share} of the passages of this work are likelier than {rest} of the passages of the "
    said += "unseen text. No error rate follows."
    return Claim("A comparison only", said, _census(found))


def memorized_of_all(works: Sequence[Mapping[str, Any]], preset: Mapping[str, Any]) -> Claim:
    """Say of how many works the passages are likelier than those of unseen text."""
    if len(works) == 1:
        return memorized(works[0], preset)
    claims = [memorized(work, preset) for work in works]
    found = [work["memorized"] for work in works]
    if "Not known" in {claim.label for claim in claims}:
        said = "Whether these works are memorized is not known: there is too little unseen text."
        return Claim("Not known", said, _GIVE)
    most = max(works, key=lambda work: work["memorized"]["share"])
    share, alpha = percent(most["memorized"]["share"]), found[0]["alpha"]
    if any(one["p_value"] is None for one in found):
        said = f"Of {quoted(most['name'])}, {share} of the passages are likelier than "
        said += (
            f"{percent(1 - alpha)} of the passages of the unseen text; of the other works, less "
        )
        said += "or as many. No error rate follows."
        return Claim("A comparison only", said, _census(found[0]))
    above = sum(one["p_value"] <= one["alpha"] for one in found)
    detail = f"{_rate(found[0])} So of many unseen works, {percent(alpha)} are called known."
    if not above:
        said = f"In no excerpt of these {len(works):,} works is a passage likelier than those of "
        said += "held-out documents can be by chance."
        return Claim("No sign of it", said, f"{detail} {_NO_PROOF.replace(' it', ' them')}")
    said = f"The model knows {above:,} of the {len(works):,} works better than unseen text: their "
    said += "excerpts have likelier passages than nearly all held-out documents. Most "
    said += f"passages above unseen text has {quoted(most['name'])}, {share}."
    return Claim("Likelier than unseen", said, detail)


_GIVE = "For an error rate, give many texts of the same kind that the model has never seen."


def _rate(found: Mapping[str, Any]) -> str:
    documents = counted(found["num_documents"], "document")
    return (
        "A p-value is the chance that a work which the model has never seen gives so strong a "
        "sign; it is not the probability that the model has not seen this one. "
        f"The false-positive rate is {percent(found['alpha'])}, by {documents} that were held out "
        "and excerpts of one length. It holds if the documents are of the same kind as the work "
        "and truly unseen."
    )


def _census(found: Mapping[str, Any]) -> str:
    needed = math.ceil(1 / Fraction(found["alpha"])) - 1
    compared = counted(found["num_held_out"], "passage")
    return (
        f"There are too few held-out documents for an error rate: for {percent(found['alpha'])} it "
        f"takes {needed:,} that differ. Compared here are {compared} of those that there "
        "are."
    )


def any_decoder(works: Sequence[Mapping[str, Any]]) -> str:
    """Say what holds for whatever temperature, top-k, top-p or min-p."""
    bits = [work["bits"] for work in works]
    what = "this work" if len(works) == 1 else "these works"
    if None in bits:
        return f"A bound for any decoder is not known for {what}."
    least = min(bits)
    if least < 1:
        return (
            f"There is a passage of {what} of which each token is the model's likeliest. So a "
            "decoder that always takes the likeliest token writes it, and there is no bound."
        )
    return (
        f"Whatever the temperature, top-k, top-p or min-p: after the true text before it, no "
        f"measured passage of {what} is written in one try with a probability above "
        f"{bound(least)}, which is about {odds(-math.floor(least) * math.log10(2))}. Tries add up."
    )


def proved(certificate: Mapping[str, Any] | None) -> str:
    """Say in a sentence what a certificate about some of the passages says.

    Examples
    --------
    >>> said = {"name": "a.json", "passages": 2, "of": 9, "b": 12.39, "slack": 0.00012345678}
    >>> "above 2⁻¹² on logits within 0.00012345678 of" in proved(said), proved(None)
    (True, '')
    """
    if certificate is None:
        return ""
    return (
        f" The certificate {quoted(certificate['name'])} proves for {certificate['passages']:,} of "
        f"the {certificate['of']:,} passages, those with the fewest bits, that each is written "
        f"with no probability above {bound(certificate['b'])} on logits within "
        f"{certificate['slack']} of the exact ones."
    )


def how_measured(content: Mapping[str, Any]) -> str:
    """Say what was done, in two sentences."""
    preset, model = content["preset"], content.get("model")
    which = f"the model {quoted(str(model))}" if model else "the model"
    return (
        f"Each work, and an excerpt of each held-out text drawn at random, was cut into passages, "
        f"one every {counted(preset['stride'], 'character')}: "
        f"{counted(preset['prefix'], 'token')} that {which} was shown, and the "
        f"{counted(preset['suffix'], 'token')} after them. Its probability of writing exactly "
        f"those, if a sample is drawn from {_drawn(preset)} at temperature 1, was computed from "
        "the model's own numbers; nothing had to be drawn."
    )


def settings(content: Mapping[str, Any]) -> dict[str, str]:
    """The settings of an audit by what they are."""
    preset, bits = content["preset"], content.get("quantize")
    return {
        "Weights": f"rounded to {bits} bits, without embeddings" if bits else "as in the files",
        "Shown before a passage": counted(preset["prefix"], "token"),
        "Length of a passage": counted(preset["suffix"], "token"),
        "A passage begins every": counted(preset["stride"], "character"),
        "Sampled from": _drawn(preset),
        "Counted as written from": f"a probability of {preset['least']:g}",
        "Tries assumed for each passage": f"{preset['budget']:,}",
        "Unseen works called known, at most": percent(preset["alpha"]),
        "Works": f"{len(content['works']):,}",
        "Held-out texts": f"{len(content['held_out']):,}",
    }


def _drawn(preset: Mapping[str, Any]) -> str:
    return f"the {preset['top_k']} likeliest tokens" if preset["top_k"] else "all tokens"
