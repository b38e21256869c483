// A model's page while it comes to life: the step under way counts up, and the log's end stays in sight.

const TICK_MS = 100;
let shownAt = performance.now();

/** The same as the server's own telling of milliseconds, as far as a running step needs it. */
function told(ms) {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

setInterval(() => {
  const running = document.querySelector("[data-running-ms]");
  if (running) running.textContent = told(Number(running.dataset.runningMs) + performance.now() - shownAt);
}, TICK_MS);

// Followed for as long as the reader has not scrolled up.
let follows = true;
function followEnd() {
  const log = document.getElementById("build-log");
  if (log && follows) log.scrollTop = log.scrollHeight;
}
document.addEventListener(
  "scroll",
  (event) => {
    const log = event.target;
    if (log.id === "build-log") follows = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  },
  true,
);
document.addEventListener("htmx:after:swap", () => {
  shownAt = performance.now();
  followEnd();
});
followEnd();
