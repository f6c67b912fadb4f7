"""Plug-ins: one pluggy hook, found through the entry-point group `maskmotion`, loaded at the first look-up."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("maskmotion")
hookimpl = pluggy.HookimplMarker("maskmotion")

GROUP = "maskmotion"
SWITCH = "MASKMOTION_PLUGINS"  # "off" loads the built-ins only


class PluginError(ImportError):
    """An installed plug-in that does not load; says which distribution and the way out."""


class Hooks:
    """The hooks a plug-in may implement: this one."""

    @hookspec
    def maskmotion_register(self, register: Any) -> None:
        """Call register(name, thing) once for every component or preset the plug-in brings."""


manager = pluggy.PluginManager("maskmotion")
manager.add_hookspecs(Hooks)

broken: dict[str, PluginError] = {}
"""Plug-ins that failed: shown by `maskmotion list`, and by any look-up that misses."""
loaded: dict[str, str] = {}
"""Plug-ins in use: entry-point name -> distribution and version."""


def origin(module: str) -> str:
    """Where a module comes from: a loaded plug-in's distribution and version, or the module itself."""
    from importlib.metadata import packages_distributions, version

    found = packages_distributions().get(module.split(".")[0], [])
    return f"{found[0]} {version(found[0])}" if found else f"module {module}"


_state = {"loading": False, "loaded": False}


def load_plugins() -> None:
    """Register the built-ins and every installed plug-in, once. A broken plug-in never breaks the others.

    A plug-in may look up what is there already while it loads (`BASE = mm.preset("tiny")` in its module).
    """
    if _state["loaded"] or _state["loading"]:
        return
    from maskmotion import builtin

    _state["loading"] = True
    try:
        _install("maskmotion", builtin)  # the built-ins come through the same door
        _state["loaded"] = True
        if os.environ.get(SWITCH, "on") != "off":
            for point in entry_points(group=GROUP):
                _install_point(point)
    finally:
        _state["loading"] = False


def _install_point(point: EntryPoint) -> None:
    try:
        _install(point.name, point.load())
        loaded[point.name] = _distribution(point)
    except Exception as error:  # any failure of foreign code becomes a row with its name
        broken[point.name] = PluginError(
            f"plug-in {point.name!r} of {_distribution(point)} failed to load ({type(error).__name__}: {error}); "
            f"uninstall or mend it, or set {SWITCH}=off"
        )


def _install(name: str, plugin: Any) -> None:
    """All of a plug-in's names, or none of them."""
    from maskmotion.registry import kind_of, register, unregister

    taken: list[tuple[str, str]] = []

    def one(own_name: str, thing: Any = None) -> Any:
        if thing is None:
            return lambda decorated: one(own_name, decorated)
        register(own_name, thing)
        taken.append((kind_of(thing), own_name))
        return thing

    manager.register(plugin, name=name)
    try:
        for implementation in manager.hook.maskmotion_register.get_hookimpls():
            if implementation.plugin is plugin:
                implementation.function(one)
    except Exception:
        for kind, own_name in taken:
            unregister(kind, own_name)
        manager.unregister(plugin)
        raise


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
