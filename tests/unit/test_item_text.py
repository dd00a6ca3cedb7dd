"""An item's text is what a person would read of its fields, and no text of a stranger is slow to read."""

import itertools
import random
import re
import unicodedata

import pytest

from recsys_spark.kernels.item_text import MAX_CHARS, Template, drop_invisible, read_markup, tidy


def text_of(*values, template="{title}"):
    return Template.parse(template).render(values)


# --- markup -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Size <5 and >3 Curtain", "Size <5 and >3 Curtain"),
        ("3 < 5", "3 < 5"),
        ("<3 cats", "<3 cats"),
        ("Width<Height", "Width<Height"),
        ("cut off <a href=", "cut off <a href="),
        ("figs <b>fresh</b>", "figs fresh"),
        ("Soft<b>ly</b> H<sub>2</sub>O", "Softly H2O"),
        ("one<br/>two<br>three", "one two three"),
        ('<p class="x">A</p><p>B</p>C', "A B C"),
        ("<ul><li>A<li>B</ul>", "A B"),
        ("<td>A</td><td>B</td>", "A B"),
        ("<table><tr><td>A<td>B</table>", "A B"),
        ("<title>Tea</title>", "Tea"),
        ('<a title="1 > 0">Tea</a>', "Tea"),
        ("<!-- no > word -->Tea", "Tea"),
        ("<html><head><title>A</title></head><body>B</body></html>", "A B"),
    ],
)
def test_tags_are_html_and_what_is_no_tag_stays(given, wanted):
    assert text_of(given) == wanted


@pytest.mark.parametrize("name", ["script", "style", "iframe", "template"])
def test_what_no_browser_shows_is_no_text_wherever_it_stands(name):
    hidden = f"<{name}>alert(1)</{name}>"
    assert text_of(f"{hidden}Tea") == text_of(f"Tea{hidden}") == text_of(f"<p>Tea {hidden}</p>") == "Tea"
    assert text_of(f"<{name}>alert(1)") == ""


def test_a_field_that_is_left_open_does_not_swallow_the_next():
    values = ("Tea <script>alert(1)", "<b title='x", "Drinks")
    assert text_of(*values, template="{title}, {brand}, {category}") == "Tea, <b title='x, Drinks"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("AT&T, ham & eggs", "AT&T, ham & eggs"),
        ("Caf&eacute; &#233; &#xe9;", "Café é é"),
        ("5&nbsp;&euro;", "5 €"),
        ("a&lt;b&gt;c", "a<b>c"),
        ("a&#x202e;b&#8203;c", "abc"),
        ("&#0;&#xD800;", "\ufffd\ufffd"),
        ("&#" + "9" * 6000 + ";", "\ufffd"),
        ("&unknown; &", "&unknown; &"),
    ],
)
def test_entities_are_decoded_once(given, wanted):
    assert text_of(given) == wanted


# --- marks that nobody sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("tab\there\nline\r\nend\x00\x07\x7f\x9f", "tab here line end"),
        ("no\u00a0break\u3000wide\u2003em\u2028line\u2800dots", "no break wide em line dots"),
        ("soft\u00adhyphen", "softhyphen"),
        ("zero\u200bwidth\u2060word\ufeffmark", "zerowidthwordmark"),
        ("\u202etxt.exe\u202c \u2066left\u2069\u200e\u200f\u061c", "txt.exe left"),
        ("Tea\U000e0001\U000e0041\U000e007f", "Tea"),
        ("\ue000Tea\U000f0000", "Tea"),
        ("kept \ufffd", "kept \ufffd"),
        ("Cafe\u0301 \u212b", "Caf\u00e9 \u00c5"),
    ],
)
def test_marks_that_nobody_sees_are_dropped_and_blanks_are_one(given, wanted):
    assert text_of(given) == wanted


@pytest.mark.parametrize(
    "word",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: a joiner keeps the letters apart
        "\u0915\u094d\u200d\u0937",  # Hindi: a half form
        "\u0d28\u0d4d\u200d",  # Malayalam: a consonant without a vowel at the end of a word
        "\U0001f469\u200d\U0001f467",  # a family
        "\U0001f937\U0001f3fd\u200d\u2640\ufe0f",  # with a tone of skin and a variant
        "\u2764\ufe0f",  # a heart in colour
        "\u845b\U000e0100",  # a variant of a Han character
    ],
)
def test_joiners_and_variants_that_make_a_word_stay(word):
    assert text_of(f"Tea {word} 5") == f"Tea {word} 5"


def test_joiners_and_variants_of_nothing_are_dropped():
    assert text_of("ta\u200cble \u200d\u200c \ufe0f\ufe0f top\u200d") == "table top"
    assert text_of("\u0645\u06cc\u200c\u200c\u200d\u062e") == "\u0645\u06cc\u200c\u062e", "one is enough"


