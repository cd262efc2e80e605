// The page's script. It links what belongs to one pattern, moves marks to the means of chosen seeds, and sorts tables.
// All that it needs is on the page; without it the page says the same, and stands still.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("patterns.json").textContent);
  const patterns = data.patterns || {};
  const groups = data.groups || {};
  const keys = Object.keys(patterns); // which the groups refer to by place
  const byKey = (values) => Object.fromEntries(Object.entries(values).map(([place, value]) => [keys[place], value]));
  for (const group of Object.values(groups)) [group.values, group.expected] = [byKey(group.values), byKey(group.expected)];
  const quantiles = data.quantiles || []; // of Student's t, for 2 values and more

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const minus = (text) => text.replace(/-/g, "\u2212");
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function deviation(values) {
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
  }

  function clip(value, [low, high]) {
    return Math.min(Math.max(value, low === null ? -Infinity : low), high === null ? Infinity : high);
  }

  // The 95 % interval of a mean; null for fewer than two values, and for equal ones, which show no spread.
  function interval(values, bounds) {
    const largest = Math.max(1, ...values.map(Math.abs));
    if (values.length < 2 || Math.max(...values) - Math.min(...values) <= 1e-12 * largest) return null;
    const half = (quantiles[values.length - 2] * deviation(values)) / Math.sqrt(values.length);
    return [clip(mean(values) - half, bounds), clip(mean(values) + half, bounds)];
  }

  // ---- outcomes -----------------------------------------------------------------------------------------------

  // key -> {value, error} at some of a stratum's seeds: means over them, each seed's own mean taken out and the
  // stratum's put back, so that patterns of different seeds compare; plain means where outcomes chose the seeds.
  function average(group, place, chosen) {
    const bounds = group.outcomes[place].bounds;
    const own = new Map();
    for (const [key, outcomes] of Object.entries(group.values)) {
      const row = chosen.map((seed) => outcomes[place][seed]);
      if (row.some((value) => value !== null)) own.set(key, row);
    }
    const used = chosen.map((_, seed) => seed).filter((seed) => [...own.values()].some((row) => row[seed] !== null));
    const full = [...own.values()].filter((row) => used.every((seed) => row[seed] !== null));
    const centres = chosen.map((_, seed) => (full.length ? mean(full.map((row) => row[seed])) : NaN));
    const level = mean(used.map((seed) => centres[seed]));
    const result = new Map();
    for (const [key, row] of own) {
      const there = used.filter((seed) => row[seed] !== null);
      const plain = there.map((seed) => row[seed]);
      const moved = there.map((seed) => row[seed] - centres[seed]);
      const isLevelled = group.levelled && full.length > 0;
      const value = isLevelled ? clip(mean(moved) + level, bounds) : mean(plain);
      const spread = isLevelled ? moved : plain;
      result.set(key, { value, error: spread.length > 1 ? deviation(spread) / Math.sqrt(spread.length) : 0 });
    }
    return result;
  }

  // ---- one pattern, everywhere --------------------------------------------------------------------------------

  const known = new Map(); // key -> what shows it
  for (const element of document.querySelectorAll("[data-key]")) {
    const key = element.dataset.key;
    if (!known.has(key)) known.set(key, []);
    known.get(key).push(element);
  }
  const panel = make("aside", { class: "pattern", "aria-label": "The pattern pointed at", "aria-live": "polite", hidden: "" });
  document.body.append(panel);
  let shown = null;
  let pinned = null;

  function show(key) {
    if (key === shown) return;
    if (shown !== null) for (const element of known.get(shown)) element.classList.remove("on");
    shown = key;
    document.body.classList.toggle("linked", key !== null);
    if (key !== null) for (const element of known.get(key)) element.classList.add("on");
    panel.hidden = key === null;
    if (key !== null) fillPanel(key);
    document.body.style.paddingBottom = key !== null && isSheet() ? `${panel.offsetHeight + 24}px` : "";
  }

  const isSheet = () => getComputedStyle(panel).bottom === "0px";

  function pin(key, element) {
    pinned = pinned === key ? null : key;
    show(pinned);
    if (pinned === null || !isSheet()) return;
    const hidden = element.getBoundingClientRect().bottom + 12 - (window.innerHeight - panel.offsetHeight);
    if (hidden > 0) window.scrollBy(0, hidden); // the panel does not cover what it tells of
  }

  function close() {
    pinned = null;
    show(null);
  }

  function fillPanel(key) {
    const pattern = patterns[key];
    const button = make("button", { type: "button", "aria-label": "Close" }, "\u00d7");
    button.addEventListener("click", close);
    const name = make("strong", {}, (pattern && pattern.name) || key.slice(0, 12));
    panel.replaceChildren(button, name);
    if (!pattern) return;
    const by = pattern.by && pattern.by !== "templates" ? `, ${pattern.by}` : "";
    panel.append(make("div", { class: "soft" }, `${pattern.name ? `${key.slice(0, 12)}, ` : ""}${pattern.layers} layers${by}`));
    panel.append(pattern.skips === null ? make("p", { class: "soft" }, "Its arcs are not on this page.") : drawArcs(pattern));
    const list = make("dl");
    data.measures.forEach((measure, place) => {
      if (pattern.measures[place] !== "-") list.append(make("div", {}, make("dt", {}, measure), make("dd", {}, minus(pattern.measures[place]))));
    });
    panel.append(list, ...listOutcomes(key));
  }

  // The outcomes by seed of the first stratum that has the pattern, and means of the others, which may be many.
  function listOutcomes(key) {
    const own = Object.entries(groups).filter(([, group]) => group.values[key]);
    if (!own.length) return [];
    const [[name, group], ...others] = own;
    const rows = group.seeds.map((seed, place) => [String(seed), group.values[key].map((values) => values[place])]);
    const there = rows.filter(([, values]) => values.some((value) => value !== null));
    if (there.length > 1) there.push(["mean", group.values[key].map(meanOf)]);
    const parts = [tabulate(name ? `${name}, by seed` : "By seed", "seed", group, there)];
    if (group.expected[key]) parts.push(make("p", { class: "soft" }, `Expected at a new seed: ${minus(group.expected[key])}`));
    const means = others.map(([other, { values }]) => [other, values[key].map(meanOf)]);
    if (means.length) parts.push(tabulate("Means elsewhere", "", group, means));
    return parts;
  }

  function meanOf(values) {
    const given = values.filter((value) => value !== null);
    return given.length ? mean(given) : null;
  }

  function tabulate(caption, first, group, rows) {
    const head = make("tr", {}, make("th", { scope: "col" }, first));
    for (const outcome of group.outcomes) head.append(make("th", { scope: "col", class: "n" }, outcome.label.replace("validation ", "")));
    const body = make("tbody");
    for (const [label, values] of rows) {
      const row = make("tr", {}, make("th", { scope: "row" }, label));
      values.forEach((value, place) => {
        row.append(make("td", { class: "n" }, value === null ? "-" : minus(value.toFixed((group.outcomes[place] || { digits: 4 }).digits))));
      });
      body.append(row);
    }
    return make("table", {}, make("caption", {}, caption), make("thead", {}, head), body);
  }

  // The skips as arcs over the layers, as the page's diagrams draw them.
  function drawArcs(pattern) {
    const layers = pattern.layers;
    const width = layers <= 36 ? 1 : 2;
    const step = 280 / layers;
    const x = (layer) => 10 + layer * step;
    const arcs = [];
    pattern.skips.split(",").forEach((text, place) => {
      for (let i = 0; i < text.length; i += width) arcs.push([parseInt(text.slice(i, i + width), 36), place + 1]);
    });
    const longest = Math.max(1, ...arcs.map(([source, target]) => target - source));
    const base = 8 + 0.36 * longest * step;
    const svg = draw("svg", { class: "arcs", viewBox: `0 0 300 ${Math.ceil(base + 18)}`, role: "img", "aria-label": `Arc diagram, ${arcs.length} skips` });
    svg.append(draw("path", { class: "chain", d: `M${x(0)} ${base}H${x(layers)}` }));
    for (const [source, target] of arcs.sort((a, b) => b[1] - b[0] - a[1] + a[0])) {
      const radius = ((target - source) * step) / 2;
      const opacity = (0.45 + (0.5 * (target - source)) / longest).toFixed(2);
      svg.append(draw("path", { class: "skip", "stroke-opacity": opacity, d: `M${x(source).toFixed(1)} ${base}A${radius.toFixed(1)} ${(0.72 * radius).toFixed(1)} 0 0 1 ${x(target).toFixed(1)} ${base}` }));
    }
    const readers = Array(layers + 1).fill(1);
    for (const [source] of arcs) readers[source] += 1;
    const most = Math.max(...readers);
    readers.forEach((count, layer) => {
      svg.append(draw("circle", { cx: x(layer).toFixed(1), cy: base, r: Math.max(1, Math.min(4, 0.42 * step) * Math.sqrt(count / most)).toFixed(1) }));
    });
    for (const layer of [0, layers]) {
      svg.append(draw("text", { x: x(layer), y: base + 16, "text-anchor": layer ? "end" : "start" }, String(layer)));
    }
    return svg;
  }

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch" || event.buttons) return;
    const element = event.target.closest("[data-key]");
    if (element) show(element.dataset.key);
    else if (!event.target.closest("aside.pattern")) show(pinned);
  });
  document.addEventListener("click", (event) => {
    const element = event.target.closest("[data-key]");
    if (element && !event.target.closest("a, button, input")) pin(element.dataset.key, element);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });

  // ---- by keyboard: one stop for each panel and table, arrow keys inside ---------------------------------------

  const middle = (element) => {
    if (element.classList.contains("mark")) { // not its box, which grows when it is pointed at
      const { e, f } = element.transform.baseVal[0].matrix;
      return [e, f];
    }
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };

  function neighbour(stops, element, key) {
    const axis = key === "ArrowLeft" || key === "ArrowRight" ? 0 : 1;
    const places = new Map(stops.map((stop) => [stop, middle(stop)]));
    const order = stops
      .filter((stop) => stop.style.display !== "none")
      .sort((a, b) => places.get(a)[axis] - places.get(b)[axis] || places.get(a)[1 - axis] - places.get(b)[1 - axis]);
    return order[order.indexOf(element) + (key === "ArrowRight" || key === "ArrowDown" ? 1 : -1)];
  }

  for (const container of document.querySelectorAll(".chart .panel, .chart:not(:has(.panel)), tbody")) {
    const stops = [...container.querySelectorAll(".mark[data-key], .row[data-key], .curve[data-key], tr[data-key]")];
    stops.forEach((stop, place) => {
      stop.setAttribute("role", stop.matches("tr") ? "row" : "img");
      stop.setAttribute("tabindex", place === 0 ? "0" : "-1");
      const title = stop.querySelector("title");
      if (title) {
        stop.setAttribute("aria-label", title.textContent);
        title.remove(); // the panel says it, and more
      }
      stop.addEventListener("focus", () => {
        for (const other of stops) other.setAttribute("tabindex", other === stop ? "0" : "-1");
        if (stop.matches(":focus-visible")) show(stop.dataset.key);
      });
      stop.addEventListener("blur", () => { if (shown !== pinned) show(pinned); });
      stop.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          pin(stop.dataset.key, stop);
        }
        if (!event.key.startsWith("Arrow")) return;
        event.preventDefault();
        const next = neighbour(stops, stop, event.key);
        if (!next) return;
        next.focus();
        show(next.dataset.key);
        if (event.shiftKey) next.dispatchEvent(new CustomEvent("extend", { bubbles: true, detail: stop }));
      });
    });
  }

  // ---- scatter plots: seeds, regimes, ranges --------------------------------------------------------------------

  const numbers = (text) => text.split(" ").map(Number);

  class Scatter {
    constructor(svg) {
      this.svg = svg;
      this.group = groups[svg.dataset.group];
      this.chosen = this.group.seeds.map((_, place) => place);
      this.range = null;
      this.anchor = null;
      [this.x0, this.perX] = numbers(svg.dataset.x);
      this.panels = [...svg.querySelectorAll(".panel")].map((element) => this.readPanel(element));
      this.controls = make("div", { class: "controls" });
      this.result = make("p", { class: "range", role: "status" });
      this.makeControls();
      (svg.closest("figure") || svg).after(this.controls);
      this.band = this.panels.map(({ element }) => {
        const rect = draw("rect", { class: "range", display: "none" });
        element.prepend(rect);
        return rect;
      });
      this.listen();
    }

    readPanel(element) {
      const outcome = element.dataset.outcome;
      const axis = element.querySelector(".y");
      return {
        element,
        outcome,
        axis,
        room: numbers(element.dataset.room),
        y: numbers(element.dataset.y),
        singles: element.querySelector(".singles"),
        marks: [...element.querySelectorAll(".mark")].map((mark) => {
          const { e, f } = mark.transform.baseVal[0].matrix;
          const error = mark.querySelector(".error");
          return { mark, key: mark.dataset.key, px: e, py: f, error, value: Number(mark.dataset.x) };
        }),
        names: [...element.querySelectorAll("[data-of]")],
        original: { names: [...element.querySelectorAll("[data-of] text")].map((text) => text.textContent), axis: axis.innerHTML, y: numbers(element.dataset.y), singles: element.querySelector(".singles").getAttribute("d"),
          errors: [...element.querySelectorAll(".mark .error")].map((error) => [error, error.getAttribute("d")]) },
      };
    }

    makeControls() {
      const own = this.group;
      const regimes = Object.entries(groups).filter(([, group]) => group.layers === own.layers && group.budget === own.budget);
      if (regimes.length > 1) {
        const select = make("select");
        for (const [name, group] of regimes) select.append(make("option", { value: name }, group.regime || name));
        select.value = this.svg.dataset.group;
        select.addEventListener("change", () => {
          const before = this.group.seeds.filter((_, place) => this.chosen.includes(place));
          this.group = groups[select.value];
          this.chosen = this.group.seeds.map((_, place) => place);
          const kept = this.chosen.filter((place) => before.includes(this.group.seeds[place]));
          if (kept.length) this.chosen = kept;
          this.makeSeeds();
          this.update();
        });
        this.controls.append(make("label", {}, "Regime ", select));
      }
      this.seeds = make("fieldset", { class: "seeds" });
      this.makeSeeds();
      this.controls.append(this.seeds);
      const measure = this.svg.dataset.measure || "the measure";
      this.inputs = ["from", "to"].map((word) => make("input", { type: "number", step: "any", "aria-label": `${measure} ${word}` }));
      const clear = make("button", { type: "button" }, "Clear");
      clear.addEventListener("click", () => this.setRange(null));
      for (const input of this.inputs) {
        input.addEventListener("change", () => {
          const [low, high] = this.inputs.map((each) => each.valueAsNumber);
          this.setRange(Number.isNaN(low) || Number.isNaN(high) ? null : [Math.min(low, high), Math.max(low, high)], false);
        });
      }
      this.controls.append(make("span", { class: "ends" }, `Drag across the picture, or: ${measure} `, this.inputs[0], " to ", this.inputs[1], " ", clear), this.result);
    }

    makeSeeds() {
      const { seeds } = this.group;
      this.seeds.hidden = seeds.length < 2;
      this.seeds.replaceChildren(make("legend", {}, "Seeds"));
      seeds.forEach((seed, place) => {
        const box = make("input", { type: "checkbox" });
        box.checked = this.chosen.includes(place);
        box.addEventListener("change", () => {
          const boxes = [...this.seeds.querySelectorAll("input")];
          if (!boxes.some((each) => each.checked)) box.checked = true; // none would leave nothing to show
          this.chosen = boxes.flatMap((each, number) => (each.checked ? [number] : []));
          this.update();
        });
        this.seeds.append(make("label", {}, box, String(seed)));
      });
    }

    get isWhole() {
      return this.group === groups[this.svg.dataset.group] && this.chosen.length === this.group.seeds.length;
    }

    update() {
      for (const panel of this.panels) this.movePanel(panel);
      this.report();
    }

    // Move a panel's marks, bars, dots and names to the chosen seeds; of another regime its axis too.
    movePanel(panel) {
      const { original, element } = panel;
      const place = this.group.outcomes.findIndex((outcome) => outcome.name === panel.outcome);
      const averages = place < 0 ? new Map() : average(this.group, place, this.chosen);
      const isOwn = this.group === groups[this.svg.dataset.group];
      panel.y = isOwn ? original.y : this.fitAxis(panel, averages);
      panel.axis.innerHTML = original.axis;
      if (!isOwn) this.drawAxis(panel);
      const [left, top, right, bottom] = panel.room;
      const [y0, perY] = panel.y;
      const dots = [];
      for (const each of panel.marks) {
        const found = averages.get(each.key);
        each.mark.style.display = found ? "" : "none";
        if (!found) continue;
        const py = this.isWhole ? each.py : Math.min(Math.max(y0 + perY * found.value, top), bottom);
        each.mark.setAttribute("transform", `translate(${each.px} ${py.toFixed(1)})`);
        if (each.error && !this.isWhole) {
          const { bounds } = this.group.outcomes[place];
          const ends = [-1, 1].map((side) => y0 + perY * clip(found.value + side * found.error, bounds));
          const [a, b] = ends.map((end) => (Math.min(Math.max(end, top), bottom) - py).toFixed(1));
          each.error.setAttribute("d", `M0 ${a}V${b}`);
        }
        for (const name of panel.names) if (name.dataset.of === each.key) name.setAttribute("transform", `translate(0 ${(py - each.py).toFixed(1)})`);
        for (const seed of this.chosen) {
          const value = this.group.values[each.key][place][seed];
          const single = y0 + perY * value;
          if (value !== null && single >= top && single <= bottom) dots.push(`M${each.px} ${single.toFixed(1)}h0`);
        }
      }
      element.classList.toggle("moved", !this.isWhole);
      panel.names.forEach((name, number) => { // a value written at an edge is that of the page's own means
        const text = name.querySelector("text");
        text.textContent = this.isWhole ? original.names[number] : (patterns[name.dataset.of] || {}).name || "";
      });
      for (const name of panel.names) name.style.display = averages.has(name.dataset.of) ? "" : "none";
      if (this.isWhole) for (const [error, d] of original.errors) error.setAttribute("d", d);
      panel.singles.setAttribute("d", this.isWhole || !original.singles ? original.singles : dots.join(""));
      element.dataset.y = panel.y.join(" ");
    }

    fitAxis(panel, averages) {
      const [, top, , bottom] = panel.room;
      const ends = panel.marks.flatMap(({ key }) => {
        const found = averages.get(key);
        return found ? [found.value - found.error, found.value + found.error] : [];
      });
      if (!ends.length) return panel.original.y;
      const [low, high] = [Math.min(...ends), Math.max(...ends)];
      const width = (high - low || Math.abs(high) || 1) * 1.1;
      const perY = (top - bottom) / width;
      return [bottom - perY * ((low + high - width) / 2), perY];
    }

    drawAxis(panel) {
      const [left, top, right, bottom] = panel.room;
      const [y0, perY] = panel.y;
      const [low, high] = [(bottom - y0) / perY, (top - y0) / perY];
      const rough = (high - low) / 6;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= 0.999 * rough);
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (Math.abs(step / power - 2.5) < 1e-6 ? 1 : 0));
      const label = [...panel.axis.querySelectorAll("text")].find((text) => text.hasAttribute("transform"));
      panel.axis.replaceChildren();
      for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-12) + 1e-12; n += 1) {
        const y = (y0 + perY * n * step).toFixed(1);
        panel.axis.append(draw("path", { class: "grid", d: `M${left} ${y}H${right}` }));
        panel.axis.append(draw("text", { class: "soft", x: left - 6, y: Number(y) + 4.2, "text-anchor": "end" }, minus((n * step).toFixed(digits))));
      }
      if (label) panel.axis.append(label);
    }

    // ---- a range of the measure -----------------------------------------------------------------------------------

    listen() {
      let start = null;
      const inside = (event) => {
        const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
        const [left, top, right] = this.panels[0].room;
        const bottom = this.panels[this.panels.length - 1].room[3];
        const isIn = point.x >= left && point.x <= right && point.y >= top && point.y <= bottom;
        return { px: Math.min(Math.max(point.x, left), right), isIn };
      };
      this.svg.addEventListener("pointerdown", (event) => {
        const { px, isIn } = inside(event);
        start = isIn && event.pointerType !== "touch" && event.button === 0 ? px : null; // a finger scrolls
        this.dragged = false;
      });
      this.svg.addEventListener("pointermove", (event) => {
        if (start === null || !event.buttons) return;
        const { px } = inside(event);
        if (Math.abs(px - start) < 4 && !this.dragged) return;
        if (!this.dragged) this.svg.setPointerCapture(event.pointerId);
        this.dragged = true;
        event.preventDefault();
        const digits = Math.min(Math.max(Math.ceil(Math.log10(this.perX)), 0), 20); // of at most a pixel: what is used is what is shown
        this.setRange([Math.min(start, px), Math.max(start, px)].map((each) => Number(((each - this.x0) / this.perX).toFixed(digits))));
      });
      this.svg.addEventListener("pointerup", () => { start = null; });
      this.svg.addEventListener("click", (event) => { if (this.dragged) event.stopPropagation(); }, true);
      this.svg.addEventListener("extend", (event) => {
        const values = new Map(this.panels.flatMap(({ marks }) => marks.map(({ mark, value }) => [mark, value])));
        if (this.anchor === null || this.range === null) this.anchor = values.get(event.detail);
        const end = values.get(event.target);
        this.setRange([Math.min(this.anchor, end), Math.max(this.anchor, end)]);
      });
      document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.setRange(null); });
    }

    setRange(range, fill = true) {
      this.range = range;
      if (range === null) this.anchor = null;
      if (fill || range === null) {
        this.inputs.forEach((input, place) => { input.value = range === null ? "" : String(range[place]); });
      }
      this.band.forEach((rect, place) => {
        const [left, top, right, bottom] = this.panels[place].room;
        const [a, b] = (range || [0, 0]).map((value) => Math.min(Math.max(this.x0 + this.perX * value, left), right));
        const attributes = { display: range === null ? "none" : "inline", x: a, y: top, width: Math.max(b - a, 1), height: bottom - top };
        for (const [name, value] of Object.entries(attributes)) rect.setAttribute(name, value);
      });
      this.report();
    }

    report() {
      if (this.range === null) {
        this.result.replaceChildren();
        return;
      }
      const [low, high] = this.range;
      const sentences = [];
      for (const panel of this.panels) {
        const place = this.group.outcomes.findIndex((outcome) => outcome.name === panel.outcome);
        if (place < 0) continue;
        const outcome = this.group.outcomes[place];
        const averages = average(this.group, place, this.chosen);
        const marks = panel.marks.filter(({ key }) => averages.has(key));
        const isIn = ({ value }) => value >= low && value <= high;
        const inside = marks.filter(isIn).map(({ key }) => averages.get(key).value);
        const others = marks.filter((each) => !isIn(each)).map(({ key }) => averages.get(key).value);
        const say = (values) => {
          const text = (value) => minus(value.toFixed(outcome.digits));
          const ends = interval(values, outcome.bounds);
          return text(mean(values)) + (ends ? ` [${text(ends[0])}, ${text(ends[1])}]` : "");
        };
        if (!sentences.length) sentences.push(`${inside.length} of ${marks.length} patterns inside.`);
        if (inside.length) {
          sentences.push(`Mean ${outcome.label}: ${say(inside)}${others.length ? `; of the other ${others.length}: ${say(others)}` : ""}.`);
        }
      }
      sentences.push("In brackets: 95 % intervals over patterns. A range chosen by eye is no test.");
      this.result.replaceChildren(sentences.join(" "));
    }
  }

  for (const svg of document.querySelectorAll("svg.chart[data-x]")) if (groups[svg.dataset.group]) new Scatter(svg);

  // ---- tables -------------------------------------------------------------------------------------------------

  const asNumber = (text) => {
    const found = /^[<>~]?\s*([-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)/i.exec(text.replace(/\u2212/g, "-"));
    return found ? Number(found[1].replace(/,/g, "")) : NaN;
  };

  function compareCells(first, second) {
    const [a, b] = [asNumber(first), asNumber(second)];
    if (!Number.isNaN(a) && !Number.isNaN(b)) return a - b;
    if (!Number.isNaN(a)) return -1;
    if (!Number.isNaN(b)) return 1;
    return first.localeCompare(second);
  }

  // A third time brings back the page's own order.
  function sortTable(table, header) {
    const headers = [...header.parentElement.children];
    const place = headers.indexOf(header);
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[header.getAttribute("aria-sort") || "none"];
    for (const other of headers) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const text = (row) => row.cells[place].textContent.trim();
    const isEmpty = (row) => ["", "-"].includes(text(row));
    const rows = [...body.rows].sort((a, b) => {
      const back = Number(a.dataset.place) - Number(b.dataset.place);
      if (order === "none") return back;
      if (isEmpty(a) !== isEmpty(b)) return isEmpty(a) ? 1 : -1; // what is missing comes last either way
      return (order === "ascending" ? 1 : -1) * compareCells(text(a), text(b)) || back;
    });
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("main table")) {
    if (!table.tHead || !table.tBodies[0] || table.tBodies[0].rows.length < 2) continue;
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    for (const header of table.tHead.rows[0].cells) {
      header.tabIndex = 0;
      header.classList.add("sortable");
      header.setAttribute("aria-sort", "none");
      header.addEventListener("click", () => sortTable(table, header));
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sortTable(table, header);
      });
    }
  }
})();
