/**
 * An answer's Markdown as a DOM fragment that may stand in our page.
 *
 * The text comes from a language model that has read strangers' documents: it is hostile until shown otherwise. So, twice:
 * raw HTML is shown as the text that it is, and what the parser makes passes a sanitiser with a short list of tags. No image
 * is ever loaded: its address would tell a stranger that, and when, this answer was read.
 */
import { Marked } from "./vendor/marked.esm.js";
import "./vendor/purify.min.js"; // a classic script: it leaves its name on the global object

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
  ALLOWED_ATTR: ["href", "title", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/** @param {string} text @returns {DocumentFragment} */
export function renderMarkdown(text) {
  return purify.sanitize(marked.parse(text), RULES);
}
