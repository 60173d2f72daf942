"""The JSON Schema of a spec, generated from the models, so that editors complete and check it.

    python -m lab.config.schema        writes experiments/schema.json

A spec names it in its first line: ``# yaml-language-server: $schema=schema.json``. What the
schema cannot say (users against students, two axes that set one knob) `read_experiment` does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.model import metrics
from lab.model.criterion import Criterion
from lab.model.experiment import Experiment
from lab.model.journeys import OF_USERS, Journey
from lab.model.knobs import TABLE, Knobs
from lab.model.replica import TARGETS
from lab.model.speed import AUTO
from lab.model.units import DECIMAL, DURATIONS, PER, SIZES, format_duration

FILE = Path("experiments/schema.json")

Schema = dict[str, Any]


def experiment_schema() -> Schema:
    """The schema (draft 2020-12) of an experiment file; the same for the same models."""
    schema = _cleaned(Experiment.model_json_schema())
    definitions: Schema = schema["$defs"]
    knob_sets = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/Knobs", "minProperties": 1},
    }
    definitions |= _texts() | {"Knobs": _knobs(), "KnobSets": knob_sets}
    schema["properties"] |= {"knobs": {"$ref": "#/$defs/Knobs"}, "matrix": _matrix()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "an experiment of the replica lab",
        "$defs": dict(sorted(definitions.items())),
    }


def text_of(schema: Schema) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _texts() -> Schema:
    """The values that are models inside the lab and one text in a spec."""
    names = "|".join(metric.form or metric.name.replace(".", r"\.") for metric in metrics.TABLE)
    of = rf"\(\s*({'|'.join(Journey)})\s*\)\s*"
    operators = "|".join(sorted(Criterion.OPERATORS, key=len, reverse=True))
    return {
        "Span": _text(_range(DURATIONS), "2-5 s"),
        "SizeRange": _text(_range(SIZES), "50 KB - 2 MB"),
        "RateLimit": _text(rf"^[1-9]\d*\s*/\s*({'|'.join(PER)})$", "500/min"),
        "Mix": {
            "type": "object",
            "minProperties": 1,
            "properties": {str(journey): _text(rf"^{DECIMAL}%$", "10 %") for journey in OF_USERS},
            "additionalProperties": False,
            "examples": [{"upload": "80 %", "progress": "20 %"}],
        },
        "Criterion": _text(rf"^\s*({names})\s*({of})?({operators})\s*.+$", "p95 < 10 s"),
    }


def _text(pattern: str, example: str) -> Schema:
    return {"type": "string", "pattern": pattern, "examples": [example]}


def _range(units: dict[str, Any]) -> str:
    unit = "|".join(units)
    return rf"^{DECIMAL}(({unit})?\s*(-|–|to)\s*{DECIMAL})?({unit})$"


def _knobs() -> Schema:
    """Any knobs: each with its bounds, its default as found, and its meaning."""
    schema = _cleaned(Knobs.model_json_schema(), none_as=None)
    properties, as_found = schema["properties"], Knobs().as_text()
    documented = {
        row.name: {**_with_word(properties[row.name], row.none_as), "default": as_found[row.name]}
        | {"description": row.help}
        for row in TABLE
    }
    speed = documented["speed"]
    bounds = {key: speed.pop(key) for key in ("type", "minimum", "maximum")}
    documented["speed"] = {"anyOf": [{"const": AUTO}, bounds], **speed, "default": AUTO}
    return {"type": "object", "properties": documented, "additionalProperties": False}


def _with_word(schema: Schema, none_as: str) -> Schema:
    """A value that is None inside the lab is a word in a spec, as ``off``."""
    null = {"type": "null"}
    if null not in schema.get("anyOf", ()):
        return schema
    branches = [{"const": none_as} if branch == null else branch for branch in schema["anyOf"]]
    return {**schema, "anyOf": branches, "default": schema.get("default") or none_as}


def _matrix() -> Schema:
    """An axis is a list of one knob's values, or of targets, or labels with sets of knobs."""
    sets = {"$ref": "#/$defs/KnobSets"}
    axes: Schema = {}
    for row in TABLE:
        values = _list_of({"$ref": f"#/$defs/Knobs/properties/{row.name}"})
        axes[row.name] = {"anyOf": [values, sets], "description": row.help}
    axes["target"] = {
        **_list_of({"enum": list(TARGETS)}),
        "description": "where the backend runs: the same cells on both, side by side",
    }
    keys = {"type": "object", "minProperties": 1}
    axes["load"] = {
        **keys,
        "additionalProperties": keys,
        "description": "labels with keys of the load, in place of the load's own",
    }
    return {
        "type": "object",
        "description": Experiment.model_fields["matrix"].description,
        "minProperties": 1,
        "properties": axes,
        "additionalProperties": sets,
    }


def _list_of(value: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": value}


def _cleaned(schema: Schema, none_as: str | None = "off") -> Schema:
    """Without pydantic's titles, and with what is off and durations written as a spec does."""

    def clean(node: Any) -> Any:
        if isinstance(node, list):
            return [clean(child) for child in node]
        if not isinstance(node, dict):
            return node
        kept = {k: clean(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
        if kept.get("type") == "string" and isinstance(kept.get("default"), float):
            kept["default"] = format_duration(kept["default"])
        return _with_word(kept, none_as) if none_as else kept

    return dict(clean(schema))


def main() -> None:
    """Write the schema's file."""
    FILE.write_text(text_of(experiment_schema()), encoding="utf-8")


if __name__ == "__main__":
    main()
