"""A file of records, for all that resumes: no changed line is taken for what was written."""

import json
import random
import warnings

import pytest

from edgewise.errors import FormatError, OutputError
from edgewise.work import journal as journal_module
from edgewise.work.journal import Journal, JournalFormat, read_journal

LOOSE = JournalFormat("edgewise-test", holds="a test")
ORDERED = JournalFormat("edgewise-test", holds="a test", ordered=True)
WORK = {"identity": 1, "weights": "0123456789abcdef", "method": "acdc"}


def records_of(draw, n=9):
    """Records like those of a run, a sweep or a stability: names, numbers, lists, nothing."""
    return [
        {
            "index": index,
            "edge": f"a{draw.randrange(9)}.h{draw.randrange(9)}->logits",
            "delta": draw.gauss(0, 1),
            "kept": draw.random() < 0.5,
            "edges": [draw.randrange(99) for _ in range(draw.randrange(4))],
            "why": draw.choice(["", 'é \\ "quoted"', None]),
        }
        for index in range(n)
    ]


def written(path, kind, records, work=WORK):
    with Journal(path, kind, work) as journal:
        for record in records:
            journal.add(record)
    return path.read_bytes()


@pytest.mark.parametrize("kind", [LOOSE, ORDERED])
def test_records_come_back_and_are_added_to(kind, tmp_path):
    records = records_of(random.Random(0))
    before = written(tmp_path / "j", kind, records[:5])
    assert written(tmp_path / "j", kind, records[5:]).startswith(before)
    assert list(read_journal(tmp_path / "j", kind).records) == records
    assert written(tmp_path / "j", kind, []).count(b"\n") == len(records) + 1


@pytest.mark.parametrize("kind", [LOOSE, ORDERED])
def test_a_flipped_bit_anywhere_is_found(kind, tmp_path):
    """In 250 journals of each kind: it is said or refused, and no record is another one."""
    draw, path = random.Random(1), tmp_path / "j"
    for _ in range(250):
        path.unlink(missing_ok=True)
        records = records_of(draw, n=4)
        text = bytearray(written(path, kind, records))
        text[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(text))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                with Journal(path, kind, WORK) as journal:
                    kept = journal.records
            except FormatError:
                continue
        assert any("its work done again" in str(warning.message) for warning in told)
        assert len(kept) < len(records)
        assert kept == (records[: len(kept)] if kind.ordered else [r for r in records if r in kept])


@pytest.mark.parametrize("kind", [LOOSE, ORDERED])
def test_what_was_changed_is_left_out_and_the_file_is_whole_again(kind, tmp_path):
    records, path = records_of(random.Random(2)), tmp_path / "j"
    whole = written(path, kind, records)
    lines = whole.splitlines(keepends=True)
    changed = b"".join([*lines[:3], b"#" + lines[3][1:], *lines[4:]])
    path.write_bytes(changed)
    with pytest.warns(UserWarning, match=r"j: changed after it was written: line 4\."):
        journal = Journal(path, kind, WORK)
    with journal:
        kept = records[:2] if kind.ordered else [*records[:2], *records[3:]]
        assert journal.records == kept
        journal.add(records[2])
    assert (tmp_path / "j.damaged").read_bytes() == changed
    assert list(read_journal(path, kind).records) == [*kept, records[2]]


def test_other_work_is_refused_and_left_as_it_is(tmp_path):
    before = written(tmp_path / "j", LOOSE, records_of(random.Random(3)))
    with pytest.raises(OutputError, match="holds a test of other work: method was 'acdc', is 'sp'"):
        Journal(tmp_path / "j", LOOSE, {**WORK, "method": "sp"})
    other = JournalFormat("edgewise-other", holds="another")
    with pytest.raises(FormatError, match="expected a 'edgewise-other' file"):
        Journal(tmp_path / "j", other, WORK)
    assert (tmp_path / "j").read_bytes() == before


def test_a_journal_without_records_takes_any_work_unless_it_is_begun(tmp_path):
    written(tmp_path / "j", LOOSE, [])
    other = {**WORK, "method": "sp"}
    with pytest.raises(OutputError, match="other work"):
        Journal(tmp_path / "j", LOOSE, other, is_begun=True)
    Journal(tmp_path / "j", LOOSE, other).close()
    header = json.loads((tmp_path / "j").read_text())
    assert header["work"] == other


def test_half_a_line_is_dropped_when_the_journal_is_gone_on_with(tmp_path):
    """Who reads it meanwhile may meet a line that is being written: that is no fault."""
    records, path = records_of(random.Random(4)), tmp_path / "j"
    path.write_bytes(written(path, LOOSE, records)[:-9])
    assert list(read_journal(path, LOOSE).records) == records[:-1]
    with pytest.warns(UserWarning, match="j ends in half a line, .* its work done again"):
        journal = Journal(path, LOOSE, WORK)
    with journal:
        journal.add(records[-1])
    assert list(read_journal(path, LOOSE).records) == records


def test_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "PATIENCE_SECONDS", 0.0)
    with Journal(tmp_path / "j", LOOSE, WORK):
        with pytest.raises(OutputError, match="j is in use: another process is at work on it"):
            Journal(tmp_path / "j", LOOSE, WORK)
        read_journal(tmp_path / "j", LOOSE)  # reading is free
    Journal(tmp_path / "j", LOOSE, WORK).close()
