"""Conversion of tree ensembles to one ONNX operator, with the arithmetic of the library that trained them.

skl2onnx rounds a tree's predictions and comparisons to float32. It therefore decides ties of a forest's votes, and
values beside a threshold, differently from the forest. Here values are compared and added as doubles, votes are divided
only after they were counted, and values are rounded to float32 only where scikit-learn rounds them.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
_LIGHTGBM_ZERO = 1.0000000180025095e-35  # kZeroThreshold: smaller absolute values are read as zero
_FORESTS = ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
_LINKS = {"identity": None, "HalfSquaredError": None, "AbsoluteError": None, "PinballLoss": None}
_EXPONENTIALS = ("HalfPoissonLoss", "HalfGammaLoss")


class NotConvertible(ValueError):
    """Reason why a model has no ONNX variant, worded for its owner."""


class Tree(NamedTuple):
    """Tree with its nodes by position: left, right (−1 in a leaf), feature, threshold, missing_left; weights (nodes,
    targets).
    """

    left: Any
    right: Any
    feature: Any
    threshold: Any
    missing_left: Any
    weights: Any


class Ensemble(NamedTuple):
    """Ensemble of trees that add up to `targets` numbers per row, on top of `base`. The sum is divided by `divisor`.

    reads: "float32" if values are rounded to it before they are compared, "zeros" if tiny values count as zero.

    link: "votes" (numbers are shares of classes), "sigmoid", "softmax", "exp" or "" for none.
    """

    trees: List[Tree]
    targets: int
    base: List[float]
    divisor: float
    reads: str
    link: str


def ensemble_of(model: Any) -> Optional[Ensemble]:
    """Read the trees of a model; None if it is no known ensemble of trees.

    Raises NotConvertible for parts that ONNX trees cannot have.
    """
    library, name = type(model).__module__.split(".")[0], type(model).__name__
    if library == "sklearn" and name.startswith("HistGradientBoosting"):
        return _histogram(model)
    if library == "sklearn" and name in {
        f"{forest}{kind}" for forest in _FORESTS for kind in ("Classifier", "Regressor")
    }:
        return _forest(model)
    if library == "lightgbm" and name in ("LGBMClassifier", "LGBMRegressor", "LGBMRanker"):
        return _lightgbm(model)
    return None


def _forest(model: Any) -> Ensemble:
    members = getattr(model, "estimators_", [model])
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list):
        raise NotConvertible("it predicts several columns of labels")
    trees = []
    for member in members:
        tree = member.tree_
        values = tree.value[:, 0, :] if classes is not None else tree.value[:, :, 0]
        if classes is not None:
            values = values / values.sum(axis=1, keepdims=True)
        missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
        trees.append(Tree(tree.children_left, tree.children_right, tree.feature, tree.threshold, missing, values))
    targets = trees[0].weights.shape[1]
    return Ensemble(
        trees, targets, [0.0] * targets, float(len(trees)), "float32", "votes" if classes is not None else ""
    )


def _histogram(model: Any) -> Ensemble:
    if getattr(model, "is_categorical_", None) is not None and np.any(model.is_categorical_):
        raise NotConvertible("it splits on categories, which ONNX trees do not")
    targets = int(model.n_trees_per_iteration_)
    trees = []
    for iteration in model._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            weights = np.zeros((len(nodes), targets))
            weights[:, target] = nodes["value"]
            left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
            trees.append(
                Tree(left, right, nodes["feature_idx"], nodes["num_threshold"], nodes["missing_go_to_left"], weights)
            )
    base = np.ravel(model._baseline_prediction).astype(float).tolist()
    return Ensemble(trees, targets, base, 1.0, "", _histogram_link(model, targets))


def _histogram_link(model: Any, targets: int) -> str:
    if hasattr(model, "classes_"):
        return "sigmoid" if targets == 1 else "softmax"
    loss = type(model._loss).__name__
    if loss in _EXPONENTIALS:
        return "exp"
    if loss in _LINKS:
        return ""
    raise NotConvertible(f"its loss {loss} has an unknown link function")


def _lightgbm(model: Any) -> Ensemble:
    dump = model.booster_.dump_model()
    objective = str(dump.get("objective", ""))
    kind = objective.split(" ")[0]
    links = {"binary": "sigmoid", "multiclass": "softmax", "poisson": "exp", "gamma": "exp", "tweedie": "exp"}
    plain = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
    if (kind == "binary" and "sigmoid:1" not in objective.split(" ")) or "sqrt" in objective.split(" "):
        raise NotConvertible(f"its objective {objective!r} is unknown")
    if kind not in links and kind not in plain:
        raise NotConvertible(f"its objective {objective!r} is unknown")
    if dump.get("average_output"):
        raise NotConvertible("its trees are averaged (boosting type rf)")
    targets = int(dump["num_tree_per_iteration"])
    trees = [
        _lightgbm_tree(info["tree_structure"], index % targets, targets) for index, info in enumerate(dump["tree_info"])
    ]
    return Ensemble(trees, targets, [0.0] * targets, 1.0, "zeros", links.get(kind, ""))


def _lightgbm_tree(root: Dict[str, Any], target: int, targets: int) -> Tree:
    nodes: List[Tuple[int, int, int, float, bool, float]] = []
    pending = [(root, -1, False)]
    while pending:
        node, parent, is_left = pending.pop()
        index = len(nodes)
        if parent >= 0:
            before = nodes[parent]
            nodes[parent] = (index, *before[1:]) if is_left else (before[0], index, *before[2:])
        if "split_feature" not in node:
            nodes.append((-1, -1, 0, 0.0, False, float(node["leaf_value"])))
            continue
        if node["decision_type"] != "<=":
            raise NotConvertible("it splits on categories, which ONNX trees do not")
        if node["missing_type"] == "Zero":
            raise NotConvertible("it takes zeros for missing values, which ONNX trees do not")
        threshold = float(node["threshold"])
        missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
        nodes.append((-1, -1, int(node["split_feature"]), threshold, bool(missing_left), 0.0))
        pending += [(node["right_child"], index, False), (node["left_child"], index, True)]
    left, right, feature, threshold_column, missing, values = (np.array(column) for column in zip(*nodes))
    weights = np.zeros((len(nodes), targets))
    weights[:, target] = values
    return Tree(left, right, feature, threshold_column, missing, weights)


def graph_of(ensemble: Ensemble, width: int, datatype: int = 0) -> Any:
    """Build an ONNX model with the input `X` (rows, width), doubles unless `datatype`, of TensorProto, says otherwise.

    Outputs of a classifier: `label`, int64 (rows,), the index of the class, and `probabilities`, double (rows,
    classes). Output of any other model: `predictions`, double (rows, targets).
    """
    from onnx import TensorProto, helper

    constants = [helper.make_tensor("base", TensorProto.DOUBLE, [len(ensemble.base)], ensemble.base)]
    nodes = _reading_nodes(ensemble.reads, constants)
    nodes.append(_tree_node(ensemble, nodes[-1].output[0]))
    nodes.append(helper.make_node("Cast", ["sum"], ["wide"], to=TensorProto.DOUBLE))
    constants.append(helper.make_tensor("divisor", TensorProto.DOUBLE, [1], [ensemble.divisor]))
    nodes.append(helper.make_node("Add", ["wide", "base"], ["total"]))
    nodes.append(helper.make_node("Div", ["total", "divisor"], ["mean"]))
    nodes += _link_nodes(ensemble.link, constants)
    targets = 2 if ensemble.link == "sigmoid" else ensemble.targets
    value = helper.make_tensor_value_info
    if ensemble.link in ("votes", "sigmoid", "softmax"):
        outputs = [value("label", TensorProto.INT64, [None])]
        outputs.append(value("probabilities", TensorProto.DOUBLE, [None, targets]))
    else:
        outputs = [value("predictions", TensorProto.DOUBLE, [None, targets])]
    graph = helper.make_graph(
        nodes, "trees", [value("X", datatype or TensorProto.DOUBLE, [None, width])], outputs, initializer=constants
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="prism")


def _reading_nodes(reads: str, constants: List[Any]) -> List[Any]:
    from onnx import TensorProto, helper

    if reads == "float32":
        narrow = helper.make_node("Cast", ["X"], ["narrow"], to=TensorProto.FLOAT)
        return [narrow, helper.make_node("Cast", ["narrow"], ["features"], to=TensorProto.DOUBLE)]
    doubles = helper.make_node("Cast", ["X"], ["doubles"], to=TensorProto.DOUBLE)
    if reads == "zeros":
        constants.append(helper.make_tensor("tiny", TensorProto.DOUBLE, [1], [_LIGHTGBM_ZERO]))
        constants.append(helper.make_tensor("zero", TensorProto.DOUBLE, [1], [0.0]))
        return [
            doubles,
            helper.make_node("Abs", ["doubles"], ["size"]),
            helper.make_node("LessOrEqual", ["size", "tiny"], ["is_tiny"]),
            helper.make_node("Where", ["is_tiny", "zero", "doubles"], ["features"]),
        ]
    return [doubles]


def _link_nodes(link: str, constants: List[Any]) -> List[Any]:
    from onnx import TensorProto, helper

    if link in ("", "exp"):
        return [helper.make_node("Exp" if link else "Identity", ["mean"], ["predictions"])]
    if link == "votes":
        nodes = [helper.make_node("Identity", ["mean"], ["probabilities"])]
    elif link == "softmax":
        nodes = [helper.make_node("Softmax", ["mean"], ["probabilities"], axis=1)]
    else:
        constants.append(helper.make_tensor("one", TensorProto.DOUBLE, [1], [1.0]))
        nodes = [
            helper.make_node("Sigmoid", ["mean"], ["second"]),
            helper.make_node("Sub", ["one", "second"], ["first"]),
            helper.make_node("Concat", ["first", "second"], ["probabilities"], axis=1),
        ]
    return [*nodes, helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0)]


def _tree_node(ensemble: Ensemble, features: str) -> Any:
    from onnx import TensorProto, helper

    trees = ensemble.trees
    sizes = [len(tree.left) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    left = np.concatenate([tree.left for tree in trees]).astype(np.int64)
    right = np.concatenate([tree.right for tree in trees]).astype(np.int64)
    weights = np.concatenate([tree.weights for tree in trees])
    leaf = left < 0
    thresholds = np.where(leaf, 0.0, np.concatenate([tree.threshold for tree in trees]))
    feature = np.where(leaf, 0, np.concatenate([tree.feature for tree in trees]).astype(np.int64))
    missing = np.where(leaf, 0, np.concatenate([tree.missing_left for tree in trees]).astype(np.int64))
    # Zero weights are left out, for example in leaves that vote for one class; each leaf needs at least one weight.
    votes = (weights != 0) & leaf[:, None]
    votes[leaf & ~votes.any(axis=1), 0] = True
    rows, targets = np.nonzero(votes)
    return helper.make_node(
        "TreeEnsembleRegressor",
        [features],
        ["sum"],
        domain="ai.onnx.ml",
        n_targets=ensemble.targets,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=feature.tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(leaf, 0, left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, right).tolist(),
        nodes_missing_value_tracks_true=missing.tolist(),
        nodes_values_as_tensor=helper.make_tensor("values", TensorProto.DOUBLE, [len(leaf)], thresholds.tolist()),
        target_treeids=tree_ids[rows].tolist(),
        target_nodeids=node_ids[rows].tolist(),
        target_ids=targets.tolist(),
        target_weights_as_tensor=helper.make_tensor(
            "weights", TensorProto.DOUBLE, [len(rows)], weights[rows, targets].tolist()
        ),
    )
