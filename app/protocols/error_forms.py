"""The forms of errors that the protocols declare for their paths, on every surface."""

from __future__ import annotations

from app.error_shapes import ErrorForms
from app.protocols import mlflow, v1
from app.protocols.v2 import rest as v2_rest

ERROR_FORMS = ErrorForms({**v1.ERRORS, **v2_rest.ERRORS, **mlflow.ERRORS})
