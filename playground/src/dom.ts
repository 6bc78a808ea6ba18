// Shorthands for the document of the page.

export const byId = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T

/** Sets the text of an element if it is another one: a screen reader says a status anew each time it is set. */
export const say = (id: string, text: string) => {
  const shown = byId(id)
  if (shown.textContent !== text) shown.textContent = text
}

/** Sets an attribute if it has another value, so that the browser computes no style anew; undefined removes it. */
export const set = (shown: Element, name: string, value: string | undefined) => {
  if (value === undefined) shown.removeAttribute(name)
  else if (shown.getAttribute(name) !== value) shown.setAttribute(name, value)
}

/** Sets a property of the style likewise. The page's policy allows no attribute `style`. */
export const setStyle = (shown: HTMLElement, name: string, value: string) => {
  if (shown.style.getPropertyValue(name) !== value) shown.style.setProperty(name, value)
}

/** The page has many changes and frames, and draws at most once in each turn of the screen. */
export const soon = (draw: () => void) => {
  let planned = false
  return () => {
    if (planned) return
    planned = true
    requestAnimationFrame(() => {
      planned = false
      draw()
    })
  }
}

/** Creates an element; names of users and nodes are only ever set as text, never as markup. */
export const element = <K extends keyof HTMLElementTagNameMap>(
  tag: K, properties: Partial<HTMLElementTagNameMap[K]> = {}, ...children: (Node | string)[]
) => {
  const created = document.createElement(tag)
  Object.assign(created, properties)
  created.append(...children)
  return created
}
