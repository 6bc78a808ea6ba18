// Documents that hold everything there is: written to rooms, and compared with what comes out of these.
// The expected result is that of Yjs with the same updates and without a server.

import { readFileSync } from 'node:fs'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import WebSocket from 'ws'
import * as syncProtocol from 'y-protocols/sync'
import * as Y from 'yjs'
import { difference } from './contents.mjs'
import { serve } from './lines.mjs'
import { documents } from './values.mjs'

const ACKNOWLEDGEMENT = 100
const PATIENCE = 200_000
const rooms = new Map()

let complaint = null
console.error = (...words) => { complaint = words.map(word => word?.stack ?? String(word)).join(' ') }

/** A Yjs client with all that it was sent. */
class Client {
  constructor (url, room, query = '') {
    this.doc = new Y.Doc()
    this.updates = []
    this.acknowledged = this.sent = 0
    this.fault = null
    this.socket = new WebSocket(`${url}/${room.replaceAll(' ', '-')}${query}`)
    this.socket.binaryType = 'arraybuffer'
    this.synced = false
    this.looks = new Set()
    this.socket.on('open', () => this.send(encoder => syncProtocol.writeSyncStep1(encoder, this.doc)))
    this.socket.on('message', data => this.take(new Uint8Array(data)))
    this.socket.on('close', (code, reason) => {
      if (!this.left) this.fault ??= `closed with ${code} ${reason}`
      this.look()
    })
  }

  send (write) {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    write(encoder)
    this.socket.send(encoding.toUint8Array(encoder))
  }

  update (update) {
    this.sent++
    this.send(encoder => syncProtocol.writeUpdate(encoder, update))
  }

  take (data) {
    const decoder = decoding.createDecoder(data)
    const kind = decoding.readVarUint(decoder)
    if (kind === ACKNOWLEDGEMENT) this.acknowledged = decoding.readVarUint(decoder)
    if (kind === 0) {
      if (data[1] !== syncProtocol.messageYjsSyncStep1) this.updates.push(decoding.readVarUint8Array(decoding.createDecoder(data.subarray(2))))
      const encoder = encoding.createEncoder()
      encoding.writeVarUint(encoder, 0)
      const step = syncProtocol.readSyncMessage(decoder, encoder, this.doc, 'server')
      if (encoding.length(encoder) > 1) {
        this.sent++ // our answer to step 1 is an update
        this.socket.send(encoding.toUint8Array(encoder))
      }
      this.synced ||= step === syncProtocol.messageYjsSyncStep2
    }
    if (complaint !== null) this.fault ??= `${complaint} in ${Buffer.from(data).toString('hex').slice(0, 200)}`
    complaint = null
    this.look()
  }

  look () {
    for (const look of this.looks) look()
  }

  /** Wait until something holds or the connection fails; what takes too long is the fault `otherwise`. */
  until (holds, otherwise) {
    return new Promise(resolve => {
      const timer = setTimeout(() => { this.fault ??= otherwise; this.look() }, PATIENCE)
      const look = () => {
        if (this.fault === null && !holds()) return
        this.looks.delete(look)
        clearTimeout(timer)
        resolve()
      }
      this.looks.add(look)
      look()
    })
  }

  leave () {
    this.left = true
    this.socket.close()
  }
}

const LATE = 'the document did not come'

/** Wait until a client has all elements of a document, and those deleted that are; return how it differs then. */
const compare = async (wanted, client) => {
  const deleted = Y.createDeleteSetFromStructStore(wanted.doc.store)
  const clocks = [...Y.decodeStateVector(Y.encodeStateVector(wanted.doc))]
  await client.until(
    () => clocks.every(([id, clock]) => Y.getState(client.doc.store, id) >= clock) &&
      Y.equalDeleteSets(deleted, Y.createDeleteSetFromStructStore(client.doc.store)),
    LATE
  )
  client.leave()
  return client.fault === null || client.fault === LATE ? difference(wanted, client) : client.fault
}

/** Do something with each document, and return what was wrong, by the name of the document. */
const each = async (act, names = [...rooms.keys()]) => {
  const chosen = [...rooms].filter(([name]) => names.includes(name))
  const faults = await Promise.all(chosen.map(async ([name, room]) => [name, await act(name, room)]))
  return Object.fromEntries(faults.filter(([, fault]) => fault !== null))
}

serve({
  /** Make the documents. */
  make: ({ seeds }) => {
    for (const { name, updates, later } of documents(seeds)) rooms.set(name, { doc: new Y.Doc(), updates: [], next: [updates, later] })
    return [...rooms.keys()]
  },

  /** Add a document of updates that are in files. */
  add: ({ name, paths }) => { rooms.set(name, { doc: new Y.Doc(), updates: [], next: [paths.map(path => new Uint8Array(readFileSync(path)))] }) },

  /** Write what is next of all documents; return what is wrong with what a client has that was there before. */
  write: ({ url }) => each(async (name, room) => {
    const updates = room.next.shift()
    for (const update of updates) Y.applyUpdate(room.doc, update)
    room.updates.push(...updates)
    const [reader, writer] = [new Client(url, name), new Client(url, name, '?ack=true')]
    await Promise.all([reader, writer].map(client => client.until(() => client.synced, 'step 2 did not come')))
    if (writer.fault === null) for (const update of updates) writer.update(update)
    await writer.until(() => writer.acknowledged >= writer.sent, 'an acknowledgement did not come')
    writer.leave()
    const fault = await compare(room, reader)
    return writer.fault === null ? fault : `the writer: ${writer.fault}`
  }),

  /** Return what is wrong with what somebody gets who comes now. */
  read: ({ url, prefix = '', names }) => each(async (name, room) => {
    const client = new Client(url, prefix + name)
    await client.until(() => client.synced, 'step 2 did not come')
    return compare(room, client)
  }, names),

  /** Return what is wrong with an update in a file, to hold a document. */
  check: ({ name, path }) => {
    const update = new Uint8Array(readFileSync(path))
    const doc = new Y.Doc()
    Y.applyUpdate(doc, update)
    const fault = complaint
    complaint = null
    return fault ?? difference(rooms.get(name), { doc, updates: [update] })
  }
})
