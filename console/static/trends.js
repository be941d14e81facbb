"use strict";
/* Live trends: the server decimates, uPlot draws smallest and largest value as a band. */
(() => {
  const PACE_MS = 2000;
  const place = document.getElementById("trends");
  if (!place) return;
  const figures = [...place.querySelectorAll("figure[data-tag]")];
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const plots = new Map();
  const rem = parseFloat(style.fontSize); // on a wall everything grows with it

  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, seconds % 60 ? 19 : 16);

  function limits(figure) {
    return ["low", "high"].filter((side) => figure.dataset[side] !== undefined).map((side) => Number(figure.dataset[side]));
  }

  function make(figure, data) {
    const box = figure.querySelector(".plot");
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 0.5 }, ticks: { show: false }, font: `${0.75 * rem}px system-ui` };
    const line = { stroke: colour("--ink"), width: 0.075 * rem, points: { show: false } };
    return new uPlot({
      width: box.clientWidth, height: box.clientHeight, legend: { show: false }, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: false, y: false } },
      axes: [{ ...axis, size: 1.6 * rem, values: (_, splits) => splits.map(clock) }, { ...axis, size: 3 * rem }],
      scales: { y: { range: (_, low, high) => {
        const shown = limits(figure).filter((limit) => Math.abs(limit - (low + high) / 2) < 3 * Math.max(high - low, 1e-9));
        const [bottom, top] = [Math.min(low, ...shown), Math.max(high, ...shown)];
        const room = 0.06 * Math.max(top - bottom, 1e-6);
        return [bottom - room, top + room];
      } } },
      series: [{}, line, line],
      bands: [{ series: [2, 1], fill: colour("--fill") }],
      hooks: { draw: [(plot) => {
        for (const limit of limits(figure)) {
          const y = plot.valToPos(limit, "y", true);
          if (y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) continue;
          plot.ctx.save();
          plot.ctx.strokeStyle = colour("--high");
          plot.ctx.setLineDash([6, 4]);
          plot.ctx.beginPath();
          plot.ctx.moveTo(plot.bbox.left, y);
          plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
          plot.ctx.stroke();
          plot.ctx.restore();
        }
      }] },
    }, data, box);
  }

  function show(figure, data) {
    const plot = plots.get(figure);
    if (plot) plot.setData(data); else plots.set(figure, make(figure, data));
    const [, low, high] = data;
    const newest = low.findLast((value) => value !== null);
    const also = high.findLast((value) => value !== null);
    const label = figure.querySelector("[data-newest]");
    label.textContent = newest === undefined ? "–" : Number(((newest + also) / 2).toPrecision(4)).toString();
    const outside = (figure.dataset.high !== undefined && also > Number(figure.dataset.high)) || (figure.dataset.low !== undefined && newest < Number(figure.dataset.low));
    label.classList.toggle("bad", outside);
    if (outside) label.textContent = "\u25B2 " + label.textContent;
  }

  async function refresh() {
    if (document.hidden) return;
    const query = new URLSearchParams(figures.map((figure) => ["tag", figure.dataset.tag]));
    query.set("span_s", document.querySelector('[name="span_s"]').value);
    query.set("px", String(Math.max(50, Math.round(figures[0]?.querySelector(".plot").clientWidth || 300))));
    const answer = await fetch(`/plants/${place.dataset.plant}/trends?${query}`);
    if (!answer.ok) return; // the banner says why nothing moves
    const trends = await answer.json();
    for (const figure of figures) show(figure, trends[figure.dataset.tag]);
    for (const image of document.querySelectorAll("img[data-live]")) {
      const next = new Image();
      next.onload = () => { image.src = next.src; };
      next.src = `${image.src.split("?")[0]}?t=${Date.now()}`;
    }
  }

  async function loop() {
    try { await refresh(); } catch { /* away: the stream's banner says so, and we try again */ }
    setTimeout(loop, PACE_MS);
  }
  document.querySelector('[name="span_s"]').addEventListener("change", refresh);
  addEventListener("resize", () => { for (const [figure, plot] of plots) { const { clientWidth: width, clientHeight: height } = figure.querySelector(".plot"); plot.setSize({ width, height }); } });
  if (figures.length) loop();
})();
