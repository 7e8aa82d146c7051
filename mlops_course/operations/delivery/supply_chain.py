"""What a program runs with, written down from installed metadata in the form of CycloneDX."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def sbom(roots: Iterable[str]) -> dict[str, Any]:
    """Return a software bill of materials (CycloneDX 1.6): the packages `roots` and all that they need, as installed.

    A component has its name as PEP 503 normalises it, its version and its package URL; `dependencies` says what each
    needs. There is no time and no serial number in it: the same environment gives the same list. What a package needs
    on other systems only is left out. Raises ValueError naming a root, or a need of one, that is not installed.
    """
    if isinstance(roots, str):
        raise TypeError(f"expected a list of package names, got the text {roots!r}")
    needs = _closure(roots)
    versions = {name: distribution(name).version for name in sorted(needs)}
    urls = {name: f"pkg:pypi/{name}@{version}" for name, version in versions.items()}
    components = [
        {"type": "library", "bom-ref": urls[name], "name": name, "version": version, "purl": urls[name]}
        for name, version in versions.items()
    ]
    order = [{"ref": url, "dependsOn": [urls[need] for need in sorted(needs[name])]} for name, url in urls.items()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": components,
        "dependencies": order,
    }


def _closure(roots: Iterable[str]) -> dict[str, set[str]]:
    """Return the packages that are needed, directly or not, each with those that it needs itself."""
    left = [Requirement(root) for root in roots]
    for root in left:
        if not _is_installed(root.name):
            raise ValueError(f"expected installed packages, got {root.name!r}")
    needs: dict[str, set[str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        asked = left.pop()
        name, extras = canonicalize_name(asked.name), frozenset(asked.extras)
        own = needs.setdefault(name, set())
        if (name, extras) not in seen:
            seen.add((name, extras))
            wanted = map(Requirement, distribution(name).requires or ())
            wanted = [need for need in wanted if _applies(need, extras)]
            if absent := [need.name for need in wanted if not _is_installed(need.name)]:
                raise ValueError(f"expected all that {name} needs to be installed, found no {', '.join(absent)}")
            own.update(canonicalize_name(need.name) for need in wanted)
            left += wanted
    return needs


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _applies(need: Requirement, extras: frozenset[str]) -> bool:
    """Whether a requirement holds on this system, by itself or for one of the extras that were asked for."""
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ["", *extras])