@pytest.mark.parametrize(
    "nothing",
    ["", " ", ", , ,", " , ", "<br/>", "\x00", "|", " : ; / ", "., .", "\u200b\u200b", "&nbsp;", "&#8203;", "\u00ad",
     "\u3164", "\ufe0f", "\u200d", "\u2800", "<p>\ufeff</p>", "<script>x</script>", "(\u200b)", "\u202e"],
)  # fmt: skip
def test_what_shows_nothing_is_the_empty_text(nothing):
    assert text_of(nothing) == ""


# --- templates and punctuation ----------------------------------------------------------------------------------------


def test_a_template_is_its_fields_and_what_stands_between_them():
    template = Template.parse("<{title}|{attributes.size}> of {item_id}")
    assert template.names == ("title", "attributes.size", "item_id")
    assert template.literals == ("<", "|", "> of ", "")
    assert Template.parse("just text") == Template(names=(), literals=("just text",))


@pytest.mark.parametrize("separator", [", ", " | ", "; ", " / "])
def test_empty_fields_leave_no_trace_wherever_they_stand(separator):
    """All 32 ways in which five fields are there or not."""
    template = "{title} {attributes.size}" + "".join(
        f"{separator}{{{name}}}" for name in ("category", "price", "brand")
    )
    values = ("MILK", "1 GA", "FLUID MILK", "GROCERY", "National")
    for there in itertools.product([True, False], repeat=5):
        told = [value if is_there else "" for value, is_there in zip(values, there, strict=True)]
        head = " ".join(filter(None, told[:2]))
        assert text_of(*told, template=template) == separator.join(filter(None, [head, *told[2:]]))


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{title} ({brand})", "Milk"),
        ("{title} - {brand}", "Milk"),
        ("{brand} - {title}", "Milk"),
        ("{title} ({brand}), {category}", "Milk, Dairy"),
        ("{brand} - {description} - {title}", "Milk"),
        ("({brand}, {description}) {title} [{brand}]", "Milk"),
    ],
)
def test_brackets_and_dashes_around_an_empty_field_leave_no_trace_either(template, wanted):
    values = {"title": "Milk", "category": "Dairy", "brand": "", "description": ""}
    assert text_of(*(values[name] for name in Template.parse(template).names), template=template) == wanted


def test_punctuation_inside_of_a_text_stays():
    texts = ["Dr. Oetker, pizza; 350 g", "1/2 gal: whole", "a | b / c", "Mr. T.", "wine 0.75 l", "e.g. figs", "-",
             "A-B", "ham & eggs, 5.5% fat", "(new) tea"]  # fmt: skip
    assert [text_of(text) for text in texts] == texts


def test_no_text_keeps_doubled_blanks_unseen_marks_or_punctuation_at_its_ends():
    rng = random.Random(2)
    bad = re.compile(r"\s\s|[\x00-\x1f\x7f\u00a0\u200b]|^[\s,;:|/.]|[\s,;:|/]$")
    for _ in range(20_000):
        raw = "".join(rng.choices("ab ,;:|/.()-<>\t\n\x01\u00a0\u200b", k=rng.randrange(12)))
        assert not bad.search(tidy(drop_invisible(raw))), raw


# --- texts of strangers -----------------------------------------------------------------------------------------------


def test_a_field_is_read_up_to_a_number_of_characters():
    assert text_of("x" * (MAX_CHARS + 5), "end", template="{title} {brand}") == "x" * MAX_CHARS + " end"


@pytest.mark.timeout(20)  # each takes a tenth of a second at most
@pytest.mark.parametrize(
    "pump",
    ["- ", "<", "<div>", "<b>", "<a ", "<!--", "<![CDATA[", "&", "&#", "&amp", "<b a=1><p>", "<ul><li>", "<td>", "</p>",
     "(", "[ ", "/", " .", ",", "\u0315\u0300", "\u0645\u200c", "\ufb2c", "\u200b ", "\U0001f469\u200d", "a<b>"],
)  # fmt: skip
def test_the_worst_texts_are_read_at_once(pump):
    for text in (pump * 500_000, "a" + pump * (4_998 // len(pump)) + "x", "<" + pump * 3_000 + ">"):
        for template in ("{title}", "{title} - {brand}, ({category})"):
            read = text_of(*[text] * template.count("{"), template=template)
            assert read == unicodedata.normalize("NFC", read)
    assert len(read_markup(pump * 1_000)) <= len(pump) * 1_000


def test_markup_of_any_kind_is_read_without_an_error():
    tags = "b p td table script template svg i select option frameset br form math mi style body html head noscript"
    parts = ["x", "&amp;", "<!--", "-->", "<", *(f"<{side}{tag}>" for tag in tags.split() for side in ("", "/"))]
    rng = random.Random(3)
    texts = ["".join(rng.choices(parts, k=rng.randrange(1, 30))) for _ in range(5_000)]
    words = [re.sub(r"[^x]", "", text_of(text)) for text in texts]
    assert all(len(word) <= text.count("x") for word, text in zip(words, texts, strict=True))
