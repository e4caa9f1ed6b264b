"""The page of an audit: what it says in words, what its maps show, and that names are only text."""

import base64
import hashlib
import html
import json
import math
import re
import shlex
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax._pages import percent
from copyreg_jax.cli.audit_works import _nearly, _written
from copyreg_jax.cli.main import app
from copyreg_jax.lm import model_sources
from copyreg_jax.lm.leakage.constrained_beam import NearVerbatim
from copyreg_jax.lm.leakage.heat_maps import draw
from copyreg_jax.lm.leakage.near_verbatim import Verbatim
from copyreg_jax.lm.leakage.page import audit_page
from copyreg_jax.lm.leakage.phrases import odds, power
from copyreg_jax.lm.leakage.preset import Preset
from copyreg_jax.lm.leakage.wording import (
    any_decoder,
    extractable,
    extractable_of_all,
    memorized,
    memorized_of_all,
)
from copyreg_jax.lm.leakage.works import Written
from tests.support.audits import NEAR, PRESET, audit, calibration, large, nothing, work

HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style></script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "<!-- & &lt; &#60;svg onload=alert(1)>",
    "\u202egnitirw\u2069 \u2066",
    "null \0 and half \ud800 a character",
    "${css} $command {name} %s",
]


class Tags(HTMLParser):
    """All tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def words(text):
    return " ".join(text.replace("\u2068", "").replace("\u2069", "").split())


def test_names_are_only_text():
    plain = Tags(audit_page(audit(*map(work, "abcdefg"), model="h"), command="i"))
    page = audit_page(audit(*map(work, HOSTILE), model=HOSTILE[0]), command=HOSTILE[1])
    found = Tags(page.encode().decode())
    assert found.tags == plain.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in plain.attributes]
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    for name in [*HOSTILE[:4], HOSTILE[6]]:
        assert words(name) in words(found.text)
    assert not re.search("[\0\u202e]", page)
    assert page.count("\u2068") == page.count("\u2069")


def test_a_browser_runs_and_loads_only_what_the_page_came_with():
    page = audit_page(audit(work()), command="")
    (policy,) = re.findall('Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|\bfetch\b|\bsrc=|style=", page)


def test_the_page_has_its_parts_in_order():
    held_out = [nothing("unseen")]
    page = audit_page(audit(work(), held_out=held_out, model="some/model"), command="copyreg audit")
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    found = Tags(page)
    assert [found.tags.count(tag) for tag in ("h1", "main", "header", "footer", "title")] == [1] * 5
    headings = [words(part) for part in re.findall(r"<h[23].*?>(.*?)</h", page)]
    assert headings == [
        "The answer", "Extractable <span>Found</span>",
        "Memorized <span>Likelier than unseen</span>", "Along the work", "“Emma”",
        "Held-out texts", "Any sampler that keeps the order of the tokens", "What was done",
        "How to read the numbers",
        "What is not covered", "How to check it again",
    ]  # fmt: skip
    assert found.tags.count("caption") == found.tags.count("table")
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in found.attributes:
        if name == "aria-labelledby":
            assert value in ids
    assert "some/model" in found.text


@pytest.mark.parametrize(
    ("given", "label", "said", "detail"),
    [
        (
            work(), "Found",
            "12.3 % of the work is in pieces of 50 tokens that this model gives word for word with "
            "a probability of 0.001 or more a try, each after the true 50 tokens before it.",
            "Such pieces cover 4,321 characters in a row, but the model does not write them in one "
            "go. 9.87 % of the passages have a chance of 1/2 or more of being among 1,000 samples.",
        ),
        (
            work(coverage=0.0), "Found",
            "This model gives 9.87 % of the passages of the work word for word, each with a chance "
            "of 1/2 or more, if 1,000 samples are drawn for it after the text before.",
            "No single sample of a passage is right with a probability of 0.001 or more.",
        ),
        (
            work(extractable=0.0, log10_samples=4.2), "None found",
            "No passage of this work has a chance of 1/2 or more of being among 1,000 samples "
            "drawn for it. With a smaller chance some may be.",
            "needs about 15,800 samples. A single sample of a passage is right with a probability "
            "of 0.001 or more in 12.3 % of the work, so with more samples it comes up. This is no "
            "proof that the model was not trained on it.",
        ),
        (
            nothing(), "None found",
            "No passage of this work has a chance of 1/2 or more of being among 1,000 samples "
            "drawn for it. With a smaller chance some may be.",
            "no number of samples is enough for any passage. This is no proof",
        ),
        (
            work(coverage=None), "Not known",
            "How much of the work the model writes is not known.", "",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("known", "known_label", "known_said", "known_detail"),
    [
        (
            calibration(0.34), "Likelier than unseen",
            "The model knows this work better than unseen text: the likeliest passage of an "
            "excerpt is likelier than those of nearly all held-out documents (p-value 0.008).",
            "Compared was one excerpt, chosen at random: 200 passages, 0.225 % of the work. Of all "
            "its passages 34 % are likelier than unseen text, of unseen works 1 % or less in the "
            "mean; a third of them or more have a larger share.",
        ),
        (
            calibration(0.34, p_value=0.5), "No sign of it",
            "In an excerpt of this work no passage is likelier than those of held-out documents "
            "can be by chance (p-value 0.5).",
            "This is no proof that the model was not trained on it.",
        ),
        (
            calibration(0.34, num_held_out=4321, p_value=None), "A comparison only",
            "34 % of the passages of this work are likelier than 99 % of the passages of the "
            "unseen text. No error rate follows.",
            "too few held-out documents for an error rate: for 1 % it takes 99 that differ. "
            "Compared here are 4,321 passages",
        ),
        (
            calibration(0.0, num_held_out=98, p_value=None, threshold=None), "Not known",
            "Whether this work is memorized is not known: there is too little unseen text.",
            "For an error rate, give many texts",
        ),
        (
            None, "Not known",
            "Whether this work is memorized is not known: there is no unseen text beside it.",
            "For an error rate, give many texts",
        ),
    ],
)  # fmt: skip
def test_two_claims_of_a_work(
    given, label, said, detail, known, known_label, known_said, known_detail
):
    """Each combination, on the page too: one claim never changes what the other says."""
    given = {**given, "memorized": known}
    first, second = extractable(given, PRESET), memorized(given, PRESET)
    page = words(Tags(audit_page(audit(given), command="")).text)
    for claim, name, sentence, part in (
        (first, label, said, detail),
        (second, known_label, known_said, known_detail),
    ):
        assert (claim.label, words(claim.said)) == (name, sentence)
        assert part in words(claim.detail)
        assert sentence in page
        assert words(claim.detail) in page
    assert "that nothing was found is no proof that it was not used for training" in page


def test_claims_of_many_works():
    found = extractable_of_all([work("A"), work("B", coverage=0.5), nothing("C")], PRESET)
    assert words(found.said).startswith("This model gives passages of 2 of the 3 works word for")
    assert "The most is 50 % of “B”" in words(found.detail)
    none = extractable_of_all([nothing("A"), nothing("B")], PRESET)
    assert words(none.said).startswith("No passage of these 2 works has a chance of 1/2 or more")
    assert "no proof that the model was not trained on them" in none.detail
    unknown = extractable_of_all([nothing("A"), work(coverage=None)], PRESET)
    assert unknown.label == "Not known"
    some = [work("A"), work("B", memorized=calibration(0.005, p_value=0.02))]
    assert words(memorized_of_all(some, PRESET).said) == (
        "The model knows 1 of the 2 works better than unseen text: their excerpts have likelier "
        "passages than nearly all held-out documents. Most passages above unseen text has “A”, "
        "34 %."
    )
    assert "of many unseen works, 1 % are called known" in words(
        memorized_of_all(some, PRESET).detail
    )
    few = [work(memorized=calibration(0.005, p_value=0.02))] * 2
    assert memorized_of_all(few, PRESET).label == "No sign of it"
    census = calibration(0.34, p_value=None, num_held_out=500)
    assert memorized_of_all([work(memorized=census)] * 2, PRESET).label == "A comparison only"
    assert memorized_of_all([work(), nothing()], PRESET).label == "Not known"


def test_held_out_texts_are_beside_what_is_found():
    held_out = [work("u", coverage=0.5, num_characters=100), nothing("v", num_characters=300)]
    claim = "Of the held-out texts 12.5 % is in such pieces."
    assert claim in words(Tags(audit_page(audit(work(), held_out=held_out), command="")).text)
    assert claim not in audit_page(audit(nothing(), held_out=held_out), command="")
    many = audit_page(audit(work(), held_out=[nothing(f"u{k}") for k in range(99)]), command="")
    assert "The 6 of 99 whose likeliest passages" in many


def test_any_decoder():
    assert "above 2⁻¹, which is about 50 %." in words(any_decoder([work(), nothing()]))
    assert "above 2⁻²³¹, which is about 3·10⁻⁷⁰." in any_decoder([nothing()])
    assert "there is no bound" in any_decoder([nothing(), work(bits=0.0)])
    assert "not known" in any_decoder([work(bits=None)])


def test_numbers_in_words():
    """A share is never rounded to none or all, and no probability is too small to write."""
    shares = {0.0: "0 %", 4e-7: "less than 0.01 %", 0.00123: "0.123 %", 0.9999: "more than 99.9 %"}
    assert {share: words(percent(share)) for share in shares} == shares
    assert (words(percent(1.0)), percent(None)) == ("100 %", "not known")
    assert [words(odds(v)) for v in (None, 0.0, -0.31, -3, -5.9999, -6.5, -2000)] == [
        "0", "100 %", "49 %", "1 in 1,000", "1 in 1,000,000", "3·10⁻⁷", "1·10⁻²⁰⁰⁰",
    ]  # fmt: skip
    assert [power(v) for v in (0.0, 3.14, 868.43, 9.99)] == ["1", "1,380", "3·10⁸⁶⁸", "1·10¹⁰"]


def test_the_numbers_are_those_of_the_report():
    found = words(Tags(audit_page(audit(work(), held_out=[nothing("unseen")]), command="")).text)
    for part in (
        "887,654 characters, 88,765 passages", "Longest stretch, characters 4,321 0",
        "Can be written 12.3 % 0 %", "Within 1,000 samples 9.87 % 0 %",
        "By the likeliest token 4.56 % 0 %", "Likeliest passage 31.6 % 0",
        "Samples for it 2 no number is enough", "Any sampler, at most 2⁻¹ 2⁻²³¹",
    ):  # fmt: skip
        assert part.replace(" ", "") in found.replace(" ", ""), part


def test_what_the_model_wrote_is_shown_where_it_is_there():
    shared = {"coverage": 0.25, "longest_block": 1234, "num_long": 40, "nv_recall": None}
    written = {"room": 0.5, "shared": shared}
    page = words(Tags(audit_page(audit(work(written=written)), command="")).text)
    assert "What it wrote at length" in page
    assert "Longest run of such words1,234" in page
    assert "spans of five or more of them25 %" in page
    assert "near-verbatim in one" not in page
    assert "at length" not in audit_page(audit(work()), command="")


def test_what_is_nearly_written_is_beside_what_is_written():
    page = words(Tags(audit_page(audit(work(near=NEAR)), command="")).text)
    for part in (
        "Tokens of a passage that may be others5 of 50", "Within 1,000 samples, at least11 %",
        "Passages88,765", "that do not come up exactly16", "Likeliest of them, at least25 %",
        "median3,160 times",
    ):  # fmt: skip
        assert part in page
    never = {**NEAR, "gain": None, "log_p": None}
    assert "at least0Likelier than word for word, medianbeyond measure" in words(
        Tags(audit_page(audit(work(near=never)), command="")).text
    )
    for found in (work(), work(coverage=0.0), work(extractable=0.0)):
        said = words(extractable({**found, "near": NEAR}, PRESET).detail)
        assert "If 5 tokens of a passage may be others, 11 % of the passages or more" in said
        no_more = {**NEAR, "extractable": found["extractable"]}
        assert "may be others" not in extractable({**found, "near": no_more}, PRESET).detail
    many = [nothing(f"w{k}", near=NEAR) for k in range(3)] + [nothing("other", near=None)]
    for works in (many, [*many, *map(nothing, map(str, range(60)))]):  # of so many, as of few
        said = (
            "If 5 tokens of a passage may be others, passages of 3 of the works have that chance."
        )
        assert said in words(Tags(audit_page(audit(*works), command="")).text)
    assert "may be others" not in extractable_of_all([work(near=NEAR)] * 2, PRESET).detail
    none = audit_page(audit(work(near={**NEAR, "num_searched": 0})), command="")
    assert "that do not come up exactly" in none
    assert "Likeliest of them" not in none
    assert "that do not come up exactly" not in audit_page(audit(work(near=None)), command="")


BESIDE = {**NEAR, "num_passages": 1234, "extractable": 0.0, "log_p": math.log(1e-3), "gain": 1.0}


def test_what_is_nearly_written_is_beside_held_out_text():
    both = work(near=NEAR, near_held_out=BESIDE)
    page = words(Tags(audit_page(audit(both, held_out=[nothing("u")]), command="")).text)
    for part in (
        "may be others5 of 505 of 50", "at least11 %0 %", "Passages88,7651,234",
        "exactly1616", "Likeliest of them, at least25 %1 in 1,000", "median3,160 times10 times",
    ):  # fmt: skip
        assert part in page
    said = words(extractable(both, PRESET).detail)
    assert said.endswith("that chance; of 1,234 held-out passages, 0 % or more.")
    none = work(near=NEAR, near_held_out={**BESIDE, "num_searched": 0, "log_p": None, "gain": None})
    assert "at least25 %Likelier" in words(Tags(audit_page(audit(none), command="")).text)
    alone = words(Tags(audit_page(audit(work(near=NEAR)), command="")).text)
    assert "Passages88,765Searched" in alone


TEXT = "<b>The sea</b> was \u202eblue\n & calm\0, a sail \ud800 went by, and by."
PLACE = {"shown_from": 3, "start": 16, "written_to": 27, "end": 40, "log_p": math.log(0.01)}


def test_passages_are_shown_only_if_the_texts_are_given():
    """As text alone, with what the model writes marked."""
    content = audit(work(likeliest=[PLACE]))
    without, page = (audit_page(content, command="", texts=t) for t in (None, {"Emma": TEXT}))
    for one in (without, page):
        found = words(Tags(one).text)
        assert "Its likeliest passages, by charactersOne sampleWritten16 to 401 in 100" in found
        assert "45.8 %" in found  # 11 of 24 characters
    assert "sail" not in without
    assert "It has no text of any work" in without
    assert "It has no text of any work" not in page
    parts = re.search('"before">(.*?)</span><mark>(.*?)</mark>(.*?)</blockquote>', page, re.DOTALL)
    shown = [html.unescape(part) for part in parts.groups()]
    clean = TEXT.translate({0x202E: "\ufffd", 0: "\ufffd", 0xD800: "\ufffd"})
    assert shown == [clean[3:16], clean[16:27], clean[27:40]]
    assert set(Tags(page).tags) - set(Tags(without).tags) == {"blockquote", "mark"}


def test_of_very_many_works_only_texts_that_are_asked_for_name_places():
    content = audit(*(work(f"w{k}", likeliest=[PLACE], near=NEAR) for k in range(51)))
    page = audit_page(content, command="")
    assert "Its likeliest passages, by" not in page
    assert "Passages searched" not in page
    texts = {f"w{k}": TEXT for k in range(51)}
    assert audit_page(content, command="", texts=texts).count("<blockquote") == 51


def test_numbers_may_be_missing():
    numbers = dict.fromkeys(
        ["coverage", "extractable", "greedy", "log_p", "log10_samples", "bits", "memorized"]
    )
    empty = work(**numbers, heat=[None] * 200)
    for content in (audit(empty), audit(empty, empty, held_out=[empty, work()])):
        page = audit_page(json.loads(json.dumps(content)), command="")
        assert "not known" in page
        assert not re.search(r"\b(None|nan|inf)\b", Tags(page).text)


def test_no_work_is_refused():
    with pytest.raises(cr.InputError, match="there is no work to make a page of"):
        audit_page(audit(held_out=[work()]), command="")


@pytest.mark.parametrize("seed", range(3))
def test_a_map_has_the_colour_and_the_number_of_each_part(seed):
    rng = np.random.default_rng(seed)
    values = np.append(rng.uniform(-35, 0, 195), [-3, -30, 0, -27, -2.999])
    heat = [None if rng.uniform() < 0.1 * seed else float(value) for value in values]
    figure = draw("c1", heat, 0.001)
    shown = [None] * len(heat)
    for level, dashes in re.findall(r'class=h(\d) .*?stroke-dasharray="(.*?)"', figure):
        lengths = list(map(int, dashes.split()))
        assert len(lengths) % 2 == 0
        assert sum(lengths) >= len(heat)
        edges = np.cumsum([0, *lengths])
        for begin, end in zip(edges[::2], edges[1::2], strict=False):
            for k in range(begin, end):
                assert shown[k] is None
                shown[k] = int(level)
    expected = [None if v is None else max(0, int(np.floor((v + 30) / 3))) for v in heat]
    assert shown == [level if level is None else min(level, 9) for level in expected]
    (codes,) = re.findall('data-p="(.*?)"', figure)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for code, value in zip(codes, heat, strict=True):
        assert (code == ".") == (value is None)
        if value is not None:
            half = alphabet.index(code) / 2 - 30
            assert half <= max(value, -30) < half + 0.5


def test_a_map_in_words():
    assert "Likeliest at 50 % of the text: 31.6 %. It is 0.001 or more in 20 of 200 parts: " in (
        words(draw("c", work()["heat"], 0.001))
    )
    assert "parts: 50 to 60 %." in words(draw("c", work()["heat"], 0.001))
    assert "No passage of it has a probability above 0." in draw("c", [None] * 200, 0.001)
    assert "Nowhere is it 0.001 or more." in draw("c", [-9.0] * 200, 0.001)
    ends = draw("c", [-1.0, -9.0] * 5 + [-1.0], 0.001)
    assert "and 2 shorter stretches." in words(ends)
    assert "100 %." in words(draw("c", [-9.0, -1.0], 0.001))


def test_a_page_of_100_works_is_small():
    assert len(audit_page(large(100, 200), command="").encode()) <= 320_000


def luminance(colour, matrix=None):
    """CIE lightness of an sRGB colour, perhaps as somebody with a colour deficiency sees it."""
    srgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if matrix is not None:
        linear = np.clip(np.array(matrix) @ linear, 0, 1)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


DEFICIENCIES = {
    "none": None,
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
"""Machado, Oliveira and Fernandes (2009), severity 1."""


@pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=DEFICIENCIES)
def test_likelier_is_darker_on_light_and_lighter_on_dark(matrix):
    """Lightness orders the colours, in steps of 5 or more; one or two can be seen side by side."""
    css = (resources.files("copyreg_jax.lm.leakage") / "page.css").read_text()
    ramps = np.reshape(re.findall(r"--h\d: (#\w{6})", css), (2, 10))
    light, dark = ([luminance(colour, matrix) for colour in ramp] for ramp in ramps)
    assert (np.diff(light) <= -5).all(), np.diff(light)
    assert (np.diff(dark) >= 5).all(), np.diff(dark)


@pytest.fixture
def model(tmp_path):
    """A folder with a small model, and a work."""
    from flax import nnx

    from copyreg_jax.lm.corpus.tokenizer import save_tokenizer, train_tokenizer
    from copyreg_jax.lm.models.gpt2 import GPT2, GPT2Config
    from copyreg_jax.lm.models.hugging_face import save_pretrained

    folder = tmp_path / "model"
    folder.mkdir()
    config = GPT2Config(vocab_size=257, context=16, width=8, num_layers=1, num_heads=1)
    save_pretrained(GPT2(config, rngs=nnx.Rngs(0)), folder)
    save_tokenizer(train_tokenizer([], vocab_size=257), folder)
    (tmp_path / "sea.txt").write_text("A lonely sail is flashing white amid the blue mist.")
    return folder


def test_works_that_can_not_be_audited_are_refused_in_one_line(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["--prefix", "4", "--suffix", "4", "--outputs", "0"]
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "sea.txt").write_text("Another sail.")
    for more, message in (
        (["--out", str(model / "a.json")], "within the model; write it elsewhere"),
        (["--page", str(model / "a.html")], "within the model; write it elsewhere"),
        (["--work", "empty.txt"], "empty.txt is empty; give a text"),
        (["--work", "more/sea.txt"], "two texts are called sea.txt; rename one"),
        (["--held-out", "more/sea.txt"], "a work and a held-out text have one name"),
        (["--budget", str(10**400)], "give a number of samples, 1 to 2^53"),
        (["--outputs", "-1"], "outputs is -1 and written 200; give numbers, at least 0 and 1"),
        (["--near", "-1"], "near is -1 and width 20; give numbers, at least 0 and 1"),
        (["--distance", "4"], "distance is 4; give a number of tokens, from 0 to below the 4"),
        (["--quantize", "3"], "bits is 3; give 8 or 4"),
        (["--relearn", "9"], "--relearn is for runs of copyreg train only; omit it"),
        (["--windows", "256"], "--windows is for runs of copyreg train only; omit it"),
        (["--distance", "2", "--near", "0"], "omit it with --near 0"),
        (["--certify-windows", "8"], "--certify-windows is for a certificate; give --certificate"),
        (["--slack", "1"], "--slack is for a certificate; give --certificate FILE too"),
    ):
        command = ["audit", "--model", str(model), "--work", "sea.txt", *sizes, *more]
        refused = CliRunner().invoke(app, command)
        assert message in str(refused.exception)
    load = model_sources.load_model

    def touched(*arguments):
        found = load(*arguments)
        (model / "config.json").write_text((model / "config.json").read_text() + " ")
        return found

    monkeypatch.setattr(model_sources, "load_model", touched)
    refused = CliRunner().invoke(app, ["audit", "--model", str(model), "--work", "sea.txt", *sizes])
    assert "has changed while it was read; run this again" in str(refused.exception)


def test_no_text_is_written_but_on_a_page_that_is_asked_for_it(model, tmp_path):
    """No three words of the work are anywhere in the JSON, the page or the terminal."""
    text = "A lonely sail is flashing white amid the blue mist."
    words_ = text.rstrip(".").split()
    runs = [" ".join(words_[k : k + 2]) for k in range(len(words_) - 1)]
    page, out = tmp_path / "a.html", tmp_path / "a.json"
    command = ["audit", "--model", str(model), "--work", str(tmp_path / "sea.txt")]
    command += ["--prefix", "4", "--suffix", "12", "--distance", "1", "--overwrite"]
    command += ["--out", str(out), "--page", str(page)]
    for show in ([], ["--show-text"]):
        result = CliRunner().invoke(app, [*command, *show])
        assert result.exit_code == 0, result.exception
        found = json.loads(out.read_text())["works"][0]
        assert all(run not in out.read_text() + result.stdout for run in runs)
        shown = [run for run in runs if run in Tags(page.read_text()).text]
        assert bool(shown) == bool(show)
        assert ("--show-text</code>" in page.read_text()) == bool(show)
    assert "if 1 of their 12 tokens may be others; of those that do not" in result.stdout
    assert found["near"]["num_searched"] == min(16, found["num_passages"])
    for place in found["likeliest"]:
        part = text[place["shown_from"] : place["start"]], text[place["start"] : place["end"]]
        assert [len(one) for one in part] == [4, 12]  # a token is a letter
        if place is found["likeliest"][0]:
            for one in part:
                assert html.escape(one) in page.read_text()
    refused = CliRunner().invoke(app, [*command[:-2], "--show-text"])
    assert "--show-text is for a page; give --page FILE too" in str(refused.exception)


def test_line_ends_of_windows_are_line_ends(model, tmp_path):
    lines, out = "A lonely sail\nis flashing white\namid the blue mist.", tmp_path / "a.json"
    found = []
    for text in (lines, lines.replace("\n", "\r\n")):
        (tmp_path / "sea.txt").write_bytes(text.encode())
        command = [
            "audit",
            "--model",
            str(model),
            "--work",
            str(tmp_path / "sea.txt"),
            "--overwrite",
        ]
        command += ["--held-out", str(tmp_path / "short.csv"), "--out", str(out)]
        (tmp_path / "short.csv").write_text("text\nx\n")
        result = CliRunner().invoke(app, [*command, "--prefix", "4", "--suffix", "4"])
        assert result.exit_code == 0, result.exception
        assert "1 held-out texts are shorter than a passage" in result.stdout
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1]
    assert found[0]["sha256"]["sea.txt"] == hashlib.sha256(lines.encode()).hexdigest()
    assert not out.with_name("a.json.partial").exists()


@pytest.mark.parametrize("begun", [None, False, True], ids=["no --out", "nothing yet", "begun"])
def test_an_interrupted_audit_says_what_is_kept(begun, model, tmp_path, monkeypatch):
    store = tmp_path / "a.json.partial"

    def interrupted(*_, **options):
        assert options["store"] == (None if begun is None else store)
        if begun:
            store.write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("copyreg_jax.lm.leakage.works.audit_works", interrupted)
    command = ["audit", "--model", str(model), "--work", str(tmp_path / "sea.txt")]
    command += [] if begun is None else ["--out", str(tmp_path / "a.json")]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stdout) == (130, "")
    kept = {None: "with --out FILE", False: "nothing is kept\n", True: f"goes on from {store}"}
    assert kept[begun] in result.stderr.replace("\r", "")


def test_a_rounded_model_is_audited_in_place_of_the_model(model, tmp_path):
    out, page, found = tmp_path / "a.json", tmp_path / "a.html", []
    for more in ([], ["--quantize", "4"]):
        command = ["audit", "--model", str(model), "--work", str(tmp_path / "sea.txt"), *more]
        command += ["--prefix", "4", "--suffix", "4", "--out", str(out), "--page", str(page)]
        result = CliRunner().invoke(app, [*command, "--overwrite"])
        assert result.exit_code == 0, result.exception
        found.append(json.loads(out.read_text()))
        said = ["in 4 bits" in page.read_text(), "--quantize 4" in page.read_text()]
        assert [*said, "weights of 4 bits" in result.stdout] == [bool(more)] * 3
    plain, rounded = found
    assert (plain["quantize"], rounded["quantize"]) == (None, 4)
    assert plain["model_sha256"] == rounded["model_sha256"]  # the files that it was read from
    assert plain["works"][0]["log_p"] != rounded["works"][0]["log_p"]


def test_one_is_not_said_as_many():
    near = NearVerbatim(**NEAR)
    assert "the 16 likeliest were searched" in _nearly(near, None, Preset())
    one = near._replace(num_passages=1, num_searched=1)
    assert "the 1 likeliest was searched" in _nearly(one, None, Preset())
    assert "(held out: 11 % of 1 passage; " in _nearly(near, one, Preset()).replace("\u00a0", " ")
    shared = Verbatim(**dict.fromkeys(Verbatim._fields, 0.25))
    said = _written(Written(1, 200, 0.5, shared)).replace("\u00a0", " ")
    assert said.startswith(
        "25 % of the work's words are in spans of 5 or more of 1 text of 200 tok"
    )
    assert said.endswith(
        "25 % of the texts have over 160 characters of it in a row, 25 % repeat themselves"
    )


def test_command(model, tmp_path, monkeypatch):
    """The page's own command makes the same page again; no file is lost."""
    monkeypatch.chdir(tmp_path)
    page, out = tmp_path / "a page.html", tmp_path / "audit.json"
    command = [
        "audit", "--model", str(model), "--work", "sea.txt", "--prefix", "4", "--suffix", "4",
        "--page", str(page),
    ]  # fmt: skip
    run = CliRunner()
    result = run.invoke(app, [*command, "--out", str(out)])
    assert result.exit_code == 0, result.exception
    written = page.read_text()
    assert "sail" not in written
    found = json.loads(out.read_text())
    again = re.search("<code>(copyreg .*?)</code>", written)[1].replace("&#x27;", "'")
    assert audit_page(found, command=again) == written
    page.unlink()
    result = run.invoke(app, shlex.split(again)[1:])
    assert result.exit_code == 0, result.exception
    assert page.read_text() == written
    for place, message in (
        (page, "give --overwrite"),
        (tmp_path / "sea.txt", "would replace"),
        (out, "would replace"),
        (model, "is a folder"),
        (tmp_path / "no" / "page.html", "can't write --page"),
    ):
        more = ["--page", str(place), "--out", str(out)]
        more += ["--overwrite"] if place != page else []
        refused = run.invoke(app, [*command[:-2], *more])
        assert message in str(refused.exception)
    for more, message in (
        (["--page", str(page)], "--page is for a model and works only; omit it"),
        (["--stride", "10"], "--stride is for a model and works only; omit it"),
        (["--work", "sea.txt"], "give either runs and their --text, or a --model and a --work"),
    ):
        refused = run.invoke(app, ["audit", str(model), "--text", "sea.txt", *more])
        assert message in str(refused.exception)
    assert page.read_text() == written
