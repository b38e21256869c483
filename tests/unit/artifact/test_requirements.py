"""From what an artifact shows to what its environment must have; each pin says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from app.artifact.distributions import distribution_of
from app.artifact.formats.onnx import OnnxReading
from app.artifact.pickles import PickleReading
from app.artifact.requirements import (
    pins_of_compression,
    pins_of_onnx,
    pins_of_pickle,
    python_need_of,
    requirements_for,
    unknown_modules_of,
    with_requirements,
)
from app.core.environment import Requirements
from app.core.inspection import Format, Inspection, Pin, PythonConstraint
from app.errors import BadInput, EnvironmentFailed

LINEAR = "sklearn.linear_model._logistic.LogisticRegression"
SKLEARN = Pin("scikit-learn", "==1.2.2", "`_sklearn_version` in the file is 1.2.2")


def pins(*names: str, joblib: bool = False, **found: Any) -> dict[str, Pin]:
    reading = PickleReading(protocol=4, globals=tuple(sorted(names)), **found)
    return {pin.distribution: pin for pin in pins_of_pickle(reading, joblib)}


def requirements(
    *inferred: Pin,
    user: str = "",
    python: str = "",
    need: PythonConstraint | None = None,
    available: tuple[str, ...] = ("3.11", "3.12", "3.10"),
    **further: Any,
) -> Requirements:
    return requirements_for(
        Inspection(Format.PICKLE, pins=inferred, python=need),
        user_requirements=user,
        python_version=python,
        available_pythons=available,
        **further,
    )


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("sklearn.linear_model", "scikit-learn"),
        ("cv2", "opencv-python-headless"),
        ("PIL.Image", "pillow"),
        ("imblearn.pipeline", "imbalanced-learn"),
        ("lightgbm.sklearn", "lightgbm"),
        ("quantile_forest", "quantile-forest"),
        ("acme_models.churn", None),
        ("collections", None),
        ("builtins", None),
        ("__builtin__", None),
        ("__main__", None),
        ("_codecs", None),
    ],
)
def test_only_the_table_maps_modules_to_distributions(module: str, expected: str | None) -> None:
    assert distribution_of(module) == expected


def test_the_version_of_scikit_learn_is_exact() -> None:
    assert pins(LINEAR, sklearn_versions=("1.9.0",)) == {
        "scikit-learn": Pin("scikit-learn", "==1.9.0", "`_sklearn_version` in the file is 1.9.0")
    }


def test_of_several_versions_the_newest_counts_and_all_are_named() -> None:
    pin = pins(LINEAR, sklearn_versions=("1.10.0", "1.9.0"))["scikit-learn"]
    assert pin.specifier == "==1.10.0"
    assert "1.10.0 and 1.9.0" in pin.evidence


def test_without_a_version_the_import_is_the_evidence() -> None:
    pin = pins(LINEAR)["scikit-learn"]
    assert pin.specifier == ""
    assert LINEAR in pin.evidence


@pytest.mark.parametrize(
    ("name", "version", "specifier"),
    [
        ("numpy._core.multiarray.scalar", "1.5.2", ">=2"),
        ("numpy.core.multiarray.scalar", "1.5.2", "<2"),
        ("numpy.ndarray", "1.2.2", "<2"),
        ("numpy.ndarray", "1.4.1.post1", "<2"),
    ],
)
def test_the_generation_of_numpy_is_recognised(name: str, version: str, specifier: str) -> None:
    assert pins(LINEAR, name, sklearn_versions=(version,))["numpy"].specifier == specifier


def test_a_newer_scikit_learn_chooses_its_numpy_itself() -> None:
    assert "numpy" not in pins(LINEAR, "numpy.ndarray", sklearn_versions=("1.4.2",))


def test_numpy_alone_is_needed_by_its_import() -> None:
    assert pins("numpy.ndarray")["numpy"].specifier == ""


def test_other_libraries_are_needed_by_their_import() -> None:
    found = pins("xgboost.sklearn.XGBClassifier")
    assert found["xgboost"].requirement == "xgboost"
    assert "xgboost.sklearn.XGBClassifier" in found["xgboost"].evidence


def test_an_unknown_module_becomes_no_requirement() -> None:
    assert pins("acme.Model", "_evil.Model", "scikit_learn.Model") == {}
    assert unknown_modules_of(("acme.a.Model", "acme.b.Model", "os.system", "sklearn.svm._classes.SVC")) == ("acme",)


def test_a_path_of_attributes_is_an_import_of_its_module() -> None:
    assert set(pins("xgboost.sklearn:XGBModel.load")) == {"xgboost"}
    assert unknown_modules_of(("acme.models:Model.load",)) == ("acme",)


def test_named_columns_need_pandas_and_joblib_files_joblib() -> None:
    encoder = "sklearn.preprocessing._encoders.OneHotEncoder"
    found = pins(LINEAR, encoder, sklearn_versions=("1.9.0",), feature_names=("age",), joblib=True)
    assert set(found) == {"scikit-learn", "pandas", "joblib"}
    assert "named columns" in found["pandas"].evidence


def test_a_model_of_numbers_only_does_not_need_pandas() -> None:
    scaler = "sklearn.preprocessing._data.StandardScaler"
    found = pins(LINEAR, scaler, "numpy.dtype", sklearn_versions=("1.9.0",), feature_names=("age",))
    assert "pandas" not in found


def test_a_model_whose_steps_hand_on_dataframes_needs_pandas() -> None:
    assert "pandas" in pins(LINEAR, sklearn_versions=("1.9.0",), feature_names=("age",), sets_output=True)


@pytest.mark.parametrize(
    ("counts", "specifier"), [((18,), ">=3.11"), ((16,), ">=3.8,<3.11"), ((16, 18), ">=3.8,<3.11,>=3.11")]
)
def test_code_objects_reveal_their_python_version(counts: tuple[int, ...], specifier: str) -> None:
    need = python_need_of(PickleReading(protocol=5, globals=(), code_arguments=counts))
    assert need is not None
    assert need.specifier == specifier
    assert str(counts[0]) in need.evidence


def test_a_pickle_without_code_objects_says_nothing_of_python() -> None:
    assert python_need_of(PickleReading(protocol=5, globals=())) is None


@pytest.mark.parametrize(
    ("ir_version", "opsets", "specifier"),
    [
        (8, {"ai.onnx": 17}, ">=1.12"),
        (10, {"ai.onnx": 17}, ">=1.18"),
        (8, {"ai.onnx": 9, "ai.onnx.ml": 4}, ">=1.17"),
        (8, {"ai.onnx": 22, "ai.onnx.ml": 3}, ">=1.21"),
        (3, {"ai.onnx": 9, "ai.onnx.ml": 1}, ""),
        (8, {"com.example": 17}, ""),
    ],
)
def test_onnx_versions_bound_the_runtime(ir_version: int, opsets: dict[str, int], specifier: str) -> None:
    runtime, numpy = pins_of_onnx(OnnxReading(ir_version, "", opsets, (), ()))
    assert runtime.requirement == f"onnxruntime{specifier}"
    assert numpy.requirement == "numpy"


def test_inferred_and_runtime_packages_are_required() -> None:
    asked = requirements(SKLEARN, extra_packages=("msgspec>=0.18",))
    assert asked.packages == ("scikit-learn==1.2.2", "msgspec>=0.18")
    assert [pin.evidence for pin in asked.pins] == [SKLEARN.evidence, "needed by the PRISM runtime"]


def test_the_owners_requirements_take_precedence() -> None:
    asked = requirements(SKLEARN, user="Scikit_Learn == 1.3.2  # tried\n\n# a comment\nacme[fast]>=1\n")
    assert asked.packages == ("Scikit_Learn==1.3.2", "acme[fast]>=1")
    assert {pin.evidence for pin in asked.pins} == {"given by the owner"}


def test_the_runtimes_requirements_override_no_others() -> None:
    numpy = Pin("numpy", "<2", "…")
    asked = requirements(numpy, user="MsgSpec<1", extra_packages=("msgspec>=0.18", "numpy>=1.19"))
    assert asked.packages == ("MsgSpec<1", "numpy<2")


def test_two_bounds_and_markers_of_the_owner_are_kept() -> None:
    text = "pandas>=2\npandas<3\ntomli>=2 ; python_version < '3.11'\nscipy>=1, \\\n <2"
    packages = requirements(user=text).packages
    assert packages == ("pandas>=2", "pandas<3", 'tomli>=2; python_version < "3.11"', "scipy<2,>=1")


@pytest.mark.parametrize(
    ("line", "telling"),
    [
        ("scikit-learn=1.0", "`scikit-learn==1.0`"),
        ("scikit-learn 1.0", "`scikit-learn==1.0`"),
        ("pandas@2.0", "`pandas==2.0`"),
        ("-r other.txt", "option"),
        ("--index-url https://example.com/simple", "option"),
        ("-e .", "option"),
        ("./wheels/acme-1-py3-none-any.whl", "path"),
        ("acme-1-py3-none-any.whl", "path"),
        ("/srv/acme", "path"),
        ("acme @ https://example.com/acme.whl", "URL"),
        ("git+https://example.com/acme.git", "URL"),
        ("import pandas as pd", "Give one package per line"),
        ("numpy>=", "Give one package per line"),
    ],
)
def test_an_invalid_requirement_is_reported_with_its_fix(line: str, telling: str) -> None:
    with pytest.raises(BadInput) as caught:
        requirements(user=f"numpy\n{line}\n")
    assert f"`{line}`" in caught.value.detail
    assert telling in str(caught.value)


@given(st.one_of(st.text(max_size=60), st.text("ab=<>~!,;[]()@/.-_ #'\"\\\n123", max_size=40)))
def test_any_text_gives_requirements_or_a_clear_error(text: str) -> None:
    try:
        packages = requirements(user=text).packages
    except BadInput:
        return
    for package in packages:
        assert "\n" not in package
        assert not package.startswith("-")
        assert Requirement(package).url is None


@pytest.mark.parametrize(("text", "expected"), [("3.12", ("3.12",)), (" 3.10.13 ", ("3.10",))])
def test_the_owner_chooses_the_python(text: str, expected: tuple[str, ...]) -> None:
    asked = requirements(python=text)
    assert asked.pythons == expected
    assert expected[0] in asked.python_evidence


@pytest.mark.parametrize("text", ["four", "2.7", "3", "3.11.x", "3.1111", ">=3.11", "３.11", "3.11\n3.12"])
def test_an_invalid_python_version_is_rejected(text: str) -> None:
    with pytest.raises(BadInput, match="is not a version of Python 3"):
        requirements(python=text)


def test_the_artifact_narrows_the_pythons_in_their_order() -> None:
    asked = requirements(need=PythonConstraint(">=3.11", "code objects"))
    assert asked.pythons == ("3.11", "3.12")
    assert asked.python_evidence == "code objects"


def test_without_a_constraint_the_servers_order_of_pythons_applies() -> None:
    asked = requirements()
    assert asked.pythons == ("3.11", "3.12", "3.10")
    assert "does not name" in asked.python_evidence


@pytest.mark.parametrize(
    ("python", "need", "told"),
    [
        ("3.9", None, ["3.9", "3.11, 3.12, 3.10"]),
        ("", PythonConstraint(">=3.13", "code objects"), [">=3.13", "code objects", "3.11, 3.12, 3.10"]),
        ("3.10", PythonConstraint(">=3.11", "code objects"), ["3.10", ">=3.11", "Leave the version of Python out"]),
    ],
)
def test_if_no_python_fits_the_error_names_the_constraints_and_the_available_versions(
    python: str, need: PythonConstraint | None, told: list[str]
) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        requirements(python=python, need=need)
    assert caught.value.hint
    for text in told:
        assert text in str(caught.value)


def test_only_lz4_needs_a_package_to_be_read() -> None:
    assert [pin.distribution for pin in pins_of_compression("lz4")] == ["lz4"]
    assert all(pins_of_compression(name) == () for name in ("", "zlib", "gzip", "bz2", "lzma", "xz"))


def test_the_number_of_requirement_lines_is_limited() -> None:
    with pytest.raises(BadInput, match="names 1001 packages, but at most 1000 are allowed"):
        with_requirements((), "\n".join(f"a{number}" for number in range(1001)), "requirements.txt")
