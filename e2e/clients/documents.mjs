// Shared by the drivers that hold a document: one text, edited and awaited.

import { until } from './lines.mjs'

export const textOf = doc => doc.getText('text')

/** The commands on a document; `find` returns the `{doc, awareness}` that the arguments of a command name. */
export const documentCommands = find => ({
  insert: args => textOf(find(args).doc).insert(args.at ?? textOf(find(args).doc).length, args.text),
  length: args => textOf(find(args).doc).length,
  text: args => textOf(find(args).doc).toString(),
  untilText: args => {
    const { doc } = find(args)
    return until(doc, 'update', () => textOf(doc).toString() === args.text)
  },

  // A client's own messages keep their order, so whoever sees its last word has seen all of its edits.
  finish: args => find(args).doc.getMap('finished').set(args.who, true),
  untilFinished: args => {
    const { doc } = find(args)
    return until(doc, 'update', () => args.all.every(who => doc.getMap('finished').has(who)))
  },

  setState: args => find(args).awareness.setLocalState(args.state),
  states: args => [...find(args).awareness.getStates().values()],
  untilUsers: args => {
    const { awareness } = find(args)
    const users = () => [...awareness.getStates().values()].map(state => state.user).filter(Boolean).sort()
    return until(awareness, 'change', () => users().join() === [...args.users].sort().join())
  }
})

/** Numbers in [0, 1) that a seed determines (mulberry32), so that a failing run can be had again. */
export const randomFrom = seed => () => {
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

/** Let the event loop turn once: messages come in and go out. */
export const turn = () => new Promise(resolve => setImmediate(resolve))
