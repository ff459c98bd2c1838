// The Kirin pages: a gallery of generations, and the generations of one task instance.
//
// One script for two places: Airflow imports it as a React app and takes globalThis.Kirin; page.html loads it alone.
// It has no build step and no dependency. Text reaches the page as text nodes only, so that a prompt stays a prompt.

const BASE = new URL("../../", import.meta.url);
const POLL = 3000;
const SLOW_POLL = 10000;
const PATIENCE = 120000;
const ACTIVE = ["scheduled", "queued", "running", "deferred", "up_for_retry", "up_for_reschedule", "restarting"];
const STATUS = { in_progress: "In progress", completed: "Completed", failed: "Failed" };
const COLORS = 6;

// DOM --------------------------------------------------------------------------------------------------------------

function node(create, tag, attributes, children) {
  const element = create(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => node((name) => document.createElement(name), tag, attributes, children);
const svg = (tag, attributes, ...children) =>
  node((name) => document.createElementNS("http://www.w3.org/2000/svg", name), tag, attributes, children);

const ICONS = {
  copy: "M8 8V5a1 1 0 0 1 1-1h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-3M5 9h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1z",
  download: "M12 4v11m0 0 4-4m-4 4-4-4M5 20h14",
  play: "M8 5.5v13l11-6.5z",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9.5h4M4 14.5h4M16 9.5h4M16 14.5h4",
  alert: "M12 8v5m0 3.2v.3M10.3 4.3 2.6 18a2 2 0 0 0 1.7 3h15.4a2 2 0 0 0 1.7-3L13.7 4.3a2 2 0 0 0-3.4 0z",
};
const icon = (name) =>
  svg("svg", { viewBox: "0 0 24 24", class: "k-icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));

// Words ------------------------------------------------------------------------------------------------------------

const usd = (amount) => (amount === null ? "–" : `$${Number(amount).toFixed(2)}`);
const percent = (share) => `${Math.round(share * 100)} %`;
const clock = (at) => new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
const plural = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;

function ago(at) {
  const seconds = (Date.now() - new Date(at)) / 1000;
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, length]) => seconds >= length) ?? ["second", 1];
  return new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" }).format(-Math.floor(seconds / size), unit);
}

function span(from, to) {
  const seconds = Math.max(0, (new Date(to) - new Date(from)) / 1000);
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const time = (at) => h("time", { datetime: at, title: clock(at) }, ago(at));

// Addresses --------------------------------------------------------------------------------------------------------

const keyOf = (card) => [card.dag_id, card.run_id, card.task_id, String(card.map_index)];
const path = (parts) => parts.map(encodeURIComponent).join("/");
const api = (kind, ...parts) => new URL(`kirin/api/${kind}${parts.length ? `/${path(parts)}` : ""}`, BASE).href;

function dagRoute(card, depth) {
  const index = card.map_index >= 0 ? `/mapped/${card.map_index}` : "";
  const parts = [`/dags/${encodeURIComponent(card.dag_id)}`, `/runs/${encodeURIComponent(card.run_id)}`,
    `/tasks/${encodeURIComponent(card.task_id)}${index}`];
  return parts.slice(0, depth).join("");
}

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function get(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "Airflow did not answer.");
  }
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, typeof body.detail === "string" ? body.detail : `Airflow answered ${response.status}.`);
}

// Pages ------------------------------------------------------------------------------------------------------------

// What a page is given: `signal` ends its requests, `go` shows another page, `link` makes an inner link.
function mount(root, ti, { alone, navigate }) {
  const controller = new AbortController();
  const route = (target) => (target.startsWith("/plugin/kirin") && alone ? alonePath(target) : target);
  const page = {
    root,
    signal: controller.signal,
    link: (target, attributes, ...children) =>
      h("a", { ...attributes, href: new URL(`.${route(target)}`, BASE).href, onclick: (event) => {
        const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
        if (navigate && isPlain) {
          event.preventDefault();
          navigate(target);
        }
      } }, ...children),
  };
  root.classList.add("kirin");
  (ti === null ? showGallery : showTask)(page, ti).catch((error) => {
    if (error.name !== "AbortError") root.replaceChildren(refusal(page, error));
  });
  return () => controller.abort();
}

