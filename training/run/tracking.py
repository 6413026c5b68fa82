"""Where a run's numbers go: TensorBoard and `metrics.jsonl` through Accelerate's trackers, and a plot at the end."""

import json
import time
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from training.config.command_line import writing


class JsonLinesTracker(GeneralTracker):
    """One JSON object a line: `step`, `time` (Unix seconds) and the logged values."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, file: Path):
        super().__init__()
        self.file = file

    @property
    def tracker(self) -> "JsonLinesTracker":
        """The tracker itself, as Accelerate asks for it."""
        return self

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """The configuration has a file of its own."""

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Append one line."""
        with writing(self.file), self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")

    @on_main_process
    def drop_after(self, step: int) -> None:
        """Forget the lines past `step`: a killed run may have logged more than its last checkpoint holds."""
        if not self.file.exists():
            return
        kept = [row for row in read_metrics(self.file) if row["step"] <= step]
        partial = self.file.with_suffix(".partial")
        with writing(partial):
            partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        partial.replace(self.file)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`. A last line cut short by a kill is left out.

    Raises:
        ValueError: another line is broken; names file and line.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}:{number} is damaged; delete the line, and the same command goes on") from error
    return rows


def plot_losses(out: Path) -> None:
    """`loss.png`: training and validation loss over the optimizer steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = read_metrics(out / "metrics.jsonl")
    figure, axes = plt.subplots(figsize=(7, 4))
    for key, label in (("loss", "training"), ("validation/loss", "validation")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) == 1 else None)
    axes.set(xlabel="optimizer step", ylabel="loss", title=out.name)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out / "loss.png", dpi=120)
    plt.close(figure)
