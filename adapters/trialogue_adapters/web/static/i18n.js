/**
 * Every word of the page, in Korean and English. Server texts come in the connection's language and are not here.
 *
 * Elements carry `data-i18n="key"` (text) or `data-i18n-label="key"` (accessible name and tooltip); code calls `t(key)`.
 */

/** @typedef {"ko"|"en"} Lang */

const TEXTS = {
  ko: {
    "app.tagline": "답변 중에도 말을 건네는 대화",
    "new": "새 대화", "lang": "Switch to English", "lang.short": "EN",
    "messages": "대화", "composer": "메시지 작성", "input": "메시지", "send": "보내기", "stop": "답변 중지",
    "placeholder": "무엇이든 물어보세요", "hint": "Enter로 보내기 · Shift+Enter로 줄 바꿈",
    "latest": "최신 메시지로",
    "welcome.title": "무엇을 도와드릴까요?",
    "welcome.text": "답변이 나오는 동안에도 새 질문을 보내면 바로 그 질문에 답합니다.",
    "you": "나", "answer": "답변", "loading": "답변을 준비하고 있습니다",
    "question.unknown": "(질문을 불러올 수 없습니다)",
    "state.idle": "연결 안 됨", "state.connecting": "연결 중…", "state.ready": "연결됨",
    "state.waiting": "연결 끊김 — 다시 연결하는 중…", "state.stopped": "연결이 종료됨",
    "state.leaving": "서버가 곧 다시 시작됩니다",
    "key.label": "이 서버는 키가 있어야 쓸 수 있습니다. 키는 이 탭을 닫으면 잊습니다.",
    "key.wrong": "이 키로는 들어갈 수 없습니다", "key.use": "키 사용",
    "reconnect": "다시 연결", "presence": "{n}곳에서 접속 중",
    "phase.sending": "보내는 중", "phase.offline": "연결되면 보냅니다", "phase.queued": "대기 중",
    "phase.queued.place": "대기 중 · {n}번째", "phase.waiting": "이전 답변을 정리하는 중", "phase.retrieving": "자료를 찾는 중",
    "phase.generating": "답변 작성 중",
    "end.length": "길이 제한으로 답변이 잘렸습니다", "end.cancelled": "중지됨", "end.interrupted": "새 메시지로 중단됨",
    "end.retracted": "철회됨", "end.failed": "오류", "end.rejected": "보내지 못함",
    "end.lost": "연결이 끊긴 동안 끝난 답변입니다",
    "again": "다시 묻기", "sources": "출처 {n}개", "source.untitled": "제목 없음", "score": "관련도 {n}",
    "totals": "토큰 {tokens}개 · {seconds}초",
    "gap": "이전 메시지는 서버에 더 이상 남아 있지 않습니다",
    "too.long": "메시지는 {n}자까지 보낼 수 있습니다", "too.many": "아직 답을 받지 못한 메시지가 너무 많습니다",
    "say.started": "답변이 시작되었습니다", "say.done": "답변: {text}",
  },
  en: {
    "app.tagline": "A chat you can talk over",
    "new": "New chat", "lang": "한국어로 바꾸기", "lang.short": "한",
    "messages": "Conversation", "composer": "Write a message", "input": "Message", "send": "Send", "stop": "Stop answering",
    "placeholder": "Ask anything", "hint": "Enter to send · Shift+Enter for a new line",
    "latest": "To the newest message",
    "welcome.title": "How can I help?",
    "welcome.text": "Send a new question while an answer is streaming, and it is answered at once.",
    "you": "You", "answer": "Answer", "loading": "An answer is being prepared",
    "question.unknown": "(the question is not available)",
    "state.idle": "Not connected", "state.connecting": "Connecting…", "state.ready": "Connected",
    "state.waiting": "Offline — reconnecting…", "state.stopped": "Connection closed",
    "state.leaving": "The server is about to restart",
    "key.label": "This server wants a key. It is forgotten when you close this tab.",
    "key.wrong": "This key is not accepted", "key.use": "Use key",
    "reconnect": "Reconnect", "presence": "Open in {n} places",
    "phase.sending": "Sending", "phase.offline": "Will be sent when back online", "phase.queued": "Queued",
    "phase.queued.place": "Queued · number {n}", "phase.waiting": "Closing the previous answer",
    "phase.retrieving": "Looking things up", "phase.generating": "Answering",
    "end.length": "Cut off at the size limit", "end.cancelled": "Stopped", "end.interrupted": "Interrupted by a newer message",
    "end.retracted": "Retracted", "end.failed": "Error", "end.rejected": "Not sent",
    "end.lost": "Ended while the connection was down",
    "again": "Ask again", "sources": "Sources ({n})", "source.untitled": "Untitled", "score": "relevance {n}",
    "totals": "{tokens} tokens · {seconds} s",
    "gap": "Earlier messages are no longer kept on the server",
    "too.long": "A message can have up to {n} characters", "too.many": "Too many messages are still unanswered",
    "say.started": "The answer has started", "say.done": "Answer: {text}",
  },
};

/** @type {Lang} */
let current = "ko";

/** @param {string|undefined} tag a BCP 47 tag, such as `navigator.language` @returns {Lang} */
export const pickLang = (tag) => (/^ko\b/i.test(tag ?? "") ? "ko" : "en");

/** @param {string} key @param {Record<string, string|number>} [values] @returns {string} */
export function t(key, values = {}) {
  const text = TEXTS[current][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** Switch the language and re-word everything marked under `root`. @param {Lang} lang @param {ParentNode} root */
export function setLang(lang, root = document) {
  current = lang;
  document.documentElement.lang = lang;
  for (const el of root.querySelectorAll("[data-i18n]")) el.textContent = t(el.dataset.i18n);
  for (const el of root.querySelectorAll("[data-i18n-label]")) {
    el.setAttribute("aria-label", t(el.dataset.i18nLabel));
    if (el instanceof HTMLButtonElement) el.title = t(el.dataset.i18nLabel);
  }
  for (const el of root.querySelectorAll("[data-i18n-placeholder]")) el.placeholder = t(el.dataset.i18nPlaceholder);
}

/** For a test: both languages have the same keys. */
export const keysOf = (lang) => Object.keys(TEXTS[lang]).sort();
