"""Maps modules that artifacts import to distributions of the package index: by a shipped table, never by a guess.

Whoever owns a name on the index decides what is installed by it. So a name that a file brings along, a module's or a
requirement's, is asked for only if it stands here; every other one needs the owner's word, who names the package.
"""

from __future__ import annotations

import sys
from typing import Final

from packaging.utils import canonicalize_name

_SAME_NAME: Final = """
autogluon catboost cloudpickle darts dask deslib dill econml einops eli5 flaml flax gensim gplearn h5py hdbscan
hmmlearn hyperopt imodels implicit interpret jax joblib keras kmodes lifelines lightfm lightgbm lightning lime mapie
matplotlib mlflow mlforecast mlxtend networkx ngboost nltk numba numpy onnx onnxmltools onnxruntime optuna orjson
pandas patsy peft plotly pmdarima polars prophet pyarrow pycaret pydantic pygam pyod pytz quantile_forest rapidfuzz
regex requests river safetensors scipy seaborn sentencepiece shap skl2onnx skops skorch skrub sktime spacy
statsforecast statsmodels sympy tabulate tensorflow textblob threadpoolctl timm tokenizers torch torchaudio
torchmetrics torchvision tpot tqdm transformers tsfresh tslearn xarray xgboost
"""
SAME_NAME: Final = frozenset(_SAME_NAME.split())
"""Modules whose distribution bears their name."""

OTHER_NAME: Final = {
    "bayes_opt": "bayesian-optimization",
    "bs4": "beautifulsoup4",
    "category_encoders": "category-encoders",
    "cv2": "opencv-python-headless",  # the same module without a window system, which no server has
    "_catboost": "catboost",
    "dateutil": "python-dateutil",
    "dirty_cat": "dirty-cat",
    "feature_engine": "feature-engine",
    "fasttext": "fasttext-wheel",
    "huggingface_hub": "huggingface-hub",
    "imblearn": "imbalanced-learn",
    "PIL": "pillow",
    "pycrfsuite": "python-crfsuite",
    "pytorch_lightning": "pytorch-lightning",
    "pytorch_tabnet": "pytorch-tabnet",
    "sentence_transformers": "sentence-transformers",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "sklearn_crfsuite": "sklearn-crfsuite",
    "sklearn_extra": "scikit-learn-extra",
    "sklearn_pandas": "sklearn-pandas",
    "sklego": "scikit-lego",
    "skopt": "scikit-optimize",
    "sksurv": "scikit-survival",
    "surprise": "scikit-surprise",
    "umap": "umap-learn",
    "yaml": "PyYAML",
}
UNDECLARED: Final = {"xgboost.sklearn.": "scikit-learn", "lightgbm.sklearn.": "scikit-learn"}
"""Estimators that do not load without another distribution, which their own does not ask for."""

_OTHER_BUILDS: Final = """
dask-ml interpret-core jaxlib mlflow-skinny mlflow-tracing onnxruntime-directml onnxruntime-gpu onnxruntime-openvino
onnxruntime-qnn onnxruntime-rocm opencv-contrib-python opencv-contrib-python-headless opencv-python tensorflow-cpu tf-
keras xgboost-cpu
"""
OTHER_BUILDS: Final = frozenset(_OTHER_BUILDS.split())
"""Distributions that hold the same modules in another build, or parts of them."""

_TOOLS: Final = """
absl-py accelerate aiohttp attrs black blinker boto3 botocore cachetools certifi cffi charset-normalizer click
colorama comm configparser coverage cryptography cython databricks-sdk datasets debugpy decorator defusedxml docker
entrypoints evaluate fastapi filelock flask fsspec gitpython google-auth googleapis-common-protos graphene greenlet
grpcio gunicorn httpx hypothesis idna importlib-metadata importlib-resources ipykernel ipython itsdangerous jinja2
jsonschema jupyter-client jupyter-core llvmlite lz4 mako markdown markupsafe ml-dtypes msgspec multidict mypy
mypy-extensions narwhals nbconvert nbformat nltk notebook oauthlib openpyxl opentelemetry-api opentelemetry-sdk
opt-einsum packaging pexpect pip platformdirs pluggy prometheus-client prompt-toolkit protobuf psutil py4j pyasn1
pybind11 pydantic-core pygments pyparsing pytest python-dotenv querystring-parser rich ruff s3fs sacremoses setuptools
six smart-open smmap sqlalchemy sqlparse starlette tblib tenacity termcolor toml tomli toolz tornado traitlets typer
typing-extensions typing-inspection tzdata ujson urllib3 uvicorn websocket-client werkzeug wheel wrapt zipp zstandard
"""
TOOLS: Final = frozenset(_TOOLS.split())
"""Distributions that models' requirements list beside their libraries, as MLflow does. No module maps to them."""

NOT_INSTALLED: Final = sys.stdlib_module_names | {"__main__", "__builtin__", "copy_reg", "__mp_main__"}
"""Modules of Python itself, of Python 2 as pickles of protocol 0 to 2 name it, or of the author's own program."""

KNOWN: Final = frozenset(map(canonicalize_name, (*SAME_NAME, *OTHER_NAME.values(), *OTHER_BUILDS, *TOOLS)))


def distribution_of(module: str) -> str | None:
    """Return the distribution that the table names for a module such as `sklearn.linear_model`, or None."""
    top = top_of(module)
    if top in SAME_NAME:
        return canonicalize_name(top) if "_" in top else top
    return OTHER_NAME.get(top)


def is_unknown(module: str) -> bool:
    """Return whether a module is neither of Python nor of a distribution that the table knows."""
    return top_of(module) not in NOT_INSTALLED and distribution_of(module) is None


def is_known(distribution: str) -> bool:
    """Return whether a requirement that came with an artifact may be installed without anybody's word."""
    return canonicalize_name(distribution) in KNOWN


def top_of(module: str) -> str:
    return module.partition(":")[0].partition(".")[0]
