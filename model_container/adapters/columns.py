"""Columns that an estimator was trained on, read from its fitted steps without running them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Sequence, Tuple

import numpy as np

from model_container.bodies.table import Column
from model_container.bodies.values import ANY, NEVER

# Libraries whose estimators take only numbers, unless an encoder comes before them.
_NUMERIC_LIBRARIES = ("sklearn", "lightgbm", "xgboost", "imblearn")
_FREE_STEPS = ("FunctionTransformer",)  # their function may change the columns in any way
_BY_NAME = ("ColumnTransformer", *_FREE_STEPS)
_TYPICAL = ("mean_", "center_", "data_min_", "statistics_")


@dataclass
class ColumnFacts:
    """Facts about one column. datatype: "" until a step reveals it. choices: categories of an encoder.

    typical: a value seen in training. is_filled: a step fills in missing values. is_category: the model wants the
    column as pandas' category dtype and finds the codes itself. is_unused: the model drops the column.
    is_exact: the model takes no other datatype, and so no missing values where that has none.
    """

    name: str
    datatype: str = ""
    choices: List[Any] = field(default_factory=list)
    typical: Any = None
    missing: Any = math.nan
    is_category: bool = False
    is_filled: bool = False
    is_unused: bool = False
    is_exact: bool = False

    def column(self) -> Column:
        # Integers are built as doubles, so that a null does not change the dtype of other requests in the batch.
        # Booleans stay booleans only if the request sends booleans.
        built = {"INT64": "FP64", "BOOL": ANY} if not self.is_exact else {}
        return Column(self.name, built.get(self.datatype, self.datatype), self.missing, self.is_unused)


def read_columns(model: Any, names: Sequence[str]) -> List[ColumnFacts]:
    """Return the facts about each column. names: of the columns, in training order."""
    facts = [ColumnFacts(name) for name in names]
    _read(model, facts)
    used = _used(first_step(model), facts)
    for column in facts:
        column.datatype = column.datatype or ANY
        column.is_unused = id(column) not in used
    return facts


def _used(step: Any, facts: List[ColumnFacts]) -> FrozenSet[int]:
    """Return the ids of the facts whose columns the first step does not drop; only a ColumnTransformer drops any."""
    parts = getattr(step, "transformers_", None)
    if not isinstance(parts, list):
        return frozenset(map(id, facts))
    kept = [chosen for _, inner, chosen in parts if not (isinstance(inner, str) and inner == "drop")]
    return frozenset(id(column) for chosen in kept for column in _chosen(chosen, facts))


def first_step(model: Any) -> Any:
    """Return the part that gets the input first: a pipeline's first step, or a search's best estimator."""
    while True:
        steps = getattr(model, "steps", None)
        best = getattr(model, "best_estimator_", None)
        if isinstance(steps, list) and steps:
            rest = [step for _, step in steps if step not in (None, "passthrough")]
            if not rest:
                return model
            model = rest[0]
        elif best is not None:
            model = best
        else:
            return model


def reads_text(step: Any) -> bool:
    """Return whether the step is a vectorizer, or a union of them, whose input is one text per row instead of columns."""
    parts = getattr(step, "transformer_list", None)
    if isinstance(parts, list):
        return bool(parts) and all(reads_text(first_step(part)) for _, part in parts if part != "drop")
    return callable(getattr(step, "build_analyzer", None))


def columns_of_objects(step: Any) -> List[ColumnFacts]:
    """Return the columns of a DictVectorizer, whose input is one object per row; none for another step."""
    found: Dict[str, ColumnFacts] = {}
    if type(step).__name__ == "DictVectorizer" and _library(step) == "sklearn":
        for feature in step.feature_names_:  # "age" of a number, "plan=basic" of a text
            name, _, text = feature.partition(step.separator)
            column = found.setdefault(name, ColumnFacts(name, "FP64"))
            if text:
                column.datatype, column.missing = "BYTES", None
                column.choices.append(text)
    return list(found.values())


def is_numeric_only(model: Any) -> bool:
    """Return whether the model never selects a column by name, so that a plain array works as well as a DataFrame."""
    nested = model.get_params(deep=True).values() if hasattr(model, "get_params") else ()
    parts = [model, *(part for part in nested if hasattr(part, "fit"))]
    return all(_library(part) == "sklearn" and type(part).__name__ not in _BY_NAME for part in parts)


def _library(step: Any) -> str:
    return type(step).__module__.split(".")[0]


def _read(step: Any, facts: List[ColumnFacts]) -> bool:
    """Read a step's facts. Returns True if the step's output has other columns than its input.

    Later steps then say nothing about the input.
    """
    if step is None or isinstance(step, str):
        if step == "drop":
            _set(facts, ANY)
        return step == "drop"
    if isinstance(getattr(step, "steps", None), list):
        return any(_read(inner, facts) for _, inner in step.steps)
    if getattr(step, "best_estimator_", None) is not None:
        return _read(step.best_estimator_, facts)
    if isinstance(getattr(step, "transformers_", None), list):
        for _, inner, chosen in step.transformers_:
            if not _read(inner, _chosen(chosen, facts)):
                _set_numeric(_chosen(chosen, facts))
        return True
    if isinstance(getattr(step, "transformer_list", None), list):
        for _, inner in step.transformer_list:
            _read(inner, facts)
        return True
    return _read_leaf(step, facts)


def _read_leaf(step: Any, facts: List[ColumnFacts]) -> bool:
    if reads_text(step):
        _set(facts, "BYTES", NEVER)
        return True
    categories = getattr(step, "categories_", None)
    if isinstance(categories, list) and len(categories) == len(facts):
        for column, values in zip(facts, categories):
            _set_choices(column, values)
        return True
    if _library(step) == "catboost":
        _read_catboost(step, facts)
        return True
    if _library(step) == "category_encoders":
        _read_category_encoder(step, facts)
        return True
    if _library(step) not in _NUMERIC_LIBRARIES or type(step).__name__ in _FREE_STEPS:
        _set(facts, ANY)
        return True
    preprocessor = getattr(step, "_preprocessor", None)  # HistGradientBoosting encodes categories itself
    if isinstance(getattr(preprocessor, "transformers_", None), list):
        return _read_own_encoder(preprocessor, facts)
    if _library(step) == "lightgbm":
        _read_lightgbm(step, facts)
    for attribute in _TYPICAL:
        values = getattr(step, attribute, None)
        if isinstance(values, np.ndarray) and values.shape == (len(facts),):
            for column, value in zip(facts, values.tolist()):
                column.typical = value if column.typical is None else column.typical
    if type(step).__name__.endswith(("Imputer", "MissingIndicator")):
        for column in facts:
            column.missing = None if getattr(step, "missing_values", math.nan) is None else column.missing
            column.is_filled = column.is_filled or type(step).__name__.endswith("Imputer")
        return False
    _set(facts, "FP64")
    return False


def _read_own_encoder(preprocessor: Any, facts: List[ColumnFacts]) -> bool:
    _read(preprocessor, facts)
    for column in facts:
        if column.datatype == ANY and not column.choices:
            column.datatype = "FP64"
    return True


def _read_lightgbm(step: Any, facts: List[ColumnFacts]) -> None:
    """Read the categories of LightGBM's training DataFrame, which it keeps in the order of the categorical columns."""
    booster = getattr(step, "booster_", None)
    categories = getattr(booster, "pandas_categorical", None)
    if not categories or booster is None:
        return
    infos = booster.dump_model(num_iteration=1)["feature_infos"]
    chosen = [column for column, name in zip(facts, booster.feature_name()) if infos.get(name, {}).get("values")]
    if len(chosen) == len(categories):
        for column, values in zip(chosen, categories):
            _set_choices(column, values)
            column.is_category = True


