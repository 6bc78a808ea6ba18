// Editors that take every word of a sync server, in as many rooms as there are.

import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import WebSocket from 'ws'
import * as awarenessProtocol from 'y-protocols/awareness'
import * as syncProtocol from 'y-protocols/sync'
import * as Y from 'yjs'
import { difference } from './contents.mjs'
import { serve, until } from './lines.mjs'

const PATIENCE = 50_000
const rooms = new Map()

/** What waits for elements that have not come, as ranges of each client. */
const waiting = doc => {
  const { pendingStructs, pendingDs } = doc.store
  const updates = [pendingStructs?.update, pendingDs].filter(Boolean)
  const { structs, ds } = Y.decodeUpdateV2(updates.length > 0 ? Y.mergeUpdatesV2(updates) : Y.encodeStateAsUpdateV2(new Y.Doc()))
  const left = structs.filter(({ id, length }) => !(Y.Skip && id === null) && id.clock + length > Y.getState(doc.store, id.client))
  const elements = []
  for (const { id, length } of left.sort((one, other) => one.id.client - other.id.client || one.id.clock - other.id.clock)) {
    const last = elements.at(-1)
    if (last?.client === id.client && id.clock <= last.end) last.end = Math.max(last.end, id.clock + length)
    else elements.push({ client: id.client, clock: id.clock, end: id.clock + length })
  }
  const deletions = [...ds.clients].flatMap(([client, ranges]) => ranges.map(({ clock, len }) => `${client} ${clock} ${len}`))
  return JSON.stringify([elements, deletions.sort()])
}

/** The document of updates that come as one, as somebody gets them who comes late. */
const merged = updates => {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, Y.mergeUpdates(updates))
  return doc
}

const different = (one, another) => {
  if (waiting(one.doc) !== waiting(another.doc)) return `${waiting(one.doc)} waits, and ${waiting(another.doc)} with who comes`
  return difference(one, another)
}

const take = (observer, message) => {
  const data = new Uint8Array(message)
  const decoder = decoding.createDecoder(data)
  const encoder = encoding.createEncoder()
  const kind = decoding.readVarUint(decoder)
  if (kind === 0) {
    if (data[1] !== syncProtocol.messageYjsSyncStep1) observer.updates.push(decoding.readVarUint8Array(decoding.createDecoder(data.subarray(2))))
    encoding.writeVarUint(encoder, 0)
    const step = syncProtocol.readSyncMessage(decoder, encoder, observer.doc, 'server')
    if (step === syncProtocol.messageYjsSyncStep2) observer.synced()
    if (encoding.length(encoder) > 1) observer.socket.send(encoding.toUint8Array(encoder))
  } else if (kind === 1) {
    awarenessProtocol.applyAwarenessUpdate(observer.awareness, decoding.readVarUint8Array(decoder), 'server')
  } else {
    throw new TypeError(`there is no message ${kind}`)
  }
}

/** y-protocols' readSyncMessage catches what Yjs throws, and only logs it. */
let complaint = null
console.error = (...words) => { complaint = words.map(word => word?.stack ?? String(word)).join(' ') }

const open = (url, room) => new Promise((resolve, reject) => {
  const doc = new Y.Doc()
  const socket = new WebSocket(`${url}/${room}`)
  const observer = { doc, socket, awareness: new awarenessProtocol.Awareness(doc), updates: [], fault: null, synced: () => resolve(observer) }
  socket.binaryType = 'arraybuffer'
  doc.on('update', (update, origin) => {
    if (origin === 'server') return
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    syncProtocol.writeUpdate(encoder, update)
    socket.send(encoding.toUint8Array(encoder))
  })
  socket.on('error', reject)
  socket.on('close', code => {
    if (!observer.left) observer.fault ??= `an editor with Yjs was closed with ${code}`
    observer.synced()
  })
  socket.on('open', () => {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    syncProtocol.writeSyncStep1(encoder, doc)
    socket.send(encoding.toUint8Array(encoder))
  })
  socket.on('message', data => {
    try {
      take(observer, data)
    } catch (error) {
      complaint ??= String(error?.stack ?? error)
    }
    if (complaint !== null) {
      observer.fault ??= `${complaint} in ${Buffer.from(data).toString('hex')}`
      complaint = null
      observer.synced()
    }
  })
})

const leave = observer => {
  observer.left = true
  observer.awareness.destroy() // it has a timer
  observer.socket.close()
}

serve({
  join: async ({ url, room }) => { rooms.set(room, await open(url, room)) },

  /** What is wrong with what came, or with the connection. */
  fault: ({ room }) => rooms.get(room).fault,

  /** Let somebody new edit a map that nobody else has, and the text that everybody writes; wait until it has come. */
  edit: async ({ url, room }) => {
    const [writer, { doc }] = [await open(url, room), rooms.get(room)]
    const { clientID } = writer.doc
    writer.doc.getMap('honest').set(String(clientID), true)
    writer.doc.getText('text').insert(0, `honest ${clientID} `)
    const made = Y.getState(writer.doc.store, clientID)
    const came = until(doc, 'update', () => Y.getState(doc.store, clientID) === made && doc.getMap('honest').has(String(clientID)))
    const late = Symbol('late')
    const first = await Promise.race([came, new Promise(resolve => setTimeout(resolve, PATIENCE, late))])
    leave(writer)
    if (writer.fault !== null || first !== late) return writer.fault
    return `what ${clientID} wrote did not come: ${different(writer, rooms.get(room))}`
  },

  leave: ({ room }) => leave(rooms.get(room)),

  /**
   * What is wrong with what somebody gets who comes now. Some updates that no editor makes are such that Yjs makes of
   * them what depends on their order: then it has to be what Yjs makes of them as one.
   */
  compare: async ({ url, room }) => {
    const [fresh, there] = [await open(url, room), rooms.get(room)]
    leave(fresh)
    if (fresh.fault !== null) return { fault: fresh.fault }
    const fault = different(there, fresh)
    if (fault === null) return { fault, disputed: false }
    const whole = { doc: merged(there.updates), updates: there.updates }
    if (different(there, whole) === null) return { fault }
    return { fault: different(whole, fresh), disputed: true }
  },

  forget: ({ room }) => rooms.delete(room)
})
