"""Pretend cards: tensors that say they lie on another device, hold real numbers, and refuse to mix.

With `cards()` around it, code for several devices runs on a machine without any: `CARDS[0]` and
`CARDS[1]` are devices that only the two of us know, what is computed on one of them stays there,
and an operation on tensors of two places is an error, as it is with CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CARDS = (torch.device("lazy", 0), torch.device("lazy", 1))  # a kind of device nobody else uses


class OnCard(Tensor):
    """A tensor on a pretend card; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> OnCard:
        card = Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=device
        )
        card.held = held
        return card

    def tolist(self) -> Any:
        return self.held.tolist()

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_as_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_as_tensors(index), value)

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """What is given no tensor of a card: making one, for example."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """Tensors made of Python's numbers, which operations do not see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") in CARDS:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is Tensor.new_tensor and args[0].device in CARDS:
            return torch.tensor(*args[1:], dtype=args[0].dtype).to(args[0].device)
        return func(*args, **kwargs)


@contextmanager
def cards() -> Iterator[None]:
    """Where pretend cards can be used."""
    with _FromNumbers(), _Operations():
        yield


def _as_tensors(index: Any) -> Any:
    """An index without lists: torch would make tensors of them on the card, unseen by us."""
    return tree_map_only(list, torch.tensor, index, is_leaf=lambda part: isinstance(part, list))


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    place = _place(func, tensors, kwargs.get("device"))
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map_only(OnCard, lambda card: card.held, (args, kwargs))
    result = func(*args, **kwargs)
    if place is None or place.type == "cpu":
        return result
    known = {id(t.held): t for t in tensors if isinstance(t, OnCard)}  # what was written in place

    def placed(found: Tensor) -> Tensor:
        return known[id(found)] if id(found) in known else OnCard(found, place)

    return tree_map_only(Tensor, placed, result)


def _place(func: Any, tensors: list[Tensor], asked: Any) -> torch.device | None:
    """Where an operation's result lies. Raises `RuntimeError` if its tensors are in two places."""
    name = func.overloadpacket.__name__
    if name == "_to_copy" and asked is not None:
        return torch.device(asked)
    if name in ("copy_", "copy"):  # the one way from place to place
        return tensors[0].device
    # A single number, and an index, may lie on the CPU.
    bound = [t for t in tensors if isinstance(t, OnCard) or (t.dim() and "index" not in name)]
    places = {t.device for t in bound}
    if len(places) > 1:
        raise RuntimeError(f"{name}: tensors on {' and '.join(map(str, places))}")
    if places:
        return places.pop()
    return None if asked is None else torch.device(asked)
