// Elements. Text is text: nothing here parses HTML, and what names say never becomes markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with properties, attributes, handlers and children; strings become text. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'checked' || name === 'value') element[name] = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Other children, without a change where they are the same. */
export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean));
}
