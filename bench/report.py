"""The figures as Markdown: what each did, then how many times as fast we were."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.contestants import OURS, Contestant
from bench.workloads import Figure

CUT = "†"
NONE = "–"
FOREIGN_MAX = 0.25
HEADS = {
    "w1": "W1 single, jobs/s",
    "w2": "W2 bulk, jobs/s",
    "w3": "W3 drain, jobs/s",
    "w3 tuned": "W3 tuned, jobs/s",
    "w3 two": "W3 two workers, jobs/s",
    "w4": "W4 start p50 / p99, ms",
    "w5": "W5 mixed, jobs/s",
}


@dataclass(slots=True)
class Row:
    """The figures of one contestant: workload → one for each run."""

    who: Contestant
    runs: dict[str, list[Figure]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def of(self, workload: str) -> Sequence[Figure]:
        """Who has nothing to tune is as fast tuned as plain."""
        if workload == "w3 tuned" and self.who.tuning is None:
            return self.runs.get("w3", ())
        return self.runs.get(workload, ())


def markdown(rows: Sequence[Row], about: Sequence[str]) -> str:
    workloads = [name for name in HEADS if any(name in row.runs for row in rows)]
    parts = ["\n".join(f"- {line}" for line in about)]
    parts.append(_table(workloads, rows, lambda row, name: _told(name, row.of(name))))
    ours = next((row for row in rows if row.who.name == OURS), None)
    others = [row for row in rows if row.who.name != OURS]
    if ours is not None and others:
        parts.append(f"{OURS} / other (W4: of p50, below 1 is quicker)")
        parts.append(
            _table(workloads, others, lambda row, name: _ratio(name, ours, row), unit=False)
        )
    spent = [name for name in workloads if any(_cores(row.of(name)) != NONE for row in rows)]
    if spent:
        parts.append(
            "Cores: of the client in W1 and W2, of the workers in W3; servers have the rest"
        )
        parts.append(_table(spent, rows, lambda row, name: _cores(row.of(name)), unit=False))
    parts.append("\n".join(_notes(rows)))
    return "\n\n".join(filter(None, parts))


def _table(
    workloads: Sequence[str],
    rows: Sequence[Row],
    cell: Callable[[Row, str], str],
    *,
    unit: bool = True,
) -> str:
    heads = [HEADS[name] if unit else HEADS[name].partition(",")[0] for name in workloads]
    lines = ["| | " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---:|" * len(workloads))
    for row in rows:
        cells = " | ".join(cell(row, name) for name in workloads)
        lines.append(f"| {row.who.name} | {cells} |")
    return "\n".join(lines)


def _told(workload: str, figures: Sequence[Figure]) -> str:
    """The median; of several runs also the range."""
    if not figures:
        return NONE
    if workload == "w4":
        p50, p99 = (_median(figures, key) for key in (_p50, _p99))
        return f"{p50:.2f} / {p99:.2f}"
    rates = sorted(each.per_s for each in figures)
    told = f"{statistics.median(rates):,.0f}" + (CUT if any(e.is_cut for e in figures) else "")
    return told if len(rates) == 1 else f"{told} [{rates[0]:,.0f}–{rates[-1]:,.0f}]"


def _ratio(workload: str, ours: Row, other: Row) -> str:
    if not ours.of(workload) or not other.of(workload):
        return NONE
    key = _p50 if workload == "w4" else _per_s
    return f"{_median(ours.of(workload), key) / _median(other.of(workload), key):.2f}"


def _cores(figures: Sequence[Figure]) -> str:
    cores = _median(figures, lambda each: each.cores) if figures else 0.0
    return f"{cores:.2f}" if cores else NONE


def _notes(rows: Sequence[Row]) -> list[str]:
    told = [f"tuned, {row.who.name}: {row.who.tuning}" for row in rows if row.who.tuning]
    if any(each.is_cut for row in rows for runs in row.runs.values() for each in runs):
        told.append(f"{CUT} cut: the rate until then")
    told += [f"{row.who.name}: {fault}" for row in rows for fault in row.faults]
    for row in rows:
        foreign = max((e.foreign for runs in row.runs.values() for e in runs), default=0.0)
        if foreign > FOREIGN_MAX:
            told.append(f"{row.who.name}: others used up to {foreign:.2f} cores meanwhile")
    versions: Mapping[str, Sequence[str]] = {row.who.name: row.who.packages for row in rows}
    told += [f"{name}: {', '.join(packages)}" for name, packages in versions.items() if packages]
    return [f"- {line}" for line in told]


def _median(figures: Sequence[Figure], key: Callable[[Figure], float]) -> float:
    return statistics.median(map(key, figures))


def _per_s(figure: Figure) -> float:
    return figure.per_s


def _p50(figure: Figure) -> float:
    return figure.p50_ms


def _p99(figure: Figure) -> float:
    return figure.p99_ms
