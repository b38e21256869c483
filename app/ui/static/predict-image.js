// An image on the predict page: dropped, pasted or chosen, shown, and sent at once.
// The page is exchanged with each answer, so everything is listened for on the document.

const field = () => document.getElementById("image");
const area = (event) => event.target.closest?.("[data-image-drop]");

/** Show the chosen image, unless the model could not read it. The server shows it too, but not a large one. */
function show() {
  const picture = document.getElementById("picture");
  const file = field()?.files[0];
  if (!picture || !file || document.getElementById("image-wrong")) return;
  const reader = new FileReader();
  reader.onload = () => {
    picture.src = reader.result;
    picture.hidden = false;
  };
  reader.readAsDataURL(file);
}

function send() {
  document.getElementById("tab-image").checked = true;
  document.getElementById("image-wrong")?.remove();
  show();
  const button = document.getElementById("send");
  if (!button.disabled) button.form.requestSubmit(button);
}

/** Put the first image into the file field; return whether there was one. */
function take(files) {
  const image = [...files].find((file) => file.type.startsWith("image/"));
  if (!image || !field()) return false;
  const chosen = new DataTransfer();
  chosen.items.add(image);
  field().files = chosen.files;
  send();
  return true;
}

document.addEventListener("change", (event) => {
  if (event.target === field() && field().files.length) send();
});
document.addEventListener("dragover", (event) => {
  if (!area(event)) return;
  event.preventDefault();
  area(event).classList.add("over");
});
document.addEventListener("dragleave", (event) => area(event)?.classList.remove("over"));
document.addEventListener("drop", (event) => {
  const place = area(event);
  if (!place) return;
  event.preventDefault();
  place.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData && take(event.clipboardData.files)) event.preventDefault();
});
document.addEventListener("htmx:after:swap", show);
