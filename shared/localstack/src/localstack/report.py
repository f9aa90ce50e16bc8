"""What the person at the terminal sees: a line per step, progress, and what happened at the end."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from localstack.campaign import Outcome
from mainstay.answers import Batch

PLAIN_EVERY_S = 2.0
SHOWN = 20


class Screen:
    """Plain lines when nobody watches; never wraps, so that a line can be copied whole."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._bar: Progress | None = None
        self._plain_at = 0.0
        self._shown = ""

    def say(self, text: str) -> None:
        self.line(f"· {text}")

    def line(self, text: str = "") -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def progress(self, batch: Batch) -> None:
        if self.console.is_terminal:
            self._draw(batch)
        else:
            self._tell(batch)

    def end_progress(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, batch: Batch) -> None:
        done = batch.completed + batch.failed + batch.cancelled
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._bar.add_task("sending", total=batch.total or None)
            self._bar.start()
        task = self._bar.tasks[0].id
        said = f"sending, {batch.running} at a time" if batch.running else "sending"
        self._bar.update(task, completed=done, total=batch.total or None, description=said)

    def _tell(self, batch: Batch) -> None:
        text = f"{batch.completed} of {batch.total} sent, {batch.running} running"
        is_due = time.monotonic() >= self._plain_at or batch.state == "finished"
        if is_due and text != self._shown:
            self._plain_at = time.monotonic() + PLAIN_EVERY_S
            self._shown = text
            self.say(text)


def outcome_lines(outcome: Outcome) -> list[str]:
    batch, rows = outcome.batch, outcome.uploaded
    taken = rows.accepted + rows.duplicates
    up = rows.rows / max(outcome.upload_s, 1e-3)
    out = outcome.sent / max(outcome.sending_s, 1e-3)
    lines = [
        "",
        f"{batch.name}: {outcome.sent} messages to {len(outcome.expected)} recipients",
        f"rows: {rows.rows} read, {taken} taken, {len(rows.rejected)} refused",
        *(f"  line {row.line}: {row.detail}" for row in rows.rejected[:SHOWN]),
        f"jobs: {_jobs(batch)}",
        *_failures(outcome),
        _on_complete(outcome),
        f"roads: {_pairs(outcome.system.get('roads', {}).items())}",
        f"rates: {up:.0f} rows/s up, {out:.0f} messages/s out, {outcome.sending_s:.1f} s in all",
    ]
    if outcome.faults:
        return [*lines, *(f"wrong: {fault}" for fault in outcome.faults)]
    return [*lines, "every recipient has exactly one message"]


def _jobs(batch: Batch) -> str:
    counts = {
        name: getattr(batch, name)
        for name in (
            "completed", "failed", "cancelled", "running", "ready", "scheduled", "retrying", "held",
        )
    }  # fmt: skip
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n or name == "completed")


def _failures(outcome: Outcome) -> list[str]:
    lines = []
    for job in outcome.failed[:SHOWN]:
        last = job.errors[-1] if job.errors else None
        why = f"{last.type}: {last.message}" if last else "no reason was kept"
        lines.append(f"  {job.args.get('to')} failed, {why} (job {job.id})")
    return lines


def _on_complete(outcome: Outcome) -> str:
    jobs = outcome.on_complete
    told = ", ".join(f"{job.kind} {job.state}" for job in jobs) or "never started"
    return f"on_complete: {told}" + ("" if len(jobs) < 2 else f" ({len(jobs)} times)")


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs) or "unknown"
