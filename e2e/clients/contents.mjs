// The content of a document, for comparisons: values with nothing left out, and the bytes that contents were sent as.

import * as decoding from 'lib0/decoding'
import * as Y from 'yjs'

const hex = bytes => Buffer.from(bytes).toString('hex')
const entries = object => Object.entries(object).map(([key, value]) => [key, plain(value)])
const sorted = pairs => [...pairs].map(([key, value]) => [key, plain(value)]).sort(([a], [b]) => a < b ? -1 : 1)

/** A value as JSON that tells apart what JSON does not: -0, big integers, undefined, bytes, types and documents. */
export const plain = value => {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value !== 'object') return { [typeof value]: Object.is(value, -0) ? '-0' : String(value) }
  if (value instanceof Uint8Array) return { bytes: hex(value) }
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Y.Doc) {
    const { guid, collectionid, gc, autoLoad, shouldLoad, meta } = value
    return { document: entries({ guid, collectionid, gc, autoLoad, shouldLoad, meta }) }
  }
  if (value instanceof Y.XmlHook) return { hook: value.hookName, entries: sorted(value.entries()) }
  if (value instanceof Y.Map) return { map: sorted(value.entries()) }
  if (value instanceof Y.Array) return { array: value.toArray().map(plain) }
  if (value instanceof Y.XmlElement) {
    return { element: value.nodeName, attributes: sorted(Object.entries(value.getAttributes())), children: value.toArray().map(plain) }
  }
  if (value instanceof Y.Text) {
    const parts = value.toDelta().map(({ insert, attributes = {} }) => [plain(insert), sorted(Object.entries(attributes))])
    return { [value.constructor.name]: parts, attributes: sorted(Object.entries(value.getAttributes())) }
  }
  if (value instanceof Y.XmlFragment) return { fragment: value.toArray().map(plain) }
  return { object: entries(value) }
}

const TEXTS = new Set(['text', 'formats', 'embeds', 't'])
const KINDS = { array: Y.Array, a: Y.Array, xml: Y.XmlFragment }

/** All roots of a document; their names say what type they are. */
const roots = doc => [...doc.share.keys()].sort().map(name =>
  [name, plain(doc.get(name, TEXTS.has(name) ? Y.Text : KINDS[name] ?? Y.Map))])

/** Which elements of a document are deleted, as ranges. */
const deleted = doc => [...Y.createDeleteSetFromStructStore(doc.store).clients]
  .map(([client, ranges]) => [client, ranges.map(({ clock, len }) => [clock, len])]).sort()

/** What two documents have in common that hold the same: values, state vector, and what is deleted. */
export const summary = doc => ({
  values: roots(doc),
  vector: [...Y.decodeStateVector(Y.encodeStateVector(doc))].sort(),
  deleted: deleted(doc),
  waiting: doc.store.pendingStructs !== null || doc.store.pendingDs !== null
})

/** For each kind of content: reads it; returns one part for each element. */
const READ = {
  2: decoder => Array.from({ length: decoding.readVarUint(decoder) }, () => part(decoder, decoding.readVarString)),
  3: decoder => [part(decoder, decoding.readVarUint8Array)],
  // Two pieces of a text may be sent as one.
  4: decoder => decoding.readVarString(decoder).split(''),
  5: decoder => [part(decoder, decoding.readVarString)],
  6: decoder => [part(decoder, decoding.readVarString, decoding.readVarString)],
  7: decoder => [part(decoder, decoder => { if ([3, 5].includes(decoding.readVarUint(decoder))) decoding.readVarString(decoder) })],
  8: decoder => Array.from({ length: decoding.readVarUint(decoder) }, () => part(decoder, decoding.readAny)),
  9: decoder => [part(decoder, decoding.readVarString, decoding.readAny)]
}

const AMBIGUOUS = 'ambiguous'

const part = (decoder, ...readers) => {
  const from = decoder.pos
  readers.forEach(read => read(decoder))
  return hex(decoder.arr.subarray(from, decoder.pos))
}

/**
 * The contents of updates (format 1) as they were sent: for each element `client:clock` its kind and bytes, or its
 * character, or `AMBIGUOUS` if it was sent as two different ones, which no editor does. Elements that were sent as
 * deleted, or deleted by an update, are in `gone`, as ranges of each client.
 */
export const contents = updates => {
  const [found, gone] = [new Map(), new Map()]
  const remove = (client, clock, length) => {
    if (!gone.has(client)) gone.set(client, [])
    gone.get(client).push([clock, clock + length])
  }
  const id = decoder => [decoding.readVarUint(decoder), decoding.readVarUint(decoder)]
  for (const update of updates) {
    const decoder = decoding.createDecoder(update)
    for (let clients = decoding.readVarUint(decoder); clients > 0; clients--) {
      const count = decoding.readVarUint(decoder)
      let [client, clock] = id(decoder)
      for (let left = count; left > 0; left--) {
        const info = decoding.readUint8(decoder)
        const kind = info & 31
        const skip = () => {
          const length = decoding.readVarUint(decoder)
          if (kind !== 10) remove(client, clock, length)
          clock += length
        }
        if (kind === 0 || kind === 10) {
          skip()
          continue
        }
        if (info & 128) id(decoder)
        if (info & 64) id(decoder)
        if (!(info & 192)) {
          if (decoding.readVarUint(decoder) === 1) decoding.readVarString(decoder)
          else id(decoder)
          if (info & 32) decoding.readVarString(decoder)
        }
        if (kind === 1) {
          skip()
          continue
        }
        for (const one of READ[kind](decoder)) {
          const [element, content] = [`${client}:${clock++}`, `${kind} ${one}`]
          found.set(element, (found.get(element) ?? content) === content ? content : AMBIGUOUS)
        }
      }
    }
    // What waits for its predecessors is deleted by these, too, and not in Yjs's store yet.
    for (let clients = decoding.readVarUint(decoder); clients > 0; clients--) {
      const [client, ranges] = id(decoder)
      for (let left = ranges; left > 0; left--) remove(client, ...id(decoder))
    }
  }
  return { found, gone }
}

/** Yjs puts U+FFFD in place of both halves of a character that somebody edited between, as soon as it has both edits. */
const isCut = (sent, came) => /^4 [\uD800-\uDFFF]$/.test(sent) && came === '4 \uFFFD'

/** Say how what came differs from what should have come, or nothing. */
export const difference = (wanted, got) => {
  const [want, found] = [summary(wanted.doc), summary(got.doc)]
  for (const what of Object.keys(want)) {
    const [a, b] = [want, found].map(one => JSON.stringify(one[what]))
    if (a === b) continue
    let at = 0
    while (a[at] === b[at]) at++
    return `${what} differ: ${a.slice(Math.max(0, at - 60), at + 40)} is ${b.slice(Math.max(0, at - 60), at + 40)}`
  }
  const deleted = Y.createDeleteSetFromStructStore(wanted.doc.store)
  const [sent, came] = [contents(wanted.updates), contents(got.updates)]
  for (const [element, content] of sent.found) {
    const [client, clock] = element.split(':').map(Number)
    const other = came.found.get(element)
    if (other === content || content === AMBIGUOUS || isCut(content, other)) continue
    if (Y.isDeleted(deleted, Y.createID(client, clock))) continue
    if (sent.gone.get(client)?.some(([from, to]) => from <= clock && clock < to)) continue // sent as deleted as well
    return `the content of ${element} was ${content} and is ${other}`
  }
  return null
}
