/**
 * Turns as elements: one `user-message` and one `assistant-message` per turn, drawn at most once per animation frame.
 *
 * It must only read the turns, and must never put a string into the page as HTML: answers pass `renderMarkdown`, all else
 * is `textContent`. A hidden tab draws nothing (no frame is due), and so acknowledges nothing: what is acked was on screen.
 */
import { t } from "./i18n.js";
import { renderMarkdown } from "./markdown.js";

/** @typedef {import("./turns.js").Turn} Turn */
/**
 * @typedef {object} Bubble the elements of a turn, and what of it has been drawn
 * @property {HTMLElement} question
 * @property {HTMLElement} answer
 * @property {HTMLElement} body
 * @property {HTMLElement} note
 * @property {HTMLElement} end
 * @property {HTMLElement} panel
 * @property {HTMLElement} totals
 * @property {string|null} text
 * @property {object|null} sources
 * @property {number} dueAt
 * @property {boolean} seenLive
 */

/** @returns {HTMLElement} */
function el(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** Replace only what differs: finished paragraphs stay the same nodes, so a selection in them survives the next token. */
function morph(into, fragment) {
  let same = 0;
  while (same < into.childNodes.length && same < fragment.childNodes.length &&
         into.childNodes[same].isEqualNode(fragment.childNodes[same])) same += 1;
  while (into.childNodes.length > same) into.lastChild.remove();
  into.append(...[...fragment.childNodes].slice(same));
}

export class View {
  #list;
  #hooks;
  /** @type {Map<string, Bubble>} */ #bubbles = new Map();
  /** @type {Map<string, Turn>} */ #dirty = new Map();
  #frame = 0;
  #indicator = el("p", "typing");

  /**
   * @param {HTMLElement} list
   * @param {{shown: (turn: Turn) => void, ended: (turn: Turn, text: string) => void, again: (turn: Turn) => void,
   *          drawn: () => void, waiting: () => Turn|undefined, online: () => boolean}} hooks
   *   shown: tokens up to `turn.next` are on screen · ended: an answer that was seen running has its end · again: the user
   *   wants to ask once more · drawn: after each drawing · waiting: the turn whose first token is awaited
   */
  constructor(list, hooks) {
    this.#list = list;
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
    for (const bubble of this.#bubbles.values()) bubble.sources = null;
    turns.forEach((turn) => this.touch(turn));
  }

  clear() {
    this.#list.replaceChildren();
    this.#bubbles.clear();
    this.#dirty.clear();
  }

  #draw() {
    this.#frame = 0;
    const now = performance.now();
    for (const [id, turn] of [...this.#dirty]) {
      const bubble = this.#bubbles.get(id) ?? this.#make(turn);
      // A long answer takes long to draw: then draw it less often, so that the page keeps most of its time for the user.
      if (turn.ending === null && now < bubble.dueAt) continue;
      this.#dirty.delete(id);
      this.#drawTurn(turn, bubble);
      bubble.dueAt = performance.now() + 4 * (performance.now() - now);
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
    const bubble = { question, answer, body: el("div", "markdown"), note: el("p", "note"), end: el("div"), panel: el("div"),
      totals: el("p", "totals"), text: null, sources: null, dueAt: 0, seenLive: false };
    answer.append(bubble.body, bubble.note, bubble.end, bubble.panel, bubble.totals);
    const pair = el("section", "turn");
    pair.append(question, answer);
    this.#list.append(pair);
    this.#bubbles.set(turn.id, bubble);
    return bubble;
  }

  /** @param {Turn} turn @param {Bubble} bubble */
  #drawTurn(turn, bubble) {
    const { question, answer, body, note } = bubble;
    const running = turn.ending === null;
    question.setAttribute("aria-label", t("you"));
    question.textContent = turn.question ?? t("question.unknown");
    question.classList.toggle("unknown", turn.question === null);
    answer.setAttribute("aria-label", t("answer"));
    answer.setAttribute("aria-busy", String(running));
    answer.dataset.ending = turn.ending ?? "";
    if (bubble.text !== turn.text) {
      morph(body, renderMarkdown(turn.text));
      bubble.text = turn.text;
    }
    note.textContent = running ? phaseText(turn, this.#hooks.online()) : "";
    note.hidden = note.textContent === "";
    this.#drawEnd(turn, bubble);
    if (bubble.sources !== turn.sources) { // not with every token: the user may have opened it
      bubble.panel.replaceChildren(...(turn.sources.length ? [sourcesOf(turn)] : []));
      bubble.sources = turn.sources;
    }
    if (running && turn.next > 0) this.#hooks.shown(turn);
    if (!running && bubble.seenLive) this.#hooks.ended(turn, body.innerText);
    bubble.seenLive = running;
  }

  /** @param {Turn} turn @param {Bubble} bubble */
  #drawEnd(turn, { end, totals }) {
    if (turn.failure) end.replaceChildren(this.#failureOf(turn));
    else if (turn.ending !== null && turn.ending !== "stop") end.replaceChildren(el("p", "badge", t(`end.${turn.ending}`)));
    else end.replaceChildren();
    totals.hidden = !turn.totals?.tokens;
    if (!totals.hidden) {
      totals.textContent = t("totals", { tokens: turn.totals.tokens, seconds: (turn.totals.ms / 1000).toFixed(1) });
    }
  }

  /** @param {Turn} turn */
  #failureOf(turn) {
    const { failure } = turn;
    const box = el("div", "failure");
    const head = el("p", "failure-head");
    head.append(el("strong", "", failure.message), el("code", "", failure.code));
    const list = el("ul");
    list.append(...failure.solutions.map((solution) => el("li", "", solution)));
    const again = el("button", "quiet", t("again"));
    again.type = "button";
    again.addEventListener("click", () => this.#hooks.again(turn));
    box.append(el("p", "badge", t(`end.${turn.ending}`)), head, list);
    if (turn.question !== null) box.append(again);
    return box;
  }

  /** One indicator for the page: it stands in the turn whose first token is awaited, and else nowhere. */
  #placeIndicator() {
    const turn = this.#hooks.waiting();
    const home = turn && this.#bubbles.get(turn.id)?.answer;
    if (!home) this.#indicator.remove();
    else if (this.#indicator.parentNode !== home) home.prepend(this.#indicator);
    this.#indicator.setAttribute("aria-label", t("loading"));
  }
}

/** @param {Turn} turn @param {boolean} online */
function phaseText(turn, online) {
  if (turn.phase === "generating" || (turn.phase === "sending" && turn.accepted)) return "";
  if (turn.phase === "sending" && !online) return t("phase.offline");
  if (turn.phase === "queued" && turn.place !== null) return t("phase.queued.place", { n: turn.place });
  return t(`phase.${turn.phase}`);
}

/** @param {Turn} turn */
function sourcesOf(turn) {
  const panel = el("details", "sources");
  panel.dataset.testid = "sources";
  const list = el("ol");
  for (const source of turn.sources) {
    const item = el("li");
    const head = el("p", "source-head");
    head.append(el("strong", "", String(source.title || t("source.untitled"))));
    if (typeof source.score === "number") head.append(el("span", "score", t("score", { n: source.score.toFixed(2) })));
    item.append(head);
    if (source.content_preview) item.append(el("p", "preview", String(source.content_preview)));
    list.append(item);
  }
  panel.append(el("summary", "", t("sources", { n: turn.sources.length })), list);
  return panel;
}
