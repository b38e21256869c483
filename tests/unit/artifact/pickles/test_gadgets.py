"""Names in well-known libraries that run, open or import things, found by walking what the allow-lists admit.

Each was let through without a word once, or lies next to one that was. None may be used without consent.
"""

from __future__ import annotations

import io
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer

from app.artifact.archives.zip_index import Member
from app.artifact.inspection import inspect
from app.artifact.pickles import read_pickle
from app.artifact.unsafe_globals import danger, dangers_of

ALIASES = (
    # what a module has only because it imports it
    "category_encoders.hashing.ProcessPoolExecutor",
    "xgboost.sklearn.ThreadPoolExecutor",
    "xgboost.federated.Thread",
    "statsmodels.graphics.functional.Pool",
    "lightgbm.basic.NamedTemporaryFile",
    "lightgbm.dask.Client",
    "imblearn.datasets._zenodo.BytesIO",
    "mlxtend.feature_selection.exhaustive_feature_selector.Parallel",
    "pandas.core.frame.StringIO",
    "sklearn.utils.extmath.partial",
    "sklearn.utils.validation.reduce",
    "sklearn.utils.validation.wraps",
    "sklearn.gaussian_process._gpc.itemgetter",
    "sklearn.gaussian_process.kernels.lru_cache",
    "sklearn.gaussian_process.kernels.namedtuple",
    "sklearn.feature_selection._rfe.effective_n_jobs",
    "sklearn.feature_selection._from_model.deepcopy",
    "sklearn.metrics._scorer.format_exc",
    "sklearn.metrics._classification.nullcontext",
    "sklearn.cluster._mean_shift.defaultdict",
    "joblib.memory.Memory",
    "joblib.parallel.subprocess",
    "joblib.externals.loky.process_executor.ProcessPoolExecutor",
    "numpy.f2py.os",
    "sklearn.utils:os.system",
    "sklearn:base.os.system",
    "numpy:core._internal.ctypes.CDLL",
)
NOT_FUNCTIONS = (
    "lightgbm.sklearn.__builtins__",
    "lightgbm.sklearn.__loader__",
    "sklearn.metrics.pairwise.__builtins__",
    "scipy.special.__builtins__",
    "numpy.core.multiarray.__class__",
    "builtins.__import__",
    "__main__.__builtins__",
    "__main__.__loader__",
    "sklearn.base.__subclasses__",
    "lightgbm.sklearn.warnings",
    "lightgbm.basic._LIB",
    "sklearn.metrics.pairwise.warnings",
    "sklearn.cluster._kmeans.np",
    "scipy.special._basic",
    "torch.nn.functional.importlib",
    "numpy.matrixlib.defmatrix.N",
    "numpy._core._simd.X86_V3",
)
RUNS = (
    "psutil.Popen",
    "gevent.subprocess.Popen",
    "subprocess.Popen",
    "os.system",
    "operator.methodcaller",
    "operator.attrgetter",
    "functools.reduce",
    "itertools.starmap",
    "builtins.map",
    "builtins.filter",
    "builtins.getattr",
    "builtins.type",
    "types.FunctionType",
    "numpy.testing._private.utils.runstring",
    "numpy.load",
    "numpy.vectorize",
    "numpy.distutils.ccompiler.CCompiler",
    "numpy.lib._datasource.DataSource",
    "scipy.io.loadmat",
    "scipy.stats._distn_infrastructure.rv_continuous",
    "statsmodels.distributions.discrete.DiscretizedCount",
    "sklearn.utils._testing.check_skip_network",
    "sklearn.datasets.load_files",
    "sklearn.metrics.get_scorer",
    "pandas.read_pickle",
    "pandas.eval",
    "pandas.HDFStore",
    "pandas.ExcelFile",
    "pandas.io.pytables.HDFStore",
    "pandas.core.computation.eval.eval",
    "xgboost.tracker.RabitTracker",
    "xgboost.core.DataIter",
    "xgboost.dask.DaskXGBClassifier",
    "lightgbm.dask.DaskLGBMClassifier",
    "catboost.core.Pool",
    "catboost.utils.read_cd",
    "torch.load",
    "torch.hub.load",
    "torch.utils.cpp_extension.load_inline",
    "torch.utils.collect_env.run",
    "torch.jit._script.CompilationUnit",
    "torch.distributed.rpc.PyRRef",
    "joblib.load",
    "joblib.parallel.Parallel",
    "mlflow.projects.submitted_run.LocalSubmittedRun",
    "patsy.eval.EvalEnvironment",
    "requests.sessions.Session",
    "evilpkg.Model",
)


@pytest.mark.parametrize("name", [*ALIASES, *NOT_FUNCTIONS, *RUNS])
def test_the_name_of_a_gadget_alone_requires_consent(name: str) -> None:
    assert danger(name)


def dangers(content: bytes) -> set[str]:
    return {one.name for one in dangers_of(read_pickle(Member(content)))}


