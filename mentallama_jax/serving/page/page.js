"use strict";

// Everything that comes from outside (posts, answers, names) goes into the page as text, never as HTML. Nothing is kept:
// not in the browser's storage, not in the address. What was typed is gone when the page is left.

const byId = (id) => document.getElementById(id);
const UNSEEN = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]/g;
const LONG = 20000;
const WORDS = "Shown here because of words in the post. They may mean something else.";
const LABEL = "Shown here because the model’s reading may point to danger. It can be wrong.";

let tasks = new Map();
let care = null;
let running = null;
let clock = null;
let retry = null;

function made(name, text = "", className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function option(value, text) {
  const element = made("option", text);
  element.value = value;
  return element;
}

function say(text) {
  byId("said").textContent = text;
}

const percent = (share) => (share > 0 && share < 0.005 ? "under 1 %" : share < 1 && share >= 0.995 ? "over 99 %" : `${Math.round(100 * share)} %`);

// ---- words of danger: the same search as the server's, before anything is sent

function evened(text) {
  const plain = text.normalize("NFKD").replace(UNSEEN, "").toLowerCase()
    .replace(/['’‘ʼ´`＇]/g, "").replace(/[\u0300-\u036f]/g, "")
    .replace(/[.!?;]+|\n[ \t\r]*\n/g, " . ").replace(/[^a-z0-9*.]+/g, " ").trim();
  return ` ${plain} . `;
}

function speaksOfRisk(post) {
  if (!care) return false;
  const harmless = new RegExp(care.risk_words.harmless, "g");
  return new RegExp(care.risk_words.wordings).test(evened(post).replace(harmless, " "));
}

// ---- crisis lines

function ownCountry() {
  for (const language of navigator.languages || [navigator.language]) {
    try {
      const region = new Intl.Locale(language).maximize().region;
      if (region && region in care.lines.countries) return region;
      if (new Intl.Locale(language).region) return "";
    } catch { /* no language that is known */ }
  }
  return "";
}

function telephone(number, scheme) {
  const link = made("a", number);
  link.href = `${scheme}:${number.replace(/[^0-9+]/g, "")}`;
  return link;
}

function website(address) {
  const link = made("a", address.replace(/^https:\/\/(www\.)?/, ""));
  link.href = address;
  link.rel = "noreferrer noopener";
  link.target = "_blank";
  return link;
}

function lineItem(line) {
  const item = document.createElement("li");
  const name = made("strong");
  name.append(made("bdi", line.name));
  const ways = made("div", "", "ways");
  const add = (before, link) => {
    const way = made("span", before);
    way.append(link);
    ways.append(way);
  };
  if (line.call) add("Call ", telephone(line.call, "tel"));
  if (line.text) add("Text ", telephone(line.text, "sms"));
  if (line.web.startsWith("https://")) add("", website(line.web));
  if (line.hours) ways.append(made("span", line.hours));
  item.append(name, ways);
  return item;
}

function showLines() {
  if (!care) return;
  const own = care.lines.countries[byId("country").value];
  const lines = own ? own.lines : [];
  byId("lines").replaceChildren(...[...lines, care.lines.elsewhere].map(lineItem));
  const emergency = byId("emergency");
  emergency.textContent = "In danger to life, call ";
  if (own) emergency.append(telephone(own.emergency, "tel"), ".");
  else emergency.append("the emergency number of your country.");
  const checked = lines.length > 0 && lines.every((line) => line.checked);
  byId("lines-note").textContent = checked
    ? `Checked on ${lines.map((line) => line.checked).sort()[0]}. Numbers change: if one does not answer, take another.`
    : "Nobody has checked these numbers for this server yet. If one does not answer, take another.";
}

function showCare(first, because = "") {
  const help = byId("help");
  byId("help-why").textContent = because;
  const place = byId(first ? "care" : "care-home");
  if (help.parentElement !== place) place.append(help);
}

function firstLine() {
  const own = care && care.lines.countries[byId("country").value];
  if (!own) return "findahelpline.com";
  const line = own.lines[0];
  return `${line.name}, ${line.call || line.text || line.web}`;
}

// ---- asking the server

class Failure extends Error {
  constructor(title, text, status = 0) {
    super(title);
    this.text = text;
    this.status = status;
  }
}

function words(status, message, wait) {
  if (status === 401) return ["This server wants a key.", byId("key").value ? "The key was not accepted. " + message : "Please give the key of this server."];
  if (status === 413) return ["The post is too long for this server.", message];
  if (status === 429) return ["The server is busy.", wait ? `Please try again in ${wait} seconds.` : "Please try again in a moment."];
  if (status === 503) return ["The server is not ready.", "It is starting or stopping. Please try again in a moment."];
  if (status === 504) return ["The model took too long.", "A shorter post may help."];
  if (status >= 500) return ["Something went wrong on the server.", message];
  return ["The server did not take this request.", message];
}

async function ask(path, body, signal) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  const key = byId("key").value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal,
      cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached.", "Is it still running, and are you connected?");
  }
  let value = null;
  try {
    value = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!answer.ok) {
    if (answer.status === 401) byId("key-field").hidden = false;
    const message = value && value.error && typeof value.error.message === "string" ? value.error.message : "";
    const wait = parseInt(answer.headers.get("Retry-After"), 10);
    throw new Failure(...words(answer.status, message.slice(0, 500), wait > 0 ? wait : 0), answer.status);
  }
  return value;
}

const isText = (value) => typeof value === "string";
const isShare = (value) => typeof value === "number" && value >= 0 && value <= 1;
const ofShares = (value) => value && typeof value === "object" && Object.values(value).every(isShare);

function known(value) {
  const fine = value && ofShares(value.probabilities) && isText(value.explanation) && Array.isArray(value.quotes)
    && (isText(value.label) || value.label === null) && isShare(value.confidence) && value.risk
    && value.quotes.every((quote) => Number.isInteger(quote.start) && Number.isInteger(quote.end));
  if (!fine) throw new Failure("The answer cannot be read.", "The server answered in a form that this page does not know.");
  return value;
}

// ---- tasks

function showAspects() {
  const task = tasks.get(byId("task").value);
  const aspects = (task && task.aspects) || [];
  byId("aspect").replaceChildren(...aspects.map((aspect) => option(aspect, aspect)));
  byId("aspect-field").hidden = aspects.length === 0;
  showQuestion();
}

function question() {
  const task = tasks.get(byId("task").value);
  return task ? task.question.replace("{aspect}", byId("aspect").value) : "";
}

function showQuestion() {
  const task = tasks.get(byId("task").value);
  const asked = task && task.aspects.length ? `${question()} ` : "";
  byId("question").textContent = task ? `${asked}The answers are: ${task.labels.join(", ")}.` : "";
}

async function loadTasks() {
  try {
    const answer = await ask("v1/tasks");
    if (!answer || !Array.isArray(answer.tasks)) throw new Failure("The answer cannot be read.", "The server named no tasks.");
    tasks = new Map(answer.tasks.map((task) => [task.name, task]));
    byId("task").replaceChildren(...answer.tasks.map((task) => option(task.name, `${task.name}: ${task.question.replace("{aspect}", "…")}`)));
    showAspects();
    loadName();
    return true;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    showFailure(error, loadAgain);
    return false;
  }
}

async function loadName() {
  try {
    const name = (await ask("v1/models")).data[0].id;
    byId("model").replaceChildren("The model here is ", made("bdi", name), ". ");
  } catch { /* the page is as good without it */ }
}

async function loadAgain() {
  show("nothing");
  if (await loadTasks()) byId("post").focus();
}

async function loadCare() {
  try {
    care = await ask("care.json");
  } catch {
    return; // the page has a link to lines of all countries in it
  }
  const names = Object.entries(care.lines.countries).map(([code, own]) => option(code, own.country));
  byId("country").replaceChildren(...names, option("", "another country"));
  byId("country").value = ownCountry();
  showLines();
}

// ---- what is shown

function show(...ids) {
  for (const id of ["waiting", "failure", "answer", "nothing"]) byId(id).hidden = !ids.includes(id);
}

function showFailure(failure, again = null) {
  byId("failure-title").textContent = failure.message;
  byId("failure-text").textContent = failure.text;
  byId("failure-text").hidden = !failure.text;
  byId("again").hidden = !again;
  retry = again;
  show("failure");
  say(`${failure.message} ${failure.text}`);
}

function chanceItem(label, share, chosen, most) {
  const item = document.createElement("li");
  const row = made("div", "", label === chosen ? "chosen" : "");
  const name = made("span");
  name.append(made("bdi", label));
  row.append(name, made("span", percent(share), "number"));
  const track = made("span", "", "track");
  const fill = made("span", "", share === most ? "fill most" : "fill");
  fill.style.width = `${(100 * share).toFixed(1)}%`;
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  item.append(row, track);
  return item;
}

// Offsets of the server count characters (code points); those of this language count halves of some.
function markedPost(post, quotes) {
  const letters = Array.from(post);
  const inside = new Uint8Array(letters.length + 1);
  for (const { start, end } of quotes) inside.fill(1, Math.max(0, start), Math.max(0, end));
  const pieces = [];
  for (let start = 0; start < letters.length;) {
    let end = start + 1;
    while (end < letters.length && inside[end] === inside[start]) end += 1;
    const text = letters.slice(start, end).join("");
    pieces.push(inside[start] ? made("mark", text) : document.createTextNode(text));
    start = end;
  }
  return pieces;
}

function showVerdict(answer) {
  const verdict = byId("verdict");
  if (answer.abstained || answer.label === null) {
    verdict.textContent = "The model abstains: it is not sure enough to answer.";
    byId("verdict-note").textContent = `It is ${percent(answer.confidence)} sure of its likeliest answer, less than what you asked for.`;
    return "The model abstains. It is not sure enough to answer.";
  }
  verdict.textContent = "The model reads this post as: ";
  verdict.append(made("bdi", answer.label));
  byId("verdict-note").textContent = "This is an answer to the question above, found by a program. It is no finding about a person.";
  return `The model reads this post as: ${answer.label}, ${percent(answer.confidence)}.`;
}

function showAnswer(answer, post, asked) {
  byId("asked").textContent = asked;
  const said = showVerdict(answer);
  const shares = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  const most = shares.length ? shares[0][1] : 0;
  const chosen = answer.abstained ? null : answer.label;
  byId("chances").replaceChildren(...shares.map(([label, share]) => chanceItem(label, share, chosen, most)));
  byId("calibrated").textContent = answer.calibrated === true
    ? "Calibrated on other posts: of answers that are called 80 % likely, about 80 in 100 agreed with the benchmark."
    : "Not calibrated: the order means something, the numbers are often surer than they should be.";
  byId("explanation").textContent = answer.explanation || "The model gave none.";
  byId("explanation-note").textContent = answer.explanation_complete === false ? "Cut off at the longest length." : "";
  byId("marked").replaceChildren(...markedPost(post, answer.quotes));
  const quotes = answer.quotes.map((quote) => {
    const item = document.createElement("li");
    item.append(made("bdi", isText(quote.text) ? quote.text : Array.from(post).slice(quote.start, quote.end).join("")));
    return item;
  });
  byId("quotes").replaceChildren(...quotes);
  byId("quoted").hidden = quotes.length === 0;
  byId("no-quotes").hidden = quotes.length > 0;
  byId("answer-notice").textContent = isText(answer.notice) ? answer.notice : "";
  show("answer");
  return said;
}

// On a telephone the answers stand below the form.
function bringIntoView() {
  const answers = byId("care").parentElement;
  const { top } = answers.getBoundingClientRect();
  if (top < 0 || top > 0.5 * window.innerHeight) answers.scrollIntoView();
}

function wait(on) {
  clearInterval(clock);
  byId("cancel").hidden = !on;
  byId("send").toggleAttribute("aria-disabled", false);
  if (!on) return;
  byId("send").setAttribute("aria-disabled", "true");
  const begun = Date.now();
  const tick = () => { byId("seconds").textContent = `${Math.round((Date.now() - begun) / 1000)} s`; };
  tick();
  clock = setInterval(tick, 1000);
  show("waiting");
}

function postFault(post) {
  if (!post.replace(UNSEEN, "").trim()) return "Please paste a post first.";
  return "";
}

function showPostFault(fault) {
  byId("post-error").textContent = fault;
  if (fault) byId("post").setAttribute("aria-invalid", "true");
  else byId("post").removeAttribute("aria-invalid");
}

async function send() {
  if (running) return;
  const post = byId("post").value.toWellFormed ? byId("post").value.toWellFormed() : byId("post").value;
  const fault = postFault(post);
  showPostFault(fault);
  if (fault) {
    byId("post").focus();
    return;
  }
  const byWords = speaksOfRisk(post);
  const first = byWords || !care; // without the words that point to danger, nothing says that there are none
  showCare(first, byWords ? WORDS : "");
  if (!care) loadCare();
  const task = byId("task").value;
  if (!task) {
    await loadAgain();
    return;
  }
  const asked = question();
  const here = document.activeElement;
  const own = running = new AbortController();
  wait(true);
  say(first ? `Crisis lines are shown first: ${firstLine()}. The model is reading.` : "The model is reading.");
  bringIntoView();
  try {
    const aspect = byId("aspect-field").hidden ? null : byId("aspect").value;
    const body = { post, task, aspect, abstain_below: Number(byId("threshold").value) };
    const answer = known(await ask("v1/analyse", body, own.signal));
    if (running !== own) return;
    const risk = byWords || answer.risk.high === true;
    showCare(risk, byWords ? WORDS : risk ? LABEL : "");
    const said = showAnswer(answer, post, asked);
    say(risk ? `Crisis lines are shown first: ${firstLine()}. ${said}` : said);
    bringIntoView();
  } catch (error) {
    if (running !== own) return;
    if (error.name === "AbortError") {
      show("nothing");
      say("Stopped.");
    } else {
      const failure = error instanceof Failure ? error : new Failure("The answer cannot be shown.", "");
      showFailure(failure, failure.status === 401 || failure.status === 413 || failure.status === 400 ? null : send);
      if (failure.status === 401) byId("key").focus();
    }
  } finally {
    if (running === own) {
      const left = document.activeElement === byId("cancel") || document.activeElement === document.body;
      running = null;
      wait(false);
      if (left) (byId("answer").hidden ? (here && here !== byId("cancel") ? here : byId("send")) : byId("answer-title")).focus();
    }
  }
}

function cancel() {
  if (running) running.abort();
}

function clear() {
  const stopped = running;
  running = null;
  if (stopped) stopped.abort();
  wait(false);
  byId("post").value = "";
  for (const id of ["asked", "verdict", "explanation", "marked", "quotes", "chances", "failure-text"]) byId(id).textContent = "";
  showPostFault("");
  showCount();
  showCare(false);
  show("nothing");
  say("Cleared.");
}

function showCount() {
  const letters = byId("post").value.length;
  const long = letters > LONG ? ": more than most models read" : "";
  byId("count").textContent = `${letters.toLocaleString("en")} ${letters === 1 ? "character" : "characters"}${long}`;
}

byId("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
byId("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") cancel(); });
byId("cancel").addEventListener("click", cancel);
byId("clear").addEventListener("click", () => { clear(); byId("post").focus(); });
byId("again").addEventListener("click", () => { if (retry) retry(); });
byId("post").addEventListener("input", () => { showCount(); if (byId("post-error").textContent) showPostFault(postFault(byId("post").value)); });
byId("task").addEventListener("change", showAspects);
byId("aspect").addEventListener("change", showQuestion);
byId("country").addEventListener("change", showLines);
window.addEventListener("pagehide", () => { clear(); byId("key").value = ""; });

loadCare();
loadTasks();
showCount();