function alonePath(target) {
  const ti = new URLSearchParams(target.split("?")[1]).get("ti");
  return ti === null ? "/kirin/" : `/kirin/generation/${path(split(ti) ?? [ti])}`;
}

function split(ti) {
  const parts = ti.split("/");
  if (parts.length < 4 || parts.some((part) => !part)) return null;
  return [parts[0], parts.slice(1, -2).join("/"), ...parts.slice(-2)];
}

const routeOf = (card) => `/plugin/kirin?ti=${encodeURIComponent(keyOf(card).join("/"))}`;

function refusal(page, error) {
  const words = {
    401: ["Your session has ended", "Reload this page to log in again."],
    403: ["Not yours to see", "The page shows what is in a DAG's XComs, and you may not read those of this DAG."],
    422: ["This link is incomplete", "Open the page from the link “Kirin generation” of a task instance."],
  }[error.status] ?? ["This did not work", `${error.message}`];
  return message(page, words[0], words[1], h("button", { type: "button", class: "k-button", onclick: () => location.reload() }, "Try again"));
}

function message(page, title, text, ...more) {
  return h("section", { class: "k-message", role: "status" }, h("h1", {}, title), h("p", {}, text),
    h("p", { class: "k-row" }, ...more, page.link("/plugin/kirin", { class: "k-button" }, "All generations")));
}

const badge = (card) => h("span", { class: `k-badge k-${card.status}` }, STATUS[card.status]);

// The gallery ------------------------------------------------------------------------------------------------------

async function showGallery(page) {
  const filters = new URLSearchParams();
  const grid = h("div", { class: "k-grid" });
  const more = h("button", { type: "button", class: "k-button k-more", hidden: true }, "Show older ones");
  const status = h("p", { class: "k-quiet", role: "status" }, "Loading …");
  const dags = h("select", { name: "dag" }, h("option", { value: "" }, "All DAGs"));
  const states = h("select", { name: "state" }, h("option", { value: "" }, "All states"),
    Object.entries(STATUS).map(([value, text]) => h("option", { value }, text)));
  const day = h("input", { type: "date", name: "day" });
  const model = h("input", { type: "text", name: "model", placeholder: "Any model", autocomplete: "off" });
  const text = h("input", { type: "search", name: "text", placeholder: "Words of the prompt, or an id", autocomplete: "off" });
  const field = (label, control) => h("label", {}, h("span", {}, label), control);
  const form = h("form", { class: "k-filters", role: "search", onsubmit: (event) => event.preventDefault() },
    field("Prompt", text), field("DAG", dags), field("State", states), field("Model", model), field("Day (UTC)", day));
  const plots = h("div", { class: "k-plots" });
  page.root.replaceChildren(
    h("header", { class: "k-head" }, h("h1", {}, "Kirin generations")), plots, form, status, grid, more);

  let current = null;
  async function load(after) {
    current?.abort();
    current = new AbortController();
    const signal = AbortSignal.any([page.signal, current.signal]);
    if (!after) grid.setAttribute("aria-busy", "true");
    const query = new URLSearchParams(filters);
    if (after) query.set("after", after);
    try {
      const found = await get(`${api("generations")}?${query}`, signal);
      if (!after) grid.replaceChildren();
      grid.append(...found.cards.map((card) => (card.kind === "batch" ? batchTile(page, card) : tile(page, card))));
      for (const dag of found.dags.slice(dags.length - 1)) dags.append(h("option", { value: dag }, dag));
      more.hidden = !found.next;
      more.onclick = () => load(found.next);
      status.textContent = grid.children.length ? ""
        : found.next ? "None among the latest ones. Search older ones below."
        : filters.size ? "No generation matches these filters."
        : "No generation yet. As soon as a Kirin task submits one, it is here.";
      status.hidden = !status.textContent;
    } catch (error) {
      if (error.name === "AbortError") return;
      status.hidden = false;
      status.textContent = error.status === 401 ? "Your session has ended. Reload this page to log in again." : error.message;
    } finally {
      if (!signal.aborted) grid.removeAttribute("aria-busy");
    }
  }

  let timer;
  form.addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      for (const [name, value] of new FormData(form)) value ? filters.set(name, value) : filters.delete(name);
      load();
    }, event.target.tagName === "SELECT" ? 0 : 250);
  });
  await Promise.all([load(), get(api("summary"), page.signal).then((sums) => showPlots(plots, sums), () => plots.remove())]);
}

