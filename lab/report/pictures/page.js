/* Puts charts with a common cursor and zoom in the place of what is drawn over time.

   Everything stands without it. It reads the figures that the page carries (#figures) and asks for
   nothing else. Colours are those of the page's style sheet, in whichever theme it is shown. */
(() => {
  "use strict";
  const stored = JSON.parse(document.getElementById("figures").textContent);
  const STYLES = {
    main: ["--line-main", 1.6],
    soft: ["--bar", 1.4],
    area: ["--bar", 1],
    bad: ["--broke", 1.6],
  };
  const significant = (value) => {
    if (value === 0) return "0";
    const size = Math.floor(Math.log10(Math.abs(value)));
    return value.toFixed(Math.max(0, 2 - size));
  };
  const FORMS = {
    "count": (value) => (Number.isInteger(value) ? String(value) : significant(value)),
    "seconds": (value) =>
      value && value < 1 ? `${significant(value * 1e3)} ms` : `${significant(value)} s`,
    "share": (value) => `${(value * 100).toFixed(value && value < 0.1 ? 1 : 0)} %`,
    "per second": significant,
    "cores": (value) => `${significant(value)} cores`,
    "bytes": (value) =>
      value >= 1e9 ? `${significant(value / 1e9)} GB` : `${significant(value / 1e6)} MB`,
  };
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  };

  /* Values of runs: each is followed by how often it comes. */
  const unpacked = (runs) => {
    const values = [];
    for (let i = 0; i < runs.length; i += 2) {
      for (let n = 0; n < runs[i + 1]; n += 1) values.push(runs[i]);
    }
    return values;
  };

  /* Lines that go through a chart: how much there is, a criterion's bound, where it was crossed. */
  const marks = (lane, data) => (chart) => {
    const { ctx } = chart;
    const { left, top, width, height } = chart.bbox;
    const ratio = window.devicePixelRatio || 1;
    const stroke = (name, dash, draw) => {
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      ctx.beginPath();
      ctx.strokeStyle = colour(name);
      ctx.lineWidth = ratio;
      ctx.setLineDash(dash.map((part) => part * ratio));
      draw();
      ctx.stroke();
      ctx.restore();
    };
    const level = (value) => () => {
      const y = chart.valToPos(value, "y", true);
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
    };
    const upright = (t) => () => {
      const x = chart.valToPos(t, "x", true);
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
    };
    if (lane.limit !== null) stroke("--soft", [], level(lane.limit));
    if (lane.bound !== null) stroke("--broke", [5, 4], level(lane.bound));
    data.stages.forEach((stage) => stroke("--soft", [1, 3], upright(stage.start)));
    data.crossings.forEach((crossing) => stroke("--broke", [], upright(crossing.t)));
  };

  const top = (lane) => {
    const values = lane.lines.flatMap((line) => line.values).filter((value) => value !== null);
    return Math.max(...values, lane.limit ?? 0, lane.bound ?? 0) || 1;
  };

  const series = (line, form) => {
    const [name, width] = STYLES[line.style];
    const drawn = { label: line.name, stroke: colour(name), width, points: { show: false } };
    if (line.style === "area") drawn.fill = `${colour(name)}88`;
    return { ...drawn, value: (_, value) => (value === null ? "-" : form(value)) };
  };

  /* One lane: its title, what the cursor is at, and the chart. */
  const build = (lane, data, times, view, last) => {
    const form = FORMS[lane.unit];
    const holder = element("div", "lane");
    const head = element("div", "lane-head");
    head.append(element("span", lane.is_limit ? "lane-title bad" : "lane-title", lane.title));
    if (lane.is_limit) head.append(element("span", "bad", "the limit"));
    const read = element("span", "lane-read");
    head.append(read);
    holder.append(head);
    view.append(holder);
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
    const chart = new uPlot(
      {
        width: view.clientWidth,
        height: last ? 104 : 78,
        padding: [9, 24, last ? null : 7, 0],
        cursor: { sync: { key: view.id }, drag: { x: true, y: false }, points: { size: 6 } },
        legend: { show: false },
        scales: { x: { time: false }, y: { range: [0, top(lane)] } },
        axes: [
          { ...axis, size: last ? 28 : 0, values: (_, found) => found.map((t) => last ? `${t} s` : ""), ticks: { show: last } },
          { ...axis, size: 74, splits: [0, top(lane)], values: (_, found) => found.map(form), grid: { show: false } },
        ],
        series: [{}, ...lane.lines.map((line) => series(line, form))],
        hooks: {
          draw: [marks(lane, data)],
          setScale: [(self, key) => key === "x" && view.zoomed(self)],
          setCursor: [
            (of) => {
              const index = of.cursor.idx;
              const told = lane.lines
                .filter((line) => index !== null && index !== undefined && line.values[index] !== null)
                .map((line) => `${lane.lines.length > 1 ? `${line.name} ` : ""}${form(line.values[index])}`);
              read.textContent = told.length ? `${times[index]} s: ${told.join(", ")}` : "";
            },
          ],
        },
      },
      [times, ...lane.lines.map((line) => line.values)],
      holder,
    );
    return chart;
  };

  /* The charts of a figure: one time axis, one cursor, one zoom. */
  const charts = (figure) => {
    const { data } = stored[figure.id];
    data.lanes.forEach((lane) => lane.lines.forEach((line) => {
      line.values = line.values ?? unpacked(line.runs);
    }));
    const count = data.lanes[0].lines[0].values.length;
    const times = Array.from({ length: count }, (_, i) => data.start + (i + 0.5) * data.bin_s);
    const ends = [data.start, data.start + count * data.bin_s];
    const view = element("div", "lanes");
    view.id = `${figure.id}-lanes`;
    view.tabIndex = 0;
    view.setAttribute("role", "group");
    view.setAttribute("aria-label", `${figure.dataset.title}: arrows move the cursor, + and - zoom, Escape shows all`);
    let made = [];
    let at = Math.floor(count / 2);
    const show = (min, max) => {
      made
        .filter(({ scales }) => scales.x.min !== min || scales.x.max !== max)
        .forEach((chart) => chart.setScale("x", { min, max }));
    };
    /* Who zooms one by dragging zooms all. */
    view.zoomed = ({ scales }) => show(scales.x.min, scales.x.max);
    const point = () => {
      made.forEach((chart) => chart.setCursor({ left: chart.valToPos(times[at], "x"), top: 10 }, true));
    };
    const zoom = (factor) => {
      const { min, max } = made[0].scales.x;
      const half = Math.max(data.bin_s, ((max - min) * factor) / 2);
      const middle = Math.min(Math.max(times[at], min), max);
      show(Math.max(ends[0], middle - half), Math.min(ends[1], middle + half));
      point();
    };
    const all = () => show(ends[0], ends[1]);
    const move = (by) => {
      at = Math.min(count - 1, Math.max(0, at + by));
      const { min, max } = made[0].scales.x;
      if (times[at] < min || times[at] > max) {
        const half = (max - min) / 2;
        show(Math.max(ends[0], times[at] - half), Math.min(ends[1], times[at] + half));
      }
      point();
    };
    const KEYS = {
      ArrowLeft: () => move(-1),
      ArrowRight: () => move(1),
      "+": () => zoom(0.5),
      "=": () => zoom(0.5),
      "-": () => zoom(2),
      Escape: all,
      "0": all,
    };
    view.addEventListener("keydown", (event) => {
      const act = KEYS[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
    const buttons = element("div", "zoom");
    [["Zoom in", () => zoom(0.5)], ["Zoom out", () => zoom(2)], ["Show all", all]].forEach(([text, act]) => {
      const button = element("button", "", text);
      button.type = "button";
      button.addEventListener("click", act);
      buttons.append(button);
    });
    figure.querySelector(".drawn").after(view, buttons);
    const draw = () => {
      made.forEach((chart) => chart.destroy());
      view.replaceChildren();
      made = [];
      data.lanes.forEach((lane, index) => {
        made.push(build(lane, data, times, view, index === data.lanes.length - 1));
      });
      all();
    };
    figure.classList.add("zoomable");
    draw();
    new ResizeObserver(() => {
      const width = view.clientWidth;
      if (width) made.filter((chart) => chart.width !== width).forEach((chart) => chart.setSize({ width, height: chart.height }));
    }).observe(view);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  };

  const enhance = (within) => {
    within.querySelectorAll("figure.over-time:not(.zoomable)").forEach((figure) => {
      if (!figure.closest("details.cell:not([open])")) charts(figure);
    });
  };
  document.querySelectorAll("details.cell").forEach((cell) => {
    cell.addEventListener("toggle", () => cell.open && enhance(cell));
  });
  /* A link to a cell opens it. */
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const cell = target && target.closest("details.cell");
    if (cell) {
      cell.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
  enhance(document);
})();
