/**
 * What the page remembers between visits: the session's id, the position from which its conversation can be replayed,
 * the language and the theme. All tabs of this origin share it, and so share the session. A key that the user has typed is this tab's,
 * and is forgotten with it.
 *
 * It must never hold what was said: that is the server's to keep or to forget.
 */
import { randomId } from "./trialogue.js";

const SESSION = "trialogue.session";
const LANG = "trialogue.lang";
const THEME = "trialogue.theme"; // theme.js reads it before the first paint
const KEY = "trialogue.key";
const ID = /^[A-Za-z0-9._~:-]{1,128}$/;

/** Storage may be forbidden (private windows, blocked cookies): then this tab remembers until it is closed. */
const fallback = new Map();
function read(key, storage = "localStorage") {
  try { return window[storage].getItem(key); } catch { return fallback.get(key) ?? null; }
}
function write(key, value, storage = "localStorage") {
  try { window[storage].setItem(key, value); } catch { fallback.set(key, value); }
}

/** @typedef {{id: string, origin: string|null}} Session `origin`: the earliest position that this browser was given */

/** @returns {Session} the stored session, else a new one */
export function loadSession() {
  try {
    const { id, origin } = JSON.parse(read(SESSION));
    if (ID.test(id)) return { id, origin: typeof origin === "string" ? origin : null };
  } catch { /* nothing stored, or not by us */ }
  return newSession();
}

/** @returns {Session} */
export function newSession() {
  const session = { id: randomId(), origin: null };
  saveSession(session);
  return session;
}

/** @param {Session} session */
export const saveSession = (session) => write(SESSION, JSON.stringify(session));

/** @returns {string|null} */
export const loadLang = () => read(LANG);
/** @param {string} lang */
export const saveLang = (lang) => write(LANG, lang);

/** @typedef {"auto"|"light"|"dark"} Theme */
/** @returns {Theme} */
export const loadTheme = () => (["light", "dark"].includes(read(THEME)) ? read(THEME) : "auto");
/** @param {Theme} theme */
export const saveTheme = (theme) => write(THEME, theme);

/** @returns {string} the key that was typed in this tab, "" if none was */
export const loadKey = () => read(KEY, "sessionStorage") ?? "";
/** @param {string} key */
export const saveKey = (key) => write(KEY, key, "sessionStorage");
