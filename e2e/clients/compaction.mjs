// Documents that several Yjs clients wrote at once, and what Yjs makes of them once they were compacted.

import * as Y from 'yjs'
import { randomFrom } from './documents.mjs'
import { serve } from './lines.mjs'

const encode = update => Buffer.from(update).toString('base64')
const decode = text => Buffer.from(text, 'base64')

const KEYS = ['a', 'b', 'c', 'd']
const TEXTS = ['a', 'bc', 'déf', '😀', '😀😃', 'x'.repeat(40), '\ud83d', 'tail\udc00', '']

/** A value of every kind that lib0 writes. */
const VALUES = [
  undefined, null, true, false, 0, -0, 1, -1, 63, 64, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, -(2 ** 53), 1.5, 0.1, 1e-300,
  Math.fround(1.1), NaN, Infinity, -Infinity, 2n ** 63n - 1n, -(2n ** 63n), 0n, '', 'text', '\ud83d', [], {}, [1, [2, [{ z: undefined }]]],
  { k: { l: [null, 1n, -0] } }, new Uint8Array([0, 1, 255])
]

/** Yjs takes these in an array only within another value. */
const inArray = value => value === undefined || typeof value === 'bigint' ? [value] : value

const subdocument = random => new Y.Doc({
  guid: `sub${Math.floor(random() * 1e6)}`, meta: { n: 1n, z: -0 }, autoLoad: random() < 0.5, shouldLoad: false, gc: random() < 0.5
})

const roots = doc => [doc.getText('text'), doc.getArray('array'), doc.getMap('map'), doc.getXmlFragment('xml')]

/** All types of a document that are not deleted. */
const types = doc => {
  const found = []
  const visit = type => {
    found.push(type)
    if (type instanceof Y.XmlText || type instanceof Y.Text) return
    const inner = type instanceof Y.Map ? [...type.values()] : type.toArray()
    inner.filter(value => value instanceof Y.AbstractType).forEach(visit)
  }
  roots(doc).forEach(visit)
  return found
}

/** Change something of a document by chance. */
const change = (doc, random) => {
  const below = n => Math.floor(random() * n)
  const pick = list => list[below(list.length)]
  const value = () => {
    const inner = [
      () => new Y.Map([['first', pick(VALUES)], ['second', new Y.Text('within')]]), () => Y.Array.from([1, 'two', [3n], new Uint8Array(2)]), () => new Y.Text('text'),
      () => new Y.XmlElement('div'), () => new Y.XmlText('xml'), () => subdocument(random)
    ]
    return random() < 0.3 ? pick(inner)() : pick(VALUES)
  }
  const type = pick(types(doc))
  if (type instanceof Y.Text) {
    const at = below(type.length + 1)
    const left = type.length - at
    const choice = below(10)
    if (choice < 5) type.insert(at, pick(TEXTS))
    else if (choice < 7) type.delete(Math.min(at, Math.max(type.length - 1, 0)), Math.min(1 + below(12), left || type.length))
    else if (choice === 7) type.format(at, Math.min(1 + below(6), left), { [pick(['b', 'i'])]: pick([true, null, '\ud83d', 0.1, { deep: -0 }]) })
    else if (choice === 8) type.insertEmbed(at, pick([{ image: 'x' }, new Y.Map([['k', 1]])]))
    else if (type instanceof Y.XmlText) type.setAttribute(pick(KEYS), pick(['v', 1, -0]))
    else type.insert(at, 'typed', { b: true })
  } else if (type instanceof Y.XmlElement || type instanceof Y.XmlFragment) {
    const at = below(type.length + 1)
    const choice = below(6)
    if (choice < 3) type.insert(at, [pick([() => new Y.XmlElement('p'), () => new Y.XmlText('in'), () => new Y.XmlHook('hook')])()])
    else if (choice === 3 && type.length) type.delete(Math.min(at, type.length - 1), 1)
    else if (type instanceof Y.XmlElement) random() < 0.7 ? type.setAttribute(pick(KEYS), pick(['v', 1n, null])) : type.removeAttribute(pick(KEYS))
  } else if (type instanceof Y.Array) {
    const at = below(type.length + 1)
    if (random() < 0.6 || !type.length) type.insert(at, Array.from({ length: 1 + below(4) }, value).map(inArray))
    else type.delete(Math.min(at, type.length - 1), Math.min(1 + below(3), type.length - Math.min(at, type.length - 1)))
  } else {
    // The same key many times over, as a slider does that somebody drags.
    const key = pick(KEYS)
    if (random() < 0.2) type.delete(key)
    else for (let times = below(4); times >= 0; times--) doc.transact(() => type.set(key, value()))
  }
}

/**
 * Let three clients, one of which can undo, change a document at once and hear of each other late.
 * Returns updates in an order in which a server can get them, and later ones that build on these.
 */
