"""Walks by Tab, in which it is always seen where one is."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

STOPS_MOST = 120
SEEN = """(element) => {
  const style = getComputedStyle(element), box = element.getBoundingClientRect();
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 || style.boxShadow !== "none";
  const front = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return {outlined, inView: box.bottom > 0 && box.top < innerHeight, covered: !(front && (element.contains(front) || front.contains(element)))};
}"""


def tab_to(page: Page, goal: Locator) -> None:
    """Press Tab until it has the focus; each stop on the way must be seen."""
    page.wait_for_load_state()
    for _ in range(STOPS_MOST):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.count():
            seen = focused.evaluate(SEEN)
            assert seen == {"outlined": True, "inView": True, "covered": False}, (
                focused.evaluate("(e) => e.outerHTML"),
                seen,
            )
        if goal.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"{goal} is not reached by Tab")
