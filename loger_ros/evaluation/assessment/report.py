"""The results of an examination as a Markdown page."""

from __future__ import annotations

import math
from typing import Any

from loger_ros.evaluation.assessment.examine import GOAL_SIZES, LENGTHS, MEMORIES
from loger_ros.evaluation.assessment.outside import INSIDE
from loger_ros.evaluation.assessment.scores import ON_WHEELS, judged

GOALS = {  # robot, 6-DoF
    "ATE, % of path": (0.4, 1.5),
    "rotation error, degrees per frame": (0.05, 0.12),
    "depth AbsRel": (0.06, 0.10),
}
BLIND = {"robot": 10.0, "6-DoF": 5.0}  # times better than baselines that do not use the images
CLASSICAL = 2.0  # times better than classical odometry
SPREAD = 1.5  # worst chunk size to the best, and short last chunks to the same steps within a stream
PAYS = 0.25  # share by which memory must reduce drift
FRAMES_PER_SECOND = 60.0
COLUMNS = {
    "ate_se3": ("ATE SE(3) %", 2),
    "ate_sim3": ("ATE Sim(3) %", 2),
    "rotation": ("rotation °/frame", 3),
    "translation": ("translation m/frame", 4),
    "depth": ("depth AbsRel", 3),
    "end": ("end %", 2),
}


