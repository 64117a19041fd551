/** A chart as a file: what is drawn, and beneath it one line that says where it comes from. */

const SHOWN = ["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "font-family", "font-size", "font-weight", "text-anchor", "opacity", "paint-order"];
const FOOT = 22; // pixels for the line beneath

/** The SVG in a figure by itself: colours as they are on the page, the source as text beneath. */
export function svgText(svg: SVGSVGElement, source: string, ground: string): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const [from, to] = [[svg, ...svg.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  from.forEach((element, i) => {
    const style = getComputedStyle(element);
    for (const name of SHOWN) to[i]?.setAttribute(name, style.getPropertyValue(name));
  });
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height + FOOT));
  copy.setAttribute("viewBox", `0 0 ${String(width)} ${String(height + FOOT)}`);
  const ink = getComputedStyle(svg).color;
  const add = (name: string, attributes: Record<string, string>, before: boolean, content = ""): void => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = content;
    if (before) copy.prepend(made);
    else copy.append(made);
  };
  add("rect", { width: "100%", height: "100%", fill: ground }, true);
  add("text", { x: "6", y: String(height + 15), "font-size": "9", "font-family": "sans-serif", fill: ink }, false, source);
  return new XMLSerializer().serializeToString(copy);
}

/** The canvas or the SVG in a figure as PNG, twice as fine as on the page. */
export async function png(figure: HTMLElement, source: string, ground: string): Promise<Blob> {
  const drawn = figure.querySelector("canvas");
  const svg = figure.querySelector("svg");
  const of = drawn ?? svg;
  if (of === null) throw new Error("nothing is drawn yet");
  const { width, height } = of.getBoundingClientRect();
  const canvas = document.createElement("canvas");
  const scale = 2;
  canvas.width = width * scale;
  canvas.height = (height + FOOT) * scale;
  const pen = canvas.getContext("2d");
  if (pen === null) throw new Error("this browser draws no pictures");
  pen.scale(scale, scale);
  pen.fillStyle = ground;
  pen.fillRect(0, 0, width, height + FOOT);
  if (drawn !== null) {
    pen.drawImage(drawn, 0, 0, width, height);
    pen.fillStyle = getComputedStyle(figure).color;
    pen.font = "9px sans-serif";
    pen.fillText(source, 6, height + 15);
  } else if (svg !== null) pen.drawImage(await picture(svgText(svg, source, ground)), 0, 0, width, height + FOOT);
  return new Promise((done, fail) => canvas.toBlob((blob) => (blob === null ? fail(new Error("the picture could not be written")) : done(blob)), "image/png"));
}

function picture(text: string): Promise<HTMLImageElement> {
  return new Promise((done, fail) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => fail(new Error("the picture could not be drawn"));
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  });
}