class Called:
    """Pickled as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = function, args

    def __reduce__(self) -> Any:
        return self.reduced


POPEN = b"cpsutil\nPopen\n"
PARTIAL = b"cfunctools\npartial\n"
CLASS = b"csklearn.svm._classes\nSVC\n"
HELD = {
    "a program in a partial": pickle.dumps(partial(psutil.Popen, ["true"])),
    "in a transformer": pickle.dumps(FunctionTransformer(partial(psutil.Popen, ["true"]))),
    "in an array": pickle.dumps(np.array([partial(psutil.Popen)], object)),
    "a class in a partial": b"\x80\x02" + PARTIAL + CLASS + b"\x85R.",
    "by NEWOBJ": b"\x80\x02" + PARTIAL + CLASS + b"\x85\x81.",
    "by its state": b"\x80\x02" + PARTIAL + b"cnumpy\nlog\n\x85R(" + CLASS + b")}Ntb.",
    "by a state that is no tuple": b"\x80\x02" + PARTIAL + b"cnumpy\nlog\n\x85R}b.",
    "what a call gave": b"\x80\x02" + PARTIAL + b"clogging\ngetLogger\n)R\x85R.",
    "a base of copyreg": b"\x80\x02ccopyreg\n_reconstructor\n" + PARTIAL + PARTIAL + CLASS + b"\x87R.",
    "a factory of a defaultdict": b"\x80\x02ccollections\ndefaultdict\n" + CLASS + b"\x85R.",
    "a factory set later": b"\x80\x02ccollections\ndefaultdict\n)R(N}X\x0f\x00\x00\x00default_factory" + CLASS + b"stb.",
    "a logger that others share": b"\x80\x02clogging\ngetLogger\n)R}b.",
    "a partial of partials": pickle.dumps(partial(partial(psutil.Popen), ["true"])),
}  # fmt: skip


@pytest.mark.parametrize("way", HELD)
def test_stored_callables_are_known_functions_or_need_consent(way: str) -> None:
    assert dangers(HELD[way])


@pytest.mark.parametrize(
    "value",
    [partial(np.clip, 0, 1), partial(partial(np.round, decimals=1)), partial(max, 0), FunctionTransformer(np.log1p)],
)
def test_known_functions_may_be_stored(value: Any) -> None:
    assert dangers(pickle.dumps(value)) == set()


def test_functions_of_the_training_script_may_be_stored() -> None:
    """Their code is their owner's, and refused as missing without it."""
    assert dangers(b"\x80\x02" + PARTIAL + b"c__main__\nclean\n\x85R.") == set()


@pytest.mark.parametrize(
    ("formula", "harmless"),
    [
        ("y ~ a + np.log(b) + C(k, Treatment(reference='x'))", True),
        ("y ~ I(a**2) - 1 + a:b", True),
        ("y ~ __import__('os').system('true')", False),
        ("y ~ exec ('1')", False),
        ("y ~ a .b (1)", False),
        ("np.load('x') ~ 1", False),
    ],
)
def test_a_formula_uses_only_columns_or_needs_consent(formula: str, harmless: bool) -> None:
    state = pickle.dumps({"formula": formula, "restore_design_info": True}, 2)[2:-1]
    content = b"\x80\x02cstatsmodels.base.data\nPandasData\n)\x81" + state + b"b."
    assert (dangers(content) == set()) is harmless


@pytest.mark.parametrize("made_by_a_call", [False, True])
def test_the_filters_of_state_space_models_need_no_consent(made_by_a_call: bool) -> None:
    name = b"cstatsmodels.tsa.statespace._kalman_filter\ndKalmanFilter\n"
    assert dangers(b"\x80\x02" + name + (b")R." if made_by_a_call else b".")) == set()
    assert dangers(b"\x80\x02" + name.replace(b"dKalmanFilter", b"dkalman_filter") + b".")


@pytest.mark.parametrize("key", [Called(str, b"formula", "ascii"), np.str_("formula")])
def test_a_formula_under_a_key_that_is_computed_needs_consent(key: Any) -> None:
    class Hidden(dict):  # type: ignore[type-arg]
        def __reduce__(self) -> Any:
            return dict, (), None, None, iter([(key, "exec('1')")])

    state = pickle.dumps(Hidden(), 2)[2:-1]
    assert "formula" in dangers(b"\x80\x02cstatsmodels.base.data\nPandasData\n)\x81" + state + b"b.")


def test_a_partial_in_a_skops_file_is_judged_by_what_it_calls(tmp_path: Path) -> None:
    def named(function: Any) -> set[str]:
        file = io.BytesIO()
        skops.io.dump(FunctionTransformer(partial(function, 1)), file)
        (tmp_path / "x.skops").write_bytes(file.getvalue())
        return {one.name for one in inspect(tmp_path / "x.skops", "x.skops").dangers}

    assert named(np.add) == set()
    assert named(FunctionTransformer) == {"sklearn.preprocessing._function_transformer.FunctionTransformer"}
