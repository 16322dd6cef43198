from __future__ import annotations

import argparse
import re

from loger_ros.cli import bench_stream


def test_it_says_what_it_compared(capsys, monkeypatch):
    monkeypatch.setattr(bench_stream, "MAP_POINTS", 500)
    parser = argparse.ArgumentParser()
    bench_stream.add_arguments(parser)
    options = ["--frames", "60", "--chunk-size", "6", "--overlap", "2", "--size", "28x28", "--compare", "3"]
    assert bench_stream.run(parser.parse_args([*options, "--device", "cpu"])) == 0
    said = capsys.readouterr().out
    assert "60 frames" in said
    assert re.search(r"time ratio \d+\.\d+ in all.*\(3 chunks, in turn\)", said)
    assert re.search(r"slope [+-]\d+\.\d+ MB per 1,000 frames", said)
    assert "below 1/4 full" in said


def test_fewer_frames_than_there_is_something_to_compare_are_refused(capsys):
    parser = argparse.ArgumentParser()
    bench_stream.add_arguments(parser)
    options = ["--frames", "9", "--chunk-size", "6", "--overlap", "2"]
    assert bench_stream.run(parser.parse_args(options)) == 2
    assert "--frames must be at least 10" in capsys.readouterr().out
