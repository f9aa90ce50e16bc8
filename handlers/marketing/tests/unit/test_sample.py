"""The sample campaign is worth its name: people of many scripts, and rows wrong in many ways."""

from pathlib import Path

from localstack import audience
from localstack.campaign import SAMPLE, SENDER, TEMPLATE
from marketing import phone, segments, sms


def records() -> list[list[str] | None]:
    """The rows after the header; None for one that is no CSV."""
    return [audience._fields(record) for record in list(audience._records(SAMPLE))[1:]]


def columns() -> list[str]:
    header = audience._fields(next(audience._records(SAMPLE)))
    assert header is not None
    return header


def test_it_has_more_than_five_hundred_recipients_each_once() -> None:
    read = audience.read(SAMPLE)
    assert len(read.recipients) >= 500
    assert read.rows > len(read.recipients)


def test_every_recipient_has_a_number_that_can_be_sent_to_and_a_text_that_fits() -> None:
    body = TEMPLATE.read_text()
    told = set()
    encodings = set()
    recipients = audience.read(SAMPLE).recipients
    for row in records():
        if row is None or row[0] not in recipients:
            continue
        args = {"body": body, "from": SENDER, **dict(zip(columns(), row, strict=True))}
        parsed = sms.SmsArgs.model_validate(args)
        assert parsed.to == row[0], "written as it will be sent"
        size = segments.measure(parsed.render())
        assert 1 <= size.segments <= sms.MAX_SEGMENTS
        encodings.add(size.encoding)
        told.add(parsed.to)
    assert told == recipients
    assert encodings == set(segments.Encoding)


def test_the_other_rows_are_wrong_in_different_ways() -> None:
    recipients = audience.read(SAMPLE).recipients
    reasons = set()
    for row in records():
        if row is None:
            reasons.add("no CSV")
        elif len(row) != len(columns()):
            reasons.add("columns")
        elif row[0] not in recipients:
            reasons.add(_reason(row[0]))
    assert "taken" not in reasons, "every refused row is refused by the handler as well"
    assert len(reasons) >= 6, reasons


def _reason(number: str) -> str:
    try:
        phone.to_e164(number)
    except ValueError as error:
        return str(error)
    return "taken"


def test_it_has_the_hard_things_of_real_files() -> None:
    text = Path(SAMPLE).read_bytes().decode(errors="replace")
    rows = [row for row in records() if row is not None]
    cells = [cell for row in rows for cell in row]
    assert any("," in cell for cell in cells)
    assert any('"' in cell for cell in cells)
    assert any("\n" in cell for cell in cells)
    assert any(ord(character) > 0xFFFF for character in text)
    assert any("α" <= character <= "ω" for character in text)
