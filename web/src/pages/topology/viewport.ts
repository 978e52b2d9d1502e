// What part of a drawing is seen, and how large. Pure.

import type { Point } from './layout';

export interface View {
  /** Pixels of the screen a unit of the drawing. */
  scale: number;
  /** Where the drawing's origin is on the screen. */
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export const SCALE_MIN = 0.1;
export const SCALE_MAX = 2.5;
/** Below this, names cannot be read: the first view does not go there. */
const SCALE_READABLE = 0.58;
const MARGIN = 24;

const within = (value: number, least: number, most: number) => Math.min(most, Math.max(least, value));

/** Zooms so that the point of the screen stays where it is. */
export function zoom(view: View, factor: number, at: Point): View {
  const scale = within(view.scale * factor, SCALE_MIN, SCALE_MAX);
  const by = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by };
}

/** All of it, in the middle of the screen. */
export function fit(drawing: Size, screen: Size): View {
  const across = (screen.width - 2 * MARGIN) / Math.max(1, drawing.width);
  const down = (screen.height - 2 * MARGIN) / Math.max(1, drawing.height);
  const scale = within(Math.min(across, down), SCALE_MIN, 1);
  return {
    scale,
    x: (screen.width - drawing.width * scale) / 2,
    y: (screen.height - drawing.height * scale) / 2,
  };
}

/** All of it if it can be read then; otherwise its beginning. */
export function first(drawing: Size, screen: Size): View {
  const whole = fit(drawing, screen);
  if (whole.scale >= SCALE_READABLE) return whole;
  return { scale: SCALE_READABLE, x: MARGIN, y: MARGIN };
}

/** Moves as little as it takes to see a box. */
export function reveal(view: View, box: Point & Size, screen: Size): View {
  const left = box.x * view.scale + view.x;
  const top = box.y * view.scale + view.y;
  const right = left + box.width * view.scale;
  const bottom = top + box.height * view.scale;
  const by = (from: number, to: number, size: number) => {
    if (from < MARGIN) return MARGIN - from;
    return to > size - MARGIN ? size - MARGIN - to : 0;
  };
  return { ...view, x: view.x + by(left, right, screen.width), y: view.y + by(top, bottom, screen.height) };
}
