"""Texts out of templates: what people see, and bounds that nobody's template can break."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketing import templates


def render(source: str, **variables: object) -> str:
    templates.check(source)
    return templates.render(source, variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hi {{ name }}!", "Hi Ελένη!"),
        ("Hi {{ nobody }}!", "Hi !"),
        ("Hi {{ nobody.at.all }}!", "Hi !"),
        ('Hi {{ cell | default: "there" }}!', "Hi there!"),
        ('Hi {{ nobody | default: "there" }}!', "Hi there!"),
        ('{% if language == "el" %}Γεια{% else %}Hi{% endif %}', "Γεια"),
        ("  \n spaced \r\n out  ", "spaced \n out"),
        ("{{ decomposed }}", "é"),
        ("{{ 3 | times: 4 }}", "12"),
        ("{{ quoted }}", "\"<&>'"),
    ],
)
def test_texts(source: str, text: str) -> None:
    variables = {"name": "Ελένη", "language": "el", "cell": "", "decomposed": "e\u0301",
                 "quoted": "\"<&>'"}  # fmt: skip
    assert render(source, **variables) == text


def test_values_are_not_templates() -> None:
    assert render("{{ name }}", name="{{ secret }}", secret="x") == "{{ secret }}"


@pytest.mark.parametrize(
    "source",
    ["{{ name", "{% if %}", "{% if x %}", "{% unknown %}", "{{ x | shout }}", "{% endif %}",
     '{% include "x" %}', '{% render "x" %}', "x" * (templates.MAX_SOURCE_CHARS + 1),
     "{% if a %}" * 5 + "x" + "{% endif %}" * 4],
)  # fmt: skip
def test_no_template(source: str) -> None:
    with pytest.raises(ValueError, match="template"):
        templates.check(source)


HOSTILE = [
    "{% for i in (1..1000000000) %}{% endfor %}",
    "{% for i in (1..999) %}{% for j in (1..999) %}{% endfor %}{% endfor %}" * 50,
    "{% for i in (1..1000000000) %}x{% endfor %}",
    "{% for i in (1..999) %}{% for j in (1..999) %}x{% endfor %}{% endfor %}",
    "{% assign a = 'xxxxxxxxxx' %}"
    + "{% assign a = a | append: a | append: a | append: a %}" * 40
    + "{{ a }}",
    "{{ 'x' | ljust: 1000000000 }}",
    "{% assign a = (1..1000000000) | join: ',' %}{{ a }}",
    "{{ 'aaaaaaaaaa' | replace: 'a', big | replace: 'a', big | replace: 'a', big }}",
    "{% capture a %}{% for i in (1..900) %}{{ big }}{% endfor %}{% endcapture %}{{ a }}",
    "{% for i in (1..900) %}{{ big }}{% endfor %}",
    "{{ 9999999999 | times: 9999999999 | times: 9999999999 | divided_by: 0 }}",
    "{{ big | split: '' | join: big }}",
    "{{ 'x' | date: '%Y' }}",
    "{% cycle 'a', 'b' %}" * 200 + "{{ big | times: big }}",
    "{{ (1..1000000000) | size }}",
    "{{ (1..1000000000) | reverse | first }}",
    "{% tablerow i in (1..100000) %}x{% endtablerow %}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_no_template_takes_long_or_grows_big(source: str) -> None:
    started = time.process_time()
    try:
        text = render(source, big="x" * 5000)
    except ValueError:
        text = ""
    assert len(text) <= templates._Liquid.output_stream_limit
    assert time.process_time() - started < 1.0


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_source_renders_or_is_a_value_error(source: str, value: str) -> None:
    try:
        render(source, name=value)
    except ValueError:
        return


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_value_passes_as_it_is_but_for_white_space_and_form(value: str) -> None:
    text = render("<{{ name }}>", name=value)
    line_ends = value.replace("\r\n", "\n").replace("\r", "\n")
    assert text == unicodedata.normalize("NFC", f"<{line_ends}>")