function tile(page, card) {
  const key = keyOf(card);
  const picture = poster(card);
  const home = card.status === "completed" && card.files[0]?.is_home;
  const film = home && h("video", { muted: true, loop: true, playsinline: true, preload: "none", tabindex: "-1", "aria-hidden": "true",
    src: api("video", ...key, card.id, "0") });
  if (film) {
    film.muted = true;
    if (picture) film.poster = picture;
    else whenSeen(film, () => { film.preload = "metadata"; });
  }
  const still = !film && picture && h("img", { src: picture, alt: "", loading: "lazy", referrerpolicy: "no-referrer",
    onerror: (event) => event.target.remove() });
  const play = (on) => film && (on ? film.play().catch(() => {}) : film.pause());
  return page.link(routeOf(card), {
    class: `k-tile k-is-${card.status}`, "data-id": card.id,
    onmouseenter: () => play(true), onmouseleave: () => play(false), onfocus: () => play(true), onblur: () => play(false),
  },
  h("div", { class: "k-frame" }, icon(card.status === "failed" ? "alert" : "film"), film, still, badge(card)),
  h("p", { class: "k-prompt", dir: "auto" }, card.prompt || h("span", { class: "k-quiet" }, card.external_task_id || card.id)),
  card.error && h("p", { class: "k-reason" }, [card.error.code, card.error.message].filter(Boolean).join(" ")),
  h("p", { class: "k-foot" }, h("span", { class: "k-where" }, `${card.dag_id} · ${card.task_id}${card.map_index >= 0 ? ` [${card.map_index}]` : ""}`),
    h("span", {}, card.cost === null ? "" : usd(card.cost), " ", time(card.timeline[0].at))));
}

function batchTile(page, batch) {
  return page.link(routeOf(batch), { class: `k-tile k-batch k-is-${batch.status}`, "data-id": keyOf(batch).join("/") },
    h("div", { class: "k-frame" }, h("p", { class: "k-share" }, h("strong", {}, (batch.counts.saved ?? 0).toLocaleString()), ` of ${plural(batch.rows, "video")}`), badge(batch)),
    batchBar(batch),
    h("p", { class: "k-prompt" }, `Batch ${batch.task_id}`),
    batch.failed > 0 && h("p", { class: "k-reason" }, `${plural(batch.failed, "row")} without a video`),
    h("p", { class: "k-foot" }, h("span", { class: "k-where" }, `${batch.dag_id} · ${batch.task_id}${batch.map_index >= 0 ? ` [${batch.map_index}]` : ""}`),
      h("span", {}, batch.cost === null ? "" : usd(batch.cost), " ", batch.at && time(batch.at))));
}

function poster(card) {
  const image = card.images.find((each) => each.source);
  if (!image) return null;
  return image.source === "web" ? image.uri : api("image", ...keyOf(card), card.id, image.name);
}

const seen = globalThis.IntersectionObserver && new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    target.dispatchEvent(new Event("kirin-seen"));
  }
}, { rootMargin: "200px" });

