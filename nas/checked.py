"""Settings as checked values: every problem told at once, under the flag's name."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from search_spaces.errors import InputError
from search_spaces.expected import describe_problem

Conflict = tuple[set[str], Callable[[Any], str | None]]  # the fields a check needs, and what it says of them


class Settings(BaseModel):
    """Values that are checked, all problems told at once, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _take_lists(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given  # TOML and JSON have no tuples

    @model_validator(mode="before")
    @classmethod
    def _infer(cls, given: Any) -> Any:
        return cls.infer(given) if isinstance(given, Mapping) else given

    @classmethod
    def infer(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values given, and those that follow from them."""
        return dict(given)

    @classmethod
    def conflicts(cls) -> Iterator[Conflict]:
        """Checks of several fields together; each gives what is wrong, or None."""
        yield from ()

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        problems = [said for _, check in self.conflicts() if (said := check(self)) is not None]
        if problems:
            raise ValueError("\n".join(problems))
        return self


Model = TypeVar("Model", bound=Settings)


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The model of these values.

    Raises:
        InputError: every problem at once, one a line, each under the flag's name.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors()
    wrong = {str(problem["loc"][0]) for problem in problems if problem["loc"]}
    # Each type that a setting may have complains for itself, and so does each entry of a list: one line covers them.
    first: dict[object, Any] = {}
    for number, problem in enumerate(problems):
        first.setdefault(problem["loc"][:1] or number, problem)
    lines = [_describe_problem(problem, model) for problem in first.values()]
    if wrong:
        # Checks of several fields have not run yet; those that need none of the wrong ones can.
        known = model.infer(values)
        sound = model.model_construct(**{name: value for name, value in known.items() if name not in wrong})
        checks = (check for needed, check in model.conflicts() if not needed & wrong)
        lines += [said for check in checks if (said := check(sound)) is not None]
    once = dict.fromkeys("\n".join(lines).splitlines())
    raise InputError("these settings cannot be used:\n" + "\n".join(f"  - {line}" for line in once))


def _describe_problem(problem: Any, model: type[Model]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(message)
    name = str(problem["loc"][0])
    flag = name.replace("_", "-")
    if problem["type"] == "extra_forbidden":
        known = [name.replace("_", "-") for name in model.model_fields]
        near = difflib.get_close_matches(flag, known, n=1)
        return f"{flag}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
    said = describe_problem(model, problem) or f"{message[:1].lower()}{message[1:]}"
    return f"{flag}: {said}, got {problem['input']!r:.200}"
