"""The words that prompts are made of, from `words.txt`.

Most are single tokens of most tokenizers; which ones are is checked when a task is loaded, and the
others are left out.
"""

from __future__ import annotations

from importlib.resources import files


def _sections(text: str) -> dict[str, tuple[str, ...]]:
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        content = line.partition("#")[0].strip()
        if content.startswith("["):
            words = sections.setdefault(content[1:-1], [])
        elif content:
            words += content.split()
    return {name: tuple(words) for name, words in sections.items()}


_LISTS = _sections((files("edgewise.tasks.language") / "words.txt").read_text(encoding="utf-8"))

FEMALE_NAMES, MALE_NAMES = _LISTS["female names"], _LISTS["male names"]
NAMES = FEMALE_NAMES + MALE_NAMES
PLACES, OBJECTS, EVENTS = _LISTS["places"], _LISTS["objects"], _LISTS["events"]
VARIABLES, NOUNS = _LISTS["variables"], _LISTS["nouns"]
COUNTED = tuple((noun, f"{noun}s") for noun in _LISTS["counted"])  # one, several
COLOURS, COLOURED = _LISTS["colours"], _LISTS["coloured"]
PRAISED, PRAISES = _LISTS["praised"], _LISTS["praises"]
COUNTRIES = tuple((pair.partition("/")[0], pair.partition("/")[2]) for pair in _LISTS["countries"])
# (player, sport): a player may be several tokens, a sport is one.
PLAYERS = tuple(
    (player.replace("_", " "), section.removesuffix(" players"))
    for section, players in _LISTS.items()
    if section.endswith(" players")
    for player in players
)