function whenSeen(element, react) {
  element.addEventListener("kirin-seen", react, { once: true });
  seen?.observe(element);
}

// Plots ------------------------------------------------------------------------------------------------------------

function showPlots(root, sums) {
  const rate = sums.generations ? sums.failed / sums.generations : 0;
  const fact = (value, label, more) => h("div", { class: "k-fact" }, h("strong", {}, value), h("span", {}, label), more && h("small", {}, more));
  root.replaceChildren(
    h("section", { class: "k-panel k-facts", "aria-label": `The last ${sums.of_days} days` },
      fact(sums.generations.toLocaleString(), "generations"),
      fact(usd(sums.usd), "spent", sums.generations > sums.failed ? `${usd(sums.usd / (sums.generations - sums.failed))} a video` : ""),
      fact(sums.failed.toLocaleString(), "failed", sums.failed ? percent(rate) : "")),
    h("section", { class: "k-panel" }, h("h2", {}, `Cost by day and DAG, ${sums.of_days} days`), costPlot(sums)),
    h("section", { class: "k-panel" }, h("h2", {}, "Failures by code"), failurePlot(sums)));
}

function costPlot({ days, of_days }) {
  const totals = {};
  for (const of_day of Object.values(days)) for (const [dag, amount] of Object.entries(of_day)) totals[dag] = (totals[dag] ?? 0) + Number(amount);
  const dags = Object.keys(totals).sort((one, other) => totals[other] - totals[one]);
  if (!dags.length) return h("p", { class: "k-quiet" }, "Nothing was spent.");
  const named = dags.length > COLORS ? dags.slice(0, COLORS - 1) : dags;
  const color = (dag) => (named.includes(dag) ? named.indexOf(dag) : COLORS - 1);
  const dates = Array.from({ length: of_days }, (_, index) => new Date(Date.now() - (of_days - 1 - index) * 864e5).toISOString().slice(0, 10));
  const most = Math.max(0.01, ...dates.map((date) => Object.values(days[date] ?? {}).reduce((sum, amount) => sum + Number(amount), 0)));
  const [width, height, left, bottom] = [600, 150, 54, 20];
  const step = (width - left) / of_days;
  const bars = dates.flatMap((date, index) => {
    let y = height;
    return Object.entries(days[date] ?? {}).sort(([one], [other]) => color(one) - color(other)).map(([dag, amount]) => {
      const size = (Number(amount) / most) * (height - 10);
      y -= size;
      return svg("rect", { x: left + index * step + 1.5, y, width: step - 3, height: Math.max(size - 0.5, 0), rx: 1.5, class: `k-color-${color(dag)}` },
        svg("title", {}, `${date}, ${dag}: ${usd(amount)}`));
    });
  });
  const lines = [0, 0.5, 1].map((share) => {
    const y = height - share * (height - 10);
    return [svg("line", { x1: left, x2: width, y1: y, y2: y, class: "k-line" }), svg("text", { x: left - 6, y: y + 3.5, "text-anchor": "end" }, usd(share * most))];
  });
  const ticks = dates.map((date, index) => ({ date, index })).filter(({ index }) => index % 7 === of_days % 7 - 1 || index === of_days - 1)
    .map(({ date, index }) => svg("text", index === of_days - 1 ? { x: width, y: height + 15, "text-anchor": "end" }
      : { x: left + (index + 0.5) * step, y: height + 15, "text-anchor": "middle" }, date.slice(5)));
  const total = Object.values(totals).reduce((sum, amount) => sum + amount, 0);
  const legend = [...named, ...(dags.length > named.length ? ["other DAGs"] : [])].map((dag, index) =>
    h("li", {}, h("i", { class: `k-color-${index}` }), dag, " ", h("b", {}, usd(totals[dag] ?? dags.slice(named.length).reduce((sum, each) => sum + totals[each], 0)))));
  return h("figure", {},
    svg("svg", { viewBox: `0 0 ${width} ${height + bottom}`, role: "img", "aria-label": `${usd(total)} in ${of_days} days, at most ${usd(most)} a day` }, lines, bars, ticks),
    h("ul", { class: "k-legend" }, legend));
}

