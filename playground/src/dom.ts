// Two shorthands for the document of the page.

export const byId = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T

/** Creates an element; names of users and nodes are only ever set as text, never as markup. */
export const element = <K extends keyof HTMLElementTagNameMap>(
  tag: K, properties: Partial<HTMLElementTagNameMap[K]> = {}, ...children: (Node | string)[]
) => {
  const created = document.createElement(tag)
  Object.assign(created, properties)
  created.append(...children)
  return created
}
