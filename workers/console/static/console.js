// Draws the charts of the overview and keeps the page fresh. Without it the page is whole, but for the pictures.
"use strict";
(() => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const hues = [210, 25, 140, 280, 0, 180, 50, 320, 95];
  const stroke = (n) => `hsl(${hues[n % hues.length]} 65% ${matchMedia("(prefers-color-scheme: dark)").matches ? 65 : 40}%)`;
  const lang = document.documentElement.lang;
  const twoDigits = (n) => String(n).padStart(2, "0");
  const clock = (s) => { const d = new Date(s * 1000); return `${twoDigits(d.getHours())}:${twoDigits(d.getMinutes())}`; };
  const number = new Intl.NumberFormat(lang, { maximumSignificantDigits: 3 });

  function draw(figure, data) {
    const box = figure.querySelector(".plot");
    const series = data[figure.dataset.series];
    const names = Object.keys(series).sort();
    box.replaceChildren();
    figure.classList.toggle("empty", names.length === 0);
    if (!names.length) { box.textContent = figure.dataset.empty; return; }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const width = Math.max(box.clientWidth, 200);
    new uPlot({
      width, height: 190, cursor: { drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, size: 32, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 60, values: (_, ticks) => ticks.map((v) => number.format(v)) }],
      series: [{ value: (_, s) => (s == null ? "–" : clock(s)), label: figure.dataset.time },
        ...names.map((name, n) => ({ label: name || "–", stroke: stroke(n), width: 1.5, spanGaps: false,
          points: { show: true, size: 4 }, value: (_, v) => (v == null ? "–" : number.format(v) + figure.dataset.unit) }))],
    }, [data.x, ...names.map((name) => series[name])], box);
    const last = names.map((name) => { const known = series[name].filter((v) => v != null); return `${name}: ${known.length ? number.format(known[known.length - 1]) + figure.dataset.unit : "–"}`; });
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent.trim()}: ${last.join(", ")}`);
  }

  async function load() {
    const figures = [...document.querySelectorAll("figure[data-series]")];
    if (!figures.length) return;
    const span = document.querySelector("[data-span]").dataset.span;
    try {
      const answer = await fetch(`/charts.json?span=${span}`, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      const data = await answer.json();
      figures.forEach((figure) => draw(figure, data));
    } catch (error) {
      figures.forEach((figure) => { figure.querySelector(".plot").textContent = figure.dataset.away; });
    }
    document.body.dataset.drawn = "1";
  }

  load();
  const every = document.body.dataset.refresh;
  if (every) setInterval(() => {
    // nobody's reading is interrupted: of what was opened, marked or is being typed
    const busy = document.hidden || document.querySelector("details[open]") || String(getSelection()) || (document.activeElement && document.activeElement.tagName === "INPUT");
    // a console that starts again leaves the last page standing, not the browser's own page of errors
    if (!busy) fetch("/healthz").then((answer) => { if (answer.ok) location.reload(); }, () => { document.getElementById("console-away").hidden = false; });
  }, Number(every) * 1000);
  document.addEventListener("submit", (event) => {
    const words = event.submitter && event.submitter.dataset.confirm;
    if (words && !confirm(words)) event.preventDefault();
  });
})();