function failurePlot({ failures }) {
  const rows = failures.slice(0, 6);
  if (!rows.length) return h("p", { class: "k-quiet" }, "None.");
  const most = rows[0][1];
  return h("ul", { class: "k-bars" }, rows.map(([code, count]) => h("li", {}, h("span", {}, code),
    svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: (count / most) * 100, height: 8, rx: 1 })),
    h("b", {}, count.toLocaleString()))));
}

// A task instance --------------------------------------------------------------------------------------------------

async function showTask(page, ti) {
  const key = split(ti);
  if (!key) throw new Refusal(422, "");
  const started = Date.now();
  const views = new Map();
  let notice = "";
  for (;;) {
    const { cards, batch, task_state } = await get(api("generation", ...key), page.signal);
    if (batch) {
      showBatch(page, key, batch, views);
      if (!ACTIVE.includes(task_state)) return;
    } else if (!cards.length) {
      const log = page.link(dagRoute({ dag_id: key[0], run_id: key[1], task_id: key[2], map_index: Number(key[3]) }, 3), { class: "k-button" }, "Task and log");
      page.root.replaceChildren(message(page, "No generation yet", "This task has not submitted a generation, or its record is gone. If it has failed, its log says why.", log));
    } else {
      const current = await Promise.all(cards.map(async (card) => {
        if (card.is_on_record || !card.conn_id) return card;
        try {
          notice = "";
          return await get(api("live", ...key, card.id), page.signal);
        } catch (error) {
          if (error.name === "AbortError" || error.status === 401) throw error;
          notice = error.message;
          return { ...card, notice: error.message };
        }
      }));
      showCards(page, key, current, views);
      if (!ACTIVE.includes(task_state) && current.every((card) => card.is_on_record || card.status !== "in_progress")) return;
    }
    await pause(Date.now() - started > PATIENCE || notice ? SLOW_POLL : POLL, page.signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const wake = () => (document.hidden ? document.addEventListener("visibilitychange", wake, { once: true }) : resolve());
    const timer = setTimeout(wake, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("left", "AbortError"));
    });
  });
}

// Batches ----------------------------------------------------------------------------------------------------------

const ROWS = {
  saved: ["with their video", "saved"], done: ["to download", "done"], sent: ["in flight", "sent"], intent: ["in flight", "sent"],
  failed: ["failed", "bad"], refused: ["refused", "bad"], timeout: ["not ended in time", "bad"], unknown: ["unknown", "bad"],
  todo: ["to submit", "todo"],
};

// Rows by what they mean to a reader: [label, class, count], in the order of the bar.
function rowsOf(batch) {
  const found = new Map();
  for (const [status, [label, kind]] of Object.entries(ROWS)) {
    const count = batch.counts[status] ?? 0;
    if (count) found.set(label, [label, kind, (found.get(label)?.[2] ?? 0) + count]);
  }
  return [...found.values()];
}

function batchBar(batch) {
  const rows = rowsOf(batch);
  const total = Math.max(1, rows.reduce((sum, [, , count]) => sum + count, 0));
  let x = 0;
  const parts = rows.map(([label, kind, count]) => {
    const width = (count / total) * 100;
    const part = svg("rect", { x, width, height: 8, class: `k-rows-${kind}` }, svg("title", {}, `${count.toLocaleString()} ${label}`));
    x += width;
    return part;
  });
  const label = rows.map(([name, , count]) => `${count.toLocaleString()} ${name}`).join(", ") || "No rows yet";
  return svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", class: "k-batch-bar", role: "img", "aria-label": label }, parts);
}

function left(seconds) {
  const minutes = Math.ceil(seconds / 60);
  return minutes < 120 ? `about ${minutes} min left` : `about ${(seconds / 3600).toFixed(1)} h left`;
}

