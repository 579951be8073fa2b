/**
 * The page: joins the client (trialogue.js), the turns (turns.js), their drawing (view.js) and the composer.
 *
 * Frames go one way — client → turns → view — and the user's wishes the other. It must keep no state of its own that could
 * be derived from the turns or the client, and must leave the input usable whatever the connection does.
 */
import { Composer } from "./composer.js";
import { setHidden } from "./elements.js";
import { pickLang, setLang, t } from "./i18n.js";
import { loadKey, loadLang, loadSession, loadTheme, newSession, saveKey, saveLang, saveSession, saveTheme } from "./memory.js";
import { Replay } from "./replay.js";
import { Trialogue } from "./trialogue.js";
import { Turns } from "./turns.js";
import { View } from "./view.js";

const MAX_CHARACTERS = 10_000; // of a message, counted in code points as the server does
const BLINK_MS = 1000; // away for less and nothing missed: not worth a banner
const THEMES = ["auto", "light", "dark"];

const $ = (id) => document.getElementById(id);
const scroll = $("scroll");

let lang = loadLang() ?? pickLang(navigator.language);
let session = loadSession();
let leaving = false;
let followsEnd = true; // the newest line is in sight: keep it there
const turns = new Turns();
const replay = new Replay();
const composer = new Composer({ send: submit, stop, last: () => turns.latest, typing: (active) => client.typing(active) });
const view = new View($("turns"), $("queued"), {
  shown: (turn) => client.ack(turn.id, turn.next - 1),
  ended: (turn, text) => say(turn.ending === "stop" ? t("say.done", { text }) : t(`end.${turn.ending}`)),
  again: (turn) => ask(turn.question), // a new message: what has ended is remembered under its old id
  edit: (turn) => composer.edit(turn),
  cancel: (turn) => {
    cancel(turn);
    composer.focus(); // the button that had it is going
  },
  waiting: () => turns.unfinished.filter((turn) => turn.next === 0 && turn.phase !== "queued").at(-1),
  online: () => client.state === "ready",
  drawn,
});

// The connection

function socketUrl() {
  const url = new URL("../chat-ws", import.meta.url); // beside the folder that this script is served from
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ session_id: session.id, lang }).toString();
  return url.href;
}

/** A token for the WebSocket, for which the server may want a key first: only the user has that. */
async function mintToken(id) {
  const key = loadKey();
  const answer = await fetch(new URL("../auth/ws-token", import.meta.url), {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) },
    body: JSON.stringify({ session_id: id }),
  });
  if (answer.status === 401 || answer.status === 403) {
    askForKey(key !== "");
    return false;
  }
  if (answer.status === 404 || answer.status === 405) return null; // nobody mints here: the handshake will tell
  if (!answer.ok) throw new Error(`no token: HTTP ${answer.status}`);
  return answer.json();
}

function askForKey(again) {
  $("key-form").hidden = false;
  notice(again ? t("key.wrong") : "");
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (key === "") return;
  saveKey(key);
  $("key").value = "";
  $("key-form").hidden = true;
  notice("");
  client.retryNow();
  composer.focus();
});

/** @type {Trialogue} */
let client = connect();

function connect() {
  // From the origin, not from now: so a reload and a second tab show what has been said, as far as the log reaches.
  const { id, origin } = session;
  const made = new Trialogue(socketUrl(), { after: origin, mint: () => mintToken(id) });
  made.on("state", (change) => showState(change));
  made.on("session_ready", (frame) => resumed(made, frame));
  made.on("presence", ({ connections }) => showPresence(connections));
  made.on("typing", ({ active }) => showPresence(Number($("presence").dataset.n), active));
  made.on("goaway", ({ reason }) => {
    if (reason === "expired") return; // the client comes back with a fresh token
    leaving = true;
    showState({ state: "ready" });
  });
  made.on("*", (frame) => {
    const turn = turns.apply(frame);
    if (turn !== null) view.touch(turn);
    const replayed = replay.feed(frame);
    if (replayed !== null) showReplayed(replayed);
    if (frame.type === "stream_start") say(t("say.started"));
    // A refusal of something that is no turn here (it named no readable id, or another tab asked).
    if (turn === null && frame.type === "stream_error" && !turns.get(frame.message_id)) notice(frame.message);
  });
  made.open();
  return made;
}

function resumed(from, frame) {
  showPresence(frame.connections);
  if (frame.resumed !== "replayed") {
    if (!frame.whole) {
      // Everything here has its place before the hole; what goes on is named by the server or asked for again.
      const alive = new Set([frame.running, frame.queued, from.unfinished].flat());
      turns.lose(alive).forEach((turn) => view.touch(turn));
      view.divide(t("gap"));
    }
    session = { ...session, origin: frame.position };
    saveSession(session);
  }
  if (frame.resumed === "replayed") replay.begin((mark) => from.cancel(mark));
  turns.unfinished.forEach((turn) => view.touch(turn)); // "will be sent" has become "sending"
}

function showState({ state, reason = "" }) {
  if (state !== "ready") leaving = false;
  const status = $("status");
  status.dataset.state = state;
  status.textContent = t(leaving ? "state.leaving" : `state.${state}`);
  status.title = reason;
  $("reconnect").hidden = state !== "waiting" && state !== "stopped";
  if (state === "waiting") replay.lost();
  if (state !== "ready") showPresence(1);
}

