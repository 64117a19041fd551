/** The part of an image that is seen, the same in all panes. In pixels of the image. */

export interface Viewport {
  x: number;
  y: number;
  width: number;
  height: number;
}

const MOST = 20; // times

export function whole(width: number, height: number): Viewport {
  return { x: 0, y: 0, width, height };
}

/** Closer (`factor` above 1) or farther around a point; never beyond the image. */
export function zoomed(view: Viewport, factor: number, at: { x: number; y: number }, image: { width: number; height: number }): Viewport {
  const width = Math.min(image.width, Math.max(image.width / MOST, view.width / factor));
  const height = (width / image.width) * image.height;
  const share = { x: (at.x - view.x) / view.width, y: (at.y - view.y) / view.height };
  return inside({ x: at.x - share.x * width, y: at.y - share.y * height, width, height }, image);
}

/** Moved by so many pixels of the image; never beyond it. */
export function panned(view: Viewport, dx: number, dy: number, image: { width: number; height: number }): Viewport {
  return inside({ ...view, x: view.x + dx, y: view.y + dy }, image);
}

function inside(view: Viewport, image: { width: number; height: number }): Viewport {
  return { ...view, x: Math.min(Math.max(0, view.x), image.width - view.width), y: Math.min(Math.max(0, view.y), image.height - view.height) };
}