def _read_category_encoder(step: Any, facts: List[ColumnFacts]) -> None:
    """Read which columns are categories. It takes those that it did not see in training, too."""
    for column in facts:
        if column.name in (getattr(step, "cols", None) or ()):
            column.typical = "a"
    _set(facts, ANY)


def _read_catboost(step: Any, facts: List[ColumnFacts]) -> None:
    """Read which columns are categories, texts or numbers. It keeps no category, takes any, and 1 for the same as "1"."""
    for index in step.get_cat_feature_indices():
        facts[index].datatype, facts[index].typical = ANY, "a"
    _set([facts[index] for index in step.get_text_feature_indices()], "BYTES", NEVER)
    _set([facts[index] for index in step.get_embedding_feature_indices()], ANY)
    _set(facts, "FP64")


def _set(facts: List[ColumnFacts], datatype: str, missing: Any = math.nan) -> None:
    for column in facts:
        if not column.datatype:
            column.datatype = datatype
            column.missing = column.missing if column.is_filled else missing


def _set_numeric(facts: List[ColumnFacts]) -> None:
    """Mark columns that only an imputer has seen as numbers, unless it fills in something else."""
    _set([column for column in facts if not isinstance(column.typical, str)], "FP64")


def _set_choices(column: ColumnFacts, values: Any) -> None:
    """Set a column's choices from an encoder, which knows them best, even if scalers or imputers came before it."""
    items = values.tolist() if isinstance(values, np.ndarray) else list(values)
    present = [item for item in items if item is not None and item == item]
    if any(item is None for item in items):
        column.missing = None
    if column.datatype:
        return
    kinds = set(map(type, present))
    if kinds == {str}:
        column.datatype = "BYTES"
    elif kinds == {bool}:
        column.datatype = "BOOL"
    elif kinds == {int}:
        column.datatype = "INT64"
    elif kinds and kinds <= {int, float}:
        column.datatype = "FP64"
    else:
        column.datatype = ANY
    column.choices = [item for item in present if type(item) in (str, bool, int, float)]


def _chosen(columns: Any, facts: List[ColumnFacts]) -> List[ColumnFacts]:
    """Return the columns that a ColumnTransformer passes to one of its parts, given as names, positions, a slice or a
    mask.
    """
    names = {column.name: index for index, column in enumerate(facts)}
    if isinstance(columns, slice):
        ends = (names[end] if isinstance(end, str) else end for end in (columns.start, columns.stop))
        start, stop = ends
        if isinstance(columns.stop, str) and stop is not None:
            stop += 1  # a slice of names includes its end
        return facts[slice(start, stop, columns.step)]
    if isinstance(columns, (str, int, np.integer)):
        columns = [columns]
    items: Tuple[Any, ...] = tuple(columns.tolist() if hasattr(columns, "tolist") else columns)
    if items and all(isinstance(item, bool) for item in items):
        return [column for column, wanted in zip(facts, items) if wanted]
    indices = (names.get(item, -1) if isinstance(item, str) else int(item) for item in items)
    return [facts[index] for index in indices if -len(facts) <= index < len(facts)]
