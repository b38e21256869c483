// What every page shares: copy buttons, and a live region for short messages.

/** Say something to everyone: a short line at the foot of the page, read out by screen readers. */
export function announce(text, kind = "") {
  const notice = document.createElement("div");
  notice.className = `notice ${kind}`.trim();
  notice.textContent = text;
  document.getElementById("status").replaceChildren(notice);
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => document.getElementById("status").replaceChildren(), 6000);
}

// <button type="button" data-copy="#id">: copies the text of the element that the selector names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
  announce("Copied.", "good");
});
