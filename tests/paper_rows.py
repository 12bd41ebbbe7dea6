"""Rows of the paper's studies, made by hand."""

import json


def answer_row(kind, true, distance, bound=None, status="optimal", **more):
    """A row of an answer as the attack's stage leaves it, in short."""
    bound = distance if bound is None else bound
    return {
        "key": f"answer/{kind}/{true}", "role": "answer", "model": kind, "image": f"{true:05d}", "true": true,
        "target": (true - 1) % 10, "status": status, "distance": distance, "bound": bound,
        "gap": None if distance is None else (distance - bound) / distance, "seconds": 1.25, "nodes": 7,
        "scenarios": 1 if kind == "FJAE" else 6, "variables": 10, "binaries": 4, "constraints": 5, "gamma": 0.2,
        "replay": None if distance is None else {"hit": True, "distance": distance}, "time_limit": 60.0,
    } | more  # fmt: skip


def said(classes, target, true, rival):
    return {"class": classes, "target": target, "true": true, "rival": rival}


def rows_file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


THREE = [answer_row("FJAE", 1, 8.0), answer_row("IRAE", 1, 8.0008), answer_row("ORAE", 1, 12.0, 11.4, "feasible")]
