"""Trust in the terminal: a few tables, each readable at 80 columns."""

from typing import TYPE_CHECKING

from mentallama_jax.evaluation.statistics.estimates import Estimate
from mentallama_jax.evaluation.statistics.intervals import FEW_POSTS
from mentallama_jax.evaluation.trust.calibration import Calibration, CalibrationScores
from mentallama_jax.evaluation.trust.counted_shares import CountedShare
from mentallama_jax.evaluation.trust.grounding_tables import show_care, show_grounding
from mentallama_jax.evaluation.trust.high_risk import HighRisk
from mentallama_jax.evaluation.trust.output_faults import DEFINITIONS, OutputFaults
from mentallama_jax.evaluation.trust.trust_sections import TrustSections
from mentallama_jax.terminal import Console

if TYPE_CHECKING:
    from rich.table import Table

_FAULTS = {"over_length": "over\nlength", "unclosed_reasoning": "open\nreasoning"}


def show_high_risk(console: Console, trust: TrustSections) -> None:
    """Print what is missed of high risk, where a data set has a label of high risk."""
    if trust.high_risk.datasets:
        console.print(high_risk_table(trust.high_risk))
    few = [
        f"{name}{f' ({found.aspect})' if found.aspect else ''} {found.label} ({found.recall.posts})"
        for name, labels in trust.high_risk.datasets.items()
        for found in labels
        if found.recall.warning
    ]
    if few:
        said = f"* fewer than {FEW_POSTS} posts with the label, so the interval may be too narrow: {', '.join(few)}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)


def show_trust(console: Console, trust: TrustSections) -> None:
    """Print the faults of outputs, and calibration where there is any."""
    if trust.output_faults.pooled["any"].count:
        console.print(fault_table(trust.output_faults))
    else:
        known = bool(trust.output_faults.pooled["over_length"].of)
        said = "No output is unparsed, empty, cut off, looping, refused or still reasoning."
        without = (
            "No output is unparsed, empty, looping, refused or still reasoning; the files do not say how they ended."
        )
        console.print(said if known else without, style="dim", soft_wrap=True)
    show_grounding(console, trust.grounding)
    show_care(console, trust.care)
    if trust.calibration:
        console.print(calibration_table(trust.calibration))
        console.print(selective_table(trust.calibration))
        for line in calibration_notes(trust.calibration):
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def high_risk_table(scores: HighRisk) -> "Table":
    """Recall of each label of high risk (in %), the rows that were missed, and how many labels stated are right."""
    headings = ("label", "rows", "recall", "95 %", "missed", "unparsed", "precision")
    table = _table("High risk: posts that must not be missed, in %", headings)
    for name, labels in scores.datasets.items():
        for found in labels:
            what = f"- {found.aspect}" if found.aspect else found.label
            cells = [str(found.recall.of), _share(found.recall), _ends(found.recall)]
            cells += [str(found.missed.count), str(found.unparsed), _share(found.precision)]
            table.add_row("" if found.aspect else name, what, *cells, style="dim" if found.aspect else None)
    return table


def fault_table(scores: OutputFaults) -> "Table":
    """How many rows have each fault."""
    faults = [name for name in DEFINITIONS if name != "any"]
    names = [name for name in faults if scores.pooled[name].count or not scores.pooled[name].of]
    headings = ("rows", *(_FAULTS.get(name, name) for name in names), "any", "any in %")
    table = _table("Faults of outputs, in rows", headings)
    parts = dict(scores.datasets)
    if len(parts) > 1:
        parts["pooled"] = scores.pooled
    for name, found in parts.items():
        counts = [str(found[fault].count) if found[fault].of else "?" for fault in (*names, "any")]
        share = f"{_share(found['any'])}\n{_ends(found['any'])}"
        table.add_row(name, str(found["any"].of), *counts, share)
    absent = [" ".join(_FAULTS.get(name, name).split()) for name in faults if name not in names]
    said = [f"none: {', '.join(absent)}"] if absent else []
    if any(not found[fault].of for found in parts.values() for fault in names):
        said.append("?: the files do not say how outputs ended")
    table.caption = "; ".join(said) or None
    return table