def page(result: dict[str, Any]) -> str:
    parts = [f"# {result['title']}", result["how"], _goals(result)]
    for world in ("robot", "6-DoF"):
        found = result.get(world, {})
        if "accuracy" in found or "baselines" in found:
            parts += [f"## {world}: accuracy", _accuracy(world, found)]
        if "chunks" in found:
            parts += [f"## {world}: chunk sizes", _chunks(world, found["chunks"])]
        if "tails" in found:
            parts += [f"## {world}: short last chunks", _tails(found["tails"])]
        if "outside" in found:
            parts += [f"## {world}: outside of the training range", _outside(world, found["outside"])]
        if found.get("memory"):
            parts += [f"## {world}: memory and drift", _memory(found["memory"])]
        if "speed" in found:
            parts += [f"## {world}: speed of the whole stream", _speed(found["speed"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _goals(result: dict[str, Any]) -> str:
    rows: dict[str, list[str]] = {}

    def add(name: str, world: str, goal: str, value: str, met: bool) -> None:
        cells = rows.setdefault(name, ["-"] * 4)
        at = 0 if world == "robot" else 2
        cells[at : at + 2] = [goal, f"{value} {'✓' if met else '✗'}"]

    for side, world in enumerate(("robot", "6-DoF")):
        found = result.get(world, {})
        if "accuracy" in found:
            mean = found["accuracy"]["mean"]
            values = (mean[judged(world)], mean["rotation"], mean["depth"])
            for (name, goals), value, digits in zip(GOALS.items(), values, (2, 3, 3), strict=True):
                add(name, world, f"≤ {goals[side]}", f"{value:.{digits}f}", value <= goals[side])
            if ON_WHEELS in found:
                ate, goal = found[ON_WHEELS]["mean"][judged(world)], GOALS["ATE, % of path"][side]
                add(f"ATE, % of path, {ON_WHEELS}", world, f"≤ {goal}", f"{ate:.2f}", ate <= goal)
        for name, baseline in found.get("baselines", {}).items():
            if (rival := _baseline_score(name, found)) is not None:
                wanted = CLASSICAL if "KLT" in name else BLIND[world]
                times = _times(world, name, baseline, rival)
                add(f"ATE against {name}", world, f"≥ {wanted:.0f} x", f"{times:.1f} x", times >= wanted)
        for name, sizes in _spreads(found.get("chunks", {})).items():
            errors = [row["mean"][judged(world)] for row in sizes.values()]
            spread = max(errors) / min(errors)
            add(name, world, f"≤ {SPREAD} x", f"{spread:.2f} x", spread <= SPREAD)
        if found.get("tails"):
            name = "rotation error of short last chunks against the same steps in a stream"
            worse = _tail_ratio(found["tails"])
            add(name, world, f"≤ {SPREAD} x", f"{worse:.2f} x", worse <= SPREAD)
        if found.get("memory"):
            paired = found["memory"]["paired"]["ate, both against neither"]
            name = "drift with memory against without"
            value = f"{-100 * paired['reduction']:+.0f} %"
            add(name, world, f"≤ -{100 * PAYS:.0f} %", value, paired["reduction"] >= PAYS)
        for row in found.get("speed", []):
            rate = row["by the clock"]
            name = f"frames/s, whole stream, {row['threads']} thread(s)"
            add(name, world, f"≥ {FRAMES_PER_SECOND:.0f}", f"{rate:.0f}", rate >= FRAMES_PER_SECOND)
    if not rows:
        return ""
    return _table(
        ["", "goal, robot", "robot", "goal, 6-DoF", "6-DoF"], [[name, *row] for name, row in rows.items()]
    )


def _times(world: str, name: str, baseline: dict[str, Any], own: dict[str, Any]) -> float:
    """How many times better the model is, on the baseline's films. Monocular baselines: up to scale."""
    measure = "ate_sim3" if "essential" in name else judged(world)
    films = baseline["films"]
    mine = sum(own["films"][film][measure] for film in films)
    return float(sum(row[measure] for row in films.values()) / max(mine, 1e-12))


def _baseline_score(name: str, found: dict[str, Any]) -> dict[str, Any] | None:
    """The model's scores with the same prior knowledge as the baseline, or None if they were not measured."""
    return found.get(ON_WHEELS if name.endswith(ON_WHEELS) else "accuracy")


def _spreads(chunks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Chunk sizes that are compared with each other, by the name of the row."""
    if not chunks:
        return {}
    everywhere, some = chunks["all"], chunks["one of each set"]
    near = {size: row for size, row in some.items() if int(size) <= max(GOAL_SIZES)}
    return {
        f"ATE of chunks of {', '.join(everywhere)} frames, all sequences, worst against best": everywhere,
        **{f"the same, {ON_WHEELS}": row for name, row in chunks.items() if name.endswith(ON_WHEELS)},
        f"chunks of {', '.join(near)} frames, one sequence of each set": near,
        f"the same, and of {', '.join(size for size in some if size not in near)}": some,
    }


def _tail_ratio(tails: list[dict[str, Any]]) -> float:
    """The ratio over all tails, each of which counts once."""
    short, middle = (
        sum(row[name] * row["tails"] for row in tails) for name in ("rotation", "rotation in the middle")
    )
    return float(short / max(middle, 1e-12))


def _accuracy(world: str, found: dict[str, Any]) -> str:
    rows = []
    for name in ("accuracy", ON_WHEELS):
        if name in found:
            called = "model" if name == "accuracy" else f"model, {name}"
            rows.append([f"**{called}**", *_cells(found[name]["mean"]), ""])
            rows.append(["its median", *_cells(found[name]["median"]), ""])
    for name, baseline in found.get("baselines", {}).items():
        rival = _baseline_score(name, found)
        times = "" if rival is None else f"{_times(world, name, baseline, rival):.1f} x"
        rows.append([name, *_cells(baseline["mean"]), times])
    heads = [title for title, _ in COLUMNS.values()]
    means = (
        "Means over the sequences. The last column says how many times smaller the model's ATE is: in metres "
        "if a robot carries the camera, up to scale for other motions and against the monocular baseline. "
        "On wheels: it is also known which point the robot turns about, and that this point does not slide "
        "sideways.\n\n" + _table(["", *heads, "ATE against the model"], rows)
    )
    if "accuracy" not in found:
        return means
    each = [[name, *_cells(row)] for name, row in found["accuracy"]["films"].items()]
    return f"{means}\n\nThe model on each sequence:\n\n{_table(['sequence', *heads], each)}"


def _chunks(world: str, chunks: dict[str, Any]) -> str:
    heads = [title for title, _ in COLUMNS.values()]
    parts = []
    for name, found in chunks.items():
        best = min(row["mean"][judged(world)] for row in found.values())
        rows = [
            [size, *_cells(row["mean"]), f"{row['mean'][judged(world)] / best:.2f} x"]
            for size, row in found.items()
        ]
        films = next(iter(found.values()))["films"]
        told = f" ({ON_WHEELS})" if name.endswith(ON_WHEELS) else ""
        parts.append(f"Means on {', '.join(films)}{told}.")
        parts.append(_table(["frames", *heads, "ATE against the best"], rows))
    return "\n\n".join(parts)


def _tails(tails: list[dict[str, Any]]) -> str:
    rows = [
        [
            str(row["new frames"]),
            f"{row['rotation']:.3f}",
            f"{row['rotation in the middle']:.3f}",
            f"{row['translation']:.4f}",
            f"{row['translation in the middle']:.4f}",
            str(row["tails"]),
        ]
        for row in tails
    ]
    heads = ["new frames", "°/frame", "same steps in a stream", "m/frame", "same steps in a stream", "tails"]
    return _table(heads, rows)


def _outside(world: str, conditions: dict[str, Any]) -> str:
    inside = conditions[INSIDE]["mean"][judged(world)]
    rows = [
        [name, *_cells(row["mean"]), f"{row['mean'][judged(world)] / max(inside, 1e-12):.1f} x"]
        for name, row in conditions.items()
    ]
    films = conditions[INSIDE]["films"]
    frames = next(iter(films.values()))["frames"]
    heads = [title for title, _ in COLUMNS.values()]
    return (
        f"Means over the same paths ({', '.join(films)}; {frames} frames each); one change per row.\n\n"
        + _table(["", *heads, f"ATE against {INSIDE}"], rows)
    )


def _memory(memory: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{row['with']:.2f}",
            f"{row['without']:.2f}",
            f"{100 * row['reduction']:+.0f} % ({100 * row['low']:+.0f} to {100 * row['high']:+.0f})",
            f"{row['better']} of {row['films']}",
        ]
        for name, row in memory["paired"].items()
    ]
    lengths = [str(length) for length in LENGTHS if str(length) in memory["films"][0]["both"]["drift"]]
    by_length = [
        [name, *(f"{_mean(row[name]['drift'][length] for row in memory['films']):.2f}" for length in lengths)]
        for name in MEMORIES
    ]
    return (
        f"{len(memory['films'])} sequences of {memory['films'][0]['frames']} frames, the same for all rows; "
        f"ATE {memory['judged']}, in % of the path; end: the error of the last position if the first pose is "
        "given. In brackets: the interval of 95 % of 2,000 resamplings of the sequences.\n\n"
        + _table(["", "with", "without", "less by", "sequences that gain"], rows)
        + "\n\nDrift by length: mean ATE, in % of the path, of all stretches of that many frames, each "
        "aligned by itself.\n\n" + _table(["memory", *lengths], by_length)
    )


def _speed(rows: list[dict[str, Any]]) -> str:
    return _table(
        ["threads", "frames/s by the clock", "frames per second of processor time", "frames"],
        [
            [
                str(row["threads"]),
                f"{row['by the clock']:.0f}",
                f"{row['per second of one processor']:.0f}",
                str(row["frames"]),
            ]
            for row in rows
        ],
    )


def _cells(values: dict[str, float]) -> list[str]:
    return [_number(values[name], digits) for name, (_, digits) in COLUMNS.items()]


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _mean(values: Any) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
