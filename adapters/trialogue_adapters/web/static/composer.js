/**
 * Where a message is written: the field, its keys and buttons.
 *
 * It knows neither turns nor the connection; whoever made it is told what the user wants. It must never lose what was typed:
 * the field is emptied only when the message was taken. A key that belongs to an input method (every Korean word!) is not ours.
 */
import { t } from "./i18n.js";

const TYPING_MS = 3000; // after the last key, nobody is typing any more

const $ = (id) => document.getElementById(id);
const input = $("input");

export class Composer {
  #hooks;
  #busy = false;
  #edited = null;
  #draft = "";
  #typing = null;

  /**
   * @param {{send: (text: string, how: {queue: boolean, edited: any}) => boolean, stop: () => void, last: () => any,
   *          typing: (active: boolean) => void}} hooks
   *   send: false if it was not taken · last: what ↑ edits: something with a `question`
   */
  constructor(hooks) {
    this.#hooks = hooks;
    input.addEventListener("input", () => this.#changed());
    input.addEventListener("keydown", (event) => this.#key(event));
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(false);
    });
    $("enqueue").addEventListener("click", () => this.#submit(true));
    $("stop").addEventListener("click", () => {
      hooks.stop();
      input.focus();
    });
    $("editing").querySelector("button").addEventListener("click", () => this.leaveEditing());
  }

  focus() { input.focus(); }

  /** An answer runs, so that a message would interrupt it. */
  set busy(busy) {
    if (busy === this.#busy) return;
    $("stop").hidden = !busy;
    this.#busy = busy;
    this.reword();
  }

  reword() {
    input.placeholder = t(this.#busy ? "placeholder.busy" : "placeholder");
    $("hint").textContent = t(this.#busy ? "hint.busy" : "hint");
    $("enqueue").hidden = !this.#busy || this.#edited !== null || input.value.trim() === "";
  }

  /** Take a question up again. What was being written comes back afterwards. @param {{question: string}} turn */
  edit(turn) {
    if (this.#edited === null) this.#draft = input.value;
    this.#edited = turn;
    $("editing").hidden = false;
    this.#fill(turn.question);
    input.focus();
  }

  /** @returns {boolean} there was something to leave */
  leaveEditing() {
    if (this.#edited === null) return false;
    this.#edited = null;
    $("editing").hidden = true;
    this.#fill(this.#draft);
    input.focus();
    return true;
  }

  #submit(queue) {
    if (this.#hooks.send(input.value, { queue, edited: this.#edited })) {
      this.#fill("");
      this.leaveEditing();
      this.#setTyping(false);
    }
    input.focus();
  }

  #key(event) {
    if (event.isComposing || event.keyCode === 229) return; // 229 is how Safari and others say so
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (!event.repeat) this.#submit(event.ctrlKey || event.metaKey);
    } else if (event.key === "ArrowUp" && input.value === "" && this.#hooks.last()) {
      event.preventDefault();
      this.edit(this.#hooks.last());
    }
  }

  #fill(text) {
    input.value = text;
    this.#fit();
  }

  #changed() {
    this.#fit();
    this.#setTyping(input.value !== "");
  }

  /** As high as its text, up to the limit that the style sheet sets. */
  #fit() {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
    this.reword();
  }

  #setTyping(active) {
    if (active !== (this.#typing !== null)) this.#hooks.typing(active);
    clearTimeout(this.#typing);
    this.#typing = active ? setTimeout(() => this.#setTyping(false), TYPING_MS) : null;
  }
}
