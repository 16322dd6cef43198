from __future__ import annotations

import pytest
from batch_merge import windows
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from loger_ros.stream.chunks import Chunker

QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def chunks_of(frames, size, overlap):
    chunker = Chunker(size, overlap)
    found = [chunk for i in range(frames) if (chunk := chunker.push(i))]
    tail = chunker.tail()
    return found + ([tail] if tail else [])


def test_windows_are_the_published_ones():
    tried = 0
    for row in golden("units").metadata["window_table"]:
        if row["window"] <= row["overlap"]:
            continue  # "whole sequence", and combinations that lose or repeat frames
        spans = [
            [chunk.start, chunk.start + len(chunk.items)]
            for chunk in chunks_of(row["frames"], row["window"], row["overlap"])
        ]
        assert spans == row["windows"], row
        tried += 1
    assert tried >= 9


@QUICK
@given(frames=st.integers(1, 80), size=st.integers(1, 20), data=st.data())
def test_any_length_gives_the_window_list(frames, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    chunks = chunks_of(frames, size, overlap)
    assert [(c.start, c.start + len(c.items)) for c in chunks] == windows(frames, size, overlap)
    assert all(c.items == tuple(range(c.start, c.start + len(c.items))) for c in chunks)
    assert [c.index for c in chunks] == list(range(len(chunks)))


@pytest.mark.parametrize(("size", "overlap"), [(3, 3), (2, 3), (0, 0), (4, -1)])
def test_combinations_that_lose_frames_are_refused(size, overlap):
    with pytest.raises(ValueError, match="overlap"):
        Chunker(size, overlap)


def test_an_empty_stream_has_no_tail():
    assert Chunker(4, 1).tail() is None
