// Where there are many links, their picture is made beside the page, a piece a frame; meanwhile the last
// whole one is shown, moved to where a person looks.

import { move, painting } from './paint.js';

export class Picture {
  /** For this canvas. */
  constructor(canvas) {
    this.canvas = canvas;
    this.still = document.createElement('canvas');
    this.making = document.createElement('canvas');
    this.forget();
  }

  forget() {
    this.was = null;
    this.job = null;
  }

  /** Another one from now on; the last one stays until it is whole. */
  begin(size, look, seen, theme) {
    this.making.width = this.canvas.width;
    this.making.height = this.canvas.height;
    const onto = this.making.getContext('2d', { alpha: false, willReadFrequently: true });
    this.job = { look, onto, rest: painting(onto, size, look, { ...seen, hovered: null }, theme) };
  }

  /** A piece. Whether there is more to do. */
  step() {
    if (this.job === null) return false;
    const { look, onto, rest } = this.job;
    const { done } = rest.next();
    // Browsers draw when somebody looks: so that each frame draws its piece, not the last one all of them.
    onto.getImageData(0, 0, 1, 1);
    if (!done) return true;
    [this.still, this.making] = [this.making, this.still];
    this.was = look;
    this.job = null;
    return false;
  }

  show(context, size, look, { view, scene, hovered }, theme) {
    if (this.was !== null) return move(context, size, look, { still: this.still, was: this.was, view, scene, hovered }, theme);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = theme.bg;
    return context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
}
