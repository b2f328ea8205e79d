"""Recognise a live 3D detector: unwrap it, ask every family, refuse with what was seen."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters._wrappers import unwrap
from mld_pipelines.adapters.detection3d._families import Family, families
from mld_pipelines.adapters.detection3d._signals import named_modules, portrait
from mld_pipelines.exceptions import UnrecognisedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.adapters.detection3d._contract import Adapter3D

__all__ = ["Recognised", "asked_families", "identify", "recognise"]

_log = logging.getLogger("mld_pipelines.adapters")

_NOT_BUILT_LIKE_IT = (AttributeError, IndexError, KeyError, TypeError)
_FEWER = "%s has the head of %s but is not built like one (%s): it is read as %s, detections without rows of the head."


@dataclass(frozen=True, slots=True, eq=False)
class Recognised:
    """Which family a model belongs to, and why.

    Attributes:
        family: The family.
        model: The detector itself, without what wraps it.
        path: Where it was found inside the user's object; empty where it is that object.
        evidence: The observations that decided.
    """

    family: Family
    model: Any
    path: str
    evidence: tuple[str, ...]


def recognise(model: Any, architecture: str | None = None, *, convention: str | None = None) -> Adapter3D:
    """Return the adapter of a live 3D detector.

    Args:
        model: The detector, also inside DataParallel, DistributedDataParallel, `torch.compile` or a Lightning module.
        architecture: Name of a family (`mmdet3d-centerpoint`: taken without looking) or of an architecture
            (`centerpoint`: only families of that name are asked).
        convention: Convention of the returned boxes, see `Build`.

    Raises:
        UnrecognisedModelError: No family accepts the model, several do, several detectors are inside, or the model is
            not built like the family that was named; the message prints what was seen.
    """
    found = identify(model, architecture)
    try:
        return _built(found.family, found.model, convention)
    except _NOT_BUILT_LIKE_IT as error:
        plain = next((one for one in families() if one.name == found.family.name.partition("-")[0]), None)
        if architecture is None and plain is not None and plain is not found.family:
            with suppress(*_NOT_BUILT_LIKE_IT):
                adapter = _built(plain, found.model, convention)
                _log.warning(_FEWER, type(found.model).__name__, found.family.name, error, plain.name)
                return adapter
        raise UnrecognisedModelError(
            f"{type(found.model).__name__} was taken for {found.family.name} ({', '.join(found.evidence)}) but is not "
            f"built like one: {error}. Nothing was recorded. Seen: {'; '.join(portrait(found.model))}. Name another "
            "family with architecture=; 'structural' records any output with known keys.",
            evidence=(*found.evidence, *portrait(found.model)),
        ) from error


def _built(family: Family, model: Any, convention: str | None) -> Adapter3D:
    """Return an adapter that finds in the model what it reads there."""
    adapter = family.build(model, convention=convention)
    _ = adapter.settings, adapter.taps(), adapter.decoder()
    return adapter


def identify(model: Any, architecture: str | None = None) -> Recognised:
    """Return which family a model belongs to, with the evidence; arguments and errors as in `recognise`."""
    asked, is_certain = asked_families(architecture)
    core = unwrap(model)
    if is_certain:
        evidence = asked[0].matches(core)
        if evidence is not None:
            return Recognised(asked[0], core, "", (*evidence, f"architecture={architecture!r}"))
        below = _inside(core, asked)
        return below or Recognised(asked[0], core, "", (f"architecture={architecture!r}",))
    for rank in (False, True):
        ranked = [family for family in asked if family.is_fallback is rank]
        found = _accepting(core, "", ranked) or _inside(core, ranked)
        if found is not None:
            return found
    raise UnrecognisedModelError(_refusal(core, asked, architecture), evidence=portrait(core))


def asked_families(architecture: str | None) -> tuple[Sequence[Family], bool]:
    """Return the families to ask, and whether the name leaves no choice.

    Raises:
        UnrecognisedModelError: No family or architecture has this name.
    """
    known = families()
    if architecture is None:
        return known, False
    wanted = _plain(architecture)
    exact = [family for family in known if _plain(family.name) == wanted]
    named = exact or [family for family in known if wanted in {_plain(name) for name in family.architectures}]
    if not named:
        names = sorted({name for family in known for name in (family.name, *family.architectures)})
        raise UnrecognisedModelError(
            f"architecture {architecture!r} is not known; nothing was recorded. Known names: {', '.join(names)}."
        )
    return named, bool(exact) or all(family.is_fallback for family in named)


def _plain(name: str) -> str:
    """Return a name without case and separators; `pointpillars++` stays apart from `pointpillars`."""
    return re.sub(r"[\s_\-]", "", name.lower())


def _accepting(module: Any, path: str, asked: Sequence[Family]) -> Recognised | None:
    """Return the one family that accepts a module."""
    found = [(family, evidence) for family in asked if (evidence := family.matches(module)) is not None]
    if len(found) > 1:
        claims = "; ".join(f"{family.name} ({', '.join(evidence)})" for family, evidence in found)
        raise UnrecognisedModelError(
            f"{type(module).__name__} looks like {len(found)} families: {claims}. Nothing was recorded; "
            f"say which with architecture={found[0][0].name!r}.",
            evidence=tuple(observation for _, evidence in found for observation in evidence),
        )
    return Recognised(found[0][0], module, path, found[0][1]) if found else None


def _inside(model: Any, asked: Sequence[Family]) -> Recognised | None:
    """Return the one detector inside a module of the user's own (Lightning and the like)."""
    found: list[Recognised] = []
    for path, module in named_modules(model):
        if any(path.startswith(outer.path + ".") for outer in found):
            continue
        accepted = _accepting(unwrap(module), path, asked)
        if accepted is not None:
            found.append(accepted)
    if len(found) > 1:
        places = ", ".join(f"{one.path} ({one.family.name})" for one in found)
        raise UnrecognisedModelError(
            f"{type(model).__name__} holds {len(found)} detectors: {places}. Nothing was recorded; "
            f"pass the one you mean, e.g. model.{found[0].path}.",
            evidence=tuple(observation for one in found for observation in one.evidence),
        )
    return found[0] if found else None


def _refusal(model: Any, asked: Sequence[Family], architecture: str | None) -> str:
    names = ", ".join(sorted(family.name for family in asked))
    what = "no known 3D detector" if architecture is None else f"not recognised as {architecture!r}"
    seen = "; ".join(portrait(model))
    return (
        f"{type(model).__name__} is {what}; nothing was recorded. Seen: {seen}. Families that were asked: {names}. "
        "If it is one of them under other names, say which with architecture=, e.g. 'mmdet3d-centerpoint'; "
        "'structural' records any output with known keys."
    )
