// Shorthands for the document of the page.

export const byId = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T

/** Sets the text of an element if it is another one: a screen reader says a status anew each time it is set. */
export const say = (id: string, text: string) => {
  const shown = byId(id)
  if (shown.textContent !== text) shown.textContent = text
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
