"""Language tasks. The text comes first and needs no tokenizer, model or torch:

    from edgewise.tasks.language import examples, vocabulary

    examples("ioi", 3, seed=0, split="train")    # records: .clean .corrupted .answers .wrong .spans
    vocabulary()                                 # every word that any task can emit

Words keep their leading space, so a text is its words joined; a tokenizer that always takes the
longest word of `vocabulary()` cuts every text into exactly the words of its record.
"""

from edgewise.tasks.language.behaviour import SPLITS, Behaviour, Corruption, Example, split_of
from edgewise.tasks.language.catalog import BEHAVIOURS, behaviour_named, examples, vocabulary

__all__ = [
    "BEHAVIOURS",
    "SPLITS",
    "Behaviour",
    "Corruption",
    "Example",
    "behaviour_named",
    "examples",
    "split_of",
    "vocabulary",
]
