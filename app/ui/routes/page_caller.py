"""Who makes a prediction on a page."""

from __future__ import annotations

from fastapi import Request

from app.access.admission import Admission
from app.http.guard import api_key, caller_address, is_direct_request


def page_caller(admission: Admission, request: Request) -> str:
    """Return the name under which a prediction on a page is counted; "" for one that no limit applies to."""
    return admission.on_page(api_key(request.headers), caller_address(request), is_direct_request(request))
