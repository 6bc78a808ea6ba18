// A long session: two Yjs clients write one text, each with an undo manager. It says in JSON how long that took.
//
// node clients/session.mjs write URL EDITS    writes
// node clients/session.mjs read URL LENGTH    opens the document as a newcomer, whose text has that length in the end

import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import WebSocket from 'ws'
import * as syncProtocol from 'y-protocols/sync'
import * as Y from 'yjs'
import { createHash } from 'node:crypto'

const [, , mode, url, count] = process.argv
const LETTERS = 'abcdefghijklmnopqrstuvwxyz      '
const WAITING = 65536 // bytes that may wait in a socket before its client stops to write

const turn = () => new Promise(resolve => setImmediate(resolve))
const say = value => process.stdout.write(JSON.stringify(value) + '\n')

// y-protocols only logs what Yjs throws.
console.error = (...words) => { throw new Error(words.join(' ')) }

/** Numbers in [0, 1) that a seed determines (mulberry32). */
const randomFrom = seed => () => {
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

/** Resolve as soon as `predicate` holds; look whenever the document changes. */
const until = (doc, predicate) => new Promise(resolve => {
  const look = () => {
    if (!predicate()) return
    doc.off('update', look)
    resolve()
  }
  doc.on('update', look)
  look()
})

/** Connect a document; resolves when step 2 has come, which may be empty. */
const open = () => new Promise((resolve, reject) => {
  const doc = new Y.Doc()
  const socket = new WebSocket(url, { perMessageDeflate: false })
  const send = write => {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    write(encoder)
    socket.send(encoding.toUint8Array(encoder))
  }
  socket.binaryType = 'arraybuffer'
  socket.on('error', reject)
  socket.on('close', code => { if (code !== 1005) throw new Error(`closed with ${code}`) })
  socket.on('open', () => send(encoder => syncProtocol.writeSyncStep1(encoder, doc)))
  socket.on('message', data => {
    const decoder = decoding.createDecoder(new Uint8Array(data))
    if (decoding.readVarUint(decoder) !== 0) return
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    const step = syncProtocol.readSyncMessage(decoder, encoder, doc, 'server')
    if (encoding.length(encoder) > 1) socket.send(encoding.toUint8Array(encoder))
    if (step === syncProtocol.messageYjsSyncStep2) resolve({ doc, socket })
  })
  doc.on('update', (update, origin) => {
    if (origin !== 'server') send(encoder => syncProtocol.writeUpdate(encoder, update))
  })
})

const digest = doc => {
  const text = doc.getText('text').toString()
  return { length: text.length, hash: createHash('sha256').update(text).digest('hex') }
}

/** Make edits: mostly typing at a place that moves now and then, with deletions, and some steps back and forth again. */
const edit = async ({ doc, socket }, seed, edits) => {
  const text = doc.getText('text')
  const undo = new Y.UndoManager(text, { captureTimeout: 0 })
  const random = randomFrom(seed)
  const below = limit => Math.floor(random() * limit)
  let made = 0
  doc.on('update', (_, origin) => { made += origin !== 'server' })
  let at = 0
  const steps = [] // that are to be taken before the typing goes on
  while (made < edits) {
    if (steps.length === 0 && below(100) === 0) {
      const back = 1 + below(8)
      steps.push(...Array(back).fill('undo'), ...Array(below(back + 1)).fill('redo'))
    }
    at = below(30) === 0 ? below(text.length + 1) : Math.min(at, text.length)
    if (steps.length > 0) undo[steps.shift()]()
    else if (below(7) === 0 && at > 0) text.delete(--at, 1)
    else text.insert(at++, LETTERS[below(LETTERS.length)])
    await turn()
    while (socket.bufferedAmount > WAITING) await turn()
  }
}

if (mode === 'write') {
  const clients = [await open(), await open()]
  const began = performance.now()
  await Promise.all(clients.map(async (client, index) => {
    await edit(client, index + 1, count / 2)
    client.doc.getMap('finished').set(String(index), true)
  }))
  await Promise.all(clients.map(({ doc }) => until(doc, () => doc.getMap('finished').size === 2)))
  const ms = performance.now() - began
  const [mine, theirs] = clients.map(({ doc }) => digest(doc))
  if (mine.hash !== theirs.hash) throw new Error('the two clients have different texts')
  say({ ms, ...mine })
} else {
  const began = performance.now()
  const { doc } = await open()
  // A server may answer before it has loaded the document.
  await until(doc, () => doc.getMap('finished').size === 2 && doc.getText('text').length === Number(count))
  say({ ms: performance.now() - began, ...digest(doc) })
}
process.exit(0)
