"""Finding the registry that `module:attribute` names, with one line that says why if there is none."""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from flowli_core._jobs.registry import Jobs, is_registry
from flowli_core._text import escape_controls
from flowli_core.cli._common.exits import WrongUsageError

DEFAULT_ATTRIBUTE = "jobs"

_CREDENTIALS = re.compile(r"://.*@")


def load(target: str, *, app_dir: str = ".", factory: bool = False) -> Jobs[Any]:
    """Import the module of the target, and return its registry.

    Raises WrongUsageError with a message of one line. If the module itself raises, its traceback is printed first.
    """
    folder = Path(app_dir).absolute()
    if not folder.is_dir():
        raise WrongUsageError(f"--app-dir {escape_controls(app_dir)!r} is not a directory")
    sys.path.insert(0, str(folder))
    module_name, _, attribute = target.partition(":")
    attribute = attribute or DEFAULT_ATTRIBUTE
    module = _import(target, module_name, folder)
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise WrongUsageError(
                f"module {module_name!r} has no {escape_controls(attribute)!r}; {_suggest_attribute(module, attribute)}"
            ) from None
    return _call_factory(target, found) if factory else _check_registry(target, found, module)


def _import(target: str, name: str, folder: Path) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        near = _suggest_module_of_path(name)
        raise WrongUsageError(f"{escape_controls(target)!r} must be module:attribute, such as app.jobs:jobs{near}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            near = _suggest_module_of_path(name) or _suggest_module(name, error.name, folder)
            path = f"{error.name.replace('.', '/')}.py"
            raise WrongUsageError(
                f"there is no module {error.name!r}: looked for {path} in {escape_controls(folder)}{near}"
            ) from None
        raise _report_failure(name, error) from error
    except Exception as error:
        raise _report_failure(name, error) from error


def _report_failure(name: str, error: Exception) -> WrongUsageError:
    """Print the traceback of a module or factory that raised, and return the error with which to end the command.

    The frames of the import system and of this file are left out.
    """
    trace = error.__traceback__
    ours = (__file__, importlib.__file__)
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in ours or "importlib" in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    text = _CREDENTIALS.sub("://...@", "".join(lines))
    sys.stderr.write(escape_controls(text, lines=True))
    return WrongUsageError(f"importing {name!r} failed with {type(error).__name__}, see above")


def _call_factory(target: str, factory: Any) -> Jobs[Any]:
    if not callable(factory):
        raise WrongUsageError(f"{target!r} is not a function; omit --factory if it is the registry itself")
    try:
        found = factory()
    except Exception as error:
        raise _report_failure(target, error) from error
    if not is_registry(found):
        if inspect.iscoroutine(found):
            found.close()
            raise WrongUsageError(f"{target!r} is an async function; a factory must be a plain function")
        raise WrongUsageError(f"{target!r} returned {_with_article(type(found).__name__)}, not a Jobs(...)")
    return found


def _check_registry(target: str, found: Any, module: ModuleType) -> Jobs[Any]:
    if is_registry(found):
        return found
    given: object = found
    kind = type(given).__name__
    if isinstance(given, type) and issubclass(given, Jobs):
        name = given.__name__
        cure = f"name an instance of it, such as jobs = {name}(context=...)"
        raise WrongUsageError(f"{target!r} is the class {name}; {cure}")
    is_function = inspect.isfunction(found) or inspect.isbuiltin(found)
    registries = _registries(module)
    if is_function:
        cure = "; add --factory if it returns one"
    else:
        cure = f"; did you mean {module.__name__}:{registries[0]}?" if registries else ""
    raise WrongUsageError(f"{target!r} is {_with_article(kind)}, not a Jobs(...){cure}")


def _suggest_module_of_path(name: str) -> str:
    path = Path(name)
    if path.suffix != ".py" and not path.parent.name:
        return ""
    return f"; did you mean {'.'.join(path.with_suffix('').parts)}:{DEFAULT_ATTRIBUTE}?"


def _suggest_module(wanted: str, missing: str, folder: Path) -> str:
    parent, _, name = missing.rpartition(".")
    beside = folder.joinpath(*parent.split(".")) if parent else folder
    names = [module.name for module in pkgutil.iter_modules([str(beside)])]
    near = difflib.get_close_matches(name, names, n=1)
    if not near:
        return ""
    meant = f"{parent}.{near[0]}" if parent else near[0]
    return f"; did you mean {meant}{wanted[len(missing) :]}?"


def _with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _registries(module: ModuleType) -> list[str]:
    return sorted(name for name, value in vars(module).items() if is_registry(value))


def _suggest_attribute(module: ModuleType, attribute: str) -> str:
    registries = _registries(module)
    near = difflib.get_close_matches(attribute, registries or list(vars(module)), n=1)
    if near:
        return f"did you mean {module.__name__}:{near[0]}?"
    if registries:
        return f"its registries are {', '.join(registries)}"
    inner = f"{module.__name__}.{DEFAULT_ATTRIBUTE}"
    if hasattr(module, "__path__") and importlib.util.find_spec(inner) is not None:
        return f"the module has no registry; did you mean {inner}:{DEFAULT_ATTRIBUTE}?"
    return "the module has no registry"
