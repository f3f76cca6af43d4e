"use strict";
// Recomputes the hash chain of the published rows in the browser. It loads nothing but the scripts in sealed/, which call
// heads(...) and sealed(...) with the texts that were hashed, and writes every text of theirs as text, never as HTML.

const GENESIS = "0".repeat(64);
const CHAINS = ["forecast", "outcome", "beginning"];
const MOST_PROBLEMS = 20;

const K = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every(p => n % p)) primes.push(n);
  return primes;
})();
const fraction = (value) => Math.floor((value - Math.floor(value)) * 0x100000000) | 0;
const ROUNDS = Int32Array.from(K, p => fraction(Math.cbrt(p)));
const START = Int32Array.from(K.slice(0, 8), p => fraction(Math.sqrt(p)));

// FIPS 180-4. crypto.subtle is not there for pages opened from a disk in every browser.
function sha256(text) {
  const bytes = new TextEncoder().encode(text), size = bytes.length;
  const blocks = new Uint8Array((size + 9 + 63) >> 6 << 6);
  blocks.set(bytes);
  blocks[size] = 0x80;
  const view = new DataView(blocks.buffer);
  view.setUint32(blocks.length - 8, Math.floor(size / 0x20000000));
  view.setUint32(blocks.length - 4, (size << 3) >>> 0);
  const state = Int32Array.from(START), w = new Int32Array(64);
  for (let at = 0; at < blocks.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ (x >>> 3);
      const s1 = (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
      const s0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] = (state[i] + value) | 0; });
  }
  return [...state].map(value => (value >>> 0).toString(16).padStart(8, "0")).join("");
}

const joinHeads = (ends) => sha256(ends.forecast + ends.outcome + (ends.beginning === GENESIS ? "" : ends.beginning));

const nameBatch = (batch) => `${batch.chain} batch ${batch.number}` + (batch.madeAt ? ` (${batch.madeAt.slice(0, 10)})` : "");

function nameRow(place, row) {
  const keys = ["symbol", "as_of", "target_session", "target", "horizon"].map(key => row[key]);
  const known = keys.filter(value => value !== null && value !== undefined).join(", ");
  return `row ${place}` + (known ? ` (${known})` : "");
}

// What a script of sealed/ said last.
let said = null;
function heads(lines) { said = lines; }
function sealed(head, rows, digests, hash) { said = {head, rows, digests, hash}; }

function load(path) {
  return new Promise((found, missing) => {
    const script = document.createElement("script");
    said = null;
    script.src = path;
    script.onload = () => {
      script.remove();
      if (said === null) missing(new Error(`${path} cannot be read`)); else found(said);
    };
    script.onerror = () => { script.remove(); missing(new Error(`its file ${path} was removed, or cannot be read`)); };
    document.head.append(script);
  });
}

function readBatch(cells) {
  const [chain, number, universe, madeAt, rows, prevHash, hash, ledgerHead] = cells;
  const path = `sealed/${chain}s/${String(number).padStart(6, "0")}.js`;
  return {chain, number, universe, madeAt, rows, prevHash, hash, ledgerHead, path, problem: ""};
}

function checkHeads(batches) {
  const last = Object.fromEntries(CHAINS.map(name => [name, {number: 0, hash: GENESIS}]));
  for (const batch of batches) {
    const before = last[batch.chain];
    if (!before) { batch.problem = "there is no such chain"; continue; }
    if (batch.number !== before.number + 1) {
      batch.problem = `it follows batch ${before.number}: batches were removed or moved`;
    } else if (batch.prevHash !== before.hash) {
      batch.problem = "it does not follow the hash of the batch before it: one was changed or removed";
    }
    last[batch.chain] = {number: batch.number, hash: batch.hash};
    const ends = Object.fromEntries(CHAINS.map(name => [name, last[name].hash]));
    if (!batch.problem && batch.ledgerHead !== joinHeads(ends)) {
      batch.problem = "the head of the ledger after it is not the hash of its chains: a head was changed";
    }
  }
}

function readRows(text) {
  const facts = JSON.parse(text.head + "]}");
  const rows = text.rows.map(line => {
    const cells = JSON.parse(line);
    return Object.fromEntries(facts.columns.map((name, i) => [name, cells[i]]));
  });
  return {facts, rows};
}

function findProblem(batch, text, facts, rows) {
  const header = [batch.number, batch.universe, batch.madeAt, batch.rows, batch.prevHash];
  const hash = sha256(text.head + text.rows.join(",") + "]}");
  const isSealed = hash === batch.hash && hash === text.hash;
  if (isSealed && facts.chain === batch.chain && JSON.stringify(facts.batch) === JSON.stringify(header)) return "";
  const most = Math.max(text.rows.length, text.digests.length);
  for (let i = 0; i < most; i++) {
    if (i >= text.rows.length) return `row ${i + 1} and what follows was removed`;
    if (sha256(text.rows[i]).slice(0, 8) !== text.digests[i]) {
      return `${nameRow(i + 1, rows[i])} is not the row that was sealed: it was changed, moved or added`;
    }
  }
  if (text.rows.length !== batch.rows) return `it was sealed with ${batch.rows} rows and has ${text.rows.length}`;
  return "its own values or its hash were changed, or its rows together with their digests";
}

