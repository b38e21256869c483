"""Tables of the names that a pickle may import without anybody's consent. `unsafe_globals` judges by them.

Found by reading the pickles of every estimator of these libraries, and by looking in the libraries for what else the
patterns would admit. Where a module takes over names from elsewhere (`from subprocess import Popen`), a pickle of a
model never uses them: it names a class by the module that defines it.
"""

from __future__ import annotations

import re
from typing import Final

CLASS_NAME: Final = re.compile(r"(?!_*[A-Z]$|_*[A-Z0-9]+_[A-Z0-9_]*$)_*[A-Z]\w*")
"""The names of classes; a letter alone and WORDS_IN_CAPITALS are modules and constants."""

BUILTIN_TYPES: Final = frozenset(
    f"builtins.{name}"
    for name in (
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset"),
        *("int", "list", "object", "range", "set", "slice", "str", "tuple"),
    )
)
CONTAINERS: Final = BUILTIN_TYPES | {"collections.Counter", "collections.OrderedDict", "collections.deque"}
STANDARD: Final = CONTAINERS | {
    *("_codecs.encode", "array._array_reconstructor", "array.array", "collections.defaultdict"),
    *("copyreg._reconstructor", "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta"),
    *("datetime.timezone", "decimal.Decimal", "fractions.Fraction", "functools.partial", "logging.getLogger"),
    *("operator.itemgetter", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath"),
    *("pathlib.PureWindowsPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "random.Random"),
    *("re._compile", "types.SimpleNamespace", "uuid.UUID"),
    *("builtins.Ellipsis", "builtins.NotImplemented", "builtins.NoneType"),
}
PURE_FUNCTIONS: Final = frozenset(
    f"builtins.{name}" for name in ("abs", "all", "any", "len", "max", "min", "round", "sorted", "sum")
)

NUMPY_FUNCTIONS: Final = frozenset(
    f"numpy.{name}"
    for name in (
        *("abs", "absolute", "add", "all", "any", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2"),
        *("arctanh", "argmax", "argmin", "around", "array", "asarray", "average", "bool", "bool_", "cbrt", "ceil"),
        *("clip", "concatenate", "cos", "cosh", "deg2rad", "degrees", "divide", "dot", "dtype", "exp", "exp2"),
        *("expm1", "float16", "float32", "float64", "floor", "hypot", "int16", "int32", "int64", "int8", "isfinite"),
        *("isinf", "isnan", "log", "log10", "log1p", "log2", "longdouble", "max", "maximum", "mean", "median"),
        *("min", "minimum", "mod", "multiply", "nan_to_num", "nanmax", "nanmean", "nanmedian", "nanmin", "nanstd"),
        *("nansum", "ndarray", "negative", "object_", "percentile", "power", "prod", "quantile", "rad2deg"),
        *("radians", "ravel", "reciprocal", "reshape", "rint", "round", "sign", "sin", "sinh", "sqrt", "square"),
        *("squeeze", "std", "str_", "subtract", "sum", "tan", "tanh", "transpose", "uint16", "uint32", "uint64"),
        *("uint8", "var", "where", "bytes_", "complex128", "complex64", "datetime64", "timedelta64", "matrix"),
    )
)

_SCIPY_SPECIAL: Final = """
bdtr bdtrc bdtri bei beip ber berp beta betainc betaincc betaincinv betaln binom boxcox boxcox1p btdtr btdtri cbrt
chdtr chdtrc chdtri comb cosdg cosm1 cotdg dawsn digamma ellipe ellipk entr erf erfc erfcinv erfcx erfi erfinv exp1
exp10 exp2 expi expit expm1 expn exprel factorial fdtr fdtrc fdtri gamma gammainc gammaincc gammainccinv gammaincinv
gammaln gammasgn gdtr gdtrc hankel1 hankel2 huber hyp0f1 hyp1f1 hyp2f1 i0 i0e i1 i1e inv_boxcox inv_boxcox1p iv ive j0
j1 jn jv jve k0 k0e k1 k1e kei kelvin ker kl_div kn kolmogi kolmogorov kv kve lambertw log1p log_expit log_ndtr
log_softmax loggamma logit logsumexp multigammaln nbdtr nbdtrc nbdtri ndtr ndtri ndtri_exp owens_t pdtr pdtrc pdtri
perm poch polygamma powm1 pseudo_huber psi radian rel_entr rgamma round sindg softmax softplus spence stdtr stdtridf
stdtrit tandg voigt_profile wofz wrightomega xlog1py xlogy y0 y1 yn yv zeta zetac
"""
SCIPY_SPECIAL: Final = _SCIPY_SPECIAL.split()

_SKLEARN_FUNCTIONS: Final = """
_identity _kmeans_single_elkan _kmeans_single_lloyd _passthrough_scorer accuracy_score add_dummy_feature
additive_chi2_kernel adjusted_mutual_info_score adjusted_rand_score auc average_precision_score
balanced_accuracy_score binarize brier_score_loss calinski_harabasz_score chi2 chi2_kernel class_likelihood_ratios
classification_report cohen_kappa_score completeness_score confusion_matrix consensus_score cosine_distances
cosine_similarity coverage_error d2_absolute_error_score d2_brier_score d2_log_loss_score d2_pinball_score
d2_tweedie_score davies_bouldin_score dcg_score det_curve euclidean_distances explained_variance_score f1_score
f_classif f_oneway f_regression fbeta_score fowlkes_mallows_score hamming_loss haversine_distances hinge_loss
homogeneity_completeness_v_measure homogeneity_score jaccard_score label_ranking_average_precision_score
label_ranking_loss laplacian_kernel linear_kernel log_loss manhattan_distances matthews_corrcoef max_error
maxabs_scale mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss
mean_poisson_deviance mean_squared_error mean_squared_log_error mean_tweedie_deviance median_absolute_error
minmax_scale multilabel_confusion_matrix mutual_info_classif mutual_info_regression mutual_info_score
nan_euclidean_distances ndcg_score negative_likelihood_ratio normalize normalized_mutual_info_score
pair_confusion_matrix paired_cosine_distances paired_distances paired_euclidean_distances paired_manhattan_distances
pairwise_distances pairwise_distances_argmin pairwise_kernels polynomial_kernel positive_likelihood_ratio
power_transform precision_recall_curve precision_recall_fscore_support precision_score quantile_transform r2_score
r_regression rand_score rbf_kernel recall_score robust_scale roc_auc_score roc_curve root_mean_squared_error
root_mean_squared_log_error scale sigmoid_kernel silhouette_samples silhouette_score top_k_accuracy_score
v_measure_score zero_one_loss
"""
SKLEARN_FUNCTIONS: Final = _SKLEARN_FUNCTIONS.split()

_TORCH_FUNCTIONS: Final = """
abs adaptive_avg_pool1d adaptive_avg_pool2d avg_pool1d avg_pool2d binary_cross_entropy
binary_cross_entropy_with_logits cat celu conv1d conv2d conv3d cosine_similarity cross_entropy dropout elu embedding
exp flatten gelu glu hardsigmoid hardswish hardtanh huber_loss instance_norm kl_div l1_loss layer_norm leaky_relu
linear log log_softmax logsigmoid max max_pool1d max_pool2d mean min mish mse_loss nll_loss normalize one_hot pad
pairwise_distance prelu relu relu6 rrelu selu sigmoid silu smooth_l1_loss softmax softmin softplus softshrink softsign
squeeze stack sum tanh tanhshrink threshold unsqueeze
"""
TORCH_FUNCTIONS: Final = _TORCH_FUNCTIONS.split()

FUNCTIONS: Final = (
    PURE_FUNCTIONS
    | NUMPY_FUNCTIONS
    | {f"scipy.special{part}.{name}" for part in ("", "._ufuncs", "._basic", "._logsumexp") for name in SCIPY_SPECIAL}
    | {f"torch{part}.{name}" for part in ("", ".nn.functional", "._C._nn") for name in TORCH_FUNCTIONS}
    | {f"sklearn.utils.extmath.{name}" for name in ("density", "row_norms", "safe_sqr", "softmax", "squared_norm")}
    | {f"sklearn.utils.validation.{name}" for name in ("check_array", "column_or_1d")}
)
"""Functions that only compute: whatever they are given, they open, start and import nothing."""

FUNCTION_PARTS: Final = re.compile(
    r"sklearn\.(metrics|feature_selection|cluster|neighbors|preprocessing|gaussian_process)(\.\w+)*"
    rf"\.({'|'.join(SKLEARN_FUNCTIONS)})"
)

REBUILDERS: Final = frozenset(
    {
        "joblib.numpy_pickle.NumpyArrayWrapper",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._interpolate.interp1d",
        "scipy.sparse._coo.coo_matrix",
        "scipy.spatial._ckdtree.cKDTree",
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"numpy.random._pickle.__{name}_ctor" for name in ("bit_generator", "generator", "randomstate")),
        "numpy.ma.core._mareconstruct",
        *(f"torch._utils._rebuild_{kind}" for kind in ("parameter", "parameter_with_state", "tensor", "tensor_v2")),
        *(f"torch._utils._rebuild_{kind}" for kind in ("qtensor", "sparse_tensor", "meta_tensor_no_storage")),
        *("torch.device", "torch.Size", "torch.serialization._get_layout"),
        # Texts of pandas 3 are arrays of Arrow where pyarrow is installed.
        *(f"pyarrow.lib.{name}" for name in ("_restore_array", "chunked_array", "py_buffer", "type_for_alias")),
        *(f"pyarrow.lib.{name}" for name in ("decimal128", "dictionary", "duration", "list_", "time64", "timestamp")),
    }
)
"""Functions and small classes that libraries' pickles call to make what they hold."""

CALLED: Final = re.compile(
    r"sklearn\.tree\._(tree|criterion|splitter)\.[A-Z]\w*|sklearn\._loss\.\w+\.[A-Z]\w*"
    r"|sklearn\.linear_model\._?sgd_fast\.[A-Z]\w*|sklearn\.(neighbors|metrics)\.[\w.]+\.newObj"
    r"|numpy\.random\._\w+\.(MT19937|PCG64|PCG64DXSM|Philox|SFC64)|numpy\.dtypes\.[A-Z]\w*|numpy\.dtype"
    r"|pandas\.core\.internals\.managers\.(Single)?BlockManager|pandas\.(core\.dtypes\.dtypes\.)?[A-Z]\w*Dtype"
    r"|pandas\.(core\.indexes|_libs)\.[\w.]+\.(_new_[A-Z]\w*|_unpickle_\w+|_timedelta_unpickle)"
    r"|pandas\._libs\.(interval\.Interval|tslibs\.offsets\.[A-Z]\w*)"
    r"|statsmodels\.tsa\.statespace\._\w+\.[sdcz](Initialization|Statespace|KalmanFilter|KalmanSmoother"
    r"|SimulationSmoother)"
    r"|pytz\._(UTC|p)|(sklearn|pandas|scipy|numpy|statsmodels|imblearn)\.[\w.]+\.__pyx_unpickle_\w+"
)
"""Names that the pickles of scikit-learn, numpy, pandas and statsmodels call, found by reading those of every estimator."""

OTHER_KINDS: Final = re.compile(
    r"scipy\.sparse\._?[a-z]+\.(csr|csc|coo|bsr|dia|dok|lil)_(matrix|array)|numpy\.rec\.recarray|numpy\.record"
    r"|numpy\.(generic|number|integer|floating|inexact)|sklearn\.compose\._column_transformer\.make_column_selector"
    r"|torch\.(b?float|u?int|complex|q?u?int)[0-9]*(_e\w+|x[24])?|torch\.(bool|half|double|long|short)"
)
"""Classes and constants whose names do not look like those of classes."""

MODEL_CLASSES: Final = {
    "sklearn": re.compile(
        r"sklearn\.(?!datasets|callback|externals|_build_utils|_min_dependencies|experimental"
        r"|utils\.(_testing|_mocking|parallel|_joblib|_show_versions|estimator_checks|_plotting|_repr_html)\b)"
    ),
    "numpy": re.compile(r"numpy\.(random|core|_core|ma|dtypes|matrixlib|polynomial)\b"),
    "scipy": re.compile(
        r"scipy\.(sparse|interpolate|stats|spatial|optimize|special|linalg|cluster|signal|integrate)\b"
    ),
    "pandas": re.compile(
        r"pandas\.(core(?!\.(computation|_numba|util|config_init))|_libs|arrays)\b|pandas\.(?!HDFStore|Excel)\w+$"
    ),
    "lightgbm": re.compile(
        r"lightgbm\.(sklearn|compat)\.(LGBM|_LGBM|_\w+FunctionWrapper$)|lightgbm\.\w+\.(CV)?Booster$"
    ),
    "xgboost": re.compile(
        r"xgboost\.sklearn\.XGB|xgboost\.core\.Booster$"
        r"|xgboost\.callback\.(EarlyStopping|EvaluationMonitor|LearningRateScheduler)$"
    ),
    "catboost": re.compile(r"catboost\.core\.CatBoost|(_catboost|catboost\._catboost)\._CatBoost$"),
    "_catboost": re.compile(r"_catboost\._CatBoost$"),
    "statsmodels": re.compile(
        r"statsmodels\.(base|regression|genmod|discrete|robust|tsa|duration|miscmodels|multivariate|nonparametric|gam"
        r"|othermod|tools|iolib)\."
    ),
    "imblearn": re.compile(r"imblearn\.(?!datasets|keras|tensorflow|utils)"),
    "category_encoders": re.compile(r"category_encoders\.(?!datasets)"),
    "feature_engine": re.compile(r"feature_engine\.(?!datasets)"),
    "mlxtend": re.compile(r"mlxtend\.(_base|classifier|regressor|cluster|feature_\w+|preprocessing)\."),
    "sklearn_pandas": re.compile(r"sklearn_pandas\.(dataframe_mapper|transformers|pipeline|categorical_imputer)\."),
    "ngboost": re.compile(r"ngboost\."),
    "pygam": re.compile(r"pygam\."),
    "pmdarima": re.compile(r"pmdarima\.(arima|base|model_selection|pipeline|preprocessing)\b"),
    "prophet": re.compile(r"prophet\.forecaster\.Prophet$"),
    "sksurv": re.compile(r"sksurv\.(?!datasets|io)"),
    "econml": re.compile(r"econml\.(?!automated_ml|cate_interpreter|data|dowhy|solutions)"),
    "interpret": re.compile(r"interpret\.glassbox\."),
    "quantile_forest": re.compile(r"quantile_forest\."),
    "hmmlearn": re.compile(r"hmmlearn\."),
    "tslearn": re.compile(r"tslearn\.(?!bases|datasets|foundation|hdftools)"),
    "kmodes": re.compile(r"kmodes\."),
    "mapie": re.compile(r"mapie\."),
    "river": re.compile(r"river\.(?!api|checks|datasets|stream|test)"),
    "gensim": re.compile(
        r"gensim\.(corpora\.dictionary|models\.(doc2vec|fasttext|keyedvectors|l[ds]\w+|tfidf\w+|word2vec))\."
    ),
    "torch": re.compile(
        r"torch\.(ao\.)?nn\.(modules|parameter|intrinsic|quantized|quantizable|qat|utils\.parametriz\w+)\b"
        r"|torch\.\w*(Storage|Tensor)$|torch\.storage\.|torch\.nn\.[A-Z]\w+$"
    ),
    "torchvision": re.compile(r"torchvision\.(models|ops)\."),
}
"""Packages known to hold models, each with its parts whose classes only hold what a model has learnt."""

TEST_PARTS: Final = re.compile(r"[\w.]*\.(tests?|testing|testutils|_testing|conftest|_precompute)\b[\w.]*")
"""Modules of tests and tools: they run things, and no model needs them."""

_ALIASES: Final = """
ABC ABCMeta Any ArgumentParser Awaitable BatchedCalls BufferedIOBase BytesIO Callable CalledProcessError CCompiler
CDLL ChainMap ClassVar Client CodeType Collection Command Condition ConfigParser Connection ContextDecorator
ContextVar DefaultDict Delayed Dict Element Enum EvalEnvironment Event Executor ExitStack FFI FileIO FrameType
FunctionType Future GeneratorType Generic GenericAlias GzipFile HDFStore HTTPConnection HTTPError
InteractiveInterpreter InteractiveShell InterProcessLock IO Iterable Iterator LambdaType List Listener Lock LZMAFile
Manager Mapping MemorizedFunc Memory MethodType Mock ModuleSpec ModuleType NamedTemporaryFile NamedTuple Namespace
NewType NumpyPickler NumpyUnpickler Optional OptionParser Parallel ParallelBackendBase ParamSpec Path PathLike Pdb
PickleBuffer Pickler Pipe Pool Popen Process ProcessPoolExecutor Protocol PurePath PyDLL Queue RawConfigParser
RawIOBase Request RLock Semaphore SharedMemory SharedMemoryManager SimpleNamespace SimpleQueue SkipTest
SourceFileLoader SpooledTemporaryFile StringIO SubElement SyncManager TarFile Template TemporaryDirectory
TemporaryFile TestCase TextIOBase TextIOWrapper Thread ThreadPool ThreadpoolController ThreadPoolExecutor Timer
TracebackType Tuple Type TypedDict TypeVar Union Unpickler URLError UserDict WinDLL XMLParser ZipFile
"""
ALIASES: Final = frozenset(_ALIASES.split())
"""Classes of the standard library and of tools, which a package of models only takes over under their own names."""

PLAIN_FORMULA: Final = re.compile(
    r"(?:[-\s~+*:/(,|=]|\)(?!\s*[(.\[])|\d+(?:\.\d+)?(?!\s*[\w.(\[])"
    r"|(?:C|I|Q|Treatment|Sum|np\.(?:log|log1p|log2|log10|exp|sqrt|abs|square|power))(?=\()"
    r"|(?:\"[^\"\\]*\"|'[^'\\]*')(?!\s*[(.\[])|(?!__)[^\W\d]\w*(?!\w|\s*[(.\[\"'])){0,4096}"
)
"""A formula of columns, of which nothing has to be trusted: no call but of these functions, no attribute, no index.
patsy and formulaic evaluate it as Python."""
