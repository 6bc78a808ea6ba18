// Any number of y-websocket clients, of either version, each with a document of its own.

import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider as Version3 } from 'y-websocket'
import { WebsocketProvider as Version15 } from 'y-websocket15'
import { summary } from './contents.mjs'
import { documentCommands, randomFrom, textOf, turn } from './documents.mjs'
import { emit, serve, until } from './lines.mjs'

const providers = { '1.5': Version15, 3: Version3 }
const clients = new Map()
process.setMaxListeners(0) // each provider listens for the end of the process; node warns from eleven on

const find = ({ name }) => {
  const client = clients.get(name)
  if (client === undefined) throw new Error(`no client is called ${name}`)
  return client
}

// The provider only warns if the server denies something.
const { warn } = console
console.warn = (text, ...more) => {
  if (String(text).startsWith('Permission denied')) emit('denied', { text })
  else warn(text, ...more)
}

const synced = provider => until(provider, 'sync', () => provider.synced)

serve({
  ...documentCommands(find),

  open: async ({ name, url, room, version, state, clientId, token, protocols }) => {
    const doc = new Y.Doc()
    if (clientId !== undefined) doc.clientID = clientId
    const params = token === undefined ? {} : { token }
    // Clients of one process would otherwise talk past the server, over the BroadcastChannel.
    const provider = new providers[version](url, room, doc, { WebSocketPolyfill: WebSocket, disableBc: true, params, protocols })
    clients.set(name, { doc, provider, awareness: provider.awareness })
    provider.on('status', ({ status }) => emit(status, { name }))
    provider.on('connection-error', event => emit('unreachable', { name, why: event.message }))
    provider.on('connection-close', event => emit('closed', { name, code: event?.code ?? null }))
    provider.awareness.on('change', ({ removed }) => {
      const others = removed.filter(id => id !== doc.clientID)
      if (others.length > 0) emit('left', { name, others: others.length })
    })
    if (state !== undefined) provider.awareness.setLocalState(state)
    await synced(provider)
  },

  /** Have the next connection bring another token. */
  renew: args => { find(args).provider.params.token = args.token },

  disconnect: args => find(args).provider.disconnect(),
  connect: args => find(args).provider.connect(),

  untilSynced: args => synced(find(args).provider),

  /** Edit between the two halves of a character, as a text field does that puts one emoji in place of another. */
  cut: ({ name, how }) => {
    const text = textOf(find({ name }).doc)
    const at = text.toString().search(/[\uD800-\uDBFF]/) + 1
    if (how === 'insert') text.insert(at, 'x')
    else if (how === 'format') text.format(0, at, { bold: true })
    else text.delete(how === 'first' ? at - 1 : at, 1)
  },

  /** Write one of each thing that Yjs knows, into each other, and take some of it back. */
  everything: args => {
    const { doc } = find(args)
    const [map, array, xml] = [doc.getMap('map'), doc.getArray('array'), doc.getXmlFragment('xml')]
    const values = [1, -1, 2 ** 40, 0.1, 1e300, 'text', '\u00e9', new Uint8Array([1, 2]), null, true, undefined, [1, { a: [null] }], -0, 2n ** 63n - 1n, NaN]
    values.forEach((value, index) => map.set(`key ${index % 5}`, value))
    array.push([new Y.Map([['inner', new Y.Array()]]), new Y.Text('deep'), ...values.filter(value => value !== undefined && typeof value !== 'bigint')])
    array.get(0).get('inner').insert(0, [new Y.Map([['deeper', 1]])])
    array.delete(1, 3)
    map.set('document', new Y.Doc({ autoLoad: true, gc: false, meta: { title: 'x', at: [0.1] } }))
    const text = textOf(doc)
    text.insert(0, `written by ${args.name} \u00e9`)
    text.format(0, 7, { bold: true })
    text.format(3, 2, { bold: null })
    text.format(1, 2, { link: 'half \uD800' })
    text.insertEmbed(1, { image: 'x' })
    text.setAttribute('align', 'left')
    const paragraph = new Y.XmlElement('p')
    paragraph.setAttribute('class', 'c')
    xml.insert(0, [paragraph, new Y.XmlText('some')])
    paragraph.insert(0, [new Y.XmlElement('b'), new Y.XmlHook('hook')])
    paragraph.get(1).set('value', 1.5)
    const undo = new Y.UndoManager(text)
    text.insert(2, 'undone')
    undo.undo()
    undo.redo()
    doc.transact(() => { map.delete('key 1'); xml.delete(1) })
  },

  /** All values of a document, or of the one that an update makes. */
  values: ({ name, update }) => {
    if (update === undefined) return summary(find({ name }).doc).values
    const doc = new Y.Doc()
    Y.applyUpdate(doc, Buffer.from(update, 'base64'))
    return summary(doc).values
  },

  /** Delete all that is in a document. */
  clear: args => {
    const { doc } = find(args)
    doc.transact(() => {
      doc.getMap('map').clear()
      for (const type of [textOf(doc), doc.getArray('array'), doc.getXmlFragment('xml')]) type.delete(0, type.length)
    })
  },

  /** Remember edits of the text, to take them back. */
  trackEdits: args => { find(args).undo = new Y.UndoManager(textOf(find(args).doc), { captureTimeout: 0 }) },
  undo: args => { find(args).undo.undo() },

  /** Remember a place in the text, and say where it is now. */
  rememberPlace: args => { find(args).place = Y.createRelativePositionFromTypeIndex(textOf(find(args).doc), args.at) },
  place: args => Y.createAbsolutePositionFromRelativePosition(find(args).place, find(args).doc).index,

  /** Leave like a closing editor: awareness first, then the socket. */
  close: args => find(args).provider.destroy(),

  /** Type as fast as the machine can, anywhere in the text, and now and then delete what is there. */
  storm: async ({ name, seed, letter, edits, deletes = false }) => {
    const text = textOf(find({ name }).doc)
    const random = randomFrom(seed)
    for (let i = 0; i < edits; i++) {
      const at = Math.floor(random() * text.length)
      if (deletes && text.length > 0 && random() < 0.3) text.delete(at, 1)
      else text.insert(at, letter)
      await turn()
    }
  }
})
