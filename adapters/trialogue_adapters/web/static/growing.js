/**
 * An answer that grows, drawn without drawing it all again: a block that another block follows will not change any more.
 *
 * Only the last block is parsed and sanitised anew, so a token costs the same at the end of a long answer as at its start; and
 * what comes in one burst is drawn in portions, each within a deadline. It must end up with what one drawing of the whole
 * would show, but for a reference link that is defined after its use. Nodes that are equal stay: a selection survives.
 */
import { blocksOf, renderBlock } from "./markdown.js";

/** Characters that are cut into blocks at once; a block that is longer doubles it. */
const WINDOW = 8192;

export class GrowingMarkdown {
  #into;
  #finish;
  #settled = ""; // the text of the blocks that will not change
  #kept = 0; // their nodes, the first ones of `into`
  #links = Object.create(null);

  /**
   * @param {HTMLElement} into whose children are ours alone
   * @param {(block: DocumentFragment) => void} [finish] adds to a block what only a finished one should have
   */
  constructor(into, finish = () => {}) {
    this.#into = into;
    this.#finish = finish;
  }

  /**
   * @param {string} text all of it so far; one that does not go on where the last ended is drawn from its start
   * @param {boolean} whole no more will come
   * @param {number} deadline on `performance.now()`'s clock: stop soon after it
   * @returns {boolean} all is drawn; else call again
   */
  draw(text, whole, deadline) {
    const source = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
    if (!source.startsWith(this.#settled)) this.#reset();
    for (let size = WINDOW; ;) {
      const at = this.#settled.length;
      const part = source.slice(at, at + size);
      const rest = at + part.length < source.length;
      // What the last block defines may be half a definition: it is lent to the parser, and kept when it is settled.
      const blocks = blocksOf(part, Object.assign(Object.create(null), this.#links));
      const final = whole && !rest ? blocks.length : settledOf(blocks, part);
      if (rest && final === 0) size *= 2;
      else if (!this.#settle(blocks, final, deadline)) return false;
      else if (!rest) return true;
    }
  }

  /**
   * Draw these blocks behind the settled ones, and settle the first `final` of them.
   * @returns {boolean} all of them are drawn; else the deadline has come first
   */
  #settle(blocks, final, deadline) {
    const nodes = [];
    let settled = 0, late = false;
    for (const [i, block] of blocks.entries()) {
      const fragment = renderBlock(block);
      if (i < final) this.#finish(fragment);
      const drawn = [...fragment.childNodes];
      nodes.push(...drawn);
      if (i >= final) continue;
      this.#settled += block.raw;
      settled += drawn.length;
      if (block.type === "def") this.#links[block.tag] ??= { href: block.href, title: block.title };
      late = performance.now() > deadline && i + 1 < blocks.length;
      if (late) break;
    }
    morph(this.#into, nodes, this.#kept);
    this.#kept += settled;
    return !late;
  }

  #reset() {
    this.#settled = "";
    this.#kept = 0;
    this.#links = Object.create(null);
  }
}

/** How many of these blocks will not change, whatever follows: those before the last one. @returns {number} */
function settledOf(blocks, part) {
  if (blocks.reduce((size, block) => size + block.raw.length, 0) !== part.length) return 0; // the parser has rewritten it
  const last = blocks.findLastIndex((block) => block.type !== "space");
  const before = blocks.slice(0, Math.max(last, 0)).findLastIndex((block) => block.type !== "space");
  // "2" behind a list: a paragraph until the "." comes, which makes it the list's next item.
  const joins = blocks[before]?.type === "list" && /^\s*\d{1,9}[.)]?$/.test(blocks[last].raw);
  return Math.max(joins ? before : last, 0);
}

/**
 * Make the children of `into` from `start` on equal to `nodes`, with as few changes as possible.
 * @param {Node} into @param {Node[]} nodes @param {number} [start]
 */
function morph(into, nodes, start = 0) {
  let old = into.childNodes[start] ?? null;
  for (const node of nodes) {
    if (old === null) {
      into.appendChild(node);
      continue;
    }
    const next = old.nextSibling;
    if (!old.isEqualNode(node) && !grow(old, node)) into.replaceChild(node, old);
    old = next;
  }
  while (old !== null) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
}

/** @returns {boolean} `old` has become equal to `node` by changes inside it */
function grow(old, node) {
  if (old.nodeName !== node.nodeName) return false;
  if (old.nodeType === Node.TEXT_NODE) {
    if (node.data.startsWith(old.data)) old.appendData(node.data.slice(old.length));
    else old.data = node.data;
    return true;
  }
  if (!old.cloneNode(false).isEqualNode(node.cloneNode(false))) return false;
  morph(old, [...node.childNodes]);
  return true;
}
