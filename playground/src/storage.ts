// Stored values of the page in this browser. A browser may block its storage, or be full; the page works without it.

type Kind = 'localStorage' | 'sessionStorage'

/** Returns what was kept; null if there is nothing, or if the storage is blocked. */
export const load = (kind: Kind, key: string) => {
  try {
    return globalThis[kind].getItem(key)
  } catch {
    return null
  }
}

/** Returns whether the browser keeps it. */
export const save = (kind: Kind, key: string, value: string) => {
  try {
    globalThis[kind].setItem(key, value)
    return true
  } catch {
    return false
  }
}
