/**
 * Turns as elements: one `user-message` and one `assistant-message` per turn, drawn at most once per animation frame.
 *
 * It must only read the turns, and must never put a string into the page as HTML: answers pass `GrowingMarkdown`, all else
 * is `textContent`. A hidden tab draws nothing (no frame is due), and so acknowledges nothing: what is acked was on screen.
 */
import { addCopyButtons, copyText } from "./copying.js";
import { cutOf, el, failureOf, iconButton, mark, setAttribute, setHidden, setText, sourcesOf } from "./elements.js";
import { GrowingMarkdown } from "./growing.js";
import { t } from "./i18n.js";

/** Of a frame: so long may the drawing of answers take, and the rest is the browser's layout and the user's. */
const DRAW_MS = 6;
const SPOKEN_CHARACTERS = 600; // of an answer, read out at its end; who wants the rest finds it in the page

/** @typedef {import("./turns.js").Turn} Turn */
/**
 * @typedef {object} Bubble the elements of a turn, and what of it has been drawn
 * @property {HTMLElement} pair
 * @property {HTMLElement} question
 * @property {HTMLElement} answer
 * @property {HTMLElement} body
 * @property {HTMLElement} note
 * @property {HTMLElement} end
 * @property {HTMLElement} panel
 * @property {HTMLElement} totals
 * @property {HTMLElement} tools
 * @property {HTMLElement} withdraw
 * @property {GrowingMarkdown} markdown
 * @property {string|null} text
 * @property {object|null} sources
 * @property {string|null} cut
 * @property {number} dueAt
 * @property {boolean} seenLive
 */

export class View {
  #list;
  #queue;
  #hooks;
  /** @type {Map<string, Bubble>} */ #bubbles = new Map();
  /** @type {Map<string, Turn>} */ #dirty = new Map();
  #frame = 0;
  #indicator = el("p", "typing");

  /**
   * @param {HTMLElement} list @param {HTMLElement} queue where the turns wait that have not begun
   * @param {{shown: (turn: Turn) => void, ended: (turn: Turn, text: string) => void, again: (turn: Turn) => void,
   *          edit: (turn: Turn) => void, cancel: (turn: Turn) => void, drawn: () => void,
   *          waiting: () => Turn|undefined, online: () => boolean}} hooks
   *   shown: tokens up to `turn.next` are on screen · ended: an answer that was seen running has its end · again, edit,
   *   cancel: the user wants that · drawn: after each drawing · waiting: the turn whose first token is awaited
   */
  constructor(list, queue, hooks) {
    this.#list = list;
    this.#queue = queue;
    this.#hooks = hooks;
    this.#indicator.dataset.testid = "loading-indicator";
    this.#indicator.setAttribute("role", "img");
    this.#indicator.append(el("span"), el("span"), el("span"));
  }

