/**
 * The chosen theme, before the first paint: a classic script, for a module would come after it and the page would flash.
 *
 * It must do nothing else; the toggle is in page.js, and what "auto" means is the style sheet's and the system's.
 */
try {
  document.documentElement.dataset.theme = localStorage.getItem("trialogue.theme") ?? "auto";
} catch { /* storage is forbidden: the system's choice */ }