function findLate(batch, rows, latest) {
  if (batch.chain !== "forecast") return "";
  const earlier = latest[batch.universe] || "";
  latest[batch.universe] = batch.madeAt > earlier ? batch.madeAt : earlier;
  for (const [i, row] of rows.entries()) {
    const observed = row.observed_at || "", notBefore = observed > earlier ? observed : earlier;
    if (row.kind === "live" && !(notBefore <= row.issued_at && row.issued_at < (row.opens_at || ""))) {
      return `${nameRow(i + 1, row)} is marked live, but its times make it late`;
    }
  }
  return "";
}

const make = (tag, text, parent, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  if (parent) parent.append(element);
  return element;
};

async function showRows(batch, place) {
  place.replaceChildren();
  const {facts, rows} = readRows(await load(batch.path));
  make("h2", `The rows of ${nameBatch(batch)}`, place);
  const table = make("table", undefined, make("div", undefined, place, "wide"));
  const head = make("tr", undefined, make("thead", undefined, table)), body = make("tbody", undefined, table);
  facts.columns.forEach(name => make("th", name, head));
  for (const row of rows) {
    const line = make("tr", undefined, body);
    facts.columns.forEach(name => make("td", row[name] === null ? "" : String(row[name]), line));
  }
  place.scrollIntoView();
}

function listBatches(batches) {
  const body = document.querySelector("#batches tbody"), place = document.querySelector("#rows");
  for (const batch of batches.slice().reverse()) {
    const line = make("tr", undefined, body);
    [batch.chain, batch.number, batch.universe, batch.madeAt.slice(0, 16).replace("T", " "), batch.rows || ""]
      .forEach(cell => make("td", String(cell), line));
    const state = batch.problem ? "broken" : batch.rows ? "sealed" : "known by its hash alone";
    make("td", state, line, batch.problem ? "broken" : "");
    make("code", batch.ledgerHead, make("td", undefined, line));
    const cell = make("td", undefined, line);
    if (batch.rows) {
      const button = make("button", "rows", cell);
      button.setAttribute("aria-label", `rows of ${nameBatch(batch)}`);
      button.onclick = () => showRows(batch, place).catch(error => { place.textContent = error.message; });
    }
  }
}

function findHead(head, batches) {
  const direct = batches.find(batch => batch.ledgerHead === head);
  return direct ? nameBatch(direct) : "";
}

function offerHead(batches) {
  const form = document.querySelector("#head"), answer = document.querySelector("#answer");
  form.onsubmit = (event) => {
    event.preventDefault();
    const head = form.elements.head.value.trim().toLowerCase(), after = findHead(head, batches);
    answer.className = after ? "" : "broken";
    answer.textContent = after
      ? `That head was the ledger's after ${after}: nothing that was sealed until then has changed.`
      : "That is not the head after any batch shown here: the ledger was rewritten, or its end cut off.";
  };
}

function show(batches, problems) {
  const count = (chain) => batches.filter(b => b.chain === chain).reduce((sum, b) => sum + b.rows, 0);
  const verdict = document.querySelector("#verdict"), list = document.querySelector("#problems");
  document.documentElement.dataset.state = problems.length ? "broken" : "sealed";
  verdict.className = problems.length ? "broken" : "sealed";
  verdict.textContent = problems.length
    ? `This is not what was sealed. The first fault: ${problems[0]}`
    : `What is shown here is what was sealed: ${batches.length} batches, ${count("forecast")} forecasts, ` +
      `${count("outcome")} outcomes, recomputed by this browser.`;
  problems.slice(1, MOST_PROBLEMS).forEach(problem => make("li", problem, list));
  const last = batches[batches.length - 1];
  document.querySelector("#newest").textContent = last ? last.ledgerHead : "";
}

async function check() {
  const verdict = document.querySelector("#verdict"), latest = {}, problems = [];
  let batches = [];
  try {
    batches = (await load("sealed/heads.js")).map(readBatch);
    checkHeads(batches);
  } catch (error) {
    problems.push(error.message);
  }
  for (const [i, batch] of batches.entries()) {
    if (i % 50 === 0) verdict.textContent = `Recomputing: ${i} of ${batches.length} batches`;
    if (batch.rows && !batch.problem) {
      try {
        const text = await load(batch.path), {facts, rows} = readRows(text);
        batch.problem = findProblem(batch, text, facts, rows) || findLate(batch, rows, latest);
      } catch (error) {
        batch.problem = error.message;
      }
    }
    if (batch.problem) problems.push(`${nameBatch(batch)}: ${batch.problem}`);
  }
  listBatches(batches);
  offerHead(batches);
  show(batches, problems);
}

addEventListener("error", event => { if (event.message) document.documentElement.dataset.error = event.message; });
addEventListener("DOMContentLoaded", check);