function showBatch(page, key, batch, views) {
  const shown = JSON.stringify(batch);
  if (views.get("batch") === shown) return;
  views.set("batch", shown);
  const saved = batch.counts.saved ?? 0;
  const isActive = batch.status === "in_progress";
  const row = (name, value) => value && [h("dt", {}, name), h("dd", {}, value)];
  const manifest = batch.manifest.uri;
  const missing = batch.failed - batch.without_video.length;
  page.root.replaceChildren(...[
    h("nav", { class: "k-crumbs", "aria-label": "Where this is" }, page.link("/plugin/kirin", {}, "Kirin"), h("span", {}, "/"),
      page.link(`/dags/${encodeURIComponent(key[0])}`, {}, key[0]), h("span", {}, "/"), h("span", {}, key[2])),
    h("section", { class: "k-panel k-batch-head" },
      h("p", { class: "k-row" }, badge(batch), h("span", { class: "k-model" }, batch.model), batch.cost !== null && h("strong", { class: "k-cost" }, usd(batch.cost))),
      h("h1", {}, `${saved.toLocaleString()} of ${plural(batch.rows, "video")}`),
      batchBar(batch),
      h("ul", { class: "k-legend" }, rowsOf(batch).map(([label, kind, count]) => h("li", {}, h("i", { class: `k-rows-${kind}` }), h("b", {}, count.toLocaleString()), ` ${label}`))),
      h("p", { class: "k-quiet", role: "status" }, "As of the last wave", batch.at && [", ", time(batch.at)], isActive && batch.seconds_left !== null && `, ${left(batch.seconds_left)}`, ".")),
    batch.reasons.length > 0 && h("section", { class: "k-panel" }, h("h2", {}, "Rows without a video, by reason"),
      failurePlot({ failures: batch.reasons.map((reason) => [[reason.status, reason.code].filter(Boolean).join(" · "), reason.count]) })),
    batch.without_video.length > 0 && h("section", { class: "k-panel" }, h("h2", {}, "Rows without a video"),
      h("ul", { class: "k-rows" }, batch.without_video.map((each) => h("li", {}, h("p", { class: "k-row" }, h("b", {}, each.key), h("span", { class: "k-badge k-failed" }, each.status), each.code && h("code", {}, each.code)),
        h("p", { class: "k-quiet" }, each.error || "No reason given.")))),
      missing > 0 && h("p", { class: "k-quiet" }, `and ${missing.toLocaleString()} more: they are in the manifest.`)),
    h("section", { class: "k-panel k-details k-batch-foot" }, h("dl", {},
      row("Manifest", [h("code", {}, manifest), copier("Manifest", manifest)]),
      row("Began", batch.started_at && h("time", { datetime: batch.started_at }, clock(batch.started_at)))),
      h("p", { class: "k-row" }, batch.manifest.is_home
        ? h("a", { class: "k-button", href: api("manifest", ...key), download: "manifest.jsonl", rel: "noreferrer" }, icon("download"), "Manifest")
        : h("span", { class: "k-quiet" }, "It is not below [kirin] media_roots, so it cannot be opened here.")),
      h("p", { class: "k-row k-links" }, page.link(dagRoute(batch, 1), {}, "DAG"), page.link(dagRoute(batch, 2), {}, "Run"),
        page.link(dagRoute(batch, 3), {}, "Task and log"), h("span", { class: "k-quiet" }, batch.run_id))),
  ].filter(Boolean));
}

