"""Seeded mutations of valid files, and what every reader owes them: a result or one named error.

    assert_answers(read, {"pairs.jsonl": text.encode()}, folder, n=200)

writes mutants into `folder` one after the other and reads each. `mutant` makes one, for readers of
folders. An answer has `SECONDS`, `MEGABYTES` above what is in use, and `CHARACTERS` for its error.
"""

import contextlib
import functools
import json
import random
import re
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgewise.errors import EdgewiseError

SECONDS, MEGABYTES, CHARACTERS = 5, 500, 500

ODD = [
    *(None, True, False, float("nan"), float("inf"), -1, 0, 2.9, 1e308, 2**63, 10**30, -(10**30)),
    *("", " ", "false", "\x00", "\ud800", "é\u202e\U0001f600", "[[" * 40),
    *("a.b[0]<q>->c", "../../x"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, [1, "a"], "x" * 100_000, [0] * 3000),
]


def mutant(valid: bytes, draw: random.Random) -> tuple[str, bytes]:
    """What was done to a valid file, and the file that it gave."""
    documents = _documents(valid)
    changes = [*_BYTES, *(_STRUCTURES if documents else [])]
    change = draw.choice(changes)
    if change in _BYTES:
        return change.__name__, change(valid, draw)
    chosen = draw.randrange(len(documents))
    text = change(documents[chosen], draw)
    lines = [text if i == chosen else json.dumps(d) for i, d in enumerate(documents)]
    return change.__name__, "\n".join(lines).encode(errors="surrogatepass")


def assert_answers(
    read: Callable[[Path], object],
    files: Mapping[str, bytes],
    folder: Path,
    *,
    n: int,
    seed: int = 0,
) -> None:
    """Read `n` mutants of the files, each under its file's name, and each within the limits."""
    draw = random.Random(seed)
    for name, content in files.items():  # what readers import does not count
        (folder / name).write_bytes(content)
        with contextlib.suppress(EdgewiseError):
            read(folder / name)
    complaints = []
    for i in range(n):
        name = draw.choice(sorted(files))
        kind, content = mutant(files[name], draw)
        path = folder / name
        path.write_bytes(content)
        complaint = unanswered(lambda path=path: read(path))
        if complaint:
            complaints.append(f"mutant {i} of {name} ({kind}, {content[:200]!r}): {complaint}")
    assert not complaints, f"{len(complaints)} of {n}\n" + "\n".join(complaints[:5])


def unanswered(ask: Callable[[], object]) -> str:
    """What is wrong with an answer; empty for a result or one short named error in time."""
    try:
        with _limits():
            ask()
    except EdgewiseError as error:
        n = len(str(error))
        return f"an error of {n} characters: {str(error)[:200]}" if n >= CHARACTERS else ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "".join(traceback.format_exception(error)[-2:])
    return ""


class _TooLongError(BaseException):
    """Not an Exception, so that no reader takes it for a fault of the file."""


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLongError(f"no answer in {SECONDS} seconds")

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEGABYTES * 2**20, hard))
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _documents(valid: bytes) -> list[object]:
    """The values of JSON or JSON lines; none of another kind of file."""
    try:
        text = valid.decode()
        try:
            return [json.loads(text)]
        except ValueError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return []


# --- changes of bytes


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def without_part(data: bytes, draw: random.Random) -> bytes:
    start, stop = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[stop:]


def with_part_twice(data: bytes, draw: random.Random) -> bytes:
    start, stop = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:stop] + data[start:]


def with_bytes_put_in(data: bytes, draw: random.Random) -> bytes:
    put = draw.choice(_PUT)
    at = draw.randrange(len(data) + 1)
    return data[:at] + put + data[at:]


def recoded(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("latin-1")
    return text.encode(draw.choice(["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7"]))


def of_noise(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([0, 1, 100, 5000]))


# --- changes of what JSON holds: each gives the text of the changed document


def _members(document: object) -> list[tuple[object, object]]:
    """Every member of every list and object in a document."""
    members: list[tuple[object, object]] = []
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict | list):
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
            members += [(value, key) for key, _ in items]
            left += [member for _, member in items]
    return members


def _of_a_member(change: Callable) -> Callable[[object, random.Random], str]:
    """A change of one member, as a change of a document."""

    @functools.wraps(change)
    def changed(document: object, draw: random.Random) -> str:
        copy = json.loads(json.dumps(document))
        if members := _members(copy):
            change(*draw.choice(members), draw)
        return json.dumps(copy)

    return changed


@_of_a_member
def with_odd_value(holder, key, draw):
    holder[key] = draw.choice(ODD)


@_of_a_member
def with_other_type(holder, key, draw):
    value = holder[key]
    holder[key] = draw.choice([str(value), [value], {"value": value}, [[value]], value and None])


@_of_a_member
def without_member(holder, key, draw):
    del holder[key]


@_of_a_member
def with_renamed_key(holder, key, draw):
    if isinstance(holder, dict):
        names = ["", "x" * 5000, key.upper(), key[:-1], "\x00", "../x", "a->b", "n" + key]
        odd = draw.choice(names)
        holder[odd] = holder.pop(key)


def with_key_twice(document: object, draw: random.Random) -> str:
    text = json.dumps(document)
    starts = [i for i, character in enumerate(text) if character == "{"]
    if not starts or not isinstance(document, dict) or not document:
        return text
    key = draw.choice(list(document))
    return "{" + f"{json.dumps(key)}: {json.dumps(draw.choice(ODD))}, " + text[1:]


def nested_deeply(document: object, draw: random.Random) -> str:
    depth = draw.choice([50, 900, 20_000])
    text = json.dumps(document)
    values = [match.start() + 2 for match in re.finditer(r": \d", text)] or [len(text) - 1]
    at = draw.choice(values)
    left, right = draw.choice([("[", "]"), ('{"a": ', "}")])
    return text[:at] + left * depth + text[at : at + 1] + right * depth + text[at + 1 :]


def with_huge_number(document: object, draw: random.Random) -> str:
    text = json.dumps(document)
    numbers = [i for i, character in enumerate(text) if character.isdigit()]
    at = draw.choice(numbers) if numbers else 0
    return text[:at] + draw.choice(["9" * 40, "9" * 5000, "1e999", "-1", "0.5"]) + text[at + 1 :]


_PUT = [
    *(b"\x00", b"\xff\xfe", b'"', b"{", b"}", b"]", b",", b"\n", b"\r", b"\x1a", b"-", b"NaN"),
    *(b"[" * 20_000, b"9" * 5000, b"1e999", b"\xed\xa0\x80", b"<predict>", b"A" * 200_000),
]
_BYTES = [flipped, cut, without_part, with_part_twice, with_bytes_put_in, recoded, of_noise]
_STRUCTURES = [
    *(with_odd_value, with_odd_value, with_odd_value, with_other_type, without_member),
    *(with_renamed_key, with_key_twice, nested_deeply, with_huge_number),
]
