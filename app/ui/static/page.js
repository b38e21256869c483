// Script of every page: copy buttons, menus, a live region for short messages, and polling that pauses in hidden tabs.

/** Show a short message at the foot of the page, read out by screen readers. It disappears after 6 s unless `stays`. */
export function announce(text, kind = "", { stays = false } = {}) {
  const notice = document.createElement("div");
  notice.className = `notice ${kind}`.trim();
  notice.textContent = text;
  document.getElementById("status").replaceChildren(notice);
  clearTimeout(announce.timer);
  if (!stays) announce.timer = setTimeout(() => document.getElementById("status").replaceChildren(), 6000);
}

// <button type="button" data-copy="#id">: copies the text of the element that the selector names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    announce("Copied.", "good");
  } catch {
    // Without https or permission there is no clipboard: select the text instead, for Ctrl+C.
    getSelection().selectAllChildren(source);
    announce("Press Ctrl+C to copy the selection.");
  }
});

// Report a server that does not answer only once, until it answers again.
let unanswered = false;
document.addEventListener("htmx:error", (event) => {
  if (unanswered || !event.target.matches?.("[hx-trigger^='every ']")) return;
  unanswered = true;
  announce("The server does not answer; this page may be out of date.", "warn", { stays: true });
});
document.addEventListener("htmx:after:swap", () => {
  if (unanswered) announce("The server answers again.", "good");
  unanswered = false;
});

// Parts with hx-trigger="every …" are polled only while the page is visible, and at once when it becomes visible.
document.addEventListener(
  "every",
  (event) => {
    if (document.visibilityState !== "visible") event.stopImmediatePropagation();
  },
  true,
);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  for (const part of document.querySelectorAll("[hx-trigger^='every ']")) {
    part.dispatchEvent(new CustomEvent("every"));
  }
});

// An open menu closes at a click elsewhere and at Escape.
const openMenus = () => document.querySelectorAll("details.menu[open]");
document.addEventListener("click", (event) => {
  for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) {
    menu.open = false;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  }
});

// For .only-script and .without-script: features that need JavaScript are offered only if it runs.
document.documentElement.classList.add("scripted");

// A form is sent once: a second click while the first request is under way does nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) event.preventDefault();
  setTimeout(() => {
    if (form.method === "post" && !event.defaultPrevented) form.dataset.sent = "yes"; // no script handles it
  });
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
