// Model page during a deployment: the current step's time counts up, and the end of the log stays visible.

const TICK_MS = 100;
let shownAt = performance.now();

/** Format milliseconds like `milliseconds` in app/ui/figures.py, as far as a running step needs it. */
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

// Keep the end of the log visible until the reader scrolls up.
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
