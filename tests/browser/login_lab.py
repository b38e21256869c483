"""Logs in to the dashboard."""

from __future__ import annotations

from playwright.sync_api import Page

KEY = "an-admin-key-of-some-length"


def log_in(page: Page, key: str) -> None:
    page.get_by_label("Admin key").fill(key)
    page.get_by_role("button", name="Log in").click()
