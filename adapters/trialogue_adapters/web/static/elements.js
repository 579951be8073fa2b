/**
 * The parts of a turn that are made of nothing but data: sources, failures, receipts, buttons with an icon.
 *
 * It must never put a string into the page as HTML: all is `textContent`, and an address is followed only if it is http(s).
 */
import { t } from "./i18n.js";

/** @typedef {import("./turns.js").Turn} Turn */

const ICONS = {
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  done: "M4 10.5l4 4 8-9",
  again: "M15.5 7A6.5 6.5 0 1 0 16.5 11M16 3v4h-4",
  edit: "M13.5 3.5l3 3L7 16l-4 1 1-4z",
  remove: "M5 5l10 10M15 5L5 15",
  cut: "M7.2 7.2L16 16M7.2 12.8L16 4M5.5 7.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM5.5 16.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
};

/** @returns {HTMLElement} */
export function el(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** Change it only if it differs: a text or an attribute that is set anew costs style and layout, also if it is the same. */
export function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
export function setAttribute(node, name, value) { if (node.getAttribute(name) !== value) node.setAttribute(name, value); }
export function setHidden(node, hidden) { if (node.hidden !== hidden) node.hidden = hidden; }

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** @param {keyof ICONS} name @returns {SVGElement} */
export const icon = (name) => svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));

/** The three circles of icon.svg, beside each answer: drawn, for an image would be asked for again with each. */
export const mark = () => svg("svg", { class: "mark", viewBox: "0 0 64 64", "aria-hidden": "true" },
  svg("circle", { cx: 24, cy: 25, r: 18 }), svg("circle", { cx: 42, cy: 28, r: 16 }), svg("circle", { cx: 32, cy: 43, r: 15 }));

/**
 * @param {keyof ICONS} name @param {string} label key of its text @param {(event: MouseEvent) => void} press
 * @param {string} [testid]
 */
export function iconButton(name, label, press, testid = name) {
  const button = el("button", "icon");
  button.type = "button";
  button.dataset.testid = testid;
  button.dataset.i18nLabel = label;
  button.setAttribute("aria-label", t(label));
  button.title = t(label);
  button.append(icon(name));
  button.addEventListener("click", press);
  return button;
}

/** @param {string} key @param {() => void} press @param {string} testid */
export function textButton(key, press, testid) {
  const button = el("button", "quiet", t(key));
  button.type = "button";
  button.dataset.testid = testid;
  button.addEventListener("click", press);
  return button;
}

/** Each with its score; its preview opens. @param {Turn} turn @returns {HTMLElement} */
export function sourcesOf(turn) {
  const panel = el("details", "sources");
  panel.dataset.testid = "sources";
  const summary = el("summary");
  summary.append(el("span", "", t("sources", { n: turn.sources.length })));
  const list = el("ol");
  turn.sources.forEach((source, i) => {
    const item = el("li");
    item.append(sourceOf(source, i + 1));
    list.append(item);
  });
  panel.append(summary, list);
  // What opens comes into sight (`toggle` does not bubble, but it can be captured).
  panel.addEventListener("toggle", ({ target }) => target.open && target.scrollIntoView({ block: "nearest" }), true);
  return panel;
}

function sourceOf(source, number) {
  const box = el("details", "source");
  const head = el("summary");
  head.append(el("span", "number", String(number)), el("strong", "", String(source.title || t("source.untitled"))));
  if (typeof source.score === "number") head.append(...scoreOf(source.score));
  const preview = el("p", "preview", String(source.content_preview || t("source.empty")));
  box.append(head, preview);
  const address = addressOf(source.url);
  if (address) {
    const link = el("a", "", address);
    Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer" });
    box.append(link);
  }
  return box;
}

/** A bar and the number. The bar is for the eye; a score of another scale than 0 to 1 has none. */
function scoreOf(score) {
  const words = el("span", "score", t("score", { n: score.toFixed(2) }));
  if (!(score >= 0 && score <= 1)) return [words];
  const bar = el("meter", "bar-of-score");
  bar.value = score;
  bar.setAttribute("aria-hidden", "true");
  return [bar, words];
}

/** @returns {string|null} */
function addressOf(value) {
  const url = typeof value === "string" && URL.canParse(value) ? new URL(value) : null;
  return url && /^https?:$/.test(url.protocol) ? url.href : null;
}

/** What has failed, and what to do. @param {Turn} turn @param {() => void} again @returns {HTMLElement} */
export function failureOf({ failure, ending, question }, again) {
  const box = el("div", "failure");
  const head = el("p", "failure-head");
  head.append(el("strong", "", failure.message), el("code", "", failure.code));
  const list = el("ul");
  list.append(...failure.solutions.map((solution) => el("li", "", solution)));
  box.append(el("p", "badge", t(`end.${ending}`)), head, list);
  if (question !== null) box.append(textButton("again", again, "again"));
  return box;
}

/** Where an answer was cut, why, and how much of it was seen: only what the receipt says. @param {Turn} turn */
export function cutOf(turn) {
  const box = el("div", "cut");
  box.dataset.testid = "cut";
  const line = el("p", "cut-line");
  const key = turn.started ? `end.${turn.ending}` : "end.unstarted";
  line.append(icon("cut"), el("strong", "", t(key)));
  box.append(line);
  if (turn.receipt && turn.started) box.append(el("p", "receipt", receiptText(turn)));
  return box;
}

function receiptText({ next, receipt }) {
  const { generated, acked, upstream } = receipt;
  const seen = Math.max(acked ?? 0, next);
  const shown = generated > seen ? t("receipt.part", { seen, generated }) : t("receipt.all", { seen });
  return `${shown} · ${t(`upstream.${upstream}`)}`;
}
