"""The loss curve of a run: training and validation loss, label F1, epochs, and the best evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentallama_jax.files import atomic_open
from mentallama_jax.training.run.disk import naming
from mentallama_jax.training.run.metrics import read_metrics

_MOST_EPOCHS = 20
_F1_COLOUR = "tab:green"


def draw_loss_curve(metrics: Path, picture: Path, chosen_by: str = "validation_loss", title: str = "") -> None:
    """Draw the figures of a run over its updates as a PNG; nothing where no update is logged yet.

    Args:
        metrics: the `metrics.jsonl` of the run.
        picture: where the PNG is written.
        chosen_by: the metric that the run keeps its best checkpoint by; its best evaluation is marked if it is drawn.
        title: what the run is called; by default the folder of the metrics.
    """
    rows = read_metrics(metrics)
    train = [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    if not train:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title or metrics.absolute().parent.name, parse_math=False)
    axes.plot(*zip(*train, strict=True), linewidth=1, label="training loss")
    validation = _figures(rows, "validation_loss")
    if validation:
        axes.plot(*zip(*validation, strict=True), marker="o", label="validation loss")
    axes.set_xlabel("updates")
    axes.set_ylabel("loss (nats a target token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if epochs := epoch_starts(rows):
        top = axes.secondary_xaxis("top")
        top.set_xticks([step for step, _ in epochs], [str(number) for _, number in epochs])
        top.set_xlabel("epoch that begins")
    handles, names = map(list, axes.get_legend_handles_labels())
    label_f1 = _figures(rows, "label_f1")
    if label_f1:
        right = axes.twinx()
        right.plot(*zip(*label_f1, strict=True), marker="s", color=_F1_COLOUR, label="label F1")
        right.set_ylabel("label F1")
        right.set_ylim(0, 1)
        more, named = right.get_legend_handles_labels()
        handles, names = [*handles, *more], [*names, *named]
    if best := best_evaluation(rows, chosen_by):
        name, (step, value) = best
        on = right if name == "label F1" else axes
        (mark,) = on.plot([step], [value], marker="*", markersize=16, linestyle="", color="tab:red", zorder=5)
        handles, names = [*handles, mark], [*names, f"best {name} {value:.3f}, update {step}"]
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    with naming(picture), atomic_open(picture, "wb") as stream:
        figure.savefig(stream, format="png", dpi=120)


def _figures(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if row["kind"] == "validation" and name in row]


def best_evaluation(rows: Sequence[dict[str, Any]], chosen_by: str) -> tuple[str, tuple[int, float]] | None:
    """The evaluation of the best checkpoint: its figure's name, update and value; None by a metric that is not drawn.

    Of equal label F1 that with the lower loss is taken, and of equal ones the first.
    """
    if chosen_by == "label_f1" and (found := _figures(rows, "label_f1")):
        loss = dict(_figures(rows, "validation_loss"))
        return "label F1", max(found, key=lambda one: (one[1], -loss.get(one[0], 0.0), -one[0]))
    if chosen_by == "validation_loss" and (found := _figures(rows, "validation_loss")):
        return "validation loss", min(found, key=lambda one: (one[1], one[0]))
    return None


def epoch_starts(rows: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """The first logged update of each epoch, and its number from 1; a part of them where there are many."""
    starts: dict[int, int] = {}
    for row in rows:
        if row["kind"] == "train" and "epoch" in row:
            starts.setdefault(int(row["epoch"]), row["step"])
    each = -(-len(starts) // _MOST_EPOCHS)
    return [(step, number) for number, step in starts.items() if (number - 1) % each == 0]