function showPresence(connections, typing = false) {
  $("presence").hidden = !(connections > 1);
  $("presence").dataset.n = connections;
  $("presence").textContent = typing ? t("presence.typing") : t("presence", { n: connections });
}

/** @param {import("./replay.js").Replayed} replayed */
function showReplayed({ entries, tokens, messages, awayMs, reload }) {
  if (reload ? messages === 0 : entries === 0 && awayMs < BLINK_MS) return;
  const seconds = (awayMs / 1000).toFixed(1);
  if (reload) banner(t("restored", { n: messages }));
  else if (tokens > 0) banner(t("back.tokens", { seconds, n: tokens }));
  else banner(entries > 0 ? t("back.entries", { seconds, n: entries }) : t("back.nothing", { seconds }));
}

function banner(text) {
  $("banner").hidden = text === "";
  $("banner").querySelector("span").textContent = text;
  if (text !== "") say(text);
}
$("banner").querySelector("button").addEventListener("click", () => {
  banner("");
  composer.focus();
});

addEventListener("online", () => client.retryNow());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && client.state === "waiting") client.retryNow(); // a hidden tab's timers may be minutes late
});
$("reconnect").addEventListener("click", () => client.retryNow());

// What the user wants

/**
 * @param {string} text @param {{onBusy?: "enqueue"|"rollback"}} [how]
 * @returns {boolean} it is on its way; else the user was told why not
 */
function ask(text, how) {
  const content = text.trim();
  if (content === "") return false;
  if ([...content].length > MAX_CHARACTERS) return notice(t("too.long", { n: MAX_CHARACTERS }));
  let id;
  try {
    id = client.send(content, how);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return notice(t("too.many"));
  }
  notice("");
  banner("");
  followsEnd = true;
  view.touch(turns.ask(id, content));
  return true;
}

/** @param {string} text @param {{queue: boolean, edited: import("./turns.js").Turn|null}} how */
function submit(text, { queue, edited }) {
  const waits = edited?.ending === null && !edited.started;
  const replaces = edited?.ending === null && edited.started;
  // An edited message that runs is taken back; one that waits makes place for its successor at the queue's end.
  const taken = ask(text, { onBusy: queue || waits ? "enqueue" : replaces ? "rollback" : undefined });
  if (taken && waits) cancel(edited);
  return taken;
}

function cancel(turn) {
  turns.stop(turn);
  view.touch(turn);
  client.cancel(turn.id);
}

function stop() {
  if (turns.current) cancel(turns.current);
}

function startAnew() {
  client.close(); // for good: nobody is left to read the answer, unless another tab is
  turns.clear();
  view.clear();
  composer.leaveEditing();
  notice("");
  banner("");
  session = newSession();
  client = connect();
  drawn();
  composer.focus();
}

$("new").addEventListener("click", startAnew);
$("lang").addEventListener("click", () => {
  lang = lang === "ko" ? "en" : "ko";
  saveLang(lang);
  reword();
  client.reconnect(socketUrl()); // the server's own texts follow
});
$("theme").addEventListener("click", () => {
  saveTheme(THEMES[(THEMES.indexOf(loadTheme()) + 1) % THEMES.length]);
  showTheme();
});
$("help-open").addEventListener("click", () => $("help").showModal());

addEventListener("keydown", (event) => {
  if (event.isComposing || event.defaultPrevented || $("help").open) return;
  const writing = event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement;
  if (event.key === "Escape") composer.leaveEditing() || stop();
  else if (event.altKey && event.code === "KeyN") startAnew();
  else if (!writing && event.key === "/") composer.focus();
  else if (!writing && event.key === "?") $("help").showModal();
  else return;
  event.preventDefault();
});

// What the page says

/** @returns {false} so that a refusal can be returned in one breath */
function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
  return false;
}

/** Read out by screen readers, then taken away: nobody should find an answer twice in the page. */
function say(text) {
  const announcer = $("announcer");
  announcer.textContent = text;
  setTimeout(() => { if (announcer.textContent === text) announcer.textContent = ""; }, 1000);
}

function showTheme() {
  const theme = loadTheme();
  document.documentElement.dataset.theme = theme;
  $("theme").title = t(`theme.${theme}`);
  $("theme").setAttribute("aria-label", $("theme").title);
}

function reword() {
  setLang(lang);
  showTheme();
  composer.reword();
  showState({ state: client.state });
  showPresence(Number($("presence").dataset.n ?? 1));
  view.redraw(turns.all);
}

function drawn() {
  composer.busy = turns.unfinished.length > 0;
  setHidden($("queue"), $("queued").childElementCount === 0);
  setHidden($("welcome"), $("turns").childElementCount + $("queued").childElementCount > 0);
  if (followsEnd) scroll.scrollTop = scroll.scrollHeight;
  showLatest();
}

function showLatest() {
  const away = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
  followsEnd = away < 48;
  setHidden($("latest"), followsEnd);
}

new ResizeObserver(() => { if (followsEnd) scroll.scrollTop = scroll.scrollHeight; }).observe(scroll);
scroll.addEventListener("scroll", showLatest, { passive: true });
$("latest").addEventListener("click", () => {
  scroll.scrollTop = scroll.scrollHeight;
});

reword();