const generate = ({ seed, steps, laterSteps }) => {
  const random = randomFrom(seed)
  const below = n => Math.floor(random() * n)
  const docs = [0, 1, 2].map(number => {
    const doc = new Y.Doc()
    doc.clientID = 3 * below(2 ** (random() < 0.2 ? 5 : 30)) + number
    return doc
  })
  const undo = new Y.UndoManager(roots(docs[0]), { captureTimeout: 0 })
  const queues = docs.map(() => [])
  let updates = []
  docs.forEach((doc, from) => doc.on('update', (update, origin) => {
    if (origin === 'remote') return
    updates.push(encode(update))
    queues.forEach((queue, to) => to !== from && queue.push(update))
  }))
  const step = () => {
    const from = below(3)
    const choice = random()
    if (choice < 0.3) {
      for (const update of queues[from].splice(0, below(queues[from].length + 1))) Y.applyUpdate(docs[from], update, 'remote')
    } else if (choice < 0.4 && from === 0) random() < 0.7 ? undo.undo() : undo.redo()
    else docs[from].transact(() => { for (let times = below(3); times >= 0; times--) change(docs[from], random) })
  }
  for (let number = 0; number < steps; number++) step()
  const first = updates
  updates = []
  for (let number = 0; number < laterSteps; number++) step()
  return { updates: first, later: updates }
}

/** A value as text in which no two that differ are alike. */
const describe = value => {
  if (value instanceof Y.Doc) return { doc: value.guid, meta: describe(value.meta), autoLoad: value.autoLoad, gc: value.gc }
  if (value instanceof Y.Text) {
    return { [value.constructor.name]: value.toDelta().map(part => describe(part)), attributes: describe(value.getAttributes()) }
  }
  if (value instanceof Y.Map) return { [value.constructor.name]: Object.fromEntries([...value.entries()].sort().map(([key, of]) => [key, describe(of)])), hook: value.hookName }
  if (value instanceof Y.XmlElement) return { name: value.nodeName, attributes: describe(value.getAttributes()), inner: value.toArray().map(describe) }
  if (value instanceof Y.AbstractType) return { [value.constructor.name]: value.toArray().map(describe) }
  if (value instanceof Uint8Array) return { bytes: [...value] }
  if (Array.isArray(value)) return value.map(describe)
  if (value !== null && typeof value === 'object') return { object: Object.entries(value).sort().map(([key, of]) => [key, describe(of)]) }
  if (typeof value === 'string') return { units: value.split('').map(unit => unit.charCodeAt(0).toString(16)).join(' ') }
  return `${typeof value} ${Object.is(value, -0) ? '-0' : value}`
}

const document = updates => {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, decode(update))
  return doc
}

const describeDocument = doc => JSON.stringify(roots(doc).map(describe))

/** What differs between two documents. */
const differences = (one, other, when) => [
  describeDocument(one) === describeDocument(other) || `content ${when}`,
  Y.equalSnapshots(Y.snapshot(one), Y.snapshot(other)) || `elements or deletions ${when}`,
  one.store.pendingStructs === null || `structs wait in the first ${when}`,
  other.store.pendingStructs === null || `structs wait in the second ${when}`
].filter(difference => difference !== true)

serve({
  generate,

  /**
   * Give Yjs a document as it was written and as it was compacted, then what was written later. Both come at once:
   * Yjs removes formats that have become superfluous after each update, and so makes another document of updates that
   * come one by one than of the same ones after `Y.mergeUpdates`.
   */
  compare: ({ updates, compacted, later }) => {
    const merged = encode(Y.mergeUpdates(updates.map(decode)))
    const [written, kept] = [document([merged]), document([compacted])]
    const found = differences(written, kept, 'at first')
    for (const update of later) {
      Y.applyUpdate(written, decode(update))
      Y.applyUpdate(kept, decode(update))
    }
    return [...found, ...differences(written, kept, 'later')]
  },

  /** Give what was compacted to a client that has had some of the updates before. */
  compareBehind: ({ updates, known, compacted }) => {
    const [written, kept] = [document(updates.slice(0, known)), document(updates.slice(0, known))]
    Y.applyUpdate(written, Y.mergeUpdates(updates.map(decode)))
    Y.applyUpdate(kept, decode(compacted))
    return differences(written, kept, 'for a client that was behind')
  },

  /**
   * Restore a version in Yjs: the document shows what the version shows. What others changed at the same time arrives
   * before or after that, and all agree.
   */
  compareRestored: ({ version, document: now, restoring, concurrent }) => {
    const merged = updates => document(updates.length ? [encode(Y.mergeUpdates(updates.map(decode)))] : [])
    const [then, restored] = [merged(version), merged(now)]
    Y.applyUpdate(restored, decode(restoring))
    const found = describeDocument(then) === describeDocument(restored) || 'content of the version'
    const [before, after] = [merged([...now, ...concurrent]), restored]
    Y.applyUpdate(before, decode(restoring))
    for (const update of concurrent) Y.applyUpdate(after, decode(update))
    // Each removes formats that have become superfluous, as it happens; that is a change which the other one gets.
    Y.applyUpdate(before, Y.encodeStateAsUpdate(after))
    Y.applyUpdate(after, Y.encodeStateAsUpdate(before))
    const agree = describeDocument(before) === describeDocument(after) || 'content with what came at the same time'
    const waits = (before.store.pendingStructs === null && after.store.pendingStructs === null) || 'structs wait'
    return [found, agree, waits].filter(difference => difference !== true)
  },

  /** The size that Yjs writes a document in. */
  sizeInYjs: ({ updates }) => Y.encodeStateAsUpdate(document(updates)).length
})