  /** Something of this turn has changed: draw it with the next frame. @param {Turn} turn */
  touch(turn) {
    this.#dirty.set(turn.id, turn);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** A line across the conversation. */
  divide(text) {
    this.#list.append(el("p", "divider", text));
  }

  /** Draw everything anew, in the language of now. @param {Turn[]} turns */
  redraw(turns) {
    for (const bubble of this.#bubbles.values()) bubble.sources = bubble.cut = null;
    turns.forEach((turn) => this.touch(turn));
  }

  clear() {
    this.#list.replaceChildren();
    this.#queue.replaceChildren();
    this.#bubbles.clear();
    this.#dirty.clear();
  }

  #draw() {
    this.#frame = 0;
    const deadline = performance.now() + DRAW_MS;
    for (const [id, turn] of [...this.#dirty]) {
      const begun = performance.now();
      if (begun > deadline) break; // a long conversation is replayed: it is drawn over several frames
      const bubble = this.#bubbles.get(id) ?? this.#make(turn);
      // What takes long to draw is drawn less often, so that the page keeps most of its time for the user.
      if (turn.ending === null && begun < bubble.dueAt) continue;
      if (this.#drawTurn(turn, bubble, deadline)) this.#dirty.delete(id);
      bubble.dueAt = performance.now() + 4 * (performance.now() - begun);
    }
    this.#placeIndicator();
    if (this.#dirty.size) this.#frame = requestAnimationFrame(() => this.#draw());
    this.#hooks.drawn();
  }

  /** @param {Turn} turn @returns {Bubble} */
  #make(turn) {
    const question = el("article", "question");
    question.dataset.testid = "user-message";
    const answer = el("article", "answer");
    answer.dataset.testid = "assistant-message";
    const body = el("div", "markdown"), note = el("p", "note"), end = el("div"), panel = el("div");
    const totals = el("span", "totals"), tools = el("div", "answer-tools");
    tools.append(
      iconButton("copy", "copy", (event) => copyText(turn.text, event.currentTarget), "copy-answer"),
      iconButton("again", "regenerate", () => this.#hooks.again(turn), "regenerate"), totals);
    answer.append(body, note, end, panel, tools);
    const withdraw = iconButton("remove", "withdraw", () => this.#hooks.cancel(turn), "cancel-queued");
    const row = el("div", "question-row");
    row.append(iconButton("edit", "edit", () => this.#hooks.edit(turn), "edit"), withdraw, question);
    const pair = el("section", "turn");
    pair.append(row, mark(), answer);
    const bubble = { pair, question, answer, body, note, end, panel, totals, tools, withdraw, text: null, sources: null,
      cut: null, dueAt: 0, seenLive: false, markdown: new GrowingMarkdown(body, addCopyButtons) };
    this.#bubbles.set(turn.id, bubble);
    return bubble;
  }

  /** @param {Turn} turn @param {Bubble} bubble @param {number} deadline @returns {boolean} all of it is drawn */
  #drawTurn(turn, bubble, deadline) {
    const { body } = bubble;
    const running = turn.ending === null;
    this.#place(turn, bubble);
    const drawn = (running && bubble.text === turn.text) || bubble.markdown.draw(turn.text, !running, deadline);
    bubble.text = drawn ? turn.text : null;
    this.#drawState(turn, bubble, running || !drawn); // an answer has ended when all of it is there to be read
    if (!drawn) return false;
    this.#drawEnd(turn, bubble);
    if (bubble.sources !== turn.sources) { // not with every token: the user may have opened it
      bubble.panel.replaceChildren(...(turn.sources.length ? [sourcesOf(turn)] : []));
      bubble.sources = turn.sources;
    }
    if (running && turn.next > 0) this.#hooks.shown(turn);
    if (!running && bubble.seenLive) this.#hooks.ended(turn, beginningOf(body));
    bubble.seenLive = running;
    return true;
  }

  /** Who waits in the queue stands there, and goes to the conversation's end when its answer begins. */
  #place(turn, { pair, withdraw }) {
    const queued = turn.ending === null && turn.phase === "queued";
    const home = queued ? this.#queue : this.#list;
    if (pair.parentNode !== home) home.append(pair);
    setHidden(withdraw, !queued);
    pair.classList.toggle("busy", turn.ending === null && !queued);
  }

  /** @param {Turn} turn @param {Bubble} bubble @param {boolean} busy */
  #drawState(turn, { question, answer, note }, busy) {
    const running = turn.ending === null;
    setAttribute(question, "aria-label", t("you"));
    setText(question, turn.question ?? t("question.unknown"));
    question.classList.toggle("unknown", turn.question === null);
    setAttribute(answer, "aria-label", t("answer"));
    setAttribute(answer, "aria-busy", String(busy));
    setAttribute(answer, "data-ending", busy ? "" : turn.ending);
    setAttribute(answer, "data-phase", running ? phaseOf(turn) : "");
    setText(note, running ? phaseText(turn, this.#hooks.online()) : "");
    setHidden(note, note.textContent === "");
  }

  /** @param {Turn} turn @param {Bubble} bubble */
  #drawEnd(turn, bubble) {
    const { end, totals, tools } = bubble;
    const ended = turn.ending !== null;
    const cut = turn.ending === "stop" ? "" : JSON.stringify([turn.ending, turn.receipt, turn.failure]);
    if (bubble.cut !== cut) {
      if (turn.failure) end.replaceChildren(failureOf(turn, () => this.#hooks.again(turn)));
      else end.replaceChildren(...(ended && cut ? [cutOf(turn)] : []));
      bubble.cut = cut;
    }
    setHidden(tools, !ended || (turn.text === "" && turn.failure !== null));
    if (!ended) return;
    tools.querySelector('[data-testid="copy-answer"]').hidden = turn.text === "";
    tools.querySelector('[data-testid="regenerate"]').hidden = turn.question === null;
    setHidden(totals, !turn.totals?.tokens);
    if (!totals.hidden) {
      totals.textContent = t("totals", { tokens: turn.totals.tokens, seconds: (turn.totals.ms / 1000).toFixed(1) });
    }
  }

  /** One indicator for the page: it stands in the turn whose first token is awaited, and else nowhere. */
  #placeIndicator() {
    const turn = this.#hooks.waiting();
    const home = turn && this.#bubbles.get(turn.id)?.answer;
    setAttribute(this.#indicator, "aria-label", t("loading"));
    if (this.#indicator.parentNode === (home ?? null)) return;
    this.#indicator.parentNode?.classList.remove("waiting");
    this.#indicator.remove();
    home?.classList.add("waiting");
    home?.prepend(this.#indicator);
  }
}

/** @param {Turn} turn */
const phaseOf = (turn) => (turn.stopping ? "stopping" : turn.phase);

/** @param {Turn} turn @param {boolean} online */
function phaseText(turn, online) {
  const phase = phaseOf(turn);
  if (phase === "sending" && !online) return t("phase.offline");
  if (phase === "sending" && turn.accepted) return "";
  if (phase === "queued" && turn.place !== null) return t("phase.queued.place", { n: turn.place });
  return t(`phase.${phase}`);
}

/** Its first words, block by block: `innerText` would lay out all of a long answer. @param {HTMLElement} body */
function beginningOf(body) {
  let text = "";
  for (const block of body.children) {
    text += `${block.textContent.trim()}\n`;
    if (text.length > SPOKEN_CHARACTERS) break;
  }
  return text.slice(0, SPOKEN_CHARACTERS).trim();
}
