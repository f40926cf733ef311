"""The configuration files as frozen models, and their errors as single sentences.

config/config.yaml says what to run, config/experiments/<name>.yaml are grids, and
config/recipes/<name>.yaml ways of training. pydantic is the only validator.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.core.phases import RatioKind
from prunebench.core.recipe import Recipe, Settings

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
SettingName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]*$")]
Ratio = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


class NetworkConfig(Settings):
    """What is particular to one network of an experiment."""

    seeds: tuple[Seed, ...] | None = None  # None: the experiment's
    recipes: dict[str, str] = {}  # by role, over the experiment's


class MethodConfig(Settings):
    """One method's part of an experiment's grid."""

    ratios: tuple[Ratio, ...] | None = None  # None: the experiment's, or the method's own ("auto")
    ratio_kind: RatioKind | None = None
    options: dict[str, Any] = {}  # of every setting
    settings: dict[SettingName, dict[str, Any]] = {"default": {}}
    recipes: dict[str, str] = {}  # by role, over the network's
    by_network: dict[str, dict[str, Any]] = {}  # options of one network, over the settings'


class ExperimentConfig(Settings):
    """A grid with a name: data sets × networks × methods × settings × ratios × seeds."""

    title: str
    datasets: Annotated[tuple[Slug, ...], Field(min_length=1)]
    networks: Annotated[dict[str, NetworkConfig], Field(min_length=1)]
    methods: Annotated[dict[Slug, MethodConfig], Field(min_length=1)]
    recipes: dict[str, str]  # by role; "base" is the base network's
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    ratios: tuple[Ratio, ...] = ()
    ratio_kind: RatioKind = "units_per_group"
    threads: Annotated[int, Field(ge=1)] = 1  # of torch; results depend on it to the bit

    @model_validator(mode="after")
    def _nothing_twice(self) -> ExperimentConfig:
        for key in ("datasets", "seeds", "ratios"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names something twice: {list(values)}")
        return self


def _as_tuple(value: Any) -> Any:
    """Take one name or number for a list of one, as `--config experiments=quick` gives it."""
    return (value,) if isinstance(value, str | int) else value


class Config(Settings):
    """What is run: config/config.yaml."""

    experiments: Annotated[tuple[Slug, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    # None: every experiment's own
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_tuple), Field(min_length=1)] | None = (
        None
    )
    data_dir: str = "data"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0


M = TypeVar("M", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A YAML loader that refuses a key given twice, where YAML would keep the last."""


def _mapping_without_doubles(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise ConfigError(f"line {line}: the key {key!r} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_doubles
)


def read_yaml(path: Path) -> Any:
    """Read a YAML file in which no key may stand twice; ConfigError names file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{path}{line}: {problem}") from None


def validate(model: type[M], content: Any, where: str) -> M:
    """Return `content` as `model`; ConfigError is one sentence that begins with `where`."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {content!r}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_sentence(model, error)}") from None


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    """Put the first of pydantic's errors into words: key, value, what is allowed."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"] if part != "[key]"]
    key, value = ".".join(location), first.get("input")
    match first["type"]:
        case "extra_forbidden":
            allowed = _fields_at(model, location[:-1])
            place = f" below {'.'.join(location[:-1])!r}" if location[:-1] else ""
            return unknown_name("key", location[-1], allowed) + place
        case "missing":
            return f"the key {key!r} is missing"
        case "value_error":
            prefix = f"{key}: " if key else ""
            return prefix + str(first["ctx"]["error"])
        case "string_pattern_mismatch":
            return f"{key!r} is no name; allowed are lower-case letters, digits and underscores"
        case _:
            message = first["msg"][0].lower() + first["msg"][1:]
            return f"{key}: {message}, not {value!r}"


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the field names of the model that `location` leads to."""
    here: Any = model
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel):
            if part not in here.model_fields:
                return []
            here = here.model_fields[part].annotation
        else:  # a dictionary's value or a tuple's element
            arguments = [a for a in get_args(here) if a is not Ellipsis]
            here = arguments[-1] if arguments else here
        here = next((a for a in get_args(here) if _is_model(a)), here) if _is_union(here) else here
    return list(here.model_fields) if _is_model(here) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_union(kind: Any) -> bool:
    return type(None) in get_args(kind)


def read_config(path: Path) -> Config:
    """Read config/config.yaml."""
    return validate(Config, read_yaml(path), str(path))


def read_experiment(config_dir: Path, name: str) -> ExperimentConfig:
    """Read an experiment by name."""
    path = _named_file(config_dir, "experiment", name)
    return validate(ExperimentConfig, read_yaml(path), str(path))


def read_recipe(config_dir: Path, name: str) -> Recipe:
    """Read a recipe by name."""
    path = _named_file(config_dir, "recipe", name)
    return validate(Recipe, read_yaml(path), str(path))


def _named_file(config_dir: Path, kind: str, name: str) -> Path:
    folder = config_dir / f"{kind}s"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise ConfigError(f"{folder}: {unknown_name(kind, name, known)}")
    return path
