// Editors that take every word of a sync server, in as many rooms as there are.

import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import WebSocket from 'ws'
import * as awarenessProtocol from 'y-protocols/awareness'
import * as syncProtocol from 'y-protocols/sync'
import * as Y from 'yjs'
import { serve } from './lines.mjs'

const rooms = new Map()

/** What can be seen of a document; every root type is taken for all that it could be. */
const seen = doc => {
  const copy = new Y.Doc({ gc: false })
  Y.applyUpdate(copy, Y.encodeStateAsUpdate(doc))
  return { text: copy.getText('text').toString(), map: copy.getMap('finished').toJSON() }
}

/**
 * Whether something is put between an element that is and one that is gone with all that it was in, which no editor
 * does. To Yjs it is gone as well; yrs puts it beside the element that is.
 */
const between = (doc, update) => {
  const { structs } = Y.decodeUpdate(update)
  const gone = id => {
    const found = structs.find(({ id: { client, clock }, length }) => client === id.client && clock <= id.clock && id.clock < clock + length)
    return (found ?? Y.getItem(doc.store, id)) instanceof Y.GC
  }
  return structs.some(({ origin, rightOrigin }) => origin && rightOrigin && gone(origin) !== gone(rightOrigin))
}

/**
 * Whether something was put between two elements of different places, or that come in the other order, which no editor
 * does. Yjs and yrs agree on a place for it only by chance.
 */
const beside = (doc, update) => Y.decodeUpdate(update).structs.some(({ origin, rightOrigin }) => {
  if (!origin || !rightOrigin) return false
  const [left, right] = [origin, rightOrigin].map(id => Y.getItem(doc.store, id))
  if (left instanceof Y.GC || right instanceof Y.GC) return false
  if (left.parent !== right.parent || left.parentSub !== null || right.parentSub !== null) return true
  for (let item = left; item !== null; item = item.right) {
    if (item === right) return left === right && rightOrigin.clock <= origin.clock
  }
  return true
})

const take = (witness, message) => {
  const data = new Uint8Array(message)
  const decoder = decoding.createDecoder(data)
  const encoder = encoding.createEncoder()
  const kind = decoding.readVarUint(decoder)
  if (kind === 0) {
    const update = data[1] === syncProtocol.messageYjsSyncStep1 ? null : decoding.readVarUint8Array(decoding.createDecoder(data.subarray(2)))
    witness.disputed ||= update !== null && between(witness.doc, update)
    encoding.writeVarUint(encoder, 0)
    const step = syncProtocol.readSyncMessage(decoder, encoder, witness.doc, 'server')
    witness.disputed ||= update !== null && beside(witness.doc, update)
    if (step === syncProtocol.messageYjsSyncStep2) witness.synced()
    if (encoding.length(encoder) > 1) witness.socket.send(encoding.toUint8Array(encoder))
  } else if (kind === 1) {
    awarenessProtocol.applyAwarenessUpdate(witness.awareness, decoding.readVarUint8Array(decoder), 'server')
  } else {
    throw new TypeError(`there is no message ${kind}`)
  }
  if (witness.doc.store.pendingStructs !== null || witness.doc.store.pendingDs !== null) {
    throw new TypeError('something has to wait for what the server did not send')
  }
}

/** y-protocols' readSyncMessage catches what Yjs throws, and only logs it. */
let complaint = null
console.error = (...words) => { complaint = words.map(word => word?.stack ?? String(word)).join(' ') }

const open = (url, room) => new Promise((resolve, reject) => {
  const doc = new Y.Doc()
  const socket = new WebSocket(`${url}/${room}`)
  const witness = { doc, socket, awareness: new awarenessProtocol.Awareness(doc), fault: null, disputed: false, synced: () => resolve(witness) }
  socket.binaryType = 'arraybuffer'
  socket.on('error', reject)
  socket.on('close', code => { witness.closed = code })
  socket.on('open', () => {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    syncProtocol.writeSyncStep1(encoder, doc)
    socket.send(encoding.toUint8Array(encoder))
  })
  socket.on('message', data => {
    try {
      take(witness, data)
    } catch (error) {
      complaint ??= String(error?.stack ?? error)
    }
    if (complaint !== null) {
      witness.fault ??= `${complaint} in ${Buffer.from(data).toString('hex')}`
      complaint = null
      witness.synced()
    }
  })
})

const leave = witness => {
  witness.awareness.destroy() // it has a timer
  witness.socket.close()
}

serve({
  join: async ({ url, room }) => { rooms.set(room, await open(url, room)) },

  /** What is wrong with what came, or with the connection. */
  fault: ({ room }) => {
    const { fault, closed } = rooms.get(room)
    return fault ?? (closed === undefined ? null : `an editor with Yjs was closed with ${closed}`)
  },

  /** Whether something came of which Yjs and yrs are known to make different things. */
  disputed: ({ room }) => rooms.get(room).disputed,

  clock: ({ room, client }) => Y.getState(rooms.get(room).doc.store, client),

  /** The document as one update, and what is seen of it. */
  state: ({ room }) => {
    const { doc } = rooms.get(room)
    return { update: Buffer.from(Y.encodeStateAsUpdate(doc)).toString('base64'), seen: seen(doc) }
  },

  leave: ({ room }) => leave(rooms.get(room)),

  /** What is different for somebody who comes now, and has the document in one piece, or nothing. */
  compare: async ({ url, room }) => {
    const fresh = await open(url, room)
    const { doc } = rooms.get(room)
    leave(fresh)
    if (fresh.fault !== null) return fresh.fault
    if (!Y.equalSnapshots(Y.snapshot(doc), Y.snapshot(fresh.doc))) return 'other elements, or others deleted'
    const [before, after] = [seen(doc), seen(fresh.doc)].map(each => JSON.stringify(each))
    return before === after ? null : `${before} is seen by who was there, and ${after} by who comes`
  },

  forget: ({ room }) => rooms.delete(room)
})
