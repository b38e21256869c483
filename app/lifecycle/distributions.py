"""Which distribution of the package index provides a module that an artifact imports."""

from __future__ import annotations

import sys
from typing import Final

SAME_NAME: Final = frozenset(
    (
        "catboost",
        "cloudpickle",
        "darts",
        "dask",
        "dill",
        "econml",
        "flaml",
        "gensim",
        "hdbscan",
        "implicit",
        "interpret",
        "joblib",
        "keras",
        "lifelines",
        "lightfm",
        "lightgbm",
        "lime",
        "mapie",
        "mlflow",
        "mlxtend",
        "networkx",
        "ngboost",
        "nltk",
        "numba",
        "numpy",
        "onnx",
        "onnxruntime",
        "optuna",
        "pandas",
        "patsy",
        "pmdarima",
        "polars",
        "prophet",
        "pyarrow",
        "pygam",
        "pyod",
        "pytz",
        "scipy",
        "seaborn",
        "shap",
        "skl2onnx",
        "skops",
        "sktime",
        "spacy",
        "statsforecast",
        "statsmodels",
        "tensorflow",
        "torch",
        "torchvision",
        "tpot",
        "transformers",
        "tsfresh",
        "xarray",
        "xgboost",
    )
)
"""Modules whose distribution bears their name."""

OTHER_NAME: Final = {
    "bs4": "beautifulsoup4",
    "category_encoders": "category-encoders",
    "cv2": "opencv-python-headless",  # the same module without a window system, which no server has
    "dateutil": "python-dateutil",
    "feature_engine": "feature-engine",
    "fasttext": "fasttext-wheel",
    "imblearn": "imbalanced-learn",
    "PIL": "pillow",
    "pytorch_lightning": "pytorch-lightning",
    "pytorch_tabnet": "pytorch-tabnet",
    "sentence_transformers": "sentence-transformers",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "sklearn_pandas": "sklearn-pandas",
    "skopt": "scikit-optimize",
    "sksurv": "scikit-survival",
    "umap": "umap-learn",
    "yaml": "PyYAML",
}
UNSAID: Final = {"xgboost.sklearn.": "scikit-learn", "lightgbm.sklearn.": "scikit-learn"}
"""Estimators that do not load without another distribution, which their own does not ask for."""

NOT_INSTALLED: Final = sys.stdlib_module_names | {"__main__", "__builtin__", "copy_reg", "__mp_main__"}
"""Of Python itself, of Python 2 as pickles of protocol 0 to 2 name it, or of the author's own program."""


def distribution_of(module: str) -> tuple[str, bool] | None:
    """(distribution, whether it is certain) for a module such as `sklearn.linear_model`.

    An unknown module is taken to be in a distribution of its own name, which is not certain.
    None for the standard library, `builtins` and `__main__`.
    """
    top = module.partition(".")[0]
    if top in NOT_INSTALLED:
        return None
    if top in OTHER_NAME:
        return OTHER_NAME[top], True
    return top, top in SAME_NAME
