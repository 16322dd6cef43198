from __future__ import annotations

import re

from loger_ros.cli import main
from loger_ros.model.flops import PARTS


def test_it_compares_variants_and_says_what_each_part_costs(capsys):
    options = ["--size", "24x24", "--frames", "2", "--repeat", "1", "--device", "cpu"]
    assert main(["bench", "model", *options, "--variants", "float32", "bfloat16+batch2"]) == 0
    said = capsys.readouterr().out
    assert "2 frames per chunk" in said
    assert re.search(r"^float32 .* 1\.000$", said, re.M)
    assert re.search(r"^bfloat16\+batch2 .* \d+\.\d{3}$", said, re.M)
    counts = re.findall(r"^  (.+?) +(\S+) TFLOP +(\S+) ms", said, re.M)
    assert [part for part, *_ in counts] == list(PARTS)
    assert all(float(count) > 0 and float(milliseconds) > 0 for _, count, milliseconds in counts), counts
    total = float(re.search(r"([\d.e-]+) TFLOP per chunk", said)[1])
    assert abs(sum(float(count) for _, count, _ in counts) / total - 1) < 1e-3
