/**
 * The page: joins the client (trialogue.js), the turns (turns.js), their drawing (view.js) and the composer.
 *
 * Frames go one way — client → turns → view — and the user's wishes the other. It must keep no state of its own that could
 * be derived from the turns or the client, and must leave the input usable whatever the connection does.
 */
import { pickLang, setLang, t } from "./i18n.js";
import { loadKey, loadLang, loadSession, newSession, saveKey, saveLang, saveSession } from "./memory.js";
import { Trialogue } from "./trialogue.js";
import { Turns } from "./turns.js";
import { View } from "./view.js";

const MAX_CHARACTERS = 10_000; // of a message, counted in code points as the server does
const SPOKEN_CHARACTERS = 600; // of an answer, read out at its end; who wants the rest finds it in the page

const $ = (id) => document.getElementById(id);
const input = $("input"), scroll = $("scroll");

let lang = loadLang() ?? pickLang(navigator.language);
let session = loadSession();
let leaving = false;
let followsEnd = true; // the newest line is in sight: keep it there
const turns = new Turns();
const view = new View($("turns"), {
  shown: (turn) => client.ack(turn.id, turn.next - 1),
  ended: (turn, text) => turn.ending === "stop" && say(t("say.done", { text: text.slice(0, SPOKEN_CHARACTERS) })),
  again: (turn) => submit(turn.question), // a new message: what has failed is remembered under its old id
  waiting: () => turns.unfinished.filter((turn) => turn.next === 0 && turn.phase !== "queued").at(-1),
  online: () => client.state === "ready",
  drawn,
});

// The connection

function socketUrl() {
  const url = new URL("/chat-ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ session_id: session.id, lang }).toString();
  url.hash = "";
  return url.href;
}

/** A token for the WebSocket, for which the server may want a key first: only the user has that. */
async function mintToken(id) {
  const key = loadKey();
  const answer = await fetch("/auth/ws-token", {
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
  input.focus();
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
  made.on("goaway", ({ reason }) => {
    if (reason === "expired") return; // the client comes back with a fresh token
    leaving = true;
    showState({ state: "ready" });
  });
  made.on("*", (frame) => {
    const turn = turns.apply(frame);
    if (turn !== null) view.touch(turn);
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
  turns.unfinished.forEach((turn) => view.touch(turn)); // "will be sent" has become "sending"
}

function showState({ state, reason = "" }) {
  if (state !== "ready") leaving = false;
  const status = $("status");
  status.dataset.state = state;
  status.textContent = t(leaving ? "state.leaving" : `state.${state}`);
  status.title = reason;
  $("reconnect").hidden = state !== "waiting" && state !== "stopped";
  if (state !== "ready") showPresence(1);
}

function showPresence(connections) {
  $("presence").hidden = !(connections > 1);
  $("presence").dataset.n = connections;
  $("presence").textContent = t("presence", { n: connections });
}

addEventListener("online", () => client.retryNow());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && client.state === "waiting") client.retryNow(); // a hidden tab's timers may be minutes late
});
$("reconnect").addEventListener("click", () => client.retryNow());

// The composer

function submit(text) {
  const content = text.trim();
  if (content === "") return false;
  if ([...content].length > MAX_CHARACTERS) return notice(t("too.long", { n: MAX_CHARACTERS }));
  let id;
  try {
    id = client.send(content);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return notice(t("too.many"));
  }
  notice("");
  followsEnd = true;
  view.touch(turns.ask(id, content));
  return true;
}

function submitInput() {
  if (submit(input.value)) {
    input.value = "";
    fitInput();
  }
  input.focus();
}

/** As high as its text, up to the limit that the style sheet sets. */
function fitInput() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

input.addEventListener("input", fitInput);
input.addEventListener("keydown", (event) => {
  // Enter that ends a composition (every Korean word!) belongs to the input method; 229 is how Safari and others say so.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  if (!event.repeat) submitInput();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submitInput();
});
$("stop").addEventListener("click", () => {
  const turn = turns.current;
  if (turn) client.cancel(turn.id);
  input.focus();
});
$("new").addEventListener("click", () => {
  client.close(); // for good: nobody is left to read the answer, unless another tab is
  turns.clear();
  view.clear();
  notice("");
  session = newSession();
  client = connect();
  drawn();
  input.focus();
});
$("lang").addEventListener("click", () => {
  lang = lang === "ko" ? "en" : "ko";
  saveLang(lang);
  reword();
  client.reconnect(socketUrl()); // the server's own texts follow
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

function reword() {
  setLang(lang);
  showState({ state: client.state });
  showPresence(Number($("presence").dataset.n ?? 1));
  view.redraw(turns.all);
}

function drawn() {
  $("stop").hidden = turns.unfinished.length === 0;
  $("welcome").hidden = $("turns").childElementCount > 0;
  if (followsEnd) scroll.scrollTop = scroll.scrollHeight;
  showLatest();
}

function showLatest() {
  const away = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
  followsEnd = away < 48;
  $("latest").hidden = followsEnd;
}

scroll.addEventListener("scroll", showLatest, { passive: true });
$("latest").addEventListener("click", () => {
  scroll.scrollTop = scroll.scrollHeight;
});

reword();
