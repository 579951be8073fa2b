/**
 * To the clipboard: an answer as the Markdown that it is, a code block as its text.
 *
 * Plain http on another host than localhost has no clipboard API; there the old command does it. The button says what
 * became of it, for a second and a half.
 */
import { icon, iconButton } from "./elements.js";
import { t } from "./i18n.js";

const THANKS_MS = 1500;

/** @param {string} text @param {HTMLButtonElement} button */
export async function copyText(text, button) {
  const done = await write(text);
  const label = button.dataset.i18nLabel;
  if (done) button.replaceChildren(icon("done"));
  button.title = t(done ? "copied" : "copy.failed");
  button.setAttribute("aria-label", button.title);
  setTimeout(() => {
    button.replaceChildren(icon("copy"));
    button.title = t(label);
    button.setAttribute("aria-label", t(label));
  }, THANKS_MS);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

/** One for each code block. @param {ParentNode} within */
export function addCopyButtons(within) {
  for (const box of within.querySelectorAll(".code")) {
    const copy = (event) => copyText(box.querySelector("pre").textContent, event.currentTarget);
    box.firstElementChild.append(iconButton("copy", "copy.code", copy, "copy-code"));
  }
}