def calibration_table(scores: Calibration) -> "Table":
    """Figures of calibration as given and, below, with the temperature of validation."""
    table = _table("Calibration of label probabilities", ("probabilities", "rows", "ECE in %", "Brier", "log loss"))
    for name, found in _parts(scores).items():
        for figures in (found.as_given, found.tempered):
            if figures is None:
                continue
            first = figures is found.as_given
            said = f"at T {found.temperature.value:.2f}" if found.temperature else "each at its T"
            mark = "*" if found.warning else ""
            table.add_row(
                name if first else "",
                "as given" if first else said,
                str(found.rows) if first else "",
                f"{_two_lines(figures.ece, 100, 1)}{mark}",
                f"{_two_lines(figures.brier, 1, 3)}{mark}",
                f"{_two_lines(figures.log_loss, 1, 3)}{mark}",
            )
    return table


def selective_table(scores: Calibration) -> "Table":
    """Figures of selective prediction, and of conformal sets where there are any."""
    sets = any(found.conformal for found in scores.datasets.values())
    headings = ("accuracy at\n80 %", "AURC", "excess\nAURC")
    table = _table(
        "Answering the most confident rows only, in %", (*headings, *(("90 % sets:\nsize", "coverage") if sets else ()))
    )
    for name, found in _parts(scores).items():
        if found.selective is None:
            continue
        figures = (found.selective.accuracy_at_80, found.selective.aurc, found.selective.excess_aurc)
        mark = "*" if found.warning else ""
        cells = [f"{_two_lines(figure, 100, 1)}{mark}" for figure in figures]
        if sets:
            known = found.conformal
            size = f"{_two_lines(known.mean_size, 1, 2)}{mark}" if known else ""
            cells += [size, f"{_two_lines(known.coverage, 100, 1)}{mark}" if known else ""]
        table.add_row(name, *cells)
    return table


def calibration_notes(scores: Calibration) -> list[str]:
    """What to know besides the tables, in a line each."""
    said = []
    for name, found in _parts(scores).items():
        if found.without_log_probabilities:
            said.append(
                f"{name}: {found.without_log_probabilities} rows have no log-probabilities and are not in the tables"
            )
        if found.differing:
            said.append(f"{name}: {found.differing} outputs do not state their likeliest label")
        if found.temperature and found.temperature.remark:
            said.append(f"{name}: the temperature {found.temperature.remark}")
        if found.conformal and found.conformal.remark:
            said.append(f"{name}: {found.conformal.remark}")
    floors = [
        f"{name} {100 * found.as_given.ece_if_calibrated:.1f}"
        for name, found in _parts(scores).items()
        if found.as_given
    ]
    said.append(f"chance alone would give true probabilities an ECE, in %, of: {', '.join(floors)}")
    return said


def _parts(scores: Calibration) -> dict[str, CalibrationScores]:
    return {**scores.datasets, "pooled": scores.pooled} if len(scores.datasets) > 1 else scores.datasets


def _share(found: CountedShare) -> str:
    return "-" if found.share is None else f"{100 * found.share:.1f}"


def _ends(found: CountedShare) -> str:
    if found.interval is None:
        return ""
    low, high = found.interval
    return f"{100 * low:.1f}-{100 * high:.1f}{'*' if found.warning else ''}"


def _two_lines(found: Estimate, scale: float, digits: int) -> str:
    if found.interval is None:
        return f"{scale * found.value:.{digits}f}"
    low, high = found.interval
    return f"{scale * found.value:.{digits}f}\n{scale * low:.{digits}f}-{scale * high:.{digits}f}"


def _table(title: str, headings: tuple[str, ...]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("data set", no_wrap=True)
    for heading in headings:
        words = heading in ("label", "probabilities")
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    return table
