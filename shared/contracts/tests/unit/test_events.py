"""Events stay as others know them: a golden example of each, read and written again."""

import json
from pathlib import Path

import pytest

from contracts import events
from contracts.wire import Answer

GOLDEN = Path(__file__).parents[1] / "golden"
DATA: dict[str, type[Answer]] = {
    events.JOB_COMPLETED: events.JobEnded,
    events.JOB_FAILED: events.JobEnded,
    events.JOB_CANCELLED: events.JobEnded,
    events.JOB_REJECTED: events.JobEnded,
    events.BATCH_PROGRESS: events.BatchProgress,
    events.BATCH_COMPLETED: events.BatchCompleted,
    events.SHOP_REDACT: events.ShopRedact,
    events.POLICY_CHANGED: events.PolicyChanged,
    events.BACKEND_SWITCHED: events.BackendSwitched,
    events.STORE_DENIED: events.StoreDenied,
    events.CIRCUIT_CHANGED: events.CircuitChanged,
}


def test_every_event_has_an_example() -> None:
    assert {path.name.removesuffix(".json") for path in GOLDEN.glob("*.json")} == DATA.keys()


@pytest.mark.parametrize("kind", sorted(DATA))
def test_an_event_is_written_as_it_was(kind: str) -> None:
    golden = json.loads((GOLDEN / f"{kind}.json").read_text())
    event = events.Envelope.model_validate(golden)
    data = DATA[kind].model_validate(event.data)
    assert event.type == kind
    written = {**event.model_dump(mode="json"), "data": data.model_dump(mode="json")}
    assert _normal(written) == _normal(golden)


def _normal(event: dict[str, object]) -> object:
    """Moments may be written with more or fewer zeros."""
    return json.loads(json.dumps(event).replace(".250000Z", ".25Z"))
