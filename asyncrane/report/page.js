"use strict";
(() => {
  const read = (id) => document.getElementById(id).textContent;
  const figures = JSON.parse(read("figures"));
  const names = Object.keys(figures);
  if (!names.length || typeof DecompressionStream === "undefined") return;

  const unpack = async (text) => {
    const packed = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const theme = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    return { colour, series: (number) => colour("s" + (number % 10)), font: style.fontFamily };
  };

  const faded = (colour, part) => colour + Math.round(255 * part).toString(16).padStart(2, "0");

  const dressed = (figure) => {
    const { colour, series, font } = theme();
    const axis = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), automargin: true, fixedrange: true };
    const data = figure.data.map((trace) =>
      trace.type === "bar"
        ? { ...trace, marker: { color: series(trace.meta), line: { color: colour("card"), width: 1 } } }
        : { ...trace, line: { ...trace.line, color: series(trace.meta) }, fillcolor: faded(series(trace.meta), trace.stackgroup ? 0.7 : 0.35) });
    const label = { color: colour("text"), family: font };
    const layout = {
      ...figure.layout,
      margin: { l: 8, r: 8, t: 4, b: 8 }, showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: font, size: 12, color: colour("muted") },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: label, namelength: -1 },
      shapes: (figure.layout.shapes || []).map((shape) => ({ ...shape, line: { color: colour("muted"), dash: "dash", width: 1 } })),
    };
    for (const name of Object.keys(layout))
      if (/^[xy]axis/.test(name)) layout[name] = { ...axis, ...layout[name] };
    return [data, layout, { displayModeBar: false, responsive: true }];
  };

  const draw = () => Promise.all(names.map((name) => {
    const place = document.getElementById("chart-" + name);
    place.querySelectorAll(".plain").forEach((plain) => plain.remove());
    return Plotly.react(place, ...dressed(figures[name]));
  }));

  const start = async () => {
    const script = document.createElement("script");
    script.textContent = await unpack(read("plotly"));
    document.head.append(script);
    if (typeof Plotly === "undefined") return;
    await draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    document.documentElement.dataset.drawn = names.length;
  };
  start();
})();
