/**
 * An answer's Markdown as a DOM fragment that may stand in our page.
 *
 * The text comes from a language model that has read strangers' documents: it is hostile until shown otherwise. So, twice:
 * raw HTML is shown as the text that it is, and what the parser makes passes a sanitiser with a short list of tags. No image
 * is ever loaded: its address would tell a stranger that, and when, this answer was read. And whatever the parser cannot
 * stand (ten thousand nested quotes exhaust its stack) is shown as plain text.
 */
import { Lexer, Marked } from "./vendor/marked.esm.js";
import "./vendor/purify.min.js"; // a classic script: it leaves its name on the global object

/** @typedef {{type: string, raw: string}} Block a top-level token */

const purify = globalThis.DOMPurify(window);

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true, // in a chat a line break is meant
  renderer: {
    html: ({ text, block }) => {
      if (/^<br\s*\/?>$/i.test(text.trim())) return "<br>"; // models write it in table cells
      return block ? `<p>${escape(text.trim())}</p>` : escape(text);
    },
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

const RULES = {
  ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em",
    "strong", "del", "a", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "title", "start", "align", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const LANGUAGE = /^language-([\w+#.-]{1,20})$/;
const TOO_DEEP = /^(?:[ \t]*>){100}/m; // quotes in quotes: the parser would try, at a cost that grows with their square
const MAX_DEPTH = 40; // of elements in each other: deeper, nobody reads it, and layout recurses

purify.addHook("uponSanitizeAttribute", (node, data) => {
  // The one class that the parser writes: the language of a code block. Any other would borrow the page's own looks.
  if (data.attrName === "class") data.keepAttr = node.nodeName === "CODE" && LANGUAGE.test(data.attrValue);
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/**
 * Cut text into its top-level blocks.
 * @param {string} text without carriage returns
 * @param {object} links the reference links so far; those that are defined in `text` are added
 * @returns {Block[]} whose `raw`s make up the text
 */
export function blocksOf(text, links) {
  if (TOO_DEEP.test(text)) return [{ type: "plain", raw: text }];
  const lexer = new Lexer(marked.defaults);
  lexer.tokens.links = links;
  try {
    return lexer.lex(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the stack is exhausted
    return [{ type: "plain", raw: text }];
  }
}

/** @param {Block} block @returns {DocumentFragment} */
export function renderBlock(block) {
  let fragment = null;
  try {
    if (block.type !== "plain") fragment = purify.sanitize(marked.parser([block]), RULES);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  if (fragment === null || depthOf(fragment) > MAX_DEPTH) fragment = plain(block.raw);
  fragment.querySelectorAll("pre, table").forEach(dress);
  return fragment;
}

function plain(text) {
  const fragment = document.createDocumentFragment();
  const paragraph = fragment.appendChild(document.createElement("p"));
  paragraph.className = "plain";
  paragraph.textContent = text;
  return fragment;
}

/** Walked, not recursed into: the input may be as deep as the HTML parser lets it be. */
function depthOf(fragment) {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_ELEMENT);
  let depth = 0, deepest = 0;
  while (true) {
    if (walker.firstChild()) depth += 1;
    else {
      while (!walker.nextSibling()) {
        if (depth === 0 || !walker.parentNode()) return deepest;
        depth -= 1;
        if (depth === 0) return deepest;
      }
    }
    deepest = Math.max(deepest, depth);
    if (deepest > MAX_DEPTH) return deepest;
  }
}

/** What may be wider than the page scrolls by itself, so the keyboard must reach it. A code block is headed by its language. */
function dress(node) {
  node.tabIndex = 0;
  if (node.nodeName !== "PRE") return;
  const box = document.createElement("div");
  box.className = "code";
  const head = box.appendChild(document.createElement("p"));
  head.className = "code-head";
  head.textContent = LANGUAGE.exec(node.firstElementChild?.className ?? "")?.[1] ?? "";
  node.replaceWith(box);
  box.append(node);
}