// A view is made once for each generation and then only where it changed, so that a playing video plays on.
function showCards(page, key, cards, views) {
  if (!views.size) {
    const isList = cards.length > 1;
    page.root.replaceChildren(...[
      h("nav", { class: "k-crumbs", "aria-label": "Where this is" },
        page.link("/plugin/kirin", {}, "Kirin"), h("span", {}, "/"),
        page.link(`/dags/${encodeURIComponent(key[0])}`, {}, key[0]), h("span", {}, "/"), h("span", {}, key[2])),
      isList && h("h1", {}, plural(cards.length, "generation")),
    ].filter(Boolean));
    for (const card of cards) {
      const view = { parts: {}, element: h("article", { class: "k-generation" }) };
      views.set(card.id, view);
      page.root.append(view.element);
    }
  }
  for (const card of cards) {
    const view = views.get(card.id);
    if (!view) continue;
    const part = (name, key, build) => {
      const known = view.parts[name];
      if (known?.key !== key) view.parts[name] = { key, element: build() };
      return view.parts[name].element;
    };
    const sources = [card.status, card.videos, card.files.map((file) => file.is_home)];
    const stage = card.status === "completed" ? part("stage", JSON.stringify(sources), () => player(key, card))
      : part("stage", card.status + card.id, () => waiting(card));
    if (card.status === "in_progress") showProgress(stage, card);
    const text = part("text", JSON.stringify({ ...card, progress: null, notice: null }), () => details(page, key, card));
    if (view.element.firstChild !== stage) view.element.replaceChildren(stage, text);
    else if (view.element.lastChild !== text) view.element.lastChild.replaceWith(text);
  }
}

function player(key, card) {
  const films = Array.from({ length: card.videos }, (_, index) => {
    const file = card.files[index];
    const url = api("video", ...key, card.id, String(index));
    const isHome = Boolean(file?.is_home);
    const film = h("video", { controls: true, playsinline: true, preload: "metadata", "aria-label": `Video ${index + 1}: ${card.prompt.slice(0, 100)}` },
      isHome && h("source", { src: url, type: "video/mp4" }), h("source", { src: `${url}?source=gateway`, type: "video/mp4",
        onerror: () => figure.replaceChildren(h("p", { class: "k-missing" }, icon("film"), "The video cannot be shown: the gateway has no link to it any more",
          file ? ", and its file is not below [kirin] media_roots." : ".")) }));
    const target = isHome ? url : `${url}?source=gateway`;
    const figure = h("figure", { class: "k-film" }, film, h("figcaption", {},
      h("a", { class: "k-button", href: target, download: isHome ? file.uri.split("/").pop() : "", rel: "noreferrer" }, icon("download"), "Download"),
      h("span", { class: "k-quiet" }, isHome ? "From your storage" : "From the gateway, with a fresh link")));
    return figure;
  });
  return h("div", { class: "k-stage" }, films);
}

function waiting(card) {
  const picture = poster(card);
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  return h("div", { class: `k-stage k-waiting k-is-${card.status}` },
    picture && h("img", { src: picture, alt: "", referrerpolicy: "no-referrer", onerror: (event) => event.target.remove() }),
    h("div", { class: "k-over" }, card.status === "failed"
      ? [icon("alert"), h("strong", {}, "No video")]
      : [h("strong", { class: "k-number" }, "…"), bar, h("p", { class: "k-quiet", role: "status" }, "Waiting for the gateway")]));
}

function showProgress(stage, card) {
  const [number, bar, note] = stage.querySelectorAll("strong, progress, p");
  if (card.notice) note.textContent = card.notice;
  else if (card.progress !== null) {
    number.textContent = percent(card.progress);
    bar.value = card.progress;
    note.textContent = `Generating for ${span(card.timeline[0].at, Date.now())}`;
  }
}

