// Keeps a page up to date, and shows times in the reader's zone. Every page also works without this script.
"use strict";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localise(root) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    time.textContent = (time.dataset.local ? clock : local).format(new Date(time.dateTime));
  }
}

// Make `old` equal to `fresh`, but keep the elements themselves: so the focus, the scroll position and what the reader
// has opened or typed stay. A list of jobs does not move under the pointer.
function morph(old, fresh) {
  if (old.isEqualNode(fresh) || old.matches("[data-keep], [data-still]:hover")) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const before = [...old.childNodes], after = [...fresh.childNodes];
  after.forEach((node, index) => {
    const known = before[index];
    if (!known) old.append(node);
    else if (known.nodeType !== node.nodeType || known.nodeName !== node.nodeName || known.id !== node.id) known.replaceWith(node);
    else if (node.nodeType === Node.ELEMENT_NODE) morph(known, node);
    else if (known.data !== node.data) known.data = node.data;
  });
  for (const extra of before.slice(after.length)) extra.remove();
}

let loading = false, again = false;

async function refresh() {
  if (loading) { again = true; return; }
  loading = true;
  do {
    again = false;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
      if (response.status === 401 || response.status === 403) location.reload();
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("main");
      if (!fresh) continue;
      localise(fresh);
      morph(document.getElementById("main"), fresh);
      document.title = page.title;
      document.dispatchEvent(new Event("refreshed"));
    } catch { /* the stream shows that the server is unreachable */ }
  } while (again);
  loading = false;
}

let stream = null, retry = 0;

function show(on) {
  const live = document.getElementById("live");
  live.hidden = false;
  live.classList.toggle("on", on);
  live.textContent = on ? "live" : "reconnecting";
}

function connect() {
  clearTimeout(retry);
  if (stream || document.hidden || !document.body.dataset.events) return;
  stream = new EventSource(document.body.dataset.events);
  // Something may have changed since the page was loaded, or while there was no stream.
  stream.onopen = () => { show(true); refresh(); };
  stream.addEventListener("change", refresh);
  stream.onerror = () => {
    show(false);
    if (stream.readyState !== EventSource.CLOSED) return;
    disconnect();
    retry = setTimeout(connect, 15000);
  };
}

function disconnect() {
  if (stream) stream.close();
  stream = null;
}

localise(document);
// A notice is about what was just done: another load of the page would repeat it.
const address = new URL(location.href);
if (address.searchParams.has("notice")) {
  for (const name of [...address.searchParams.keys()]) if (name.startsWith("notice")) address.searchParams.delete(name);
  history.replaceState(null, "", address);
}
connect();
// A hidden page needs no stream. When it is shown again, it is loaded again.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { disconnect(); return; }
  connect();
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
