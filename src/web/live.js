// Keeps a page up to date while it is open, and makes the copy buttons work. Without scripts, the pages work
// too: they are then as they were when they were loaded.
"use strict";

function showCopyButtons() {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const words = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = words; }, 2000);
});

// True while a person fills in a form; a new page would take away the text.
function isEditing() {
  const active = document.activeElement;
  return active && active.matches("main input, main select") && active.type !== "hidden";
}

let isStale = false;
document.addEventListener("focusout", () => { if (isStale) setTimeout(refresh, 200); });

async function refresh() {
  isStale = isEditing();
  if (isStale) return;
  const response = await fetch(location.href);
  if (!response.ok || response.redirected) return location.reload();
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const [old, now] = [document.querySelector("main"), page.querySelector("main")];
  if (!old || !now || isEditing() || old.innerHTML === now.innerHTML) return;
  const focused = document.activeElement && document.activeElement.id;
  old.replaceWith(now);
  showCopyButtons();
  if (focused) document.getElementById(focused)?.focus();
}

showCopyButtons();
const shown = document.querySelector("main[data-live]");
if (shown) {
  const events = new EventSource(`/live?seen=${shown.dataset.live}`);
  events.addEventListener("changed", refresh);
}