function details(page, key, card) {
  const row = (name, value) => value && [h("dt", {}, name), h("dd", {}, value)];
  const id = (name, value) => value && row(name, [h("code", {}, value), copier(name, value)]);
  return h("div", { class: "k-details" },
    h("p", { class: "k-row" }, badge(card), h("span", { class: "k-model" }, card.model), card.cost !== null && h("strong", { class: "k-cost" }, usd(card.cost))),
    card.error && h("div", { class: "k-alert", role: "alert" }, icon("alert"), h("div", {},
      h("strong", {}, [card.error.code, card.error.message].filter(Boolean).join(" · ") || "No reason given"), h("p", {}, card.error.advice))),
    card.prompt ? h("blockquote", { dir: "auto" }, card.prompt) : h("p", { class: "k-quiet" }, "What was ordered is not on record."),
    card.negative_prompt && h("p", { class: "k-negative" }, h("span", {}, "Without"), h("bdi", {}, card.negative_prompt)),
    Object.keys(card.settings).length > 0 && h("ul", { class: "k-chips", "aria-label": "Settings" },
      Object.entries(card.settings).map(([name, value]) => h("li", {}, h("span", {}, name.replaceAll("_", " ")), value))),
    card.images.length > 0 && h("ul", { class: "k-images", "aria-label": "Images" }, card.images.map((image) => picture(key, card, image))),
    timeline(card.timeline),
    h("dl", {}, id("Kirin task", card.id), id("External task", card.external_task_id), row("Connection", card.conn_id && h("code", {}, card.conn_id)),
      card.files.map((file) => id("File", file.uri))),
    h("p", { class: "k-row k-links" }, page.link(dagRoute(card, 1), {}, "DAG"), page.link(dagRoute(card, 2), {}, "Run"),
      page.link(dagRoute(card, 3), {}, "Task and log"), h("span", { class: "k-quiet" }, `${card.task_id}${card.map_index >= 0 ? ` [${card.map_index}]` : ""}, ${card.run_id}`)));
}

function picture(key, card, image) {
  const url = image.source === "web" ? image.uri : image.source && api("image", ...key, card.id, image.name);
  const name = image.uri ? image.uri.split("/").pop() : "sent as bytes";
  const shown = url && h("img", { src: url, alt: "", loading: "lazy", referrerpolicy: "no-referrer", onerror: (event) => event.target.replaceWith(icon("film")) });
  return h("li", { title: image.uri ?? name }, shown ?? icon("film"), h("span", {}, name));
}

function copier(name, value) {
  const button = h("button", { type: "button", class: "k-copy", "aria-label": `Copy: ${name}`, title: "Copy", onclick: async () => {
    await navigator.clipboard?.writeText(value);
    button.classList.add("k-done");
    setTimeout(() => button.classList.remove("k-done"), 1200);
  } }, icon("copy"));
  return button;
}

function timeline(steps) {
  return h("ol", { class: "k-timeline" }, steps.map(({ step, at }, index) => h("li", {}, h("span", {}, step),
    h("time", { datetime: at, title: clock(at) }, index ? `+ ${span(steps[index - 1].at, at)}` : clock(at)))));
}

// Where it is shown ------------------------------------------------------------------------------------------------

function addStyle() {
  const href = new URL("kirin.css", import.meta.url).href;
  if (!document.querySelector('link[href*="kirin/static/kirin.css"]')) document.head.append(h("link", { rel: "stylesheet", href }));
}

const alone = document.getElementById("kirin-page");
if (alone) {
  const theme = localStorage.getItem("theme") ?? "system";
  const dark = theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.classList.add(dark ? "dark" : "light");
  const key = decodeURIComponent(location.pathname.slice(BASE.pathname.length).replace(/^kirin\/(generation\/?)?/, "").replace(/\/$/, ""));
  const isGallery = !/^kirin\/generation/.test(location.pathname.slice(BASE.pathname.length));
  mount(alone, isGallery ? null : key, { alone: true });
} else {
  const { React, ReactRouterDOM } = globalThis;
  globalThis.Kirin = function Kirin() {
    const holder = React.useRef(null);
    const navigate = ReactRouterDOM.useNavigate();
    const ti = new URLSearchParams(ReactRouterDOM.useLocation().search).get("ti");
    React.useEffect(() => {
      addStyle();
      return mount(holder.current, ti, { navigate });
    }, [ti]);
    return React.createElement("div", { ref: holder });
  };
}
